"""Reads pods' files through a child, so that a pod whose file system does not answer costs a bounded time.

A pod that hung is not read for a while that doubles each time it hangs again. How long a child may take follows from
how much time was lost lately: a few pods that hang get a second each, hundreds of them some hundredths.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from exporter.broker.protocol.messages import NamespaceRef, PodFiles
from exporter.broker.server.files.child import ChildEndedError, FileChild
from exporter.broker.server.files.podfiles import unreadable
from exporter.broker.server.processes import read_owner

DEADLINE = 1.0  # seconds for the files of one process: they take a thousandth of that
LEAST_DEADLINE = 0.05
LOSS = 3.0  # seconds that may be lost at once before deadlines become shorter
REGAINED = 0.05  # of every second that passes
FIRST_REST, LONGEST_REST = 60.0, 600.0  # seconds that a pod is not read after it hung
MAX_STUCK = 8  # children that cannot be killed; with more no file is read
MAX_RESTING = 1024  # pods

# Of a pod: its namespace, and its cgroup, because the numbers of namespaces are reused.
_Key: TypeAlias = tuple[int, int, bytes]


@dataclass(frozen=True, slots=True)
class _Rest:
    """A pod that hung is not read before `until`, and is forgotten, if it never hangs again, some time later."""

    seconds: float
    until: float


class PodReader:
    """Answers ReadPodFiles, process by process. Holds at most one child that works and MAX_STUCK that hang."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, make: Callable[[], FileChild] = FileChild) -> None:
        self._clock = clock
        self._make = make
        self._child: FileChild | None = None
        self._stuck: dict[_Key, FileChild] = {}
        self._resting: dict[_Key, _Rest] = {}
        self._allowance, self._counted = LOSS, clock()

    def read(self, place: NamespaceRef) -> PodFiles:
        """The files of the process of `place`: those that read_pod_files gives, or one errno for all of them.

        ETIMEDOUT: the pod's file system did not answer, now or a while ago. EBUSY: too many children hang. EIO: the
        child ended. What fork gives where no child can be made.
        """
        if not place.pid:
            return unreadable(errno.EINVAL)
        key = (place.device, place.inode, read_owner(place.pid))
        if self._is_resting(key):
            return unreadable(errno.ETIMEDOUT)
        if len(self._stuck) >= MAX_STUCK:
            return unreadable(errno.EBUSY)
        return self._ask(key, place)

    def reap(self) -> None:
        """Let children go that hung and have ended since; never waits."""
        for key in [key for key, child in self._stuck.items() if child.has_gone()]:
            del self._stuck[key]

    def _is_resting(self, key: _Key) -> bool:
        rest = self._resting.get(key)
        return key in self._stuck or (rest is not None and self._clock() < rest.until)

    def _ask(self, key: _Key, place: NamespaceRef) -> PodFiles:
        for _ in range(2):  # a child that has ended since it was last asked is no fault of this pod
            began = self._clock()
            try:
                self._child = self._child or self._make()
                files = self._child.ask(place, self._deadline(began))
            except TimeoutError:
                self._lose(key, began)
                return unreadable(errno.ETIMEDOUT)
            except ChildEndedError:
                self._dismiss(key)
            except OSError as error:  # no child could be made
                return unreadable(error.errno or errno.EIO)
            else:
                self._resting.pop(key, None)
                return files
        return unreadable(errno.EIO)

    def _deadline(self, now: float) -> float:
        self._allowance = min(LOSS, self._allowance + (now - self._counted) * REGAINED)
        self._counted = now
        return max(LEAST_DEADLINE, min(DEADLINE, self._allowance))

    def _lose(self, key: _Key, began: float) -> None:
        self._dismiss(key)
        now = self._clock()
        self._allowance -= now - began
        self._resting = {k: rest for k, rest in self._resting.items() if now < rest.until + LONGEST_REST}
        while len(self._resting) >= MAX_RESTING:
            del self._resting[next(iter(self._resting))]
        before = self._resting.pop(key, None)
        seconds = FIRST_REST if before is None else min(LONGEST_REST, 2 * before.seconds)
        self._resting[key] = _Rest(seconds, now + seconds)

    def _dismiss(self, key: _Key) -> None:
        child, self._child = self._child, None
        if child is not None and not child.kill():
            self._stuck[key] = child
