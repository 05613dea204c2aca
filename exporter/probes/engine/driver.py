"""Runs probes on one epoll, which the event loop watches: no task, future or timer for each. Between runner and probes.

A turn goes on with every probe whose descriptor is ready, throws out those whose time is over, begins those that are
due, and asks for all the sockets that were wished for at once. What is ready is looked at before any limit is judged,
so that a process that was stopped finds what came meanwhile. Starts are rounded to ticks, on which all wake up at once.
"""

from __future__ import annotations

import asyncio
import heapq
import select
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count
from math import ceil, inf
from typing import Any, Generic, Protocol, TypeVar

from exporter.broker.protocol.wire import MAX_SOCKETS
from exporter.probes.engine.waits import Expired, Probe, Ready, Wish, limit
from exporter.probes.ports import Network

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

LIVE = MAX_SOCKETS  # probes under way: what they wish for fits into one message
HEAVY = 8  # of those that make a TLS handshake, begun within the last tick: their CPU time must not be their latency
TICK = 0.25  # seconds
SWEEP = 0.05  # seconds: limits that end so close together are judged at once
SLACK = 0.5  # seconds that a probe is spared beyond its limit, in turns in which something came for it


@dataclass(frozen=True, slots=True)
class Job(Generic[T_co]):
    """A probe to be made `start` seconds after now."""

    make: Callable[[], Probe[T_co]]
    start: float = 0.0
    heavy: bool = False


class Driver(Protocol):
    """Runs probes: the result of each, the exception that it ended with, or None where the time was over first."""

    async def run(self, jobs: Sequence[Job[T]], seconds: float | None = None) -> list[T | Exception | None]: ...


@dataclass(slots=True, eq=False)
class _Batch:
    results: list[Any]
    left: int
    ended: asyncio.Future[None]


@dataclass(slots=True, eq=False, kw_only=True)
class _Running:
    """A job from when it was planned to its end."""

    job: Job[Any]
    batch: _Batch
    index: int
    probe: Probe[Any] | None = None
    awaited: Ready | Wish | None = None
    limits: list[limit] = field(default_factory=list)
    began: float = 0.0
    turn: int = 0  # in which it last went on
    ended: bool = False


