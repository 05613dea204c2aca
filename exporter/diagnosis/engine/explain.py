"""Applies the table of explanations (explanations.py) by (vantage, destination, family). Between the rules' findings and the verdict; pure.

A finding with pairs is explained when every pair of it is covered, by one or several found causes. A finding without
pairs (a stated one) is explained subject by subject, through the second table. What stays keeps what is not covered as
its subjects. A cause about other nodes explains nothing of this one but what leads there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from exporter.diagnosis.engine.causes import SPECS
from exporter.diagnosis.engine.explanations import (
    DNS_SYMPTOMS,
    FOLLOWS,
    PATH_CAUSES,
    REACHES,
    SYMPTOMS,
    From,
    Reach,
    To,
)
from exporter.model.report import Cause, Finding, Found, Pair, Severity
from exporter.model.subject import Subject, SubjectKind


@dataclass(frozen=True, slots=True, kw_only=True)
class Explained:
    """A finding after explanation: whole and explained by one cause, or what is left of it.

    `roots`: of each pair that was covered, the cause that it leads back to.
    """

    finding: Finding
    by: Cause | None
    elsewhere: bool = False
    roots: Mapping[Pair, Cause] = field(default_factory=dict)


INSIDE = (
    Subject.of(SubjectKind.TARGET, "service"),
    Subject.of(SubjectKind.TARGET, "apiserver"),
    Subject.of(SubjectKind.TARGET, "cluster_dns"),
    "service/",
    Subject.of(SubjectKind.SERVER, "node_local"),
)
OVERLAY = (
    "peer/",
    Subject.of(SubjectKind.TARGET, "service"),
    Subject.of(SubjectKind.TARGET, "cluster_dns"),
    Subject.of(SubjectKind.SERVER, "cluster_dns"),
    "service/",
    "pod/",
)
CLUSTER_SERVERS = (
    Subject.of(SubjectKind.SERVER, "cluster_dns"),
    Subject.of(SubjectKind.SERVER, "node_local"),
)  # what they answer comes from CoreDNS
SERVICE_LIKE = (
    Subject.of(SubjectKind.TARGET, "service"),
    Subject.of(SubjectKind.TARGET, "apiserver"),
    Subject.of(SubjectKind.TARGET, "cluster_dns"),
    Subject.of(SubjectKind.SERVER, "cluster_dns"),
    "service/",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Explainer:
    """What may explain a finding, and the unexplained cause that it leads back to: itself, or what explains it."""

    found: Found
    root: Cause
    severity: Severity
    elsewhere: bool

    @property
    def order(self) -> tuple[bool, int]:
        return (self.elsewhere, list(Cause).index(self.root))


def explain(findings: tuple[Finding, ...], elsewhere: Iterable[Found] = (), *, node: str = "") -> tuple[Explained, ...]:
    """Apply the table. `explained_by` is always an unexplained cause; with several, the first in table order.

    `node` is the one that the findings are about; without it a cause about any node counts as one about this.

    Causes of severity info explain nothing, unless what they explain raises them (see `raised`). A cause of the digest
    explains only what is not more severe than itself. Explanation goes from the root outwards: a cause that is itself
    explained hands over its root.
    """
    told = [
        _Explainer(found=f, root=f.cause, severity=f.severity, elsewhere=True)
        for f in elsewhere
        if f.severity is not Severity.INFO
    ]
    known: list[_Explainer] = []
    result: dict[int, Explained] = {}
    for index in sorted(range(len(findings)), key=lambda i: _depth(findings[i].cause)):
        finding = findings[index]
        made = _explain_one(finding, [*known, *told], node)
        result[index] = made
        if finding.severity is not Severity.INFO:
            known.append(_witness(made, told))
    return tuple(result[i] for i in range(len(findings)))


def _witness(made: Explained, told: Iterable[_Explainer]) -> _Explainer:
    """A finding once it was looked at: with the pairs that are left of it, or as a witness of its root."""
    f = made.finding
    found = Found(
        cause=f.cause,
        severity=f.severity,
        subjects=f.subjects,
        pairs=f.pairs,
        affects_destinations=f.affects_destinations,
    )
    severity = f.severity
    if made.elsewhere:
        severity = max((t.severity for t in told if t.root is made.by), key=lambda s: s.rank, default=severity)
    return _Explainer(found=found, root=made.by or f.cause, severity=severity, elsewhere=made.elsewhere)


def raised(explained: tuple[Explained, ...]) -> tuple[Explained, ...]:
    """Within a report an explaining cause takes the higher severity of what it explains."""
    worst: dict[Cause, Severity] = {}
    for item in explained:
        if item.by is not None and not item.elsewhere:
            worst[item.by] = max(worst.get(item.by, Severity.INFO), item.finding.severity, key=lambda s: s.rank)
    return tuple(_raise(item, worst.get(item.finding.cause)) for item in explained)


def covers(found: Found, pair: Pair, *, node: str = "") -> bool:
    """Whether this cause accounts for the failure of this pair: by its line in the table, or as an endpoint behind the destination.

    A cause about one family explains nothing that fails over the other.
    """
    if SPECS[found.cause].family not in {None, pair.family}:
        return False
    if pair.destination in found.affects_destinations:
        return True
    return any(
        found.cause in reach.causes and _from(reach, found, pair) and _to(reach, found, pair, node)
        for reach in REACHES
    )  # fmt: skip


def _depth(cause: Cause) -> int:
    """Roots first: stated causes, then what follows from them, then path symptoms, then dns symptoms."""
    if cause in DNS_SYMPTOMS:
        return len(Cause) + 1
    if cause in SYMPTOMS:
        return len(Cause)
    return 1 + max(map(_depth, FOLLOWS[cause])) if cause in FOLLOWS else 0


def _explain_one(finding: Finding, known: Iterable[_Explainer], node: str) -> Explained:
    """Causes that stand by themselves come before those that only witness their root."""
    able = [k for k in known if not k.elsewhere or k.severity.rank >= finding.severity.rank]
    ordered = sorted(able, key=lambda k: (k.found.cause is not k.root, *k.order))
    if finding.cause in FOLLOWS:
        return _follow(finding, [k for k in ordered if k.found.cause in FOLLOWS[finding.cause]], node)
    if finding.cause not in SYMPTOMS or not finding.pairs:
        return Explained(finding=finding, by=None)
    usable = [k for k in ordered if k.found.cause not in PATH_CAUSES or finding.cause in DNS_SYMPTOMS]
    cover = {
        pair: next((k for k in usable if _may_be(k.found, finding, pair) and covers(k.found, pair, node=node)), None)
        for pair in sorted(finding.pairs)
    }
    roots = {pair: by.root for pair, by in cover.items() if by is not None}
    left = frozenset(pair for pair, by in cover.items() if by is None)
    if left:
        return Explained(finding=finding if left == finding.pairs else _narrow(finding, left), by=None, roots=roots)
    first = min((k for k in cover.values() if k is not None), key=lambda k: k.order)
    return Explained(finding=finding, by=first.root, elsewhere=first.elsewhere, roots=roots)


def _follow(finding: Finding, reasons: Iterable[_Explainer], node: str) -> Explained:
    """Subject by subject; the first of the reasons that account for one is named."""
    able = list(reasons)
    cover = [next((i for i, k in enumerate(able) if _accounts_for(k.found, s, node)), None) for s in finding.subjects]
    left = tuple(s for s, by in zip(finding.subjects, cover, strict=True) if by is None)
    if left or not cover:
        return Explained(finding=finding if left == finding.subjects else _without(finding, left), by=None)
    first = able[min(i for i in cover if i is not None)]
    return Explained(finding=finding, by=first.root, elsewhere=first.elsewhere)


def _may_be(found: Found, finding: Finding, pair: Pair) -> bool:
    """Whether the cause leaves room for what was seen: an echo that came back shows that nothing severs the way.

    A Service is dialled by TCP alone; a tunnel's wrong MTU is met by full-size packets only.
    """
    if finding.cause is Cause.IPV6_MTU_BLACKHOLE:
        return found.cause is Cause.VXLAN_MISCONFIGURED
    if finding.cause in {Cause.IPV6_TCP_BLOCKED, Cause.IPV6_TLS_FAILED}:
        return pair.destination.startswith(SERVICE_LIKE)
    return True


def _accounts_for(found: Found, subject: Subject, node: str) -> bool:
    """Whether what holds of the cause's subjects holds of this one: of the same node, or of a nameserver that CoreDNS stands behind."""
    if found.cause is Cause.COREDNS_TEMPLATE_BLOCKS_AAAA and subject.is_a(SubjectKind.SERVER):
        return subject in CLUSTER_SERVERS or _is_service(subject)
    if found.cause is Cause.DNS_AAAA_BLOCKED and subject.is_a(SubjectKind.SERVICE):
        return any(s in CLUSTER_SERVERS for s in found.subjects)
    nodes = _nodes(found)
    if not nodes or not node:
        return True
    if subject.is_a(SubjectKind.NODE):
        return subject in nodes
    return not nodes.isdisjoint({Subject.of(SubjectKind.NODE, node), subject.replace("peer/", "node/", 1)})


