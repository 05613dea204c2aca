"""Causes that the host's network namespace shows: sysctls, addresses, default route, routes to its pods. Pure rules.

With IPv6 off there is no address, and without an address no route is needed: only the first of the three is reported.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import IPv6Address
from operator import attrgetter

from exporter.diagnosis.endpoints import services_behind
from exporter.diagnosis.engine.preconditions import has_calico_ipam, listed, unread
from exporter.diagnosis.engine.rule_input import Judgement, RuleInput
from exporter.diagnosis.host_links import (
    ipv6_tunnels,
    is_of_pod_network,
    links_to,
    own_link,
    own_route,
    route_table,
    way_out,
)
from exporter.diagnosis.rules.cluster.pools import UNIQUE_LOCAL
from exporter.diagnosis.rules.judging import found, inspected, reader_reason, reason_of_no_pods, this_node
from exporter.model.cause import Cause, Severity
from exporter.model.cluster.inventory import ResourceKind
from exporter.model.cluster.node import Node
from exporter.model.cni.profile import Cni, Effect
from exporter.model.facts import AddressFact, HostFacts, LinkFact, PodFacts, Reader, RouteFact
from exporter.model.family import Address, Family
from exporter.model.probe import Group
from exporter.model.reason import Reason
from exporter.model.vantage import Vantage

# Felix takes a pod's addresses from status.podIPs and removes the routes of others (felix's removeExternalRoutes).
UNREPORTED = "; cni.projectcalico.org/podIPs names it and status.podIPs does not"
SHOWN = 5
EXPIRING = 600.0  # seconds left on a route that nothing renews


def node_ipv6_disabled(view: RuleInput) -> Judgement:
    """all.disable_ipv6, or that of the node's own link."""
    facts = view.snapshot.kernel
    if facts.all_conf is None or facts.links is None:
        return reader_reason(view, Reader.LINKS)
    where = ["net.ipv6.conf.all.disable_ipv6 = 1"] if facts.all_conf.disable_ipv6 else []
    own = own_link(view)
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
    own = _own_addresses(facts.addresses)
    if _ipv6_is_disabled(view) or any(a.usable for a in own):
        return ()
    flaws = [f"{a.interface} on {a.link} is {'a duplicate (dadfailed)' if a.dadfailed else 'tentative'}" for a in own]
    return found(
        Cause.NODE_NO_IPV6_ADDRESS,
        [this_node(view)],
        evidence=flaws or ["no global IPv6 address on any link of the node"],
        command="ip -6 address show scope global",
    )


def _own_addresses(addresses: Iterable[AddressFact]) -> list[AddressFact]:
    """The host's own global IPv6 addresses: not those on links of the pod network."""
    return [a for a in addresses if a.family is Family.V6 and a.is_global and not is_of_pod_network(a.link)]


def node_ip_mismatch(view: RuleInput) -> Judgement:
    """An IPv6 InternalIP of the Node, or the address that the CNI announces for it, is on no link of the host."""
    addresses = view.snapshot.kernel.addresses
    if addresses is None:
        return reader_reason(view, Reader.ADDRESSES)
    node = view.inventory.node(view.node)
    if node is None:
        return unread(view.inventory, ResourceKind.NODES) if view.inventory.nodes is None else Reason.NOT_APPLICABLE
    if _ipv6_is_disabled(view) or _holds(node_no_ipv6_address(view)):
        return ()
    held = {a.interface.ip for a in addresses}
    named = {**{f"InternalIP {ip} of the Node": ip for ip in node.internal_ips}, **_announced(view, node)}
    absent = [name for name, ip in named.items() if ip.version == 6 and not ip.is_link_local and ip not in held]
    present = listed(f"{a.interface.ip} ({a.link})" for a in _own_addresses(addresses) if a.usable)
    return found(
        Cause.NODE_IP_MISMATCH,
        [this_node(view)],
        evidence=[f"{name} is on no link of the node, which has {present}" for name in absent],
        command=f"ip -6 address show scope global; kubectl get node {view.node} -o yaml",
    )


def _announced(view: RuleInput, node: Node) -> dict[str, Address]:
    """The address that other nodes use for this one, by the CNI's annotations; those of an earlier CNI may be stale."""
    calico, flannel = node.calico_address(Family.V6), node.flannel
    named: dict[str, Address | None] = {}
    if calico is not None and view.network.cni in {Cni.CALICO, Cni.UNKNOWN}:
        named["projectcalico.org/IPv6Address"] = calico.ip
    if flannel is not None and not flannel.overwritten and view.network.cni in {Cni.FLANNEL, Cni.UNKNOWN}:
        named["flannel.alpha.coreos.com/public-ipv6"] = flannel.address(Family.V6)
    return {f"{ip} of annotation {name}": ip for name, ip in named.items() if ip is not None}


def node_no_ipv6_default_route(view: RuleInput) -> Judgement:
    """No IPv6 default route, while IPv4 has one or is not expected. A warning where pods or an outside target need it.

    Pods need it if their IPv6 is masqueraded here, or if their addresses are global, so that this node routes them.
    """
    facts = view.snapshot.kernel
    if facts.routes is None:
        return reader_reason(view, Reader.ROUTES)
    if _ipv6_is_disabled(view) or _holds(node_no_ipv6_address(view)) or facts.default_routes(Family.V6):
        return ()
    has_ipv4 = bool(facts.default_routes(Family.V4))
    if not has_ipv4 and _wants_ipv4(view):
        return ()
    needed = _needs_default_route(view)
    return found(
        Cause.NODE_NO_IPV6_DEFAULT_ROUTE,
        [this_node(view)],
        evidence=["the main table has no ::/0" + (", and has 0.0.0.0/0" if has_ipv4 else ""), *needed[:5]],
        command="ip -6 route show default",
        severity=Severity.WARNING if needed else Severity.INFO,
    )


