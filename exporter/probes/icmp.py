"""icmp of one check: a small echo, then a full-size one of the route's MTU. RFC 792, RFC 4443, RFC 1191, RFC 8201.

From plan's Check to one Observation, whose outcome is the small echo's; the full-size one tells whether big packets vanish on
a path that small ones pass. Each echo is sent again at half its time, so that one lost packet is no failure.
"""

from __future__ import annotations

import errno
import secrets
import socket
import struct
import time
from asyncio import timeout
from collections.abc import Container
from contextlib import suppress
from dataclasses import dataclass

from exporter.broker.messages import SocketKind
from exporter.model.family import Family, parse_address
from exporter.model.probe import Check, Layer, Observation, Outcome
from exporter.network import Network, open_socket, readable
from exporter.probes.error_queue import read_error, watch_errors
from exporter.probes.outcome import EXPECTED, Failure, describe, observe, outcome_of

SMALL_PAYLOAD = 56  # bytes, as ping(8)
TOKEN = 16  # bytes, random, at the payload's start
HEADER = struct.Struct("!BBHHH")  # type, code, checksum, identifier, sequence
RECEIVED = 65536
LARGEST = 65535  # bytes of an IP packet; a loopback route says 65536

# linux/in.h, linux/in6.h, linux/icmp.h, linux/icmpv6.h; Python names none of them on every build
IP_MTU_DISCOVER, IP_MTU, IPV6_MTU_DISCOVER, IPV6_MTU, IPV6_DONTFRAG = 10, 14, 23, 24, 62
PMTUDISC_DO = 2
SOL_RAW, ICMP_FILTER, ICMP6_FILTER = 255, 1, 1


@dataclass(frozen=True, slots=True)
class Form:
    """What differs between the families. `filter` passes echo replies alone (a set bit blocks), `least` is the smallest sane MTU."""

    request: int
    reply: int
    header: int  # bytes of the IP header
    least: int
    level: int
    mtu: int
    undivided: tuple[tuple[int, int], ...]
    filter: tuple[int, int, bytes]


FORMS = {
    Family.V4: Form(
        8,
        0,
        20,
        68,
        socket.IPPROTO_IP,
        IP_MTU,
        ((IP_MTU_DISCOVER, PMTUDISC_DO),),
        (SOL_RAW, ICMP_FILTER, struct.pack("=I", 0xFFFFFFFE)),
    ),
    Family.V6: Form(
        128,
        129,
        40,
        1280,
        socket.IPPROTO_IPV6,
        IPV6_MTU,
        ((IPV6_MTU_DISCOVER, PMTUDISC_DO), (IPV6_DONTFRAG, 1)),
        (
            socket.IPPROTO_ICMPV6,
            ICMP6_FILTER,
            struct.pack("=8I", *(0xFFFFFFFF ^ (2 if word == 4 else 0) for word in range(8))),
        ),
    ),
}


@dataclass(frozen=True, slots=True)
class Echo:
    """How one echo ended; `mtu` is what a Packet Too Big named."""

    outcome: Outcome
    seconds: float
    detail: str = ""
    mtu: int = 0


async def probe_icmp(check: Check, network: Network) -> list[Observation]:
    """The one observation of layer icmp. The full-size echo is sent only when the small one was answered."""
    if check.address is None:
        return [observe(check, Layer.ICMP, Outcome.NO_ADDRESS)]
    deadline = time.monotonic() + check.timeouts.whole
    kind = SocketKind.ICMP6 if check.family is Family.V6 else SocketKind.ICMP4
    try:
        sock, identifier = await open_socket(network, check.vantage, kind, check.timeouts.whole)
        with sock:
            path = _Path(sock, check, identifier)
            path.connect()
            small = await path.exchange(SMALL_PAYLOAD + HEADER.size + path.form.header, _within(check, deadline))
            full, size = await _exchange_full(path, check, deadline) if small.outcome is Outcome.OK else (None, 0)
    except EXPECTED as error:
        return [observe(check, Layer.ICMP, outcome_of(error), detail=describe(error))]
    detail = small.detail or (full.detail if full else "")
    outcome = full.outcome if full else None
    return [
        observe(
            check,
            Layer.ICMP,
            small.outcome,
            seconds=small.seconds,
            detail=detail,
            full_size=outcome,
            full_size_bytes=size,
        )
    ]


def _within(check: Check, deadline: float) -> float:
    return min(check.timeouts.icmp, deadline - time.monotonic())


async def _exchange_full(path: _Path, check: Check, deadline: float) -> tuple[Echo | None, int]:
    """The full-size echo and its size in bytes; repeated once at the MTU that a Packet Too Big (or EMSGSIZE) names."""
    size = path.mtu()
    if size is None:
        return None, 0
    echo = await path.exchange(size, _within(check, deadline))
    if echo.outcome is Outcome.TOO_BIG:
        smaller = echo.mtu or path.mtu() or 0
        if path.form.least <= smaller < size:
            size = smaller
            echo = await path.exchange(size, _within(check, deadline))
    return echo, size


