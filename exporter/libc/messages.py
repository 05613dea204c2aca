"""A nameserver's message as each libc reads it: octets to a Reply. Pure; between replies.py and the two models.

The libcs read what a strict decoder rejects: musl looks neither at the question nor at owner names, glibc drops a
datagram that does not repeat the question. Work is bounded by the message's size. Sources: glibc 2.36 with Debian's
patches (resolv/res_send.c, resolv/nss_dns/dns-host.c), musl src/network/dns_parse.c, lookup_name.c and res_msend.c.
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from exporter.model.dns import NOERROR, NOTIMP, NXDOMAIN, REFUSED, SERVFAIL, Reply
from exporter.model.dns_name import ESCAPED, casefold
from exporter.model.family import Address

HEADER = 12  # octets
MUSL_LEAST = 4  # octets of a datagram that musl takes: the id and the flags
MUSL_BUFFER = {False: 512, True: 4800}  # octets kept of a message, by `since_1_2_4`
MUSL_OLD_RECORDS = 64  # questions and answers, more than which 1.2.3 does not read
CNAME, IN = 5, 1
_FIXED = struct.Struct("!HHIH")  # of a record: type, class, TTL, length of the data
NUMBERS = {"A": 1, "AAAA": 28}
LENGTHS = {1: 4, 28: 16}  # octets of an address, by type
MAX_NAME, MAX_LABEL, POINTER = 255, 63, 0xC0
SHORT_ERRORS = {SERVFAIL, NOTIMP, REFUSED}  # taken without a question, if nothing follows the header (bug 31890)
MAX_STEPS = 4096  # labels and pointers of one message; ours


class UnreadableError(ValueError):
    """The message ends in the middle of a record, or a name has no end."""


class _Record(NamedTuple):
    owner: bytes
    kind: int
    rdclass: int
    target: bytes | None  # of a CNAME; None where it is no name
    data: bytes


@dataclass(frozen=True, slots=True)
class GlibcReader:
    """One question, and how glibc reads a message that came for it."""

    name: str
    qtype: str
    any_class: bool = False  # AF_UNSPEC (gethostbyname4_r) does not look at the class, one family does

    def datagram(self, wire: bytes) -> Reply | None:
        """res_send.c, send_dg: None for what it drops and waits on, a message that does not repeat the question."""
        if len(wire) == HEADER and _count(wire, 4) == 0 and wire[3] & 15 in SHORT_ERRORS:
            return self.stream(wire)
        if len(wire) < HEADER or _count(wire, 4) != 1:
            return None
        try:
            name, end = _Names(wire + bytes(MAX_NAME)).at(HEADER)  # its buffer is larger than the message
        except UnreadableError:
            return self.stream(wire)  # __libc_res_nameinquery says -1, which the caller takes for a match
        asked = (_encoded(self.name), NUMBERS[self.qtype], IN)
        if len(wire) < end + 4 or (name, _count(wire, end), _count(wire, end + 2)) != asked:
            return None
        return self.stream(wire)

    def gives_up(self, wire: bytes) -> bool:
        """Less than a header: it closes the socket and goes to the next server, as for a refused datagram."""
        return len(wire) < HEADER

    def accepts(self, reply: Reply) -> bool:
        """Whether this ends the wait; an error does too (send_dg goes on to the next server)."""
        return reply is not None

    def stream(self, wire: bytes) -> Reply | None:
        """send_vc: only the id counts. dns-host.c reads the answers one by one, up to the first unreadable one."""
        if len(wire) < HEADER:
            return None
        found, broken = self._addresses(wire)
        return _reply(wire, tuple(found), broken=broken)

    def _addresses(self, wire: bytes) -> tuple[list[Address], bool]:
        """Those up to the first unreadable record, and whether there is one."""
        found: list[Address] = []
        wanted, expected = NUMBERS[self.qtype], _encoded(self.name)
        for record in _records(wire):
            if record is None:
                return found, True
            if record.rdclass != IN and not self.any_class:
                continue
            if record.kind == CNAME:
                if record.target is None:
                    return found, True
                # Whose alias it is does not matter, but its place does: it changes the owner expected from here on.
                expected = record.target
            elif record.kind == wanted and record.owner == expected and len(record.data) == LENGTHS[wanted]:
                found.append(ipaddress.ip_address(record.data))
        return found, False


@dataclass(frozen=True, slots=True)
class MuslReader:
    """The type asked, and how musl reads a message whose id fits."""

    qtype: str
    since_1_2_4: bool

    def datagram(self, wire: bytes) -> Reply | None:
        """res_msend.c: anything with an id and a response code counts; 1.2.4 takes one cut by its buffer for TC."""
        if len(wire) < MUSL_LEAST:
            return None
        limit = MUSL_BUFFER[self.since_1_2_4]
        cut = self.since_1_2_4 and len(wire) > limit
        return _reply(wire, self._addresses(wire[:limit]), truncated=cut)

    def gives_up(self, wire: bytes) -> bool:
        del wire
        return False

    def accepts(self, reply: Reply) -> bool:
        """Every response code but these two is ignored, and musl waits on."""
        return reply.rcode in {NOERROR, NXDOMAIN}

    def stream(self, wire: bytes) -> Reply | None:
        if len(wire) <= HEADER:
            return None
        return _reply(wire, self._addresses(wire[: MUSL_BUFFER[self.since_1_2_4]]))

    def _addresses(self, wire: bytes) -> tuple[Address, ...]:
        """dns_parse.c: records in order, whoever owns them, up to the first that does not fit."""
        if len(wire) < HEADER or wire[3] & 15 != NOERROR:
            return ()
        questions, answers = _count(wire, 4), _count(wire, 6)
        if not self.since_1_2_4 and questions + answers > MUSL_OLD_RECORDS:
            return ()
        found: list[Address] = []
        for kind, data in self._records(wire, questions, answers):
            if kind == NUMBERS[self.qtype] or (not self.since_1_2_4 and kind in LENGTHS):
                if len(data) != LENGTHS[kind]:
                    break
                found.append(ipaddress.ip_address(data))
        return tuple(found)

    def _records(self, wire: bytes, questions: int, answers: int) -> Iterator[tuple[int, bytes]]:
        """The lower half of each record's type and its data; the class does not count."""
        at = HEADER
        for left in range(questions + answers, 0, -1):
            question = left > answers
            start = self._skip(wire, at, 6 if question else 12 if self.since_1_2_4 else 11)
            if start is None:
                return
            if question:
                at = start + 4
                continue
            at = start
            length = _count(wire, at + 8)
            # 1.2.3 forgets the ten octets before the data, and reads what its buffer had behind the message.
            if at + length + (10 if self.since_1_2_4 else 0) > len(wire):
                return
            yield wire[at + 1], wire[at + 10 : at + 10 + length].ljust(length, b"\0")
            at += 10 + length

    def _skip(self, wire: bytes, at: int, room: int) -> int | None:
        """Where a name ends: octets of 1 to 127 are passed one by one, whatever labels they make."""
        end = len(wire)
        while at < end and 0 < wire[at] < 128:
            at += 1
        if at > end - room:
            return None
        if not self.since_1_2_4 and (wire[at] > 193 or (wire[at] == 193 and wire[at + 1] > 254)):
            return None
        return at + (2 if wire[at] else 1)


