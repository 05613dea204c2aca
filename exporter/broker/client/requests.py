"""The client of the broker: asynchronous requests, several under way at once, replies in order. No privilege.

Descriptors belong to the caller; if it has been cancelled they are closed on arrival. The broker's end is final:
`closed` is set, and every request under way or to come raises BrokerGone.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import struct
import subprocess
import sys
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import exporter
from exporter.broker.protocol import messages as m
from exporter.broker.protocol.wire import (
    MAX_PACKET,
    MAX_SOCKETS,
    Assembly,
    WireError,
    decode_reply,
    encode_request,
    packets,
)

_HELLO_TIMEOUT = 5.0
_RIGHTS_SPACE = socket.CMSG_SPACE(MAX_SOCKETS * 4)
_PACKETS_PER_TURN = 64  # so that a long reply does not hold up the loop

_ReplyT = TypeVar("_ReplyT", bound=m.Reply)
_ItemT = TypeVar("_ItemT")
_Arrived = tuple[m.Reply, list[int]]


class BrokerGone(Exception):  # noqa: N818 - a state, not a fault
    """The broker has ended, cannot be reached, or does not speak this language. Nothing more comes from it."""


def spawn_broker(directory: str = m.NAMED_DIRECTORY) -> tuple[socket.socket, subprocess.Popen[bytes]]:
    """Start a broker with this process's privilege: call it before giving that up. It ends when the socket is closed.

    `directory`: whose named network namespaces it may list.

    It runs the package that this file belongs to, in a checkout as in a virtual environment, whatever the current
    directory and PYTHONPATH are.
    """
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with its:
        options = [f"--fd={its.fileno()}", f"--netns-directory={directory}"]
        command = [sys.executable, "-E", "-s", "-m", "exporter.broker", *options]
        root = Path(exporter.__file__).resolve().parents[1]
        try:
            process = subprocess.Popen(  # noqa: S603 - a fixed command
                command, pass_fds=(its.fileno(),), cwd=root, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
            )
        except BaseException:
            ours.close()
            raise
    return ours, process


def connect_broker(path: str) -> socket.socket:
    """Connect to a broker that listens at `path`. OSError when none can be reached."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        connection.settimeout(_HELLO_TIMEOUT)
        connection.connect(path)
    except BaseException:
        connection.close()
        raise
    return connection


