"""Netlink in the namespace that is being visited: requests, the sockets of one visit, and a visit's bounds.

Server side of the broker; privileged. rtnetlink.py and nfnetlink.py have the requests; this file returns raw messages
and reads no more of the kernel's framing (linux/netlink.h) than it must: kernel/decode parses them. It must not log,
and no socket outlives its visit.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass

from exporter.broker.protocol.messages import ReadTopic

HEADER = struct.Struct("=IHHII")  # nlmsghdr: length, type, flags, sequence, port id
ATTRIBUTE = struct.Struct("=HH")  # nlattr: length, type

_HEADER_LENGTH = HEADER.size
_NLMSG_ERROR = 2
_NLMSG_DONE = 3
_NLM_F_REQUEST = 0x01
_NLM_F_ACK = 0x04
_NLM_F_DUMP_INTR = 0x10
_NLM_F_DUMP = 0x300
_SEQUENCE = 1  # always the same: a socket whose last answer was not read to its end takes no other request
_STATUS = struct.Struct("=i")
_DONE = struct.Struct("=IHHIIi")  # NLMSG_DONE with its status
_DONE_SIZE = _DONE.size
_ERROR_KIND = struct.pack("=H", _NLMSG_ERROR)  # behind the length
_DONE_BEGINS = struct.pack("=IH", _DONE.size, _NLMSG_DONE)
_AF_NETLINK = int(socket.AF_NETLINK)
_SOCK_RAW = int(socket.SOCK_RAW | socket.SOCK_CLOEXEC)
_MAX_STRANGERS = 1000  # messages of processes in a pod that may write to our port
_MSG_DONTWAIT = int(socket.MSG_DONTWAIT)
_SOL_NETLINK = 270
_NETLINK_GET_STRICT_CHK = 12
_RECEIVE_BYTES = 65536  # the kernel fills at most 32 KiB at a time unless one message needs more


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much one visit may take, in bytes. What is larger is EFBIG to the client."""

    dump: int  # one dump
    visit: int  # all that leaves the broker
    table: int  # a legacy table: copied whole, dropped at once


HOME_BOUNDS = Bounds(dump=16 << 20, visit=32 << 20, table=1 << 30)
POD_BOUNDS = Bounds(dump=512 << 10, visit=1 << 20, table=16 << 20)
"""A pod may fill its tables to harm its reader: half a MiB is 300 links, 7,000 addresses, 4,000 listeners."""


def attribute(kind: int, value: bytes) -> bytes:
    """One nlattr, padded to four bytes."""
    length = 4 + len(value)
    return ATTRIBUTE.pack(length, kind) + value + b"\0" * (-length % 4)


def question(kind: int, body: bytes) -> bytes:
    """A request that is no dump; the kernel acknowledges it behind its answer."""
    return HEADER.pack(_HEADER_LENGTH + len(body), kind, _NLM_F_REQUEST | _NLM_F_ACK, _SEQUENCE, 0) + body


def dump_request(kind: int, body: bytes) -> bytes:
    return HEADER.pack(_HEADER_LENGTH + len(body), kind, _NLM_F_REQUEST | _NLM_F_DUMP, _SEQUENCE, 0) + body


