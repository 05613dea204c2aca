"""Metrics of the node's kernel: NAT, tunnel devices, addresses, routes, sysctls, limits, and how each reader did."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping

from exporter.catalogue.metric import FinishedRound, Metric, Row, Rows, by_label, counter, gauge, one
from exporter.diagnosis.bgp import bgp_plan
from exporter.diagnosis.network import pod_network
from exporter.diagnosis.vxlan_peers import expect_peers, peer_states
from exporter.model.facts import AddressFact, HostFacts, LinkFact, NatFacts, PeerState, VxlanDevice
from exporter.model.family import FAMILIES, Family
from exporter.model.reason import Reason
from exporter.model.report import Snapshot

LINKS = 20
ADDRESS_STATES = ("usable", "tentative", "dadfailed", "deprecated")


def masquerade_rules(source: FinishedRound) -> Iterator[Row]:
    """Rules that masquerade, of each backend that could be read; 0 where the chain is absent or no hook reaches it."""
    nat = source.snapshot.kernel.nat
    if nat is not None:
        rules = {(b.family, b.backend): len(b.rules) if b.hooked else 0 for b in nat.backends}
        yield from ((key, rules.get(key, 0)) for key in nat.read | rules.keys())


def pool_masqueraded(source: FinishedRound) -> Iterator[Row]:
    """For each pool that asks for natOutgoing on this node: whether its packets are masqueraded."""
    nat = source.snapshot.kernel.nat
    for pool in source.snapshot.inventory.pools or () if nat is not None else ():
        if nat is not None and pool.nat_outgoing and pool.selects(source.snapshot.node):
            live = nat.live(pool.family)
            covered = live.masquerades(pool.cidr) if live is not None else _absent(nat, pool.family)
            if covered is not None:
                yield (pool.family.value, pool.name), covered


def _absent(nat: NatFacts, family: Family) -> bool | None:
    """No backend has a chain: false if at least one could be read and all could, else unknown."""
    if any(f is family for f, _ in nat.unread):
        return None
    return False if any(f is family for f, _ in nat.read) else None


def tunnels(source: FinishedRound) -> Iterable[VxlanDevice]:
    vxlan = source.snapshot.kernel.vxlan
    return vxlan.devices.values() if vxlan is not None else ()


def _by_device(value: Callable[[VxlanDevice], float]) -> Rows[FinishedRound]:
    return by_label(lambda source: {device.name: value(device) for device in tunnels(source)})


def vxlan_info(source: FinishedRound) -> Iterator[Row]:
    for device in tunnels(source):
        vni, port = ("" if number is None else str(number) for number in (device.vni, device.port))
        yield (device.name, vni, port, device.parent, "true" if device.flow_based else "false"), 1


def vxlan_peers(source: FinishedRound) -> Iterator[Row]:
    """Peers by state, 0 included; a flow-based device (eBPF) has none of its own."""
    for device, peers in tunnel_peers(source.snapshot).items():
        for state in PeerState:
            yield (device, state.value), peers[state]


def tunnel_peers(snapshot: Snapshot) -> Mapping[str, Counter[PeerState]]:
    """For each tunnel device that exists, how many peers are in which state."""
    vxlan, routes = snapshot.kernel.vxlan, snapshot.kernel.routes or ()
    peers: dict[str, Counter[PeerState]] = {}
    for device in vxlan.devices.values() if vxlan is not None else ():
        if not device.flow_based:
            expected = expect_peers(snapshot.inventory, snapshot.node, device.name)
            peers[device.name] = Counter(p.state for p in peer_states(device, expected, routes))
    return peers


def bgp_peers(source: FinishedRound) -> Iterator[Row]:
    """The sessions over IPv6 that the node should have, by whether there is such a connection."""
    snapshot = source.snapshot
    connected = snapshot.kernel.bgp_peers
    if connected is None:
        return
    plan = bgp_plan(snapshot.inventory, pod_network(snapshot.inventory), snapshot.node)
    if not isinstance(plan, Reason):
        there = sum(session.address in connected for session in plan.sessions)
        yield from ((("established",), there), (("missing",), len(plan.sessions) - there))


def host_addresses(source: FinishedRound) -> Iterator[Row]:
    """Global addresses by state; the worst flag decides."""
    addresses = source.snapshot.kernel.addresses
    if addresses is not None:
        counted = Counter((a.family, address_state(a)) for a in addresses if a.is_global)
        for family in FAMILIES:
            for state in ADDRESS_STATES if family is Family.V6 else ADDRESS_STATES[:1]:
                yield (family.value, state), counted[family, state]


def address_state(address: AddressFact) -> str:
    """One of ADDRESS_STATES. A deprecated address still serves what already uses it."""
    if address.dadfailed:
        return "dadfailed"
    if address.tentative:
        return "tentative"
    return "deprecated" if address.deprecated else "usable"


def default_routes(source: FinishedRound) -> Mapping[Family, int]:
    routes = {family: source.snapshot.kernel.default_routes(family) for family in FAMILIES}
    return {family: len(found) for family, found in routes.items() if found is not None}


def forwarding(source: FinishedRound) -> Mapping[Family, bool | None]:
    conf = source.snapshot.kernel.all_conf
    return {Family.V4: source.snapshot.kernel.forwarding_v4, Family.V6: None if conf is None else conf.forwarding != 0}


def ipv6_disabled(source: FinishedRound) -> bool | None:
    conf = source.snapshot.kernel.all_conf
    return None if conf is None else conf.disable_ipv6 != 0


def accept_ra(source: FinishedRound) -> Mapping[str, int]:
    """Only of links that lead outside: those of pods number hundreds and take no router advertisements."""
    links = outward_links(source.snapshot.kernel)
    return {link.name: link.inet6.accept_ra for link in links if link.inet6 is not None}


def outward_links(facts: HostFacts) -> tuple[LinkFact, ...]:
    """The links of the host with a global address or a default route of either family, except the loopback."""
    named = {a.link for a in facts.addresses or () if a.is_global}
    named |= {r.link for r in facts.routes or () if r.is_default}
    return tuple(link for link in facts.links or () if link.name in named and not link.loopback)


def kube_proxy_rules(source: FinishedRound) -> Iterator[Row]:
    facts = source.snapshot.kernel.kube_proxy
    if facts is not None:
        for family, present in facts.services.items():
            if present is not None:
                yield (family.value, facts.mode), present


def kernel_info(source: FinishedRound) -> Mapping[str, int]:
    release = source.snapshot.kernel.limits.kernel_release
    return {release: 1} if release else {}


def reader_success(source: FinishedRound) -> Mapping[str, bool]:
    """A reader that ran several times in the round succeeded if it always did."""
    failed = {reading.reader for reading in source.snapshot.readings if not reading.success}
    return {reading.reader: reading.reader not in failed for reading in source.snapshot.readings}


def reader_duration(source: FinishedRound) -> Mapping[str, float]:
    spent: dict[str, float] = {}
    for reading in source.snapshot.readings:
        spent[reading.reader] = spent.get(reading.reader, 0.0) + reading.seconds
    return spent


# fmt: off
KERNEL: tuple[Metric[FinishedRound], ...] = (
    gauge("nat_masquerade_rules",
          "Rules of Calico's NAT-outgoing chain that masquerade, by backend; 0 where no hook reaches the chain.",
          ("ip_family", "backend"), masquerade_rules),
    gauge("nat_pool_masqueraded", "Whether packets from a pool with natOutgoing are really masqueraded on this node.",
          ("ip_family", "pool"), pool_masqueraded),
    counter("nat_packets_total", "Packets that Calico's NAT-outgoing rules masqueraded, as counted by the kernel.",
            ("ip_family", "backend"), lambda source: source.totals.nat_packets.items()),
    gauge("kube_proxy_service_rules", "Whether kube-proxy's rules for Services of the family exist on this node.",
          ("ip_family", "mode"), kube_proxy_rules),
    gauge("vxlan_up", "Whether Calico's tunnel device is up and has a carrier; absent where it does not exist.",
          ("device",), _by_device(lambda device: device.up and device.lower_up)),
    gauge("vxlan_info", "Parameters of Calico's tunnel device.", ("device", "vni", "port", "parent", "flow_based"),
          vxlan_info),
    gauge("vxlan_mtu_bytes", "MTU of Calico's tunnel device.", ("device",), _by_device(lambda device: device.mtu)),
    gauge("vxlan_peers", "Peers of the tunnel device, by whether their route, neighbour and forwarding entry agree.",
          ("device", "state"), vxlan_peers),
    gauge("bgp_peers", "BGP peers that Calico is configured to have over IPv6, by whether a connection exists.",
          ("state",), bgp_peers),
    gauge("host_addresses", "Global addresses of the host by state (IPv4 has usable only).", ("ip_family", "state"),
          host_addresses),
    gauge("host_default_routes", "Default routes of the host's main table.", ("ip_family",), by_label(default_routes)),
    gauge("host_forwarding", "Whether the host forwards packets of the family.", ("ip_family",), by_label(forwarding)),
    gauge("host_ipv6_disabled", "Whether net.ipv6.conf.all.disable_ipv6 is set on the host.", (), one(ipv6_disabled)),
    gauge("host_accept_ra", "The sysctl accept_ra of links that lead outside (2: accepted even while forwarding).",
          ("device",), by_label(accept_ra), limit=LINKS),
    gauge("conntrack_entries", "Connections that the host tracks.", (),
          one(lambda source: source.snapshot.kernel.limits.conntrack_count)),
    gauge("conntrack_entries_limit", "Connections that the host can track.", (),
          one(lambda source: source.snapshot.kernel.limits.conntrack_max)),
    counter("udp6_checksum_errors_total",
            "UDP datagrams over IPv6 that the host dropped because of a wrong checksum, since boot.", (),
            one(lambda source: source.snapshot.kernel.limits.udp6_checksum_errors)),
    gauge("kernel_info", "Release of the running kernel.", ("release",), by_label(kernel_info)),
    gauge("reader_success", "Whether the kernel or API reader succeeded in the last finished round.", ("reader",),
          by_label(reader_success)),
    gauge("reader_duration_seconds", "Time that the reader took in the last finished round.", ("reader",),
          by_label(reader_duration)),
)
# fmt: on
