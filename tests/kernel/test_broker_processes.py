"""Which namespaces processes live in: found, kept up to date, cheap."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from exporter.broker.protocol.messages import Process
from exporter.broker.server.privilege import BROKER_CAPABILITIES, limit_capabilities
from exporter.broker.server.processes import ProcessTable
from tests.kernel.broker_lab import (
    ROOT,
    named_namespace,
    place_of_name,
    place_of_pid,
    process,
    process_in,
    run,
    run_forked,
    unique_name,
)

pytestmark = pytest.mark.real

CGROUPS = Path("/sys/fs/cgroup")


def home() -> tuple[int, int]:
    info = Path("/proc/self/ns/net").stat()
    return (info.st_dev, info.st_ino)


@pytest.fixture
def table() -> ProcessTable:
    return ProcessTable(home())


def find(table: ProcessTable, name: str) -> tuple[Process, ...]:
    place = place_of_name(name)
    found = [item for item in table.list_namespaces().found if (item.device, item.inode) == (place.device, place.inode)]
    assert len(found) <= 1
    return found[0].processes if found else ()


def hierarchies() -> list[Path]:
    """The roots of the cgroup hierarchies of this machine, of both versions."""
    lines = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    return [Path(words[1]) for words in lines if words[2] in {"cgroup", "cgroup2"}]


@contextmanager
def cgroup(path: str) -> Iterator[None]:
    """This cgroup in every hierarchy that lets one be made."""
    made = []
    try:
        for root in hierarchies():
            for part in reversed([root / path, *(root / path).parents]):
                if not part.exists():
                    part.mkdir()
                    made.append(part)
        yield
    finally:
        for part in reversed(made):
            with suppress(OSError):
                part.rmdir()


def move(pid: int, path: str) -> None:
    moved = 0
    for root in hierarchies():
        with suppress(OSError):
            (root / path / "cgroup.procs").write_text(str(pid))
            moved += 1
    assert moved


def test_a_process_in_a_namespace_is_found_at_once(table: ProcessTable) -> None:
    with named_namespace() as name:
        assert find(table, name) == ()  # a name without a process is not of this list
        with process_in(name) as inside:
            (found,) = find(table, name)
            place = place_of_pid(inside.pid)
            assert (found.pid, found.started) == (place.pid, place.started)
            assert find(table, name) == (found,)
        assert find(table, name) == ()


def test_home_is_not_listed(table: ProcessTable) -> None:
    assert home() not in {(item.device, item.inode) for item in table.list_namespaces().found}


JOINER = """if True:
    import ctypes, os, sys
    print("ready", flush=True)
    sys.stdin.readline()
    descriptor = os.open(sys.argv[1], os.O_RDONLY)
    assert ctypes.CDLL(None).setns(descriptor, 0x40000000) == 0
    os.close(descriptor)
    print("joined", flush=True)
    sys.stdin.read()
