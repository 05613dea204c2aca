"""The closed table of causes: scope, roles, how they are found, usual severity, in one line each (contract section 7).

A cause is what a person would fix. Adding one takes: its member in model.report.Cause, its line here, one rule in the module of its
topic, a scenario in the tests, and in alerts/ a rule and a runbook. Everything else (metrics, report, reference, inhibition) follows
from the line. This file holds data only.
"""

from __future__ import annotations

from dataclasses import dataclass

from exporter.model.family import Family
from exporter.model.report import Cause, Role, Scope, Severity

NODE = frozenset({Role.NODE})
CLUSTER = frozenset({Role.CLUSTER})
BOTH = frozenset({Role.NODE, Role.CLUSTER})

RUNBOOKS = "https://github.com/dualstack-exporter/dualstack-exporter/blob/main/alerts/runbooks/"


@dataclass(frozen=True, slots=True)
class CauseSpec:
    """One cause.

    `roles` are those that check it (role all checks every one); `stated`: the kernel or the API says so, so that one round suffices.
    `family` is the family it is about (None: either); `says` is the one sentence that names what is wrong. `compares`: it sets the kernel
    against the inventory, so that an inventory at least as new must show it as well.
    """

    cause: Cause
    scope: Scope
    roles: frozenset[Role]
    stated: bool
    severity: Severity
    family: Family | None
    says: str
    compares: bool = False


STATED, SEEN_TWICE = True, False
COMPARED = True
V4, V6 = Family.V4, Family.V6
INFO, WARNING, CRITICAL = Severity.INFO, Severity.WARNING, Severity.CRITICAL
DNS, PATH, ON_NODE, POD, WIDE = Scope.DNS, Scope.PATH, Scope.NODE, Scope.POD, Scope.CLUSTER