class _Path:
    """Echoes over one socket to one address, which the kernel takes replies and errors from."""

    def __init__(self, sock: socket.socket, check: Check, identifier: int) -> None:
        self.form = FORMS[check.family]
        self._sock = sock
        self._address = check.address
        self._identifier = identifier
        self._raw = sock.type == socket.SOCK_RAW
        self._sequence = 0

    def connect(self) -> None:
        """Pin the address, never divide packets, hear ICMP errors. OSError where there is no route."""
        for option, value in self.form.undivided:
            self._sock.setsockopt(self.form.level, option, value)
        if self._raw:
            self._sock.setsockopt(*self.form.filter)
        watch_errors(self._sock)
        self._sock.connect((str(self._address), 0))

    def mtu(self) -> int | None:
        """The route's MTU as the kernel knows it now, learned limits included; None when there is no route any more."""
        try:
            return min(self._sock.getsockopt(self.form.level, self.form.mtu), LARGEST)
        except OSError as error:
            if error.errno == errno.ENOTCONN:
                return None
            raise

    async def exchange(self, size: int, seconds: float) -> Echo:
        """Send an echo request of `size` bytes (the IP packet), again at half time, and await the reply to either."""
        payload = secrets.token_bytes(TOKEN).ljust(size - self.form.header - HEADER.size, b"\0")
        sent: dict[int, float] = {}  # sequence -> when
        started = time.perf_counter()
        try:
            for _ in range(2):
                with suppress(TimeoutError):
                    async with timeout(seconds / 2):
                        self._send(payload, sent)
                        answered = await self._await_reply(payload, sent)
                        return Echo(Outcome.OK, time.perf_counter() - sent[answered])
        except EXPECTED as error:
            mtu = error.mtu if isinstance(error, _TooBig) else 0
            return Echo(outcome_of(error), time.perf_counter() - started, describe(error), mtu)
        return Echo(Outcome.TIMEOUT, time.perf_counter() - started, f"no reply to {size} bytes within {seconds:.3g} s")

    def _send(self, payload: bytes, sent: dict[int, float]) -> None:
        self._sequence += 1
        header = HEADER.pack(self.form.request, 0, 0, self._identifier, self._sequence)
        if self._raw and self.form is FORMS[Family.V4]:  # the kernel sums up ICMPv6 and ping sockets itself
            checksum = checksum_of(header + payload)
            header = HEADER.pack(self.form.request, 0, checksum, self._identifier, self._sequence)
        sent[self._sequence] = time.perf_counter()
        self._sock.send(header + payload)

    async def _await_reply(self, payload: bytes, sent: Container[int]) -> int:
        """The sequence number that was answered. One packet a turn, so that a flood cannot hold up the event loop."""
        while True:
            await readable(self._sock)
            try:
                packet, sender = self._sock.recvfrom(RECEIVED)
            except BlockingIOError:
                self._read_errors(sent)
            except OSError:
                if not self._read_errors(sent):
                    raise
            else:
                sequence = self._match(packet, payload)
                if sequence in sent and parse_address(sender[0]) == self._address:  # ping sockets take any sender's
                    return sequence

    def _match(self, packet: bytes, payload: bytes) -> int:
        """The sequence number of a reply to this payload; -1 for anything else. A raw IPv4 socket gives the IP header too."""
        if self._raw and self.form is FORMS[Family.V4]:
            packet = packet[(packet[0] & 0x0F) * 4 :]
        if len(packet) < HEADER.size:
            return -1
        kind, code, _, identifier, sequence = HEADER.unpack_from(packet)
        right = (kind, code, identifier) == (self.form.reply, 0, self._identifier) and packet[HEADER.size :] == payload
        return int(sequence) if right else -1

    def _read_errors(self, sent: Container[int]) -> bool:
        """Raise the ICMP error about one of our echoes; say whether there were others (of someone else's packets)."""
        others = False
        while (said := read_error(self._sock)) is not None:
            if len(said.packet) >= HEADER.size:
                kind, _, _, identifier, sequence = HEADER.unpack_from(said.packet)
                if (kind, identifier) == (self.form.request, self._identifier) and sequence in sent:
                    raise _TooBig(said.detail, said.mtu) if said.mtu else Failure(said.outcome, said.detail)
            others = True
        return others


class _TooBig(Failure):
    def __init__(self, detail: str, mtu: int) -> None:
        super().__init__(Outcome.TOO_BIG, detail)
        self.mtu = mtu


def checksum_of(data: bytes) -> int:
    """The Internet checksum, RFC 1071."""
    padded = data + b"\0" * (len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(padded) // 2}H", padded))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