"""


def test_a_process_that_joins_later_is_found_then(table: ProcessTable) -> None:
    with named_namespace() as name, process(sys.executable, "-c", JOINER, f"/run/netns/{name}") as joiner:
        for _ in range(4):
            assert find(table, name) == ()
        assert joiner.stdin is not None
        assert joiner.stdout is not None
        joiner.stdin.write(b"go\n")
        joiner.stdin.flush()
        assert joiner.stdout.readline() == b"joined\n"
        (found,) = find(table, name)
        assert found.pid == joiner.pid


def test_the_last_process_to_leave_takes_the_namespace_along(table: ProcessTable) -> None:
    with named_namespace() as name, process_in(name) as first, process_in(name) as second:
        both = {first.pid: first, second.pid: second}
        (found,) = find(table, name)  # one for each cgroup, whichever of the two
        shown = both.pop(found.pid)
        (other,) = both.values()
        shown.kill()
        shown.wait()
        assert [item.pid for item in find(table, name)] == [other.pid]
        other.kill()
        other.wait()
        assert find(table, name) == ()


def test_a_zombie_is_no_process_of_a_namespace(table: ProcessTable) -> None:
    with named_namespace() as name, process_in(name) as inside:
        assert len(find(table, name)) == 1
        inside.kill()
        os.waitid(os.P_PID, inside.pid, os.WEXITED | os.WNOWAIT)
        assert find(table, name) == ()
        assert inside.pid not in table._refused


def test_each_cgroup_has_a_process_to_stand_for_it_pods_first(table: ProcessTable) -> None:
    base, uid = unique_name(), uuid.uuid4()
    pods = [f"{base}/kubepods/burstable/pod{uid}/{letter * 64}" for letter in "ab"]
    others = [f"{base}/other{number}" for number in range(9)]
    with ExitStack() as stack:
        for path in (*pods, *others):
            stack.enter_context(cgroup(path))
        name = stack.enter_context(named_namespace())
        for path in (*others, *pods):
            for _ in range(2):
                inside = stack.enter_context(process_in(name))
                move(inside.pid, path)
        found = find(table, name)
        assert len(found) == 8
        assert [item.cgroup.decode() for item in found[:2]] == [f"/{path}" for path in pods]
        assert len({item.cgroup for item in found}) == 8
        for item in found:
            assert item.started == place_of_pid(item.pid).started


def test_a_process_moved_to_its_pods_cgroup_while_young_is_seen_there(table: ProcessTable) -> None:
    path = f"{unique_name()}/kubepods/pod{uuid.uuid4()}/{'c' * 64}"
    with cgroup(path), named_namespace() as name, process_in(name) as inside:
        assert path.encode() not in find(table, name)[0].cgroup
        move(inside.pid, path)
        assert find(table, name)[0].cgroup == b"/" + path.encode()
        inside.kill()
        inside.wait()


REUSE = """if True:
    import os, signal, subprocess, sys
    from pathlib import Path
    from exporter.broker.server.processes import ProcessTable

    def fork(command):
        child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        child.stdout.readline()
        return child

    info = os.stat("/proc/self/ns/net")
    table = ProcessTable((info.st_dev, info.st_ino))
    first = fork(["sh", "-c", "echo; exec cat"])
    for _ in range(40):
        subprocess.run(["true"])
    assert table.list_namespaces().found == ()
    table._young.clear()  # it has been there for long
    table._turn = [1]  # and its turn comes much later
    first.kill()
    first.wait()
    Path("/proc/sys/kernel/ns_last_pid").write_text(str(first.pid - 1))
    second = fork(["unshare", "-n", "sh", "-c", "echo; exec cat"])
    assert second.pid == first.pid, "the pid was not given anew"
    (found,) = table.list_namespaces().found
    assert found.processes[0].pid == second.pid
    second.kill()
    second.wait()
    print("found")
"""


def test_a_pid_given_anew_between_two_listings_is_noticed() -> None:
    """In a pid namespace of its own, where the next pid can be chosen."""
    command = ["unshare", "--pid", "--fork", "--mount-proc", sys.executable, "-W", "ignore", "-c", REUSE]
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=ROOT, timeout=30)
    assert done.stdout == "found\n", done.stderr


def test_without_sys_ptrace_the_namespaces_of_stronger_processes_are_refused() -> None:
    def count() -> str:
        limit_capabilities(BROKER_CAPABILITIES & ~(1 << 19))
        listed = ProcessTable(home()).list_namespaces()
        return f"{listed.refused > 0} {place in {(item.device, item.inode) for item in listed.found}}"

    with named_namespace() as name, process_in(name):
        place = (place_of_name(name).device, place_of_name(name).inode)
        assert run_forked(count) == "True False"


def test_a_listing_costs_what_changed(table: ProcessTable, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[int] = []
    look = ProcessTable._read

    def counting(self: ProcessTable, pid: int, now: float) -> None:
        looks.append(pid)
        look(self, pid, now)

    monkeypatch.setattr(ProcessTable, "_read", counting)
    with ExitStack() as stack:
        crowd = {stack.enter_context(process("sh", "-c", "echo; exec cat")).pid for _ in range(150)}
        clock = iter(range(0, 10_000, 10))
        monkeypatch.setattr("exporter.broker.server.processes.monotonic", lambda: float(next(clock)))
        for expected in (150, 150, 150):  # new, and young at the two listings after that
            looks.clear()
            table.list_namespaces()
            assert len(crowd.intersection(looks)) == expected
        for _ in range(5):
            looks.clear()
            table.list_namespaces()
            assert len(crowd.intersection(looks)) <= 64  # the slow turn
        with process("sh", "-c", "echo; exec cat") as newcomer:
            looks.clear()
            table.list_namespaces()
            assert newcomer.pid in looks
        for child in crowd:
            os.kill(child, signal.SIGKILL)


def test_what_no_longer_lives_is_not_remembered(table: ProcessTable) -> None:
    with named_namespace() as name:
        for _ in range(5):
            with ExitStack() as stack:
                for _ in range(10):
                    stack.enter_context(process_in(name))
                assert len(find(table, name)) == 1
            assert find(table, name) == ()
        alive = {int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal()}
        assert len(table._known.keys() - alive) <= 5  # others come and go on this machine
        assert table._found.keys() == table._members.keys()


def test_ip_netns_names_lead_to_the_same_namespace(table: ProcessTable) -> None:
    with named_namespace() as name, process_in(name) as inside:
        assert place_of_pid(inside.pid).inode == place_of_name(name).inode
        assert str(inside.pid) in run("ip", "netns", "pids", name).split()
        assert find(table, name)[0].pid == inside.pid
