"""Echo requests over one ICMP socket to one address: raw or ping socket, either family. RFC 792, RFC 4443, RFC 1191, RFC 8201.

Under probes/icmp.py. A reply counts only from that address, with our identifier, sequence and random token; an ICMP
error only where it quotes our echo. Each echo is sent again at half its time, so that one lost packet is no failure.
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

from exporter.model.family import Address, Family, family_of, parse_address
from exporter.model.probe import Outcome
from exporter.probes.error_queue import IcmpError, read_error, watch_errors
from exporter.probes.outcome import EXPECTED, PhaseError, describe, outcome_of
from exporter.probes.ports import readable

TOKEN = 16  # bytes, random, at the payload's start
HEADER = struct.Struct("!BBHHH")  # type, code, checksum, identifier, sequence
RECEIVED = 65536
LARGEST = 65535  # bytes of an IP packet; a loopback route says 65536

# linux/in.h, linux/in6.h, linux/icmp.h, linux/icmpv6.h; Python names none of them on every build
IP_MTU_DISCOVER, IP_MTU, IPV6_MTU_DISCOVER, IPV6_MTU, IPV6_DONTFRAG = 10, 14, 23, 24, 62
PMTUDISC_DO = 2
SOL_RAW, ICMP_FILTER, ICMP6_FILTER = 255, 1, 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """What differs between the families."""

    request: int
    reply: int
    header: int  # bytes of the IP header
    least: int  # the smallest MTU that a link may have
    level: int  # of the socket options
    mtu: int
    undivided: tuple[tuple[int, int], ...]  # options that forbid fragments
    filter: tuple[int, int, bytes]  # the option that passes echo replies alone: a set bit keeps a type out


FORMS = {
    Family.V4: Form(
        request=8,
        reply=0,
        header=20,
        least=68,
        level=socket.IPPROTO_IP,
        mtu=IP_MTU,
        undivided=((IP_MTU_DISCOVER, PMTUDISC_DO),),
        filter=(SOL_RAW, ICMP_FILTER, struct.pack("=I", 0xFFFFFFFE)),
    ),
    Family.V6: Form(
        request=128,
        reply=129,
        header=40,
        least=1280,
        level=socket.IPPROTO_IPV6,
        mtu=IPV6_MTU,
        undivided=((IPV6_MTU_DISCOVER, PMTUDISC_DO), (IPV6_DONTFRAG, 1)),
        filter=(
            socket.IPPROTO_ICMPV6,
            ICMP6_FILTER,
            struct.pack("=8I", *[0xFFFFFFFF] * 4, 0xFFFFFFFD, *[0xFFFFFFFF] * 3),
        ),
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


class EchoSocket:
    """Echoes over a socket that its caller closes. `identifier` is what the socket is bound to, where it is a ping socket."""

    def __init__(self, sock: socket.socket, address: Address, identifier: int) -> None:
        self.form = FORMS[family_of(address)]
        self._sock = sock
        self._address = address
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
        """Send an echo request, again at half time, and await the reply to either."""
        payload = secrets.token_bytes(TOKEN).ljust(size - self.form.header - HEADER.size, b"\0")
        sent: dict[int, float] = {}  # sequence -> when
        started = time.perf_counter()
        try:
            for _ in range(2):
                with suppress(TimeoutError):
                    async with timeout(seconds / 2):
                        self._send(payload, sent)
                        answered = await self._await_reply(payload, sent)
                        return Echo(outcome=Outcome.OK, size=size, seconds=time.perf_counter() - sent[answered])
        except EXPECTED as error:
            mtu = error.mtu if isinstance(error, _TooBigError) else 0
            return Echo(
                outcome=outcome_of(error),
                size=size,
                seconds=time.perf_counter() - started,
                detail=describe(error),
                mtu=mtu,
            )
        detail = f"no reply to {size} bytes within {seconds:.3g} s"
        return Echo(outcome=Outcome.TIMEOUT, size=size, seconds=time.perf_counter() - started, detail=detail)

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
                    raise _failure_of(said)
            others = True
        return others


class _TooBigError(PhaseError):
    def __init__(self, detail: str, mtu: int) -> None:
        super().__init__(Outcome.TOO_BIG, detail)
        self.mtu = mtu


def _failure_of(said: IcmpError) -> PhaseError:
    """An echo has no port: "port unreachable" is what a firewall's plain REJECT says."""
    if said.outcome is Outcome.TOO_BIG:
        return _TooBigError(said.detail, said.mtu)
    return PhaseError(Outcome.PROHIBITED if said.outcome is Outcome.REFUSED else said.outcome, said.detail)


def checksum_of(data: bytes) -> int:
    """The Internet checksum, RFC 1071."""
    padded = data + b"\0" * (len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(padded) // 2}H", padded))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
