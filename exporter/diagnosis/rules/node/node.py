"""Causes that the node's own kernel states about the host: sysctls, addresses, default route, router advertisements, pod routes. Pure.

The first three go first match: with IPv6 off there is no address, and without an address no route is missed.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv6Address, ip_network

from exporter.diagnosis.endpoints import services_behind
from exporter.diagnosis.engine.rule_input import Judgement, Rule, RuleInput, finding
from exporter.model.facts import AddressFact, HostFacts, Inet6Conf, LinkFact, Reader, RouteFact
from exporter.model.family import Family, family_of
from exporter.model.reason import Reason
from exporter.model.report import Cause, Severity
from exporter.model.subject import Subject, SubjectKind
from exporter.model.vantage import PodState

TUNNELS = ("vxlan", "cali", "tunl", "wireguard", "nodelocaldns", "kube-ipvs")
# Felix takes a pod's addresses from status.podIPs and removes the routes of others (felix's removeExternalRoutes).
UNREPORTED = "; cni.projectcalico.org/podIPs names it and status.podIPs does not"
EXPIRING = 600.0  # seconds left on a route that nobody renews


def node_ipv6_disabled(view: RuleInput) -> Judgement:
    """all.disable_ipv6, or that of the node's own link."""
    facts = view.snapshot.host_facts
    if facts is None or facts.all_conf is None or facts.links is None:
        return reader_reason(view, Reader.LINKS)
    where = ["net.ipv6.conf.all.disable_ipv6 = 1"] if facts.all_conf.disable_ipv6 else []
    own = own_link(view, facts)
    if own is not None and own.inet6 is not None and own.inet6.disable_ipv6:
        where.append(f"net.ipv6.conf.{own.name}.disable_ipv6 = 1")
    if not where:
        return ()
    return (
        finding(
            Cause.NODE_IPV6_DISABLED, [_me(view)], evidence=where, command="sysctl -a -r 'net.ipv6.conf.*.disable_ipv6'"
        ),
    )


def node_no_ipv6_address(view: RuleInput) -> Judgement:
    """No global address on the host, or none that is usable. The tunnel's own address and pods' gateways do not count."""
    facts = view.snapshot.host_facts
    if facts is None or facts.addresses is None:
        return reader_reason(view, Reader.ADDRESSES)
    if _holds(node_ipv6_disabled(view)):
        return ()
    found = [a for a in facts.addresses if a.family is Family.V6 and a.is_global and not a.link.startswith(TUNNELS)]
    if any(a.usable for a in found):
        return ()
    evidence = [f"{a.interface} on {a.link} is {_flaw(a)}" for a in found] or [
        "no global IPv6 address on any link of the node"
    ]
    return (
        finding(Cause.NODE_NO_IPV6_ADDRESS, [_me(view)], evidence=evidence, command="ip -6 address show scope global"),
    )


def node_no_ipv6_default_route(view: RuleInput) -> Judgement:
    """None, while IPv4 has one. A warning where somebody needs it: a v6 pool with natOutgoing, or an outside target over IPv6."""
    facts = view.snapshot.host_facts
    if facts is None or facts.routes is None:
        return reader_reason(view, Reader.ROUTES)
    if _holds(node_ipv6_disabled(view)) or _holds(node_no_ipv6_address(view)):
        return ()
    if facts.default_routes(Family.V6) or not facts.default_routes(Family.V4):
        return ()
    pools = [
        p.name
        for p in view.inventory.pools or ()
        if p.nat_outgoing and not p.disabled and family_of(p.cidr) is Family.V6
    ]
    outside = [o.target.name for o in view.snapshot.kept if o.family is Family.V6 and o.target.group.value == "outside"]
    needed = [f"pool {n} has natOutgoing" for n in pools] + [f"target {n} names IPv6" for n in sorted(set(outside))]
    return (
        finding(
            Cause.NODE_NO_IPV6_DEFAULT_ROUTE,
            [_me(view)],
            evidence=["the main table has no ::/0, and has 0.0.0.0/0", *needed[:5]],
            command="ip -6 route show default",
            severity=Severity.WARNING if needed else Severity.INFO,
        ),
    )


