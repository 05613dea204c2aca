"""Metrics of the node's kernel: NAT, tunnel devices, addresses, routes, sysctls, limits, and how each reader fared."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping

from exporter.catalogue.metric import FinishedRound, Metric, Row, counter, gauge
from exporter.diagnosis.vxlan_peers import expect_peers, peer_states
from exporter.kernel.decode.vxlan import DEVICES
from exporter.model.facts import AddressFact, HostFacts, KernelCounters, LinkFact, NatFacts, PeerState, VxlanDevice
from exporter.model.family import FAMILIES, Family, family_of
from exporter.model.report import Snapshot

LINKS = 20
ADDRESS_STATES = ("usable", "tentative", "dadfailed", "deprecated")


def host(source: FinishedRound) -> HostFacts:
    """The host's facts; where nothing was read, facts of which each part is None."""
    return source.snapshot.host_facts or HostFacts()


def masquerade_rules(source: FinishedRound) -> Iterator[Row]:
    """Rules that masquerade, of each backend that could be read; 0 where the chain is absent or no hook reaches it."""
    nat = host(source).nat
    if nat is not None:
        found = {(b.family, b.backend): len(b.rules) if b.hooked else 0 for b in nat.backends}
        for family, backend in nat.read | found.keys():
            yield (family.value, backend.value), float(found.get((family, backend), 0))


def pool_masqueraded(source: FinishedRound) -> Iterator[Row]:
    """For each pool that asks for natOutgoing on this node: whether its packets are masqueraded."""
    nat = host(source).nat
    if nat is None:
        return
    for pool in source.snapshot.inventory.pools or ():
        if pool.nat_outgoing and pool.selects(source.snapshot.node):
            family = family_of(pool.cidr)
            live = nat.live(family)
            covered = live.masquerades(pool.cidr) if live is not None else _absent(nat, family)
            if covered is not None:
                yield (family.value, pool.name), float(covered)


def _absent(nat: NatFacts, family: Family) -> bool | None:
    """No backend holds a chain: false if at least one could be read and none could not, else unknown."""
    if any(f is family for f, _ in nat.unread):
        return None
    return False if any(f is family for f, _ in nat.read) else None


def nat_packets(source: FinishedRound) -> Iterator[Row]:
    for (family, backend), packets in source.totals.nat_packets.items():
        yield (family.value, backend.value), float(packets)


def _devices(value: Callable[[VxlanDevice], float | None]) -> Callable[[FinishedRound], Iterator[Row]]:
    """Rows of one number for each tunnel device that exists."""

    def rows(source: FinishedRound) -> Iterator[Row]:
        vxlan = host(source).vxlan
        for device in vxlan.devices.values() if vxlan is not None else ():
            number = value(device)
            if number is not None:
                yield (device.name,), float(number)

    return rows


def vxlan_info(source: FinishedRound) -> Iterator[Row]:
    vxlan = host(source).vxlan
    for device in vxlan.devices.values() if vxlan is not None else ():
        vni = "" if device.vni is None else str(device.vni)
        port = "" if device.port is None else str(device.port)
        yield (device.name, vni, port, device.parent, "true" if device.flow_based else "false"), 1.0


def vxlan_peers(source: FinishedRound) -> Iterator[Row]:
    """Peers by state, 0 included; a flow-based device (eBPF) has none of its own."""
    for device, peers in tunnel_peers(source.snapshot).items():
        for state in PeerState:
            yield (device, state.value), float(peers[state])


def tunnel_peers(snapshot: Snapshot) -> Mapping[str, Counter[PeerState]]:
    """For each tunnel device that exists, how many peers are in which state."""
    facts = snapshot.host_facts
    if facts is None or facts.vxlan is None:
        return {}
    peers: dict[str, Counter[PeerState]] = {}
    for device in facts.vxlan.devices.values():
        family = DEVICES.get(device.name)
        if family is not None and not device.flow_based:
            expected = expect_peers(snapshot.inventory, snapshot.node, family)
            peers[device.name] = Counter(p.state for p in peer_states(device, expected, facts.routes or ()))
    return peers


def host_addresses(source: FinishedRound) -> Iterator[Row]:
    """Global addresses by state; the worst flag decides."""
    addresses = host(source).addresses
    if addresses is not None:
        counted = Counter((a.family, address_state(a)) for a in addresses if a.is_global)
        for family in FAMILIES:
            for state in ADDRESS_STATES:
                if family is Family.V6 or state == "usable":
                    yield (family.value, state), float(counted[family, state])


def address_state(address: AddressFact) -> str:
    """One of ADDRESS_STATES. A deprecated address still serves what already uses it."""
    if address.dadfailed:
        return "dadfailed"
    if address.tentative:
        return "tentative"
    return "deprecated" if address.deprecated else "usable"


def default_routes(source: FinishedRound) -> Iterator[Row]:
    for family in FAMILIES:
        routes = host(source).default_routes(family)
        if routes is not None:
            yield (family.value,), float(len(routes))


def forwarding(source: FinishedRound) -> Iterator[Row]:
    facts = host(source)
    if facts.forwarding_v4 is not None:
        yield (Family.V4.value,), float(facts.forwarding_v4)
    if facts.all_conf is not None:
        yield (Family.V6.value,), float(facts.all_conf.forwarding != 0)


def ipv6_disabled(source: FinishedRound) -> Iterator[Row]:
    conf = host(source).all_conf
    if conf is not None:
        yield (), float(conf.disable_ipv6 != 0)


