"""The local half of a round: finds the namespaces, ties them to pods, reads kernel facts and resolv.conf files. No traffic leaves.

Between inventory and plan. It asks the broker and parses; the tying is vantage/pod_namespaces.py's, the facts are
kernel/'s.
"""

from exporter.vantage.inspector import Inspection, Inspector
from exporter.vantage.resolv_conf_files import read_named_resolv_conf

__all__ = ["Inspection", "Inspector", "read_named_resolv_conf"]
