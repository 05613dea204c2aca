"""The broker's loop: takes one request at a time from its clients and sends the replies. It never waits for a client.

A client's next request is read only when its last reply is on its way, so one that does not read costs the memory of
one reply and delays no other; when all replies that wait exceed a bound, the client ends that has not read for longest.
An invalid request ends that client only. answers.py answers the requests.
"""

from __future__ import annotations

import os
import select
import socket
import struct
import time
from collections import deque
from collections.abc import Container

from exporter.broker.protocol.messages import Request
from exporter.broker.protocol.wire import (
    MAX_PACKET,
    MAX_REQUEST,
    Assembly,
    WireError,
    decode_request,
    encode_reply,
    packets,
)
from exporter.broker.server.answers import Broker

MAX_CLIENTS = 16
MAX_OF_UID = 4  # of a uid other than root's and the broker's own: the daemon, and commands run beside it
MAX_QUEUED = 34 << 20  # bytes of all replies that wait for their readers: one of the largest, and small ones

_REST = 0.05  # seconds after a failed accept: the system is out of descriptors, and trying at once would only burn time


_CREDENTIALS = struct.Struct("=iII")  # struct ucred of unix(7): pid, uid, gid


def _read_peer_uid(connection: socket.socket) -> int:
    """Who connected, as the kernel noted it then (SO_PEERCRED)."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    uid: int = _CREDENTIALS.unpack(credentials)[1]
    return uid


class Connection:
    """A client's socket, and the packets on their way to it, the first with the descriptors of its reply."""

    def __init__(self, stream: socket.socket, uid: int | None = None) -> None:
        stream.settimeout(0)
        self.stream = stream
        self.uid = uid
        self.queued = 0  # bytes of the reply that is being sent
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
        self.queued = len(message)
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
        self.queued = 0
        return True

    def _close_descriptors(self) -> None:
        for descriptor in self._descriptors:
            os.close(descriptor)
        self._descriptors = []

    def close(self) -> None:
        self._close_descriptors()
        self.stream.close()


class BrokerServer:
    """Serves clients until `wakeup` becomes readable, or, without a listener, until the last one has gone.

    `client_uids`: whom to serve of those who connect; None leaves that to the mode of the socket's file.
    """

    def __init__(self, broker: Broker, *, wakeup: socket.socket, client_uids: Container[int] | None = None) -> None:
        self._broker = broker
        self._wakeup = wakeup
        self._client_uids = client_uids
        self._clients: dict[int, Connection] = {}
        self._unread: dict[Connection, None] = {}  # those with a reply on its way, the longest first
        self._poll = select.poll()
        self._poll.register(wakeup, select.POLLIN)

    def serve(self, *, listener: socket.socket | None = None, inherited: socket.socket | None = None) -> None:
        """Serve a listening socket, an inherited connection, or both."""
        if listener is not None:
            self._poll.register(listener, select.POLLIN)
        if inherited is not None:
            self._admit(inherited)
        try:
            while listener is not None or self._clients:
                for descriptor, _ in self._poll.poll():
                    if descriptor == self._wakeup.fileno():
                        return
                    if listener is not None and descriptor == listener.fileno():
                        self._accept(listener)
                    else:
                        self._attend(descriptor)
        finally:
            for client in list(self._clients.values()):
                self._dismiss(client)

    def _accept(self, listener: socket.socket) -> None:
        try:
            stream, _ = listener.accept()
        except OSError:
            time.sleep(_REST)
            return
        uid = _read_peer_uid(stream)
        welcome = self._client_uids is None or uid in self._client_uids
        same = sum(client.uid == uid for client in self._clients.values())
        most = MAX_CLIENTS if uid in {0, os.getuid()} else MAX_OF_UID
        if welcome and same < most and len(self._clients) < MAX_CLIENTS:
            self._admit(stream, uid)
        else:
            stream.close()

    def _admit(self, stream: socket.socket, uid: int | None = None) -> None:
        self._clients[stream.fileno()] = Connection(stream, uid)
        self._poll.register(stream, select.POLLIN)

    def _dismiss(self, client: Connection) -> None:
        del self._clients[client.stream.fileno()]
        self._unread.pop(client, None)
        self._poll.unregister(client.stream)
        client.close()

    def _attend(self, descriptor: int) -> None:
        client = self._clients.get(descriptor)
        if client is None:  # dismissed in this turn
            return
        was_sending = client.is_sending
        if not was_sending:
            request = client.receive()
            if request is None:
                self._dismiss(client)
                return
            reply, descriptors = self._broker.answer(request)
            message = encode_reply(reply)
            while self._unread and sum(other.queued for other in self._unread) + len(message) > MAX_QUEUED:
                self._dismiss(next(iter(self._unread)))
            client.queue(message, descriptors)
        if not client.flush():
            self._dismiss(client)
        elif client.is_sending != was_sending:
            self._poll.modify(client.stream, select.POLLOUT if client.is_sending else select.POLLIN)
            if client.is_sending:
                self._unread[client] = None
            else:
                del self._unread[client]
