"""Reads the expressions of one nftables rule into a Rule (linux/netfilter/nf_tables.h). Pure.

Rules compute with registers: a load (payload, meta) is remembered until a comparison or a lookup uses it. What is not
understood makes the rule `limited`, never wrong.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from ipaddress import ip_network
from typing import Any

from exporter.kernel.decode import ParseError
from exporter.kernel.decode.netlink import Attributes, list_nested, read_nested
from exporter.kernel.decode.rules import (
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
    Rule,
)
from exporter.kernel.decode.xtables import Fields, add_match, add_target
from exporter.model.family import Net

_NFPROTO_IPV4, _NFPROTO_IPV6 = 2, 10
_LIST_ELEM = 1
_EXPR_NAME, _EXPR_DATA = 1, 2
_DATA_VALUE, _DATA_VERDICT = 1, 2
_VERDICT_CODE, _VERDICT_CHAIN = 1, 2
_VERDICTS = {0: DROP, 1: ACCEPT, 0xFFFFFFFD: JUMP, 0xFFFFFFFC: GOTO, 0xFFFFFFFB: RETURN}
_REG_VERDICT = 0
_NETWORK, _TRANSPORT = 1, 2
_META_MARK, _META_NFPROTO, _META_L4PROTO = 3, 15, 16
_EQUAL = 0
_NAT_SNAT = 0
_LOOKUP_INVERTED = 1
_TARGETS = {"masq": MASQUERADE, "redir": REDIRECT, "tproxy": TPROXY}
_SILENT = frozenset({"log", "objref", "notrack", "last", "dup"})  # they neither choose packets nor end their way


@dataclass(frozen=True, slots=True)
class _Load:
    """The content of a register: where it was loaded from, and its mask."""

    kind: str  # source | destination port | protocol | mark | nfproto | other
    size: int = 0
    mask: bytes | None = None


_OTHER = _Load("other")


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
                self._fields["limited"] = True
        values: Any = self._fields
        return Rule(**values)

    def _source(self) -> tuple[int, int]:
        """Offset and length of the source address in the network header."""
        return (12, 4) if self._family == _NFPROTO_IPV4 else (8, 16)

    def payload(self, found: Attributes) -> None:
        if 1 not in found:
            self._fields["limited"] = True  # writes into the packet
            return
        register = found.be32(1, "NFTA_PAYLOAD_DREG")
        base = found.be32(2, "NFTA_PAYLOAD_BASE")
        offset = found.be32(3, "NFTA_PAYLOAD_OFFSET")
        length = found.be32(4, "NFTA_PAYLOAD_LEN")
        start, size = self._source()
        load = _OTHER
        if base == _NETWORK and offset == start and 0 < length <= size:
            load = _Load("source", length)
        elif base == _NETWORK and length == 1 and offset == (9 if self._family == _NFPROTO_IPV4 else 6):
            load = _Load("protocol")
        elif (base, offset, length) == (_TRANSPORT, 2, 2):
            load = _Load("port")
        self._registers[register] = load

    def meta(self, found: Attributes) -> None:
        key = found.be32(2, "NFTA_META_KEY")
        if 1 not in found:
            if key == _META_MARK:
                self._fields.setdefault("verdict", MARK)
            return
        kinds = {_META_MARK: "mark", _META_L4PROTO: "protocol", _META_NFPROTO: "nfproto"}
        self._registers[found.be32(1, "NFTA_META_DREG")] = _Load(kinds.get(key, "other"))

    def bitwise(self, found: Attributes) -> None:
        load = self._loaded(found, 1)
        mask = found.nested(4).get(_DATA_VALUE)
        self._registers[found.be32(2, "NFTA_BITWISE_DREG")] = replace(load, mask=mask)

    def cmp(self, found: Attributes) -> None:
        load = self._loaded(found, 1)
        equal = found.be32(2, "NFTA_CMP_OP") == _EQUAL
        value = found.nested(3).get(_DATA_VALUE)
        if value is None:
            raise ParseError("a comparison with nothing")
        if load.kind == "mark":
            self._fields["mark"] = True
        elif load.kind == "nfproto" and equal:
            return  # of a table for both families
        elif load.kind == "protocol" and equal and len(value) == 1:
            self._fields["protocol"] = value[0]
        elif load.kind == "port" and equal and len(value) == 2 and load.mask is None:
            port = int.from_bytes(value, "big")
            self._fields["ports"] = ((port, port),)
        elif load.kind == "source" and equal and "source" not in self._fields:
            self._fields["source"] = self._prefix(value, load.mask)
        else:
            self._fields["limited"] = True

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
            self._fields["limited"] = True

    def lookup(self, found: Attributes) -> None:
        load = self._loaded(found, 2)
        name = found.text(1, "NFTA_LOOKUP_SET")
        if 3 in found:
            self._fields["map"] = name
            if found.be32(3, "NFTA_LOOKUP_DREG") == _REG_VERDICT:
                self._fields["branches"] = True
            self._fields["limited"] = True
        elif load.kind == "source" and load.size == self._source()[1] and "source_set" not in self._fields:
            flags = found.be32(5, "NFTA_LOOKUP_FLAGS") if 5 in found else 0
            self._fields["source_set"] = name
            self._fields["source_inverted"] = bool(flags & _LOOKUP_INVERTED)
        else:
            self._fields["limited"] = True

    def immediate(self, found: Attributes) -> None:
        data = found.nested(2)
        if _DATA_VERDICT not in data:
            return
        nested = data.nested(_DATA_VERDICT)
        code = nested.be32(_VERDICT_CODE, "NFTA_VERDICT_CODE")
        self._fields["verdict"] = _VERDICTS.get(code, "")
        if _VERDICT_CHAIN in nested:
            self._fields["chain"] = nested.text(_VERDICT_CHAIN, "NFTA_VERDICT_CHAIN")

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


_READERS: dict[str, Callable[[RuleReader, Attributes], None]] = {
    "payload": RuleReader.payload,
    "meta": RuleReader.meta,
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
