"""A netlink conversation in the namespace that is being visited: ask, or dump, and hand back raw messages.

Broker side of the flow (broker -> kernel/ parsers -> facts); privileged. It frames requests and checks what the kernel sends back
(linux/netlink.h), and interprets nothing inside a message. It must not log, keep a socket past its visit, or import third-party code.
"""

from __future__ import annotations

import errno
import socket
import struct

HEADER = struct.Struct("=IHHII")  # nlmsghdr: length, type, flags, sequence, port id
ATTRIBUTE = struct.Struct("=HH")  # nlattr: length, type

_HEADER_LENGTH = HEADER.size
_NLMSG_NOOP = 1
_NLMSG_ERROR = 2
_NLMSG_DONE = 3
_NLM_F_REQUEST = 0x01
_NLM_F_ACK = 0x04
_NLM_F_DUMP_INTR = 0x10
_NLM_F_DUMP = 0x300
_SOL_NETLINK = 270
_NETLINK_GET_STRICT_CHK = 12
_RECEIVE_BYTES = 65536  # the kernel fills at most 32 KiB at a time unless one message needs more
_RECEIVE_SECONDS = 2
_TIMEVAL = struct.pack("@ll", _RECEIVE_SECONDS, 0)  # struct timeval: as the machine has it, no "="


def attribute(kind: int, value: bytes) -> bytes:
    """One nlattr, padded to four bytes."""
    length = 4 + len(value)
    return ATTRIBUTE.pack(length, kind) + value + b"\0" * (-length % 4)


class Netlink:
    """One netlink socket, for the length of a visit. Every method raises OSError, with the kernel's errno where it gave one.

    `busy`: the kernel may still be answering. A socket left busy takes no other dump (EBUSY): close it.
    """

    def __init__(self, protocol: int) -> None:
        self.busy = False
        self._sequence = 0
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _TIMEVAL)
            if protocol == socket.NETLINK_ROUTE:
                self._socket.setsockopt(_SOL_NETLINK, _NETLINK_GET_STRICT_CHK, 1)
        except BaseException:
            self._socket.close()
            raise

    def close(self) -> None:
        self._socket.close()

    def ask(self, kind: int, body: bytes) -> bytes:
        """Send one request that is no dump; its answer, up to the acknowledgement."""
        self._send(kind, _NLM_F_REQUEST | _NLM_F_ACK, body)
        answer = bytearray()
        while True:
            chunk, end, _ = self._receive()
            answer += chunk
            if end:
                return bytes(answer)

    def dump(self, kind: int, body: bytes, limit: int) -> tuple[bytes, bool]:
        """All messages of a dump, and whether it was interrupted (NLM_F_DUMP_INTR). EFBIG above `limit` bytes."""
        self._send(kind, _NLM_F_REQUEST | _NLM_F_DUMP, body)
        chunks: list[bytes] = []
        total = 0
        interrupted = False
        while True:
            chunk, end, flagged = self._receive()
            interrupted |= flagged
            total += len(chunk)
            if total > limit:
                raise OSError(errno.EFBIG, "the dump is larger than the broker hands on")
            chunks.append(chunk)
            if end:
                return b"".join(chunks), interrupted

    def dump_head(self, kind: int, body: bytes) -> bytes:
        """The first packet of a dump. It leaves the socket busy: closing that ends the dump."""
        self._send(kind, _NLM_F_REQUEST | _NLM_F_DUMP, body)
        return self._receive()[0]

    def _send(self, kind: int, flags: int, body: bytes) -> None:
        self._sequence += 1
        self.busy = True
        self._socket.send(HEADER.pack(_HEADER_LENGTH + len(body), kind, flags, self._sequence, 0) + body)

    def _receive(self) -> tuple[bytes, bool, bool]:
        """One packet: the messages that answer the last request, whether the answer ends here, whether it was interrupted."""
        try:
            data, _, flags, sender = self._socket.recvmsg(_RECEIVE_BYTES)
        except BlockingIOError:
            raise OSError(errno.ETIMEDOUT, "the kernel did not answer") from None
        if sender[0] != 0:
            return b"", False, False  # only the kernel (port 0) is believed
        if flags & socket.MSG_TRUNC:
            raise OSError(errno.EMSGSIZE, "a message is larger than the buffer")
        return self._split(data)

    def _split(self, data: bytes) -> tuple[bytes, bool, bool]:
        offset = 0
        interrupted = 0
        size = len(data)
        while offset < size:
            if size - offset < _HEADER_LENGTH:
                raise OSError(errno.EBADMSG, "a netlink message ends early")
            length, kind, flags, sequence, _ = HEADER.unpack_from(data, offset)
            if not _HEADER_LENGTH <= length <= size - offset:
                raise OSError(errno.EBADMSG, "a netlink message has an impossible length")
            if sequence != self._sequence:
                return data[:offset], False, bool(interrupted)  # left over from an earlier request
            interrupted |= flags & _NLM_F_DUMP_INTR
            if kind <= _NLMSG_DONE and kind != _NLMSG_NOOP:
                self.busy = False
                self._check_status(data, offset, length)
                return data[:offset], True, bool(interrupted)
            offset += (length + 3) & ~3
        return data, False, bool(interrupted)

    @staticmethod
    def _check_status(data: bytes, offset: int, length: int) -> None:
        """NLMSG_ERROR and NLMSG_DONE carry a negative errno, or 0."""
        if length < _HEADER_LENGTH + 4:
            return
        (status,) = struct.unpack_from("=i", data, offset + _HEADER_LENGTH)
        if status < 0:
            raise OSError(-status, "the kernel refused")