def node_forwarding_off(view: RuleInput) -> Judgement:
    """IPv6 forwarding off on a node that has pods. Felix sets it once at its start and does not repair it."""
    facts = view.snapshot.host_facts
    if facts is None or facts.all_conf is None:
        return reader_reason(view, Reader.LINKS)
    if view.inventory.nodes is None and view.inventory.pools is None:
        return Reason.NO_INVENTORY  # a host that is no node need not forward
    if facts.all_conf.forwarding or _holds(node_ipv6_disabled(view)):
        return ()
    evidence = ["net.ipv6.conf.all.forwarding = 0"]
    if facts.forwarding_v4:
        evidence.append("net.ipv4.ip_forward = 1")
    return (
        finding(
            Cause.NODE_FORWARDING_OFF, [_me(view)], evidence=evidence, command="sysctl net.ipv6.conf.all.forwarding"
        ),
    )


def node_accept_ra_ignored(view: RuleInput) -> Judgement:
    """Forwarding on and accept_ra < 2, on an interface that lives from router advertisements which the kernel now ignores."""
    facts = view.snapshot.host_facts
    if facts is None or facts.links is None or facts.routes is None or facts.addresses is None:
        return reader_reason(view, Reader.LINKS)
    defaults = facts.default_routes(Family.V6) or ()
    found = [
        link for link in facts.links if link.inet6 is not None and _ignores(link.inet6) and _lives_from_ra(link, facts)
    ]
    lost = [link for link in found if not defaults or all(_expiring(r, link, view) for r in defaults)]
    if not lost:
        return ()
    evidence = [
        f"{link.name}: forwarding = 1, accept_ra = {link.inet6.accept_ra if link.inet6 else '?'}; {_left(defaults)}"
        for link in lost
    ]
    return (
        finding(
            Cause.NODE_ACCEPT_RA_IGNORED,
            [_me(view)],
            evidence=evidence,
            command=f"sysctl net.ipv6.conf.{lost[0].name}.accept_ra net.ipv6.conf.{lost[0].name}.forwarding",
        ),
    )


def pod_route_missing(view: RuleInput) -> Judgement:
    """A local pod has an IPv6 address and the host no route to it: the longest match is none, the default, or the block's blackhole."""
    facts = view.snapshot.host_facts
    if facts is None or facts.routes is None:
        return reader_reason(view, Reader.ROUTES)
    pods = [
        p
        for p in view.snapshot.pods
        if p.facts is not None and p.vantage.state in {PodState.ELIGIBLE, PodState.INTERCEPTED}
    ]
    if not pods:
        return reason_of_no_pods(view)
    if view.inventory.pods is None:
        return Reason.NO_INVENTORY
    if _holds(node_ipv6_disabled(view)):
        return ()
    missing: list[tuple[Subject, str]] = []
    table = _RoutesByLength(r for r in facts.routes if r.family is Family.V6)
    annotated = {Subject.of(SubjectKind.POD, p.key): p.annotated_ips for p in view.inventory.local_pods(view.node)}
    for pod in pods:
        held = {a.interface.ip for a in (pod.facts.addresses if pod.facts else ())}
        for address in dict.fromkeys((*pod.vantage.addresses, *annotated.get(pod.vantage.subject, ()))):
            said = table.verdict(address) if isinstance(address, IPv6Address) and address in held else None
            if said:
                why = "" if address in pod.vantage.addresses else UNREPORTED
                missing.append((pod.vantage.subject, f"{address}: {said}{why}"))
    if not missing:
        return ()
    return (
        finding(
            Cause.POD_ROUTE_MISSING,
            [subject for subject, _ in missing],
            evidence=[f"{subject} {said}" for subject, said in missing[:5]],
            command=f"ip -6 route get {missing[0][1].split(': ')[0]}",
            affects_destinations=services_behind(
                view.inventory, [p.vantage for p in pods if p.vantage.subject in {s for s, _ in missing}]
            ),
        ),
    )


