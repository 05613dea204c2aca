"""The Calico lab as other kinds of installation leave it: flannel, the eBPF dataplane, no encapsulation, global pod
addresses without NAT.

Its nodes can also be left out of kube-proxy's endpoints, as they are when their pods go.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from tests.kernel import namespaces
from tests.kernel.calico import Lab
from tests.kernel.calico_nodes import POOL4, POOL6, PORT, TUNNEL4, TUNNEL6, VNI, LabNode, LabPod
from tests.kernel.calico_rules import KubePort, NatInput

SERVICE_RANGE4, SERVICE_RANGE6 = "10.96.0.0/16", "fd00:10:96::/112"
DNS_PORTS = {"dns": "udp", "dns-tcp": "tcp"}
MARK = "0x1800000"  # felix/bpf/tc/defs: NAT outgoing
MARKING = """table {family} labbpf
delete table {family} labbpf
table {family} labbpf {{
    chain marks {{
        type filter hook prerouting priority mangle;
        {family} saddr {pool} {family} daddr != {{ {pool}, {services} }} meta mark set meta mark or {mark}
    }}
}}
"""


class ServingLab(Lab):
    """The lab whose Service has only the endpoints on `serving` nodes (by name; None: on all)."""

    pool6 = POOL6
    cni = ""
    serving: frozenset[str] | None = None
    believed: Mapping[tuple[str, bool], tuple[str, ...]] = MappingProxyType({})  # of a Service over IPv6 or IPv4

    @property
    def resolver(self) -> LabPod:
        """The pod in which the cluster's DNS runs: not on the first node. Its Service has the pod's own addresses."""
        return self.nodes[1].pods[1]

    def in_objects(self, objects: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The cluster's objects as this kind of installation has them."""
        return objects

    def nat_input(self, *, six: bool) -> NatInput:
        pods = [n.pods[0] for n in self.nodes if self.serving is None or n.name in self.serving]
        ends = tuple(p.address6 if six else p.address4 for p in pods)
        dns = self.resolver.address6 if six else self.resolver.address4
        of_dns = self.believed.get(("kube-system/kube-dns", six), (dns,))
        ports = (
            KubePort("kube-system/kube-dns", name, protocol, dns, 53, of_dns, 53, by_chain=True)
            for name, protocol in DNS_PORTS.items()
        )
        own = self.believed.get(("default/web", six), ends)
        return replace(super().nat_input(six=six), endpoints=own, more=tuple(ports), cni=self.cni)

    def mislead(self, node: LabNode, service: str, *endpoints: str, six: bool = True) -> None:
        """Let kube-proxy of a node believe in other endpoints of a Service; write_rules() undoes it."""
        self.believed = {(service, six): endpoints}
        self.write_rules(node)
        self.believed = {}

    def serve_from(self, *nodes: LabNode) -> None:
        """Let kube-proxy know the endpoints of these nodes alone; of all, without any."""
        self.serving = frozenset(n.name for n in nodes) or None
        for node in self.nodes:
            self.write_rules(node)


class EbpfLab(ServingLab):
    """eBPF up to 3.30: packets are marked by tc programs, the kernel's NAT follows the mark. nftables stands in for the
    programs.

    The backend is iptables-nft, the tunnel device the one of iptables mode; the links by which eBPF is told are there.
    """

    def nat_input(self, *, six: bool) -> NatInput:
        return replace(super().nat_input(six=six), mark_rule=True)

    def _build(self) -> None:
        super()._build()
        for node in self.nodes:
            for family, pool, services in (("ip6", POOL6, SERVICE_RANGE6), ("ip", POOL4, SERVICE_RANGE4)):
                text = MARKING.format(family=family, pool=pool, services=services, mark=MARK)
                self.run(node.netns, "nft", "-f", "-", text=text)
            namespaces.batch({node.netns: ["link add bpfin.cali type veth peer name bpfout.cali"]})


