"""TCP on one non-blocking socket, plain or with TLS around it: connect, send, receive. Under the connection and dns probes.

No deadlines here: the caller's asyncio.timeout ends any of it. Errors come as they are, or as Failure where ICMP said
more.
"""

from __future__ import annotations

import errno
import os
import socket
import ssl

from exporter.model.family import Address
from exporter.model.probe import Outcome
from exporter.probes.error_queue import read_error, watch_errors
from exporter.probes.outcome import PhaseError
from exporter.probes.ports import readable, writable

CHUNK = 16 * 1024  # bytes, one TLS record


async def connect(sock: socket.socket, address: Address, port: int) -> None:
    """The TCP handshake. An ICMP error says more than the errno that the kernel makes of it, so it goes first."""
    watch_errors(sock)
    failure = sock.connect_ex((str(address), port))
    if failure == errno.EINPROGRESS:
        await writable(sock)
        failure = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if failure:
        said = read_error(sock)
        raise PhaseError(said.outcome, said.detail) if said else OSError(failure, os.strerror(failure))
    if sock.getsockname()[:2] == sock.getpeername()[:2]:  # RFC 9293 3.5 figure 7: a simultaneous open, with itself
        raise PhaseError(Outcome.REFUSED, "nobody listens: the connection met itself")
    watch_errors(sock, on=False)  # once connected, ICMP errors are hints, not ends (RFC 1122 4.2.3.9)


async def send(stream: socket.socket, data: bytes) -> None:
    """Send all of it."""
    while data:
        try:
            data = data[stream.send(data) :]
        except (BlockingIOError, ssl.SSLWantWriteError):
            await writable(stream)
        except ssl.SSLWantReadError:
            await readable(stream)


async def receive(stream: socket.socket, most: int = CHUNK) -> bytes:
    """At least one byte and at most so many; empty at the connection's end."""
    while True:
        try:
            return stream.recv(most)
        except (BlockingIOError, ssl.SSLWantReadError):
            await readable(stream)
        except ssl.SSLWantWriteError:
            await writable(stream)
