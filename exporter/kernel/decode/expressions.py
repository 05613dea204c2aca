"""Reads the expressions of one nftables rule into a Rule (linux/netfilter/nf_tables.h). Pure.

Rules compute with registers: a load (payload, meta) is remembered until a comparison or a lookup uses it. What is not
understood makes the rule `limited`, never wrong.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from ipaddress import ip_network

from exporter.kernel.decode import ParseError
from exporter.kernel.decode.netlink import Attributes, list_nested, read_nested
from exporter.kernel.decode.xtables import NEW, UNICAST, Fields, add_match, add_target, limit
from exporter.model.family import Net
from exporter.model.packet_filter import (
    ACCEPT,
    DNAT,
    DROP,
    GOTO,
    JUMP,
    MARK,
    MASQUERADE,
    REDIRECT,
    RETURN,
    SNAT,
    TPROXY,
    Condition,
    Fixed,
    HasMark,
    InNet,
    InSet,
    OutLink,
    Rule,
)

_NFPROTO_IPV4, _NFPROTO_IPV6 = 2, 10
_LIST_ELEM = 1
_EXPR_NAME, _EXPR_DATA = 1, 2
_DATA_VALUE, _DATA_VERDICT = 1, 2
_VERDICT_CODE, _VERDICT_CHAIN = 1, 2
_VERDICTS = {0: DROP, 1: ACCEPT, 0xFFFFFFFD: JUMP, 0xFFFFFFFC: GOTO, 0xFFFFFFFB: RETURN}
_REG_VERDICT = 0
_NETWORK, _TRANSPORT = 1, 2
_META_MARK, _META_OIF, _META_OIFNAME, _META_NFPROTO, _META_L4PROTO = 3, 5, 7, 15, 16
_EQUAL, _NOT_EQUAL = 0, 1
_CT_STATE = 0
_FIB_ADDRTYPE, _FIB_OF_ADDRESS = 3, frozenset({1, 2})  # NFT_FIB_RESULT_ADDRTYPE; of the source or the destination alone
_NAT_SNAT = 0
_LOOKUP_INVERTED = 1
_TARGETS = {"masq": MASQUERADE, "redir": REDIRECT, "tproxy": TPROXY}
_SILENT = frozenset({"log", "objref", "notrack", "last", "dup"})  # they neither choose packets nor end their way


@dataclass(frozen=True, slots=True, kw_only=True)
class _Load:
    """The content of a register: where it was loaded from, and its mask."""

    kind: str  # source | destination | port | protocol | mark | nfproto | oif | oifname | known | other
    size: int = 0
    mask: bytes | None = None
    xor: bytes | None = None
    value: bytes = b""  # of "nfproto" and "known": what every first packet of a pod's IPv6 connection has there


_OTHER = _Load(kind="other")


def read_verdict(data: Attributes) -> tuple[str, str]:
    """A verdict, and the chain of a jump or goto."""
    nested = data.nested(_DATA_VERDICT)
    code = nested.be32(_VERDICT_CODE, "NFTA_VERDICT_CODE")
    chain = nested.text(_VERDICT_CHAIN, "NFTA_VERDICT_CHAIN") if _VERDICT_CHAIN in nested else ""
    return _VERDICTS.get(code, ""), chain


class RuleReader:
    """Reads one rule of a table of one family. Raises ParseError."""

    def __init__(self, family: int) -> None:
        self._family = family
        self._registers: dict[int, _Load] = {}
        self._fields: Fields = {}

    def read(self, expressions: bytes) -> Rule:
        for kind, element in list_nested(expressions):
            if kind != _LIST_ELEM:
                continue
            found = read_nested(element)
            name = found.text(_EXPR_NAME, "NFTA_EXPR_NAME")
            if name in _READERS:
                _READERS[name](self, found.nested(_EXPR_DATA))
            elif name in _TARGETS:
                self._fields["verdict"] = _TARGETS[name]
            elif name not in _SILENT:
                self._limit(Fixed(None, f"expression {name}"))
        return Rule(**self._fields)

    def _limit(self, condition: Condition) -> None:
        limit(self._fields, condition)

    def _source(self) -> tuple[int, int]:
        """Offset and length of the source address in the network header; the destination follows it."""
        return (12, 4) if self._family == _NFPROTO_IPV4 else (8, 16)

    def payload(self, found: Attributes) -> None:
        if 1 not in found:
            self._limit(Fixed(holds=True, text="a write into the packet"))
            return
        register = found.be32(1, "NFTA_PAYLOAD_DREG")
        base = found.be32(2, "NFTA_PAYLOAD_BASE")
        offset = found.be32(3, "NFTA_PAYLOAD_OFFSET")
        length = found.be32(4, "NFTA_PAYLOAD_LEN")
        start, size = self._source()
        load = _OTHER
        if base == _NETWORK and offset == start and 0 < length <= size:
            load = _Load(kind="source", size=length)
        elif base == _NETWORK and offset == start + size and 0 < length <= size:
            load = _Load(kind="destination", size=length)
        elif base == _NETWORK and length == 1 and offset == (9 if self._family == _NFPROTO_IPV4 else 6):
            load = _Load(kind="protocol")
        elif (base, offset, length) == (_TRANSPORT, 2, 2):
            load = _Load(kind="port")
        self._registers[register] = load

    def meta(self, found: Attributes) -> None:
        key = found.be32(2, "NFTA_META_KEY")
        if 1 not in found:
            if key == _META_MARK:
                self._fields.setdefault("verdict", MARK)
            return
        self._registers[found.be32(1, "NFTA_META_DREG")] = _META.get(key, _OTHER)

    def ct(self, found: Attributes) -> None:
        if 1 in found:
            load = _Load(kind="known", value=NEW.to_bytes(4, sys.byteorder))
            self._registers[found.be32(1, "NFTA_CT_DREG")] = (
                load if found.be32(2, "NFTA_CT_KEY") == _CT_STATE else _OTHER
            )

    def fib(self, found: Attributes) -> None:
        """The type of an address alone: that of a pod and of a host outside are both unicast to the node."""
        alone = found.be32(2, "NFTA_FIB_RESULT") == _FIB_ADDRTYPE and found.be32(3, "NFTA_FIB_FLAGS") in _FIB_OF_ADDRESS
        load = _Load(kind="known", value=UNICAST.to_bytes(4, sys.byteorder)) if alone else _OTHER
        self._registers[found.be32(1, "NFTA_FIB_DREG")] = load

    def bitwise(self, found: Attributes) -> None:
        load = self._loaded(found, 1)
        mask, xor = (found.nested(at).get(_DATA_VALUE) for at in (4, 5))
        if load.mask is not None or (load.value and not (mask and xor)):
            load = _OTHER
        elif load.value and mask and xor:
            pairs = zip(load.value, mask, xor, strict=False)
            load = replace(load, value=bytes(value & keep ^ flip for value, keep, flip in pairs))
        self._registers[found.be32(2, "NFTA_BITWISE_DREG")] = replace(load, mask=mask, xor=xor)

    def cmp(self, found: Attributes) -> None:
        load = self._loaded(found, 1)
        operator = found.be32(2, "NFTA_CMP_OP")
        equal = operator == _EQUAL
        value = found.nested(3).get(_DATA_VALUE)
        if value is None:
            raise ParseError("a comparison with nothing")
        if load.kind == "mark":
            self._fields["mark"] = True
            self._fields["conditions"] = (*self._fields.get("conditions", ()), _mark(load, operator, value))
        elif load.kind == "nfproto" and equal:  # of a table for both families
            other = Fixed(value == load.value, "the family")
            self._fields["conditions"] = (*self._fields.get("conditions", ()), other)
        elif load.kind == "protocol" and equal and len(value) == 1:
            self._fields["protocol"] = value[0]
        elif load.kind == "port" and equal and len(value) == 2 and load.mask is None:
            port = int.from_bytes(value, "big")
            self._fields["ports"] = ((port, port),)
        elif load.kind == "source" and equal and "source" not in self._fields:
            self._fields["source"] = self._prefix(value, load.mask)
        else:
            self._limit(self._compared(load, operator, value))

    def _compared(self, load: _Load, operator: int, value: bytes) -> Condition:
        """What a comparison asks of the packet, where Rule has no field for it."""
        inverted = operator == _NOT_EQUAL
        if operator in {_EQUAL, _NOT_EQUAL}:
            if load.kind in {"source", "destination"}:
                return InNet(self._prefix(value, load.mask), load.kind == "destination", inverted)
            if load.kind in {"known", "nfproto"}:
                return Fixed((value == load.value) != inverted, "the state of the connection or the kind of address")
            if load.kind == "oif" and load.mask is None:
                return OutLink(int.from_bytes(value, sys.byteorder), inverted)
            if load.kind == "oifname" and load.mask is None:
                name = value.rstrip(b"\0").decode(errors="backslashreplace")
                return OutLink(name if 0 in value else f"{name}+", inverted)
        return Fixed(None, f"a comparison of {load.kind}")

    def _prefix(self, value: bytes, mask: bytes | None) -> Net:
        """The network of a comparison with the address's first bytes, or with all of them under a mask."""
        size = self._source()[1]
        length = 8 * len(value) if mask is None else int.from_bytes(mask, "big").bit_count()
        if len(value) > size or length > 8 * size:
            raise ParseError("a comparison longer than an address")
        return ip_network((value.ljust(size, b"\0"), length), strict=False)

    def range(self, found: Attributes) -> None:
        load = self._loaded(found, 1)
        first, last = (found.nested(at).get(_DATA_VALUE) for at in (3, 4))
        if load.kind == "port" and found.get(2) == b"\0\0\0\0" and first and last:
            self._fields["ports"] = ((int.from_bytes(first, "big"), int.from_bytes(last, "big")),)
        else:
            self._limit(Fixed(None, f"a range of {load.kind}"))

    def lookup(self, found: Attributes) -> None:
        load = self._loaded(found, 2)
        name = found.text(1, "NFTA_LOOKUP_SET")
        if 3 in found:
            self._fields["map"] = name
            if found.be32(3, "NFTA_LOOKUP_DREG") == _REG_VERDICT:
                self._fields["branches"] = True
            self._limit(Fixed(None, f"map {name}"))
            return
        inverted = bool(5 in found and found.be32(5, "NFTA_LOOKUP_FLAGS") & _LOOKUP_INVERTED)
        address = load.kind in {"source", "destination"} and load.size == self._source()[1] and load.mask is None
        if address and load.kind == "source" and "source_set" not in self._fields:
            self._fields.update(source_set=name, source_inverted=inverted)
        elif address:
            self._limit(InSet(reference=name, destination=load.kind == "destination", inverted=inverted))
        else:
            self._limit(Fixed(None, f"a set of {load.kind}"))

    def immediate(self, found: Attributes) -> None:
        data = found.nested(2)
        if _DATA_VERDICT not in data:
            return
        self._fields["verdict"], self._fields["chain"] = read_verdict(data)

    def counter(self, found: Attributes) -> None:
        self._fields["bytes"] = found.be64(1, "NFTA_COUNTER_BYTES")
        self._fields["packets"] = found.be64(2, "NFTA_COUNTER_PACKETS")

    def nat(self, found: Attributes) -> None:
        self._fields["verdict"] = SNAT if found.be32(1, "NFTA_NAT_TYPE") == _NAT_SNAT else DNAT

    def match(self, found: Attributes) -> None:
        name = found.text(1, "NFTA_MATCH_NAME")
        add_match(self._fields, name, found.be32(2, "NFTA_MATCH_REV"), found.get(3, b""))

    def target(self, found: Attributes) -> None:
        name = found.text(1, "NFTA_TARGET_NAME")
        revision = found.be32(2, "NFTA_TARGET_REV") if 2 in found else 0
        add_target(self._fields, name, revision, found.get(3, b""), six=self._family == _NFPROTO_IPV6)

    def _loaded(self, found: Attributes, kind: int) -> _Load:
        return self._registers.get(found.be32(kind, "a source register"), _OTHER)


