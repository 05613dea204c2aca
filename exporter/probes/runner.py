"""Runs what a round planned, each probe from its own start time, all cut at the round's deadline.

Between plan and snapshot. Unexpected exceptions are caught here: one is counted and logged, the probe becomes `local`,
and the round goes on. Every check and question has its results: what was cut is reported as such. A wait that took
longer than it was allowed to was our own delay (the process was stopped, or had no CPU) and shows nothing of the path.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Self, TypeVar

from exporter.model.probe import Check, Layer, Lookup, LookupOutcome, Observation, Outcome, Question, Timeouts, Together
from exporter.probes import jobs_of
from exporter.probes.dns import EdnsMemory, ask, ask_together
from exporter.probes.engine.driver import SLACK, Driver, Job
from exporter.probes.outcome import PhaseError, observe
from exporter.probes.tls import TlsContexts
from exporter.telemetry.logs import InternalErrors, fields

log = logging.getLogger(__name__)

CUT = "the round ended first"
STALLED = "the exporter itself was stopped or had no CPU"
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
    """The only place that starts probes. Keeps no result."""

    def __init__(
        self, driver: Driver, contexts: TlsContexts, errors: InternalErrors, *, clock: Callable[[], float]
    ) -> None:
        self._driver = driver
        self._contexts = contexts
        self._errors = errors
        self._clock = clock
        self._edns = EdnsMemory()
        self.overrun = False

    async def check_all(self, checks: Sequence[Check], deadline: Deadline) -> tuple[Observation, ...]:
        """Every layer of every check, in order; those that the deadline cut are `local`."""
        for ca_file in {check.target.ca_file for check in checks if Layer.TLS in check.target.layers}:
            with suppress(PhaseError):  # told by the check itself
                self._contexts.of(ca_file)  # loaded here, so that the first handshake is timed as the others are
        parts = [jobs_of(check, self._contexts) for check in checks]
        jobs = [job for each in parts for job in each]
        ended = iter(await self._run(jobs, deadline))
        made = (self._observed(check, [next(ended) for _ in each]) for check, each in zip(checks, parts, strict=True))
        return tuple(observation for observations in made for observation in observations)

    async def ask_all(self, questions: Sequence[Question], deadline: Deadline) -> tuple[Lookup, ...]:
        """One lookup for each question, in order; those that the deadline cut are `not_asked`."""
        jobs = [Job(partial(ask, question, self._edns), question.start) for question in questions]
        ended = await self._run(jobs, deadline)
        return tuple(self._looked_up(q, result) for q, result in zip(questions, ended, strict=True))

    async def ask_together(self, asked: Sequence[Together], deadline: Deadline) -> tuple[tuple[Lookup, ...], ...]:
        """The lookups of each, in order."""
        ended = await self._run([Job(partial(ask_together, each), each.start) for each in asked], deadline)
        return tuple(
            tuple(map(discount_lookup_stall, result))
            if isinstance(result, tuple)
            else tuple(self._not_asked(question, why) for question in each.questions)
            for each, result in zip(asked, ended, strict=True)
            for why in [self._why(result, "dns", server=each.questions[0].server.label)]
        )

    async def _run(self, jobs: Sequence[Job[T]], deadline: Deadline) -> list[T | Exception | None]:
        ended = await self._driver.run(jobs, deadline.left)
        self.overrun |= None in ended
        return ended

    def _observed(self, check: Check, parts: Sequence[list[Observation] | Exception | None]) -> list[Observation]:
        made: list[Observation] = []
        for part in parts:
            if not isinstance(part, list):
                return self._local(check, self._why(part, "probe", target=check.target.name))
            made += part
        return [discount_event_loop_stall(observation, check.timeouts) for observation in made]

    def _looked_up(self, question: Question, result: Lookup | Exception | None) -> Lookup:
        if isinstance(result, Lookup):
            return discount_lookup_stall(result)
        return self._not_asked(question, self._why(result, "dns", server=question.server.label))

    def _why(self, result: object, kind: str, **about: str) -> str:
        """Why there is no result, which is the deadline or an error of ours; that is counted and logged."""
        if not isinstance(result, Exception):
            return CUT
        self._errors.count(kind)
        log.error("a probe failed in an unexpected way", extra=fields(**about), exc_info=result)
        return "an error of the exporter itself, see its log"

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
