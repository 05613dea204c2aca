"""The probing I/O boundary: sockets inside a vantage's network namespace, each with a number not used there for 180 s.

Between rounds and the kernel: probes ask it for sockets and wait on them here. It resolves no name, judges nothing and
enters no namespace itself: BrokerNetwork asks the broker, LocalNetwork makes sockets of this process's own namespace.
"""

from __future__ import annotations

import asyncio
import errno
import os
import secrets
import socket
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

from exporter.broker.client.requests import BrokerClient, BrokerGone
from exporter.broker.protocol.messages import HOME, NamespaceRef, SocketKind
from exporter.model.vantage import Vantage

FIRST_NUMBER, LAST_NUMBER = 32768, 60999  # the kernel's default net.ipv4.ip_local_port_range
SPAN = LAST_NUMBER - FIRST_NUMBER + 1
UNUSED_FOR = (
    180.0  # seconds; conntrack keeps an old NAT decision alive for as long (nf_conntrack_udp_timeout_stream is 120 s)
)
BIND_TRIES = 16

IPV6_KINDS = frozenset({SocketKind.TCP6, SocketKind.UDP6, SocketKind.ICMP6})
ICMP_KINDS = frozenset({SocketKind.ICMP4, SocketKind.ICMP6})

NamespaceKey: TypeAlias = tuple[int, int]


class NoSocketError(Exception):
    """No socket could be had in that namespace; says nothing of the path. `number` is the errno."""

    def __init__(self, number: int, detail: str = "") -> None:
        super().__init__(detail or os.strerror(number))
        self.number = number


@dataclass(slots=True)
class _Rotation:
    """Numbers in use order: the next one, and when each of the last ones was handed out (they are consecutive)."""

    next: int
    used: deque[float] = field(default_factory=deque)


class PortAllocator:
    """Source ports and ICMP ids, handed out in rotation per namespace and kind of socket from a random start.

    None is handed out again within 180 s; where all are used up, NoSocket(EADDRNOTAVAIL). Not shared between processes:
    after a restart the random start makes a collision unlikely, not impossible.
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
        number = FIRST_NUMBER + rotation.next
        rotation.next = (rotation.next + 1) % SPAN
        rotation.used.append(now)
        return number

    def _forget_idle(self, now: float) -> None:
        """Drop namespaces whose last number is old: they may be gone, and the memory must not grow with churn."""
        while self._rotations:
            key, rotation = next(iter(self._rotations.items()))
            if rotation.used[-1] + UNUSED_FOR > now:
                return
            del self._rotations[key]


class Network(Protocol):
    """Where probes get their sockets. One entry for each kind, in order: a non-blocking socket, or the errno that was met."""

    @property
    def numbers(self) -> PortAllocator: ...

    async def sockets(self, vantage: Vantage, kinds: Sequence[SocketKind]) -> list[socket.socket | int]: ...


def place_of(vantage: Vantage) -> NamespaceRef | None:
    """Where the broker finds the vantage's namespace; None when no namespace is known for it."""
    if vantage.kind == "host":
        return HOME
    if vantage.netns is None:
        return None
    netns = vantage.netns
    return NamespaceRef(device=netns.device, inode=netns.inode, pid=netns.pid, started=netns.started, path=netns.path)


class BrokerNetwork:
    """Sockets of any vantage, made by the broker in one visit a call. ESTALE without a namespace, NoSocket without a broker."""

    def __init__(self, client: BrokerClient, numbers: PortAllocator | None = None) -> None:
        self._client = client
        self.numbers = numbers or PortAllocator()

    async def sockets(self, vantage: Vantage, kinds: Sequence[SocketKind]) -> list[socket.socket | int]:
        place = place_of(vantage)
        if place is None:
            return [errno.ESTALE] * len(kinds)
        try:
            return await self._client.open_sockets(place, tuple(kinds))
        except BrokerGone as error:  # the daemon ends with it; this probe has learnt nothing of the path
            raise NoSocketError(errno.EBUSY, str(error)) from error


