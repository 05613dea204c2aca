"""Namespaces, processes and brokers for the tests of the broker: real ones, with names of their own, gone when the test
is.
"""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

from exporter.broker.client.requests import BrokerClient
from exporter.broker.protocol.messages import NamespaceRef, SocketKind, SocketWanted
from exporter.broker.server.namespaces import read_start
from tests.kernel.namespaces import unique_prefix

ROOT = Path(__file__).resolve().parents[2]
SO_NETNS_COOKIE = 71  # asm-generic/socket.h


def unique_name() -> str:
    return f"{unique_prefix()}broker"


def run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@contextmanager
def named_namespace() -> Iterator[str]:
    """A network namespace with a name; it may be deleted before the end."""
    name = unique_name()
    run("ip", "netns", "add", name)
    try:
        run("ip", "-n", name, "link", "set", "lo", "up")
        yield name
    finally:
        subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)


def wanted(place: NamespaceRef, kinds: Iterable[SocketKind], numbers: Iterable[int] = ()) -> tuple[SocketWanted, ...]:
    """These sockets at one place; those without a number get any."""
    each = iter(numbers)
    return tuple(SocketWanted(place, kind, next(each, 0)) for kind in kinds)


def place_of_name(name: str) -> NamespaceRef:
    info = Path(f"/run/netns/{name}").stat()
    return NamespaceRef(device=info.st_dev, inode=info.st_ino, path=f"/run/netns/{name}")


def place_of_pid(pid: int) -> NamespaceRef:
    info = Path(f"/proc/{pid}/ns/net").stat()
    return NamespaceRef(device=info.st_dev, inode=info.st_ino, pid=pid, started=read_start(f"/proc/{pid}/stat"))


@contextmanager
def process(*command: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process that has written its first line, and ends with the test."""
    started = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert started.stdin is not None
    assert started.stdout is not None
    try:
        assert started.stdout.readline(), f"{command} said nothing"
        yield started
    finally:
        started.kill()
        started.wait()
        started.stdin.close()
        started.stdout.close()


WAIT = ("sh", "-c", "echo ready; exec cat")


def process_in(name: str, *command: str) -> AbstractContextManager[subprocess.Popen[bytes]]:
    return process("ip", "netns", "exec", name, *(command or WAIT))


def netns_cookie(sock: socket.socket) -> int:
    cookie: int = struct.unpack("=Q", sock.getsockopt(socket.SOL_SOCKET, SO_NETNS_COOKIE, 8))[0]
    return cookie


def cookie_of(name: str) -> int:
    """The cookie of a namespace, asked from inside by a process of its own."""
    cookie = f"socket.socket().getsockopt(socket.SOL_SOCKET, {SO_NETNS_COOKIE}, 8)"
    code = f"import socket; print(int.from_bytes({cookie}, 'little'))"
    return int(run("ip", "netns", "exec", name, sys.executable, "-c", code))


@contextmanager
def broker_process(*prefix: str, code: str = "") -> Iterator[tuple[socket.socket, subprocess.Popen[bytes]]]:
    """A broker over an inherited socket. `prefix`: a command that starts it; `code`: Python that runs in it before it
    serves.
    """
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    program = (
        f"{code}\nimport sys; from exporter.broker.server.command import main; sys.exit(main(['--fd={its.fileno()}']))"
    )
    started = subprocess.Popen([*prefix, sys.executable, "-c", program], pass_fds=(its.fileno(),), cwd=ROOT)
    its.close()
    try:
        yield ours, started
    finally:
        ours.close()
        started.kill()
        started.wait()


@contextmanager
def listening_broker(path: Path, *options: str, prefix: tuple[str, ...] = ()) -> Iterator[subprocess.Popen[str]]:
    """A broker that listens at `path` already. `prefix`: a command that starts it."""
    command = [*prefix, sys.executable, "-m", "exporter.broker", f"--socket={path}", *options]
    started = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    assert started.stderr is not None
    try:
        line = started.stderr.readline()
        assert "broker started" in line, line
        yield started
    finally:
        started.kill()
        started.wait()
        started.stderr.close()


@contextmanager
def closing(client: BrokerClient) -> Iterator[BrokerClient]:
    try:
        yield client
    finally:
        client.close()


def descriptors_of(pid: int) -> list[str]:
    """What the descriptors of a process point to."""
    found = []
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            found.append(str(entry.readlink()))
    return found


def status_of(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def wait_until(condition: Callable[[], bool], *, seconds: float = 10) -> None:
    """For states that nothing announces, such as the kernel's own clean-up of a namespace."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.02)


def run_forked(act: Callable[[], str]) -> str:
    """What `act` says in a process of its own, which may give up whatever it has."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.write(writer, act().encode())
        except BaseException as error:  # noqa: BLE001 - the parent is told, and nothing of this copy may run on
            os.write(writer, repr(error).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader, "rb") as output:  # noqa: PTH123 - a descriptor
        said = output.read()
    os.waitpid(child, 0)
    return said.decode()


def run_as(uid: int, act: Callable[[], str]) -> str:
    def become_and_act() -> str:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
        return act()

    return run_forked(become_and_act)
