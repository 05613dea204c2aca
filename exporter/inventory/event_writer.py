"""Writes Events to the Kubernetes API, where they are opted in to. An I/O rim; report/events.py makes the objects.

Nothing waits for it: what a token bucket does not allow, or the queue has no room for, is dropped and counted. The
reason of a failure is logged once until it changes.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, Protocol

from exporter.inventory.kubernetes.api_error import ApiError
from exporter.telemetry.logs import fields

log = logging.getLogger(__name__)

BURST, EVERY = 10, 60.0  # events at once, and seconds until one more is allowed
OUTCOMES = ("sent", "failed", "dropped")
ANSWER = 10.0  # seconds for an answer
PATH = "/apis/events.k8s.io/v1/namespaces/{namespace}/events"


class Poster(Protocol):
    """The API server, as far as it is needed here."""

    async def post(self, path: str, body: dict[str, Any], *, longest: float) -> None: ...


class EventWriter:
    """`outcomes` counts events by what became of them: sent, failed, dropped."""

    def __init__(self, api: Poster, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.outcomes: Counter[str] = Counter()
        self._api = api
        self._clock = clock
        self._tokens, self._filled = float(BURST), clock()
        self._queue: asyncio.Queue[dict[str, Any]] = asyncio.Queue(BURST)
        self._problem = ""

    def offer(self, events: Iterable[dict[str, Any]]) -> None:
        """Send these in time, or drop them."""
        now = self._clock()
        self._tokens = min(BURST, self._tokens + (now - self._filled) / EVERY)
        self._filled = now
        for event in events:
            if self._tokens < 1 or self._queue.full():
                self.outcomes["dropped"] += 1
                continue
            self._tokens -= 1
            self._queue.put_nowait(event)

    async def run(self) -> None:
        """Send what was offered, one after the other, until cancelled."""
        while True:
            event = await self._queue.get()
            try:
                await self._api.post(PATH.format(**event["metadata"]), event, longest=ANSWER)
            except ApiError as error:
                self.outcomes["failed"] += 1
                self._tell(str(error))
            else:
                self.outcomes["sent"] += 1
                self._tell("")

    def _tell(self, problem: str) -> None:
        if problem and problem != self._problem:
            log.warning("an event could not be created", extra=fields(problem=problem))
        self._problem = problem
