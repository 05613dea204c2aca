"""The kernel's state as frozen facts. kernel/ parses them from raw bytes, diagnosis compares them with the inventory.

A part that could not be read is None, never 0, and the ReaderStatus of that reader has the reason. No I/O here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import Self

from exporter.model.family import Address, Family, Interface, Net, contains, family_of
from exporter.model.packet_filter import Postrouting
from exporter.model.reason import Reason


class Reader(StrEnum):
    """Every kernel reader; the label `reader`. What it shows, and the capability that the broker needs for it.

    API readers are called api_ and the value of ResourceKind.
    """

    shows: str
    capability: str

    def __new__(cls, label: str, shows: str, capability: str = "") -> Self:
        member = str.__new__(cls, label)
        member._value_ = label
        member.shows, member.capability = shows, capability
        return member

    LINKS = "links", "network interfaces"
    ADDRESSES = "addresses", "addresses"
    ROUTES = "routes", "routes"
    NAT = "nat", "NAT rules", "CAP_NET_ADMIN"
    KUBE_PROXY = "kube_proxy", "kube-proxy's rules", "CAP_NET_ADMIN"
    VXLAN = "vxlan", "tunnel devices"
    BGP = "bgp", "BGP connections"
    WIREGUARD = "wireguard", "WireGuard device", "CAP_NET_ADMIN"
    CONNTRACK = "conntrack", "tracked connections", "CAP_NET_ADMIN"
    SNMP6 = "snmp6", "IPv6 counters"
    PODS = "pods", "pods' network namespaces", "CAP_SYS_ADMIN and CAP_SYS_PTRACE"
    NAMESPACES = "namespaces", "list of network namespaces", "CAP_SYS_ADMIN and CAP_SYS_PTRACE"
    RESOLV_CONF = "resolv_conf", "pods' resolv.conf", "CAP_SYS_PTRACE"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReaderStatus:
    """How one reader did in one round. Where it failed there is a `reason`, with `detail` for people."""

    reader: str
    success: bool
    seconds: float
    reason: Reason | None = None
    detail: str = ""
    vanished: bool = False  # the namespace is gone


@dataclass(frozen=True, slots=True, kw_only=True)
class Inet6Conf:
    """IFLA_INET6_CONF (linux/ipv6.h), the fields that matter here."""

    forwarding: int
    accept_ra: int
    disable_ipv6: int
    force_forwarding: int = 0  # Linux 6.17: what arrives here is forwarded although all.forwarding is 0; older: 0


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkFact:
    index: int
    name: str
    up: bool  # IFF_UP
    lower_up: bool  # IFF_LOWER_UP
    mtu: int
    mac: str = ""
    kind: str = ""  # IFLA_INFO_KIND: vxlan, veth, bridge ...
    loopback: bool = False
    inet6: Inet6Conf | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AddressFact:
    """An address on a link, with the kernel's flags (linux/if_addr.h)."""

    link: str
    interface: Interface
    scope: str  # global | site | link | host
    tentative: bool = False
    dadfailed: bool = False
    deprecated: bool = False
    permanent: bool = True  # False: with a lifetime, as from a router advertisement

    @property
    def family(self) -> Family:
        return family_of(self.interface)

    @property
    def is_global(self) -> bool:
        """Of global scope in the kernel; a ULA counts (docs/specification.md section 7)."""
        return self.scope == "global"

    @property
    def usable(self) -> bool:
        return not (self.tentative or self.dadfailed)


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteFact:
    """A route of the main table. `destination` of a default route is ::/0 or 0.0.0.0/0."""

    destination: Net
    link: str = ""
    gateway: Address | None = None
    protocol: int = 0  # linux/rtnetlink.h RTPROT_*: 2 kernel, 3 boot, 4 static, 9 ra, 80 Calico
    type: str = "unicast"  # unicast | blackhole | unreachable | prohibit | local ...
    expires: float | None = None  # seconds left, None for never
    from_ra: bool = False  # RTPROT_RA, or RTF_ADDRCONF

    @property
    def family(self) -> Family:
        return family_of(self.destination)

    @property
    def is_default(self) -> bool:
        return self.destination.prefixlen == 0


