"""The closed table of causes: scope, roles, how they are found, usual severity, in one line each (contract section 7).

A cause is what a person would fix. Adding one takes: its member in model.report.Cause, its line here, one rule in the
module of its topic, a scenario in the tests, and in alerts/ a rule and a runbook. Everything else (metrics, report,
reference, inhibition) follows from the line. This file holds data only.
"""

from __future__ import annotations

from dataclasses import dataclass

from exporter.model.family import Family
from exporter.model.report import Cause, Role, Scope, Severity

NODE = frozenset({Role.NODE})
CLUSTER = frozenset({Role.CLUSTER})
BOTH = frozenset({Role.NODE, Role.CLUSTER})

RUNBOOKS = "https://github.com/dualstack-exporter/dualstack-exporter/blob/main/alerts/runbooks/"


@dataclass(frozen=True, slots=True, kw_only=True)
class CauseSpec:
    """One cause.

    `roles` are those that check it (role all checks every one); `stated`: the kernel or the API says so, so that one
    round suffices. `family` is the family it is about (None: either); `says` is the one sentence that names what is
    wrong. `compares`: it sets the kernel against the inventory, so that an inventory at least as new must show it as
    well.
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
    CauseSpec(cause=Cause.DNS_AAAA_BLOCKED, scope=DNS, roles=NODE, stated=SEEN_TWICE, severity=CRITICAL, family=V6, says="A resolver that pods use filters out AAAA records."),
    CauseSpec(cause=Cause.DNS_A_BLOCKED, scope=DNS, roles=NODE, stated=SEEN_TWICE, severity=CRITICAL, family=V4, says="A resolver that pods use filters out A records."),
    CauseSpec(cause=Cause.DNS_UNREACHABLE, scope=DNS, roles=NODE, stated=SEEN_TWICE, severity=WARNING, family=None, says="A nameserver that pods use does not answer."),
    CauseSpec(cause=Cause.DNS_ANSWERS_DIFFER, scope=DNS, roles=NODE, stated=SEEN_TWICE, severity=WARNING, family=None, says="A nameserver answers the same query sometimes with data and sometimes without."),
    CauseSpec(cause=Cause.DNS_QUERIES_LOST, scope=DNS, roles=NODE, stated=SEEN_TWICE, severity=WARNING, family=None, says="A nameserver does not answer many of the queries sent to it."),
    CauseSpec(cause=Cause.DNS_SEARCH_BREAKS_MUSL, scope=DNS, roles=NODE, stated=SEEN_TWICE, severity=WARNING, family=None, says="A search domain makes musl programs fail to resolve names that glibc resolves."),
    CauseSpec(cause=Cause.SERVICE_AAAA_MISSING, scope=DNS, roles=CLUSTER, stated=SEEN_TWICE, severity=WARNING, family=V6, says="A Service has an IPv6 ClusterIP, but the cluster DNS has no AAAA record for it."),
    CauseSpec(cause=Cause.IPV6_TCP_BLOCKED, scope=PATH, roles=NODE, stated=SEEN_TWICE, severity=WARNING, family=V6, says="ICMPv6 works but TCP over IPv6 does not, while TCP over IPv4 works."),
    CauseSpec(cause=Cause.IPV6_UNREACHABLE, scope=PATH, roles=NODE, stated=SEEN_TWICE, severity=WARNING, family=V6, says="Destinations that answer over IPv4 cannot be reached over IPv6."),
    CauseSpec(cause=Cause.IPV6_MTU_BLACKHOLE, scope=PATH, roles=NODE, stated=SEEN_TWICE, severity=WARNING, family=V6, says="Small IPv6 packets arrive, but full-size ones are dropped without an ICMPv6 error."),
    CauseSpec(cause=Cause.IPV6_TLS_FAILED, scope=PATH, roles=NODE, stated=SEEN_TWICE, severity=WARNING, family=V6, says="TCP over IPv6 connects but TLS fails, while TLS over IPv4 works."),
    CauseSpec(cause=Cause.TARGET_DOWN, scope=PATH, roles=NODE, stated=SEEN_TWICE, severity=INFO, family=None, says="A target fails over every family that it has, so the target is at fault, not a family."),
    CauseSpec(cause=Cause.NODE_IPV6_DISABLED, scope=ON_NODE, roles=NODE, stated=STATED, severity=WARNING, family=V6, says="IPv6 is disabled by sysctl on the node."),
    CauseSpec(cause=Cause.NODE_NO_IPV6_ADDRESS, scope=ON_NODE, roles=NODE, stated=STATED, severity=WARNING, family=V6, says="The node has no usable global IPv6 address."),
    CauseSpec(cause=Cause.NODE_NO_IPV6_DEFAULT_ROUTE, scope=ON_NODE, roles=NODE, stated=STATED, severity=WARNING, family=V6, says="The node has no IPv6 default route."),
    CauseSpec(cause=Cause.NODE_FORWARDING_OFF, scope=ON_NODE, roles=NODE, stated=STATED, severity=WARNING, family=V6, says="The node does not forward IPv6."),
    CauseSpec(cause=Cause.NODE_ACCEPT_RA_IGNORED, scope=ON_NODE, roles=NODE, stated=STATED, severity=WARNING, family=V6, says="The node has forwarding enabled and accept_ra < 2, so it ignores router advertisements and will lose its IPv6 address or default route."),
    CauseSpec(cause=Cause.NAT_CHAIN_UNHOOKED, scope=ON_NODE, roles=NODE, stated=STATED, severity=WARNING, family=V6, says="Calico's NAT chain for IPv6 exists, but no hook jumps to it.", compares=COMPARED),
    CauseSpec(cause=Cause.NAT_MASQUERADE_MISSING, scope=ON_NODE, roles=NODE, stated=STATED, severity=WARNING, family=V6, says="No rule masquerades an IPv6 pool that has natOutgoing enabled.", compares=COMPARED),
    CauseSpec(cause=Cause.NAT_POOL_NOT_IN_SET, scope=ON_NODE, roles=NODE, stated=STATED, severity=WARNING, family=V6, says="The masquerade rule's source set does not contain an IPv6 pool that has natOutgoing enabled.", compares=COMPARED),
    CauseSpec(cause=Cause.NAT_KUBE_PROXY_MISSING, scope=ON_NODE, roles=NODE, stated=STATED, severity=WARNING, family=V6, says="IPv6 Services exist, but kube-proxy has no IPv6 rules on the node.", compares=COMPARED),
    CauseSpec(cause=Cause.VXLAN_DEVICE_MISSING, scope=ON_NODE, roles=NODE, stated=STATED, severity=WARNING, family=V6, says="vxlan-v6.calico should exist on the node but does not.", compares=COMPARED),
    CauseSpec(cause=Cause.VXLAN_DEVICE_DOWN, scope=ON_NODE, roles=NODE, stated=STATED, severity=WARNING, family=V6, says="vxlan-v6.calico is down.", compares=COMPARED),
    CauseSpec(cause=Cause.VXLAN_MISCONFIGURED, scope=ON_NODE, roles=NODE, stated=STATED, severity=WARNING, family=V6, says="The settings of vxlan-v6.calico differ from those that Calico should have set.", compares=COMPARED),
    CauseSpec(cause=Cause.VXLAN_PEER_INCOMPLETE, scope=ON_NODE, roles=NODE, stated=STATED, severity=WARNING, family=V6, says="The route, neighbour and forwarding entry of a tunnel peer are incomplete or do not match.", compares=COMPARED),
    CauseSpec(cause=Cause.POD_ROUTE_MISSING, scope=ON_NODE, roles=NODE, stated=STATED, severity=WARNING, family=V6, says="A local pod has an IPv6 address, but the node has no route to it.", compares=COMPARED),
    CauseSpec(cause=Cause.POD_IPV6_DISABLED, scope=POD, roles=NODE, stated=STATED, severity=WARNING, family=V6, says="IPv6 is disabled by sysctl inside a pod."),
    CauseSpec(cause=Cause.POD_IPV6_MISSING, scope=POD, roles=NODE, stated=STATED, severity=WARNING, family=V6, says="A pod has no global IPv6 address.", compares=COMPARED),
    CauseSpec(cause=Cause.POD_IPV6_ADDRESS_UNUSABLE, scope=POD, roles=NODE, stated=STATED, severity=WARNING, family=V6, says="A pod's IPv6 address cannot be used (tentative, failed duplicate detection, or link-local only)."),
    CauseSpec(cause=Cause.POD_IP_MISMATCH, scope=POD, roles=NODE, stated=STATED, severity=WARNING, family=V6, says="An address in status.podIPs is on no interface of the pod.", compares=COMPARED),
    CauseSpec(cause=Cause.POD_NO_IPV6_DEFAULT_ROUTE, scope=POD, roles=NODE, stated=STATED, severity=WARNING, family=V6, says="A pod has an IPv6 address but no IPv6 default route."),
    CauseSpec(cause=Cause.POD_LISTENS_IPV4_ONLY, scope=POD, roles=NODE, stated=STATED, severity=INFO, family=V6, says="An IPv6 Service sends to a port on which its pod listens over IPv4 only.", compares=COMPARED),
    CauseSpec(cause=Cause.NODE_POD_CIDR_MISSING, scope=WIDE, roles=CLUSTER, stated=STATED, severity=WARNING, family=V6, says="A node has no IPv6 podCIDR, while other nodes have one."),
    CauseSpec(cause=Cause.NODE_INTERNAL_IP_MISSING, scope=WIDE, roles=CLUSTER, stated=STATED, severity=WARNING, family=V6, says="A node has no usable IPv6 InternalIP, while other nodes have one."),
    CauseSpec(cause=Cause.CALICO_NODE_ADDRESS_MISSING, scope=WIDE, roles=CLUSTER, stated=STATED, severity=WARNING, family=V6, says="Calico has not assigned the IPv6 addresses that a node's tunnel needs."),
    CauseSpec(cause=Cause.SERVICE_IPV6_MISSING, scope=WIDE, roles=CLUSTER, stated=STATED, severity=WARNING, family=V6, says="A Service has only one family in a dual-stack cluster."),
    CauseSpec(cause=Cause.ENDPOINTSLICE_IPV6_MISSING, scope=WIDE, roles=CLUSTER, stated=STATED, severity=WARNING, family=V6, says="A Service with IPv6 has ready IPv4 endpoints but no IPv6 endpoints."),
    CauseSpec(cause=Cause.LOADBALANCER_IPV6_MISSING, scope=WIDE, roles=CLUSTER, stated=STATED, severity=WARNING, family=V6, says="A dual-stack LoadBalancer has addresses of only one family."),
    CauseSpec(cause=Cause.IPPOOL_IPV6_MISSING, scope=WIDE, roles=CLUSTER, stated=STATED, severity=WARNING, family=V6, says="No enabled IPv6 pool selects a node where IPv6 is expected."),
    CauseSpec(cause=Cause.IPPOOL_EXHAUSTED, scope=WIDE, roles=CLUSTER, stated=STATED, severity=WARNING, family=V6, says="No free address is left in the blocks that a node may use."),
    CauseSpec(cause=Cause.IPPOOL_NAT_OUTGOING_OFF, scope=WIDE, roles=BOTH, stated=STATED, severity=INFO, family=V6, says="An IPv6 pool of unique local addresses has natOutgoing disabled, so pods cannot reach the outside over IPv6."),
    CauseSpec(cause=Cause.IPPOOL_VXLAN_MODE_MISMATCH, scope=WIDE, roles=BOTH, stated=STATED, severity=INFO, family=V6, says="The IPv4 and IPv6 pools of the same nodes differ in vxlanMode."),
    CauseSpec(cause=Cause.COREDNS_TEMPLATE_BLOCKS_AAAA, scope=WIDE, roles=CLUSTER, stated=STATED, severity=WARNING, family=V6, says="The Corefile filters out AAAA records."),
    CauseSpec(cause=Cause.CNI_NOT_ASSIGNING_IPV6, scope=WIDE, roles=BOTH, stated=STATED, severity=WARNING, family=V6, says="The CNI configuration does not assign IPv6 addresses, although an IPv6 pool exists."),
    CauseSpec(cause=Cause.FELIX_IPV6_OFF, scope=WIDE, roles=CLUSTER, stated=STATED, severity=WARNING, family=V6, says="Felix has IPv6 support disabled on these nodes (ipv6Support)."),
    CauseSpec(cause=Cause.CIDR_OVERLAP, scope=WIDE, roles=CLUSTER, stated=STATED, severity=WARNING, family=None, says="Address ranges of different kinds overlap."),
    CauseSpec(cause=Cause.CIDR_UNSUITABLE, scope=WIDE, roles=CLUSTER, stated=STATED, severity=INFO, family=None, says="An address range is not suitable for Kubernetes or Calico."),
    CauseSpec(cause=Cause.NETWORK_POLICY_IPV6_GAP, scope=WIDE, roles=CLUSTER, stated=STATED, severity=INFO, family=V6, says="The ipBlocks of a network policy cover only one family."),
    CauseSpec(cause=Cause.CONTROL_PLANE_FLAGS, scope=WIDE, roles=BOTH, stated=STATED, severity=WARNING, family=V6, says="A component's arguments are not dual-stack, disagree, or no longer exist."),
)
# fmt: on

SPECS: dict[Cause, CauseSpec] = {line.cause: line for line in TABLE}


def checked_by(line: CauseSpec, role: Role) -> bool:
    """Whether a process of this role checks the cause."""
    return role is Role.ALL or role in line.roles
