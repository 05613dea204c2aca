"""The Calico lab without a tunnel, its routes by BGP: BIRD 2 on each node, as Calico runs BIRD, with shorter times.

What confd writes for the node-to-node mesh (confd/etc/calico/confd/templates/bird6.cfg.template), in BIRD 2's words,
both families in one daemon. A session that is cut ends after HOLD seconds instead of 240.
"""

from __future__ import annotations

import select
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.kernel import namespaces
from tests.kernel.calico_nodes import LabNode
from tests.lab.dataplanes import RoutedLab

HOLD = 3  # seconds, the least of RFC 4271
PATIENCE = 40.0  # seconds; a cut session ends within HOLD, an opened one comes within a few
TICK = 0.05
HEAD = """
log stderr all;
router id {node.address4};
protocol device {{ scan time 1; }}
"""
FAMILY = """
protocol kernel kernel{n} {{ ipv{n} {{ import none; export where source = RTS_BGP; }}; scan time 1; }}
protocol static static{n} {{ ipv{n}; route {block} unreachable; }}
template bgp mesh{n} {{
    local {own} as 64512;
    direct;
    hold time {hold};
    connect delay time 1;
    connect retry time 1;
    error wait time 1, 2;
    ipv{n} {{ import all; export {export}; next hop self; }};
}}
"""
PEER = "protocol bgp {name}{n} from mesh{n} {{ neighbor {address} as 64512; }}\n"


class BgpLab(RoutedLab):
    """RoutedLab whose routes between nodes are BIRD's."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._directory = Path(tempfile.mkdtemp(prefix="dualstack-exporter-bird-"))

    def in_objects(self, objects: list[dict[str, Any]]) -> list[dict[str, Any]]:
        env = [{"name": "CALICO_NETWORKING_BACKEND", "value": "bird"}, {"name": "FELIX_IPV6SUPPORT", "value": "true"}]
        containers = [{"name": "calico-node", "env": env}]
        for each in objects:
            if each["kind"] == "IPPool":
                each["spec"]["vxlanMode"] = "Never"
            if each["kind"] == "Node":
                for family in (4, 6):
                    each["metadata"]["annotations"].pop(f"projectcalico.org/IPv{family}VXLANTunnelAddr", None)
        agent = {
            "apiVersion": "apps/v1",
            "kind": "DaemonSet",
            "metadata": {"name": "calico-node", "namespace": "kube-system"},
            "spec": {"template": {"spec": {"containers": containers}}},
        }
        bgp = {
            ("BGPConfiguration", "default"): {"nodeToNodeMeshEnabled": True, "asNumber": 64512},
            ("BGPPeer", "another-rack"): {"peerIP": "2001:db8:1::1", "asNumber": 64513, "nodeSelector": "has(rack)"},
        }
        return [
            *objects,
            agent,
            *(
                {"apiVersion": "crd.projectcalico.org/v1", "kind": kind, "metadata": {"name": name}, "spec": spec}
                for (kind, name), spec in bgp.items()
            ),
        ]

    def _build(self) -> None:
        super()._build()
        for node in self.nodes:
            lines = [f"route del {block}" for peer in self.peers(node) for block in (peer.block6, peer.block4)]
            namespaces.batch({node.netns: lines})
            self.write_bird(node)
            files = {flag: str(self._file(node, kind)) for flag, kind in (("-c", "conf"), ("-s", "ctl"), ("-P", "pid"))}
            self.start(
                node.netns, "bird", "-f", *(part for pair in files.items() for part in pair), stderr=subprocess.DEVNULL
            )
        for node in self.nodes:
            self.wait_for_routes(node)

    def close(self) -> None:
        super().close()
        shutil.rmtree(self._directory, ignore_errors=True)

    def _file(self, node: LabNode, kind: str) -> Path:
        return self._directory / f"{node.name}.{kind}"

    def write_bird(self, node: LabNode, *, export6: bool = True) -> None:
        text = HEAD.format(node=node)
        for n, own, block in ((6, node.address6, node.block6), (4, node.address4, node.block4)):
            export = "where source = RTS_STATIC" if n == 4 or export6 else "none"
            text += FAMILY.format(n=n, own=own, block=block, hold=HOLD, export=export)
            for peer in self.peers(node):
                address = peer.address6 if n == 6 else peer.address4
                text += PEER.format(name=peer.name.replace("-", "_"), n=n, address=address)
        self._file(node, "conf").write_text(text)

    def configure_bird(self, node: LabNode, *, export6: bool) -> None:
        self.write_bird(node, export6=export6)
        self.run(node.netns, "birdc", "-s", str(self._file(node, "ctl")), "configure")

    def wait_for_routes(self, node: LabNode, *, without: LabNode | None = None) -> None:
        """Until the node has routes to exactly the other nodes' blocks, `without` one."""
        wanted = {peer.block6 for peer in self.peers(node) if peer is not without}
        wanted |= {peer.block4 for peer in self.peers(node)}

        def there() -> bool:
            shown = [self.run(node.netns, "ip", f"-{n}", "route", "show", "proto", "bird") for n in (4, 6)]
            return {line.split()[0] for text in shown for line in text.splitlines()} == wanted

        wait_until(there, f"BIRD's routes of {node.name}")


def wait_until(condition: Callable[[], bool], what: str) -> None:
    for _ in range(int(PATIENCE / TICK)):
        if condition():
            return
        select.select([], [], [], TICK)
    raise RuntimeError(f"not within {PATIENCE:g} s: {what}")
