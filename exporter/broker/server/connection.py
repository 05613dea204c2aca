"""One client of the broker, seen from the broker: its requests, and the replies that it has still to take. Decides nothing."""

from __future__ import annotations

import os
import socket
import struct
from collections import deque

from exporter.broker.protocol.messages import Request
from exporter.broker.protocol.packets import MAX_PACKET, Assembly, packets
from exporter.broker.protocol.wire import MAX_REQUEST, WireError, decode_request

_CREDENTIALS = struct.Struct("=iII")  # struct ucred of unix(7): pid, uid, gid


def read_peer_uid(connection: socket.socket) -> int:
    """Who connected, as the kernel noted it then (SO_PEERCRED)."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    uid: int = _CREDENTIALS.unpack(credentials)[1]
    return uid


class Connection:
    """A client's socket, and the packets on their way to it, the first with the descriptors of its reply."""

    def __init__(self, stream: socket.socket) -> None:
        stream.settimeout(0)
        self.stream = stream
        self._outbox: deque[tuple[bytes, memoryview]] = deque()
        self._descriptors: list[int] = []

    @property
    def is_sending(self) -> bool:
        return bool(self._outbox)

    def receive(self) -> Request | None:
        """The next request. None when the client must go: it ended, or sent what is no request.

        Descriptors that a client sends are not asked for, so the kernel drops them.
        """
        try:
            packet = self.stream.recv(MAX_PACKET + 1)
            message = Assembly(MAX_REQUEST).add(memoryview(packet))
            return None if message is None else decode_request(message)  # a request is a single packet
        except (OSError, WireError):
            return None

    def queue(self, message: bytes, descriptors: list[int]) -> None:
        """Take a reply over, and its descriptors, which are closed once they are sent."""
        self._outbox.extend(packets(message))
        self._descriptors = descriptors

    def flush(self) -> bool:
        """Send what the client takes now. False when it must go."""
        while self._outbox:
            array = struct.pack(f"={len(self._descriptors)}i", *self._descriptors)
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array)] if array else []
            try:
                self.stream.sendmsg(self._outbox[0], rights)
            except BlockingIOError:
                return True
            except OSError:
                return False
            self._outbox.popleft()
            self._close_descriptors()
        return True

    def _close_descriptors(self) -> None:
        for descriptor in self._descriptors:
            os.close(descriptor)
        self._descriptors = []

    def close(self) -> None:
        self._close_descriptors()
        self.stream.close()
