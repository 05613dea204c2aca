"""The catalogue: every metric declared once, with its type, help, labels and how it is read from a finished value.

After the report, before exposition. Search for a metric's name here to find the function of the report that it is. No
I/O, no clock: exposition.py formats it, reference.py makes the reference table, alerts and dashboards are checked
against it.
"""

from __future__ import annotations

from exporter.catalogue.dns import DNS
from exporter.catalogue.exporter import EXPORTER, ExporterState
from exporter.catalogue.inventory import INVENTORY
from exporter.catalogue.kernel import KERNEL
from exporter.catalogue.metric import FinishedRound, Metric, Row, Type, by_label, gauge
from exporter.catalogue.probes import PROBES
from exporter.catalogue.verdict import VERDICT

_OBSERVED: tuple[Metric[FinishedRound], ...] = (*VERDICT, *PROBES, *DNS, *KERNEL, *INVENTORY)
_CAPPED = [metric for metric in _OBSERVED if metric.limit is not None or metric.omitted is not None]

ROUND: tuple[Metric[FinishedRound], ...] = (
    *_OBSERVED,
    gauge(
        "series_truncated",
        "Series that the cap on a metric left out of this scrape.",
        ("metric",),
        by_label(lambda source: {metric.name: metric.left_out(source) for metric in _CAPPED}),
    ),
)
"""The metrics of the last finished round; they vanish with it."""

CATALOGUE: tuple[Metric[FinishedRound] | Metric[ExporterState], ...] = (*ROUND, *EXPORTER)
"""Every metric, in the order of the reference table."""

__all__ = ["CATALOGUE", "EXPORTER", "ROUND", "ExporterState", "FinishedRound", "Metric", "Row", "Type"]
