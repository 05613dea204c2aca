"""The broker's loop: it takes one request at a time from its clients and sends the replies. Single-threaded, never waits for a client.

A client's next request is read only when its last reply is on its way, so one that does not read costs the memory of
one reply and delays nobody. What is no valid request ends that client alone. What the requests mean stands in
answers.py.
"""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Container

from exporter.broker.protocol.wire import encode_reply
from exporter.broker.server.answers import Broker
from exporter.broker.server.connection import Connection, read_peer_uid

MAX_CLIENTS = 16

_REST = 0.05  # seconds after a failed accept: the system is out of descriptors, and trying at once would only burn time


class BrokerServer:
    """Serves clients until `wakeup` becomes readable, or, without a listener, until the last one has gone.

    `client_uids`: whom to serve of those who connect; None leaves that to the mode of the socket's file.
    """

    def __init__(self, broker: Broker, *, wakeup: socket.socket, client_uids: Container[int] | None = None) -> None:
        self._broker = broker
        self._wakeup = wakeup
        self._client_uids = client_uids
        self._clients: dict[int, Connection] = {}
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
                        self._attend(self._clients[descriptor])
        finally:
            for client in list(self._clients.values()):
                self._dismiss(client)

    def _accept(self, listener: socket.socket) -> None:
        try:
            stream, _ = listener.accept()
        except OSError:
            time.sleep(_REST)
            return
        welcome = self._client_uids is None or read_peer_uid(stream) in self._client_uids
        if welcome and len(self._clients) < MAX_CLIENTS:
            self._admit(stream)
        else:
            stream.close()

    def _admit(self, stream: socket.socket) -> None:
        self._clients[stream.fileno()] = Connection(stream)
        self._poll.register(stream, select.POLLIN)

    def _dismiss(self, client: Connection) -> None:
        del self._clients[client.stream.fileno()]
        self._poll.unregister(client.stream)
        client.close()

    def _attend(self, client: Connection) -> None:
        was_sending = client.is_sending
        if not was_sending:
            request = client.receive()
            if request is None:
                self._dismiss(client)
                return
            reply, descriptors = self._broker.answer(request)
            client.queue(encode_reply(reply), descriptors)
        if not client.flush():
            self._dismiss(client)
        elif client.is_sending != was_sending:
            self._poll.modify(client.stream, select.POLLOUT if client.is_sending else select.POLLIN)
