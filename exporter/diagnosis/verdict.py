"""From a snapshot to the report's verdict: runs the rules, remembers over rounds, applies explanation. Pure; the last step of diagnosis.

Memory is a frozen value handed from round to round: a finding appears at once (rules of causes that are not stated look at two rounds
by themselves), goes after two rounds in which it did not hold, and keeps its last value for five minutes when it cannot be checked.
What is only remembered says nothing about pods that have gone meanwhile.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from exporter.diagnosis.causes import LINES, TABLE, Line, checked_by
from exporter.diagnosis.endpoints import destinations_of
from exporter.diagnosis.explain import Explained, explain, raised
from exporter.diagnosis.view import Judgement, Rule, View
from exporter.model.report import Cause, CauseReport, Finding, Found, Reason, Severity, Unchecked
from exporter.model.vantage import PodState

CLEAR_AFTER = 2  # rounds not holding
KEEP_UNCHECKED = 300.0  # seconds that a value outlives the last check


@dataclass(frozen=True, slots=True)
class Trace:
    """What is remembered of one cause: what was found, since when, how many rounds it did not hold, when it was last checked."""

    findings: tuple[Finding, ...] = ()
    since: float = 0.0
    clear: int = 0
    checked: float = 0.0


@dataclass(frozen=True, slots=True)
class Memory:
    traces: Mapping[Cause, Trace] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Verdict:
    causes: tuple[CauseReport, ...]
    checked: frozenset[Cause]
    unchecked: tuple[Unchecked, ...]


def judge(
    view: View, memory: Memory, *, rules: Mapping[Cause, Rule], elsewhere: tuple[Found, ...] = ()
) -> tuple[Verdict, Memory]:
    """The verdict of this round and the memory for the next. `elsewhere`: the digest's found causes, not older than 5 minutes."""
    traces: dict[Cause, Trace] = {}
    unchecked: list[Unchecked] = []
    for line in TABLE:
        if not checked_by(line, view.role):
            continue
        judgement = _gate(line, view) or rules[line.cause](view)
        before = memory.traces.get(line.cause)
        trace = _remember(before, judgement, view)
        if trace is not None:
            traces[line.cause] = trace
        elif isinstance(judgement, Reason):
            unchecked.append(Unchecked(line.cause, judgement))
    explained = raised(_explain(view, traces, elsewhere))
    causes = tuple(
        CauseReport(
            finding=item.finding,
            scope=LINES[item.finding.cause].scope,
            since=traces[item.finding.cause].since,
            explained_by=item.by,
            explained_elsewhere=item.elsewhere,
        )
        for item in explained
    )
    return Verdict(causes, frozenset(traces), tuple(unchecked)), Memory(traces)


def _gate(line: Line, view: View) -> Reason | None:
    """No cause about a family that is not expected."""
    if line.family is None:
        return None
    expected = view.expected(line.family)
    if expected is None:
        return Reason.NO_INVENTORY
    return None if expected else Reason.SINGLE_STACK


def _remember(before: Trace | None, judgement: Judgement, view: View) -> Trace | None:
    now = view.now
    if isinstance(judgement, Reason):
        if judgement is Reason.SINGLE_STACK or before is None or now - before.checked > KEEP_UNCHECKED:
            return None
        return replace(before, findings=_of_what_is_left(before.findings, view))
    if judgement:
        since = before.since if before is not None and before.findings else now
        return Trace(judgement, since, 0, now)
    kept = () if before is None or before.clear + 1 >= CLEAR_AFTER else _of_what_is_left(before.findings, view)
    if before is None or not kept:
        return Trace((), 0.0, 0, now)
    return Trace(kept, before.since, before.clear + 1, now)


def _of_what_is_left(findings: tuple[Finding, ...], view: View) -> tuple[Finding, ...]:
    """Remembered findings without the pods that vanished or began terminating; one that spoke of nothing else is over."""
    named = {s for f in findings for s in (*f.subjects, *(p.vantage for p in f.pairs)) if s.startswith("pod/")}
    gone = named - _pods(view) if named else named
    if not gone:
        return findings
    left = (
        replace(
            f,
            subjects=tuple(s for s in f.subjects if s not in gone),
            pairs=frozenset(p for p in f.pairs if p.vantage not in gone),
        )
        for f in findings
    )
    return tuple(
        now for now, then in zip(left, findings, strict=True) if now.subjects and bool(now.pairs) == bool(then.pairs)
    )


def _pods(view: View) -> set[str]:
    """The subjects of all pods known to be there: this node's by their namespaces, the cluster's by the inventory."""
    here = {pod.vantage.subject for pod in view.snapshot.pods if pod.vantage.state is not PodState.TERMINATING}
    return here | {f"pod/{pod.key}" for pod in view.inventory.pods or () if not pod.deleting}


def _explain(view: View, traces: Mapping[Cause, Trace], elsewhere: tuple[Found, ...]) -> tuple[Explained, ...]:
    """All findings, in table order and infos last, by each other and by what the digest tells of the cluster."""
    findings = sorted(
        (f for trace in traces.values() for f in trace.findings), key=lambda f: f.severity is Severity.INFO
    )
    told = (replace(f, spoils=destinations_of(view.inventory, f.subjects)) for f in elsewhere)
    return explain(tuple(findings), told, node=view.node)
