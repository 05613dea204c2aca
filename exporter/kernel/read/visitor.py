"""Visits namespaces through the broker, and says how long that took. Part of the readers; the only place here that waits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from exporter.broker.protocol.messages import HOME, KernelState, NamespaceRef, ReadTopic
from exporter.kernel.read.answers import KernelBroker, VisitAnswers, gather

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Visitor:
    """`lsm`: a security module confines the broker."""

    broker: KernelBroker
    clock: Clock
    lsm: bool = False

    async def visit(self, topics: tuple[ReadTopic, ...], place: NamespaceRef = HOME) -> VisitAnswers:
        """One visit; none at all where nothing is asked."""
        if not topics:
            return VisitAnswers(found={}, seconds=0.0, lsm=self.lsm)
        (state,), seconds = await self.visit_each((place,), topics)
        return gather(topics, state, seconds, lsm=self.lsm)

    async def visit_each(
        self, places: tuple[NamespaceRef, ...], topics: tuple[ReadTopic, ...]
    ) -> tuple[tuple[KernelState, ...], float]:
        """One visit to each of these places, at most MAX_PLACES, and how many seconds one took on average."""
        began = self.clock()
        states = await self.broker.read_kernel(places, topics)
        return states, (self.clock() - began) / len(places)
