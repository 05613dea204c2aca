"""From a snapshot to the report's causes: runs the rules, remembers findings over rounds, applies explanation. Pure.

The last step of diagnosis. Memory is a frozen value passed from round to round. A finding appears at once (rules of
scope dns and path compare two rounds themselves), unless it compares the kernel with the inventory: then each subject
counts in its second round in a row, once the inventory is newer than what the kernel showed first, so that a change
made through the API is no fault while it spreads. A finding ends after two rounds in which it did not hold or did not
apply, and keeps its last value for five minutes when it cannot be checked. A finding that is only remembered leaves out
pods that no longer exist and pairs whose failures are accounted for, because they followed from a cause that is over.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from exporter.diagnosis.chance import chance_of
from exporter.diagnosis.endpoints import destinations_of
from exporter.diagnosis.engine.explain import Explained, escalated, explain, raised, without
from exporter.diagnosis.engine.explanations import PATH_CAUSES
from exporter.diagnosis.engine.rule_input import NO_CHANCE, Chance, Judgement, Rule, RuleInput
from exporter.model.cause import Cause, Severity
from exporter.model.reason import Reason
from exporter.model.report import CauseReport, Finding, Found, Unchecked
from exporter.model.subject import Pair, Subject, SubjectKind
from exporter.model.vantage import PodState

CLEAR_AFTER = 2  # rounds not holding
KEEP_UNCHECKED = 300.0  # seconds that a value outlives the last check
KEEP_SEVERITY = 600.0  # seconds that a cause which stands keeps its worst severity
ACCOUNTED_FOR = 1800.0  # seconds for which failures stay accounted for: longer than dials are remembered
Severities: TypeAlias = Mapping[tuple[Cause, Subject], tuple[Severity, float]]
# Reasons for which a cause no longer applies; for the others it could not be seen.
INAPPLICABLE = frozenset(
    {Reason.NOT_APPLICABLE, Reason.SINGLE_STACK, Reason.NO_TARGET, Reason.NO_PEER, Reason.NO_PODS, Reason.POLICY}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """One cause over rounds: its findings, since when, for how many rounds they did not hold, and the last check."""

    findings: tuple[Finding, ...] = ()
    since: float = 0.0
    clear: int = 0
    checked: float = 0.0

    @property
    def pairs(self) -> frozenset[Pair]:
        return frozenset(pair for finding in self.findings for pair in finding.pairs)


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """What is remembered of each cause, and since when subjects that do not count yet contradict the inventory.

    `roots`: the causes that explained pairs in the last round, which was judged at `judged`; `severities`: the worst of
    each cause and subject, and when it was last so. `accounted` and `chance` as in RuleInput. Times are Unix seconds.
    """

    traces: Mapping[Cause, Trace] = field(default_factory=dict)
    suspected: Mapping[Cause, Mapping[Subject, float]] = field(default_factory=dict)
    roots: Mapping[Pair, Cause] = field(default_factory=dict)
    severities: Severities = field(default_factory=dict)
    accounted: Mapping[Pair, float] = field(default_factory=dict)
    chance: Chance = NO_CHANCE
    judged: float = 0.0


@dataclass(frozen=True, slots=True)
class Verdict:
    causes: tuple[CauseReport, ...]
    checked: frozenset[Cause]
    unchecked: tuple[Unchecked, ...]


@dataclass(frozen=True, slots=True)
class _Judged:
    """One cause in one round: what is remembered of it, why it was not checked, since when what is suspected."""

    trace: Trace | None
    reason: Reason | None = None
    suspected: Mapping[Subject, float] = field(default_factory=dict)


def judge(
    view: RuleInput, memory: Memory, *, rules: Mapping[Cause, Rule], elsewhere: tuple[Found, ...] = ()
) -> tuple[Verdict, Memory]:
    """This round's verdict and the memory for the next. `elsewhere`: the digest's causes, at most five minutes old."""
    checked = [cause for cause in Cause if cause.spec.is_checked_by(view.role)]
    judged = {cause: _judge(cause, view, memory, rules[cause]) for cause in checked if cause not in PATH_CAUSES}
    # Path causes come last: which failures are accounted for depends on what was found before.
    standing = {cause: trace.pairs for cause, trace in memory.traces.items()}
    view = replace(view, standing=standing, accounted=_accounted(memory, judged, elsewhere, view.now))
    view = replace(view, chance=chance_of(view, memory.chance, since=memory.judged))
    judged |= {cause: _judge(cause, view, memory, rules[cause]) for cause in checked if cause in PATH_CAUSES}
    judged = {cause: judged[cause] for cause in checked}  # in the order of the table
    traces = {cause: one.trace for cause, one in judged.items() if one.trace is not None}
    explained = escalated(_explain(view, traces, elsewhere))
    severities = _worst(explained, memory.severities, view.now)
    explained = _steady(explained, severities)
    causes = tuple(
        CauseReport(
            finding=item.finding,
            scope=item.finding.cause.spec.scope,
            since=traces[item.finding.cause].since,
            explained_by=item.by,
            explained_elsewhere=item.elsewhere,
        )
        for item in explained
    )
    unchecked = tuple(Unchecked(c, one.reason) for c, one in judged.items() if one.trace is None and one.reason)
    memory = Memory(
        traces=traces,
        suspected={cause: one.suspected for cause, one in judged.items() if one.suspected},
        roots={pair: root for item in explained for pair, root in item.roots.items()},
        severities=severities,
        accounted=view.accounted,
        chance=view.chance,
        judged=view.now,
    )
    return Verdict(causes, frozenset(traces), unchecked), memory


def _worst(explained: tuple[Explained, ...], before: Severities, now: float) -> Severities:
    """The severity of each cause and subject that is reported, or was worse within ten minutes, and when it was so."""
    worst: dict[tuple[Cause, Subject], tuple[Severity, float]] = {}
    for item in explained:
        for subject in item.finding.subjects:
            key, severity = (item.finding.cause, subject), item.finding.severity
            then, at = before.get(key, (severity, now))
            worst[key] = (then, at) if then.rank > severity.rank and now - at <= KEEP_SEVERITY else (severity, now)
    return worst


def _steady(explained: tuple[Explained, ...], worst: Severities) -> tuple[Explained, ...]:
    """Each with the worst severity of its subjects: a label that changes back and forth is a new series each time."""
    return tuple(
        raised(item, max((worst[item.finding.cause, s][0] for s in item.finding.subjects), key=lambda s: s.rank))
        for item in explained
    )


def _judge(cause: Cause, view: RuleInput, memory: Memory, rule: Rule) -> _Judged:
    judgement = _not_expected(cause, view) or rule(view)
    before = memory.traces.get(cause)
    suspected: Mapping[Subject, float] = {}
    if cause.spec.compares and not isinstance(judgement, Reason):
        judgement, suspected = _confirmed(judgement, before, memory.suspected.get(cause, {}), view)
    reason = judgement if isinstance(judgement, Reason) else None
    return _Judged(_remember(before, judgement, view), reason, suspected)


def _confirmed(
    judgement: tuple[Finding, ...], before: Trace | None, suspected: Mapping[Subject, float], view: RuleInput
) -> tuple[tuple[Finding, ...], Mapping[Subject, float]]:
    """What counts of a comparison of the kernel with the inventory, and since when its new subjects contradict.

    A new one counts if the round before found it as well, and the inventory is newer than what the kernel showed then.
    """
    standing = {s for f in before.findings for s in f.subjects} if before is not None else set()
    new = {s for f in judgement for s in f.subjects} - standing
    since = {s: suspected.get(s, view.snapshot.inspected) for s in new}
    current = view.inventory.current_at
    waiting = {s for s in new if s not in suspected or (current is not None and current <= since[s])}
    if not waiting:
        return judgement, since
    left = (without(f, tuple(s for s in f.subjects if s not in waiting)) for f in judgement)
    return tuple(f for f in left if f.subjects), since


def _not_expected(cause: Cause, view: RuleInput) -> Reason | None:
    """Why a cause about one family is not checked: the family is not expected, or that is not known."""
    if cause.spec.family is None:
        return None
    expected = view.expected(cause.spec.family)
    if expected is None:
        return Reason.NO_INVENTORY
    return None if expected else Reason.SINGLE_STACK


def _accounted(
    memory: Memory, judged: Mapping[Cause, _Judged], elsewhere: tuple[Found, ...], now: float
) -> dict[Pair, float]:
    """Pairs whose failures followed from a cause that was found until the round before, and until when."""
    found = {cause for cause, one in judged.items() if one.trace is not None and one.trace.findings}
    found |= {f.cause for f in elsewhere}
    over = {pair: memory.judged for pair, root in memory.roots.items() if root not in found}
    return {**{pair: at for pair, at in memory.accounted.items() if now - at <= ACCOUNTED_FOR}, **over}


def _remember(before: Trace | None, judgement: Judgement, view: RuleInput) -> Trace | None:
    now = view.now
    if isinstance(judgement, Reason):
        return None if before is None else _unseen(before, judgement, view)
    if judgement:
        since = before.since if before is not None and before.findings else now
        return Trace(findings=judgement, since=since, checked=now)
    kept = () if before is None or before.clear + 1 >= CLEAR_AFTER else _left(before.findings, view)
    if before is None or not kept:
        return Trace(checked=now)
    return Trace(findings=kept, since=before.since, clear=before.clear + 1, checked=now)


def _unseen(before: Trace, reason: Reason, view: RuleInput) -> Trace | None:
    """What remains of an unchecked cause: for one round where it does not apply, for five minutes where unseen."""
    findings = _left(before.findings, view)
    if reason not in INAPPLICABLE:
        return None if view.now - before.checked > KEEP_UNCHECKED else replace(before, findings=findings)
    if not before.findings or before.clear + 1 >= CLEAR_AFTER:
        return None
    return replace(before, findings=findings, clear=before.clear + 1)


def _left(findings: tuple[Finding, ...], view: RuleInput) -> tuple[Finding, ...]:
    """Remembered findings without pods that no longer exist or terminate; one about nothing else is over."""
    named = {s for f in findings for s in (*f.subjects, *(p.vantage for p in f.pairs)) if s.is_a(SubjectKind.POD)}
    gone = named - _pods(view) if named else named
    if not gone and view.accounted.keys().isdisjoint(p for f in findings for p in f.pairs):
        return findings
    left = (
        replace(
            f,
            subjects=tuple(s for s in f.subjects if s not in gone),
            pairs=frozenset(p for p in f.pairs if p.vantage not in gone and p not in view.accounted),
        )
        for f in findings
    )
    return tuple(
        now for now, then in zip(left, findings, strict=True) if now.subjects and bool(now.pairs) == bool(then.pairs)
    )


def _pods(view: RuleInput) -> set[Subject]:
    """All pods known to exist: this node's by their namespaces, the cluster's by the inventory."""
    here = {pod.vantage.subject for pod in view.snapshot.pods if pod.vantage.state is not PodState.TERMINATING}
    return here | {Subject.of(SubjectKind.POD, pod.key) for pod in view.inventory.pods or () if not pod.deleting}


def _explain(view: RuleInput, traces: Mapping[Cause, Trace], elsewhere: tuple[Found, ...]) -> tuple[Explained, ...]:
    """All findings, in table order and infos last, explained by each other and by the digest's causes."""
    findings = sorted(
        (f for trace in traces.values() for f in trace.findings), key=lambda f: f.severity is Severity.INFO
    )
    told = (replace(f, affects_destinations=destinations_of(view.inventory, f.subjects)) for f in elsewhere)
    return explain(tuple(findings), told, node=view.node)
