"""Parses chains of legacy iptables, as broker/protocol/legacy_chains.py encodes them. Pure: bytes -> Chain."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from ipaddress import ip_network

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
from exporter.kernel.decode.xtables import Fields, add_match, add_target, limit
from exporter.model.family import Family, Net
from exporter.model.packet_filter import ACCEPT, DROP, GOTO, JUMP, RETURN, Chain, Fixed, InNet, OutLink, Rule

_COUNTERS = struct.Struct("=QQ")
_VERDICTS = {-1: DROP, -2: ACCEPT, -5: RETURN}
_FLAG_GOTO = 0x02
_INVERTED_OUT, _INVERTED_SOURCE, _INVERTED_DESTINATION, _INVERTED_PROTOCOL = 0x02, 0x08, 0x10, 0x40
_INTERFACE = 16


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
    return Rule(**fields)


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
    source, destination, source_mask, mask = (entry[at * size : (at + 1) * size] for at in range(4))
    if any(source_mask):
        if inverted & _INVERTED_SOURCE:
            limit(fields, InNet(_prefix(source, source_mask), destination=False, inverted=True))
        else:
            fields["source"] = _prefix(source, source_mask)
    if any(destination) or any(mask):
        limit(fields, InNet(_prefix(destination, mask), inverted=bool(inverted & _INVERTED_DESTINATION)))
    names = layout.interfaces
    if any(entry[names : names + _INTERFACE]):
        limit(fields, Fixed(None, "the link it came in by"))
    link = entry[names + _INTERFACE : names + 2 * _INTERFACE]
    if any(link):
        asked = sum(map(bool, entry[names + 3 * _INTERFACE : names + 4 * _INTERFACE]))  # the NUL, too, of a whole name
        name = _text(link[:asked].rstrip(b"\0")) + ("+" if 0 not in link[:asked] else "")
        limit(fields, OutLink(name, bool(inverted & _INVERTED_OUT)))
    protocol = struct.unpack_from("=H", entry, layout.protocol)[0]
    if protocol and inverted & _INVERTED_PROTOCOL:
        limit(fields, Fixed(None, "the protocol"))
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
