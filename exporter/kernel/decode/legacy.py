"""Parses chains of legacy iptables, in the encoding of broker/server/kernel/legacy_table.py. Pure: bytes -> Chain.

linux/netfilter_ipv4/ip_tables.h, linux/netfilter_ipv6/ip6_tables.h: struct ipt_entry and ip6t_entry, 64-bit layout.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_network
from typing import Any

from exporter.kernel.decode.parse_error import ParseError
from exporter.kernel.decode.rules import ACCEPT, DROP, GOTO, JUMP, RETURN, Chain, Rule
from exporter.kernel.decode.xtables import Fields, add_match, target_name
from exporter.model.family import Family, Net

NO_HOOK = 255

_COUNTS = struct.Struct("=BII")
_ENTRY_LENGTH = struct.Struct("=IB")
_OFFSETS = struct.Struct("=HH")
_COUNTERS = struct.Struct("=QQ")
_PART = struct.Struct("=H29sB")  # xt_entry_match and xt_entry_target
_VERDICT = struct.Struct("=i")
_VERDICTS = {-1: DROP, -2: ACCEPT, -5: RETURN}
_FLAG_GOTO = 0x02
_INVERTED_SOURCE, _INVERTED_PROTOCOL = 0x08, 0x40


@dataclass(frozen=True, slots=True, kw_only=True)
class _EntryLayout:
    entry: int
    offsets: int
    address: int  # length; source, destination, their masks follow one another from 0
    interfaces: int  # where the two names begin, 16 bytes each; masks follow
    protocol: int
    flags: int
    inverted: int


_LAYOUTS = {
    Family.V4: _EntryLayout(entry=112, offsets=88, address=4, interfaces=16, protocol=80, flags=82, inverted=83),
    Family.V6: _EntryLayout(entry=168, offsets=140, address=16, interfaces=64, protocol=128, flags=131, inverted=132),
}


def parse_chains(data: bytes, family: Family) -> Mapping[str, Chain]:
    """The chains by name."""
    found = {}
    start = 0
    while start < len(data):
        chain, start = _parse_chain(data, start, _LAYOUTS[family])
        found[chain.name] = chain
    return found


def _parse_chain(data: bytes, start: int, layout: _EntryLayout) -> tuple[Chain, int]:
    name, start = _take_name(data, start + 1, data[start])
    if len(data) - start < _COUNTS.size:
        raise ParseError("a chain ends early")
    hook, total, count = _COUNTS.unpack_from(data, start)
    start += _COUNTS.size
    if count > total:
        raise ParseError("a chain with more rules than it has")
    rules = []
    for _ in range(count):
        if len(data) - start < _ENTRY_LENGTH.size:
            raise ParseError("a chain ends early")
        length, size = _ENTRY_LENGTH.unpack_from(data, start)
        jump, start = _take_name(data, start + _ENTRY_LENGTH.size, size)
        if not layout.entry + _PART.size <= length <= len(data) - start:
            raise ParseError("a rule of impossible length")
        rules.append(_parse_entry(data[start : start + length], jump, layout))
        start += length
    return Chain(name=name, hook=None if hook == NO_HOOK else hook, rules=tuple(rules), total=total), start


def _take_name(data: bytes, start: int, size: int) -> tuple[str, int]:
    if size > len(data) - start:
        raise ParseError("a name ends early")
    return data[start : start + size].decode(errors="backslashreplace"), start + size


def _parse_entry(entry: bytes, jump: str, layout: _EntryLayout) -> Rule:
    target, length = _OFFSETS.unpack_from(entry, layout.offsets)
    if length != len(entry) or not layout.entry <= target <= length - _PART.size:
        raise ParseError("a rule whose offsets disagree")
    packets, count = _COUNTERS.unpack_from(entry, layout.entry - _COUNTERS.size)
    fields: Fields = {"packets": packets, "bytes": count}
    _add_header(fields, entry, layout)
    position = layout.entry
    while position < target:
        name, revision, info, position = _take_part(entry, position, target)
        add_match(fields, name, revision, info)
    name, _, info, _ = _take_part(entry, target, length)
    _add_target(fields, name, info, jump, goto=bool(entry[layout.flags] & _FLAG_GOTO))
    values: Any = fields
    return Rule(**values)


def _take_part(entry: bytes, start: int, end: int) -> tuple[str, int, bytes, int]:
    """Name, revision and payload of a match or target, and where the next begins."""
    if end - start < _PART.size:
        raise ParseError("a match ends early")
    size, name, revision = _PART.unpack_from(entry, start)
    if not _PART.size <= size <= end - start:
        raise ParseError("a match of impossible length")
    text = name.split(b"\0", 1)[0].decode(errors="backslashreplace")
    return text, revision, entry[start + _PART.size : start + size], start + size


def _add_header(fields: Fields, entry: bytes, layout: _EntryLayout) -> None:
    """Addresses, interfaces and protocol of struct ipt_ip or ip6t_ip6."""
    size = layout.address
    inverted = entry[layout.inverted]
    source, destination, source_mask = (entry[at * size : (at + 1) * size] for at in range(3))
    if any(source_mask):
        if inverted & _INVERTED_SOURCE:
            fields["limited"] = True
        else:
            fields["source"] = _prefix(source, source_mask)
    names = entry[layout.interfaces : layout.interfaces + 32]
    if any(destination) or any(entry[3 * size : 4 * size]) or any(names):
        fields["limited"] = True
    protocol = struct.unpack_from("=H", entry, layout.protocol)[0]
    if protocol and inverted & _INVERTED_PROTOCOL:
        fields["limited"] = True
    elif protocol:
        fields["protocol"] = protocol


def _prefix(address: bytes, mask: bytes) -> Net:
    length = int.from_bytes(mask, "big").bit_count()
    return ip_network((address, length), strict=False)


def _add_target(fields: Fields, name: str, info: bytes, jump: str, *, goto: bool) -> None:
    if name:
        fields["verdict"] = target_name(name)
        return
    if len(info) < _VERDICT.size:
        raise ParseError("a verdict ends early")
    verdict = _VERDICT.unpack_from(info)[0]
    if jump:
        fields["verdict"] = GOTO if goto else JUMP
        fields["chain"] = jump
    else:
        fields["verdict"] = _VERDICTS.get(verdict, "")