@dataclass
class FlannelLab(ServingLab):
    """flannel's VXLAN backend: its devices, its masquerading, each node's podCIDR with its first address as the
    tunnel's.
    """

    cni = "flannel"
    tunnel6: str = "flannel-v6.1"
    tunnel4: str = "flannel.1"

    def tunnel(self, node: LabNode, *, six: bool, vni: int = VNI, mtu: int = 0) -> list[str]:
        return self._renamed(super().tunnel(node, six=six, vni=vni - VNI + 1, mtu=mtu))

    def tunnel_entries(self, node: LabNode) -> list[str]:
        return self._renamed(super().tunnel_entries(node))

    def _renamed(self, lines: list[str]) -> list[str]:
        names = {TUNNEL6: self.tunnel6, TUNNEL4: self.tunnel4, f"dstport {PORT}": "dstport 8472"}
        for before, after in names.items():
            lines = [line.replace(before, after) for line in lines]
        return lines

    def in_objects(self, objects: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Nothing of Calico; flannel's annotations and its ConfigMap (Documentation/kube-flannel.yml)."""
        nodes = {node.name: node for node in self.nodes}
        left = [each for each in objects if "projectcalico.org" not in each["apiVersion"]]
        for each in left:
            name, kind = each["metadata"]["name"], each["kind"]
            if kind == "Node":
                each["metadata"]["annotations"] = _flannel_annotations(nodes[name])
            elif kind == "Pod":
                each["metadata"].get("annotations", {}).pop("cni.projectcalico.org/podIPs", None)
            elif name == "calico-config":
                each["metadata"] |= {"name": "kube-flannel-cfg", "namespace": "kube-flannel"}
                each["data"] = {"cni-conf.json": FLANNEL_CNI, "net-conf.json": FLANNEL_NET}
        return left


FLANNEL_CNI = """{"name": "cbr0", "cniVersion": "0.3.1", "plugins": [{"type": "flannel", "delegate":
{"hairpinMode": true, "isDefaultGateway": true}}, {"type": "portmap", "capabilities": {"portMappings": true}}]}"""
FLANNEL_NET = f"""{{"Network": "{POOL4}", "IPv6Network": "{POOL6}", "EnableIPv6": true, "Backend":
{{"Type": "vxlan"}}}}"""


def _flannel_annotations(node: LabNode) -> dict[str, str]:
    data = {"backend-data": node.mac4, "backend-v6-data": node.mac6}
    notes = {
        "backend-type": "vxlan",
        "kube-subnet-manager": "true",
        "public-ip": node.address4,
        "public-ipv6": node.address6,
        **{key: json.dumps({"VNI": 1, "VtepMAC": mac}) for key, mac in data.items()},
    }
    return {f"flannel.alpha.coreos.com/{key}": value for key, value in notes.items()}


class RoutedLab(ServingLab):
    """No encapsulation: routes to the other nodes' blocks as BGP gives them, no tunnel device, no tunnel address."""

    def __post_init__(self) -> None:
        self.cross_subnet = True
        super().__post_init__()

    def _build(self) -> None:
        super()._build()
        namespaces.batch(
            {node.netns: [f"link delete {device}" for device in (TUNNEL4, TUNNEL6)] for node in self.nodes}
        )


@dataclass(frozen=True)
class GlobalNode(LabNode):
    """A node whose pods have global addresses."""

    @property
    def block6(self) -> str:
        return f"2001:db8:244:{self.number}::40/122"

    @property
    def tunnel6(self) -> str:
        return f"2001:db8:244:{self.number}::40"


class GlobalLab(ServingLab):
    """Pods with global IPv6 addresses, to which the network outside knows the way: no NAT."""

    pool6 = "2001:db8:244::/48"

    def _make_node(self, number: int) -> LabNode:
        made = super()._make_node(number)
        pods = tuple(replace(p, address6=p.address6.replace("fd00:10:244:", "2001:db8:244:")) for p in made.pods)
        return GlobalNode(made.name, made.netns, number, pods)

    def nat_input(self, *, six: bool) -> NatInput:
        made = super().nat_input(six=six)
        return replace(made, pools=(), all_pools=(self.pool6,), pod_range=self.pool6) if six else made

    def _build(self) -> None:
        super()._build()
        namespaces.batch({self.gateway: [f"route add {n.block6} via {n.address6} dev eth0" for n in self.nodes]})
