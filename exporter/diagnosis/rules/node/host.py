"""Causes that the host's network namespace shows: sysctls, addresses, default route, routes to its pods. Pure rules.

With IPv6 off there is no address, and without an address no route is needed: only the first of the three is reported.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import IPv6Address, ip_network
from operator import attrgetter

from exporter.diagnosis.endpoints import services_behind
from exporter.diagnosis.engine.rule_input import Judgement, RuleInput
from exporter.diagnosis.rules.judging import found, inspected, reader_reason, reason_of_no_pods, this_node
from exporter.model.cause import Cause, Severity
from exporter.model.facts import HostFacts, LinkFact, PodFacts, Reader, RouteFact
from exporter.model.family import Family
from exporter.model.probe import Group
from exporter.model.reason import Reason
from exporter.model.vantage import Vantage

TUNNELS = ("vxlan", "cali", "tunl", "wireguard", "nodelocaldns", "kube-ipvs")
# Felix takes a pod's addresses from status.podIPs and removes the routes of others (felix's removeExternalRoutes).
UNREPORTED = "; cni.projectcalico.org/podIPs names it and status.podIPs does not"
EXPIRING = 600.0  # seconds left on a route that nothing renews


def node_ipv6_disabled(view: RuleInput) -> Judgement:
    """all.disable_ipv6, or that of the node's own link."""
    facts = view.snapshot.kernel
    if facts.all_conf is None or facts.links is None:
        return reader_reason(view, Reader.LINKS)
    where = ["net.ipv6.conf.all.disable_ipv6 = 1"] if facts.all_conf.disable_ipv6 else []
    own = _own_link(view, facts)
    if own is not None and own.inet6 is not None and own.inet6.disable_ipv6:
        where.append(f"net.ipv6.conf.{own.name}.disable_ipv6 = 1")
    return found(
        Cause.NODE_IPV6_DISABLED,
        [this_node(view)],
        evidence=where,
        command="sysctl -a -r 'net.ipv6.conf.*.disable_ipv6'",
    )


def node_no_ipv6_address(view: RuleInput) -> Judgement:
    """No usable global address on the host; addresses of tunnels and gateways of pods do not count."""
    facts = view.snapshot.kernel
    if facts.addresses is None:
        return reader_reason(view, Reader.ADDRESSES)
    own = [a for a in facts.addresses if a.family is Family.V6 and a.is_global and not a.link.startswith(TUNNELS)]
    if _ipv6_is_disabled(view) or any(a.usable for a in own):
        return ()
    flaws = [f"{a.interface} on {a.link} is {'a duplicate (dadfailed)' if a.dadfailed else 'tentative'}" for a in own]
    return found(
        Cause.NODE_NO_IPV6_ADDRESS,
        [this_node(view)],
        evidence=flaws or ["no global IPv6 address on any link of the node"],
        command="ip -6 address show scope global",
    )


def node_no_ipv6_default_route(view: RuleInput) -> Judgement:
    """No IPv6 default route beside an IPv4 one. A warning where a pool's NAT or an outside target needs it."""
    facts = view.snapshot.kernel
    if facts.routes is None:
        return reader_reason(view, Reader.ROUTES)
    if _ipv6_is_disabled(view) or _holds(node_no_ipv6_address(view)):
        return ()
    if facts.default_routes(Family.V6) or not facts.default_routes(Family.V4):
        return ()
    pools = [p.name for p in view.inventory.enabled_pools(Family.V6) if p.nat_outgoing]
    outside = {o.target.name for o in view.snapshot.kept if o.family is Family.V6 and o.target.group is Group.OUTSIDE}
    needed = [f"pool {n} has natOutgoing" for n in pools] + [f"target {n} names IPv6" for n in sorted(outside)]
    return found(
        Cause.NODE_NO_IPV6_DEFAULT_ROUTE,
        [this_node(view)],
        evidence=["the main table has no ::/0, and has 0.0.0.0/0", *needed[:5]],
        command="ip -6 route show default",
        severity=Severity.WARNING if needed else Severity.INFO,
    )


def node_forwarding_off(view: RuleInput) -> Judgement:
    """IPv6 forwarding off on a node that has pods. Felix sets it once at its start and does not repair it."""
    facts = view.snapshot.kernel
    if facts.all_conf is None:
        return reader_reason(view, Reader.LINKS)
    if view.inventory.nodes is None and view.inventory.pools is None:
        return Reason.NO_INVENTORY  # a host that is no node need not forward
    if facts.all_conf.forwarding or _ipv6_is_disabled(view):
        return ()
    evidence = ["net.ipv6.conf.all.forwarding = 0", *(["net.ipv4.ip_forward = 1"] if facts.forwarding_v4 else [])]
    return found(
        Cause.NODE_FORWARDING_OFF, [this_node(view)], evidence=evidence, command="sysctl net.ipv6.conf.all.forwarding"
    )


