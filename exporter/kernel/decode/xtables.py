"""Reads the payload of iptables matches and targets, which legacy tables and nftables' compat expressions share. Pure.

linux/netfilter/x_tables.h, xt_set.h, xt_tcpudp.h, xt_multiport.h, xt_mark.h, xt_addrtype.h, xt_conntrack.h. Adds
conditions to a rule under construction.
"""

from __future__ import annotations

import struct
from ipaddress import ip_address
from typing import Any

from exporter.kernel.decode import ParseError
from exporter.kernel.decode.rules import IPPROTO_TCP, IPPROTO_UDP
from exporter.model.packet_filter import DNAT, Condition, Fixed, HasMark, InSet

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
_MARK = struct.Struct("=IIB")  # struct xt_mark_mtinfo1: mark, mask, invert
_TYPES = struct.Struct("=HHI")  # struct xt_addrtype_info_v1: of source, of destination, flags
UNICAST = 1  # linux/rtnetlink.h RTN_UNICAST
_STATE = struct.Struct("=HHH")  # in struct xt_conntrack_mtinfo2 and 3: match_flags, invert_flags, state_mask
_STATE_AT = 146
_BY_STATE = 1  # XT_CONNTRACK_STATE
NEW = 1 << 3  # NF_CT_STATE_BIT(IP_CT_NEW)

Fields = dict[str, Any]


def limit(fields: Fields, condition: Condition) -> None:
    """Add a condition for which Rule has no field of its own."""
    fields["limited"] = True
    fields["conditions"] = (*fields.get("conditions", ()), condition)


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
        _add_mark(fields, revision, info)
    elif name == "set" and revision >= 1:
        _add_set(fields, info)
    elif name in {"tcp", "udp"}:
        _add_ports(fields, name, info)
    elif name == "multiport" and revision == 1:
        _add_multiport(fields, info)
    elif name == "addrtype" and revision == 1 and len(info) >= _TYPES.size:
        _add_types(fields, *_TYPES.unpack_from(info))
    elif name == "conntrack" and revision in {2, 3} and len(info) >= _STATE_AT + _STATE.size:
        _add_state(fields, *_STATE.unpack_from(info, _STATE_AT))
    else:
        limit(fields, Fixed(None, f"match {name}"))


def _add_mark(fields: Fields, revision: int, info: bytes) -> None:
    fields["mark"] = True
    condition: Condition = Fixed(None, "match mark")
    if revision == 1 and len(info) >= _MARK.size:
        value, mask, inverted = _MARK.unpack_from(info)
        condition = HasMark(value, mask, bool(inverted))
    fields["conditions"] = (*fields.get("conditions", ()), condition)


def _add_types(fields: Fields, source: int, destination: int, flags: int) -> None:
    """The addresses of a pod and of a host outside are both unicast to the node; a flag asks for one of a link."""
    holds: bool | None = None
    if flags < 4:
        wanted = [(types, bool(flags & bit)) for types, bit in ((source, 1), (destination, 2)) if types]
        holds = all(bool(types & 1 << UNICAST) != inverted for types, inverted in wanted)
    limit(fields, Fixed(holds, "match addrtype"))


def _add_state(fields: Fields, asked: int, inverted: int, states: int) -> None:
    """NAT looks at the first packet of a connection only."""
    holds = None if asked != _BY_STATE else bool(states & NEW) != bool(inverted & _BY_STATE)
    limit(fields, Fixed(holds, "match conntrack"))


def _add_set(fields: Fields, info: bytes) -> None:
    """Revisions 1 to 4 begin alike. A second source set, or one of the destination, only limits."""
    if len(info) < _SET.size:
        raise ParseError("a set match is too short")
    index, dimension, flags = _SET.unpack_from(info)
    if dimension and flags & _SET_FIRST_IS_SOURCE and "source_set" not in fields:
        fields["source_set"] = index
        fields["source_inverted"] = bool(flags & _SET_INVERTED)
        if dimension > 1:
            fields["conditions"] = (*fields.get("conditions", ()), Fixed(None, "a set of more than sources"))
    elif dimension:
        source, inverted = bool(flags & _SET_FIRST_IS_SOURCE), bool(flags & _SET_INVERTED)
        limit(fields, InSet(reference=index, destination=not source, inverted=inverted, whole=dimension == 1))
    else:
        limit(fields, Fixed(None, "match set"))


def _add_ports(fields: Fields, name: str, info: bytes) -> None:
    at = _TCP_INVERTED_AT if name == "tcp" else _UDP_INVERTED_AT
    if len(info) <= at:
        raise ParseError("a port match is too short")
    fields.setdefault("protocol", IPPROTO_TCP if name == "tcp" else IPPROTO_UDP)
    first_source, last_source, first, last = _PORTS.unpack_from(info)
    if (first_source, last_source) != _ANY_PORT or info[at] & _INVERTED_DESTINATION:
        limit(fields, Fixed(None, f"match {name}"))
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
        limit(fields, Fixed(None, "match multiport"))
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