class _RoutesByLength:
    """Longest-prefix match over a frozen set of routes."""

    def __init__(self, routes: Iterable[RouteFact]) -> None:
        self._table: dict[int, dict[int, RouteFact]] = {}
        for route in routes:
            prefix = route.destination
            self._table.setdefault(prefix.prefixlen, {})[int(prefix.network_address)] = route

    def verdict(self, address: IPv6Address) -> str:
        """Empty when a specific unicast route leads there; else what is found instead."""
        for length in sorted(self._table, reverse=True):
            net = ip_network((address, length), strict=False)
            route = self._table[length].get(int(net.network_address))
            if route is None:
                continue
            if route.type == "blackhole":
                return f"no route of its own, it falls into blackhole {route.destination}"
            if route.is_default or route.type != "unicast":
                break
            return ""
        return "no route of its own"


def own_link(view: RuleInput, facts: HostFacts) -> LinkFact | None:
    """The link that holds an InternalIP of the node, else that of the IPv4 default route."""
    node = view.inventory.node(view.node)
    internal = set(node.internal_ips) if node is not None else set()
    holder = next((a.link for a in facts.addresses or () if a.interface.ip in internal), None)
    if holder is None:
        holder = next((r.link for r in facts.default_routes(Family.V4) or ()), None)
    return next((link for link in facts.links or () if link.name == holder), None)


def reader_reason(view: RuleInput, reader: Reader) -> Reason:
    """Why a kernel reading is missing, as its reader said."""
    reading = next((r for r in view.snapshot.readings if r.reader == reader.value and not r.success), None)
    return (reading.reason if reading is not None else None) or Reason.READER_FAILED


def reason_of_no_pods(view: RuleInput) -> Reason:
    """Why no pod could be looked into: there is none, or what there is was hidden from the reader of namespaces."""
    hidden = any(p.vantage.state is PodState.UNREADABLE for p in view.snapshot.pods)
    unread = any(r.reader == Reader.NAMESPACES.value and not r.success for r in view.snapshot.readings)
    return reader_reason(view, Reader.NAMESPACES) if hidden and unread else Reason.NO_PODS


def _holds(judgement: Judgement) -> bool:
    """Whether a cause was found; one that could not be told stands in nobody's way."""
    return bool(judgement) and not isinstance(judgement, Reason)


def _me(view: RuleInput) -> Subject:
    return Subject.of(SubjectKind.NODE, view.node)


def _flaw(address: AddressFact) -> str:
    return "a duplicate (dadfailed)" if address.dadfailed else "tentative"


def _ignores(conf: Inet6Conf) -> bool:
    return conf.forwarding == 1 and conf.accept_ra < 2


def _lives_from_ra(link: LinkFact, facts: HostFacts) -> bool:
    if any(
        a.link == link.name and a.family is Family.V6 and a.is_global and not a.permanent for a in facts.addresses or ()
    ):
        return True
    return any(r.link == link.name and r.family is Family.V6 and r.from_ra for r in facts.routes or ())


def _expiring(route: RouteFact, link: LinkFact, view: RuleInput) -> bool:
    """Whether the route came from RA and runs out. With accept_ra = 0 a daemon in user space may renew it: then it must be seen falling."""
    if not route.from_ra or route.expires is None or route.link != link.name:
        return False
    if link.inet6 is not None and link.inet6.accept_ra == 1:
        return True
    before = view.previous.host_facts if view.previous is not None else None
    earlier = next((r for r in (before.routes if before else None) or () if _same(r, route)), None)
    return (
        earlier is not None
        and earlier.expires is not None
        and route.expires < earlier.expires
        and route.expires < EXPIRING
    )


def _same(one: RouteFact, other: RouteFact) -> bool:
    return (one.destination, one.gateway, one.link) == (other.destination, other.gateway, other.link)


def _left(defaults: tuple[RouteFact, ...]) -> str:
    if not defaults:
        return "no IPv6 default route is left"
    return f"its default route expires in {min(r.expires or 0 for r in defaults):.0f} s and nothing renews it"


NODE_RULES: dict[Cause, Rule] = {
    Cause.NODE_IPV6_DISABLED: node_ipv6_disabled,
    Cause.NODE_NO_IPV6_ADDRESS: node_no_ipv6_address,
    Cause.NODE_NO_IPV6_DEFAULT_ROUTE: node_no_ipv6_default_route,
    Cause.NODE_FORWARDING_OFF: node_forwarding_off,
    Cause.NODE_ACCEPT_RA_IGNORED: node_accept_ra_ignored,
    Cause.POD_ROUTE_MISSING: pod_route_missing,
}
