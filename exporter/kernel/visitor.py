"""Visits one namespace through the broker, and says how long that took. Part of the readers; the only place here that waits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from exporter.broker.messages import HOME, Place, ReadTopic
from exporter.kernel.answers import Answers, KernelBroker, gather

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Visitor:
    """`lsm`: a security module confines the broker."""

    broker: KernelBroker
    clock: Clock
    lsm: bool = False
    place: Place = HOME

    async def visit(self, topics: tuple[ReadTopic, ...]) -> Answers:
        """One visit; none at all where nothing is asked."""
        if not topics:
            return Answers({}, 0.0, lsm=self.lsm)
        began = self.clock()
        state = await self.broker.read_kernel(self.place, topics)
        return gather(topics, state, self.clock() - began, lsm=self.lsm)
