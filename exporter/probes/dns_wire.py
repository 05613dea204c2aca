"""A DNS message as octets, read once with bounded work. RFC 1035 section 4. Pure.

Under probes/dns_reply.py. Names point backwards into the message, so that 64 KiB can expand to megabytes; therefore
every label and every pointer is counted, an expanded name is remembered, and data that nobody asked for is skipped by
its length.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from dns.rdatatype import MX

MAX_RECORDS = 1024  # 16 KiB hold no more addresses
MAX_STEPS = 8192  # labels and pointers: 16 KiB hold no more labels
MAX_NAME = 255  # octets, RFC 1035 section 2.3.4
ROOT = b"\0"

_FIXED = struct.Struct("!HHIH")  # type, class, TTL, length of the data
_OPTION = struct.Struct("!HH")
_PREFERENCE = 2  # octets before the name of an MX record
_SOA_LEAST = 22  # octets: two names and five numbers
_POINTER, _LABEL = 0xC0, 0x40  # a length octet from here on is a pointer; below that it is a label's
_SIGNED = 0x7FFFFFFF
_WRONG_LENGTH = "a record's data have the wrong length"
_TOO_SHORT = "the message ends too early"
_OPTION_TOO_SHORT = "an EDNS option ends too early"


class MalformedMessageError(Exception):
    """This is no message, or one that would cost too much. The text is ours and contains nothing foreign."""


class Record(NamedTuple):
    """One resource record. `owner` is its expanded name; the data are at `at` to `end` of the message."""

    owner: bytes
    kind: int
    rdclass: int
    ttl: int
    at: int
    end: int

    @property
    def lifetime(self) -> int:
        """The TTL in seconds: one with the topmost bit set counts as 0 (RFC 2181 section 8)."""
        return self.ttl if self.ttl <= _SIGNED else 0


class MessageReader:
    """Reads one message from `at` on. Names are uncompressed octets, case kept. MalformedMessageError throughout."""

    def __init__(self, wire: bytes, at: int) -> None:
        self._wire = wire
        self._at = at
        self._left = MAX_STEPS
        self._names: dict[int, bytes] = {}

    def question(self) -> tuple[bytes, int, int]:
        name, self._at = self.name(self._at)
        kind, rdclass = _OPTION.unpack(self._take(_OPTION.size))
        return name, kind, rdclass

    def records(self, count: int) -> Iterator[Record]:
        for _ in range(count):
            owner, self._at = self.name(self._at)
            kind, rdclass, ttl, length = _FIXED.unpack(self._take(_FIXED.size))
            at = self._at
            self._take(length)
            yield Record(owner, kind, rdclass, ttl, at, self._at)

    def data(self, record: Record, length: int) -> bytes:
        if record.end - record.at != length:
            raise MalformedMessageError(_WRONG_LENGTH)
        return self._wire[record.at : record.end]

    def target(self, record: Record) -> tuple[bytes, bytes]:
        """The name that a record's data end in, and the preference before it in an MX record."""
        at = record.at + (_PREFERENCE if record.kind == MX else 0)
        name, end = self.name(at)
        if end != record.end:
            raise MalformedMessageError(_WRONG_LENGTH)
        return name, self._wire[record.at : at]

    def negative_ttl(self, record: Record) -> int:
        """For how long a SOA record shows that there is no record (RFC 2308 section 5)."""
        if record.end - record.at < _SOA_LEAST:
            raise MalformedMessageError(_WRONG_LENGTH)
        return min(record.lifetime, int.from_bytes(self._wire[record.end - 4 : record.end], "big"))

    def options(self, record: Record) -> Iterator[tuple[int, bytes]]:
        """Code and data of each option of an OPT record (RFC 6891 section 6.1.2)."""
        at = record.at
        while at < record.end:
            if record.end - at < _OPTION.size:
                raise MalformedMessageError(_OPTION_TOO_SHORT)
            code, length = _OPTION.unpack_from(self._wire, at)
            at += _OPTION.size + length
            if at > record.end:
                raise MalformedMessageError(_OPTION_TOO_SHORT)
            yield code, self._wire[at - length : at]

    def _take(self, count: int) -> bytes:
        piece = self._wire[self._at : self._at + count]
        if len(piece) != count:
            raise MalformedMessageError(_TOO_SHORT)
        self._at += count
        return piece

    def name(self, start: int) -> tuple[bytes, int]:
        """The name at `start`, and where it ends. A pointer must lead before its own labels, so there is no loop."""
        pieces: list[tuple[int, bytes]] = []  # runs of labels, each with where it begins
        end, at, tail = 0, start, self._names.get(start)
        while tail is None:
            run = at
            at = self._labels_end(at)
            pieces.append((run, self._wire[run:at]))
            end = end or self._after(at)
            if self._wire[at] == 0:
                tail = ROOT
            else:
                at = self._pointed(at, before=run)
                tail = self._names.get(at)
        for run, labels in reversed(pieces):
            tail = labels + tail
            if len(tail) > MAX_NAME:
                raise MalformedMessageError("a name is too long")
            self._names[run] = tail
        return tail, end or self._after(self._labels_end(start))

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
            raise MalformedMessageError(_TOO_SHORT) from None
        self._left = left
        if left <= 0:
            raise MalformedMessageError(f"more than {MAX_STEPS} labels and pointers")
        if _LABEL <= length < _POINTER:
            raise MalformedMessageError("a label of no known kind")
        return at

    def _after(self, at: int) -> int:
        """Where a name ends whose labels end here: after the root's zero, or after the pointer's two octets."""
        return at + (1 if self._wire[at] == 0 else 2)

    def _pointed(self, at: int, *, before: int) -> int:
        target = int.from_bytes(self._wire[at : at + 2].ljust(2, b"\xff"), "big") & 0x3FFF
        if target >= before:
            raise MalformedMessageError("a name points forward")
        return target
