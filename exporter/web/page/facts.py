"""The page's lower part: the node's kernel, the objects by family, what was not checked or read, and why. No I/O."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from exporter.catalogue.kernel import address_state, pool_masqueraded, tunnel_peers
from exporter.catalogue.metric import FinishedRound
from exporter.diagnosis.census import Census, Progress
from exporter.diagnosis.rules.node.masquerade import masquerade
from exporter.model.cause import Role
from exporter.model.cluster.inventory import InventoryOrigin
from exporter.model.facts import HostFacts, PeerState, Reader, ReaderStatus, RouteFact, VxlanDevice
from exporter.model.family import Family
from exporter.model.grouping import grouped
from exporter.model.probe import Outcome
from exporter.model.reason import Reason
from exporter.model.report import Report
from exporter.report.document import age, few
from exporter.web.page.markup import (
    EMPTY,
    FAMILIES,
    Html,
    class_of,
    definitions,
    details,
    element,
    head_row,
    join,
    number,
    section,
    table,
)

REASONS: Mapping[Reason, str] = {
    Reason.NOT_APPLICABLE: "does not apply here",
    Reason.SINGLE_STACK: "the family is not expected",
    Reason.NO_INVENTORY: "needs Kubernetes objects that were not read",
    Reason.STALE_INVENTORY: "the inventory is too old",
    Reason.NOT_ALLOWED: "only pods name these nameservers: dns.allow lets them be asked",
    Reason.NO_PERMISSION: "a permission is missing",
    Reason.LSM: "denied by AppArmor or SELinux",
    Reason.API_UNAVAILABLE: "the Kubernetes API does not answer",
    Reason.NO_VANTAGE: "nowhere to probe from",
    Reason.NO_TARGET: "no target to probe",
    Reason.NO_PEER: "no other node",
    Reason.NO_PODS: "no pods",
    Reason.NO_REFERENCE: "no trusted resolver to compare with",
    Reason.POLICY: "an egress policy selects the pods",
    Reason.TOO_FEW_SAMPLES: "too few results yet",
    Reason.READER_FAILED: "the state could not be read",
    Reason.KERNEL: "this kernel does not support it",
}

API_READER = "api_"  # prefix of the readers of Kubernetes objects (inventory/kubernetes/watch_state.py)


def kernel_section(report: Report) -> Html:
    """The node's kernel in short: addresses and routes, NAT, tunnel, limits."""
    facts = report.snapshot.host_facts
    if facts is None or report.snapshot.role is Role.CLUSTER:
        return EMPTY
    cards = (
        ("Addresses and routes", list(_addressing(report, facts))),
        ("NAT outgoing", [*_nat(report, facts), *_masquerade(report)]),
        ("Tunnel", list(_tunnel(report, facts))),
        ("Kernel", list(_limits(facts))),
    )
    shown = [element("div", element("h3", name), definitions(rows), class_="card") for name, rows in cards if rows]
    return section("kernel", "This node's kernel", element("div", *shown, class_="facts")) if shown else EMPTY


def _sign(good: bool | None, words: str) -> Html:
    """A fact with its sign; None: neither good nor bad."""
    if good:
        return join(element("span", "✓", class_=class_of(good)), f" {words}")
    return element("span", words if good is None else f"✗ {words}", class_=class_of(good))


def _missing(report: Report, family: Family) -> bool | None:
    """How a missing address or route is judged: bad where the family is expected, else neither good nor bad."""
    state = report.families.get(family)
    return False if state is not None and state.expected else None


def _addressing(report: Report, facts: HostFacts) -> Iterator[tuple[str, Html]]:
    for family in FAMILIES:
        lack = _missing(report, family)
        if facts.addresses is not None:
            states = Counter(address_state(a) for a in facts.addresses if a.is_global and a.family is family)
            words = ", ".join(f"{count} {state}" for state, count in states.items()) or "none"
            yield f"{family.value} address", _sign(True if states["usable"] else lack, f"{words} (global)")
        routes = facts.default_routes(family)
        if routes is not None:
            words = "; ".join(_route(route) for route in routes) or "none"
            yield f"{family.value} default", _sign(True if routes else lack, words)
    if facts.all_conf is not None:
        on, lack = facts.all_conf.forwarding != 0, _missing(report, Family.V6)
        yield "IPv6 forwarding", _sign(True if on else lack, "on" if on else "off")
        if facts.all_conf.disable_ipv6:
            yield "IPv6", _sign(lack, "disabled by sysctl (all.disable_ipv6)")


def _route(route: RouteFact) -> str:
    words = f"via {route.gateway} on {route.link}" if route.gateway is not None else f"on {route.link}"
    if route.from_ra:
        words += ", from a router advertisement"
    return words + (f", expires in {age(route.expires)}" if route.expires is not None else "")


def _nat(report: Report, facts: HostFacts) -> Iterator[tuple[str, Html]]:
    if facts.nat is None:
        return
    for family in FAMILIES:
        live = facts.nat.live(family)
        if live is None:
            if any(f is family for f, _ in facts.nat.unread):
                yield family.value, _sign(good=None, words="? not read")
            continue
        rules = number(len(live.rules), "rule")
        hooked = "" if live.hooked else ", not reached from any hook"
        others = sorted({b.backend.value for b in facts.nat.of(family) if b.backend is not live.backend})
        left = f"; leftovers in {', '.join(others)}" if others else ""
        yield family.value, element("span", f"{live.backend.value}: {rules} in cali-nat-outgoing{hooked}{left}")
    for (_, pool), value in sorted(pool_masqueraded(FinishedRound(report))):
        yield f"pool {pool}", _sign(bool(value), "masqueraded" if value else "natOutgoing is on, but not masqueraded")