def _reply(wire: bytes, found: tuple[Address, ...], *, truncated: bool = False, broken: bool = False) -> Reply:
    header = wire[:HEADER].ljust(HEADER, b"\0")
    return Reply(
        rcode=header[3] & 15,
        aa=bool(header[2] & 4),
        ra=bool(header[3] & 128),
        tc=truncated or bool(header[2] & 2),
        answers=_count(header, 6),
        additionals=_count(header, 10),
        addresses=found,
        broken=broken,
    )


def _count(wire: bytes, at: int) -> int:
    return int.from_bytes(wire[at : at + 2], "big")


def _encoded(name: str) -> bytes:
    texts = casefold(name).split(".") if casefold(name) else []
    labels = [ESCAPED.sub(lambda o: chr(int(o[1]) & 255), text).encode("latin-1", "replace") for text in texts]
    return b"".join(bytes([len(label) & 63]) + label for label in labels) + b"\0"


@lru_cache(maxsize=4)  # each message is read for one family and for both
def _records(wire: bytes) -> tuple[_Record | None, ...]:
    """The answer section as ns_rr_cursor reads it, within MAX_STEPS; None in place of one that ends too early."""
    at, names = HEADER, _Names(wire)
    found: list[_Record | None] = []
    try:
        for _ in range(_count(wire, 4)):
            at = names.at(at)[1] + 4
        for _ in range(_count(wire, 6)):
            owner, at = names.at(at)
            kind, rdclass, _, length = _FIXED.unpack_from(wire, at)
            at += _FIXED.size + length
            data = wire[at - length : at]
            if len(data) < length:
                return (*found, None)
            found.append(_Record(owner, kind, rdclass, names.target(at - length) if kind == CNAME else None, data))
    except (UnreadableError, struct.error):
        return (*found, None)
    return tuple(found)


class _Names:
    """The names of one message, in lower case. All together they may take MAX_STEPS."""

    def __init__(self, wire: bytes) -> None:
        self._wire = wire
        self._left = MAX_STEPS
        self._pointed: dict[int, bytes] = {}  # the names that pointers alone led to

    def target(self, start: int) -> bytes | None:
        try:
            return self.at(start)[0]
        except UnreadableError:
            return None

    def at(self, start: int) -> tuple[bytes, int]:
        """A name of at most 255 octets, and where it ends in the message."""
        if self._wire[start : start + 1] < b"\xc0":
            return self._unpacked(start)
        target = _count(self._wire, start) & 0x3FFF
        name = self._pointed.get(target)
        if name is None:
            name = self._pointed[target] = self._unpacked(start)[0]
        elif self._left:
            self._left -= 1
        else:
            raise UnreadableError
        return name, start + 2

    def _unpacked(self, start: int) -> tuple[bytes, int]:
        """ns_name_unpack."""
        wire = self._wire
        labels: list[bytes] = []
        at, end, size, first = start, 0, 1, self._left
        while at < len(wire) and self._left and first - self._left <= MAX_NAME:
            self._left -= 1
            length = wire[at]
            if length == 0:
                return b"".join(labels).lower() + b"\0", end or at + 1
            if length >= POINTER:
                end = end or at + 2
                at = _count(wire, at) & 0x3FFF
                continue
            size += length + 1
            if length > MAX_LABEL or size > MAX_NAME:
                break
            labels.append(wire[at : at + 1 + length])
            at += 1 + length
        raise UnreadableError
