"""Parses ipsets and sets of nftables (linux/netfilter/ipset/ip_set.h, nf_tables.h). Pure: bytes -> networks."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address, ip_network, summarize_address_range
from typing import Any

from exporter.kernel.decode import ParseError
from exporter.kernel.decode.expressions import read_verdict
from exporter.kernel.decode.netlink import (
    Attributes,
    list_nested,
    read_attributes,
    read_nested,
    split_messages,
)
from exporter.model.family import Address, Net
from exporter.model.packet_filter import Branches

_IPSET_CMD_LIST = frozenset({0x0607})
_IPSET_SETNAME, _IPSET_TYPENAME, _IPSET_ADT, _IPSET_DATA = 2, 3, 8, 7
_IPSET_IP, _IPSET_CIDR, _IPSET_CADT_FLAGS = 1, 3, 8
_IPSET_NOMATCH = 0x04
_NET_TYPES = frozenset({"hash:net", "hash:ip"})
_NEWSETELEM = frozenset({0x0A0C})
_ELEMENTS, _LIST_ELEM = 3, 1
_ELEM_KEY, _ELEM_DATA, _ELEM_FLAGS, _ELEM_KEY_END = 1, 2, 3, 10
_DATA_VALUE = 1
_DATA_VERDICT, _VERDICT_CHAIN = 2, 2
_PORT_SIZE = 4  # of a port in a concatenation, which goes by 32 bits
_INTERVAL_END, _CATCHALL = 1, 2
_SIZES = {4: 32, 16: 128}


def parse_ipset(data: bytes, *, first: bool = False) -> tuple[str, tuple[Net, ...] | None]:
    """Name and networks of an ipset, in one or more messages; no networks where it is of a kind with something else.

    `first`: those of a kind that begins with an address or network, too, for their first part.
    """
    name: str | None = None
    kind = ""
    nets: list[Net] = []
    for _, start, end in split_messages(data, _IPSET_CMD_LIST, 4, "an ipset"):
        found = read_attributes(data, start + 4, end)
        name = found.text(_IPSET_SETNAME, "IPSET_ATTR_SETNAME")
        if _IPSET_TYPENAME in found:
            kind = found.text(_IPSET_TYPENAME, "IPSET_ATTR_TYPENAME")
        nets += _ipset_members(found.get(_IPSET_ADT, b""))
    if name is None:
        raise ParseError("no ipset")
    known = kind.split(",")[0] in _NET_TYPES if first else kind in _NET_TYPES
    return name, tuple(nets) if known else None


def _ipset_members(adt: bytes) -> Iterator[Net]:
    for kind, member in list_nested(adt):
        if kind != _IPSET_DATA:
            continue
        found = read_nested(member)
        addresses = found.nested(_IPSET_IP)
        flags = found.be32(_IPSET_CADT_FLAGS, "IPSET_ATTR_CADT_FLAGS") if _IPSET_CADT_FLAGS in found else 0
        if not addresses or flags & _IPSET_NOMATCH:
            continue
        value = next(iter(addresses.values()))
        if len(value) not in _SIZES:
            raise ParseError("a set member of impossible length")
        length = found.u8(_IPSET_CIDR, "IPSET_ATTR_CIDR") if _IPSET_CIDR in found else _SIZES[len(value)]
        if length > _SIZES[len(value)]:
            raise ParseError("a set member of impossible prefix length")
        yield ip_network((value, length), strict=False)


def parse_nft_set(data: bytes) -> tuple[Net, ...] | None:
    """The networks in a set of nftables; None where its elements are no addresses.

    An interval set comes as starts and as end markers, each end one beyond the last address; an interval without end
    goes to the last.
    """
    starts: list[bytes] = []
    ends: list[bytes] = []
    nets: list[Net] = []
    for found in _elements(data):
        flags = found.be32(_ELEM_FLAGS, "NFTA_SET_ELEM_FLAGS") if _ELEM_FLAGS in found else 0
        if flags & _CATCHALL:
            return None
        key = _value(found.get(_ELEM_KEY))
        if len(key) not in _SIZES:
            return None
        if _ELEM_KEY_END in found:
            nets += _summarize(key, int.from_bytes(_value(found[_ELEM_KEY_END]), "big"))
        else:
            (ends if flags & _INTERVAL_END else starts).append(key)
    return tuple(nets + list(_join(starts, ends)))


def parse_branches(data: bytes) -> Branches:
    """What the elements of a verdict map of nftables say, each once."""
    verdicts = (read_verdict(found.nested(_ELEM_DATA)) for found in _elements(data) if _ELEM_DATA in found)
    return tuple(dict.fromkeys(verdicts))


def has_elements(data: bytes) -> bool:
    """Whether the first packet of a dump of a set's elements has any."""
    return any(True for _ in _elements(data))


def parse_map(data: bytes) -> tuple[str | Address, ...]:
    """What the elements of a map of nftables lead to: chains, or addresses, each with a port behind it."""
    return tuple(each for found in _elements(data) if (each := _led_to(found.nested(_ELEM_DATA))) is not None)


def _led_to(data: Attributes) -> str | Address | None:
    verdict, value = data.nested(_DATA_VERDICT), data.get(_DATA_VALUE, b"")
    if _VERDICT_CHAIN in verdict:
        return verdict.text(_VERDICT_CHAIN, "NFTA_VERDICT_CHAIN")
    size = len(value) - _PORT_SIZE
    return ip_address(value[:size]) if size in _SIZES else None


def _elements(data: bytes) -> Iterator[Attributes]:
    for _, start, end in split_messages(data, _NEWSETELEM, 4, "a set"):
        for kind, element in list_nested(read_attributes(data, start + 4, end).get(_ELEMENTS, b"")):
            if kind == _LIST_ELEM:
                yield read_nested(element)


def _value(key: bytes | None) -> bytes:
    value = read_nested(key).get(_DATA_VALUE)
    if value is None:
        raise ParseError("a set element without a key")
    return value


def _join(starts: list[bytes], ends: list[bytes]) -> Iterator[Net]:
    """Each start with the first end behind it. Without any end the set has single addresses."""
    sizes = {len(each) for each in (*starts, *ends)}
    if len(sizes) > 1:
        raise ParseError("set elements of different lengths")
    if not ends:
        yield from (ip_network((key, _SIZES[len(key)])) for key in starts)
        return
    limits = sorted(int.from_bytes(end, "big") for end in ends)
    position = 0
    for key in sorted(starts):
        start = int.from_bytes(key, "big")
        while position < len(limits) and limits[position] <= start:
            position += 1
        last = limits[position] - 1 if position < len(limits) else (1 << _SIZES[len(key)]) - 1
        yield from _summarize(key, last)


def _summarize(key: bytes, last: int) -> Iterator[Net]:
    first = ip_address(key)
    if not int(first) <= last < 1 << first.max_prefixlen:
        raise ParseError("a set interval that ends before it starts")
    ends: tuple[Any, Any] = (first, type(first)(last))  # of one family
    return summarize_address_range(*ends)
