"""The icmp layer of one check: a small echo, then a full-size one of the route's MTU. From a Check to one Observation.

Its outcome is the small echo's; the full-size echo shows whether big packets vanish on a path that small ones pass. A
reply counts only from that address, with our identifier, sequence and random token; an ICMP error only if it quotes our
echo. Each echo is sent again at half its time, so that one lost packet is no failure. RFC 792, 4443, 1191, 8201.
"""

from __future__ import annotations

import errno
import secrets
import socket
import struct
import time
from collections.abc import Container, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace

from exporter.broker.protocol.messages import SocketKind
from exporter.model.family import Address, Family, family_of, parse_address
from exporter.model.probe import Check, Layer, Observation, Outcome
from exporter.probes.engine.timing import Stopwatch, receive_datagram
from exporter.probes.engine.waits import limit, readable
from exporter.probes.outcome import (
    EXPECTED,
    IcmpError,
    describe,
    observe,
    outcome_of,
    read_error,
    watch_errors,
    without_address,
)
from exporter.probes.ports import open_socket

SMALL_PAYLOAD = 56  # bytes, as ping(8)
TOKEN = 16  # bytes, random, at the payload's start
HEADER = struct.Struct("!BBHHH")  # type, code, checksum, identifier, sequence
RECEIVED = 65536
LARGEST = 65535  # bytes of an IP packet; a loopback route has 65536

# linux/in.h, linux/in6.h; Python names none of them on every build
IP_MTU_DISCOVER, IP_MTU, IPV6_MTU_DISCOVER, IPV6_MTU, IPV6_DONTFRAG = 10, 14, 23, 24, 62
PMTUDISC_DO = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class IcmpForm:
    kind: SocketKind
    request: int
    reply: int
    header: int  # bytes of the IP header
    least: int  # the smallest MTU that a link may have
    level: int  # of the socket options
    mtu: int
    undivided: tuple[tuple[int, int], ...]  # options that forbid fragments