def _nodes(found: Found) -> frozenset[Subject]:
    return frozenset(s for s in found.subjects if s.is_a(SubjectKind.NODE))


def _narrow(finding: Finding, left: frozenset[Pair]) -> Finding:
    kept = {end for pair in left for end in (pair.vantage, pair.destination)}
    return replace(finding, pairs=left, subjects=tuple(s for s in finding.subjects if s in kept) or tuple(sorted(kept)))


def _without(finding: Finding, left: tuple[Subject, ...]) -> Finding:
    """What is left of a finding, with its own evidence where a line says whose it is."""
    own = tuple(line for line in finding.evidence if line.startswith(tuple(f"{subject} " for subject in left)))
    return replace(finding, subjects=left, evidence=own or finding.evidence)


def _raise(item: Explained, severity: Severity | None) -> Explained:
    if severity is None or severity.rank <= item.finding.severity.rank or item.by is not None:
        return item
    return replace(item, finding=replace(item.finding, severity=severity))


def _from(reach: Reach, found: Found, pair: Pair) -> bool:
    match reach.vantages:
        case From.OWN_POD:
            return pair.vantage in found.subjects
        case From.PODS:
            return pair.vantage.is_a(SubjectKind.POD)
        case From.HOST:
            return pair.vantage.is_a(SubjectKind.NODE)
        case From.ANYWHERE:
            return True


