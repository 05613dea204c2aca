"""A driver of probes that is plain asyncio, one task for each: what the own driver must do, in the words of the
library.
"""

from __future__ import annotations

import asyncio
import select
from collections.abc import Sequence
from functools import partial
from typing import Any, TypeVar

from exporter.probes.engine.driver import LIVE, Job
from exporter.probes.engine.waits import Expired, Ready, limit
from exporter.probes.ports import Network

T = TypeVar("T")


class AsyncioDriver:
    """As EpollDriver, without its ticks and its bound of handshakes."""

    def __init__(self, network: Network) -> None:
        self._network = network
        self._slots = asyncio.Semaphore(LIVE)

    async def run(self, jobs: Sequence[Job[T]], seconds: float | None = None) -> list[T | Exception | None]:
        tasks = [asyncio.create_task(self._later(job)) for job in jobs]
        if not tasks:
            return []
        try:
            await asyncio.wait(tasks, timeout=seconds)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        return [None if task.cancelled() else task.result() for task in tasks]

    async def _later(self, job: Job[T]) -> T | Exception:
        await asyncio.sleep(job.start)
        async with self._slots:
            try:
                return await self._drive(job)
            except Exception as error:  # noqa: BLE001 - a result, as the interface has it
                return error

    async def _drive(self, job: Job[T]) -> T:
        probe = job.make()
        limits: list[limit] = []
        step = partial(probe.send, None)
        try:
            while True:
                wanted = step()
                step = partial(probe.send, None)
                limits = [each for each in limits if not each.left]
                if isinstance(wanted, limit):
                    limits.append(wanted)
                    continue
                first = min(limits, key=lambda each: each.at, default=None)
                try:
                    async with asyncio.timeout_at(first.at if first else None):
                        came = await self._await(wanted)
                except TimeoutError:
                    assert first is not None
                    step = partial(probe.throw, Expired(first))
                else:
                    step = partial(probe.throw if isinstance(came, Exception) else probe.send, came)
        except StopIteration as end:
            result: T = end.value
            return result
        finally:
            probe.close()

    async def _await(self, wanted: Any) -> Any:
        if not isinstance(wanted, Ready):
            (made,) = await self._network.open([wanted])
            return made
        loop, ready = asyncio.get_running_loop(), asyncio.Event()
        reading = wanted.mask == select.EPOLLIN
        (loop.add_reader if reading else loop.add_writer)(wanted.descriptor, ready.set)
        try:
            await ready.wait()
        finally:
            (loop.remove_reader if reading else loop.remove_writer)(wanted.descriptor)
        return None
