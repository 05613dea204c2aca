"""A copied table of legacy iptables, and the chains of it that leave the broker (protocol/legacy_chains.py).

Used by legacy.py only; it reads memory and makes no system call. A chain ends before its policy or its implicit RETURN.
At most MAX_USER_RULES rules of a user chain leave, of a built-in chain MAX_RULES; counting ends one rule later.
"""

from __future__ import annotations

import errno
import mmap
import re
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Self

from exporter.broker.protocol.legacy_chains import (
    NO_HOOK,
    OFFSETS,
    PART,
    VERDICT,
    EntryLayout,
    RawChain,
    encode_chain,
)

MAX_USER_RULES = 64
MAX_RULES = 4096

_HOOKS = (b"PREROUTING", b"INPUT", b"FORWARD", b"OUTPUT", b"POSTROUTING")
_ERROR_LENGTH = 64  # struct xt_error_target
_ERROR = b"ERROR\0"

_Rule = tuple[int, int, bytes]  # offset, length, chain that it jumps to


class LegacyTable:
    """Offsets are the kernel's, from the first entry on. An invalid table is OSError EBADMSG. Close it: it is large."""

    def __init__(
        self,
        memory: mmap.mmap,
        base: int,
        layout: EntryLayout,
        *,
        valid: int,
        hooks: tuple[int, ...],
        underflows: tuple[int, ...],
    ) -> None:
        self._memory = memory
        self._base = base
        self._entry, self._offsets = layout.entry, layout.offsets
        self._size = len(memory) - base
        self._builtin = {n: (h, hooks[h], underflows[h]) for h, n in enumerate(_HOOKS) if valid & 1 << h}
        self._starts = {name: start for name, (_, start, _) in self._builtin.items()}
        self._left = MAX_RULES

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._memory.close()

    def encode_chains(self, names: Iterable[bytes]) -> bytes:
        """Those of the named chains that exist. Name built-in chains first: chains they jump to need no search then."""
        return b"".join(self._encode(name) for name in dict.fromkeys(names) if self._locate(name))

    def encode_reachable(self, names: Iterable[bytes]) -> bytes:
        """Those of the named chains that exist, and all that can be reached from them."""
        wanted = dict.fromkeys(names)
        self._search(wanted)
        waiting = [name for name in wanted if name in self._starts]
        seen = set(waiting)
        encoded = []
        while waiting:
            name = waiting.pop()
            encoded.append(self._encode(name))
            for _, _, jump in islice(self._rules(name), self._most(name)):
                if jump and jump not in seen:
                    seen.add(jump)
                    waiting.append(jump)
        return b"".join(encoded)

    def _encode(self, name: bytes) -> bytes:
        hook = self._builtin[name][0] if name in self._builtin else NO_HOOK
        most = self._most(name)
        rules = list(islice(self._rules(name), most + 1))  # one more shows that there are more
        kept = rules[:most]
        self._left -= len(kept)
        if self._left < 0:
            raise OSError(errno.EFBIG, "more rules than the broker hands on")
        base = self._base
        entries = [(jump, self._memory[base + at : base + at + length]) for at, length, jump in kept]
        return encode_chain(RawChain(name=name, hook=hook, total=len(rules), rules=entries))

    def _most(self, name: bytes) -> int:
        return MAX_RULES if name in self._builtin else MAX_USER_RULES

    def _rules(self, name: bytes) -> Iterator[_Rule]:
        """The rules of a chain, without its policy or implicit RETURN. Notes where chains they jump to start."""
        end = self._builtin[name][2] if name in self._builtin else self._size
        offset = self._starts[name]
        last: _Rule | None = None  # a user chain's last entry, its implicit RETURN, is known once the next one is seen
        while offset < end:
            target, length = self._measure(offset)
            label, verdict = self._read_target(offset + target)
            if label == _ERROR:
                return
            if last is not None:
                yield last
            jump = b""
            if verdict is not None and verdict >= 0 and verdict != offset + length:
                jump = self._name_before(verdict)
                self._starts.setdefault(jump, verdict)
            last = (offset, length, jump)
            offset += length
        if last is not None and name in self._builtin:
            yield last

    def _measure(self, offset: int) -> tuple[int, int]:
        """The offset of an entry's target, and the entry's length."""
        if offset < 0 or offset + self._entry + PART.size > self._size:
            raise OSError(errno.EBADMSG, "a rule outside its table")
        target, length = OFFSETS.unpack_from(self._memory, self._base + offset + self._offsets)
        if target < self._entry or length < target + PART.size or offset + length > self._size:
            raise OSError(errno.EBADMSG, "a rule of impossible length")
        return target, length

    def _read_target(self, offset: int) -> tuple[bytes, int | None]:
        """The first bytes of a target's name, and the verdict if it is the standard target."""
        size, name, _ = PART.unpack_from(self._memory, self._base + offset)
        if name[0] == 0 and size >= PART.size + VERDICT.size and offset + size <= self._size:
            return b"", VERDICT.unpack_from(self._memory, self._base + offset + PART.size)[0]
        return name[: len(_ERROR)], None

    def _name_before(self, offset: int) -> bytes:
        """The name of the user chain whose first rule is at `offset`: its head, an ERROR target, is before it."""
        head = offset - _ERROR_LENGTH
        if head < self._entry or offset > self._size or self._read_target(head)[0] != _ERROR:
            raise OSError(errno.EBADMSG, "a jump to no chain")
        start = self._base + head + PART.size
        return self._memory[start : start + _ERROR_LENGTH - PART.size].split(b"\0", 1)[0]

    def _locate(self, name: bytes) -> bool:
        """Whether the chain exists; a chain that no rule seen so far jumps to is searched for in the whole table."""
        self._search((name,))
        return name in self._starts

    def _search(self, names: Iterable[bytes]) -> None:
        """Find where these chains start, in one pass for all that no rule seen so far jumps to."""
        left = {name for name in names if name not in self._starts and 0 < len(name) < _ERROR_LENGTH - PART.size}
        pattern = b"(?:" + b"|".join(map(re.escape, sorted(left))) + b")\0"
        for match in re.finditer(pattern, self._memory) if left else ():
            name = match[0][:-1]
            start = match.start() - self._base - PART.size + _ERROR_LENGTH
            if start % 8 == 0 and self._entry + _ERROR_LENGTH <= start <= self._size and self._name_at(start) == name:
                self._starts.setdefault(name, start)
                left.discard(name)
                if not left:
                    return

    def _name_at(self, start: int) -> bytes | None:
        try:
            target, length = self._measure(start - self._entry - _ERROR_LENGTH)
            return self._name_before(start) if (target, length) == (self._entry, self._entry + _ERROR_LENGTH) else None
        except OSError:
            return None  # bytes that look like the name inside another rule
