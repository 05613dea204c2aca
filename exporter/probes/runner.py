"""Runs what a round planned: at most 64 probes at once, each from its own start time, all cut at the round's deadline.

Between plan and snapshot. Unexpected exceptions are caught here: one is counted and logged, the probe becomes `local`,
and the round goes on. Every check and question has its results: what was cut is reported as such. A wait that took
longer than it was allowed to was our own delay (the process was stopped, or had no CPU) and shows nothing of the path.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Self, TypeVar

from exporter.model.probe import Check, Layer, Lookup, LookupOutcome, Observation, Outcome, Question, Timeouts, Together
from exporter.probes import run_check
from exporter.probes.dns import EdnsMemory, ask, ask_together
from exporter.probes.outcome import PhaseError, observe
from exporter.probes.ports import Network
from exporter.probes.tls import TlsContexts
from exporter.telemetry.logs import InternalErrors, fields

log = logging.getLogger(__name__)

IN_FLIGHT = 64
SLACK = 0.5  # seconds that the end of a wait may be late
CUT = "the round ended first"
STALLED = "the exporter itself was stopped or had no CPU"
P = TypeVar("P", Check, Question, Together)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Deadline:
    at: float  # the end of the round, on the event loop's clock

    @classmethod
    def after(cls, seconds: float) -> Self:
        return cls(asyncio.get_running_loop().time() + seconds)

    @property
    def left(self) -> float:
        return max(0.0, self.at - asyncio.get_running_loop().time())


class ProbeRunner:
    """The only place that starts probes. Bounds how many are in flight; keeps no result."""

    def __init__(
        self, network: Network, contexts: TlsContexts, errors: InternalErrors, *, clock: Callable[[], float]
    ) -> None:
        self._network = network
        self._contexts = contexts
        self._errors = errors
        self._clock = clock
        self._edns = EdnsMemory()
        self._slots = asyncio.Semaphore(IN_FLIGHT)
        self.overrun = False

    async def check_all(self, checks: Sequence[Check], deadline: Deadline) -> tuple[Observation, ...]:
        """Every layer of every check, in order; those that the deadline cut are `local`."""
        for ca_file in {check.target.ca_file for check in checks if Layer.TLS in check.target.layers}:
            with suppress(PhaseError):  # told by the check itself
                self._contexts.of(ca_file)  # loaded here, so that the first handshake is timed as the others are
        made = await self._all(checks, self._check, partial(self._local, why=CUT), deadline)
        return tuple(observation for observations in made for observation in observations)

    async def ask_all(self, questions: Sequence[Question], deadline: Deadline) -> tuple[Lookup, ...]:
        """One lookup for each question, in order; those that the deadline cut are `not_asked`."""
        return tuple(await self._all(questions, self._ask, partial(self._not_asked, why=CUT), deadline))

    async def ask_together(self, asked: Sequence[Together], deadline: Deadline) -> tuple[tuple[Lookup, ...], ...]:
        """The lookups of each, in order."""

        def cut(one: Together) -> tuple[Lookup, ...]:
            return tuple(self._not_asked(question, CUT) for question in one.questions)

        return tuple(await self._all(asked, self._ask_together, cut, deadline))

    async def _all(
        self, planned: Sequence[P], run: Callable[[P], Awaitable[T]], cut: Callable[[P], T], deadline: Deadline
    ) -> list[T]:
        async def later(one: P) -> T:
            if one.start > 0:
                await asyncio.sleep(one.start)
            async with self._slots:
                return await run(one)

        tasks = [asyncio.create_task(later(one)) for one in planned]
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
        return [cut(one) if t.cancelled() else t.result() for one, t in zip(planned, tasks, strict=True)]

    async def _check(self, check: Check) -> list[Observation]:
        try:
            made = await run_check(check, self._network, self._contexts)
            return [discount_event_loop_stall(o, check.timeouts) for o in made]
        except Exception:
            self._errors.count("probe")
            log.exception("a probe failed in an unexpected way", extra=fields(target=check.target.name))
            return self._local(check, "an error of the exporter itself, see its log")

    async def _ask(self, question: Question) -> Lookup:
        try:
            return discount_lookup_stall(await ask(question, self._network, self._edns))
        except Exception:
            self._errors.count("dns")
            log.exception("a lookup failed in an unexpected way", extra=fields(server=question.server.label))
            return self._not_asked(question, "an error of the exporter itself")

    async def _ask_together(self, asked: Together) -> tuple[Lookup, ...]:
        try:
            return tuple(map(discount_lookup_stall, await ask_together(asked, self._network)))
        except Exception:
            self._errors.count("dns")
            log.exception("lookups failed in an unexpected way", extra=fields(server=asked.questions[0].server.label))
            return tuple(self._not_asked(question, "an error of the exporter itself") for question in asked.questions)

    def _local(self, check: Check, why: str) -> list[Observation]:
        made = (observe(check, layer, Outcome.LOCAL, detail=why) for layer in check.target.layers)
        return [replace(observation, time=self._clock()) for observation in made]

    def _not_asked(self, question: Question, why: str) -> Lookup:
        return Lookup(question=question, outcome=LookupOutcome.NOT_ASKED, detail=why, time=self._clock())


def discount_event_loop_stall(observation: Observation, timeouts: Timeouts) -> Observation:
    """Without our own delay: a timeout that came late is `local`, a duration that is too long is dropped."""
    allowed = min(timeouts.layers[observation.layer], timeouts.whole)
    if observation.seconds is None or observation.seconds <= allowed + SLACK:
        return observation
    if observation.outcome is Outcome.TIMEOUT:
        return replace(observation, outcome=Outcome.LOCAL, seconds=None, detail=STALLED)
    return replace(observation, seconds=None)


def discount_lookup_stall(lookup: Lookup) -> Lookup:
    """The same for a lookup: a timeout that came late is `not_asked`."""
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
