"""Metrics of the exporter itself. They stay when a report is too old to be exposed, so they read ExporterState only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from exporter.catalogue.metric import Metric, by_label, counter, gauge, one
from exporter.model.cni.network import PodNetwork


@dataclass(frozen=True, slots=True, kw_only=True)
class ExporterState:
    """What the exporter knows about itself at one moment. Times are Unix seconds; None: it has not happened yet."""

    node: str
    role: str
    version: str = ""
    revision: str = ""
    python: str = ""
    network: PodNetwork | None = None  # of the last round's inventory
    last_round: float | None = None  # when the last finished round ended
    round_seconds: float | None = None
    round_complete: bool | None = None  # False: cut by its deadline
    rounds: int = 0
    rounds_skipped: int = 0
    errors: Mapping[str, int] = field(default_factory=dict)  # faults of the exporter, by component
    log_lines_dropped: int = 0
    loop_lag: float | None = None  # seconds: the longest of the last minute
    inventory_synced: Mapping[str, float] = field(default_factory=dict)  # by resource
    events: Mapping[str, int] = field(default_factory=dict)  # Kubernetes Events, by what became of them
    reload_successful: bool | None = None
    reload_problem: str = ""  # of the last one that failed, in one line, until one succeeds
    reload_time: float | None = None  # of the last one that succeeded


# fmt: off
EXPORTER: tuple[Metric[ExporterState], ...] = (
    gauge("exporter_info", "Node and role of this exporter.", ("node", "role"),
          lambda state: [((state.node, state.role), 1)]),
    gauge("exporter_cni_info",
          "The recognised pod network (CNI) of the cluster, and what gives its pods addresses. It is unknown if none "
          "or more than one was found.", ("cni", "ipam"),
          lambda state: [((state.network.cni, state.network.ipam), 1)] if state.network else []),
    gauge("exporter_build_info", "Version, source revision and Python version of this exporter.",
          ("version", "revision", "python"), lambda state: [((state.version, state.revision, state.python), 1)]),
    gauge("exporter_last_round_timestamp_seconds",
          "When the last finished round ended. Probing has its own interval: a scrape only shows the last round.", (),
          one(lambda state: state.last_round)),
    gauge("exporter_round_duration_seconds", "Duration of the last finished round.", (),
          one(lambda state: state.round_seconds)),
    gauge("exporter_round_complete",
          "Whether the last round finished before its deadline. Probes cut off by the deadline are reported with "
          "outcome local or not_asked.", (), one(lambda state: state.round_complete)),
    counter("exporter_rounds_total", "Finished rounds.", (), one(lambda state: state.rounds)),
    counter("exporter_rounds_skipped_total", "Rounds skipped because the previous round was still running.", (),
            one(lambda state: state.rounds_skipped)),
    counter("exporter_errors_total", "Internal errors of the exporter (bugs), by component.", ("component",),
            by_label(lambda state: state.errors)),
    counter("exporter_events_total", "Kubernetes Events of causes, by outcome: sent, failed, or dropped (rate limit).",
            ("outcome",), by_label(lambda state: state.events)),
    counter("exporter_log_lines_dropped_total",
            "Log lines lost because the reader of the log did not read. The exporter does not wait for it.", (),
            one(lambda state: state.log_lines_dropped)),
    gauge("exporter_event_loop_lag_seconds",
          "Longest time in the last minute that the exporter's event loop was late: work that held up its probes, "
          "deadlines and answers, or a lack of CPU time.", (), one(lambda state: state.loop_lag)),
    gauge("exporter_inventory_last_sync_timestamp_seconds", "When this kind of object was last known to be current.",
          ("resource",), by_label(lambda state: state.inventory_synced)),
    gauge("exporter_config_last_reload_successful",
          "Whether the last configuration reload succeeded; if not, the previous configuration is still in use.", (),
          one(lambda state: state.reload_successful)),
    gauge("exporter_config_last_reload_success_timestamp_seconds", "When the configuration in use was loaded.", (),
          one(lambda state: state.reload_time)),
)
# fmt: on