def _to(reach: Reach, found: Found, pair: Pair, node: str) -> bool:
    match reach.destinations:
        case To.ANYTHING:
            return True
        case To.PEERS:
            overlay = pair.destination.startswith(OVERLAY) or _is_service(pair.destination)
            return overlay and _leads_there(found, pair.destination, node)
        case To.OWN_PEER:
            return pair.destination in found.subjects
        case To.OUTSIDE:
            return not pair.destination.startswith((*OVERLAY, *INSIDE)) and not _is_service(pair.destination)
        case To.SERVICES:
            return pair.destination.startswith(SERVICE_LIKE) or _is_service(pair.destination)
        case To.OWN_SERVICES:
            return pair.destination in found.subjects
        case To.OWN_SERVERS:
            return any(
                (p.vantage, p.family) == (pair.vantage, pair.family)
                and _same_destination(p.destination, pair.destination)
                for p in found.pairs
            )


def _is_service(subject: Subject) -> bool:
    """A nameserver that is called by its Service's namespace and name."""
    return subject.is_a(SubjectKind.SERVER) and subject.count("/") > 1


def _leads_there(found: Found, destination: str, node: str) -> bool:
    """A cause about other nodes affects_destinations the way to these alone; behind a Service they may stand."""
    nodes = _nodes(found)
    if not nodes or not node or Subject.of(SubjectKind.NODE, node) in nodes or not destination.startswith("peer/"):
        return True
    return destination.replace("peer/", "node/", 1) in nodes


def _same_destination(one: str, other: str) -> bool:
    """A nameserver and the target that dials it are one destination."""
    return one.split("/", 1)[-1] == other.split("/", 1)[-1]