# fmt: off
TABLE: tuple[CauseSpec, ...] = (
    CauseSpec(Cause.DNS_AAAA_BLOCKED, DNS, NODE, SEEN_TWICE, CRITICAL, V6, "A resolver that pods use withholds AAAA records."),
    CauseSpec(Cause.DNS_A_BLOCKED, DNS, NODE, SEEN_TWICE, CRITICAL, V4, "A resolver that pods use withholds A records."),
    CauseSpec(Cause.DNS_UNREACHABLE, DNS, NODE, SEEN_TWICE, WARNING, None, "A nameserver that pods use answers nothing."),
    CauseSpec(Cause.DNS_ANSWERS_DIFFER, DNS, NODE, SEEN_TWICE, WARNING, None, "A nameserver answers the same question now with data and now without."),
    CauseSpec(Cause.DNS_QUERIES_LOST, DNS, NODE, SEEN_TWICE, WARNING, None, "A nameserver leaves many questions unanswered, and answers others."),
    CauseSpec(Cause.DNS_SEARCH_BREAKS_MUSL, DNS, NODE, SEEN_TWICE, WARNING, None, "A search domain makes musl programs fail for names that glibc resolves."),
    CauseSpec(Cause.SERVICE_AAAA_MISSING, DNS, CLUSTER, SEEN_TWICE, WARNING, V6, "A Service has an IPv6 ClusterIP and the cluster DNS has no AAAA for it."),
    CauseSpec(Cause.IPV6_TCP_BLOCKED, PATH, NODE, SEEN_TWICE, WARNING, V6, "ICMPv6 passes and TCP over IPv6 does not, where IPv4 does."),
    CauseSpec(Cause.IPV6_UNREACHABLE, PATH, NODE, SEEN_TWICE, WARNING, V6, "Destinations that answer over IPv4 cannot be reached over IPv6."),
    CauseSpec(Cause.IPV6_MTU_BLACKHOLE, PATH, NODE, SEEN_TWICE, WARNING, V6, "Small packets pass over IPv6, full-size ones vanish in silence."),
    CauseSpec(Cause.IPV6_TLS_FAILED, PATH, NODE, SEEN_TWICE, WARNING, V6, "TCP over IPv6 connects and TLS fails, where IPv4 works."),
    CauseSpec(Cause.TARGET_DOWN, PATH, NODE, SEEN_TWICE, INFO, None, "A target fails over every family it has: it is the target, not a family."),
    CauseSpec(Cause.NODE_IPV6_DISABLED, ON_NODE, NODE, STATED, WARNING, V6, "IPv6 is switched off by sysctl on the node."),
    CauseSpec(Cause.NODE_NO_IPV6_ADDRESS, ON_NODE, NODE, STATED, WARNING, V6, "The node has no usable global IPv6 address."),
    CauseSpec(Cause.NODE_NO_IPV6_DEFAULT_ROUTE, ON_NODE, NODE, STATED, WARNING, V6, "The node has no IPv6 default route."),
    CauseSpec(Cause.NODE_FORWARDING_OFF, ON_NODE, NODE, STATED, WARNING, V6, "The node does not forward IPv6."),
    CauseSpec(Cause.NODE_ACCEPT_RA_IGNORED, ON_NODE, NODE, STATED, WARNING, V6, "The node forwards and so ignores the router advertisements it lives from (accept_ra < 2)."),
    CauseSpec(Cause.NAT_CHAIN_UNHOOKED, ON_NODE, NODE, STATED, WARNING, V6, "Calico's NAT chain for IPv6 exists and no hook reaches it.", COMPARED),
    CauseSpec(Cause.NAT_MASQUERADE_MISSING, ON_NODE, NODE, STATED, WARNING, V6, "No rule masquerades an IPv6 pool that asks for natOutgoing.", COMPARED),
    CauseSpec(Cause.NAT_POOL_NOT_IN_SET, ON_NODE, NODE, STATED, WARNING, V6, "The masquerade rule's source set lacks an IPv6 pool that asks for natOutgoing.", COMPARED),
    CauseSpec(Cause.NAT_KUBE_PROXY_MISSING, ON_NODE, NODE, STATED, WARNING, V6, "IPv6 Services exist and kube-proxy has no IPv6 rules on the node.", COMPARED),
    CauseSpec(Cause.VXLAN_DEVICE_MISSING, ON_NODE, NODE, STATED, WARNING, V6, "vxlan-v6.calico should exist and does not.", COMPARED),
    CauseSpec(Cause.VXLAN_DEVICE_DOWN, ON_NODE, NODE, STATED, WARNING, V6, "vxlan-v6.calico is down.", COMPARED),
    CauseSpec(Cause.VXLAN_MISCONFIGURED, ON_NODE, NODE, STATED, WARNING, V6, "vxlan-v6.calico differs from what Calico should have made.", COMPARED),
    CauseSpec(Cause.VXLAN_PEER_INCOMPLETE, ON_NODE, NODE, STATED, WARNING, V6, "Route, neighbour and forwarding entry of a tunnel peer disagree.", COMPARED),
    CauseSpec(Cause.POD_ROUTE_MISSING, ON_NODE, NODE, STATED, WARNING, V6, "A local pod has an IPv6 address and the node no route to it.", COMPARED),
    CauseSpec(Cause.POD_IPV6_DISABLED, POD, NODE, STATED, WARNING, V6, "IPv6 is switched off by sysctl inside a pod."),
    CauseSpec(Cause.POD_IPV6_MISSING, POD, NODE, STATED, WARNING, V6, "A pod has no global IPv6 address.", COMPARED),
    CauseSpec(Cause.POD_IPV6_ADDRESS_UNUSABLE, POD, NODE, STATED, WARNING, V6, "A pod's IPv6 address cannot be used (tentative, failed duplicate detection, or link-local only)."),
    CauseSpec(Cause.POD_IP_MISMATCH, POD, NODE, STATED, WARNING, V6, "An address of status.podIPs is on no interface of the pod.", COMPARED),
    CauseSpec(Cause.POD_NO_IPV6_DEFAULT_ROUTE, POD, NODE, STATED, WARNING, V6, "A pod has an IPv6 address and no IPv6 default route."),
    CauseSpec(Cause.POD_LISTENS_IPV4_ONLY, POD, NODE, STATED, INFO, V6, "An IPv6 Service sends to a port on which its pod listens over IPv4 alone.", COMPARED),
    CauseSpec(Cause.NODE_POD_CIDR_MISSING, WIDE, CLUSTER, STATED, WARNING, V6, "A node has no IPv6 podCIDR while others have one."),
    CauseSpec(Cause.NODE_INTERNAL_IP_MISSING, WIDE, CLUSTER, STATED, WARNING, V6, "A node has no usable IPv6 InternalIP while others have one."),
    CauseSpec(Cause.CALICO_NODE_ADDRESS_MISSING, WIDE, CLUSTER, STATED, WARNING, V6, "Calico has not given a node the IPv6 addresses that its tunnel needs."),
    CauseSpec(Cause.SERVICE_IPV6_MISSING, WIDE, CLUSTER, STATED, WARNING, V6, "A Service has one family alone in a cluster that has both."),
    CauseSpec(Cause.ENDPOINTSLICE_IPV6_MISSING, WIDE, CLUSTER, STATED, WARNING, V6, "A Service with IPv6 has ready IPv4 endpoints and no IPv6 ones."),
    CauseSpec(Cause.LOADBALANCER_IPV6_MISSING, WIDE, CLUSTER, STATED, WARNING, V6, "A dual-stack LoadBalancer got an address of one family."),
    CauseSpec(Cause.IPPOOL_IPV6_MISSING, WIDE, CLUSTER, STATED, WARNING, V6, "No enabled IPv6 pool selects a node where IPv6 is expected."),
    CauseSpec(Cause.IPPOOL_EXHAUSTED, WIDE, CLUSTER, STATED, WARNING, V6, "No free address is left in the blocks that a node may use."),
    CauseSpec(Cause.IPPOOL_NAT_OUTGOING_OFF, WIDE, BOTH, STATED, INFO, V6, "An IPv6 pool of unique local addresses has natOutgoing off: pods cannot reach the outside over IPv6."),
    CauseSpec(Cause.IPPOOL_VXLAN_MODE_MISMATCH, WIDE, BOTH, STATED, INFO, V6, "The IPv4 and IPv6 pools of the same nodes differ in vxlanMode."),
    CauseSpec(Cause.COREDNS_TEMPLATE_BLOCKS_AAAA, WIDE, CLUSTER, STATED, WARNING, V6, "The Corefile withholds AAAA records."),
    CauseSpec(Cause.CNI_NOT_ASSIGNING_IPV6, WIDE, BOTH, STATED, WARNING, V6, "The CNI configuration does not assign IPv6 addresses while an IPv6 pool exists."),
    CauseSpec(Cause.FELIX_IPV6_OFF, WIDE, CLUSTER, STATED, WARNING, V6, "Felix does not support IPv6 on these nodes (ipv6Support)."),
    CauseSpec(Cause.CIDR_OVERLAP, WIDE, CLUSTER, STATED, WARNING, None, "Address ranges of different kinds overlap."),
    CauseSpec(Cause.CIDR_UNSUITABLE, WIDE, CLUSTER, STATED, INFO, None, "An address range is one that Kubernetes or Calico cannot use well."),
    CauseSpec(Cause.NETWORK_POLICY_IPV6_GAP, WIDE, CLUSTER, STATED, INFO, V6, "A network policy's ipBlocks name one family only."),
    CauseSpec(Cause.CONTROL_PLANE_FLAGS, WIDE, BOTH, STATED, WARNING, V6, "A component's arguments are not dual-stack, disagree, or no longer exist."),
)
# fmt: on

SPECS: dict[Cause, CauseSpec] = {line.cause: line for line in TABLE}


def checked_by(line: CauseSpec, role: Role) -> bool:
    """Whether a process of this role checks the cause."""
    return role is Role.ALL or role in line.roles
