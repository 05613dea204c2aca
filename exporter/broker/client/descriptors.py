"""Descriptors that come with a reply, and the sockets that they are. On the exporter's side of the broker; without privilege."""

from __future__ import annotations

import os
import socket
import struct

from exporter.broker.protocol.messages import SocketKind
from exporter.broker.protocol.wire import MAX_SOCKETS

RIGHTS_SPACE = socket.CMSG_SPACE(MAX_SOCKETS * 4)
_KINDS = {  # spares the interpreter three system calls per socket; a raw or ping socket it finds out itself
    SocketKind.TCP4: (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP),
    SocketKind.TCP6: (socket.AF_INET6, socket.SOCK_STREAM, socket.IPPROTO_TCP),
    SocketKind.UDP4: (socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_UDP),
    SocketKind.UDP6: (socket.AF_INET6, socket.SOCK_DGRAM, socket.IPPROTO_UDP),
}


def descriptors_in(control: list[tuple[int, int, bytes]]) -> list[int]:
    """Those of a packet's ancillary data, in order."""
    found: list[int] = []
    for level, kind, data in control:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            found += struct.unpack(f"={len(data) // 4}i", data[: len(data) // 4 * 4])
    return found


def make_socket(kind: SocketKind, descriptor: int) -> socket.socket:
    """A socket that does not block, of what was asked for as this kind."""
    family, number, protocol = _KINDS.get(kind, (-1, -1, -1))
    if number < 0:
        made = socket.socket(fileno=descriptor)
        made.settimeout(0)
        return made
    return socket.socket(family, number | socket.SOCK_NONBLOCK, protocol, descriptor)


def close_all(descriptors: list[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
