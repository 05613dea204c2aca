"""The driver of probes: limits as asyncio's timeouts are, starts on ticks, bounds, cuts, and a process that stood still
is no silence of the network. What is no matter of ticks holds under plain asyncio as well.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest

from exporter.broker.protocol.messages import SocketKind
from exporter.model.family import Family
from exporter.model.probe import Layer, LookupOutcome, Outcome
from exporter.probes.dns import EdnsMemory, ask
from exporter.probes.engine import driver as driver_module
from exporter.probes.engine.driver import HEAVY, LIVE, EpollDriver, Job
from exporter.probes.engine.waits import limit, new_socket, readable
from exporter.probes.ports import LocalNetwork
from exporter.probes.runner import Deadline, ProbeRunner
from exporter.probes.tls import TlsContexts
from exporter.telemetry.logs import InternalErrors
from tests.wire import loopback
from tests.wire.loopback import HOST, Noting, black_hole, cancel, make_check
from tests.wire.nameserver import make_question

both_drivers = pytest.mark.usefixtures("driver")


@contextmanager
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(0)
        yield ours, theirs


async def run(*makes: Callable[[], Any], seconds: float | None = None) -> list[Any]:
    return await loopback.DRIVER(LocalNetwork()).run([Job(make) for make in makes], seconds)


@both_drivers
async def test_an_outer_limit_is_no_timeout_inside() -> None:
    steps = []

    async def probe(sock: socket.socket) -> None:
        try:
            async with limit(0.1):
                try:
                    async with limit(60):
                        await readable(sock)
                except TimeoutError:
                    steps.append("inner")
        except TimeoutError:
            steps.append("outer")
        async with limit(0.1):  # what is over counts no more
            pass
        try:
            async with limit(60), limit(0.05):
                await readable(sock)
        except TimeoutError:
            steps.append("second")

    with pair() as (ours, _):
        assert await run(partial(probe, ours)) == [None]
    assert steps == ["outer", "second"]


async def test_what_has_come_is_read_although_the_limit_is_over() -> None:
    async def probe(sock: socket.socket) -> bytes:
        async with limit(0.2):
            await readable(sock)
            return sock.recv(9)

    with pair() as (ours, theirs):
        task = asyncio.create_task(run(partial(probe, ours)))
        for _ in range(5):
            await asyncio.sleep(0)
        theirs.send(b"here")
        time.sleep(0.5)  # noqa: ASYNC251 - the loop stands still, as a stopped process does
        assert await task == [b"here"]


async def test_a_loop_that_stood_still_is_no_silence_of_the_network() -> None:
    errors = InternalErrors()
    runner = ProbeRunner(EpollDriver(LocalNetwork()), TlsContexts(), errors, clock=time.time)
    with black_hole(Family.V6) as port, socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as silent:
        silent.bind(("::1", 0))
        timeouts = loopback.patient_but(Layer.TCP, 0.3)
        dialled = asyncio.create_task(
            runner.check_all([make_check(Family.V6, port, timeouts=timeouts)], Deadline.after(60))
        )
        question = make_question(Family.V6, silent.getsockname()[1], "x.test", timeout=0.3)
        asked = asyncio.create_task(runner.ask_all([question], Deadline.after(60)))
        for _ in range(9):
            await asyncio.sleep(0)
        time.sleep(2)  # noqa: ASYNC251
        (observation,), (lookup,) = await dialled, await asked
    assert observation.outcome is Outcome.LOCAL
    assert lookup.outcome is LookupOutcome.NOT_ASKED


@both_drivers
async def test_errors_are_results_and_what_the_time_cut_has_none() -> None:
    async def broken() -> None:
        raise ValueError("a bug")

    async def endless(sock: socket.socket) -> None:
        await readable(sock)

    async def quick() -> int:
        return 5

    with pair() as (ours, _):
        bug, nothing, five = await run(broken, partial(endless, ours), quick, seconds=0.2)
    assert (repr(bug), nothing, five) == ("ValueError('a bug')", None, 5)


async def test_starts_are_rounded_to_ticks_on_which_all_sockets_are_asked_for_at_once() -> None:
    asked: list[int] = []

    class Counting(LocalNetwork):
        async def open(self, wishes: Any) -> Any:
            asked.append(len(wishes))
            return await super().open(wishes)

    async def probe() -> None:
        sock, _ = await new_socket(HOST, SocketKind.UDP6)
        sock.close()

    late = [0.01 * number for number in range(1, 60)]
    await EpollDriver(Counting()).run([Job(probe, start) for start in late])
    assert sum(asked) == len(late)
    assert len(asked) <= 4  # 0.6 s touch three ticks, or four


@pytest.mark.parametrize(("heavy", "most"), [(False, LIVE), (True, HEAVY)])
async def test_no_more_are_under_way_than_allowed(heavy: bool, most: int) -> None:
    live, seen = [0], []

    async def probe(sock: socket.socket) -> None:
        live[0] += 1
        seen.append(live[0])
        try:
            async with limit(0.02):
                await readable(sock)
        except TimeoutError:
            live[0] -= 1

    pairs = [socket.socketpair() for _ in range(most + 20)]
    try:
        jobs = [Job(partial(probe, one), heavy=heavy) for one, _ in pairs]
        assert await EpollDriver(LocalNetwork()).run(jobs) == [None] * len(jobs)
    finally:
        for one, other in pairs:
            one.close()
            other.close()
    assert max(seen) <= most
    assert len(seen) == len(jobs)


@both_drivers
async def test_a_cancelled_run_ends_its_probes_and_closes_sockets_that_come_later() -> None:
    network = Noting()
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as silent:
        silent.bind(("::1", 0))
        question = make_question(Family.V6, silent.getsockname()[1], "x.test")
        driver = loopback.DRIVER(network)
        for turns in range(8):
            network.made_one.clear()
            jobs = [Job(partial(ask, question, EdnsMemory()))] * 3
            task = asyncio.create_task(driver.run(jobs))
            for _ in range(turns):
                await asyncio.sleep(0)
            await cancel(task)
            for _ in range(9):
                await asyncio.sleep(0)
        network.assert_all_closed()


async def test_the_end_of_one_run_leaves_those_beside_it_alone() -> None:
    async def probe(sock: socket.socket) -> bytes:
        await readable(sock)
        return sock.recv(9)

    driver = EpollDriver(LocalNetwork())
    with pair() as (ours, theirs), pair() as (never, _):
        staying = asyncio.create_task(driver.run([Job(partial(probe, ours))]))
        ending = asyncio.create_task(driver.run([Job(partial(probe, never))]))
        await asyncio.sleep(0)
        await cancel(ending)
        theirs.send(b"later")
        assert await staying == [b"later"]


async def test_probes_that_wait_for_room_begin_when_a_cancelled_run_leaves_some(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(driver_module, "LIVE", 1)

    async def wait_on(sock: socket.socket) -> None:
        await readable(sock)

    async def quick() -> int:
        return 5

    driver = EpollDriver(LocalNetwork())
    with pair() as (ours, _):
        blocking = asyncio.create_task(driver.run([Job(partial(wait_on, ours))]))
        await asyncio.sleep(0.01)
        waiting = asyncio.create_task(driver.run([Job(quick)]))
        await asyncio.sleep(0.01)
        assert not waiting.done()
        await cancel(blocking)
        assert await asyncio.wait_for(waiting, 30) == [5]
