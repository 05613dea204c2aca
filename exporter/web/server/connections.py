"""Accepts connections and bounds them: how many, and how long each may take. Between listening sockets and aiohttp.

A slow or silent client uses one slot among many, for seconds. When all slots are used, the oldest connection without a
request under way is closed, so that a scraper always gets one. aiohttp's own sites offer neither bound, nor a TLS
context per connection, which is how certificates rotate.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
import ssl
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from exporter.telemetry.logs import fields

_log = logging.getLogger(__name__)

# Errors of accept(2): for a lack of resources, and those of one client's network.
_SHORT = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_PASSING = frozenset({
    errno.ECONNABORTED, errno.EPERM, errno.EPROTO, errno.ENOPROTOOPT, errno.EOPNOTSUPP, errno.ENETDOWN,
    errno.ENETUNREACH, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENONET, errno.ETIMEDOUT,
})  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionLimits:
    """Connections at a time, and the seconds after which one is cut."""

    connections: int = 256
    handshake: float = 5.0  # TLS
    head: float = 10.0  # from accepting (after it: from the last response) to the first whole request head
    request: float = 30.0  # from a request's head to its response
    idle: float = 120.0  # between requests; longer than the usual scrape intervals
    pause: float = 1.0  # before accepting again after running short of descriptors


@dataclass(slots=True, eq=False)
class _ClientConnection:
    socket: socket.socket
    deadline: float
    busy: bool = False

    @property
    def closed(self) -> bool:
        return self.socket.fileno() < 0

    def cut(self) -> None:
        """Shut both directions down: the transport then sees the end of the stream and closes the socket."""
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)


class Connections:
    """The connections of one server. All methods run on the event loop."""

    def __init__(
        self,
        protocol: Callable[[], asyncio.Protocol],
        *,
        context: Callable[[], ssl.SSLContext | None],
        limits: ConnectionLimits,
    ) -> None:
        self._protocol = protocol
        self._context = context
        self._limits = limits
        self._open: dict[object, _ClientConnection] = {}  # by protocol, oldest first
        self._handshakes: set[asyncio.Task[None]] = set()

    async def run(self, listeners: Sequence[socket.socket]) -> None:
        """Accept until cancelled. Connections stay open then; `close` ends them."""
        try:
            async with asyncio.TaskGroup() as group:
                for listener in listeners:
                    group.create_task(self._accept(listener))
                group.create_task(self._watch())
        finally:
            for task in self._handshakes:
                task.cancel()
            await asyncio.gather(*self._handshakes, return_exceptions=True)

    async def close(self) -> None:
        """Cut every connection, and wait a moment until the event loop has closed them."""
        for connection in self._open.values():
            connection.cut()
        for _ in range(100):
            self._forget_closed()
            if not self._open:
                return
            await asyncio.sleep(0.01)

    @contextlib.contextmanager
    def serving(self, protocol: object) -> Iterator[None]:
        """Mark the connection of that protocol as having a request under way."""
        connection = self._open.get(protocol)
        if connection is None:
            yield
            return
        connection.busy = True
        connection.deadline = time.monotonic() + self._limits.request
        try:
            yield
        finally:
            connection.busy = False
            connection.deadline = time.monotonic() + self._limits.idle

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                accepted, _ = await loop.sock_accept(listener)
            except OSError as error:
                if error.errno not in _SHORT | _PASSING:
                    raise
                if error.errno in _SHORT:
                    _log.warning("cannot accept connections", extra=fields(problem=error.strerror))
                    await asyncio.sleep(self._limits.pause)
                continue
            self._admit(accepted)

    def _admit(self, accepted: socket.socket) -> None:
        self._make_room()
        protocol = self._protocol()
        self._open[protocol] = _ClientConnection(accepted, time.monotonic() + self._limits.head)
        task = asyncio.get_running_loop().create_task(self._begin(accepted, protocol))
        self._handshakes.add(task)
        task.add_done_callback(self._handshakes.discard)

    async def _begin(self, accepted: socket.socket, protocol: asyncio.Protocol) -> None:
        context = self._context()
        timeout = self._limits.handshake if context else None
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: protocol, accepted, ssl=context, ssl_handshake_timeout=timeout, ssl_shutdown_timeout=timeout
            )
        except OSError as error:
            # A failed handshake: not TLS, no common version, a certificate that does not verify, too slow.
            _log.debug("connection refused", extra=fields(problem=error))
            accepted.close()

    def _make_room(self) -> None:
        self._forget_closed()
        if len(self._open) < self._limits.connections:
            return
        protocol = next((p for p, c in self._open.items() if not c.busy), next(iter(self._open)))
        self._open.pop(protocol).cut()

    def _forget_closed(self) -> None:
        for protocol in [p for p, c in self._open.items() if c.closed]:
            del self._open[protocol]

    async def _watch(self) -> None:
        """Cut connections that are past their deadline; checks several times within the shortest one."""
        period = min(1.0, self._limits.head / 4)
        while True:
            await asyncio.sleep(period)
            self._forget_closed()
            now = time.monotonic()
            for connection in self._open.values():
                if connection.deadline <= now:
                    connection.cut()
