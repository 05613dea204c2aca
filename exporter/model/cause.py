"""The closed table of causes, with scope, severity, family and the roles that check each. Data only; pure.

Rules (diagnosis/rules/) are named after the causes; metrics, report, reference and inhibition follow from the table.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum, auto
from typing import Self

from exporter.model.family import Family


class Scope(StrEnum):
    DNS = "dns"
    PATH = "path"
    NODE = "node"
    POD = "pod"
    CLUSTER = "cluster"


class Severity(StrEnum):
    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"

    @property
    def rank(self) -> int:
        return ("info", "warning", "critical").index(self.value)


class Role(StrEnum):
    NODE = "node"
    CLUSTER = "cluster"
    ALL = "all"


@dataclass(frozen=True, slots=True, kw_only=True)
class CauseSpec:
    """What is known of a cause before it is looked for.

    `says` names what is wrong in one sentence. `severity` is the usual one; `family` it is about (None: either);
    `roles` check it, and role all checks every cause. `compares`: it compares the kernel with the inventory, so that an
    inventory at least as new must show it as well. `stated`: the API states it, though it is of scope dns.
    """

    scope: Scope
    says: str
    severity: Severity
    family: Family | None
    roles: frozenset[Role]
    compares: bool
    stated: bool = False

    @property
    def needs_two_rounds(self) -> bool:
        """Not where the kernel or the API states it: then one round suffices."""
        return self.compares or (self.scope in {Scope.DNS, Scope.PATH} and not self.stated)

    def is_checked_by(self, role: Role) -> bool:
        return role is Role.ALL or role in self.roles


NODE_ROLE = frozenset({Role.NODE})
CLUSTER_ROLE = frozenset({Role.CLUSTER})
BOTH = NODE_ROLE | CLUSTER_ROLE
V4, V6 = Family.V4, Family.V6
INFO, WARNING, CRITICAL = Severity
DNS, PATH, ON_NODE, POD, WIDE = Scope


def _spec(
    scope: Scope,
    says: str,
    *,
    severity: Severity = WARNING,
    family: Family | None = V6,
    roles: frozenset[Role] | None = None,
    compares: bool = False,
    stated: bool = False,
) -> CauseSpec:
    """Unless `roles` are given, role cluster checks what is cluster-wide and role node everything else."""
    roles = roles or (CLUSTER_ROLE if scope is WIDE else NODE_ROLE)
    return CauseSpec(
        scope=scope, says=says, severity=severity, family=family, roles=roles, compares=compares, stated=stated
    )


class Cause(StrEnum):
    """What a person would fix: the closed table of docs/specification.md section 7. Its order breaks ties.

    A cause needs a line here and a rule of the same name in diagnosis/rules/ (see CONTRIBUTING.md); metrics, report,
    reference and inhibition follow from the line. Its value is its name in lower case.
    """

    spec: CauseSpec

    def __new__(cls, name: str, spec: CauseSpec | None = None) -> Self:
        """`spec` is None for type checkers only: Cause("target_down") finds a member and makes none."""
        assert spec is not None
        member = str.__new__(cls, name)
        member._value_ = name
        member.spec = spec
        return member

    # fmt: off
    DNS_AAAA_BLOCKED = auto(), _spec(DNS, "A resolver that pods use filters out AAAA records.", severity=CRITICAL)
    DNS_A_BLOCKED = auto(), _spec(DNS, "A resolver that pods use filters out A records.", severity=CRITICAL, family=V4)
    DNS_UNREACHABLE = auto(), _spec(DNS, "A nameserver that pods use does not answer.", family=None)
    DNS_ANSWERS_DIFFER = auto(), _spec(
        DNS, "A nameserver answers the same query sometimes with data and sometimes without.", family=None)
    DNS_QUERIES_LOST = auto(), _spec(DNS, "A nameserver does not answer many of the queries sent to it.", family=None)
    DNS_SEARCH_BREAKS_MUSL = auto(), _spec(
        DNS, "A search domain makes musl programs fail to resolve names that glibc resolves.", family=None)
    SERVICE_AAAA_MISSING = auto(), _spec(
        DNS, "A Service has an IPv6 ClusterIP, but the cluster DNS has no AAAA record for it.", roles=CLUSTER_ROLE)
    SERVICE_AAAA_WRONG = auto(), _spec(
        DNS, "The AAAA record that the cluster DNS returns for a Service is not its ClusterIP.", roles=CLUSTER_ROLE)
    DNS_SERVICE_NO_ENDPOINTS = auto(), _spec(
        DNS, "The cluster's DNS Service has no ready endpoint.", severity=CRITICAL, family=None, roles=CLUSTER_ROLE,
        stated=True)
    DNS_PARALLEL_QUERIES_LOST = auto(), _spec(
        DNS, "One reply is lost if A and AAAA are queried together from one socket, as C libraries do.", family=None)
    IPV6_TCP_BLOCKED = auto(), _spec(PATH, "ICMPv6 works but TCP over IPv6 does not, while TCP over IPv4 works.")
    IPV6_UNREACHABLE = auto(), _spec(PATH, "Destinations that answer over IPv4 cannot be reached over IPv6.")
    IPV6_MTU_BLACKHOLE = auto(), _spec(
        PATH, "Small IPv6 packets arrive, but full-size ones are dropped without an ICMPv6 error.")
    IPV6_TLS_FAILED = auto(), _spec(PATH, "TCP over IPv6 connects but TLS fails, while TLS over IPv4 works.")
    TARGET_REFUSES_IPV6 = auto(), _spec(
        PATH, "A target refuses TCP over IPv6 but accepts it over IPv4, so it does not listen on IPv6.")
    TARGET_DOWN = auto(), _spec(
        PATH, "A target fails over every family that it has, so the target is at fault, not a family.",
        severity=INFO, family=None)
    NODE_IPV6_DISABLED = auto(), _spec(ON_NODE, "IPv6 is disabled by sysctl on the node.")
    NODE_NO_IPV6_ADDRESS = auto(), _spec(ON_NODE, "The node has no usable global IPv6 address.")
    NODE_IP_MISMATCH = auto(), _spec(
        ON_NODE, "An IPv6 address by which the cluster knows the node is on no link of the node.", compares=True)
    LINK_MTU_BELOW_IPV6_MINIMUM = auto(), _spec(
        ON_NODE, "A link of the node or of a pod has an MTU below 1280, so the kernel disables IPv6 on it.")
    NODE_NO_IPV6_DEFAULT_ROUTE = auto(), _spec(ON_NODE, "The node has no IPv6 default route.")
    NODE_FORWARDING_OFF = auto(), _spec(ON_NODE, "The node does not forward IPv6.")
    NODE_ACCEPT_RA_IGNORED = auto(), _spec(
        ON_NODE, "The node has forwarding enabled and accept_ra < 2, so it ignores router advertisements and will "
        "lose its IPv6 address or default route.")
    NAT_CHAIN_UNHOOKED = auto(), _spec(
        ON_NODE, "Calico's NAT chain for IPv6 exists, but no hook jumps to it.", compares=True)
    NAT_MASQUERADE_MISSING = auto(), _spec(
        ON_NODE, "No rule masquerades an IPv6 pool that has natOutgoing enabled.", compares=True)
    NAT_POOL_NOT_IN_SET = auto(), _spec(
        ON_NODE, "The masquerade rule's source set does not contain an IPv6 pool that has natOutgoing enabled.",
        compares=True)
    NAT_KUBE_PROXY_MISSING = auto(), _spec(
        ON_NODE, "IPv6 Services exist, but kube-proxy has no IPv6 rules on the node.", compares=True)
    SERVICE_RULES_STALE = auto(), _spec(
        ON_NODE, "kube-proxy's rules on the node do not lead to the endpoints of a Service that has ready ones.",
        family=None, compares=True)
    VXLAN_DEVICE_MISSING = auto(), _spec(
        ON_NODE, "The tunnel device for IPv6 should exist on the node but does not.", compares=True)
    VXLAN_DEVICE_DOWN = auto(), _spec(ON_NODE, "The tunnel device for IPv6 is down.", compares=True)
    VXLAN_MISCONFIGURED = auto(), _spec(
        ON_NODE, "The settings of the tunnel device for IPv6 differ from those that the CNI should have set.",
        compares=True)
    VXLAN_PEER_INCOMPLETE = auto(), _spec(
        ON_NODE, "The route, neighbour and forwarding entry of a tunnel peer are incomplete or do not match.",
        compares=True)
    BGP_SESSION_DOWN = auto(), _spec(
        ON_NODE, "The node has no BGP session over IPv6 with a peer that Calico is configured to have.", compares=True)
    BGP_ROUTE_MISSING = auto(), _spec(
        ON_NODE, "The node has no route to the IPv6 block of another node.", compares=True)
    WIREGUARD_V6_INCOMPLETE = auto(), _spec(
        ON_NODE, "WireGuard for IPv6 is on, and its device, a peer or the rule that leads to it is missing.",
        compares=True)
    POD_ROUTE_MISSING = auto(), _spec(
        ON_NODE, "A local pod has an IPv6 address, but the node has no route to it.", compares=True)
    POD_IPV6_DISABLED = auto(), _spec(POD, "IPv6 is disabled by sysctl inside a pod.")
    POD_IPV6_MISSING = auto(), _spec(POD, "A pod has no global IPv6 address.", compares=True)
    POD_IPV6_ADDRESS_UNUSABLE = auto(), _spec(
        POD, "A pod's IPv6 address cannot be used (tentative, failed duplicate detection, or link-local only).")
    POD_IP_MISMATCH = auto(), _spec(
        POD, "The addresses in status.podIPs are not those that the pod has.", roles=BOTH, compares=True)
    POD_MTU_ABOVE_TUNNEL = auto(), _spec(
        POD, "A pod's MTU is above that of its tunnel: it was created before the MTU was known or changed.",
        severity=INFO)
    POD_NO_IPV6_DEFAULT_ROUTE = auto(), _spec(POD, "A pod has an IPv6 address but no IPv6 default route.")
    POD_LISTENS_IPV4_ONLY = auto(), _spec(
        POD, "An IPv6 Service sends to a port on which its pod listens over IPv4 only.", severity=INFO, compares=True)
    NODE_POD_CIDR_MISSING = auto(), _spec(WIDE, "A node has no IPv6 podCIDR.")
    NODE_INTERNAL_IP_MISSING = auto(), _spec(WIDE, "A node has no usable IPv6 InternalIP.")
    CALICO_NODE_ADDRESS_MISSING = auto(), _spec(
        WIDE, "Calico has no IPv6 address of a node, or none of its tunnel.")
    CALICO_NODE_ADDRESS_WRONG = auto(), _spec(
        WIDE, "Calico uses the same IPv6 address for several nodes, so traffic to them goes to the wrong one.")
    SERVICE_CIDR_IPV6_MISSING = auto(), _spec(
        WIDE, "Services are meant to be dual-stack, but no ServiceCIDR of IPv6 is Ready, so they get no IPv6 address.")
    SERVICE_IPV6_MISSING = auto(), _spec(WIDE, "A Service has only one family in a dual-stack cluster.")
    ENDPOINTSLICE_IPV6_MISSING = auto(), _spec(
        WIDE, "A Service with IPv6 has ready IPv4 endpoints but no IPv6 endpoints.")
    LOADBALANCER_IPV6_MISSING = auto(), _spec(WIDE, "A dual-stack LoadBalancer has addresses of only one family.")
    IPPOOL_IPV6_MISSING = auto(), _spec(WIDE, "No enabled IPv6 pool selects a node where IPv6 is expected.")
    IPPOOL_EXHAUSTED = auto(), _spec(WIDE, "No free address is left in the blocks that a node may use.")
    IPPOOL_NAT_OUTGOING_OFF = auto(), _spec(
        WIDE, "An IPv6 pool of unique local addresses has natOutgoing disabled, so pods cannot reach the outside "
        "over IPv6.", severity=INFO, roles=BOTH)
    CNI_IPV6_MASQUERADE_OFF = auto(), _spec(
        WIDE, "Pods have unique local IPv6 addresses that the CNI does not masquerade, so they cannot reach the "
        "outside over IPv6.", severity=INFO, roles=BOTH)
    IPPOOL_VXLAN_MODE_MISMATCH = auto(), _spec(
        WIDE, "The IPv4 and IPv6 pools of the same nodes differ in vxlanMode.", severity=INFO, roles=BOTH)
    COREDNS_TEMPLATE_BLOCKS_AAAA = auto(), _spec(WIDE, "The Corefile filters out AAAA records.")
    CNI_NOT_ASSIGNING_IPV6 = auto(), _spec(
        WIDE, "The CNI does not assign IPv6 addresses, although IPv6 is expected.", roles=BOTH)
    FELIX_IPV6_OFF = auto(), _spec(WIDE, "Felix has IPv6 support disabled on these nodes (ipv6Support).")
    CIDR_OVERLAP = auto(), _spec(WIDE, "Address ranges of different kinds overlap.", family=None)
    CIDR_UNSUITABLE = auto(), _spec(
        WIDE, "An address range is not suitable for Kubernetes or Calico.", severity=INFO, family=None)
    NETWORK_POLICY_IPV6_GAP = auto(), _spec(
        WIDE, "A network policy denies one family, or its blocks cover only one.", severity=INFO)
    CONTROL_PLANE_FLAGS = auto(), _spec(
        WIDE, "A component's arguments are not dual-stack, disagree, or no longer exist.", roles=BOTH)
    # fmt: on
