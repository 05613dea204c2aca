"""Metrics of the verdict: families and causes. Reads the report only; contract sections 7 and 8 say what each value means."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType

from exporter.catalogue.metric import FinishedRound, Metric, Row, gauge
from exporter.diagnosis.engine.causes import SPECS, TABLE
from exporter.model.report import Cause, CauseReport, Report, Severity
from exporter.model.subject import Subject

SUBJECTS_PER_CAUSE = 20


def family_expected(source: FinishedRound) -> Iterator[Row]:
    """1 or 0 where it is known."""
    for family, state in source.report.families.items():
        if state.expected is not None:
            yield (family.value,), float(state.expected)


def family_ok(source: FinishedRound) -> Iterator[Row]:
    """1 or 0 for a family that is not known to be unexpected and was asked of."""
    for family, state in source.report.families.items():
        if state.expected is not False and state.ok is not None:
            yield (family.value,), float(state.ok)


def held(report: Report) -> Mapping[Cause, tuple[CauseReport, ...]]:
    """The findings of each cause that count: those not explained, else those explained. A cause is one or the other."""
    grouped: dict[Cause, list[CauseReport]] = {}
    for item in report.causes:
        grouped.setdefault(item.finding.cause, []).append(item)
    return MappingProxyType(
        {cause: tuple(i for i in items if i.explained_by is None) or tuple(items) for cause, items in grouped.items()}
    )


def is_explained(items: tuple[CauseReport, ...]) -> bool:
    """Whether nothing of this cause (as `held` gives it) is left unexplained."""
    return items[0].explained_by is not None


def severity(cause: Cause, items: tuple[CauseReport, ...]) -> Severity:
    """The highest severity of the cause's findings, or its usual one."""
    return max((i.finding.severity for i in items), key=lambda s: s.rank, default=SPECS[cause].severity)


def cause(source: FinishedRound) -> Iterator[Row]:
    """One row for each cause that this role could check."""
    found = held(source.report)
    for line in TABLE:
        items = found.get(line.cause, ())
        if items or line.cause in source.report.checked:
            value = float(bool(items) and not is_explained(items))
            yield (line.cause.value, line.scope.value, severity(line.cause, items).value), value


def cause_explained(source: FinishedRound) -> Iterator[Row]:
    """One row for each cause that is wholly explained, with what explains it."""
    pairs = {
        (item.finding.cause.value, item.explained_by.value)
        for items in held(source.report).values()
        for item in items
        if item.explained_by is not None
    }
    return ((pair, 1.0) for pair in pairs)


def cause_unchecked(source: FinishedRound) -> Iterator[Row]:
    """One row for each cause without a value, with the reason."""
    pairs = {(u.cause.value, u.reason.value) for u in source.report.unchecked if u.cause not in source.report.checked}
    return ((pair, 1.0) for pair in pairs)


def subjects(items: tuple[CauseReport, ...]) -> tuple[Subject, ...]:
    """Whom the cause affects, over all of its findings."""
    return tuple(sorted({s for item in items for s in item.finding.subjects}))


def cause_subjects(source: FinishedRound) -> Iterator[Row]:
    """How many subjects each found cause has."""
    for found, items in held(source.report).items():
        yield (found.value,), float(len(subjects(items)))


def cause_subject_info(source: FinishedRound) -> Iterator[Row]:
    """Who they are, by name."""
    for found, items in held(source.report).items():
        for subject in subjects(items):
            yield (found.value, subject.kind, subject.namespace, subject.name), 1.0


VERDICT: tuple[Metric[FinishedRound], ...] = (
    gauge(
        "family_expected",
        "Whether pods of this cluster are meant to have the family; absent where not known.",
        ("ip_family",),
        family_expected,
    ),
    gauge(
        "family_ok",
        "Whether more than half of the eligible pods with a kept result (without pods: the host) reach one target of each group over the family, by most of their last three dials.",
        ("ip_family",),
        family_ok,
    ),
    gauge(
        "cause",
        "Whether this cause holds and nothing else explains it; one series for each cause that this role could check.",
        ("cause", "scope", "severity"),
        cause,
    ),
    gauge(
        "cause_explained",
        "A cause that holds and follows from another one, which is the one to fix.",
        ("cause", "by"),
        cause_explained,
    ),
    gauge(
        "cause_unchecked", "A cause that could not be checked, and why.", ("cause", "reason"), cause_unchecked
    ),
    gauge("cause_subjects", "How many subjects a cause that holds affects.", ("cause",), cause_subjects),
    gauge(
        "cause_subject_info",
        "Whom a cause that holds affects.",
        ("cause", "kind", "namespace", "name"),
        cause_subject_info,
        limit=SUBJECTS_PER_CAUSE,
        per=1,
    ),
)  # fmt: skip
