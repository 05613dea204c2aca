"""The state of each watched resource and what follows from it: staleness, why a kind was not read, what is logged.

Written by watch.py, read by source.py; no I/O but the log. Times are Unix seconds of the source's clock.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from exporter.inventory.kubernetes.api_error import REFUSALS, ApiError, ApiErrorKind
from exporter.inventory.kubernetes.watched_resources import WatchedResource
from exporter.model.cluster.inventory import Inventory, ResourceKind
from exporter.model.facts import ReaderStatus
from exporter.model.reason import Reason
from exporter.telemetry.logs import fields

log = logging.getLogger(__name__)

HELD = 2.0  # seconds that a watch must last to count: a server refuses a version at once
OUTAGE = 10.0  # seconds without a watch before what was read counts as stale
FAILED = frozenset({Reason.NO_PERMISSION, Reason.API_UNAVAILABLE})  # reasons that are a reader's failure


@dataclass(slots=True, kw_only=True)
class WatchState:
    """The state of one watched resource."""

    first_result: bool = False  # answered once, or failed once
    has_data: bool = False  # something was read, and is kept
    opened: float | None = None  # since when a watch is open
    outage_since: float | None = None  # since when none is, or only such as ended at once
    last_current: float | None = None  # when what is kept was last known to be current
    seconds: float = 0.0  # that the last whole list took
    error: ApiError | None = None  # of the last attempt

    def open(self, now: float) -> None:
        """A watch began."""
        self.opened, self.error = now, None

    def close(self, now: float) -> None:
        """A watch ended, or could not begin."""
        if self.outage_since is None or (self.opened is not None and now - self.opened >= HELD):
            self.outage_since = now
        self.opened = None

    def mark_current(self, now: float) -> None:
        """Everything that is kept is current."""
        self.first_result, self.has_data, self.last_current, self.error = True, True, now, None
        self.outage_since = None if self.opened is not None else now

    def long_lost(self, now: float) -> bool:
        """Whether there was an outage since this was last known to be current."""
        return self.outage_since is not None and now - self.outage_since > OUTAGE

    def stale(self, now: float) -> bool:
        """Whether what is kept may be out of date because the API does not answer.

        An open watch is current, however long nothing arrives. A real server sends no bookmark either before its cache
        has passed the version that the watch began at, which may take minutes or for ever. client.py finds out whether
        the server still exists: by TCP keepalive, and by ending a watch that outlasts its time.
        """
        if not self.has_data or self.last_current is None or self._watched(now):
            return False
        return now - max(self.outage_since or self.last_current, self.last_current) > OUTAGE

    def current_at(self, now: float) -> float | None:
        """The moment that what is kept shows: now while a watch is open, for it reports a change at once."""
        return now if self._watched(now) else self.last_current

    def _watched(self, now: float) -> bool:
        """Whether a watch is open, and not only one of those that end at once."""
        return self.opened is not None and (self.outage_since is None or now - self.opened >= HELD)


def answers(states: Iterable[WatchState]) -> bool:
    """Whether the API server answers at all: something was read, or refused."""
    return any(each.has_data or (each.error is not None and each.error.kind in REFUSALS) for each in states)


def why_failing(states: Iterable[WatchState], now: float) -> ApiError | None:
    """The most telling error of what is missing or stale: an outage before a refusal, a refusal before absence."""
    errors = [each.error for each in states if each.error is not None and (not each.has_data or each.stale(now))]
    last = (ApiErrorKind.FORBIDDEN, ApiErrorKind.NOT_FOUND)
    return min(errors, key=lambda error: last.index(error.kind) + 1 if error.kind in last else 0, default=None)


def why_unread(states: Mapping[WatchedResource, WatchState]) -> dict[ResourceKind, Reason]:
    """For each kind of which a resource is missing, the Reason: a refusal first, then an outage, then absence."""
    found: dict[ResourceKind, Reason] = {}
    for watched, state in states.items():
        if not state.has_data and not (watched.optional and state.first_result):
            reason = _REASONS.get(state.error.kind if state.error is not None else None, Reason.API_UNAVAILABLE)
            found[watched.kind] = min(reason, found.get(watched.kind, _RANK[-1]), key=_RANK.index)
    read = {watched.kind for watched, state in states.items() if state.has_data}
    # A kind that was partly read lacks only what is refused; that some group is not served is no failure.
    return {kind: reason for kind, reason in found.items() if kind not in read or reason is not _RANK[-1]}


_RANK = (Reason.NO_PERMISSION, Reason.API_UNAVAILABLE, Reason.NOT_APPLICABLE)
_REASONS: Mapping[ApiErrorKind | None, Reason] = {
    ApiErrorKind.FORBIDDEN: Reason.NO_PERMISSION,
    ApiErrorKind.NOT_FOUND: Reason.NOT_APPLICABLE,
}


def api_readings(inventory: Inventory) -> tuple[ReaderStatus, ...]:
    """The status of the API's reader of each kind; none of a kind that the cluster lacks or this role does not read."""
    failed = {kind: reason for kind, reason in inventory.unread.items() if reason in FAILED}
    reasons = dict.fromkeys(inventory.read_at, Reason.STALE_INVENTORY if inventory.stale else None) | failed
    return tuple(
        ReaderStatus(
            reader=f"api_{kind}",
            success=reason is None,
            seconds=0.0 if kind in failed else inventory.read_seconds.get(kind, 0.0),
            reason=reason,
        )
        for kind, reason in reasons.items()
    )


class WatchLogger:
    """Logs what changed: an outage once for all resources, a refusal once for each."""

    def __init__(self, host: str) -> None:
        self._host = host
        self._out = False
        self._refused: set[WatchedResource] = set()

    def log_changes(self, states: Mapping[WatchedResource, WatchState], now: float) -> None:
        """Log the difference to the last call. A connection that broke and was opened again is none."""
        self._log_outage((r, s) for r, s in states.items() if not s.has_data or s.stale(now))
        for watched, state in states.items():
            if state.opened is not None and watched in self._refused:
                self._refused.remove(watched)
                log.info("read again", extra=fields(resource=watched.label))
        self._log_refusals(states, ApiErrorKind.FORBIDDEN, "no permission to read", logging.WARNING)
        self._log_refusals(states, ApiErrorKind.NOT_FOUND, "not served by this cluster", logging.INFO)

    def _log_refusals(
        self, states: Mapping[WatchedResource, WatchState], kind: ApiErrorKind, message: str, level: int
    ) -> None:
        new = {
            watched: state.error
            for watched, state in states.items()
            if state.error is not None and state.error.kind is kind
            if not (state.has_data or watched.optional or watched in self._refused)
        }
        if new:
            self._refused |= new.keys()
            resources = ", ".join(sorted({watched.label for watched in new}))
            log.log(level, message, extra=fields(resources=resources, problem=str(next(iter(new.values())))))

    def _log_outage(self, states: Iterable[tuple[WatchedResource, WatchState]]) -> None:
        ordinary = {*REFUSALS, ApiErrorKind.EXPIRED}
        failing = [(r, s.error) for r, s in states if s.error is not None and s.error.kind not in ordinary]
        if failing and not self._out:
            watched, error = failing[0]
            extra = fields(server=self._host, resource=watched.label, problem=str(error))
            log.warning("the API server fails; what was read last stays in use", extra=extra)
        elif self._out and not failing:
            log.info("the API server answers again", extra=fields(server=self._host))
        self._out = bool(failing)