class Netlink:
    """One netlink socket, for the length of a visit. Methods raise OSError, with the kernel's errno where it gave one.

    `busy`: the kernel may still be answering. A socket left busy takes no other request: close it.
    """

    __slots__ = ("_socket", "busy")

    def __init__(self, protocol: int) -> None:
        self.busy = False
        self._socket = socket.SocketType(_AF_NETLINK, _SOCK_RAW, protocol)
        try:
            if protocol == socket.NETLINK_ROUTE:
                self._socket.setsockopt(_SOL_NETLINK, _NETLINK_GET_STRICT_CHK, 1)
        except BaseException:
            self._socket.close()
            raise

    def close(self) -> None:
        self._socket.close()

    def fetch(self, request: bytes, limit: int) -> tuple[bytes, bool]:
        """All messages that answer a request, and whether the dump was interrupted. EFBIG above `limit` bytes.

        NLMSG_DONE is a packet of its own or at the very end of one, and the kernel compares its tables' sequence once
        per packet and marks the first message of it (nl_dump_check_consistent in include/net/netlink.h).
        """
        self.busy = True
        self._socket.send(request)
        chunks: list[bytes] = []
        total = marked = 0
        while self.busy:
            data = self._receive()
            size = len(data)
            if data.startswith(_DONE_BEGINS, size - _DONE_SIZE):
                _, _, marks, _, _, status = _DONE.unpack_from(data, size - _DONE_SIZE)
                self._end(status)
                data = data[:-_DONE_SIZE]
                marked |= marks
            elif data.startswith(_ERROR_KIND, 4):
                self._end(_STATUS.unpack_from(data, _HEADER_LENGTH)[0])
                break
            if chunks and data:
                marked |= HEADER.unpack_from(data)[2]
            total += len(data)
            if total > limit:
                raise OSError(errno.EFBIG, "the dump is larger than the broker hands on")
            chunks.append(data)
        return (chunks[0] if len(chunks) == 1 else b"".join(chunks)), bool(marked & _NLM_F_DUMP_INTR)

    def fetch_head(self, request: bytes) -> bytes:
        """The first packet of a dump. It leaves the socket busy: closing that ends the dump."""
        self.busy = True
        self._socket.send(request)
        data = self._receive()
        if data.startswith(_ERROR_KIND, 4):
            self._end(_STATUS.unpack_from(data, _HEADER_LENGTH)[0])
            return b""
        return data[:-_DONE_SIZE] if data.startswith(_DONE_BEGINS, len(data) - _DONE_SIZE) else data

    def _receive(self) -> bytes:
        """One packet of the kernel. Never waits: the kernel answers within send and fills the next one on a read."""
        for _ in range(_MAX_STRANGERS):
            data, sender = self._socket.recvfrom(_RECEIVE_BYTES, _MSG_DONTWAIT)
            if sender[0] == 0:  # only the kernel (port 0) is believed
                if len(data) < _DONE_SIZE:
                    raise OSError(errno.EBADMSG, "a netlink message ends early")
                return data
        raise OSError(errno.ENOBUFS, "others flood this socket")

    def _end(self, status: int) -> None:
        """NLMSG_ERROR and NLMSG_DONE carry a negative errno, or 0."""
        self.busy = False
        if status < 0:
            raise OSError(-status, "the kernel refused")


class Visit:
    """The netlink sockets of one visit, one per protocol, made when first needed. Raises OSError throughout.

    `interrupted` is set by a dump that was interrupted (NLM_F_DUMP_INTR) twice; the caller clears it.
    """

    __slots__ = ("_sockets", "bounds", "interrupted")

    def __init__(self, bounds: Bounds = HOME_BOUNDS) -> None:
        self.bounds = bounds
        self._sockets: dict[int, Netlink] = {}
        self.interrupted = False

    def close(self) -> None:
        for each in self._sockets.values():
            each.close()
        self._sockets.clear()

    def fetch(self, protocol: int, request: bytes) -> bytes:
        """The whole answer to a request. A dump that is interrupted or overrun (ENOBUFS) is made once more."""
        try:
            data, interrupted = self._idle_socket(protocol).fetch(request, self.bounds.dump)
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise
            data, interrupted = b"", True
        if interrupted:
            data, interrupted = self._idle_socket(protocol).fetch(request, self.bounds.dump)
            self.interrupted |= interrupted
        return data

    def fetch_head(self, protocol: int, request: bytes) -> bytes:
        """The first packet of a dump."""
        return self._idle_socket(protocol).fetch_head(request)

    def _idle_socket(self, protocol: int) -> Netlink:
        """The visit's socket of this protocol; a new one where the kernel may still be answering the last request."""
        found = self._sockets.get(protocol)
        if found is not None:
            if not found.busy:
                return found
            found.close()
            del self._sockets[protocol]
        made = self._sockets[protocol] = Netlink(protocol)
        return made


Fetch = Callable[[Visit, ReadTopic], bytes]
"""How one topic is read in the current namespace."""


def always(protocol: int, request: bytes) -> Fetch:
    """Fetches what answers this one request."""
    return lambda visit, _topic: visit.fetch(protocol, request)
