"""From a snapshot to the report's verdict: runs the rules, remembers over rounds, applies explanation. Pure; the last step of diagnosis.

Memory is a frozen value handed from round to round. A finding appears at once (rules of causes that are not stated look
at two rounds by themselves), unless it compares the kernel with the inventory: then in the second round running, once
an inventory came that is newer than what the kernel showed first. So a change made through the API is no fault while it
spreads. A finding goes after two rounds in which it did not hold or did not apply, and keeps its last value for five
minutes when it cannot be checked. What is only remembered says nothing about pods that have gone meanwhile, nor about
paths that failed by a cause that is over: these failures are accounted for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from exporter.diagnosis.endpoints import destinations_of
from exporter.diagnosis.engine.causes import SPECS, TABLE, CauseSpec, checked_by
from exporter.diagnosis.engine.explain import Explained, explain, raised
from exporter.diagnosis.engine.explanations import PATH_CAUSES
from exporter.diagnosis.engine.rule_input import Judgement, Rule, RuleInput
from exporter.model.reason import Reason
from exporter.model.report import Cause, CauseReport, Finding, Found, Pair, Severity, Unchecked
from exporter.model.subject import Subject, SubjectKind
from exporter.model.vantage import PodState

CLEAR_AFTER = 2  # rounds not holding
KEEP_UNCHECKED = 300.0  # seconds that a value outlives the last check
ACCOUNTED_FOR = (
    1800.0  # seconds for which it is known of failures that they are accounted for: longer than dials are remembered
)
# Reasons for which a cause does not apply any more; for the others it could not be seen.
INAPPLICABLE = frozenset(
    {Reason.NOT_APPLICABLE, Reason.SINGLE_STACK, Reason.NO_TARGET, Reason.NO_PEER, Reason.NO_PODS, Reason.POLICY}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """What is remembered of one cause: what was found, since when, how many rounds it did not hold, when it was last checked."""

    findings: tuple[Finding, ...] = ()
    since: float = 0.0
    clear: int = 0
    checked: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """What is remembered of each cause, and since when those that are not found yet contradict the inventory.

    `roots`: the causes that explained pairs in the last round, which was judged at `judged`; `accounted` as in View.
    Times are Unix seconds.
    """

    traces: Mapping[Cause, Trace] = field(default_factory=dict)
    suspected: Mapping[Cause, float] = field(default_factory=dict)
    roots: Mapping[Pair, Cause] = field(default_factory=dict)
    accounted: Mapping[Pair, float] = field(default_factory=dict)
    judged: float = 0.0


@dataclass(frozen=True, slots=True)
class Verdict:
    causes: tuple[CauseReport, ...]
    checked: frozenset[Cause]
    unchecked: tuple[Unchecked, ...]


def judge(
    view: RuleInput, memory: Memory, *, rules: Mapping[Cause, Rule], elsewhere: tuple[Found, ...] = ()
) -> tuple[Verdict, Memory]:
    """The verdict of this round and the memory for the next. `elsewhere`: the digest's found causes, not older than 5 minutes."""
    view = replace(view, standing={cause: _pairs(trace) for cause, trace in memory.traces.items()})
    # Path causes come last: what they follow from must be known to be over or not.
    first = _judge_lines([line for line in TABLE if line.cause not in PATH_CAUSES], view, memory, rules)
    view = replace(view, accounted=_accounted(memory, first, elsewhere, view.now))
    last = _judge_lines([line for line in TABLE if line.cause in PATH_CAUSES], view, memory, rules)
    judged = {cause: either[cause] for cause in Cause for either in (first, last) if cause in either}
    traces = {cause: one.trace for cause, one in judged.items() if one.trace is not None}
    explained = raised(_explain(view, traces, elsewhere))
    causes = tuple(
        CauseReport(
            finding=item.finding,
            scope=SPECS[item.finding.cause].scope,
            since=traces[item.finding.cause].since,
            explained_by=item.by,
            explained_elsewhere=item.elsewhere,
        )
        for item in explained
    )
    unchecked = tuple(Unchecked(c, one.reason) for c, one in judged.items() if one.trace is None and one.reason)
    memory = Memory(
        traces=traces,
        suspected={cause: one.suspected for cause, one in judged.items() if one.suspected is not None},
        roots={pair: root for item in explained for pair, root in item.roots.items()},
        accounted=view.accounted,
        judged=view.now,
    )
    return Verdict(causes, frozenset(traces), unchecked), memory


@dataclass(frozen=True, slots=True)
class _Judged:
    """One cause in one round: what is remembered of it, why it was not checked, since when it is suspected."""

    trace: Trace | None
    reason: Reason | None = None
    suspected: float | None = None


