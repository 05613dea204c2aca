"""Reads the payload of iptables matches and targets, which legacy tables and nftables' compat expressions share. Pure.

linux/netfilter/x_tables.h, xt_set.h, xt_tcpudp.h, xt_multiport.h, xt_mark.h. Adds conditions to a rule under
construction.
"""

from __future__ import annotations

import struct
from ipaddress import ip_address

from exporter.kernel.decode import ParseError
from exporter.kernel.decode.rules import DNAT, IPPROTO_TCP, IPPROTO_UDP

_SET = struct.Struct("=HBB")  # struct xt_set_info: index, dimension, flags
_SET_INVERTED, _SET_FIRST_IS_SOURCE = 0x01, 0x02
_PORTS = struct.Struct("=4H")  # struct xt_tcp and xt_udp: source from, to, destination from, to
_TCP_INVERTED_AT, _UDP_INVERTED_AT = 11, 8
_INVERTED_DESTINATION = 0x02
_MULTIPORT_SOURCE = 0
_MULTIPORT_SLOTS = 15
_ANY_PORT = (0, 0xFFFF)

_SIMPLE_RANGE = struct.Struct("=II4s4s")  # nf_nat_ipv4_multi_range_compat: count, flags, first and last address
_RANGE = struct.Struct("=I16s16s")  # nf_nat_range and nf_nat_range2: flags, first and last address

Fields = dict[str, object]


def add_target(fields: Fields, name: str, revision: int, info: bytes, *, six: bool) -> None:
    """Add what a target does; of DNAT also the address, where it is one."""
    fields["verdict"] = name
    if name != DNAT:
        return
    layout = _RANGE if revision else _SIMPLE_RANGE
    if len(info) < layout.size:
        raise ParseError("a NAT target is too short")
    first, last = layout.unpack_from(info)[-2:]
    if first == last and any(first):
        fields["to"] = ip_address(first if six else first[:4])


def add_match(fields: Fields, name: str, revision: int, info: bytes) -> None:
    """Add what a match asks for. A match that is not known here makes the rule `limited`."""
    if name == "comment":
        return
    if name == "mark":
        fields["mark"] = True
    elif name == "set" and revision >= 1:
        _add_set(fields, info)
    elif name in {"tcp", "udp"}:
        _add_ports(fields, name, info)
    elif name == "multiport" and revision == 1:
        _add_multiport(fields, info)
    else:
        fields["limited"] = True


def _add_set(fields: Fields, info: bytes) -> None:
    """Revisions 1 to 4 begin alike. A second source set, or one of the destination, only limits."""
    if len(info) < _SET.size:
        raise ParseError("a set match is too short")
    index, dimension, flags = _SET.unpack_from(info)
    if dimension and flags & _SET_FIRST_IS_SOURCE and "source_set" not in fields:
        fields["source_set"] = index
        fields["source_inverted"] = bool(flags & _SET_INVERTED)
    else:
        fields["limited"] = True


def _add_ports(fields: Fields, name: str, info: bytes) -> None:
    at = _TCP_INVERTED_AT if name == "tcp" else _UDP_INVERTED_AT
    if len(info) <= at:
        raise ParseError("a port match is too short")
    fields.setdefault("protocol", IPPROTO_TCP if name == "tcp" else IPPROTO_UDP)
    first_source, last_source, first, last = _PORTS.unpack_from(info)
    if (first_source, last_source) != _ANY_PORT or info[at] & _INVERTED_DESTINATION:
        fields["limited"] = True
    elif (first, last) != _ANY_PORT:
        fields["ports"] = ((first, last),)


def _add_multiport(fields: Fields, info: bytes) -> None:
    """Struct xt_multiport_v1: flags, count, 15 ports, 15 flags (this port starts a range), invert."""
    size = 2 + 3 * _MULTIPORT_SLOTS
    if len(info) <= size:
        raise ParseError("a multiport match is too short")
    flags, count = info[0], info[1]
    if count > _MULTIPORT_SLOTS:
        raise ParseError("a multiport match with too many ports")
    if flags == _MULTIPORT_SOURCE or info[size]:
        fields["limited"] = True
        return
    numbers = struct.unpack_from(f"={count}H", info, 2)
    starts = info[2 + 2 * _MULTIPORT_SLOTS :]
    ports = []
    position = 0
    while position < count:
        step = 2 if starts[position] and position + 1 < count else 1
        ports.append((numbers[position], numbers[position + step - 1]))
        position += step
    fields["ports"] = tuple(ports)
