"""The local half of a round: finds the namespaces, ties them to pods, reads kernel facts and resolv.conf files.

Between inventory and plan. It asks the broker and parses; the facts are kernel/'s. No traffic leaves the machine.
"""

from exporter.vantage.inspector import Inspection, Inspector
from exporter.vantage.pod_files import read_named_resolv_conf

__all__ = ["Inspection", "Inspector", "read_named_resolv_conf"]
