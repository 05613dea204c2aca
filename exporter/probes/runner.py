"""Runs what a round planned: at most 64 probes in flight, each started at its own moment, all cut at the round's deadline.

Between plan and snapshot. One of the two places where an unexpected exception is caught: it is counted and logged, the
probe becomes `local`, and the round goes on. The number of results never depends on luck: what was cut is reported as
such. A wait that took longer than it was allowed to was ours (the process was stopped, or had no CPU), and says nothing
of the path.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from exporter.model.probe import Check, Lookup, LookupOutcome, Observation, Outcome, Question, Timeouts
from exporter.probes import ask, run_check
from exporter.probes.ports import Network
from exporter.probes.tls import TlsContexts
from exporter.telemetry.internal_errors import InternalErrors
from exporter.telemetry.logs import fields

log = logging.getLogger(__name__)

IN_FLIGHT = 64
SLACK = 0.5  # seconds that the end of a wait may come late
STALLED = "the exporter itself stood still"
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Deadline:
    """The end of the round, on the event loop's clock."""

    at: float

    @property
    def left(self) -> float:
        return max(0.0, self.at - asyncio.get_running_loop().time())


class ProbeRunner:
    """The one place where probes are started. Bounded in flight; holds no result."""

    def __init__(
        self, network: Network, contexts: TlsContexts, errors: InternalErrors, *, clock: Callable[[], float]
    ) -> None:
        self._network = network
        self._contexts = contexts
        self._errors = errors
        self._clock = clock
        self._slots = asyncio.Semaphore(IN_FLIGHT)
        self.overrun = False

    async def check_all(self, checks: Sequence[Check], deadline: Deadline) -> tuple[Observation, ...]:
        """Every layer of every check, in order; those that the deadline cut are `local`."""
        results = await self._all([(c.start, lambda c=c: self._check(c)) for c in checks], deadline)  # type: ignore[misc]  # mypy cannot infer the default argument
        return tuple(
            observation
            for check, made in zip(checks, results, strict=True)
            for observation in (made if made is not None else self._cut(check))
        )

    async def ask_all(self, questions: Sequence[Question], deadline: Deadline) -> tuple[Lookup, ...]:
        """One lookup for each question, in order; those that the deadline cut are `not_asked`."""
        results = await self._all([(q.start, lambda q=q: self._ask(q)) for q in questions], deadline)  # type: ignore[misc]  # as above
        return tuple(
            made
            if made is not None
            else Lookup(question=q, outcome=LookupOutcome.NOT_ASKED, detail="the round ended first", time=self._clock())
            for q, made in zip(questions, results, strict=True)
        )

    async def _all(
        self, jobs: Iterable[tuple[float, Callable[[], Awaitable[T]]]], deadline: Deadline
    ) -> list[T | None]:
        tasks = [asyncio.create_task(self._later(start, job)) for start, job in jobs]
        if not tasks:
            return []
        try:
            _, late = await asyncio.wait(tasks, timeout=deadline.left)
        except asyncio.CancelledError:
            await _end(tasks)
            raise
        if late:
            self.overrun = True
            await _end(late)
        return [None if t.cancelled() else t.result() for t in tasks]

    async def _later(self, start: float, job: Callable[[], Awaitable[T]]) -> T:
        if start > 0:
            await asyncio.sleep(start)
        async with self._slots:
            return await job()

    async def _check(self, check: Check) -> list[Observation] | None:
        try:
            return [
                discount_event_loop_stall(o, check.timeouts)
                for o in await run_check(check, self._network, self._contexts)
            ]
        except Exception:
            self._errors.count("probe")
            log.exception("a probe failed in an unexpected way", extra=fields(target=check.target.name))
            return self._cut(check, "an error of the exporter itself, see its log")

    async def _ask(self, question: Question) -> Lookup:
        try:
            return discount_lookup_stall(await ask(question, self._network))
        except Exception:
            self._errors.count("dns")
            log.exception("a lookup failed in an unexpected way", extra=fields(server=question.server.label))
            return Lookup(
                question=question,
                outcome=LookupOutcome.NOT_ASKED,
                detail="an error of the exporter itself",
                time=self._clock(),
            )

    def _cut(self, check: Check, why: str = "the round ended first") -> list[Observation]:
        return [
            Observation(
                vantage=check.vantage,
                target=check.target,
                layer=layer,
                family=check.family,
                outcome=Outcome.LOCAL,
                detail=why,
                time=self._clock(),
                address=check.address,
            )
            for layer in check.target.layers
        ]


def discount_event_loop_stall(observation: Observation, timeouts: Timeouts) -> Observation:
    """The observation as the network made it: a timeout that came late is `local`, and a duration that was ours is none."""
    allowed = min(getattr(timeouts, observation.layer.value), timeouts.whole)
    if observation.seconds is None or observation.seconds <= allowed + SLACK:
        return observation
    if observation.outcome is Outcome.TIMEOUT:
        return replace(observation, outcome=Outcome.LOCAL, seconds=None, detail=STALLED)
    return replace(observation, seconds=None)


def discount_lookup_stall(lookup: Lookup) -> Lookup:
    """The same of a lookup: a timeout that came late is `not_asked`."""
    if lookup.seconds is None or lookup.seconds <= lookup.question.timeout + SLACK:
        return lookup
    if lookup.outcome is LookupOutcome.TIMEOUT:
        return replace(lookup, outcome=LookupOutcome.NOT_ASKED, seconds=None, detail=STALLED)
    return replace(lookup, seconds=None)


async def _end(tasks: Iterable[asyncio.Task[T]]) -> None:
    tasks = list(tasks)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
