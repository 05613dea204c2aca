"""TCP on one non-blocking socket, plain or with TLS around it: connect, send, receive. Under connection.py and dns.py.

No deadlines here: the caller's limit ends any of it. Errors are raised as they come, or as IcmpError if ICMP
gave a reason.
"""

from __future__ import annotations

import errno
import os
import socket
import ssl
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar

from exporter.model.family import Address
from exporter.model.probe import Outcome
from exporter.probes.engine.timing import handshake_seconds
from exporter.probes.engine.waits import readable, writable
from exporter.probes.outcome import PhaseError, read_error, watch_errors
from exporter.probes.ports import destination

CHUNK = 16 * 1024  # bytes, one TLS record
T = TypeVar("T")


async def connect(sock: socket.socket, address: Address, port: int) -> float | None:
    """The TCP handshake; its round-trip time, where the kernel knows it.

    An ICMP error is more precise than the errno that the kernel makes of it, so it goes first.
    """
    watch_errors(sock)
    where = destination(sock, address, port)
    failure = sock.connect_ex(where)
    if failure == errno.EINPROGRESS:
        failure = sock.connect_ex(where)  # what is near has answered by now: no turn of the driver is needed
    if failure == errno.EALREADY:
        await writable(sock)
        failure = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if failure:
        raise read_error(sock) or OSError(failure, os.strerror(failure))
    own = sock.getsockname()
    if own[1] == port and own == sock.getpeername():  # RFC 9293 3.5 figure 7: a simultaneous open, with itself
        raise PhaseError(Outcome.REFUSED, "nothing listens there: the connection reached itself")
    watch_errors(sock, on=False)  # once connected, ICMP errors are hints, not ends (RFC 1122 4.2.3.9)
    return handshake_seconds(sock)


async def send(stream: socket.socket, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[await complete(stream, partial(stream.send, rest), writable) :]


async def receive(stream: socket.socket, most: int = CHUNK) -> bytes:
    """At least one byte and at most so many; empty at the connection's end."""
    return await complete(stream, partial(stream.recv, most), readable)


async def complete(
    stream: socket.socket, operation: Callable[[], T], ready: Callable[[socket.socket], Awaitable[None]]
) -> T:
    """The result of a non-blocking operation, repeated until the socket is `ready`, or as TLS asks for it."""
    while True:
        try:
            return operation()
        except BlockingIOError:
            await ready(stream)
        except ssl.SSLWantReadError:
            await readable(stream)
        except ssl.SSLWantWriteError:
            await writable(stream)
