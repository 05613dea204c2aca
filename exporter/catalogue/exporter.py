"""Metrics of the exporter itself. They stay when a report is too old to be exposed, so they read their own value, not the report."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from exporter.catalogue.metric import Metric, Row, counter, gauge


@dataclass(frozen=True, slots=True, kw_only=True)
class ExporterState:
    """What the exporter knows of itself at one moment. Times are Unix seconds; None where it has not happened yet."""

    node: str
    role: str
    version: str = ""
    revision: str = ""
    python: str = ""
    last_round: float | None = None  # when the last finished round ended
    round_seconds: float | None = None
    round_complete: bool | None = None  # False: cut by its deadline
    rounds: int = 0
    rounds_skipped: int = 0
    errors: Mapping[str, int] = field(default_factory=dict)  # our own faults, by component
    inventory_synced: Mapping[str, float] = field(default_factory=dict)  # by resource
    reload_successful: bool | None = None
    reload_time: float | None = None  # of the last one that succeeded


def _one(value: Callable[[ExporterState], float | None]) -> Callable[[ExporterState], Iterator[Row]]:
    def rows(own: ExporterState) -> Iterator[Row]:
        number = value(own)
        if number is not None:
            yield (), float(number)

    return rows


def _each(values: Callable[[ExporterState], Mapping[str, float]]) -> Callable[[ExporterState], Iterator[Row]]:
    def rows(own: ExporterState) -> Iterator[Row]:
        return (((name,), float(number)) for name, number in values(own).items())

    return rows


def exporter_info(own: ExporterState) -> Iterator[Row]:
    yield (own.node, own.role), 1.0


def build_info(own: ExporterState) -> Iterator[Row]:
    yield (own.version, own.revision, own.python), 1.0


EXPORTER: tuple[Metric[ExporterState], ...] = (
    gauge("exporter_info", "The node and the role of this exporter.", ("node", "role"), exporter_info),
    gauge("exporter_build_info", "What this exporter was built from.", ("version", "revision", "python"), build_info),
    gauge(
        "exporter_last_round_timestamp_seconds",
        "When the last finished round ended. Probing runs on its own clock: a scrape only shows the last round.",
        (),
        _one(lambda own: own.last_round),
    ),
    gauge("exporter_round_duration_seconds", "How long that round took.", (), _one(lambda own: own.round_seconds)),
    gauge(
        "exporter_round_complete",
        "Whether that round ended before its deadline; what the deadline cut is told as local or not_asked.",
        (),
        _one(lambda own: own.round_complete),
    ),
    counter("exporter_rounds_total", "Finished rounds.", (), _one(lambda own: own.rounds)),
    counter(
        "exporter_rounds_skipped_total",
        "Rounds that were skipped because the one before had not ended.",
        (),
        _one(lambda own: own.rounds_skipped),
    ),
    counter(
        "exporter_errors_total", "The exporter's own faults, by component.", ("component",), _each(lambda own: own.errors)
    ),
    gauge(
        "exporter_inventory_last_sync_timestamp_seconds",
        "When this kind of object was last known to be current.",
        ("resource",),
        _each(lambda own: own.inventory_synced),
    ),
    gauge(
        "exporter_config_last_reload_successful",
        "Whether the configuration that was read last is the one in use.",
        (),
        _one(lambda own: own.reload_successful),
    ),
    gauge(
        "exporter_config_last_reload_success_timestamp_seconds",
        "When the configuration in use was read.",
        (),
        _one(lambda own: own.reload_time),
    ),
)  # fmt: skip