def _masquerade(report: Report) -> Iterator[tuple[str, Html]]:
    """What leaves the cluster, where the rules of another CNI than Calico say it."""
    shown = masquerade(report.snapshot)
    if shown is not None and shown.holds is None:
        yield "pods' IPv6", _sign(good=None, words=f"? not known: {few(shown.doubts, 3)}")
    elif shown is not None:
        yield "pods' IPv6", _sign(good=shown.holds or None, words="masqueraded" if shown.holds else "not masqueraded")


def _tunnel(report: Report, facts: HostFacts) -> Iterator[tuple[str, Html]]:
    counted = tunnel_peers(report.snapshot)
    for device in facts.vxlan.devices.values() if facts.vxlan is not None else ():
        peers = counted.get(device.name)
        yield device.name, _sign(device.up and device.lower_up, _device(device))
        if peers:
            words = ", ".join(f"{count} {state.value.replace('_', ' ')}" for state, count in sorted(peers.items()))
            yield "peers", _sign(not peers.keys() - {PeerState.COMPLETE}, words)


def _device(device: VxlanDevice) -> str:
    state = "up" if device.up and device.lower_up else "no carrier" if device.up else "down"
    if device.flow_based:
        return f"{state}, MTU {device.mtu}, flow-based (eBPF)"
    named = (("VNI", device.vni), ("UDP", device.port), ("over", device.parent or None))
    return ", ".join([state, f"MTU {device.mtu}", *(f"{name} {value}" for name, value in named if value is not None)])


def _limits(facts: HostFacts) -> Iterator[tuple[str, Html]]:
    limits = facts.limits
    if limits.kernel_release:
        yield "Release", element("span", limits.kernel_release)
    if limits.conntrack_count is not None and limits.conntrack_max:
        share = limits.conntrack_count / limits.conntrack_max
        words = f"{limits.conntrack_count:,} tracked of {limits.conntrack_max:,} ({share:.0%})"
        yield "Connections", _sign(share < 0.9, words)
    if facts.kube_proxy is not None and facts.kube_proxy.mode != "none":
        services = {f: facts.kube_proxy.services.get(f) for f in FAMILIES}
        words = ", ".join(f"{f.value} {'?' if v is None else '✓' if v else '✗'}" for f, v in services.items())
        yield "kube-proxy", element("span", f"{facts.kube_proxy.mode}: {words}")


def migration_section(report: Report) -> Html:
    """Objects by family; empty for a role that reads one node's objects only."""
    census = FinishedRound(report).census
    if not census.progress:
        return EMPTY
    head = head_row("", *(f"have {family.value}" for family in FAMILIES), "have both")
    objects = table("Objects by family", head, [_progress(census, progress) for progress in census.progress], "names")
    unexpected = {family for family, state in report.families.items() if state.expected is False}
    lists = []
    for lacking in census.lacking:
        if lacking.family not in unexpected:
            summary = f"{lacking.resource.value} without {lacking.family.value}: {lacking.total}"
            lists.append(details(summary, few(lacking.names, len(lacking.names), lacking.total)))
    link = element("p", element("a", "The steps that are left, in order", href="/migration"))
    return section("migration", "Migration to dual-stack", objects, *lists, link)


def _progress(census: Census, progress: Progress) -> Html:
    having = {c.family: c.having for c in census.counts if c.resource is progress.resource and not c.namespace}
    share = f" ({progress.ratio:.0%})" if progress.ratio is not None else ""
    both = f"{progress.dual} of {progress.total}{share}"
    return element(
        "tr",
        element("th", progress.resource.value, scope="row"),
        *(element("td", str(having.get(family, 0))) for family in FAMILIES),
        element("td", f"✓ {both}" if progress.dual == progress.total else both),
    )


def unchecked_section(report: Report) -> Html:
    if not report.unchecked:
        return EMPTY
    rows = sorted(grouped(report.unchecked, lambda u: u.reason).items(), key=lambda item: (-len(item[1]), item[0]))
    parts = (
        details(f"{len(found)}: {REASONS[reason]} ({reason.value})", ", ".join(u.cause.value for u in found))
        for reason, found in rows
    )
    note = number(len(report.unchecked), "cause")
    return section("unchecked", "Not checked", element("div", *parts, class_="card"), note=note)


def blind_section(report: Report) -> Html:
    items = [_unread(reader) for reader in report.snapshot.readings if not reader.success]
    if any(o.outcome is Outcome.NO_PERMISSION for o in report.snapshot.observations):
        items.append(element("li", "? ICMP: some probes were refused; needs CAP_NET_RAW"))
    if report.snapshot.inventory.source is InventoryOrigin.NONE:
        judged = any(state.expected is not None for state in report.families.values())
        hint = "" if judged else "; set families in the configuration to have them judged"
        items.append(element("li", f"? Kubernetes: without an inventory nothing shows what is expected{hint}"))
    return section("blind", "Cannot be read", element("ul", *items, class_="card")) if items else EMPTY


def _unread(status: ReaderStatus) -> Html:
    """One reader that failed: of Kubernetes objects of one kind, or of the kernel."""
    kind = status.reader.removeprefix(API_READER) if status.reader.startswith(API_READER) else ""
    reader = next((r for r in Reader if r.value == status.reader), None)
    what, capability = (reader.shows, reader.capability) if reader else (f"Kubernetes {kind}", "")
    reason = status.reason or Reason.READER_FAILED
    needs = ""
    if reason is Reason.NO_PERMISSION:
        needs = "; RBAC does not allow it" if kind else f"; needs {capability}" if capability else ""
    detail = element("small", f" ({status.detail})", class_="soft") if status.detail else ""
    return element("li", f"? {what[:1].upper()}{what[1:]}: {REASONS[reason]}{needs}", detail)
