"""The watch over the event loop: what blocks it is seen, and the longest delay is shown for a minute."""

from __future__ import annotations

import asyncio
import time

from exporter.daemon.loop_lag import EVERY, KEPT, LoopLag


def test_the_longest_delay_is_shown_for_a_minute() -> None:
    lag = LoopLag()
    assert lag.longest() is None
    for now, late, shown in ((0, 0.1, 0.1), (1, 0.0, 0.1), (2, 3.0, 3.0), (3, 0.5, 3.0), (61, 0.0, 3.0)):
        lag.note(now, late)
        assert lag.longest() == shown
    lag.note(2 + KEPT, 0.0)
    assert lag.longest() == 0.5
    lag.note(3 + KEPT, 0.2)
    assert lag.longest() == 0.2
    for second in range(1000):
        lag.note(100 + second * EVERY, 1000.0 - second)
    assert len(lag._late) <= KEPT / EVERY


async def test_work_that_blocks_the_loop_is_seen() -> None:
    lag = LoopLag()
    watch = asyncio.create_task(lag.run())
    await asyncio.sleep(0)  # it waits now
    time.sleep(EVERY + 0.5)  # noqa: ASYNC251 - the fault that is looked for
    while lag.longest() is None:  # noqa: ASYNC110 - until it has run once
        await asyncio.sleep(0)
    watch.cancel()
    longest = lag.longest()
    assert longest is not None
    assert longest >= 0.5
