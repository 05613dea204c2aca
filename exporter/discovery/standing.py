"""How a reading of the API stands, and what follows from it: stale or not, why a kind was not read, what the log says. No I/O but the log.

Written by watching.py, read by kubernetes.py. Times are Unix seconds of the source's clock.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from exporter.discovery.readings import Reading as Resource
from exporter.discovery.trouble import REFUSALS, ApiError, Trouble
from exporter.logs import fields
from exporter.model.facts import Reading
from exporter.model.inventory import Inventory, Kind
from exporter.model.report import Reason

log = logging.getLogger(__name__)

HELD = 2.0  # seconds that a watch must last to count: what the server has against a version it says at once
OUTAGE = 10.0  # seconds without a watch before what was read counts as stale
FAILED = frozenset({str(Reason.NO_PERMISSION), str(Reason.API_UNAVAILABLE)})  # reasons that are a reader's failure


@dataclass(slots=True)
class Standing:
    """How a reading stands."""

    settled: bool = False  # answered once, or failed once
    held: bool = False  # something was read, and is kept
    opened: float | None = None  # since when a watch is open
    lost: float | None = None  # since when none is, or only such as ended at once
    seen: float | None = None  # when what is kept was last known to be current
    seconds: float = 0.0  # that the last whole list took
    trouble: ApiError | None = None  # of the last attempt

    def open(self, now: float) -> None:
        """A watch began."""
        self.opened, self.trouble = now, None

    def close(self, now: float) -> None:
        """A watch ended, or could not begin."""
        if self.lost is None or (self.opened is not None and now - self.opened >= HELD):
            self.lost = now
        self.opened = None

    def see(self, now: float) -> None:
        """Everything that is kept is current."""
        self.settled, self.held, self.seen, self.trouble = True, True, now, None
        self.lost = None if self.opened is not None else now

    def long_lost(self, now: float) -> bool:
        """Whether there was an outage since this was last known to be current."""
        return self.lost is not None and now - self.lost > OUTAGE

    def stale(self, now: float) -> bool:
        """Whether what is kept may be out of date because the API does not answer.

        An open watch is current, however long nothing comes: nothing happened. A real server sends no bookmark either before its cache has
        passed the version that the watch began at, which may take minutes or for ever. That the server is still there is the connection's
        matter (client.py): the kernels ask each other, and a watch that outlasts its time is ended.
        """
        if not self.held or self.seen is None:
            return False
        if self._watched(now):
            return False
        return now - max(self.lost or self.seen, self.seen) > OUTAGE

    def current_at(self, now: float) -> float | None:
        """The moment that what is kept shows: now while a watch is open, for an open one tells of a change at once."""
        return now if self._watched(now) else self.seen

    def _watched(self, now: float) -> bool:
        """Whether a watch is open, and not only one of those that end at once."""
        return self.opened is not None and (self.lost is None or now - self.opened >= HELD)


def answers(standings: Iterable[Standing]) -> bool:
    """Whether the API server answers at all: something was read, or refused."""
    return any(each.held or (each.trouble is not None and each.trouble.kind in REFUSALS) for each in standings)


def why_failing(standings: Iterable[Standing], now: float) -> ApiError | None:
    """The trouble of what is missing or stale that tells most: an outage before a refusal, a refusal before absence."""
    troubles = [each.trouble for each in standings if each.trouble is not None and (not each.held or each.stale(now))]
    last = (Trouble.FORBIDDEN, Trouble.ABSENT)
    return min(troubles, key=lambda t: last.index(t.kind) + 1 if t.kind in last else 0, default=None)


def why_unread(standings: Mapping[Resource, Standing]) -> dict[Kind, str]:
    """For each kind of which a reading is missing, the Reason (model.report): a refusal first, then an outage, then absence."""
    ranked: dict[Kind, Reason] = {}
    for reading, standing in standings.items():
        reason = None if standing.held else _reason(standing)
        if reason is None or (reading.optional and standing.settled):
            continue
        before = ranked.get(reading.kind)
        if before is None or _RANK.index(reason) < _RANK.index(before):
            ranked[reading.kind] = reason
    held = {reading.kind for reading, standing in standings.items() if standing.held}
    # A kind that is partly there lacks only what is refused; that some group is not served is nothing to tell.
    return {
        kind: str(reason) for kind, reason in ranked.items() if kind not in held or reason is not Reason.NOT_APPLICABLE
    }


_RANK = (Reason.NO_PERMISSION, Reason.API_UNAVAILABLE, Reason.NOT_APPLICABLE)


def _reason(standing: Standing) -> Reason:
    kind = standing.trouble.kind if standing.trouble is not None else None
    if kind is Trouble.FORBIDDEN:
        return Reason.NO_PERMISSION
    return Reason.NOT_APPLICABLE if kind is Trouble.ABSENT else Reason.API_UNAVAILABLE


def api_readings(inventory: Inventory) -> tuple[Reading, ...]:
    """How the API's readers fare, kind by kind. A kind that the cluster does not have, or this role does not read, has none."""
    failed = {kind: reason for kind, reason in inventory.unread.items() if reason in FAILED}
    stale = str(Reason.STALE_INVENTORY)
    return (
        *(
            Reading(f"api_{kind}", not inventory.stale, inventory.read_seconds.get(kind, 0.0), stale * inventory.stale)
            for kind in inventory.read_at
            if kind not in failed
        ),
        *(Reading(f"api_{kind}", success=False, seconds=0.0, reason=reason) for kind, reason in failed.items()),
    )


class Herald:
    """Says in the log what changed: an outage once for all readings, a refusal once for each."""

    def __init__(self, host: str) -> None:
        self._host = host
        self._out = False
        self._refused: set[Resource] = set()

    def tell(self, standings: Mapping[Resource, Standing], now: float) -> None:
        """Compare with what was said last. A connection that broke and was made again is nothing to tell."""
        self._tell_outage((r, s) for r, s in standings.items() if not s.held or s.stale(now))
        for reading, standing in standings.items():
            if standing.opened is not None and reading in self._refused:
                self._refused.remove(reading)
                log.info("read again", extra=fields(resource=reading.label))
        self._tell_refusals(standings, Trouble.FORBIDDEN, "no permission to read", logging.WARNING)
        self._tell_refusals(standings, Trouble.ABSENT, "not served by this cluster", logging.INFO)

    def _tell_refusals(self, standings: Mapping[Resource, Standing], kind: Trouble, said: str, level: int) -> None:
        new = {
            reading: standing.trouble
            for reading, standing in standings.items()
            if standing.trouble is not None and standing.trouble.kind is kind
            if not (standing.held or reading.optional or reading in self._refused)
        }
        if new:
            self._refused |= new.keys()
            resources = ", ".join(sorted({reading.label for reading in new}))
            log.log(level, said, extra=fields(resources=resources, problem=str(next(iter(new.values())))))

    def _tell_outage(self, standings: Iterable[tuple[Resource, Standing]]) -> None:
        ordinary = {*REFUSALS, Trouble.EXPIRED}
        failing = [(r, s.trouble) for r, s in standings if s.trouble is not None and s.trouble.kind not in ordinary]
        if failing and not self._out:
            reading, trouble = failing[0]
            said = fields(server=self._host, resource=reading.label, problem=str(trouble))
            log.warning("the API server fails; what was read last stays in use", extra=said)
        elif self._out and not failing:
            log.info("the API server answers again", extra=fields(server=self._host))
        self._out = bool(failing)
