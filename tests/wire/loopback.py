"""What the wire tests share: checks to loopback addresses, small servers there, and a network whose sockets are
accounted for.

Both loopback addresses are used as they are: a machine without ::1 fails these tests.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from exporter.broker.protocol.messages import SocketKind
from exporter.model.family import Address, Family
from exporter.model.probe import Check, Group, Layer, Observation, Outcome, Target, Timeouts
from exporter.model.vantage import Netns, Vantage
from exporter.probes import run_check
from exporter.probes.ports import LocalNetwork, Network, make_socket
from exporter.probes.tls import TlsContexts

HOST = Vantage(kind="host", namespace="", name="tests", netns=Netns(device=1, inode=1))
LOOPBACK = {Family.V4: ip_address("127.0.0.1"), Family.V6: ip_address("::1")}
DOMAIN = {Family.V4: socket.AF_INET, Family.V6: socket.AF_INET6}
# What comes has as long as a busy machine takes; only the phase that a test awaits the end of is given a short time.
PATIENT = Timeouts(dict.fromkeys(Layer, 60), whole=60)


def patient_but(layer: Layer, seconds: float) -> Timeouts:
    """A minute for everything but that layer."""
    return Timeouts({**PATIENT.layers, layer: seconds}, whole=60)


SHORT = 0.4

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
    **target: Any,
) -> Check:
    """A check of the loopback address of a family, or of another address. Further arguments are those of Target."""
    addresses = target.pop("addresses", {family: address or LOOPBACK[family]})
    return Check(
        vantage=vantage,
        target=Target(name="web", group=group, addresses=addresses, port=port, layers=layers, **target),
        family=family,
        timeouts=timeouts,
    )


async def run(check: Check, network: Network | None = None, contexts: TlsContexts | None = None) -> list[Observation]:
    return await run_check(check, network or LocalNetwork(), contexts or TlsContexts())


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
        server.close()
        for writer in writers:
            writer.transport.abort()
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

    async def socket(self, vantage: Vantage, kind: SocketKind, number: int) -> socket.socket | int:  # noqa: ARG002 - as the interface has it
        self.asked += 1
        if self._number is None:
            await asyncio.get_running_loop().create_future()
        return self._number or 0


class Noting(LocalNetwork):
    """A network that remembers which sockets it made, whatever becomes of them (TLS takes the descriptor over)."""

    def __init__(self, make: Callable[[SocketKind, int], socket.socket | int] = make_socket) -> None:
        super().__init__()
        self._make = make
        self.made: set[int] = set()  # inodes
        self.made_one = asyncio.Event()

    async def socket(self, vantage: Vantage, kind: SocketKind, number: int) -> socket.socket | int:  # noqa: ARG002 - as the interface has it
        made = self._make(kind, number)
        if not isinstance(made, int):
            self.made.add(os.fstat(made.fileno()).st_ino)
        self.made_one.set()
        return made

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
