"""The Calico lab as the eBPF dataplane leaves it (up to 3.30): packets are marked by tc programs, the kernel's NAT follows the mark.

nftables stands in for the tc programs; the tunnel device is the one of iptables mode. The links by which eBPF is told are there.
"""

from __future__ import annotations

from dataclasses import replace

from tests.kernel import namespaces
from tests.kernel.calico import Lab
from tests.kernel.calico_nodes import POOL4, POOL6, LabNode
from tests.kernel.calico_rules import NatInput
from tests.lab.objects import SERVICE_RANGE4, SERVICE_RANGE6

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


class EbpfLab(Lab):
    """Its backend is iptables-nft."""

    def nat_input(self, *, six: bool) -> NatInput:
        return replace(super().nat_input(six=six), mark_rule=True)

    def _build(self) -> None:
        super()._build()
        for node in self.nodes:
            self._mark(node)
            namespaces.batch({node.netns: ["link add bpfin.cali type veth peer name bpfout.cali"]})

    def _mark(self, node: LabNode) -> None:
        for family, pool, services in (("ip6", POOL6, SERVICE_RANGE6), ("ip", POOL4, SERVICE_RANGE4)):
            text = MARKING.format(family=family, pool=pool, services=services, mark=MARK)
            self.run(node.netns, "nft", "-f", "-", text=text)
