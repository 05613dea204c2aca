"""What changed between two rounds, as the log tells it: causes that begin, change or end, and families' verdicts.

Between report and log; daemon/ writes the lines. The subjects of a cause may change each round and are told once. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from exporter.model.cause import Cause, Severity
from exporter.model.family import FAMILIES
from exporter.model.report import CauseReport, FamilyReport, Report
from exporter.report.document import UNKNOWN, age, few

SUBJECTS = 5  # named in a line
EVIDENCE = 3


@dataclass(frozen=True, slots=True)
class Notice:
    """One line: its message and its fields. `urgent`: a cause that someone has to act on."""

    message: str
    fields: Mapping[str, object] = field(default_factory=dict)
    urgent: bool = False


def changes(before: Report | None, now: Report) -> Iterator[Notice]:
    """None: now is the first round, of which everything is told, and what could be seen."""
    if before is None:
        yield _first(now)
    yield from _verdicts(before, now)
    earlier = {item.finding.cause: item for item in before.causes} if before is not None else {}
    current = {item.finding.cause: item for item in now.causes}
    yield from (_found("cause begins", item) for cause, item in current.items() if cause not in earlier)
    both = ((earlier[cause], item) for cause, item in current.items() if cause in earlier)
    yield from (_found("cause changes", new) for old, new in both if _state(old) != _state(new))
    yield from (_ended(item, now) for cause, item in earlier.items() if cause not in current)


def _first(now: Report) -> Notice:
    """What this exporter sees."""
    snapshot = now.snapshot
    inventory = snapshot.inventory
    seen = {
        "pods": len(snapshot.pods),
        "probes": len(snapshot.observations),
        "queries": len(snapshot.lookups),
        "inventory": inventory.problem or inventory.source.value,
        "network": now.network.described or "unknown",
        "causes_checked": len(now.checked),
        "causes_unchecked": len(now.unchecked),
    }
    return Notice("first round finished", seen, urgent=bool(inventory.problem))


def _verdicts(before: Report | None, now: Report) -> Iterator[Notice]:
    for family in FAMILIES:
        state = now.families.get(family, UNKNOWN)
        if before is None or _verdict(before.families.get(family, UNKNOWN)) != _verdict(state):
            told = {"ip_family": family.value, "verdict": _verdict(state), "evidence": "; ".join(state.evidence)}
            yield Notice("family verdict", told, urgent=bool(state.expected) and state.ok is False)


def _verdict(state: FamilyReport) -> str:
    if state.expected is False:
        return "not expected"
    return "unknown" if state.ok is None else "works" if state.ok else "does not work"


def _state(item: CauseReport) -> tuple[Severity, Cause | None]:
    return item.finding.severity, item.explained_by


def _found(message: str, item: CauseReport) -> Notice:
    finding = item.finding
    told = {
        "cause": finding.cause.value,
        "severity": finding.severity.value,
        "subjects": few(finding.subjects, SUBJECTS),
        "evidence": "; ".join(finding.evidence[:EVIDENCE]),
        **({"explained_by": item.explained_by.value} if item.explained_by is not None else {}),
    }
    return Notice(message, told, urgent=item.explained_by is None and finding.severity is not Severity.INFO)


def _ended(item: CauseReport, now: Report) -> Notice:
    cause = item.finding.cause
    told = {"cause": cause.value, "lasted": age(max(0.0, now.snapshot.finished - item.since))}
    reason = next((each.reason.value for each in now.unchecked if each.cause is cause), "")
    return Notice("cause is no longer checked", {**told, "reason": reason}) if reason else Notice("cause ends", told)