def accept_ra(source: FinishedRound) -> Iterator[Row]:
    """Only of links that lead outside: those of pods number hundreds and take no router advertisements."""
    for link in outward_links(host(source)):
        if link.inet6 is not None:
            yield (link.name,), float(link.inet6.accept_ra)


def outward_links(facts: HostFacts) -> tuple[LinkFact, ...]:
    """The links of the host with a global address or a default route of either family, the loopback aside."""
    named = {a.link for a in facts.addresses or () if a.is_global}
    named |= {r.link for r in facts.routes or () if r.is_default}
    return tuple(link for link in facts.links or () if link.name in named and not link.loopback)


def kube_proxy_rules(source: FinishedRound) -> Iterator[Row]:
    facts = host(source).kube_proxy
    for family, present in facts.services.items() if facts is not None else ():
        if facts is not None and present is not None:
            yield (family.value, facts.mode), float(present)


def _limit(value: Callable[[KernelCounters], int | None]) -> Callable[[FinishedRound], Iterator[Row]]:
    """A single row, absent where not read."""

    def rows(source: FinishedRound) -> Iterator[Row]:
        number = value(host(source).limits)
        if number is not None:
            yield (), float(number)

    return rows


def kernel_info(source: FinishedRound) -> Iterator[Row]:
    release = host(source).limits.kernel_release
    if release:
        yield (release,), 1.0


def reader_success(source: FinishedRound) -> Iterator[Row]:
    """A reader that ran several times in the round succeeded if it always did."""
    outcome: dict[str, bool] = {}
    for reading in source.snapshot.readings:
        outcome[reading.reader] = outcome.get(reading.reader, True) and reading.success
    return (((reader,), float(success)) for reader, success in outcome.items())


def reader_duration(source: FinishedRound) -> Iterator[Row]:
    spent: dict[str, float] = {}
    for reading in source.snapshot.readings:
        spent[reading.reader] = spent.get(reading.reader, 0.0) + reading.seconds
    return (((reader,), total) for reader, total in spent.items())


NAT: tuple[Metric[FinishedRound], ...] = (
    gauge(
        "nat_masquerade_rules",
        "Rules of Calico's NAT-outgoing chain that masquerade, by backend; 0 where no hook reaches the chain.",
        ("ip_family", "backend"),
        masquerade_rules,
    ),
    gauge(
        "nat_pool_masqueraded",
        "Whether packets from a pool that asks for natOutgoing are really masqueraded on this node.",
        ("ip_family", "pool"),
        pool_masqueraded,
    ),
    counter(
        "nat_packets_total",
        "Packets that Calico's NAT-outgoing rules masqueraded, as the kernel counted them.",
        ("ip_family", "backend"),
        nat_packets,
    ),
    gauge(
        "kube_proxy_service_rules",
        "Whether kube-proxy's rules for Services of the family stand on this node.",
        ("ip_family", "mode"),
        kube_proxy_rules,
    ),
)

TUNNEL: tuple[Metric[FinishedRound], ...] = (
    gauge(
        "vxlan_up",
        "Whether Calico's tunnel device is up and has a carrier; absent where it does not exist.",
        ("device",),
        _devices(lambda d: d.up and d.lower_up),
    ),
    gauge(
        "vxlan_info",
        "Parameters of Calico's tunnel device.",
        ("device", "vni", "port", "parent", "flow_based"),
        vxlan_info,
    ),
    gauge("vxlan_mtu_bytes", "MTU of Calico's tunnel device.", ("device",), _devices(lambda d: d.mtu)),
    gauge(
        "vxlan_peers",
        "Peers of the tunnel device, by whether their route, neighbour and forwarding entry agree.",
        ("device", "state"),
        vxlan_peers,
    ),
)

HOST: tuple[Metric[FinishedRound], ...] = (
    gauge(
        "host_addresses",
        "Global addresses of the host by state (IPv4 has no other than usable).",
        ("ip_family", "state"),
        host_addresses,
    ),
    gauge("host_default_routes", "Default routes of the host's main table.", ("ip_family",), default_routes),
    gauge("host_forwarding", "Whether the host forwards packets of the family.", ("ip_family",), forwarding),
    gauge("host_ipv6_disabled", "Whether net.ipv6.conf.all.disable_ipv6 is set on the host.", (), ipv6_disabled),
    gauge(
        "host_accept_ra",
        "The sysctl accept_ra of links that lead outside (2: also while forwarding).",
        ("device",),
        accept_ra,
        limit=LINKS,
    ),
    gauge("conntrack_entries", "Connections that the host tracks.", (), _limit(lambda f: f.conntrack_count)),
    gauge(
        "conntrack_entries_limit", "Connections that the host can track.", (), _limit(lambda f: f.conntrack_max)
    ),
    counter(
        "udp6_checksum_errors_total",
        "UDP datagrams over IPv6 that the host dropped for a wrong checksum, since boot.",
        (),
        _limit(lambda f: f.udp6_checksum_errors),
    ),
    gauge("kernel_info", "The running kernel.", ("release",), kernel_info),
    gauge(
        "reader_success",
        "Whether the kernel or API reader could read in the last finished round.",
        ("reader",),
        reader_success,
    ),
    gauge(
        "reader_duration_seconds",
        "How long the reader took in the last finished round.",
        ("reader",),
        reader_duration,
    ),
)  # fmt: skip

KERNEL: tuple[Metric[FinishedRound], ...] = (*NAT, *TUNNEL, *HOST)
