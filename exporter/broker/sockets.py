"""The sockets that the broker makes for the exporter, in the namespace that it is in. They are never used here.

A raw socket passes only what a probe waits for: the kernel drops the rest before any process is woken.
"""

from __future__ import annotations

import errno
import socket
import struct

from exporter.broker.protocol.messages import SOCKET_ARGUMENTS, SocketKind

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


def open_sockets(kinds: tuple[SocketKind, ...]) -> tuple[list[int], list[int]]:
    """One errno per kind, and the descriptors of those whose errno is 0, in order. The caller closes them."""
    errnos: list[int] = []
    descriptors: list[int] = []
    for kind in kinds:
        try:
            descriptors.append(new_socket(kind).detach())
        except OSError as error:
            errnos.append(error.errno or errno.EIO)
        else:
            errnos.append(0)
    return errnos, descriptors


def new_socket(kind: SocketKind) -> socket.socket:
    """One socket in the current namespace. Raises OSError."""
    family, number, protocol = SOCKET_ARGUMENTS[kind]
    try:
        made = socket.socket(family, number | _FLAGS, protocol)
    except PermissionError as refused:
        if number != socket.SOCK_RAW:
            raise
        try:  # a ping socket, where net.ipv4.ping_group_range allows it for this gid
            return socket.socket(family, socket.SOCK_DGRAM | _FLAGS, protocol)
        except PermissionError:
            raise refused from None
    if number == socket.SOCK_RAW:
        try:
            made.setsockopt(*_FILTERS[made.family])
        except OSError:
            made.close()
            raise
    return made
