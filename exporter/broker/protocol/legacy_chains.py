"""Chains of legacy iptables as the broker hands them on, and the kernel's layout of a rule. Pure; both sides use it.

linux/netfilter/x_tables.h, linux/netfilter_ipv4/ip_tables.h, linux/netfilter_ipv6/ip6_tables.h, 64-bit layout. A chain
is: u8 length of the name, name, u8 hook (NO_HOOK: a user chain), u32 rules counted, u32 rules that follow; then per
rule u32 length of the entry, u8 length of the name of the chain it jumps or goes to, that name, the raw entry.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from exporter.broker.protocol.wire import WireError

NO_HOOK = 255
OFFSETS = struct.Struct("=HH")  # in an entry: of its target, of the next entry
PART = struct.Struct("=H29sB")  # xt_entry_match and xt_entry_target: size, name, revision
VERDICT = struct.Struct("=i")

_COUNTS = struct.Struct("=BII")
_ENTRY = struct.Struct("=IB")


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryLayout:
    """Offsets in struct ipt_entry or ip6t_entry."""

    entry: int  # its size, where matches begin
    offsets: int
    address: int  # length; source, destination, their masks follow one another from 0
    interfaces: int  # where the two names begin, 16 bytes each; masks follow
    protocol: int
    flags: int
    inverted: int


LAYOUT4 = EntryLayout(entry=112, offsets=88, address=4, interfaces=16, protocol=80, flags=82, inverted=83)
LAYOUT6 = EntryLayout(entry=168, offsets=140, address=16, interfaces=64, protocol=128, flags=131, inverted=132)


@dataclass(frozen=True, slots=True, kw_only=True)
class RawChain:
    """`rules`: the chain that each jumps to, and its raw entry. `total`: rules counted, which may be more."""

    name: bytes
    hook: int
    total: int
    rules: Sequence[tuple[bytes, bytes]]


def encode_chain(chain: RawChain) -> bytes:
    parts = [bytes((len(chain.name),)), chain.name, _COUNTS.pack(chain.hook, chain.total, len(chain.rules))]
    for jump, entry in chain.rules:
        parts += (_ENTRY.pack(len(entry), len(jump)), jump, entry)
    return b"".join(parts)


def decode_chains(data: bytes) -> Iterator[RawChain]:
    """WireError for anything but chains."""
    at = 0
    try:
        while at < len(data):
            name, at = _take(data, at + 1, data[at])
            hook, total, count = _COUNTS.unpack_from(data, at)
            at += _COUNTS.size
            if count > total:
                raise WireError("a chain with more rules than it has")
            rules = []
            for _ in range(count):
                length, size = _ENTRY.unpack_from(data, at)
                jump, at = _take(data, at + _ENTRY.size, size)
                entry, at = _take(data, at, length)
                rules.append((jump, entry))
            yield RawChain(name=name, hook=hook, total=total, rules=rules)
    except struct.error:
        raise WireError("a chain ends early") from None


def _take(data: bytes, start: int, size: int) -> tuple[bytes, int]:
    if size > len(data) - start:
        raise WireError("a chain ends early")
    return data[start : start + size], start + size