class LocalNetwork:
    """Sockets of this process's own namespace, for the host alone: what is left without a broker. A pod gives EPERM."""

    def __init__(self, numbers: PortAllocator | None = None) -> None:
        self.numbers = numbers or PortAllocator()

    async def sockets(self, vantage: Vantage, kinds: Sequence[SocketKind]) -> list[socket.socket | int]:
        return [make_socket(kind) if vantage.kind == "host" else errno.EPERM for kind in kinds]


def make_socket(kind: SocketKind) -> socket.socket | int:
    """A socket of the calling thread's namespace, or an errno. Raw ICMP falls back to a ping socket (net.ipv4.ping_group_range)."""
    domain = socket.AF_INET6 if kind in IPV6_KINDS else socket.AF_INET
    protocol = 0
    types = [socket.SOCK_STREAM if kind in {SocketKind.TCP4, SocketKind.TCP6} else socket.SOCK_DGRAM]
    if kind in ICMP_KINDS:
        protocol = socket.IPPROTO_ICMPV6 if domain == socket.AF_INET6 else socket.IPPROTO_ICMP
        types = [socket.SOCK_RAW, socket.SOCK_DGRAM]
    failure = errno.EINVAL
    for kind_of_socket in types:
        try:
            return socket.socket(domain, kind_of_socket | socket.SOCK_NONBLOCK, protocol)
        except OSError as error:
            failure = error.errno or errno.EIO
            if failure not in {errno.EPERM, errno.EACCES}:
                break
    return failure


async def open_socket(
    network: Network, vantage: Vantage, kind: SocketKind, *, seconds: float
) -> tuple[socket.socket, int]:
    """One socket with its number: source port (bound), or ICMP id (bound for a ping socket, the caller's to write on a raw one).

    The caller closes it. NoSocket where none could be had, also where none came within `seconds`: that is our own
    slowness, so it must not read as a timeout of the path.
    """
    try:
        async with asyncio.timeout(seconds):
            (made,) = await network.sockets(vantage, (kind,))
    except TimeoutError:
        raise NoSocketError(errno.EBUSY, f"no socket was made within {seconds:.3g} s") from None
    if isinstance(made, int):
        raise NoSocketError(made)
    try:
        return made, _bind(made, kind, network.numbers, namespace=vantage.netns.key if vantage.netns else (0, 0))
    except BaseException:
        made.close()
        raise


def _bind(sock: socket.socket, kind: SocketKind, numbers: PortAllocator, *, namespace: NamespaceKey) -> int:
    if sock.type == socket.SOCK_RAW:
        return numbers.take(namespace, kind)
    if kind in IPV6_KINDS:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)  # a raw socket refuses it, and has no port to share
    for _ in range(BIND_TRIES):
        number = numbers.take(namespace, kind)
        try:
            sock.bind(("::" if kind in IPV6_KINDS else "0.0.0.0", number))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                continue
            raise NoSocketError(error.errno or errno.EIO) from error
        return number
    raise NoSocketError(errno.EADDRINUSE, f"{BIND_TRIES} source ports in a row were taken")


async def readable(sock: socket.socket) -> None:
    """Wait until a read, or the reading of an error, would not block."""
    loop = asyncio.get_running_loop()
    descriptor = sock.fileno()
    ready = loop.create_future()
    loop.add_reader(descriptor, _wake, ready)
    try:
        await ready
    finally:
        loop.remove_reader(descriptor)


async def writable(sock: socket.socket) -> None:
    """Wait until a write would not block, or connect() has ended."""
    loop = asyncio.get_running_loop()
    descriptor = sock.fileno()
    ready = loop.create_future()
    loop.add_writer(descriptor, _wake, ready)
    try:
        await ready
    finally:
        loop.remove_writer(descriptor)


def _wake(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)
