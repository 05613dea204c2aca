"""The sockets that the broker makes for the exporter, in the namespace that it is in. They are never used here.

They come bound, so that whoever gets one cannot bind it to another port. A raw socket passes only what a probe waits
for: the kernel drops the rest before any process is woken. With each datagram comes when the kernel received it.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterable
from contextlib import suppress

from exporter.broker.protocol.messages import NUMBERS, SOCKET_ARGUMENTS, SocketKind, SocketWanted

_FLAGS = socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC

# linux/icmp.h: echo reply, destination unreachable, time exceeded, parameter problem. A set bit keeps a type out.
_ICMP4_TYPES = (0, 3, 11, 12)
_ICMP4_FILTER = struct.pack("=I", 0xFFFFFFFF & ~sum(1 << kind for kind in _ICMP4_TYPES))
# linux/icmpv6.h: destination unreachable, packet too big, time exceeded, parameter problem, echo reply; likewise.
_ICMP6_TYPES = (1, 2, 3, 4, 129)
_ICMP6_WORDS = [0xFFFFFFFF & ~sum(1 << kind % 32 for kind in _ICMP6_TYPES if kind // 32 == word) for word in range(8)]
_ICMP6_FILTER = struct.pack("=8I", *_ICMP6_WORDS)
_FILTERS = {  # level, option and value
    socket.AF_INET: (255, 1, _ICMP4_FILTER),  # SOL_RAW, ICMP_FILTER
    socket.AF_INET6: (socket.IPPROTO_ICMPV6, 1, _ICMP6_FILTER),  # ICMPV6_FILTER
}


def open_sockets(wanted: Iterable[SocketWanted]) -> list[int]:
    """For each a descriptor, which the caller closes, or a negative errno."""
    made: list[int] = []
    for _, kind, number in wanted:
        try:
            made.append(bound_socket(kind, number).detach())
        except OSError as error:
            made.append(-(error.errno or errno.EIO))
    return made


def bound_socket(kind: SocketKind, number: int = 0) -> socket.socket:
    """One socket in the current namespace, bound to this port or ICMP id (0: to any) and one family. Raises OSError."""
    if number and number not in NUMBERS:
        raise OSError(errno.EINVAL, "not a number for a probe")
    made = _make(*SOCKET_ARGUMENTS[kind])
    try:
        if made.type == socket.SOCK_RAW:
            made.setsockopt(*_FILTERS[made.family])
        elif made.family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            made.bind(("::", number))
        else:
            made.bind(("0.0.0.0", number))
        if made.type != socket.SOCK_STREAM:
            made.setsockopt(socket.SOL_SOCKET, 35, 1)  # SO_TIMESTAMPNS of asm-generic/socket.h
    except OSError:
        made.close()
        raise
    return made


def _make(family: int, kind: int, protocol: int) -> socket.socket:
    """A ping socket in place of a raw one where this gid may have it: it sends nothing but echo requests."""
    if kind == socket.SOCK_RAW:
        with suppress(PermissionError):
            return socket.socket(family, socket.SOCK_DGRAM | _FLAGS, protocol)
    return socket.socket(family, kind | _FLAGS, protocol)
