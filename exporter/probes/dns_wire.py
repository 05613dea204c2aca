"""A DNS message as octets, read once with bounded work. RFC 1035 section 4. Pure.

Under probes/dns_reply.py. Names point backwards into the message, so that 64 KiB can expand to megabytes; therefore
every label and every pointer is counted, an expanded name is remembered, and data that nobody asked for are skipped by
their length.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from dns.rdatatype import MX

MAX_RECORDS = 1024  # 16 KiB hold no more addresses
MAX_STEPS = 4096  # labels and pointers: four for each record; what remembers names needs one or two
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
        self._names: dict[int, tuple[bytes, int]] = {}  # by where they begin: a name, and where it ends

    def question(self) -> tuple[bytes, int, int]:
        name, at = self.name(self._at)
        self._at = at + _OPTION.size
        if self._at > len(self._wire):
            raise MalformedMessageError(_TOO_SHORT)
        kind, rdclass = _OPTION.unpack_from(self._wire, at)
        return name, kind, rdclass

    def records(self, count: int) -> Iterator[Record]:
        wire, size = self._wire, len(self._wire)
        for _ in range(count):
            owner, fixed = self.name(self._at)
            at = fixed + _FIXED.size
            if at > size:
                raise MalformedMessageError(_TOO_SHORT)
            kind, rdclass, ttl, length = _FIXED.unpack_from(wire, fixed)
            self._at = at + length
            if self._at > size:
                raise MalformedMessageError(_TOO_SHORT)
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

    def name(self, start: int) -> tuple[bytes, int]:
        """The name at `start`, and where it ends. A pointer must lead before its own labels, so there is no loop."""
        names, at = self._names, start
        runs: list[tuple[int, bytes, int]] = []  # labels up to a pointer or the root, with where they begin and end
        while (known := names.get(at)) is None:
            run, at = at, self._labels_end(at)
            labels = self._wire[run:at]
            if self._wire[at] == 0:
                runs.append((run, labels, at + 1))
                known = ROOT, at + 1
                break
            runs.append((run, labels, at + 2))
            at = self._pointed(at, before=run)
        name, end = known
        for run, labels, end in reversed(runs):
            name = labels + name
            if len(name) > MAX_NAME:
                raise MalformedMessageError("a name is too long")
            names[run] = name, end
        return name, end

    def _labels_end(self, at: int) -> int:
        """Where a run of labels ends: at a pointer or at the root's zero."""
        wire, left = self._wire, self._left
        try:
            while left > 0 and 0 < (length := wire[at]) < _LABEL:
                left -= 1
                at += 1 + length
            length = wire[at]
        except IndexError:
            raise MalformedMessageError(_TOO_SHORT) from None
        self._left = left - 1
        if left <= 0:
            raise MalformedMessageError(f"more than {MAX_STEPS} labels and pointers")
        if _LABEL <= length < _POINTER:
            raise MalformedMessageError("a label of no known kind")
        return at

    def _pointed(self, at: int, *, before: int) -> int:
        if at + 1 >= len(self._wire):
            raise MalformedMessageError(_TOO_SHORT)
        target = (self._wire[at] & 0x3F) << 8 | self._wire[at + 1]
        if target >= before:
            raise MalformedMessageError("a name points forward")
        return target