def _wants_ipv4(view: RuleInput) -> bool:
    """Whether the node is meant to have IPv4; where that is not known, whether it has an address of it."""
    expected = view.expected(Family.V4)
    if expected is not None:
        return expected
    return any(a.family is Family.V4 and a.is_global for a in view.snapshot.kernel.addresses or ())


def _needs_default_route(view: RuleInput) -> list[str]:
    """What would use the route."""
    pools = [p.name for p in view.inventory.enabled_pools(Family.V6) if p.nat_outgoing]
    pools = [] if has_calico_ipam(view.inventory, view.network) is False else pools  # leftovers
    outside = {o.target.name for o in view.snapshot.kept if o.family is Family.V6 and o.target.group is Group.OUTSIDE}
    masquerades = view.network.switch(Effect.MASQUERADE_IPV6)
    routed = (f"{pod.subject} has {ip}" for pod, _ in inspected(view) for ip in pod.addresses if _is_routed(ip))
    return [
        *(f"pool {name} has natOutgoing" for name in pools),
        *(f"target {name} names IPv6" for name in sorted(outside)),
        *([masquerades.text] if masquerades is not None and masquerades.on else []),
        *sorted(routed)[:1],
    ]


def _is_routed(address: Address) -> bool:
    """Whether the address is one that networks outside may route: not a unique local one."""
    return isinstance(address, IPv6Address) and address not in UNIQUE_LOCAL and not address.is_link_local


def node_forwarding_off(view: RuleInput) -> Judgement:
    """IPv6 forwarding off on a node that has pods. Felix sets it once at its start and does not repair it.

    The kernel forwards what arrives on a link where all.forwarding is set, or force_forwarding of the link (ip6_forward
    of net/ipv6/ip6_output.c, Linux 6.17). `forwarding` of a single link forwards nothing.
    """
    facts = view.snapshot.kernel
    if facts.all_conf is None:
        return reader_reason(view, Reader.LINKS)
    if view.inventory.nodes is None and view.inventory.pools is None:
        return Reason.NO_INVENTORY  # a host that is no node need not forward
    if facts.all_conf.forwarding or _ipv6_is_disabled(view):
        return ()
    links = [(link.name, link.inet6) for link in facts.links or () if link.name in _links_of_pods(view)]
    forced = [name for name, conf in links if conf is not None and conf.force_forwarding]
    off = [name for name, conf in links if conf is not None and not conf.force_forwarding]
    if forced and not off:
        return ()
    evidence = ["net.ipv6.conf.all.forwarding = 0", *(["net.ipv4.ip_forward = 1"] if facts.forwarding_v4 else [])]
    evidence += [f"net.ipv6.conf.{name}.force_forwarding = 0" for name in off[:SHOWN] if forced]
    return found(
        Cause.NODE_FORWARDING_OFF, [this_node(view)], evidence=evidence, command="sysctl net.ipv6.conf.all.forwarding"
    )


def _links_of_pods(view: RuleInput) -> frozenset[str]:
    """The links on which packets from and to pods arrive: the way out, the tunnels, and the pods' own."""
    to_pods = links_to(view, (ip for pod, _ in inspected(view) for ip in pod.addresses if ip.version == 6))
    return way_out(view) | to_pods | {device.name for device in ipv6_tunnels(view)}


def node_accept_ra_ignored(view: RuleInput) -> Judgement:
    """Forwarding on and accept_ra < 2 on a link that depends on router advertisements, which the kernel now ignores."""
    facts = view.snapshot.kernel
    if facts.links is None or facts.routes is None or facts.addresses is None:
        return reader_reason(view, Reader.LINKS)
    defaults = facts.default_routes(Family.V6) or ()
    depending = _links_on_ra(facts)
    ignoring = [link for link in facts.links if _ignores_ra(link) and link.name in depending]
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


def _ignores_ra(link: LinkFact) -> bool:
    return link.inet6 is not None and link.inet6.forwarding == 1 and link.inet6.accept_ra < 2


def _links_on_ra(facts: HostFacts) -> frozenset[str]:
    """The links with an address or a route from router advertisements."""
    addresses = (a for a in facts.addresses or () if a.family is Family.V6 and not a.permanent and a.is_global)
    routes = (r for r in facts.routes or () if r.from_ra and r.family is Family.V6)
    return frozenset(each.link for some in (addresses, routes) for each in some)


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
    missing = [] if _ipv6_is_disabled(view) else list(_missing(view, pods))
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


def _missing(view: RuleInput, pods: Iterable[tuple[Vantage, PodFacts]]) -> Iterator[tuple[Vantage, IPv6Address, str]]:
    """Addresses that a pod has and that the API or Calico names, and to which no route leads."""
    annotated = {p.subject: p.annotated_ips for p in view.inventory.local_pods(view.node)}
    for pod, facts in pods:
        own = {a.interface.ip for a in facts.addresses}
        for address in dict.fromkeys((*pod.addresses, *annotated.get(pod.subject, ()))):
            if isinstance(address, IPv6Address) and address in own and own_route(view, address) is None:
                route = route_table(view).match(address)
                falls = route.destination if route is not None and route.type == "blackhole" else None
                problem = "no route of its own" + (f", it falls into blackhole {falls}" if falls else "")
                yield pod, address, problem + ("" if address in pod.addresses else UNREPORTED)
