"""How long the network took, by the kernel's own clock: what this process waits for its turn is not in it.

Probes are begun and looked at together, so the time between their own calls would be mostly ours. The kernel notes when
a datagram arrived (SO_TIMESTAMPNS), and the round-trip time of a TCP handshake (TCP_INFO, linux/tcp.h).
"""

from __future__ import annotations

import socket
import struct
import time
from typing import Any

_TCP_INFO = struct.Struct("=68xI28xI")  # tcpi_rtt in microseconds, tcpi_total_retrans
_TIMESPEC = struct.Struct("=qq")  # of 64-bit machines
_SCM_TIMESTAMPNS = 35  # asm-generic/socket.h
_SPACE = socket.CMSG_SPACE(_TIMESPEC.size)


class Stopwatch:
    """Runs from now on, by the clock of arrivals, and by one that nobody sets in case that one was set."""

    __slots__ = ("_began", "_sent")

    def __init__(self) -> None:
        self._began = time.perf_counter()
        self._sent = time.time()

    def now(self) -> float:
        """Seconds, with our own delay."""
        return time.perf_counter() - self._began

    def until(self, arrived: float | None) -> float:
        """Seconds until that moment in Unix time; until now, where it is unknown or cannot be."""
        now = self.now()
        seconds = now if arrived is None else arrived - self._sent
        return seconds if 0 <= seconds <= now else now


def receive_datagram(sock: socket.socket, most: int) -> tuple[bytes, float | None, Any]:
    """One datagram, when it arrived in Unix time, and from where."""
    data, ancillary, _, sender = sock.recvmsg(most, _SPACE)
    for level, kind, value in ancillary:
        if (level, kind, len(value)) == (socket.SOL_SOCKET, _SCM_TIMESTAMPNS, _TIMESPEC.size):
            seconds, nanoseconds = _TIMESPEC.unpack(value)
            return data, seconds + nanoseconds / 1e9, sender
    return data, None, sender


def handshake_seconds(sock: socket.socket) -> float | None:
    """The round-trip time of this connection's handshake, just made; None if a packet of it was sent again."""
    rtt, again = _TCP_INFO.unpack(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO.size))
    return None if again or not rtt else rtt / 1e6
