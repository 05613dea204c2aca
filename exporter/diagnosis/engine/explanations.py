"""Which cause may explain which: the one table (docs/specification.md section 7). Data only.

explain.py applies it to the findings of one report and to the digest's causes; alerts/ generates Alertmanager's
inhibition rules from it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from exporter.model.cause import Cause

C = Cause


class From(StrEnum):
    """The vantages whose traffic an explaining cause affects."""

    OWN_POD = "own_pod"  # the pods that are its subjects
    PODS = "pods"  # every pod of the node
    HOST = "host"
    ANYWHERE = "anywhere"  # pods and host


class To(StrEnum):
    """The destinations whose traffic it affects."""

    ANYTHING = "anything"
    PEERS = "peers"  # peers and other nodes' pods, also behind a Service
    OWN_PEER = "own_peer"  # the peers that are its subjects
    OUTSIDE = "outside"
    SERVICES = "services"
    OWN_SERVICES = "own_services"  # the Services that are its subjects
    OWN_SERVERS = "own_servers"  # the destinations of its own pairs


@dataclass(frozen=True, slots=True)
class Reach:
    """One line: these causes break traffic from these vantages to these destinations."""

    causes: tuple[Cause, ...]
    vantages: From
    destinations: To


POD_CAUSES = (
    C.POD_IPV6_DISABLED, C.POD_IPV6_MISSING, C.POD_IPV6_ADDRESS_UNUSABLE, C.POD_IP_MISMATCH,
    C.POD_NO_IPV6_DEFAULT_ROUTE,
)  # fmt: skip
TUNNEL_CAUSES = (C.VXLAN_DEVICE_MISSING, C.VXLAN_DEVICE_DOWN, C.VXLAN_MISCONFIGURED)
BGP_CAUSES = (C.BGP_SESSION_DOWN, C.BGP_ROUTE_MISSING)
NO_IPV6_ON_LINK = (C.NODE_IPV6_DISABLED, C.LINK_MTU_BELOW_IPV6_MINIMUM)
WITHOUT_NODE_ADDRESS = (*NO_IPV6_ON_LINK, C.NODE_NO_IPV6_ADDRESS, C.CALICO_NODE_ADDRESS_WRONG)
NAT_CAUSES = (C.NAT_CHAIN_UNHOOKED, C.NAT_MASQUERADE_MISSING, C.NAT_POOL_NOT_IN_SET)
PATH_CAUSES = (C.IPV6_TCP_BLOCKED, C.IPV6_UNREACHABLE, C.IPV6_MTU_BLACKHOLE, C.IPV6_TLS_FAILED, C.TARGET_REFUSES_IPV6)

REACHES: tuple[Reach, ...] = (
    Reach((*POD_CAUSES, C.POD_ROUTE_MISSING, C.LINK_MTU_BELOW_IPV6_MINIMUM), From.OWN_POD, To.ANYTHING),
    Reach((C.POD_MTU_ABOVE_TUNNEL,), From.OWN_POD, To.PEERS),
    Reach((C.NODE_IPV6_DISABLED, C.NODE_FORWARDING_OFF), From.PODS, To.ANYTHING),
    Reach((C.NODE_IPV6_DISABLED,), From.ANYWHERE, To.ANYTHING),
    Reach((C.NODE_IPV6_DISABLED,), From.ANYWHERE, To.PEERS),  # as other nodes see it: for inhibition
    Reach(TUNNEL_CAUSES, From.ANYWHERE, To.PEERS),
    Reach((C.VXLAN_PEER_INCOMPLETE, C.WIREGUARD_V6_INCOMPLETE, *BGP_CAUSES), From.ANYWHERE, To.OWN_PEER),
    Reach(
        (C.CALICO_NODE_ADDRESS_MISSING, C.CALICO_NODE_ADDRESS_WRONG, C.FELIX_IPV6_OFF, C.IPPOOL_VXLAN_MODE_MISMATCH),
        From.ANYWHERE,
        To.PEERS,
    ),
    Reach((*NAT_CAUSES, C.IPPOOL_NAT_OUTGOING_OFF, C.CNI_IPV6_MASQUERADE_OFF), From.PODS, To.OUTSIDE),
    Reach((C.NODE_NO_IPV6_ADDRESS, C.NODE_NO_IPV6_DEFAULT_ROUTE), From.ANYWHERE, To.OUTSIDE),
    # Measured: the host looks up a route before a ClusterIP is translated, and a tunnel cannot send from an address
    # that no longer exists.
    Reach((C.NODE_NO_IPV6_ADDRESS, C.NODE_NO_IPV6_DEFAULT_ROUTE), From.HOST, To.SERVICES),
    Reach((C.NODE_NO_IPV6_ADDRESS, C.NODE_IP_MISMATCH), From.ANYWHERE, To.PEERS),
    Reach((C.NAT_KUBE_PROXY_MISSING,), From.ANYWHERE, To.SERVICES),
    Reach(
        (C.SERVICE_RULES_STALE, C.ENDPOINTSLICE_IPV6_MISSING, C.DNS_SERVICE_NO_ENDPOINTS),
        From.ANYWHERE,
        To.OWN_SERVICES,
    ),
    Reach(PATH_CAUSES, From.ANYWHERE, To.OWN_SERVERS),
)

# For causes that no traffic shows: the first is explained by any of the others.
FOLLOWS: dict[Cause, tuple[Cause, ...]] = {
    C.NODE_NO_IPV6_ADDRESS: (C.LINK_MTU_BELOW_IPV6_MINIMUM,),
    C.NODE_NO_IPV6_DEFAULT_ROUTE: (C.NODE_ACCEPT_RA_IGNORED, C.LINK_MTU_BELOW_IPV6_MINIMUM),
    C.POD_IPV6_MISSING: (
        C.CNI_NOT_ASSIGNING_IPV6,
        C.IPPOOL_IPV6_MISSING,
        C.IPPOOL_EXHAUSTED,
        C.LINK_MTU_BELOW_IPV6_MINIMUM,
    ),
    C.DNS_AAAA_BLOCKED: (C.COREDNS_TEMPLATE_BLOCKS_AAAA,),
    C.DNS_SEARCH_BREAKS_MUSL: (C.DNS_AAAA_BLOCKED, C.DNS_A_BLOCKED, C.COREDNS_TEMPLATE_BLOCKS_AAAA),
    C.VXLAN_DEVICE_MISSING: (C.CALICO_NODE_ADDRESS_MISSING, C.FELIX_IPV6_OFF, *NO_IPV6_ON_LINK),
    C.VXLAN_DEVICE_DOWN: NO_IPV6_ON_LINK,
    C.VXLAN_MISCONFIGURED: NO_IPV6_ON_LINK,
    C.VXLAN_PEER_INCOMPLETE: (*NO_IPV6_ON_LINK, C.CALICO_NODE_ADDRESS_MISSING, C.FELIX_IPV6_OFF),
    C.BGP_SESSION_DOWN: (*WITHOUT_NODE_ADDRESS, C.NODE_IP_MISMATCH),
    C.BGP_ROUTE_MISSING: (*WITHOUT_NODE_ADDRESS, C.BGP_SESSION_DOWN),
    C.WIREGUARD_V6_INCOMPLETE: (*NO_IPV6_ON_LINK, C.CALICO_NODE_ADDRESS_MISSING, C.FELIX_IPV6_OFF),
    C.POD_ROUTE_MISSING: (*NO_IPV6_ON_LINK, C.FELIX_IPV6_OFF),
    **dict.fromkeys(NAT_CAUSES, (C.FELIX_IPV6_OFF,)),  # Felix then repairs none of what it otherwise does every 90 s
    C.SERVICE_AAAA_MISSING: (C.COREDNS_TEMPLATE_BLOCKS_AAAA, C.DNS_AAAA_BLOCKED),
}

# Who refuses was reached: only what is behind the address explains it. The first is info until it explains something.
REFUSES = frozenset({C.POD_LISTENS_IPV4_ONLY, C.ENDPOINTSLICE_IPV6_MISSING, C.SERVICE_RULES_STALE})

# Resolvers that filter records explain only targets without addresses (Found.affects_destinations).
WITHHOLD = frozenset({C.DNS_AAAA_BLOCKED, C.DNS_A_BLOCKED})

# Findings with pairs that may be explained: path and dns symptoms, never a cause that the kernel or the API states.
DNS_SYMPTOMS = frozenset({C.DNS_UNREACHABLE, C.DNS_QUERIES_LOST})
LAST_SYMPTOMS = DNS_SYMPTOMS | {C.TARGET_DOWN}  # path causes may explain these as well
SYMPTOMS = frozenset({*PATH_CAUSES, *LAST_SYMPTOMS})