class BrokerClient:
    """One connection to a broker. Made by `from_socket`; used by any number of coroutines of one event loop."""

    welcome: m.Welcome

    def __init__(self, connection: socket.socket) -> None:
        connection.settimeout(0)
        self.closed = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._socket = connection
        self._outbox: deque[tuple[bytes, memoryview]] = deque()
        self._waiting: deque[asyncio.Future[_Arrived]] = deque()
        self._assembly = Assembly()
        self._descriptors: list[int] = []
        self._buffer = bytearray(MAX_PACKET)
        self._loop.add_reader(connection, self._receive)

    @classmethod
    async def from_socket(cls, connection: socket.socket) -> BrokerClient:
        """The client over a connected socket, which it owns. BrokerGone when the broker does not answer within 5 s."""
        client = cls(connection)
        try:
            async with asyncio.timeout(_HELLO_TIMEOUT):
                client.welcome = await client._request(m.Hello(), m.Welcome)
        except TimeoutError as error:
            client.close()
            raise BrokerGone("no answer from the broker") from error
        except BaseException:
            client.close()
            raise
        return client

    @property
    def shares_namespace(self) -> bool:
        """Whether the broker runs in this process's own network namespace: only then is its home the vantage `host`."""
        info = os.stat("/proc/self/ns/net")  # noqa: PTH116 - procfs does not block
        return (info.st_dev, info.st_ino) == (self.welcome.device, self.welcome.inode)

    async def namespaces(self) -> m.Namespaces:
        return await self._request(m.ListNamespaces(), m.Namespaces)

    async def named(self, directory: str) -> m.Named:
        return await self._request(m.ListNamed(directory), m.Named)

    async def open_sockets(self, wanted: Sequence[m.SocketWanted]) -> list[socket.socket | int]:
        """A socket for each, at most MAX_SOCKETS, or its errno; those of one place are made in one visit.

        The caller closes the sockets. They do not block, whatever their timeout is.
        """
        order = sorted(range(len(wanted)), key=lambda index: hash(wanted[index].place))
        reply, descriptors = await self._exchange(m.OpenSockets(tuple([wanted[index] for index in order])))
        if not isinstance(reply, m.Sockets) or len(reply.errnos) != len(wanted):
            raise self._break("an unexpected reply", descriptors)
        if len(descriptors) > reply.errnos.count(0):
            raise self._break("descriptors that were not announced", descriptors)
        arrived = iter(descriptors)  # fewer than announced when this process had none left to take them (unix(7))
        made: dict[int, socket.socket | int] = {}
        for index, number in zip(order, reply.errnos, strict=True):
            descriptor = None if number else next(arrived, None)
            made[index] = number or errno.EMFILE if descriptor is None else _make_socket(wanted[index].kind, descriptor)
        return [made[index] for index in range(len(wanted))]

    async def read_kernel(
        self, places: tuple[m.NamespaceRef, ...], topics: tuple[m.ReadTopic, ...]
    ) -> tuple[m.KernelState, ...]:
        """The state of each place, at most MAX_PLACES of them, in order."""
        reply = await self._request(m.ReadKernel(places, topics), m.KernelStates)
        return self._matched(reply.states, places)

    async def read_pod_files(self, places: tuple[m.NamespaceRef, ...]) -> tuple[m.PodFiles, ...]:
        """The files of each place, at most MAX_PLACES of them, in order."""
        reply = await self._request(m.ReadPodFiles(places), m.FilesOfPods)
        return self._matched(reply.found, places)

    def close(self) -> None:
        """End the connection; an own broker ends with it."""
        self._end("the connection was closed")

    async def _request(self, request: m.Request, kind: type[_ReplyT]) -> _ReplyT:
        reply, descriptors = await self._exchange(request)
        if descriptors or not isinstance(reply, kind):
            raise self._break("an unexpected reply", descriptors)
        return reply

    async def _exchange(self, request: m.Request) -> _Arrived:
        if self.closed.is_set():
            raise BrokerGone("the broker has gone")
        message = encode_request(request)
        future: asyncio.Future[_Arrived] = self._loop.create_future()
        self._waiting.append(future)
        self._outbox.extend(packets(message))
        self._flush()
        try:
            return await future
        except asyncio.CancelledError:
            if future.done() and not future.cancelled() and not future.exception():
                _close_all(future.result()[1])  # it arrived in the very turn of the cancellation
            raise

    def _flush(self) -> None:
        try:
            while self._outbox:
                self._socket.sendmsg(self._outbox[0])
                self._outbox.popleft()
        except BlockingIOError:
            self._loop.add_writer(self._socket, self._flush)
        except OSError as error:
            self._end(str(error))
        else:
            self._loop.remove_writer(self._socket)

    def _receive(self) -> None:
        try:
            for _ in range(_PACKETS_PER_TURN):
                size, control, _, _ = self._socket.recvmsg_into([self._buffer], _RIGHTS_SPACE, socket.MSG_CMSG_CLOEXEC)
                self._descriptors += _descriptors_in(control)
                if not size:
                    self._end("the broker has ended")
                    return
                self._take(memoryview(self._buffer)[:size])
        except BlockingIOError:
            return
        except (OSError, WireError) as error:
            self._end(str(error))

    def _take(self, packet: memoryview) -> None:
        message = self._assembly.add(packet)
        if message is None:
            return
        reply = decode_reply(message)
        if not self._waiting:
            raise WireError("a reply without a request")
        future = self._waiting.popleft()
        descriptors, self._descriptors = self._descriptors, []
        if future.done():  # its asker was cancelled
            _close_all(descriptors)
        else:
            future.set_result((reply, descriptors))

    def _matched(self, found: tuple[_ItemT, ...], places: tuple[m.NamespaceRef, ...]) -> tuple[_ItemT, ...]:
        if len(found) != len(places):
            raise self._break("an unexpected reply", [])
        return found

    def _break(self, reason: str, descriptors: list[int]) -> BrokerGone:
        _close_all(descriptors)
        self._end(reason)
        return BrokerGone(reason)

    def _end(self, reason: str) -> None:
        if self.closed.is_set():
            return
        self.closed.set()
        self._loop.remove_reader(self._socket)
        self._loop.remove_writer(self._socket)
        self._socket.close()
        _close_all(self._descriptors)
        self._descriptors = []
        for future in self._waiting:
            if not future.done():
                future.set_exception(BrokerGone(reason))
        self._waiting.clear()


def _descriptors_in(control: list[tuple[int, int, bytes]]) -> list[int]:
    """Those of a packet's ancillary data, in order."""
    found: list[int] = []
    for level, kind, data in control:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            found += struct.unpack(f"={len(data) // 4}i", data[: len(data) // 4 * 4])
    return found


def _make_socket(kind: m.SocketKind, descriptor: int) -> socket.socket:
    """The socket that came as this descriptor; it does not block."""
    family, number, protocol = m.SOCKET_ARGUMENTS[kind]
    if (
        number == socket.SOCK_RAW
    ):  # or a ping socket in its place, which the interpreter finds out by three system calls
        made = socket.socket(fileno=descriptor)
        made.settimeout(0)
        return made
    return socket.socket(family, number | socket.SOCK_NONBLOCK, protocol, descriptor)


def _close_all(descriptors: list[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
