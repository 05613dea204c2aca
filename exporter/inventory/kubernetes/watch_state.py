"""How a reading of the API stands, and what follows from it: stale or not, why a kind was not read, what the log says. No I/O but the log.

Written by watching.py, read by kubernetes.py. Times are Unix seconds of the source's clock.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from exporter.inventory.kubernetes.api_error import REFUSALS, ApiError, ApiErrorKind
from exporter.inventory.kubernetes.watched_resources import WatchedResource as Resource
from exporter.model.facts import ReaderStatus
from exporter.model.inventory import Inventory, ResourceKind
from exporter.model.reason import Reason
from exporter.telemetry.logs import fields

log = logging.getLogger(__name__)

HELD = 2.0  # seconds that a watch must last to count: what the server has against a version it says at once
OUTAGE = 10.0  # seconds without a watch before what was read counts as stale
FAILED = frozenset({Reason.NO_PERMISSION, Reason.API_UNAVAILABLE})  # reasons that are a reader's failure


@dataclass(slots=True, kw_only=True)
class WatchState:
    """How a reading stands."""

    first_result: bool = False  # answered once, or failed once
    has_data: bool = False  # something was read, and is kept
    opened: float | None = None  # since when a watch is open
    outage_since: float | None = None  # since when none is, or only such as ended at once
    last_current: float | None = None  # when what is kept was last known to be current
    seconds: float = 0.0  # that the last whole list took
    trouble: ApiError | None = None  # of the last attempt

    def open(self, now: float) -> None:
        """A watch began."""
        self.opened, self.trouble = now, None

    def close(self, now: float) -> None:
        """A watch ended, or could not begin."""
        if self.outage_since is None or (self.opened is not None and now - self.opened >= HELD):
            self.outage_since = now
        self.opened = None

    def see(self, now: float) -> None:
        """Everything that is kept is current."""
        self.first_result, self.has_data, self.last_current, self.trouble = True, True, now, None
        self.outage_since = None if self.opened is not None else now

    def long_lost(self, now: float) -> bool:
        """Whether there was an outage since this was last known to be current."""
        return self.outage_since is not None and now - self.outage_since > OUTAGE

    def stale(self, now: float) -> bool:
        """Whether what is kept may be out of date because the API does not answer.

        An open watch is current, however long nothing comes: nothing happened. A real server sends no bookmark either
        before its cache has passed the version that the watch began at, which may take minutes or for ever. That the
        server is still there is the connection's matter (client.py): the kernels ask each other, and a watch that
        outlasts its time is ended.
        """
        if not self.has_data or self.last_current is None:
            return False
        if self._watched(now):
            return False
        return now - max(self.outage_since or self.last_current, self.last_current) > OUTAGE

    def current_at(self, now: float) -> float | None:
        """The moment that what is kept shows: now while a watch is open, for an open one tells of a change at once."""
        return now if self._watched(now) else self.last_current

    def _watched(self, now: float) -> bool:
        """Whether a watch is open, and not only one of those that end at once."""
        return self.opened is not None and (self.outage_since is None or now - self.opened >= HELD)


def answers(states: Iterable[WatchState]) -> bool:
    """Whether the API server answers at all: something was read, or refused."""
    return any(each.has_data or (each.trouble is not None and each.trouble.kind in REFUSALS) for each in states)


def why_failing(states: Iterable[WatchState], now: float) -> ApiError | None:
    """The trouble of what is missing or stale that tells most: an outage before a refusal, a refusal before absence."""
    troubles = [each.trouble for each in states if each.trouble is not None and (not each.has_data or each.stale(now))]
    last = (ApiErrorKind.FORBIDDEN, ApiErrorKind.NOT_FOUND)
    return min(troubles, key=lambda t: last.index(t.kind) + 1 if t.kind in last else 0, default=None)


def why_unread(states: Mapping[Resource, WatchState]) -> dict[ResourceKind, Reason]:
    """For each kind of which a reading is missing, the Reason (model.report): a refusal first, then an outage, then absence."""
    ranked: dict[ResourceKind, Reason] = {}
    for reading, state in states.items():
        reason = None if state.has_data else _reason(state)
        if reason is None or (reading.optional and state.first_result):
            continue
        before = ranked.get(reading.kind)
        if before is None or _RANK.index(reason) < _RANK.index(before):
            ranked[reading.kind] = reason
    held = {reading.kind for reading, state in states.items() if state.has_data}
    # A kind that is partly there lacks only what is refused; that some group is not served is nothing to tell.
    return {kind: reason for kind, reason in ranked.items() if kind not in held or reason is not Reason.NOT_APPLICABLE}


_RANK = (Reason.NO_PERMISSION, Reason.API_UNAVAILABLE, Reason.NOT_APPLICABLE)


def _reason(state: WatchState) -> Reason:
    kind = state.trouble.kind if state.trouble is not None else None
    if kind is ApiErrorKind.FORBIDDEN:
        return Reason.NO_PERMISSION
    return Reason.NOT_APPLICABLE if kind is ApiErrorKind.NOT_FOUND else Reason.API_UNAVAILABLE


def api_readings(inventory: Inventory) -> tuple[ReaderStatus, ...]:
    """How the API's readers fare, kind by kind. A kind that the cluster does not have, or this role does not read, has none."""
    failed = {kind: reason for kind, reason in inventory.unread.items() if reason in FAILED}
    stale = Reason.STALE_INVENTORY if inventory.stale else None
    return (
        *(
            ReaderStatus(
                reader=f"api_{kind}",
                success=not inventory.stale,
                seconds=inventory.read_seconds.get(kind, 0.0),
                reason=stale,
            )
            for kind in inventory.read_at
            if kind not in failed
        ),
        *(
            ReaderStatus(reader=f"api_{kind}", success=False, seconds=0.0, reason=reason)
            for kind, reason in failed.items()
        ),
    )


