"""A copied table of legacy iptables, and the chains of it that leave the broker. linux/netfilter/x_tables.h.

Used by legacy.py alone; it sees memory and makes no call. What leaves, once per chain found (kernel/decode/legacy.py
reads it):
    u8 length of the name, name, u8 hook (255: a user chain), u32 rules counted, u32 rules that follow, then per rule
    u32 length of the entry, u8 length of the name of the chain it jumps or goes to, that name, the raw entry
A chain ends before its policy or its implicit RETURN. Of a user chain MAX_USER_RULES rules follow at most, of another
MAX_RULES; counting ends with the rule behind them.
"""

from __future__ import annotations

import errno
import mmap
import re
import struct
from collections.abc import Iterator
from itertools import islice
from typing import Self

MAX_USER_RULES = 64
MAX_RULES = 4096
NO_HOOK = 255

_HOOKS = (b"PREROUTING", b"INPUT", b"FORWARD", b"OUTPUT", b"POSTROUTING")
_OFFSETS = struct.Struct(
    "=HH"
)  # of the target, of the next entry; 28 bytes before the end of ip6t_entry, 24 of ipt_entry
_OFFSETS_AT = {168: 140, 112: 88}
_TARGET = struct.Struct("=H29sB")
_ERROR_LENGTH = 64  # struct xt_error_target
_ERROR = b"ERROR\0"
_VERDICT = struct.Struct("=i")
_RETURN = -5

_Rule = tuple[int, int, bytes]  # offset, length, chain that it jumps to


class LegacyTable:
    """Offsets are the kernel's, from the first entry on. A table that makes no sense is OSError EBADMSG. Close it: it is large."""

    def __init__(
        self,
        memory: mmap.mmap,
        base: int,
        entry: int,
        *,
        valid: int,
        hooks: tuple[int, ...],
        underflows: tuple[int, ...],
    ) -> None:
        self._memory = memory
        self._base = base
        self._entry = entry
        self._size = len(memory) - base
        self._builtin = {n: (h, hooks[h], underflows[h]) for h, n in enumerate(_HOOKS) if valid & 1 << h}
        self._starts = {name: start for name, (_, start, _) in self._builtin.items()}
        self._left = MAX_RULES

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._memory.close()

    def encode_chains(self, names: tuple[bytes, ...]) -> bytes:
        """Those of the named chains that exist. Name built-in chains first: chains they jump to need no search then."""
        return b"".join(self._encode(name) for name in dict.fromkeys(names) if self._locate(name))

    def encode_reachable(self, names: tuple[bytes, ...]) -> bytes:
        """The named built-in chains and all that can be reached from them."""
        waiting = [name for name in names if name in self._builtin]
        seen = set(waiting)
        encoded = []
        while waiting:
            name = waiting.pop()
            encoded.append(self._encode(name))
            for _, _, jump in self._rules(name):
                if jump and jump not in seen:
                    seen.add(jump)
                    waiting.append(jump)
        return b"".join(encoded)

    def _encode(self, name: bytes) -> bytes:
        hook = self._builtin[name][0] if name in self._builtin else NO_HOOK
        most = MAX_RULES if hook != NO_HOOK else MAX_USER_RULES
        rules = list(islice(self._rules(name), most + 1))  # one more tells that there are more
        kept = rules[:most]
        self._left -= len(kept)
        if self._left < 0:
            raise OSError(errno.EFBIG, "more rules than the broker hands on")
        parts = [bytes((len(name),)), name, struct.pack("=BII", hook, len(rules), len(kept))]
        for offset, length, jump in kept:
            start = self._base + offset
            parts += (struct.pack("=IB", length, len(jump)), jump, self._memory[start : start + length])
        return b"".join(parts)

    def _rules(self, name: bytes) -> Iterator[_Rule]:
        """The rules of a chain, without its policy or implicit RETURN. Remembers where the chains they jump to start."""
        end = self._builtin[name][2] if name in self._builtin else self._size
        offset = self._starts[name]
        held: _Rule | None = (
            None  # a user chain's last entry is its implicit RETURN: known only once the next one is seen
        )
        while offset < end:
            target, length = self._measure(offset)
            label, verdict = self._read_target(offset + target)
            if label == _ERROR:
                return
            if held is not None:
                yield held
            jump = b""
            if verdict is not None and verdict >= 0 and verdict != offset + length:
                jump = self._name_before(verdict)
                self._starts.setdefault(jump, verdict)
            held = (offset, length, jump)
            offset += length
        if held is not None and name in self._builtin:
            yield held

    def _measure(self, offset: int) -> tuple[int, int]:
        """Where the target of an entry stands, and the entry's length."""
        if offset < 0 or offset + self._entry + _TARGET.size > self._size:
            raise OSError(errno.EBADMSG, "a rule outside its table")
        target, length = _OFFSETS.unpack_from(self._memory, self._base + offset + _OFFSETS_AT[self._entry])
        if target < self._entry or length < target + _TARGET.size or offset + length > self._size:
            raise OSError(errno.EBADMSG, "a rule of impossible length")
        return target, length

    def _read_target(self, offset: int) -> tuple[bytes, int | None]:
        """The first bytes of a target's name, and the verdict if it is the standard target."""
        size, name, _ = _TARGET.unpack_from(self._memory, self._base + offset)
        if name[0] == 0 and size >= _TARGET.size + _VERDICT.size and offset + size <= self._size:
            return b"", _VERDICT.unpack_from(self._memory, self._base + offset + _TARGET.size)[0]
        return name[: len(_ERROR)], None

    def _name_before(self, offset: int) -> bytes:
        """The name of the user chain whose first rule stands at `offset`: its head, an ERROR target, comes just before."""
        head = offset - _ERROR_LENGTH
        if head < self._entry or offset > self._size or self._read_target(head)[0] != _ERROR:
            raise OSError(errno.EBADMSG, "a jump to no chain")
        start = self._base + head + _TARGET.size
        return self._memory[start : start + _ERROR_LENGTH - _TARGET.size].split(b"\0", 1)[0]

    def _locate(self, name: bytes) -> bool:
        """Whether the chain exists; a chain that no rule seen so far jumps to is searched for in the whole table."""
        if name in self._starts:
            return True
        if not 0 < len(name) < _ERROR_LENGTH - _TARGET.size:
            return False
        for match in re.finditer(re.escape(name) + b"\0", self._memory):
            start = match.start() - self._base - _TARGET.size + _ERROR_LENGTH
            if start % 8 == 0 and self._entry + _ERROR_LENGTH <= start <= self._size and self._name_at(start) == name:
                self._starts[name] = start
                return True
        return False

    def _name_at(self, start: int) -> bytes | None:
        try:
            target, length = self._measure(start - self._entry - _ERROR_LENGTH)
            return self._name_before(start) if (target, length) == (self._entry, self._entry + _ERROR_LENGTH) else None
        except OSError:
            return None  # bytes that look like the name inside another rule