def _mark(load: _Load, operator: int, value: bytes) -> Condition:
    """A comparison of the mark, which is in the host's byte order."""
    if operator not in {_EQUAL, _NOT_EQUAL} or any(load.xor or b""):
        return Fixed(None, "a comparison of mark")
    mask = b"\xff" * 4 if load.mask is None else load.mask
    number = partial(int.from_bytes, byteorder=sys.byteorder)
    return HasMark(number(value), number(mask), operator == _NOT_EQUAL)


_META = {
    _META_MARK: _Load(kind="mark"),
    _META_OIF: _Load(kind="oif"),
    _META_OIFNAME: _Load(kind="oifname"),
    _META_NFPROTO: _Load(kind="nfproto", value=bytes((_NFPROTO_IPV6,))),
    _META_L4PROTO: _Load(kind="protocol"),
}
_READERS: dict[str, Callable[[RuleReader, Attributes], None]] = {
    "payload": RuleReader.payload,
    "meta": RuleReader.meta,
    "ct": RuleReader.ct,
    "fib": RuleReader.fib,
    "bitwise": RuleReader.bitwise,
    "cmp": RuleReader.cmp,
    "range": RuleReader.range,
    "lookup": RuleReader.lookup,
    "immediate": RuleReader.immediate,
    "counter": RuleReader.counter,
    "nat": RuleReader.nat,
    "match": RuleReader.match,
    "target": RuleReader.target,
}
