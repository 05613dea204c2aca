"""The exporter's configuration in the lab, as the mapping that becomes its YAML. Deadlines that a busy machine keeps,
and that make a round short.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.kernel.calico_nodes import OUTSIDE4, OUTSIDE6

OUTSIDE_NAME = "outside.test"
MIRROR6, MIRROR4 = "2001:db8:ffff::81", "198.51.100.81"  # a second address of the outside host: another destination
Settings = dict[str, Any]


def lab_settings(*, role: str, node: str, inventory: Path, authority: Path) -> Settings:
    """Two outside destinations by address, with every layer and without TLS, and one by name."""
    return {
        "role": role,
        "node_name": node,
        "inventory": {"source": "file", "file": str(inventory)},
        "timeouts": {"icmp": "1s", "dns": "1s", "tcp": "1200ms", "tls": "2s", "http": "2s"},
        "targets": [
            {
                "name": "outside",
                "host": OUTSIDE_NAME,
                "addresses": [OUTSIDE6, OUTSIDE4],
                "port": 443,
                "layers": ["icmp", "tcp", "tls", "http"],
                "ca_file": str(authority),
            },
            {"name": "mirror", "addresses": [MIRROR6, MIRROR4], "port": 443, "layers": ["icmp", "tcp"]},
            {"name": "named", "host": OUTSIDE_NAME, "port": 443, "layers": ["tcp"], "vantages": ["pod"]},
        ],
        "dns": {"names": [{"name": OUTSIDE_NAME, "expect": ["A", "AAAA"]}]},
    }
