"""Metrics of the verdict: families and causes (docs/specification.md sections 7 and 8). Reads the report only."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from exporter.catalogue.metric import FinishedRound, Metric, Row, by_label, gauge
from exporter.model.cause import Cause, Severity
from exporter.model.family import Family
from exporter.model.grouping import grouped
from exporter.model.report import CauseReport, Report
from exporter.model.subject import Subject

SUBJECTS_PER_CAUSE = 20


def family_ok(source: FinishedRound) -> Mapping[Family, bool | None]:
    """Of families that are not known to be unexpected."""
    return {family: s.ok for family, s in source.report.families.items() if s.expected is not False}


def findings_by_cause(report: Report) -> Mapping[Cause, tuple[CauseReport, ...]]:
    """The findings of each cause that count: those not explained, else those explained. A cause is one or the other."""
    found = grouped(report.causes, lambda item: item.finding.cause)
    return {cause: tuple(i for i in items if i.explained_by is None) or tuple(items) for cause, items in found.items()}


def severity(cause: Cause, items: tuple[CauseReport, ...]) -> Severity:
    """The highest severity of the cause's findings, or its usual one."""
    return max((i.finding.severity for i in items), key=lambda s: s.rank, default=cause.spec.severity)


def cause(source: FinishedRound) -> Iterator[Row]:
    """One row for each cause that this role could check."""
    found = findings_by_cause(source.report)
    for each in Cause:
        items = found.get(each, ())
        if items or each in source.report.checked:
            unexplained = bool(items) and items[0].explained_by is None
            yield (each.value, each.spec.scope.value, severity(each, items).value), unexplained


def cause_explained(source: FinishedRound) -> Iterable[Row]:
    """One row for each cause that is wholly explained, with what explains it."""
    return {
        ((item.finding.cause.value, item.explained_by.value), 1.0)
        for items in findings_by_cause(source.report).values()
        for item in items
        if item.explained_by is not None
    }


def cause_unchecked(source: FinishedRound) -> Iterable[Row]:
    """One row for each cause without a value, with the reason."""
    report = source.report
    return {((u.cause.value, u.reason.value), 1.0) for u in report.unchecked if u.cause not in report.checked}


def subjects(items: tuple[CauseReport, ...]) -> tuple[Subject, ...]:
    """Subjects that the cause affects, over all of its findings."""
    return tuple(sorted({s for item in items for s in item.finding.subjects}))


def cause_subjects(source: FinishedRound) -> Mapping[Cause, int]:
    return {found: len(subjects(items)) for found, items in findings_by_cause(source.report).items()}


def cause_subject_info(source: FinishedRound) -> Iterator[Row]:
    for found, items in findings_by_cause(source.report).items():
        for subject in subjects(items):
            yield (found.value, subject.kind, subject.namespace, subject.name), 1.0


# fmt: off
VERDICT: tuple[Metric[FinishedRound], ...] = (
    gauge("family_expected", "Whether pods of this cluster should have the family; absent where not known.",
          ("ip_family",), by_label(lambda source: {f: s.expected for f, s in source.report.families.items()})),
    gauge("family_ok",
          "Whether more than half of the probed pods can reach at least one target in every target group over this "
          "family, by most of their last three probes (the host is used where there are no pods).",
          ("ip_family",), by_label(family_ok)),
    gauge("cause",
          "Whether this cause was found and no other cause explains it; one series per cause that this role can check.",
          ("cause", "scope", "severity"), cause),
    gauge("cause_explained", "Causes that follow from another cause, which is the one to fix.", ("cause", "by"),
          cause_explained),
    gauge("cause_unchecked", "Causes that could not be checked, and why.", ("cause", "reason"), cause_unchecked),
    gauge("cause_subjects", "Number of subjects that a found cause affects.", ("cause",), by_label(cause_subjects)),
    gauge("cause_subject_info", "Subjects that a found cause affects.", ("cause", "kind", "namespace", "name"),
          cause_subject_info, limit=SUBJECTS_PER_CAUSE, per=1),
)
# fmt: on