def node_accept_ra_ignored(view: RuleInput) -> Judgement:
    """Forwarding on and accept_ra < 2 on a link that depends on router advertisements, which the kernel now ignores."""
    facts = view.snapshot.kernel
    if facts.links is None or facts.routes is None or facts.addresses is None:
        return reader_reason(view, Reader.LINKS)
    defaults = facts.default_routes(Family.V6) or ()
    ignoring = [link for link in facts.links if _ignores_ra(link) and _depends_on_ra(link, facts)]
    lost = [link for link in ignoring if not defaults or all(_expiring(r, link, view) for r in defaults)]
    if not lost:
        return ()
    rest = "no IPv6 default route is left"
    if defaults:
        seconds = min(route.expires or 0 for route in defaults)
        rest = f"its default route expires in {seconds:.0f} s and nothing renews it"
    return found(
        Cause.NODE_ACCEPT_RA_IGNORED,
        [this_node(view)],
        evidence=[
            f"{link.name}: forwarding = 1, accept_ra = {link.inet6.accept_ra if link.inet6 else '?'}; {rest}"
            for link in lost
        ],
        command=f"sysctl net.ipv6.conf.{lost[0].name}.accept_ra net.ipv6.conf.{lost[0].name}.forwarding",
    )


def _ipv6_is_disabled(view: RuleInput) -> bool:
    """Whether IPv6 is known to be off on the host: that one cause covers the others."""
    return _holds(node_ipv6_disabled(view))


def _holds(judgement: Judgement) -> bool:
    return bool(judgement) and not isinstance(judgement, Reason)


def _own_link(view: RuleInput, facts: HostFacts) -> LinkFact | None:
    """The link that has an InternalIP of the node, else that of the IPv4 default route."""
    node = view.inventory.node(view.node)
    internal = set(node.internal_ips) if node is not None else set()
    names = [a.link for a in facts.addresses or () if a.interface.ip in internal]
    names += [r.link for r in facts.default_routes(Family.V4) or ()]
    return next((link for link in facts.links or () if link.name in names[:1]), None)


def _ignores_ra(link: LinkFact) -> bool:
    return link.inet6 is not None and link.inet6.forwarding == 1 and link.inet6.accept_ra < 2


def _depends_on_ra(link: LinkFact, facts: HostFacts) -> bool:
    addresses = (a for a in facts.addresses or () if a.link == link.name and a.family is Family.V6)
    routes = (r for r in facts.routes or () if r.link == link.name and r.family is Family.V6)
    return any(a.is_global and not a.permanent for a in addresses) or any(r.from_ra for r in routes)


def _expiring(route: RouteFact, link: LinkFact, view: RuleInput) -> bool:
    """Whether a route from RA runs out. With accept_ra = 0 a daemon may renew it: then it must have come closer."""
    if not route.from_ra or route.expires is None or route.link != link.name:
        return False
    if link.inet6 is not None and link.inet6.accept_ra == 1:
        return True
    before = view.previous.kernel.routes if view.previous is not None else None
    same = attrgetter("destination", "gateway", "link")
    earlier = next((r for r in before or () if same(r) == same(route)), None)
    if earlier is None or earlier.expires is None:
        return False
    return route.expires < min(earlier.expires, EXPIRING)


def pod_route_missing(view: RuleInput) -> Judgement:
    """The longest match for a local pod's IPv6 address is none, the default route, or the block's blackhole."""
    routes = view.snapshot.kernel.routes
    if routes is None:
        return reader_reason(view, Reader.ROUTES)
    pods = inspected(view)
    if not pods:
        return reason_of_no_pods(view)
    if view.inventory.pods is None:
        return Reason.NO_INVENTORY
    missing = [] if _ipv6_is_disabled(view) else list(_missing(view, pods, routes))
    if not missing:
        return ()
    affected = dict.fromkeys(pod for pod, _, _ in missing)
    return found(
        Cause.POD_ROUTE_MISSING,
        (pod.subject for pod in affected),
        evidence=[f"{pod.subject} {address}: {problem}" for pod, address, problem in missing[:5]],
        command=f"ip -6 route get {missing[0][1]}",
        affects_destinations=services_behind(view.inventory, affected),
    )


def _missing(
    view: RuleInput, pods: Iterable[tuple[Vantage, PodFacts]], routes: Iterable[RouteFact]
) -> Iterator[tuple[Vantage, IPv6Address, str]]:
    """Addresses that a pod has and that the API or Calico names, and to which no route leads."""
    table = _RoutesByLength(r for r in routes if r.family is Family.V6)
    annotated = {p.subject: p.annotated_ips for p in view.inventory.local_pods(view.node)}
    for pod, facts in pods:
        own = {a.interface.ip for a in facts.addresses}
        for address in dict.fromkeys((*pod.addresses, *annotated.get(pod.subject, ()))):
            if isinstance(address, IPv6Address) and address in own and (problem := table.problem(address)):
                yield pod, address, problem + ("" if address in pod.addresses else UNREPORTED)


class _RoutesByLength:
    """Longest-prefix match over a frozen set of routes."""

    def __init__(self, routes: Iterable[RouteFact]) -> None:
        self._table: dict[int, dict[int, RouteFact]] = {}
        for route in routes:
            prefix = route.destination
            self._table.setdefault(prefix.prefixlen, {})[int(prefix.network_address)] = route

    def problem(self, address: IPv6Address) -> str:
        """Empty when a specific unicast route leads there; else what is found instead."""
        for length in sorted(self._table, reverse=True):
            net = ip_network((address, length), strict=False)
            route = self._table[length].get(int(net.network_address))
            if route is None:
                continue
            if route.type == "blackhole":
                return f"no route of its own, it falls into blackhole {route.destination}"
            return "no route of its own" if route.is_default or route.type != "unicast" else ""
        return "no route of its own"
