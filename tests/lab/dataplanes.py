"""The Calico lab as other kinds of installation leave it: the eBPF dataplane, no encapsulation, global pod addresses
without NAT.

Its nodes can also be left out of kube-proxy's endpoints, as they are when their pods go.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from tests.kernel import namespaces
from tests.kernel.calico import Lab
from tests.kernel.calico_nodes import POOL4, POOL6, TUNNEL4, TUNNEL6, LabNode
from tests.kernel.calico_rules import NatInput

SERVICE_RANGE4, SERVICE_RANGE6 = "10.96.0.0/16", "fd00:10:96::/112"
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
    serving: frozenset[str] | None = None

    def nat_input(self, *, six: bool) -> NatInput:
        pods = [n.pods[0] for n in self.nodes if self.serving is None or n.name in self.serving]
        ends = tuple(p.address6 if six else p.address4 for p in pods)
        return replace(super().nat_input(six=six), endpoints=ends)

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
