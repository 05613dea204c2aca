"""Sockets in a vantage's network namespace, each with a port or ICMP id that was not used there for 180 seconds.

The I/O boundary between probes and kernel: probes get their sockets and wait on them here. This module resolves no
name, judges nothing and enters no namespace: BrokerNetwork asks the broker, LocalNetwork makes sockets of this
process's own namespace.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import secrets
import socket
import struct
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import IPv6Address
from typing import Protocol, TypeAlias

from exporter.broker.client.requests import BrokerClient, BrokerGone
from exporter.broker.protocol.messages import HOME, NUMBERS, NamespaceRef, SocketKind
from exporter.broker.sockets import new_socket
from exporter.model.family import Address
from exporter.model.vantage import Vantage

SPAN = len(NUMBERS)
UNUSED_FOR = 180.0  # seconds; conntrack keeps a NAT decision for 120 s (nf_conntrack_udp_timeout_stream)
BIND_TRIES = 16
SIOCGIFINDEX, IFREQ = 0x8933, struct.Struct("=16si20x")  # linux/sockios.h, struct ifreq of linux/if.h

NamespaceKey: TypeAlias = tuple[int, int]


class NoSocketError(Exception):
    """No socket in that namespace, which shows nothing of the path. `number` is the errno."""

    def __init__(self, number: int, detail: str = "") -> None:
        super().__init__(detail or os.strerror(number))
        self.number = number


@dataclass(slots=True)
class _Rotation:
    """The next number, and when each of the consecutive ones before it was handed out."""

    next: int
    used: deque[float] = field(default_factory=deque)


class PortAllocator:
    """Source ports and ICMP ids, in rotation per namespace and kind of socket from a random start.

    None is handed out twice within 180 s; if all are used up, NoSocketError(EADDRNOTAVAIL). The state is not shared
    between processes: after a restart the random start makes a collision unlikely, not impossible.
    """

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, draw: Callable[[int], int] = secrets.randbelow
    ) -> None:
        self._clock = clock
        self._draw = draw
        self._rotations: OrderedDict[tuple[NamespaceKey, SocketKind], _Rotation] = OrderedDict()

    def take(self, namespace: NamespaceKey, kind: SocketKind) -> int:
        now = self._clock()
        self._forget_idle(now)
        rotation = self._rotations.setdefault((namespace, kind), _Rotation(self._draw(SPAN)))
        self._rotations.move_to_end((namespace, kind))
        while rotation.used and rotation.used[0] + UNUSED_FOR <= now:
            rotation.used.popleft()
        if len(rotation.used) >= SPAN:
            raise NoSocketError(errno.EADDRNOTAVAIL, f"every source port was used within {UNUSED_FOR:g} s")
        number = NUMBERS[rotation.next]
        rotation.next = (rotation.next + 1) % SPAN
        rotation.used.append(now)
        return number

    def _forget_idle(self, now: float) -> None:
        """Drop namespaces whose last number is old: they may be gone, and memory must not grow with them."""
        while self._rotations:
            key, rotation = next(iter(self._rotations.items()))
            if rotation.used[-1] + UNUSED_FOR > now:
                return
            del self._rotations[key]


class Network(Protocol):
    """Where probes get a non-blocking socket, bound to this port or ICMP id of NUMBERS (0: to any), or the errno."""

    @property
    def numbers(self) -> PortAllocator: ...

    async def socket(self, vantage: Vantage, kind: SocketKind, number: int) -> socket.socket | int: ...


def place_of(vantage: Vantage) -> NamespaceRef | None:
    """Where the broker finds the vantage's namespace; None if no namespace is known for it."""
    if vantage.kind == "host":
        return HOME
    netns = vantage.netns
    if netns is None:
        return None
    return NamespaceRef(device=netns.device, inode=netns.inode, pid=netns.pid, started=netns.started, path=netns.path)


class BrokerNetwork:
    """Sockets of any vantage, made by the broker. ESTALE without a namespace, NoSocketError without a broker."""

    def __init__(self, client: BrokerClient) -> None:
        self._client = client
        self.numbers = PortAllocator()

    async def socket(self, vantage: Vantage, kind: SocketKind, number: int) -> socket.socket | int:
        place = place_of(vantage)
        if place is None:
            return errno.ESTALE
        try:
            (made,) = await self._client.open_sockets(place, (kind,), (number,))
        except BrokerGone as error:  # the daemon ends with the broker; this probe shows nothing of the path
            raise NoSocketError(errno.EBUSY, str(error)) from error
        return made


class LocalNetwork:
    """Sockets of this process's own namespace, for the host, where there is no broker. EPERM for a pod."""

    def __init__(self, numbers: PortAllocator | None = None) -> None:
        self.numbers = numbers or PortAllocator()

    async def socket(self, vantage: Vantage, kind: SocketKind, number: int) -> socket.socket | int:
        return make_socket(kind, number) if vantage.kind == "host" else errno.EPERM


def make_socket(kind: SocketKind, number: int = 0) -> socket.socket | int:
    """A socket of the calling thread's namespace, or an errno."""
    try:
        return new_socket(kind, number)
    except OSError as error:
        return error.errno or errno.EIO


async def open_socket(
    network: Network, vantage: Vantage, kind: SocketKind, *, seconds: float
) -> tuple[socket.socket, int]:
    """A socket, which the caller closes, and its number: a source port, or the ICMP id to write into the echoes.

    NoSocketError if there is none within `seconds`: that delay is our own and must not read as a timeout of the path.
    """
    namespace = vantage.netns.key if vantage.netns else (0, 0)
    try:
        async with asyncio.timeout(seconds):
            for _ in range(BIND_TRIES):
                number = network.numbers.take(namespace, kind)
                made = await network.socket(vantage, kind, number)
                if not isinstance(made, int):
                    return made, number
                if made != errno.EADDRINUSE:
                    raise NoSocketError(made)
    except TimeoutError:
        raise NoSocketError(errno.EBUSY, f"no socket was made within {seconds:.3g} s") from None
    raise NoSocketError(errno.EADDRINUSE, f"{BIND_TRIES} source ports in a row were taken")


def destination(sock: socket.socket, address: Address, port: int) -> tuple[str, int] | tuple[str, int, int, int]:
    """Where to connect this socket: a link-local address through its link, by name or number.

    The socket's own namespace knows the link. One that is not there leaves the scope open, as glibc does: then
    connect() fails.
    """
    link = address.scope_id if isinstance(address, IPv6Address) else None
    if link is None:
        return str(address), port
    if link.isdecimal():
        number = int(link) & 0xFFFFFFFF
    else:
        try:
            number = IFREQ.unpack(fcntl.ioctl(sock, SIOCGIFINDEX, IFREQ.pack(link.encode(), 0)))[1]
        except OSError:
            number = 0
    return str(address).partition("%")[0], port, 0, number


async def readable(sock: socket.socket) -> None:
    """Wait until a read, or the reading of an error, would not block."""
    loop = asyncio.get_running_loop()
    await _wait(loop.add_reader, loop.remove_reader, sock.fileno())


async def writable(sock: socket.socket) -> None:
    """Wait until a write would not block, or connect() has ended."""
    loop = asyncio.get_running_loop()
    await _wait(loop.add_writer, loop.remove_writer, sock.fileno())


async def _wait(add: Callable[..., None], remove: Callable[[int], object], descriptor: int) -> None:
    ready = asyncio.Event()
    add(descriptor, ready.set)
    try:
        await ready.wait()
    finally:
        remove(descriptor)