def _judge_lines(
    lines: Iterable[CauseSpec], view: RuleInput, memory: Memory, rules: Mapping[Cause, Rule]
) -> dict[Cause, _Judged]:
    return {line.cause: _judge_line(line, view, memory, rules) for line in lines if checked_by(line, view.role)}


def _judge_line(line: CauseSpec, view: RuleInput, memory: Memory, rules: Mapping[Cause, Rule]) -> _Judged:
    judgement = _gate(line, view) or rules[line.cause](view)
    before = memory.traces.get(line.cause)
    suspected = None
    if line.compares and _is_new(judgement, before):
        suspected = memory.suspected.get(line.cause, view.snapshot.inspected)
        judgement = judgement if _is_newer(view, suspected, memory, line.cause) else ()
    reason = judgement if isinstance(judgement, Reason) else None
    return _Judged(_remember(before, judgement, view), reason, suspected)


def _accounted(
    memory: Memory, judged: Mapping[Cause, _Judged], elsewhere: tuple[Found, ...], now: float
) -> dict[Pair, float]:
    """Pairs whose failures followed from a cause that was found until the round before, and until when."""
    found = {cause for cause, one in judged.items() if one.trace is not None and one.trace.findings}
    found |= {f.cause for f in elsewhere}
    over = {pair: memory.judged for pair, root in memory.roots.items() if root not in found}
    return {**{pair: at for pair, at in memory.accounted.items() if now - at <= ACCOUNTED_FOR}, **over}


def _pairs(trace: Trace) -> frozenset[Pair]:
    return frozenset(pair for finding in trace.findings for pair in finding.pairs)


def _is_new(judgement: Judgement, before: Trace | None) -> bool:
    """Whether it finds what was not found before."""
    return not isinstance(judgement, Reason) and bool(judgement) and (before is None or not before.findings)


def _is_newer(view: RuleInput, since: float, memory: Memory, cause: Cause) -> bool:
    """Whether the round before had the contradiction as well, and the inventory is newer than what the kernel showed then."""
    current = view.inventory.current_at
    return cause in memory.suspected and (current is None or current > since)


def _gate(line: CauseSpec, view: RuleInput) -> Reason | None:
    """No cause about a family that is not expected."""
    if line.family is None:
        return None
    expected = view.expected(line.family)
    if expected is None:
        return Reason.NO_INVENTORY
    return None if expected else Reason.SINGLE_STACK


def _remember(before: Trace | None, judgement: Judgement, view: RuleInput) -> Trace | None:
    now = view.now
    if isinstance(judgement, Reason):
        return None if before is None else _unseen(before, judgement, view)
    if judgement:
        since = before.since if before is not None and before.findings else now
        return Trace(findings=judgement, since=since, clear=0, checked=now)
    kept = () if before is None or before.clear + 1 >= CLEAR_AFTER else _of_what_is_left(before.findings, view)
    if before is None or not kept:
        return Trace(findings=(), since=0.0, clear=0, checked=now)
    return Trace(findings=kept, since=before.since, clear=before.clear + 1, checked=now)


def _unseen(before: Trace, reason: Reason, view: RuleInput) -> Trace | None:
    """What is left of a cause that was not checked: for a round where it does not apply, for five minutes where it was not seen."""
    findings = _of_what_is_left(before.findings, view)
    if reason not in INAPPLICABLE:
        return None if view.now - before.checked > KEEP_UNCHECKED else replace(before, findings=findings)
    if not before.findings or before.clear + 1 >= CLEAR_AFTER:
        return None
    return replace(before, findings=findings, clear=before.clear + 1)


def _of_what_is_left(findings: tuple[Finding, ...], view: RuleInput) -> tuple[Finding, ...]:
    """Remembered findings without the pods that vanished or began terminating; one that spoke of nothing else is over."""
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
    """The subjects of all pods known to be there: this node's by their namespaces, the cluster's by the inventory."""
    here = {pod.vantage.subject for pod in view.snapshot.pods if pod.vantage.state is not PodState.TERMINATING}
    return here | {Subject.of(SubjectKind.POD, pod.key) for pod in view.inventory.pods or () if not pod.deleting}


def _explain(view: RuleInput, traces: Mapping[Cause, Trace], elsewhere: tuple[Found, ...]) -> tuple[Explained, ...]:
    """All findings, in table order and infos last, by each other and by what the digest tells of the cluster."""
    findings = sorted(
        (f for trace in traces.values() for f in trace.findings), key=lambda f: f.severity is Severity.INFO
    )
    told = (replace(f, affects_destinations=destinations_of(view.inventory, f.subjects)) for f in elsewhere)
    return explain(tuple(findings), told, node=view.node)