class Backend(StrEnum):
    """Where NAT rules may be; the label `backend`."""

    IPTABLES_NFT = "iptables-nft"
    IPTABLES_LEGACY = "iptables-legacy"
    NFTABLES = "nftables"


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceMatch:
    """One masquerading rule of the NAT-outgoing chain: the set that its source must be in, or the eBPF mark."""

    set_name: str = ""
    members: tuple[Net, ...] | None = None  # None: the set could not be read
    mark: bool = False  # matches a mark instead of a set: eBPF
    everything: bool = False  # no source match at all
    target: str = "MASQUERADE"  # or SNAT
    protocol: int | None = None  # IPPROTO_* it is limited to: natPortRange has such rules beside the general one

    def covers(self, pool: Net) -> bool | None:
        """Whether it matches packets from the pool; None where its set could not be read."""
        if self.everything or self.mark:
            return True
        return None if self.members is None else any(contains(member, pool) for member in self.members)


@dataclass(frozen=True, slots=True, kw_only=True)
class NatBackend:
    """cali-nat-outgoing in one backend, of one family. That it exists shows nothing: see `masquerades`."""

    family: Family
    backend: Backend
    chain: bool  # cali-nat-outgoing exists
    hooked: bool  # reached from the POSTROUTING hook (without the chain: cali-POSTROUTING is)
    rules: tuple[SourceMatch, ...] = ()
    packets: int = 0
    bytes: int = 0

    @property
    def mark_rule(self) -> bool:
        """The rule of eBPF, whose tc program decides on NAT outgoing; the rule only does it."""
        return any(r.mark for r in self.rules)

    def masquerades(self, pool: Net) -> bool | None:
        """Whether packets from the pool are masqueraded here; None where a set could not be read."""
        covers = [rule.covers(pool) for rule in self.rules if rule.protocol is None and self.hooked]
        if True in covers:
            return True
        return None if None in covers else False


