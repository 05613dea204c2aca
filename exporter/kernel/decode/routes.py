"""Parses route dumps (RTM_NEWROUTE; linux/rtnetlink.h). Pure: bytes -> RouteFact."""

from __future__ import annotations

import struct
from collections.abc import Mapping

from exporter.kernel.decode import ParseError
from exporter.kernel.decode.netlink import (
    AF_INET,
    AF_INET6,
    Attributes,
    read_address,
    read_attributes,
    read_network,
    split_messages,
)
from exporter.model.facts import RouteFact
from exporter.model.family import Address, Net

_RTM_NEWROUTE = frozenset({24})
# Family, destination length, source length, tos, table, protocol, scope, type, flags.
_RTMSG = struct.Struct("=BBBBBBBBI")
_RTM_F_CLONED = 0x200
_RTNEXTHOP = struct.Struct("=HBBi")  # length, flags, hops, link index; attributes follow
_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_MULTIPATH, _RTA_CACHEINFO, _RTA_VIA = 1, 4, 5, 9, 12, 18
_RTPROT_RA = 9
_FAMILY = struct.Struct("=H")
_EXPIRES = struct.Struct("=i")  # in rta_cacheinfo, after two u32: clock ticks, 0 for never
_EXPIRES_AT = 8
_USER_HZ = 100  # of every Linux architecture that Kubernetes runs on
_TYPE_NAMES = (
    "unicast",
    "local",
    "broadcast",
    "anycast",
    "multicast",
    "blackhole",
    "unreachable",
    "prohibit",
    "throw",
    "nat",
)
_TYPES = dict(enumerate(_TYPE_NAMES, start=1))
_ANY = {AF_INET: bytes(4), AF_INET6: bytes(16)}


def parse_routes(data: bytes, names: Mapping[int, str]) -> tuple[RouteFact, ...]:
    """The routes of a dump, one per next hop. `names`: links by index; a link that is not among them is "#INDEX"."""
    found: list[RouteFact] = []
    unpack = _RTMSG.unpack_from
    for _, start, end in split_messages(data, _RTM_NEWROUTE, 12, "a route"):
        header = unpack(data, start)
        if header[0] not in _ANY or header[8] & _RTM_F_CLONED:
            continue
        attributes = read_attributes(data, start + 12, end)
        if _RTA_MULTIPATH in attributes:
            found += _multipath_facts(header, attributes, names)
        else:
            found.append(_route_fact(header, attributes, names))
    return tuple(found)


def _route_fact(header: tuple[int, ...], attributes: Attributes, names: Mapping[int, str]) -> RouteFact:
    family, length, _, _, _, protocol, _, kind, _ = header
    index = attributes.u32(_RTA_OIF, "RTA_OIF") if _RTA_OIF in attributes else None
    return RouteFact(
        destination=_destination(family, length, attributes.get(_RTA_DST)),
        link="" if index is None else names.get(index) or f"#{index}",
        gateway=_gateway(family, attributes),
        protocol=protocol,
        type=_TYPES.get(kind) or str(kind),
        expires=_expires(attributes.get(_RTA_CACHEINFO)),
        from_ra=protocol == _RTPROT_RA,
    )


def _multipath_facts(header: tuple[int, ...], attributes: Attributes, names: Mapping[int, str]) -> list[RouteFact]:
    """RTA_MULTIPATH: a list of struct rtnexthop, each with attributes (gateway, via) of its own."""
    hops = attributes[_RTA_MULTIPATH]
    shared = {k: v for k, v in attributes.items() if k not in {_RTA_MULTIPATH, _RTA_OIF, _RTA_GATEWAY, _RTA_VIA}}
    found = []
    start = 0
    while start < len(hops):
        if len(hops) - start < _RTNEXTHOP.size:
            raise ParseError("a next hop ends early")
        length, _, _, index = _RTNEXTHOP.unpack_from(hops, start)
        if not _RTNEXTHOP.size <= length <= len(hops) - start:
            raise ParseError("a next hop of impossible length")
        own = read_attributes(hops, start + _RTNEXTHOP.size, start + length)
        own[_RTA_OIF] = struct.pack("=i", index)
        found.append(_route_fact(header, Attributes(shared | own), names))
        start += (length + 3) & ~3
    return found


def _destination(family: int, length: int, value: bytes | None) -> Net:
    if value is None:
        if length:
            raise ParseError("a route without its destination")
        value = _ANY[family]
    return read_network(family, value, length)


def _gateway(family: int, attributes: Attributes) -> Address | None:
    gateway = attributes.get(_RTA_GATEWAY)
    if gateway is not None:
        return read_address(family, gateway)
    via = attributes.get(_RTA_VIA)  # struct rtvia: a gateway of the other family (RFC 5549)
    if via is None:
        return None
    if len(via) < 2:
        raise ParseError("RTA_VIA is too short")
    return read_address(_FAMILY.unpack_from(via)[0], via[2:])


def _expires(cacheinfo: bytes | None) -> float | None:
    if cacheinfo is None:
        return None
    if len(cacheinfo) < _EXPIRES_AT + _EXPIRES.size:
        raise ParseError("RTA_CACHEINFO is too short")
    ticks: int = _EXPIRES.unpack_from(cacheinfo, _EXPIRES_AT)[0]
    return max(ticks, 0) / _USER_HZ if ticks else None