class WatchLogger:
    """Says in the log what changed: an outage once for all readings, a refusal once for each."""

    def __init__(self, host: str) -> None:
        self._host = host
        self._out = False
        self._refused: set[Resource] = set()

    def tell(self, states: Mapping[Resource, WatchState], now: float) -> None:
        """Compare with what was said last. A connection that broke and was made again is nothing to tell."""
        self._tell_outage((r, s) for r, s in states.items() if not s.has_data or s.stale(now))
        for reading, state in states.items():
            if state.opened is not None and reading in self._refused:
                self._refused.remove(reading)
                log.info("read again", extra=fields(resource=reading.label))
        self._tell_refusals(states, ApiErrorKind.FORBIDDEN, "no permission to read", logging.WARNING)
        self._tell_refusals(states, ApiErrorKind.NOT_FOUND, "not served by this cluster", logging.INFO)

    def _tell_refusals(self, states: Mapping[Resource, WatchState], kind: ApiErrorKind, said: str, level: int) -> None:
        new = {
            reading: state.trouble
            for reading, state in states.items()
            if state.trouble is not None and state.trouble.kind is kind
            if not (state.has_data or reading.optional or reading in self._refused)
        }
        if new:
            self._refused |= new.keys()
            resources = ", ".join(sorted({reading.label for reading in new}))
            log.log(level, said, extra=fields(resources=resources, problem=str(next(iter(new.values())))))

    def _tell_outage(self, states: Iterable[tuple[Resource, WatchState]]) -> None:
        ordinary = {*REFUSALS, ApiErrorKind.EXPIRED}
        failing = [(r, s.trouble) for r, s in states if s.trouble is not None and s.trouble.kind not in ordinary]
        if failing and not self._out:
            reading, trouble = failing[0]
            said = fields(server=self._host, resource=reading.label, problem=str(trouble))
            log.warning("the API server fails; what was read last stays in use", extra=said)
        elif self._out and not failing:
            log.info("the API server answers again", extra=fields(server=self._host))
        self._out = bool(failing)
