"""How late the event loop is: what runs on it too long, or a node without CPU time, delays every probe and deadline."""

from __future__ import annotations

import asyncio
from collections import deque

EVERY = 0.25  # seconds between two looks
KEPT = 60.0  # seconds that a delay is shown


class LoopLag:
    """Wakes up regularly and notes how late it was."""

    def __init__(self) -> None:
        self._late: deque[tuple[float, float]] = deque()  # when and how long, each longer than all after it

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + EVERY
            await asyncio.sleep(EVERY)
            now = loop.time()
            self.note(now, max(0.0, now - due))

    def note(self, now: float, late: float) -> None:
        while self._late and self._late[-1][1] <= late:
            self._late.pop()
        self._late.append((now, late))
        while self._late[0][0] <= now - KEPT:
            self._late.popleft()

    def longest(self) -> float | None:
        """Of the last minute; None before the first look."""
        return self._late[0][1] if self._late else None
