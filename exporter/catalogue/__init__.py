"""The catalogue: every metric declared once, with its type, help, labels and how it is read from a finished value.

After the report, before exposition. Search a metric's name here to find the function of the report that it is. No I/O,
no clock: exposition.py formats what stands here, reference.py makes the reference table from it, alerts and dashboards
are checked against it.
"""

from __future__ import annotations

from collections.abc import Iterator

from exporter.catalogue.dns import DNS
from exporter.catalogue.exporter import EXPORTER, ExporterState
from exporter.catalogue.inventory import INVENTORY
from exporter.catalogue.kernel import KERNEL
from exporter.catalogue.metric import FinishedRound, Metric, Row, Type, gauge
from exporter.catalogue.pods import PODS
from exporter.catalogue.probes import PROBES
from exporter.catalogue.verdict import VERDICT

_SEEN: tuple[Metric[FinishedRound], ...] = (*VERDICT, *PROBES, *DNS, *PODS, *KERNEL, *INVENTORY)


def truncated(source: FinishedRound) -> Iterator[Row]:
    """How many rows each cap left out, 0 included."""
    for metric in _SEEN:
        if metric.capped:
            yield (metric.name,), float(metric.left_out(source))


ROUND: tuple[Metric[FinishedRound], ...] = (
    *_SEEN,
    gauge("series_truncated", "Series that the cap on a metric left out of this scrape.", ("metric",), truncated),
)
"""The metrics of the last finished round; they vanish with it."""

CATALOGUE: tuple[Metric[FinishedRound] | Metric[ExporterState], ...] = (*ROUND, *EXPORTER)
"""Every metric, in the order of the reference table."""

__all__ = ["CATALOGUE", "EXPORTER", "ROUND", "ExporterState", "FinishedRound", "Metric", "Row", "Type"]
