"""Parses chains of legacy iptables, as broker/protocol/legacy_chains.py encodes them. Pure: bytes -> Chain."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from ipaddress import ip_network
from typing import Any

from exporter.broker.protocol.legacy_chains import (
    LAYOUT4,
    LAYOUT6,
    NO_HOOK,
    OFFSETS,
    PART,
    VERDICT,
    EntryLayout,
    decode_chains,
)
from exporter.broker.protocol.wire import WireError
from exporter.kernel.decode import ParseError
from exporter.kernel.decode.rules import ACCEPT, DROP, GOTO, JUMP, RETURN, Chain, Rule
from exporter.kernel.decode.xtables import Fields, add_match, add_target
from exporter.model.family import Family, Net

_COUNTERS = struct.Struct("=QQ")
_VERDICTS = {-1: DROP, -2: ACCEPT, -5: RETURN}
_FLAG_GOTO = 0x02
_INVERTED_SOURCE, _INVERTED_PROTOCOL = 0x08, 0x40


def parse_chains(data: bytes, family: Family) -> Mapping[str, Chain]:
    """The chains by name."""
    layout = LAYOUT6 if family is Family.V6 else LAYOUT4
    found = {}
    try:
        for chain in decode_chains(data):
            name = _text(chain.name)
            rules = tuple([_parse_entry(entry, _text(jump), layout) for jump, entry in chain.rules])
            hook = None if chain.hook == NO_HOOK else chain.hook
            found[name] = Chain(name=name, hook=hook, rules=rules, total=chain.total)
    except WireError as error:
        raise ParseError(str(error)) from None
    return found


def _text(name: bytes) -> str:
    return name.decode(errors="backslashreplace")


def _parse_entry(entry: bytes, jump: str, layout: EntryLayout) -> Rule:
    if len(entry) < layout.entry + PART.size:
        raise ParseError("a rule of impossible length")
    target, length = OFFSETS.unpack_from(entry, layout.offsets)
    if length != len(entry) or not layout.entry <= target <= length - PART.size:
        raise ParseError("a rule whose offsets disagree")
    packets, count = _COUNTERS.unpack_from(entry, layout.entry - _COUNTERS.size)
    fields: Fields = {"packets": packets, "bytes": count}
    _add_header(fields, entry, layout)
    position = layout.entry
    while position < target:
        name, revision, info, position = _take_part(entry, position, target)
        add_match(fields, name, revision, info)
    name, revision, info, _ = _take_part(entry, target, length)
    if name:
        add_target(fields, name, revision, info, six=layout is LAYOUT6)
    else:
        _add_verdict(fields, info, jump, goto=bool(entry[layout.flags] & _FLAG_GOTO))
    values: Any = fields
    return Rule(**values)


def _take_part(entry: bytes, start: int, end: int) -> tuple[str, int, bytes, int]:
    """Name, revision and payload of a match or target, and where the next begins."""
    if end - start < PART.size:
        raise ParseError("a match ends early")
    size, name, revision = PART.unpack_from(entry, start)
    if not PART.size <= size <= end - start:
        raise ParseError("a match of impossible length")
    return _text(name.split(b"\0", 1)[0]), revision, entry[start + PART.size : start + size], start + size


def _add_header(fields: Fields, entry: bytes, layout: EntryLayout) -> None:
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


def _add_verdict(fields: Fields, info: bytes, jump: str, *, goto: bool) -> None:
    if len(info) < VERDICT.size:
        raise ParseError("a verdict ends early")
    verdict = VERDICT.unpack_from(info)[0]
    if jump:
        fields["verdict"] = GOTO if goto else JUMP
        fields["chain"] = jump
    else:
        fields["verdict"] = _VERDICTS.get(verdict, "")