FORMS = {
    Family.V4: IcmpForm(
        kind=SocketKind.ICMP4,
        request=8,
        reply=0,
        header=20,
        least=68,
        level=socket.IPPROTO_IP,
        mtu=IP_MTU,
        undivided=((IP_MTU_DISCOVER, PMTUDISC_DO),),
    ),
    Family.V6: IcmpForm(
        kind=SocketKind.ICMP6,
        request=128,
        reply=129,
        header=40,
        least=1280,
        level=socket.IPPROTO_IPV6,
        mtu=IPV6_MTU,
        undivided=((IPV6_MTU_DISCOVER, PMTUDISC_DO), (IPV6_DONTFRAG, 1)),
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Echo:
    """How one echo of `size` bytes (the IP packet) ended; `mtu` is what a Packet Too Big named."""

    outcome: Outcome
    size: int
    seconds: float
    detail: str = ""
    mtu: int = 0


async def probe_icmp(check: Check) -> list[Observation]:
    """The one observation of layer icmp. The full-size echo is sent only if the small one was answered."""
    if check.address is None:
        return [without_address(check, Layer.ICMP)]
    deadline = time.monotonic() + check.timeouts.whole
    form = FORMS[check.family]
    full: Echo | None = None
    try:
        sock, identifier = await open_socket(check.vantage, form.kind, seconds=check.timeouts.whole)
        with sock:
            echoes = _EchoSocket(sock, check.address, identifier)
            size = form.header + HEADER.size + SMALL_PAYLOAD
            small = await echoes.exchange(size, min(check.timeouts.layers[Layer.ICMP], deadline - time.monotonic()))
            if small.outcome is Outcome.OK:
                full = await _exchange_full(echoes, check.timeouts.layers[Layer.ICMP], deadline)
    except EXPECTED as error:
        return [observe(check, Layer.ICMP, outcome_of(error), detail=describe(error))]
    detail = full.detail if full else small.detail
    made = observe(check, Layer.ICMP, small.outcome, seconds=small.seconds, detail=detail)
    return [replace(made, full_size=full.outcome, full_size_bytes=full.size) if full else made]


async def _exchange_full(echoes: _EchoSocket, seconds: float, deadline: float) -> Echo | None:
    """The full-size echo, repeated once at the MTU that a Packet Too Big (or EMSGSIZE) names."""
    size, echo = echoes.mtu(), None
    for _ in range(2):
        left = deadline - time.monotonic()
        if size is None or left < seconds / 2:  # an echo that we cut short would look like one that vanished
            return None
        echo = await echoes.exchange(size, min(seconds, left))
        smaller = echo.mtu or echoes.mtu() or 0
        if echo.outcome is not Outcome.TOO_BIG or not echoes.form.least <= smaller < size:
            break
        size = smaller
    return echo


class _EchoSocket:
    """Echoes to one address over a raw or ping socket, which its caller closes. OSError if there is no route."""

    def __init__(self, sock: socket.socket, address: Address, identifier: int) -> None:
        self.form = FORMS[family_of(address)]
        self._sock = sock
        self._address = address
        self._identifier = identifier
        self._raw4 = sock.type == socket.SOCK_RAW and sock.family == socket.AF_INET
        self._sequence = 0
        for option, value in self.form.undivided:
            sock.setsockopt(self.form.level, option, value)
        watch_errors(sock)
        sock.connect((str(address), 0))

    def mtu(self) -> int | None:
        """The route's MTU as the kernel knows it now, learned limits included; None without a route."""
        try:
            return min(self._sock.getsockopt(self.form.level, self.form.mtu), LARGEST)
        except OSError as error:
            if error.errno == errno.ENOTCONN:
                return None
            raise

    async def exchange(self, size: int, seconds: float) -> Echo:
        """Send an echo request, again at half time, and wait for the reply to either."""
        payload = secrets.token_bytes(TOKEN).ljust(size - self.form.header - HEADER.size, b"\0")
        sent: dict[int, Stopwatch] = {}  # by sequence number
        started = time.perf_counter()
        outcome, detail, mtu = Outcome.TIMEOUT, f"no reply to {size} bytes within {seconds:.3g} s", 0
        try:
            for _ in range(2):
                with suppress(TimeoutError):
                    async with limit(seconds / 2):
                        self._send(payload, sent)
                        seconds = await self._await_reply(payload, sent)
                        return Echo(outcome=Outcome.OK, size=size, seconds=seconds)
        except EXPECTED as error:
            outcome, detail = outcome_of(error), describe(error)
            mtu = error.mtu if isinstance(error, IcmpError) else 0
        return Echo(outcome=outcome, size=size, seconds=time.perf_counter() - started, detail=detail, mtu=mtu)

    def _send(self, payload: bytes, sent: dict[int, Stopwatch]) -> None:
        self._sequence += 1
        header = HEADER.pack(self.form.request, 0, 0, self._identifier, self._sequence)
        if self._raw4:  # for others the kernel makes the checksum
            checksum = checksum_of(header + payload)
            header = HEADER.pack(self.form.request, 0, checksum, self._identifier, self._sequence)
        sent[self._sequence] = Stopwatch()
        self._sock.send(header + payload)

    async def _await_reply(self, payload: bytes, sent: Mapping[int, Stopwatch]) -> float:
        """The seconds from an echo to its reply. Reads one packet per wait: a flood must not block the event loop."""
        while True:
            await readable(self._sock)
            try:
                packet, arrived, sender = receive_datagram(self._sock, RECEIVED)
            except BlockingIOError:
                self._read_errors(sent)
            except OSError:
                if not self._read_errors(sent):
                    raise
            else:
                sequence = self._match(packet, payload)
                if sequence in sent and parse_address(sender[0]) == self._address:  # ping sockets take any sender's
                    return sent[sequence].until(arrived)

    def _match(self, packet: bytes, payload: bytes) -> int:
        """The sequence number of a reply to this payload, else -1. A raw IPv4 packet begins with its IP header."""
        if self._raw4:
            packet = packet[(packet[0] & 0x0F) * 4 :]
        if len(packet) < HEADER.size:
            return -1
        kind, code, _, identifier, sequence = HEADER.unpack_from(packet)
        right = (kind, code, identifier) == (self.form.reply, 0, self._identifier) and packet[HEADER.size :] == payload
        return int(sequence) if right else -1

    def _read_errors(self, sent: Container[int]) -> bool:
        """Raise the ICMP error about one of our echoes; return whether there were others, about foreign packets."""
        others = False
        while (error := read_error(self._sock)) is not None:
            if len(error.packet) >= HEADER.size:
                kind, _, _, identifier, sequence = HEADER.unpack_from(error.packet)
                if (kind, identifier) == (self.form.request, self._identifier) and sequence in sent:
                    if error.outcome is Outcome.REFUSED:  # an echo has no port: a firewall's plain REJECT sends this
                        error.outcome = Outcome.PROHIBITED
                    raise error
            others = True
        return others


def checksum_of(data: bytes) -> int:
    """The Internet checksum, RFC 1071."""
    padded = data + b"\0" * (len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(padded) // 2}H", padded))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
