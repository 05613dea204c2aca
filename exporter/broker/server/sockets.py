"""The sockets that the broker makes for the exporter, in whichever namespace it stands. They are never used here.

A raw socket passes only what a probe waits for: the kernel drops the rest before anybody is woken.
"""

from __future__ import annotations

import errno
import socket
import struct

from exporter.broker.protocol.messages import SocketKind

_FLAGS = socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC

# linux/icmp.h: echo reply, destination unreachable, time exceeded, parameter problem. A set bit keeps a type out.
_ICMP4_TYPES = (0, 3, 11, 12)
_ICMP4_FILTER = struct.pack("=I", 0xFFFFFFFF & ~sum(1 << kind for kind in _ICMP4_TYPES))
_SOL_RAW, _ICMP_FILTER = 255, 1

# linux/icmpv6.h: destination unreachable, packet too big, time exceeded, parameter problem, echo reply. 256 bits,
# likewise.
_ICMP6_TYPES = (1, 2, 3, 4, 129)
_ICMP6_WORDS = [0xFFFFFFFF & ~sum(1 << kind % 32 for kind in _ICMP6_TYPES if kind // 32 == word) for word in range(8)]
_ICMP6_FILTER = struct.pack("=8I", *_ICMP6_WORDS)
_ICMPV6_FILTER_OPTION = 1


def open_sockets(kinds: tuple[SocketKind, ...]) -> tuple[list[int], list[int]]:
    """One errno per kind, and the descriptors of those whose errno is 0, in order. The caller closes them."""
    errnos: list[int] = []
    descriptors: list[int] = []
    for kind in kinds:
        try:
            descriptors.append(_open(kind).detach())
        except OSError as error:
            errnos.append(error.errno or errno.EIO)
        else:
            errnos.append(0)
    return errnos, descriptors


def _open(kind: SocketKind) -> socket.socket:
    match kind:
        case SocketKind.TCP4:
            return socket.socket(socket.AF_INET, socket.SOCK_STREAM | _FLAGS, socket.IPPROTO_TCP)
        case SocketKind.TCP6:
            return socket.socket(socket.AF_INET6, socket.SOCK_STREAM | _FLAGS, socket.IPPROTO_TCP)
        case SocketKind.UDP4:
            return socket.socket(socket.AF_INET, socket.SOCK_DGRAM | _FLAGS, socket.IPPROTO_UDP)
        case SocketKind.UDP6:
            return socket.socket(socket.AF_INET6, socket.SOCK_DGRAM | _FLAGS, socket.IPPROTO_UDP)
        case SocketKind.ICMP4:
            return _open_icmp(socket.AF_INET, socket.IPPROTO_ICMP, (_SOL_RAW, _ICMP_FILTER, _ICMP4_FILTER))
        case SocketKind.ICMP6:
            option = (socket.IPPROTO_ICMPV6, _ICMPV6_FILTER_OPTION, _ICMP6_FILTER)
            return _open_icmp(socket.AF_INET6, socket.IPPROTO_ICMPV6, option)


def _open_icmp(family: int, protocol: int, kernel_filter: tuple[int, int, bytes]) -> socket.socket:
    try:
        raw = socket.socket(family, socket.SOCK_RAW | _FLAGS, protocol)
    except PermissionError as refused:
        try:  # a ping socket, where net.ipv4.ping_group_range lets this gid
            return socket.socket(family, socket.SOCK_DGRAM | _FLAGS, protocol)
        except PermissionError:
            raise refused from None
    try:
        raw.setsockopt(*kernel_filter)
    except OSError:
        raw.close()
        raise
    return raw