class EpollDriver:
    """One for all probes of an event loop. It holds descriptors only while it runs some."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._due: dict[bool, list[tuple[float, int, _Running]]] = {True: [], False: []}  # heaps, by `heavy`
        self._order = count()
        self._live: dict[_Running, None] = {}
        self._waiting: dict[int, _Running] = {}  # by descriptor
        self._wishes: list[tuple[Wish, _Running]] = []
        self._asking: set[asyncio.Task[None]] = set()
        self._batches = 0
        self._turns = 0
        self._sweep_at = inf
        self._timer: asyncio.TimerHandle | None = None

    async def run(self, jobs: Sequence[Job[T]], seconds: float | None = None) -> list[T | Exception | None]:
        """All jobs, for at most so many seconds."""
        if not jobs:
            return []
        self._loop = asyncio.get_running_loop()
        batch = _Batch([None] * len(jobs), len(jobs), self._loop.create_future())
        running = [_Running(job=job, batch=batch, index=index) for index, job in enumerate(jobs)]
        now = self._loop.time()
        for one in running:
            start = one.job.start
            at = max(now, (now + start) // TICK * TICK)  # never later than planned: time is set aside up to then
            heapq.heappush(self._due[one.job.heavy], (at, next(self._order), one))
        if not self._batches:
            self._epoll = select.epoll()
            self._loop.add_reader(self._epoll, self._turn)
        self._batches += 1
        self._wake_at(min(at for queue in self._due.values() for at, *_ in queue[:1]))
        try:
            await asyncio.wait([batch.ended], timeout=seconds)
        finally:
            for one in running:
                self._drop(one)
            self._batches -= 1
            if self._batches:
                self._wake_at(self._loop.time())  # there is room for others now
            else:
                self._close()
        return batch.results

    def _close(self) -> None:
        self._loop.remove_reader(self._epoll)
        self._epoll.close()
        self._due = {True: [], False: []}
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _wake_at(self, when: float) -> None:
        if self._timer is not None:
            if self._timer.when() <= when:
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(when, self._wake)

    def _wake(self) -> None:
        self._timer = None
        self._turn()

    def _turn(self) -> None:
        self._turns += 1
        for descriptor, _ in self._epoll.poll(0):
            if (one := self._waiting.pop(descriptor, None)) is not None:
                self._go_on(one)
        now = self._loop.time()
        if now >= self._sweep_at:
            self._sweep(now)
        next_start = self._begin(now)
        wishes, self._wishes = [each for each in self._wishes if each[1].awaited is each[0]], []
        if wishes:
            task = self._loop.create_task(self._fulfil(wishes))
            self._asking.add(task)
            task.add_done_callback(self._asking.discard)
        if (wake := min(next_start, self._sweep_at)) < inf:
            self._wake_at(wake)

    def _begin(self, now: float) -> float:
        """Begin what is due, as far as there is room; when the next is due that waits for nothing else."""
        following = inf
        for heavy, queue in self._due.items():
            while queue and len(self._live) < LIVE:
                at, _, one = queue[0]
                if at > now:
                    following = min(following, at)
                    break
                if heavy and sum(each.job.heavy and now - each.began < TICK for each in self._live) >= HEAVY:
                    following = min(following, now + TICK)  # or as soon as one of them has ended
                    break
                heapq.heappop(queue)
                if not one.ended:
                    one.probe, one.began = one.job.make(), now
                    self._live[one] = None
                    self._go_on(one)
        return following

    def _go_on(self, one: _Running, came: object = None) -> None:
        """Let a probe run up to its next wait, with what it waited for or the exception in its place."""
        probe = one.probe
        assert probe is not None
        one.awaited, one.turn = None, self._turns
        try:
            wanted = probe.throw(came) if isinstance(came, BaseException) else probe.send(came)
            while isinstance(wanted, limit):
                one.limits = [each for each in one.limits if not each.left]
                one.limits.append(wanted)
                self._sweep_at = min(self._sweep_at, _swept(wanted))
                wanted = probe.send(None)
            one.awaited = wanted
            if isinstance(wanted, Ready):
                self._watch(wanted)
                self._waiting[wanted.descriptor] = one
            else:
                self._wishes.append((wanted, one))
        except StopIteration as end:
            self._end(one, end.value)
        except Exception as error:  # noqa: BLE001 - the batch's asker judges it
            probe.close()
            self._end(one, error)

    def _watch(self, wanted: Ready) -> None:
        try:
            self._epoll.register(wanted.descriptor, wanted.mask | select.EPOLLONESHOT)
        except FileExistsError:
            self._epoll.modify(wanted.descriptor, wanted.mask | select.EPOLLONESHOT)

    def _sweep(self, now: float) -> None:
        """Throw TimeoutError into every probe whose limit is over, but for those that something just came for."""
        self._sweep_at = inf
        for one in list(self._live):
            first = min((each for each in one.limits if not each.left), key=_ending, default=None)
            if first is None:
                continue
            if first.at > now or (one.turn == self._turns and now - first.at < SLACK):
                self._sweep_at = min(self._sweep_at, _swept(first))
            else:
                self._stop_waiting(one)
                self._go_on(one, Expired(first))

    async def _fulfil(self, wishes: Sequence[tuple[Wish, _Running]]) -> None:
        opened: Sequence[object]
        try:
            opened = await self._network.open([wish for wish, _ in wishes])
        except Exception as error:  # noqa: BLE001 - the probes end with it
            opened = [error] * len(wishes)
        for (wish, one), made in zip(wishes, opened, strict=True):
            if one.awaited is wish:
                self._go_on(one, made)
            elif isinstance(made, tuple):
                made[0].close()
        if self._batches:
            self._turn()

    def _stop_waiting(self, one: _Running) -> None:
        if isinstance(one.awaited, Ready):
            del self._waiting[one.awaited.descriptor]
        one.awaited = None

    def _end(self, one: _Running, result: object) -> None:
        one.ended = True
        self._live.pop(one, None)
        one.batch.results[one.index] = result
        one.batch.left -= 1
        if not one.batch.left and not one.batch.ended.done():
            one.batch.ended.set_result(None)

    def _drop(self, one: _Running) -> None:
        """End a job without a result: it was cut or cancelled."""
        if not one.ended:
            self._stop_waiting(one)
            if one.probe is not None:
                one.probe.close()
            self._end(one, None)


def _ending(each: limit) -> float:
    return each.at


def _swept(each: limit) -> float:
    """When its end is looked at."""
    return ceil(each.at / SWEEP) * SWEEP
