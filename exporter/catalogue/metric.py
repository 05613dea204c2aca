"""What a metric is: its declaration, and the one way from a finished value to its rows. Pure; formats nothing.

A state that was not read has no row, never a 0. Rows of one metric are unique by construction: each `rows` function
yields from a mapping or a set. Labels are enums or names of the configuration and the inventory, never addresses, error
texts or record data.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from operator import itemgetter
from typing import Generic, TypeAlias, TypeVar

from exporter.catalogue.totals import Histogram, Totals
from exporter.diagnosis.census import Census, take_census
from exporter.migration.plan import plan_of
from exporter.migration.step import Migration
from exporter.model.cause import Role
from exporter.model.report import Report, Snapshot

PREFIX = "dualstack_"

Source = TypeVar("Source")
Label = TypeVar("Label", bound=str)
Row: TypeAlias = tuple[tuple[str, ...], float | Histogram]
Rows: TypeAlias = Callable[[Source], Iterable[Row]]


class Type(StrEnum):
    """The metric types of the text format that are used here."""

    GAUGE = "gauge"
    COUNTER = "counter"
    HISTOGRAM = "histogram"


@dataclass(frozen=True)
class FinishedRound:
    """What the metrics of a round read: the last finished report, and the totals that include it."""

    report: Report
    totals: Totals = field(default_factory=Totals)

    @property
    def snapshot(self) -> Snapshot:
        return self.report.snapshot

    @cached_property
    def census(self) -> Census:
        """Counted once for all metrics: a cluster may have 150,000 pods. Empty for a role that sees one node's only."""
        return Census() if self.snapshot.role is Role.NODE else take_census(self.snapshot.inventory)

    @property
    def migration(self) -> Migration | None:
        """The steps to dual-stack; None for a role that sees one node's objects only."""
        return None if self.snapshot.role is Role.NODE else plan_of(self.snapshot)


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric(Generic[Source]):
    """One metric, declared once.

    `limit` caps the rows of each group that shares the first `per` label values (0: of the whole metric); what a cap
    leaves out is counted in dualstack_series_truncated. `omitted` returns how many the source left out before.
    """

    name: str
    type: Type
    help: str
    labels: tuple[str, ...]
    rows: Rows[Source]
    limit: int | None = None
    per: int = 0
    omitted: Callable[[Source], int] | None = None

    def exposed(self, source: Source) -> list[Row]:
        """The rows in label order, cut to the limit."""
        rows = sorted(self.rows(source), key=itemgetter(0))
        if self.limit is None:
            return rows
        seen: Counter[tuple[str, ...]] = Counter()
        within = []
        for row in rows:
            group = row[0][: self.per]
            seen[group] += 1
            if seen[group] <= self.limit:
                within.append(row)
        return within

    def left_out(self, source: Source) -> int:
        """How many rows the caps leave out."""
        omitted = self.omitted(source) if self.omitted is not None else 0
        return omitted + len(list(self.rows(source))) - len(self.exposed(source))


def gauge(
    name: str,
    help: str,  # noqa: A002 (the exposition format's own word)
    labels: tuple[str, ...],
    rows: Rows[Source],
    *,
    limit: int | None = None,
    per: int = 0,
    omitted: Callable[[Source], int] | None = None,
) -> Metric[Source]:
    """A gauge of this prefix; see Metric."""
    return Metric(
        name=PREFIX + name, type=Type.GAUGE, help=help, labels=labels, rows=rows, limit=limit, per=per, omitted=omitted
    )


def counter(
    name: str,
    help: str,  # noqa: A002 (the exposition format's own word)
    labels: tuple[str, ...],
    rows: Rows[Source],
) -> Metric[Source]:
    """A counter of this prefix; its name ends in _total."""
    return Metric(name=PREFIX + name, type=Type.COUNTER, help=help, labels=labels, rows=rows)


def one(value: Callable[[Source], float | None]) -> Rows[Source]:
    """One row without labels; none where the value is None."""

    def rows(source: Source) -> Iterator[Row]:
        number = value(source)
        if number is not None:
            yield (), number

    return rows


def by_label(values: Callable[[Source], Mapping[Label, float | None]]) -> Rows[Source]:
    """One row for each value of the only label; none where its number is None."""
    return lambda source: (((label,), number) for label, number in values(source).items() if number is not None)
