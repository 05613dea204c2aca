"""A DNS message as octets, walked once with bounded work. RFC 1035 section 4. Pure.

Under probes/dns_reply.py. Names point backwards into the message, so that 64 KiB can unfold to megabytes; therefore
every label and every pointer is counted, a name that was unfolded once is kept, and data that nobody asked for is
passed over by its length.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

MAX_RECORDS = 1024  # 16 KiB hold no more addresses
MAX_STEPS = 8192  # labels and pointers: 16 KiB hold no more labels
MAX_NAME = 255  # octets, RFC 1035 section 2.3.4
IN = 1
A, CNAME, SOA, PTR, MX, AAAA, OPT = 1, 5, 6, 12, 15, 28, 41
ROOT = b"\0"

_FIXED = struct.Struct("!HHIH")  # type, class, TTL, length of the data
_OPTION = struct.Struct("!HH")
_PREFERENCE = 2  # octets before the name of an MX record
_SOA_LEAST = 22  # octets: two names and five numbers
_POINTER, _LABEL = 0xC0, 0x40  # a length octet from here on is a pointer; below that it is a label's
_SIGNED = 0x7FFFFFFF


class MalformedMessageError(Exception):
    """This is no message, or one that would cost too much. The text is ours alone: nothing foreign stands in it."""


class Record(NamedTuple):
    """One resource record. `owner` is its unfolded name; the data stand from `at` to `end` of the message."""

    owner: bytes
    kind: int
    rdclass: int
    ttl: int
    at: int
    end: int

    @property
    def lifetime(self) -> int:
        """The TTL as seconds: one with the topmost bit set counts as 0 (RFC 2181 section 8)."""
        return self.ttl if self.ttl <= _SIGNED else 0


class MessageReader:
    """A way through one message from `at` on. Names come as uncompressed octets, in the case that they have. Malformed throughout."""

    def __init__(self, wire: bytes, at: int) -> None:
        self._wire = wire
        self._at = at
        self._left = MAX_STEPS
        self._names: dict[int, bytes] = {}

    def question(self) -> tuple[bytes, int, int]:
        """Name, type and class."""
        name, self._at = self.name(self._at)
        kind, rdclass = _OPTION.unpack(self._take(_OPTION.size))
        return name, kind, rdclass

    def records(self, count: int) -> Iterator[Record]:
        """The next `count` records."""
        for _ in range(count):
            owner, self._at = self.name(self._at)
            kind, rdclass, ttl, length = _FIXED.unpack(self._take(_FIXED.size))
            at = self._at
            self._take(length)
            yield Record(owner, kind, rdclass, ttl, at, self._at)

    def data(self, record: Record, length: int) -> bytes:
        """The data of a record that must be of this length."""
        if record.end - record.at != length:
            raise MalformedMessageError("a record's data have the wrong length")
        return self._wire[record.at : record.end]

    def target(self, record: Record) -> bytes:
        """The name that is a record's data, or the last part of an MX record's."""
        name, end = self.name(record.at + (_PREFERENCE if record.kind == MX else 0))
        if end != record.end:
            raise MalformedMessageError("a record's data have the wrong length")
        return name

    def preference(self, record: Record) -> bytes:
        """The octets before the name of an MX record; none in others."""
        return self._wire[record.at : record.at + _PREFERENCE] if record.kind == MX else b""

    def negative_ttl(self, record: Record) -> int:
        """How long a SOA record says that there is no record (RFC 2308 section 5): the lesser of its TTL and its MINIMUM."""
        if record.end - record.at < _SOA_LEAST:
            raise MalformedMessageError("a record's data have the wrong length")
        (minimum,) = struct.unpack("!I", self._wire[record.end - 4 : record.end])
        return min(record.lifetime, int(minimum))

    def options(self, record: Record) -> Iterator[tuple[int, bytes]]:
        """Code and data of each option of an OPT record (RFC 6891 section 6.1.2)."""
        at = record.at
        while at < record.end:
            if record.end - at < _OPTION.size:
                raise MalformedMessageError("an EDNS option ends too early")
            code, length = _OPTION.unpack_from(self._wire, at)
            at += _OPTION.size + length
            if at > record.end:
                raise MalformedMessageError("an EDNS option ends too early")
            yield code, self._wire[at - length : at]

    def _take(self, count: int) -> bytes:
        piece = self._wire[self._at : self._at + count]
        if len(piece) != count:
            raise MalformedMessageError("the message ends too early")
        self._at += count
        return piece

    def name(self, start: int) -> tuple[bytes, int]:
        """The name at `start`, and where it ends there. A pointer must lead before the labels that it follows, so there is no loop."""
        pieces: list[tuple[int, bytes]] = []  # runs of labels, each with where it begins
        end, at, tail = 0, start, self._names.get(start)
        while tail is None:
            run = at
            at = self._labels_end(at)
            pieces.append((run, self._wire[run:at]))
            if self._wire[at] == 0:
                end, tail = end or at + 1, ROOT
            else:
                end = end or at + 2
                at = self._pointed(at, before=run)
                tail = self._names.get(at)
        for run, labels in reversed(pieces):
            tail = labels + tail
            if len(tail) > MAX_NAME:
                raise MalformedMessageError("a name is too long")
            self._names[run] = tail
        return tail, end or self._end(start)

    def _end(self, at: int) -> int:
        """Where a name that was unfolded before, for another one points to it, ends."""
        at = self._labels_end(at)
        return at + (1 if self._wire[at] == 0 else 2)

    def _labels_end(self, at: int) -> int:
        """Where a run of labels ends: at a pointer or at the root's zero."""
        wire, left = self._wire, self._left
        try:
            while (length := wire[at]) and left > 0:
                left -= 1
                if length >= _LABEL:
                    break
                at += 1 + length
        except IndexError:
            raise MalformedMessageError("the message ends too early") from None
        self._left = left
        if left <= 0:
            raise MalformedMessageError(f"more than {MAX_STEPS} labels and pointers")
        if length >= _LABEL and length < _POINTER:
            raise MalformedMessageError("a label of no known kind")
        return at

    def _pointed(self, at: int, *, before: int) -> int:
        (target,) = struct.unpack("!H", self._wire[at : at + 2].ljust(2, b"\xff"))
        target &= 0x3FFF
        if target >= before:
            raise MalformedMessageError("a name points forward")
        return int(target)