@dataclass(frozen=True, slots=True)
class NatFacts:
    """NAT outgoing in the kernel: one entry per family and backend with Calico's chains or their leftovers."""

    backends: tuple[NatBackend, ...] = ()
    read: frozenset[tuple[Family, Backend]] = frozenset()  # those that could be read, even if nothing was there
    unread: Mapping[tuple[Family, Backend], Reason] = field(default_factory=dict)

    def of(self, family: Family) -> tuple[NatBackend, ...]:
        return tuple(b for b in self.backends if b.family is family)

    def live(self, family: Family) -> NatBackend | None:
        """The backend that carries traffic: a hooked one, else one with the chain; leftovers of another come last."""
        return min(self.of(family), key=lambda b: (not b.hooked, not b.chain, not b.rules, b.backend), default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchedPort:
    """A port of a Service, over one family, whose rules are read."""

    service: str  # namespace/name
    name: str  # of the port; empty where it has none
    protocol: str  # in lower case
    family: Family
    endpoints: frozenset[tuple[Address, int]]  # all addresses and ports of its EndpointSlices


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceRoute:
    """Where kube-proxy's rules lead for one port. `addresses` empty: no such chain, an empty one, or one not used."""

    port: WatchedPort
    backend: Backend
    chain: str
    addresses: frozenset[Address]


@dataclass(frozen=True, slots=True)
class KubeProxyFacts:
    """Service rules of kube-proxy: by family, whether its chains exist and are hooked."""

    mode: str  # iptables | nftables | ipvs | none
    services: Mapping[Family, bool | None]  # rules for services exist; None: could not be read
    routes: tuple[ServiceRoute, ...] = ()  # of the watched ports, those that could be read


@dataclass(frozen=True, slots=True)
class Neighbour:
    address: Address
    mac: str
    permanent: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class VxlanDevice:
    """A tunnel device of Calico or flannel in the kernel (linux/if_link.h IFLA_VXLAN_*)."""

    name: str
    up: bool
    lower_up: bool
    mtu: int
    flow_based: bool = False  # IFLA_VXLAN_COLLECT_METADATA: eBPF's shared device, no fault
    vni: int | None = None
    port: int | None = None
    local: Address | None = None
    parent: str = ""
    parent_mtu: int | None = None
    learning: bool | None = None
    mac: str = ""
    addresses: tuple[AddressFact, ...] = ()
    routes: tuple[RouteFact, ...] = ()  # over the device, main table
    neighbours: tuple[Neighbour, ...] = ()
    fdb: Mapping[str, Address] = field(default_factory=dict)  # MAC -> remote; only those with a destination
    kind: str = "vxlan"  # IFLA_INFO_KIND: another kind under this name is a misconfiguration


class PeerState(StrEnum):
    """What is wrong with a tunnel peer, the first in this order; the label `state` of dualstack_vxlan_peers."""

    COMPLETE = "complete"
    MISSING_ROUTE = "missing_route"
    MISSING_NEIGHBOR = "missing_neighbor"
    WRONG_MAC = "wrong_mac"
    MISSING_FDB = "missing_fdb"
    WRONG_DESTINATION = "wrong_destination"


@dataclass(frozen=True, slots=True)
class VxlanFacts:
    """The tunnel devices of both families; a name that is absent from `devices` does not exist in the kernel."""

    devices: Mapping[str, VxlanDevice] = field(default_factory=dict)
    bpf: bool = False  # link bpfin.cali exists: the eBPF dataplane


@dataclass(frozen=True, slots=True, kw_only=True)
class ListeningSocket:
    """A listening TCP socket (sock_diag)."""

    family: Family
    address: Address
    port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelCounters:
    conntrack_count: int | None = None
    conntrack_max: int | None = None
    udp6_checksum_errors: int | None = None
    kernel_release: str = ""


@dataclass(frozen=True, slots=True)
class LegacyTables:
    """Chains of legacy iptables as last copied: (errno, bytes) per family. Only for the reader, between rounds."""

    copied: float  # monotonic seconds
    answers: Mapping[Family, tuple[int, bytes]] = field(default_factory=dict)
    services: tuple[str, ...] = ()  # chains of Services that were asked for


@dataclass(frozen=True, slots=True, kw_only=True)
class WireguardPeer:
    """A peer of the WireGuard device: its public key (base64), where it is sent to, and what is sent to it."""

    key: str
    endpoint: Address | None = None
    allowed: frozenset[Net] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class WireguardFacts:
    """Calico's WireGuard device for IPv6. `routed`: what a rule leads to, in a table of its own, through the device."""

    exists: bool = True
    up: bool = True
    key: str = ""  # its own public key
    peers: tuple[WireguardPeer, ...] = ()
    routed: frozenset[Net] = frozenset()


@dataclass(frozen=True, kw_only=True)
class HostFacts:
    """The host's network namespace. Each part None where it was not read."""

    links: tuple[LinkFact, ...] | None = None
    addresses: tuple[AddressFact, ...] | None = None
    routes: tuple[RouteFact, ...] | None = None  # main table, without those over the tunnel devices
    all_conf: Inet6Conf | None = None  # net.ipv6.conf.all
    forwarding_v4: bool | None = None
    nat: NatFacts | None = None
    kube_proxy: KubeProxyFacts | None = None
    vxlan: VxlanFacts | None = None
    limits: KernelCounters = KernelCounters()
    legacy: LegacyTables | None = None
    postrouting: Postrouting | None = None  # None, too, where Calico's pools say what is masqueraded
    # The other ends of established BGP connections over IPv6. None, too, where no BGP is expected.
    bgp_peers: frozenset[Address] | None = None
    wireguard: WireguardFacts | None = None  # None, too, where Felix does not use it for IPv6
    # Monotonic seconds: when routes, neighbours and forwarding entries were last read from the kernel.
    entries_read: float = 0.0

    def default_routes(self, family: Family) -> tuple[RouteFact, ...] | None:
        return None if self.routes is None else tuple(r for r in self._defaults if r.family is family)

    @cached_property
    def _defaults(self) -> tuple[RouteFact, ...]:
        return tuple(r for r in self.routes or () if r.is_default and r.type == "unicast")


@dataclass(frozen=True, slots=True, kw_only=True)
class PodFacts:
    """A pod's own namespace, read in one visit."""

    links: tuple[LinkFact, ...] = ()
    addresses: tuple[AddressFact, ...] = ()
    routes: tuple[RouteFact, ...] = ()  # default routes of both families
    disable_ipv6: bool = False  # all.disable_ipv6 or that of the pod's own link
    listeners: tuple[ListeningSocket, ...] | None = None  # None: sock_diag could not be read
    intercepted: bool | None = None  # REDIRECT/TPROXY of locally made TCP or port 53 in its own tables; None: not read

    def global_addresses(self, family: Family) -> tuple[AddressFact, ...]:
        return tuple(a for a in self.addresses if a.family is family and a.is_global)

    def has_default_route(self, family: Family) -> bool:
        return any(r.is_default and r.family is family for r in self.routes)

    @property
    def mtu(self) -> int | None:
        """Smallest MTU of the links that are up and not loopback."""
        sizes = [link.mtu for link in self.links if link.up and not link.loopback]
        return min(sizes) if sizes else None
