"""Sockets in a vantage's network namespace, each with a port or ICMP id that was not used there for 180 seconds.

The I/O boundary between probes and kernel: probes get their sockets here. This module resolves no
name, judges nothing and enters no namespace: BrokerNetwork asks the broker, LocalNetwork makes sockets of this
process's own namespace.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import socket
import struct
import time
from abc import ABC, abstractmethod
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from ipaddress import IPv6Address
from typing import TypeAlias

from exporter.broker.client.requests import BrokerClient, BrokerGone
from exporter.broker.protocol.messages import HOME, NUMBERS, NamespaceRef, SocketKind, SocketWanted
from exporter.broker.sockets import bound_socket
from exporter.model.family import Address
from exporter.model.vantage import Vantage
from exporter.probes.engine.waits import Wish, limit, new_socket

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
        key = namespace, kind
        rotation = self._rotations.get(key)
        if rotation is None:
            rotation = self._rotations[key] = _Rotation(self._draw(SPAN))
        self._rotations.move_to_end(key)
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


class Network(ABC):
    """Where sockets for probes come from: non-blocking ones, each bound to a number of its own."""

    def __init__(self, numbers: PortAllocator | None = None) -> None:
        self.numbers = numbers or PortAllocator()

    async def open(self, wishes: Sequence[Wish]) -> list[tuple[socket.socket, int] | NoSocketError]:
        """A socket and its number for each wish, or why there is none."""
        numbers = [self._take(wish) for wish in wishes]
        asked = [(*wish, each) for wish, each in zip(wishes, numbers, strict=True) if isinstance(each, int)]
        made = iter(await self.sockets(asked) if asked else ())
        return [_opened(next(made), each) if isinstance(each, int) else each for each in numbers]

    def _take(self, wish: Wish) -> int | NoSocketError:
        netns = wish.vantage.netns
        try:
            return self.numbers.take(netns.key if netns else (0, 0), wish.kind)
        except NoSocketError as error:
            return error

    @abstractmethod
    async def sockets(self, asked: Sequence[tuple[Vantage, SocketKind, int]]) -> Sequence[socket.socket | int]:
        """One socket for each, bound to this port or ICMP id of NUMBERS (0: to any), or the errno."""


def _opened(made: socket.socket | int, number: int) -> tuple[socket.socket, int] | NoSocketError:
    return NoSocketError(made) if isinstance(made, int) else (made, number)


def place_of(vantage: Vantage) -> NamespaceRef | None:
    """Where the broker finds the vantage's namespace; None if no namespace is known for it."""
    if vantage.kind == "host":
        return HOME
    netns = vantage.netns
    if netns is None:
        return None
    return NamespaceRef(device=netns.device, inode=netns.inode, pid=netns.pid, started=netns.started, path=netns.path)


class BrokerNetwork(Network):
    """Sockets of any vantage, made by the broker. ESTALE without a namespace, EBUSY without a broker."""

    def __init__(self, client: BrokerClient) -> None:
        super().__init__()
        self._client = client

    async def sockets(self, asked: Sequence[tuple[Vantage, SocketKind, int]]) -> Sequence[socket.socket | int]:
        placed = [(place_of(vantage), kind, number) for vantage, kind, number in asked]
        wanted = [SocketWanted(place, kind, number) for place, kind, number in placed if place is not None]
        try:
            made = iter(await self._client.open_sockets(wanted))
        except BrokerGone:  # the daemon ends with the broker; these probes show nothing of the path
            return [errno.EBUSY] * len(asked)
        return [errno.ESTALE if place is None else next(made) for place, _, _ in placed]


class LocalNetwork(Network):
    """Sockets of this process's own namespace, for the host, where there is no broker. EPERM for a pod."""

    async def sockets(self, asked: Sequence[tuple[Vantage, SocketKind, int]]) -> Sequence[socket.socket | int]:
        return [make_socket(kind, number) if vantage.kind == "host" else errno.EPERM for vantage, kind, number in asked]


def make_socket(kind: SocketKind, number: int = 0) -> socket.socket | int:
    """A socket of the calling thread's namespace, or an errno."""
    try:
        return bound_socket(kind, number)
    except OSError as error:
        return error.errno or errno.EIO


async def open_socket(vantage: Vantage, kind: SocketKind, *, seconds: float) -> tuple[socket.socket, int]:
    """A socket, which the caller closes, and its number: a source port, or the ICMP id to write into the echoes.

    NoSocketError if there is none within `seconds`: that delay is our own and must not read as a timeout of the path.
    """
    try:
        async with limit(seconds):
            for _ in range(BIND_TRIES):
                try:
                    return await new_socket(vantage, kind)
                except NoSocketError as error:
                    if error.number != errno.EADDRINUSE:
                        raise
    except TimeoutError:
        raise NoSocketError(errno.EBUSY, f"no socket was made within {seconds:.3g} s") from None
    raise NoSocketError(errno.EADDRINUSE, f"{BIND_TRIES} source ports in a row were taken")


_text = lru_cache(1024)(str)  # of addresses: the same few are dialled from everywhere


def destination(sock: socket.socket, address: Address, port: int) -> tuple[str, int] | tuple[str, int, int, int]:
    """Where to connect this socket: a link-local address through its link, by name or number.

    The socket's own namespace knows the link. One that is not there leaves the scope open, as glibc does: then
    connect() fails.
    """
    link = address.scope_id if isinstance(address, IPv6Address) else None
    if link is None:
        return _text(address), port
    if link.isdecimal():
        number = int(link) & 0xFFFFFFFF
    else:
        try:
            number = IFREQ.unpack(fcntl.ioctl(sock, SIOCGIFINDEX, IFREQ.pack(link.encode(), 0)))[1]
        except OSError:
            number = 0
    return str(address).partition("%")[0], port, 0, number
