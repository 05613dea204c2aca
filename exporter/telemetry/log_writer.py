"""Writes log lines without ever waiting for their reader: one that stops reading a pipe must not stop the exporter.

A thread writes; lines beyond what may wait for it are dropped and counted. Until `start`, lines are written at once: a
process that still gives its privilege up must have no second thread.
"""

from __future__ import annotations

import os
from collections import deque
from threading import Condition, Thread
from typing import IO

MOST_WAITING = 1 << 20  # bytes


class LogWriter:
    """A text stream for logging's handlers, over a stream with a descriptor."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream
        self._lines: deque[bytes] = deque()
        self._size = 0
        self._changed = Condition()
        self._thread: Thread | None = None
        self._ends = False
        self.dropped = 0  # lines

    def start(self) -> None:
        """From now on write on a thread. Python does not wait for it when it ends the process."""
        self._stream.flush()
        self._thread = Thread(target=self._write, args=(self._stream.fileno(),), name="log", daemon=True)
        self._thread.start()

    def write(self, text: str) -> None:
        if self._thread is None:
            self._stream.write(text)
            return
        line = text.encode("utf-8", "backslashreplace")
        with self._changed:
            if self._size + len(line) > MOST_WAITING:
                self.dropped += 1
                return
            self._lines.append(line)
            self._size += len(line)
            self._changed.notify()

    def flush(self) -> None:
        if self._thread is None:
            self._stream.flush()

    def end(self, seconds: float) -> None:
        """Write what waits, for at most so long."""
        if self._thread is not None:
            with self._changed:
                self._ends = True
                self._changed.notify()
            self._thread.join(seconds)

    def _write(self, descriptor: int) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._lines or self._ends)
                if not self._lines:
                    return
                line = memoryview(self._lines[0])
            try:
                while line:
                    line = line[os.write(descriptor, line) :]
            except BlockingIOError:  # whoever shares the descriptor made it so
                lost = True
            except OSError:  # its reader has gone
                lost = True
            else:
                lost = False
            with self._changed:
                self._size -= len(self._lines.popleft())
                self.dropped += lost
