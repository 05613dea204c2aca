"""The language of probes: all that a probe may wait for. Between the probes and the driver that runs them.

A probe is a coroutine that awaits nothing else: a descriptor that is ready, a socket, the beginning of a limit. Each is
a value that reaches the driver, which goes on with the probe when it has come. So a probe reads from top to bottom and
knows no event loop.
"""

from __future__ import annotations

import select
import socket
import time
import types
from collections.abc import Coroutine, Generator
from types import TracebackType
from typing import Any, NamedTuple, TypeAlias, TypeVar

from exporter.broker.protocol.messages import SocketKind
from exporter.model.vantage import Vantage

T = TypeVar("T")


class Ready(NamedTuple):
    """A descriptor of which this (EPOLLIN or EPOLLOUT) or an error can be had."""

    descriptor: int
    mask: int


class Wish(NamedTuple):
    """A socket there. It comes with its number (a source port or ICMP id), or NoSocketError is raised."""

    vantage: Vantage
    kind: SocketKind


class Expired(BaseException):
    """What the driver throws into a probe whose limit is over."""

    def __init__(self, over: limit) -> None:
        super().__init__()
        self.over = over


class limit:  # noqa: N801 - used as asyncio.timeout is
    """TimeoutError if what is inside takes longer. They may be nested: an outer one's end is no TimeoutError inside."""

    __slots__ = ("at", "left")

    def __init__(self, seconds: float) -> None:
        self.at = time.monotonic() + seconds
        self.left = False  # there is nothing inside any more

    async def __aenter__(self) -> None:
        await _demand(self)

    async def __aexit__(self, kind: object, error: BaseException | None, trace: TracebackType | None) -> None:
        self.left = True
        if isinstance(error, Expired) and error.over is self:
            raise TimeoutError from error


Demand: TypeAlias = Ready | Wish | limit
Probe: TypeAlias = Coroutine[Demand, Any, T]


@types.coroutine
def _demand(wanted: Demand) -> Generator[Demand, Any, Any]:
    return (yield wanted)


async def readable(sock: socket.socket) -> None:
    """Wait until a read, or the reading of an error, would not block."""
    await _demand(Ready(sock.fileno(), select.EPOLLIN))


async def writable(sock: socket.socket) -> None:
    """Wait until a write would not block, or connect() has ended."""
    await _demand(Ready(sock.fileno(), select.EPOLLOUT))


async def new_socket(vantage: Vantage, kind: SocketKind) -> tuple[socket.socket, int]:
    """A socket, which the caller closes, and its number."""
    made: tuple[socket.socket, int] = await _demand(Wish(vantage, kind))
    return made
