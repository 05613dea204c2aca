"""Which network namespaces processes run in, kept up to date at the cost of what changed. Needs no cgroup mount.

Reading 5,000 processes costs ten times what the difference of two lists of pids does, so a process is read when its pid
appears or may have been reused, while it is young (a runtime joins namespace and cgroup after fork), when it represents
its namespace in the reply, and in a slow turn through all of them.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from time import monotonic

from exporter.broker.protocol.messages import FoundNamespace, Namespaces, Process
from exporter.broker.protocol.wire import MAX_CGROUP, MAX_NAMESPACES, MAX_PROCESSES
from exporter.broker.server.namespaces import read_start
from exporter.broker.server.syscalls import read_file

_MAX_PIDS = 100_000  # beyond that, the highest pids are not seen: a fork bomb must not eat the broker's memory
_READS = 3  # at a young process: the first, and at the two listings after it
_YOUNG = 5.0  # seconds that it stays young at least: two listings may follow one another at once
_TURN = 64  # processes of the slow turn per listing
MAX_OF_CONTAINER = 64  # namespaces

Key = tuple[int, int]  # device and inode of a namespace

# The component of a cgroup path that names a pod: both cgroup drivers, and the 32 hex digits of static pods.
_POD = re.compile(
    rb"(?:^|[/-])pod(?:[0-9a-f]{8}(?:[-_][0-9a-f]{4}){3}[-_][0-9a-f]{12}|[0-9a-f]{32})(?:\.slice)?(?=/|$)"
)


@dataclass(slots=True, kw_only=True)
class _KnownProcess:
    """What was seen of one process. `key` None: it runs at home, or cannot be read."""

    first_seen: float
    reads: int = 0
    key: Key | None = None
    cgroup: bytes = b""
    started: int = 0  # read when it first represents its namespace


class ProcessTable:
    """The processes of /proc and the foreign namespaces they run in."""

    def __init__(self, home: Key) -> None:
        self._home = home
        self._known: dict[int, _KnownProcess] = {}
        self._young: set[int] = set()
        self._refused: set[int] = set()
        self._members: dict[Key, dict[int, None]] = {}  # pids, the longest known first
        self._found: dict[Key, FoundNamespace] = {}  # descriptions that are still valid
        self._turn: list[int] = []
        self._last_pid = 0

    def list_namespaces(self) -> Namespaces:
        """Every foreign namespace that some process runs in, with the processes that represent it."""
        now, last_pid = monotonic(), int(read_file("/proc/loadavg").split()[4])  # the pid given last: proc_loadavg(5)
        names = os.listdir("/proc")  # noqa: PTH208 - at a third of the cost
        pids = {int(name) for name in islice(names, _MAX_PIDS) if name.isdecimal()}
        known = self._known.keys()
        for pid in (known - pids) | _given_between(self._last_pid, last_pid, known):
            self._forget(pid)
        for pid in pids - known:
            self._known[pid] = _KnownProcess(first_seen=now)
            self._young.add(pid)
        self._last_pid = last_pid
        shown = {found.processes[0].pid for found in self._found.values()}
        for pid in self._young | shown | self._next_in_turn():
            self._read(pid, now)
        found = [description for key in list(self._members) if (description := self._describe(key))]
        return Namespaces(tuple(share_out(found)[:MAX_NAMESPACES]), len(self._refused))

    def _next_in_turn(self) -> set[int]:
        if not self._turn:
            self._turn = list(self._known)
        due, self._turn = self._turn[:_TURN], self._turn[_TURN:]
        return self._known.keys() & due

    def _read(self, pid: int, now: float) -> None:
        known = self._known[pid]
        young = pid in self._young
        known.reads += 1
        if known.reads >= _READS and now - known.first_seen >= _YOUNG:
            self._young.discard(pid)
        key = self._read_namespace(pid)
        if key is None:
            cgroup = b""
        elif young or key != known.key:
            cgroup = _read_cgroup(pid)
        else:
            cgroup = known.cgroup
        if (key, cgroup) != (known.key, known.cgroup):
            self._leave(pid, known.key)
            known.key, known.cgroup = key, cgroup
            if key is not None:
                self._members.setdefault(key, {})[pid] = None
                self._found.pop(key, None)

    def _read_namespace(self, pid: int) -> Key | None:
        self._refused.discard(pid)
        try:
            info = os.stat(f"/proc/{pid}/ns/net")  # noqa: PTH116 - thousands of calls, and Path doubles their cost
        except PermissionError:
            self._refused.add(pid)
            return None
        except OSError:  # ended, or a zombie, which has no namespace any more
            return None
        key = (info.st_dev, info.st_ino)
        return None if key == self._home else key

    def _forget(self, pid: int) -> None:
        self._leave(pid, self._known.pop(pid).key)
        self._young.discard(pid)
        self._refused.discard(pid)

    def _leave(self, pid: int, key: Key | None) -> None:
        if key is not None:
            self._found.pop(key, None)
            del self._members[key][pid]
            if not self._members[key]:
                del self._members[key]

    def _describe(self, key: Key) -> FoundNamespace | None:
        """One process for each distinct cgroup, those of pods first. None when all have ended by now."""
        if key not in self._found:
            shown: dict[bytes, int] = {}
            for pid in self._members[key]:
                shown.setdefault(self._known[pid].cgroup, pid)
            order = sorted(shown.items(), key=lambda item: _POD.search(item[0]) is None)
            processes = [Process(pid, self._start(pid), cgroup) for cgroup, pid in order[:MAX_PROCESSES]]
            alive = tuple(process for process in processes if process.started)
            if not alive:
                return None
            self._found[key] = FoundNamespace(*key, alive)
        return self._found[key]

    def _start(self, pid: int) -> int:
        """0 when the process has ended."""
        known = self._known[pid]
        if not known.started:
            with suppress(OSError):
                known.started = read_start(f"/proc/{pid}/stat")
        return known.started


def share_out(found: Iterable[FoundNamespace]) -> list[FoundNamespace]:
    """At most MAX_OF_CONTAINER of one pod's container: it may make thousands, which must not displace other pods'."""
    counts: Counter[bytes] = Counter()
    kept = []
    for namespace in found:
        cgroup = namespace.processes[0].cgroup
        counts[cgroup] += 1
        if counts[cgroup] <= MAX_OF_CONTAINER or _POD.search(cgroup) is None:
            kept.append(namespace)
    return kept


def _given_between(before: int, after: int, pids: Iterable[int]) -> set[int]:
    """Those that may have been reused since `before` was the last one. Pids rise and wrap around."""
    if before <= after:
        return {pid for pid in pids if before < pid <= after}
    return {pid for pid in pids if pid > before or pid <= after}


def _read_cgroup(pid: int) -> bytes:
    try:
        return choose_cgroup(read_file(f"/proc/{pid}/cgroup"))
    except OSError:
        return b""


def read_owner(pid: int) -> bytes:
    """What a process belongs to: the part of its cgroup that names a pod, else the whole; empty when it has ended."""
    cgroup = _read_cgroup(pid)
    pods = list(_POD.finditer(cgroup))
    return pods[-1].group() if pods else cgroup


def choose_cgroup(text: bytes) -> bytes:
    """The path that names a pod among the lines `id:controllers:path` of cgroups(7); else the longest."""
    paths = [line.split(b":", 2)[2] for line in text.split(b"\n") if line.count(b":") >= 2]
    path = max([path for path in paths if _POD.search(path)] or paths, key=len, default=b"")
    if len(path) > MAX_CGROUP:
        pods = list(_POD.finditer(path))
        path = path[: pods[-1].end()] if pods else path
    return path[-MAX_CGROUP:]
