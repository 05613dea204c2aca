"""What the wire tests share: checks to loopback addresses, small servers there, and a network whose sockets are
accounted for.

Both loopback addresses are used as they are: a machine without ::1 fails these tests.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from typing import Any, TypeVar

from exporter.broker.protocol.messages import SocketKind
from exporter.model.family import Address, Family
from exporter.model.probe import (
    Check,
    Group,
    Layer,
    Lookup,
    Observation,
    Outcome,
    Question,
    Target,
    Timeouts,
    Together,
)
from exporter.model.vantage import Netns, Vantage
from exporter.probes import dns, jobs_of
from exporter.probes.dns import EdnsMemory
from exporter.probes.engine.driver import Driver, EpollDriver, Job
from exporter.probes.ports import LocalNetwork, Network, make_socket
from exporter.probes.tls import TlsContexts
from tests.wire.asyncio_driver import AsyncioDriver

HOST = Vantage(kind="host", namespace="", name="tests", netns=Netns(device=1, inode=1))
LOOPBACK = {Family.V4: ip_address("127.0.0.1"), Family.V6: ip_address("::1")}
DOMAIN = {Family.V4: socket.AF_INET, Family.V6: socket.AF_INET6}
# What comes has as long as a busy machine takes; only the phase that a test awaits the end of is given a short time.
PATIENT = Timeouts(dict.fromkeys(Layer, 60), whole=60)


def patient_but(layer: Layer, seconds: float) -> Timeouts:
    """A minute for everything but that layer."""
    return Timeouts({**PATIENT.layers, layer: seconds}, whole=60)


SHORT = 0.4
T = TypeVar("T")

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def make_check(
    family: Family,
    port: int,
    layers: tuple[Layer, ...] = (Layer.TCP,),
    *,
    address: Address | None = None,
    timeouts: Timeouts = PATIENT,
    vantage: Vantage = HOST,
    group: Group = Group.OUTSIDE,
    start: float = 0.0,
    **target: Any,
) -> Check:
    """A check of the loopback address of a family, or of another address. Further arguments are those of Target."""
    addresses = target.pop("addresses", {family: address or LOOPBACK[family]})
    return Check(
        vantage=vantage,
        target=Target(name="web", group=group, addresses=addresses, port=port, layers=layers, **target),
        family=family,
        timeouts=timeouts,
        start=start,
    )


DRIVERS: tuple[Callable[[Network], Driver], ...] = (EpollDriver, AsyncioDriver)
DRIVER = DRIVERS[0]  # of the tests' probes; the fixture `driver` changes it


async def drive(jobs: Sequence[Job[T]], network: Network | None) -> list[T]:
    """The results of probes, from a driver of their own. An exception is raised."""
    results: list[T] = []
    for result in await DRIVER(network or LocalNetwork()).run(jobs):
        if isinstance(result, Exception):
            raise result
        assert result is not None
        results.append(result)
    return results


async def run(check: Check, network: Network | None = None, contexts: TlsContexts | None = None) -> list[Observation]:
    parts = await drive(jobs_of(check, contexts or TlsContexts()), network)
    return [observation for part in parts for observation in part]


async def ask(question: Question, network: Network | None = None, memory: EdnsMemory | None = None) -> Lookup:
    (lookup,) = await drive([Job(partial(dns.ask, question, memory))], network)
    return lookup


async def ask_together(asked: Together, network: Network | None = None) -> tuple[Lookup, ...]:
    (lookups,) = await drive([Job(partial(dns.ask_together, asked))], network)
    return lookups


def outcomes(observations: list[Observation]) -> dict[Layer, Outcome]:
    return {observation.layer: observation.outcome for observation in observations}


@asynccontextmanager
async def serve(family: Family, handler: Handler, **options: Any) -> AsyncIterator[int]:
    """A TCP server on the loopback address of one family; its connections end with it."""
    writers: list[asyncio.StreamWriter] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        try:
            await handler(reader, writer)
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(handle, str(LOOPBACK[family]), 0, **options)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        for _ in range(5):  # a closed server has no place for what was accepted just now
            await asyncio.sleep(0)
        server.close()
        while getattr(server, "_active_count", 0):  # wait_closed() of Python 3.11 waits for none of them
            for writer in writers:
                with suppress(AttributeError):  # of a TLS transport that has ended (Python 3.11)
                    writer.transport.abort()
            await asyncio.sleep(0)
        await server.wait_closed()


@contextmanager
def listener(family: Family, backlog: int = 8) -> Iterator[socket.socket]:
    """A listening socket that nobody accepts from."""
    with socket.socket(DOMAIN[family], socket.SOCK_STREAM) as sock:
        sock.bind((str(LOOPBACK[family]), 0))
        sock.listen(backlog)
        yield sock


@contextmanager
def black_hole(family: Family) -> Iterator[int]:
    """A port whose accept queue is full: the kernel drops every further SYN."""
    with listener(family, 0) as sock, socket.socket(DOMAIN[family], socket.SOCK_STREAM) as filler:
        filler.connect(sock.getsockname()[:2])
        yield sock.getsockname()[1]


@contextmanager
def closed_port(family: Family) -> Iterator[int]:
    """A port where nobody listens, and nobody will: it is bound."""
    with socket.socket(DOMAIN[family], socket.SOCK_STREAM) as sock:
        sock.bind((str(LOOPBACK[family]), 0))
        yield sock.getsockname()[1]


class Answering(LocalNetwork):
    """A network that opens nothing: every socket is this errno, or never comes."""

    def __init__(self, number: int | None) -> None:
        super().__init__()
        self._number = number
        self.asked = 0

    async def sockets(self, asked: Sequence[tuple[Vantage, SocketKind, int]]) -> Sequence[socket.socket | int]:
        self.asked += len(asked)
        if self._number is None:
            await asyncio.get_running_loop().create_future()
        return [self._number or 0] * len(asked)


class Noting(LocalNetwork):
    """A network that remembers which sockets it made, whatever becomes of them (TLS takes the descriptor over)."""

    def __init__(self, make: Callable[[SocketKind, int], socket.socket | int] = make_socket) -> None:
        super().__init__()
        self._make = make
        self.made: set[int] = set()  # inodes
        self.made_one = asyncio.Event()

    async def sockets(self, asked: Sequence[tuple[Vantage, SocketKind, int]]) -> Sequence[socket.socket | int]:
        opened = [self._make(kind, number) for _, kind, number in asked]
        self.made |= {os.fstat(made.fileno()).st_ino for made in opened if not isinstance(made, int)}
        self.made_one.set()
        return opened

    def assert_all_closed(self) -> None:
        """Some were made, and none of them is among this process's descriptors."""
        assert self.made
        held = set()
        for descriptor in Path("/proc/self/fd").iterdir():
            with suppress(FileNotFoundError):  # the descriptor of this listing
                held.add(str(descriptor.readlink()))
        assert not held & {f"socket:[{inode}]" for inode in self.made}


def assert_ended_after(seconds: float, took: float | None) -> None:
    """A timeout came when it was due. Later is the machine's business, within what shows that nothing else ended the
    wait.
    """
    assert took is not None
    assert seconds - 0.05 <= took < PATIENT.whole / 2


async def cancel(task: asyncio.Task[Any]) -> None:
    """Cancel and await the end; the task must end by that and nothing else."""
    task.cancel()
    done, _ = await asyncio.wait([task], timeout=60)
    assert done, "the task outlived its cancellation"
    assert task.cancelled()
