"""What a test run leaves on the machine: found by the run that made it, removed once that run is gone. Used by
tests/conftest.py alone.

Names of network namespaces, cgroups and directories carry the process id of the run that made them, and every process
that a run starts carries it in its environment. A run that was killed cannot clean up; the next one does, and leaves
runs that live alone: an id that another process took over meanwhile is told by that process being younger than what
carries the id.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

MARK = "DUALSTACK_TEST_RUN"  # in the environment: the run's process id in hex
DIRECTORY = re.compile(r"dualstack-tests-(?P<pid>[0-9a-f]+)-")
NAMED = re.compile(r"ds(?P<pid>[0-9a-f]+)-\d+-")  # tests.kernel.namespaces.unique_prefix
POD = "-4d05-8d05-d0a15ac0de57"  # how the uid of a pod of these tests ends; it begins with the process id
POD_CGROUP = re.compile(rf"pod(?P<pid>[0-9a-f]{{8}})-[0-9a-f]{{4}}{POD}$")
PLACES = (("namespace", Path("/run/netns")), ("configuration of a namespace", Path("/etc/netns")))


@dataclass(frozen=True, slots=True)
class Leftover:
    """Something of a run: what it is, where, and when it was made (seconds since the epoch)."""

    kind: str
    path: Path
    owner: int
    made: float

    def __str__(self) -> str:
        return f"{self.kind} {self.path}"


def find() -> Iterator[Leftover]:
    """Everything of any run. Directories of temporary files are not among it while their run lives: they are its own to
    remove.
    """
    for kind, place in PLACES:
        yield from _named(kind, place, NAMED)
    for root in hierarchies():
        yield from _named("cgroup", root, NAMED)
        yield from _named("cgroup", root / "kubepods/burstable", POD_CGROUP)
    yield from _processes()


def directories(place: Path) -> Iterator[Leftover]:
    """The directories of temporary files of any run."""
    return _named("directory", place, DIRECTORY)


def abandoned(found: Iterable[Leftover]) -> list[Leftover]:
    """Those whose run is gone. To be asked before this run makes anything: what bears its id is of one that had the id
    before.
    """
    return [each for each in found if each.owner == os.getpid() or not _lives(each)]


def remove(found: Iterable[Leftover]) -> None:
    """Processes first: a namespace or a cgroup lives as long as they do. What cannot be removed stays for the next
    run.
    """
    by_kind = sorted(found, key=lambda each: each.kind != "process")
    for each in by_kind:
        if each.kind == "process":
            with suppress(ProcessLookupError, PermissionError):
                os.kill(int(each.path.name), signal.SIGKILL)
        elif each.kind == "namespace":
            subprocess.run(["ip", "netns", "delete", each.path.name], check=False, capture_output=True)
        elif each.kind == "cgroup":
            for directory, _, _ in os.walk(each.path, topdown=False):
                with suppress(OSError):  # a process that was killed just now may still be on its way out
                    Path(directory).rmdir()
        else:
            shutil.rmtree(each.path, ignore_errors=True)


def hierarchies() -> list[Path]:
    """Where the cgroup file systems are mounted."""
    mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    return [Path(words[1]) for words in mounts if words[2] in {"cgroup", "cgroup2"}]


def _named(kind: str, place: Path, pattern: re.Pattern[str]) -> Iterator[Leftover]:
    with suppress(OSError), os.scandir(place) as entries:
        for entry in entries:
            if match := pattern.match(entry.name):
                with suppress(FileNotFoundError):
                    yield Leftover(
                        kind, Path(entry.path), int(match["pid"], 16), entry.stat(follow_symlinks=False).st_ctime
                    )


def _processes() -> Iterator[Leftover]:
    wanted = f"{MARK}=".encode()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        with suppress(OSError, ValueError):  # gone, or not ours to look at
            environment = (entry / "environ").read_bytes().split(b"\0")
            run = next((v for v in environment if v.startswith(wanted)), None)
            if run is not None:
                yield Leftover("process", entry, int(run.removeprefix(wanted), 16), _started(int(entry.name)))


def _lives(leftover: Leftover) -> bool:
    try:
        return _started(leftover.owner) <= leftover.made
    except OSError:
        return False


def _started(pid: int) -> float:
    """When the process began, rounded down to a second: the kernel's clocks differ by less than that."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    boot = next(line for line in Path("/proc/stat").read_text().splitlines() if line.startswith("btime "))
    return float(int(boot.split()[1]) + int(fields[19]) // os.sysconf("SC_CLK_TCK")) - 1
