"""The local half of a round: finds the namespaces, ties them to pods, reads kernel facts and resolv.conf files. No traffic leaves.

Between inventory and plan. It asks the broker and parses; the tying is discovery/pods.py's, the facts are kernel/'s.
"""

from exporter.inspection.files import read_named_resolv_conf
from exporter.inspection.inspector import Inspection, Inspector

__all__ = ["Inspection", "Inspector", "read_named_resolv_conf"]
