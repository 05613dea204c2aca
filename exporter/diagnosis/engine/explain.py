"""Applies the table of explanations (explanations.py) by (vantage, destination, family). After the rules; pure.

A finding with pairs is explained when every pair of it is covered, by one or several found causes. A finding without
pairs is explained subject by subject, through the second table. What is left keeps only what is not covered. A cause
about other nodes explains nothing of this one except traffic to them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from exporter.diagnosis.endpoints import API_TARGET, DNS_SERVER, DNS_TARGET, NODE_LOCAL_SERVER, OWN_TARGET
from exporter.diagnosis.engine.explanations import (
    FOLLOWS,
    LAST_SYMPTOMS,
    PATH_CAUSES,
    REACHES,
    REFUSES,
    SYMPTOMS,
    WITHHOLD,
    From,
    To,
)
from exporter.model.cause import Cause, Severity
from exporter.model.report import Finding, Found
from exporter.model.subject import Pair, Subject, SubjectKind

SERVICE_DESTINATIONS = frozenset({OWN_TARGET, API_TARGET, DNS_TARGET, DNS_SERVER})
CLUSTER_SERVERS = frozenset({DNS_SERVER, NODE_LOCAL_SERVER})  # CoreDNS answers behind them
OTHER_NODES = (SubjectKind.PEER, SubjectKind.POD)


@dataclass(frozen=True, slots=True, kw_only=True)
class Explained:
    """A finding after explanation: whole and explained by one cause, or what is left of it.

    `roots`: for each pair that was covered, the unexplained cause behind it.
    """

    finding: Finding
    by: Cause | None = None
    elsewhere: bool = False
    roots: Mapping[Pair, Cause] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Explainer:
    """What may explain a finding, and the unexplained cause behind it: itself, or what explains it."""

    found: Found
    root: Cause

    @property
    def order(self) -> tuple[bool, int]:
        return self.found.elsewhere, tuple(Cause).index(self.root)


def explain(findings: tuple[Finding, ...], elsewhere: Iterable[Found] = (), *, node: str = "") -> tuple[Explained, ...]:
    """Apply the table. `by` is always an unexplained cause; with several, the first in table order.

    `node` is the one that the findings are about; without it, a cause about any node counts as one about this.

    Causes of severity info explain nothing, unless what they explain raises them (see `escalated`). A cause of the
    digest explains only what is not more severe than itself. Explanation starts at the roots: a cause that is itself
    explained passes on its root.
    """
    told = [_Explainer(replace(f, elsewhere=True), f.cause) for f in elsewhere if f.severity is not Severity.INFO]
    known: list[_Explainer] = []
    result: dict[int, Explained] = {}
    for index in sorted(range(len(findings)), key=lambda i: _depth(findings[i].cause)):
        made = result[index] = _explain_one(findings[index], [*known, *told], node)
        if findings[index].severity is not Severity.INFO or findings[index].cause in REFUSES:
            known.append(_witness(made, told))
    return tuple(result[i] for i in range(len(findings)))


def _witness(made: Explained, told: Iterable[_Explainer]) -> _Explainer:
    """A finding that was judged: with the pairs that are left of it, or as a witness of its root."""
    severity = made.finding.severity
    if made.elsewhere:
        severities = (t.found.severity for t in told if t.root is made.by)
        severity = max(severities, key=lambda s: s.rank, default=severity)
    found = replace(made.finding, severity=severity, elsewhere=made.elsewhere)
    return _Explainer(found, made.by or found.cause)


def escalated(explained: tuple[Explained, ...]) -> tuple[Explained, ...]:
    """Within a report an explaining cause takes the highest severity of what it explains."""
    worst: dict[Cause, Severity] = {}
    for item in explained:
        if item.by is not None and not item.elsewhere:
            worst[item.by] = max(worst.get(item.by, Severity.INFO), item.finding.severity, key=lambda s: s.rank)
    return tuple(item if item.by else raised(item, worst.get(item.finding.cause)) for item in explained)


def raised(item: Explained, severity: Severity | None) -> Explained:
    """With this severity, if that is higher than its own."""
    if severity is None or severity.rank <= item.finding.severity.rank:
        return item
    return replace(item, finding=replace(item.finding, severity=severity))


def _depth(cause: Cause) -> int:
    """Roots first: stated causes, then what follows from them, then path symptoms, dns symptoms, and targets."""
    if cause in SYMPTOMS:
        return len(Cause) + (cause in LAST_SYMPTOMS) + (cause is Cause.TARGET_DOWN)
    return 1 + max(map(_depth, FOLLOWS[cause])) if cause in FOLLOWS else 0


def _explain_one(finding: Finding, known: Iterable[_Explainer], node: str) -> Explained:
    """Causes that are roots themselves come before those that only witness their root."""
    able = [k for k in known if not k.found.elsewhere or k.found.severity.rank >= finding.severity.rank]
    ordered = sorted(able, key=lambda k: (k.found.cause is not k.root, *k.order))
    if finding.cause in FOLLOWS:
        return _follow(finding, [k for k in ordered if k.found.cause in FOLLOWS[finding.cause]], node)
    if finding.cause not in SYMPTOMS or not finding.pairs:
        return Explained(finding=finding)
    usable = [k for k in ordered if k.found.cause not in PATH_CAUSES or finding.cause in LAST_SYMPTOMS]
    cover = {
        pair: next((k for k in usable if _may_be(k.found, finding, pair) and _covers(k.found, pair, node)), None)
        for pair in sorted(finding.pairs)
    }
    roots = {pair: by.root for pair, by in cover.items() if by is not None}
    left = frozenset(cover.keys() - roots.keys())
    if left:
        return Explained(finding=finding if left == finding.pairs else _narrow(finding, left), roots=roots)
    first = min((k for k in cover.values() if k is not None), key=lambda k: k.order)
    return Explained(finding=finding, by=first.root, elsewhere=first.found.elsewhere, roots=roots)


def _follow(finding: Finding, reasons: list[_Explainer], node: str) -> Explained:
    """Subject by subject; the first of the reasons that accounts for one is named."""
    cover = [
        next((i for i, k in enumerate(reasons) if _accounts_for(k.found, s, node)), None) for s in finding.subjects
    ]
    left = tuple(s for s, by in zip(finding.subjects, cover, strict=True) if by is None)
    if left or not cover:
        return Explained(finding=finding if left == finding.subjects else without(finding, left))
    first = reasons[min(i for i in cover if i is not None)]
    return Explained(finding=finding, by=first.root, elsewhere=first.found.elsewhere)


def _may_be(found: Found, finding: Finding, pair: Pair) -> bool:
    """Whether the cause fits what was seen: an echo that came back shows that nothing cuts the path.

    A Service is dialled by TCP only; the wrong MTU of a tunnel or a pod affects full-size packets only.
    """
    if finding.cause is Cause.IPV6_MTU_BLACKHOLE:
        return found.cause in {Cause.VXLAN_MISCONFIGURED, Cause.POD_MTU_ABOVE_TUNNEL}
    if found.cause is Cause.POD_MTU_ABOVE_TUNNEL:
        return False
    if Cause.TARGET_REFUSES_IPV6 is finding.cause or found.cause is Cause.POD_LISTENS_IPV4_ONLY:
        return finding.cause is Cause.TARGET_REFUSES_IPV6 and found.cause in REFUSES
    if finding.cause in {Cause.IPV6_TCP_BLOCKED, Cause.IPV6_TLS_FAILED}:
        return _is_service(pair.destination)
    return True


def _accounts_for(found: Found, subject: Subject, node: str) -> bool:
    """Whether the cause, by its own subjects, concerns this one: the same node, or a nameserver in front of CoreDNS."""
    if found.cause is Cause.COREDNS_TEMPLATE_BLOCKS_AAAA and subject.is_a(SubjectKind.SERVER):
        return subject in CLUSTER_SERVERS or _is_named_server(subject)
    if found.cause is Cause.DNS_AAAA_BLOCKED and subject.is_a(SubjectKind.SERVICE):
        return not CLUSTER_SERVERS.isdisjoint(found.subjects)
    nodes = _nodes(found)
    if any(s.is_a(SubjectKind.POD) for s in found.subjects) and (subject.is_a(SubjectKind.POD) or not nodes):
        return subject in found.subjects
    if not nodes or not node:
        return True
    if subject.is_a(SubjectKind.NODE):
        return subject in nodes
    return _node(node) in nodes or (subject.is_a(SubjectKind.PEER) and _node(subject.name) in nodes)


def _node(name: str) -> Subject:
    return Subject.of(SubjectKind.NODE, name)


def _nodes(found: Found) -> frozenset[Subject]:
    return frozenset(s for s in found.subjects if s.is_a(SubjectKind.NODE))


def _narrow(finding: Finding, left: frozenset[Pair]) -> Finding:
    kept = {end for pair in left for end in (pair.vantage, pair.destination)}
    return replace(finding, pairs=left, subjects=tuple(s for s in finding.subjects if s in kept) or tuple(sorted(kept)))


def without(finding: Finding, left: tuple[Subject, ...]) -> Finding:
    """What is left of a finding, with only its own evidence where lines begin with their subject."""
    own = tuple(line for line in finding.evidence if line.startswith(tuple(f"{subject} " for subject in left)))
    return replace(finding, subjects=left, evidence=own or finding.evidence)


def _covers(found: Found, pair: Pair, node: str) -> bool:
    """Whether this cause accounts for the failure of this pair: by the table, or as an endpoint behind the destination.

    A cause about one family explains nothing that fails over the other; but a name without addresses has those of
    neither, although one kind of records was withheld.
    """
    if not {found.cause.spec.family, found.family} <= {None, pair.family} and found.cause not in WITHHOLD:
        return False
    return pair.destination in found.affects_destinations or any(
        found.cause in reach.causes
        and _from(reach.vantages, found, pair)
        and _to(reach.destinations, found, pair, node)
        for reach in REACHES
    )


def _from(vantages: From, found: Found, pair: Pair) -> bool:
    match vantages:
        case From.OWN_POD:
            return pair.vantage.is_a(SubjectKind.POD) and pair.vantage in found.subjects
        case From.PODS:
            return pair.vantage.is_a(SubjectKind.POD)
        case From.HOST:
            return pair.vantage.is_a(SubjectKind.NODE)
        case From.ANYWHERE:
            return True


def _to(destinations: To, found: Found, pair: Pair, node: str) -> bool:
    to = pair.destination
    on_others = to.is_a(*OTHER_NODES) or _is_named_server(to)
    match destinations:
        case To.ANYTHING:
            return True
        case To.PEERS:
            return (on_others or (_is_service(to) and to != API_TARGET)) and _leads_there(found, to, node)
        case To.OUTSIDE:
            return not (on_others or _is_service(to) or to in CLUSTER_SERVERS)
        case To.SERVICES:
            return _is_service(to) or _is_named_server(to)
        case To.OWN_PEER | To.OWN_SERVICES:
            return to in found.subjects
        case To.OWN_SERVERS:  # a nameserver and the target that dials it are one destination
            return any(
                (p.vantage, p.family, p.destination.rest) == (pair.vantage, pair.family, to.rest) for p in found.pairs
            )


def _is_service(subject: Subject) -> bool:
    return subject.is_a(SubjectKind.SERVICE) or subject in SERVICE_DESTINATIONS


def _is_named_server(subject: Subject) -> bool:
    """Whether this is a nameserver that is called by its Service's namespace and name."""
    return subject.is_a(SubjectKind.SERVER) and "/" in subject.rest


def _leads_there(found: Found, destination: Subject, node: str) -> bool:
    """A cause about other nodes affects the path to these only; behind a Service there may be any of them."""
    nodes = _nodes(found)
    if not nodes or not node or _node(node) in nodes or not destination.is_a(SubjectKind.PEER):
        return True
    return _node(destination.name) in nodes
