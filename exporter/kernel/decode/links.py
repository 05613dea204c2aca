"""Parses dumps of links, addresses and TCP sockets (linux/if_link.h, if_addr.h, ipv6.h, inet_diag.h). Pure."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from functools import lru_cache
from ipaddress import IPv6Address

from exporter.kernel.decode import ParseError
from exporter.kernel.decode.netlink import (
    AF_INET,
    AF_INET6,
    ATTRIBUTE,
    Attributes,
    read_address,
    read_attributes,
    read_interface,
    read_mac,
    read_nested,
    split_messages,
)
from exporter.model.facts import AddressFact, Inet6Conf, LinkFact, ListeningSocket
from exporter.model.family import Address, family_of

_RTM_NEWLINK, _RTM_NEWADDR = frozenset({16}), frozenset({20})
_IFINFOMSG = struct.Struct("=BxHiII")  # family, type, index, flags, change
_IFF_UP, _IFF_LOOPBACK, _IFF_LOWER_UP = 0x1, 0x8, 0x10000
_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU, _IFLA_LINKINFO, _IFLA_AF_SPEC = 1, 3, 4, 18, 26
_IFLA_WANTED = frozenset({_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU, _IFLA_LINKINFO, _IFLA_AF_SPEC})
_IFLA_STATS = frozenset({7, 23})  # IFLA_STATS, IFLA_STATS64
_IFLA_INFO_KIND, _IFLA_INFO_DATA = 1, 2
_IFLA_INET6_CONF = 2
_DEVCONF_FORWARDING, _DEVCONF_ACCEPT_RA, _DEVCONF_DISABLE_IPV6 = 0, 3, 26
_DEVCONF_NEEDED = _DEVCONF_DISABLE_IPV6 + 1
_DEVCONF_FORCE_FORWARDING = 59  # since Linux 6.17
_IFADDRMSG = struct.Struct("=BBBBI")  # family, prefix length, flags, scope, index
_IFA_ADDRESS, _IFA_LOCAL, _IFA_FLAGS = 1, 2, 8
_F_DADFAILED, _F_DEPRECATED, _F_TENTATIVE, _F_PERMANENT = 0x08, 0x20, 0x40, 0x80
_SCOPES = {0: "global", 200: "site", 253: "link", 254: "host"}
_FAMILIES = frozenset({AF_INET, AF_INET6})
_I32 = struct.Struct("=i")
_SOCKET_TYPES = frozenset({18, 20})  # TCPDIAG_GETSOCK, SOCK_DIAG_BY_FAMILY
_INET_DIAG = struct.Struct("=BBBB")  # family, state, timer, retransmissions; a struct inet_diag_sockid follows
_INET_DIAG_LENGTH = 72
_PORT = struct.Struct("!H")
_SOURCE_AT = 8  # behind the header and two ports
_DESTINATION_AT = _SOURCE_AT + 16
_TCP_ESTABLISHED, _TCP_LISTEN = 1, 10
_ADDRESS_SIZES = {AF_INET: 4, AF_INET6: 16}
_REMEMBERED = 1024  # links that change nothing but their counters from round to round


def without_counters(data: bytes) -> bytes:
    """The dump with zeros for the counters of traffic: the same bytes again for links that did not change."""
    kept, unpack = bytearray(data), ATTRIBUTE.unpack_from
    for _, start, end in split_messages(data, _RTM_NEWLINK, _IFINFOMSG.size, "a link"):
        at = start + _IFINFOMSG.size
        while at + ATTRIBUTE.size <= end:
            length, kind = unpack(data, at)
            if not ATTRIBUTE.size <= length <= end - at:
                raise ParseError("an attribute of impossible length")
            if kind in _IFLA_STATS:
                kept[at + ATTRIBUTE.size : at + length] = bytes(length - ATTRIBUTE.size)
            at += (length + 3) & -4
    return bytes(kept)


def split_links(data: bytes) -> Iterable[tuple[LinkFact, bytes]]:
    """Each link of a dump, with IFLA_INFO_DATA of its kind (b"" without)."""
    for _, start, end in split_messages(data, _RTM_NEWLINK, _IFINFOMSG.size, "a link"):
        family, _, index, flags, _ = _IFINFOMSG.unpack_from(data, start)
        if family != 0:
            continue  # AF_BRIDGE and AF_INET6 have dumps of their own, in the same message type
        if index <= 0:
            raise ParseError("a link without an index")
        attributes = read_attributes(data, start + _IFINFOMSG.size, end, _IFLA_WANTED)
        info = attributes.nested(_IFLA_LINKINFO)
        yield _link_fact(index, flags, attributes, info), info.get(_IFLA_INFO_DATA, b"")


def parse_links(data: bytes) -> tuple[LinkFact, ...]:
    """The links of a dump."""
    return tuple(link for link, _ in split_links(data))


def _link_fact(index: int, flags: int, attributes: Attributes, info: Attributes) -> LinkFact:
    name = attributes.text(_IFLA_IFNAME, "IFLA_IFNAME")
    if not name:
        raise ParseError("a link without a name")
    return LinkFact(
        index=index,
        name=name,
        up=bool(flags & _IFF_UP),
        lower_up=bool(flags & _IFF_LOWER_UP),
        mtu=attributes.u32(_IFLA_MTU, "IFLA_MTU"),
        mac=read_mac(attributes.get(_IFLA_ADDRESS, b"")),
        kind=info.text(_IFLA_INFO_KIND, "IFLA_INFO_KIND") if _IFLA_INFO_KIND in info else "",
        loopback=bool(flags & _IFF_LOOPBACK),
        inet6=_inet6_conf(attributes.get(_IFLA_AF_SPEC)),
    )


@lru_cache(_REMEMBERED)
def _inet6_conf(af_spec: bytes | None) -> Inet6Conf | None:
    """IFLA_AF_SPEC > AF_INET6 > IFLA_INET6_CONF: an array of s32. None where the link, or the kernel, has no IPv6."""
    values = read_nested(af_spec).nested(AF_INET6).get(_IFLA_INET6_CONF)
    if values is None:
        return None
    if len(values) < 4 * _DEVCONF_NEEDED:
        raise ParseError("IFLA_INET6_CONF is too short")
    forces = len(values) > 4 * _DEVCONF_FORCE_FORWARDING
    return Inet6Conf(
        forwarding=_I32.unpack_from(values, 4 * _DEVCONF_FORWARDING)[0],
        accept_ra=_I32.unpack_from(values, 4 * _DEVCONF_ACCEPT_RA)[0],
        disable_ipv6=_I32.unpack_from(values, 4 * _DEVCONF_DISABLE_IPV6)[0],
        force_forwarding=_I32.unpack_from(values, 4 * _DEVCONF_FORCE_FORWARDING)[0] if forces else 0,
    )


def parse_addresses(data: bytes, names: Mapping[int, str]) -> tuple[AddressFact, ...]:
    """The addresses of a dump. `names`: links by index; a link that is not among them is "#INDEX"."""
    found = []
    for _, start, end in split_messages(data, _RTM_NEWADDR, _IFADDRMSG.size, "an address"):
        family, length, flags, scope, index = _IFADDRMSG.unpack_from(data, start)
        if family not in _FAMILIES:
            continue
        attributes = read_attributes(data, start + _IFADDRMSG.size, end)
        value = attributes.get(_IFA_LOCAL, attributes.get(_IFA_ADDRESS))
        if value is None:
            raise ParseError("an address message without an address")
        if _IFA_FLAGS in attributes:
            flags = attributes.u32(_IFA_FLAGS, "IFA_FLAGS")
        found.append(
            AddressFact(
                link=names.get(index) or f"#{index}",
                interface=read_interface(family, value, length),
                scope=_SCOPES.get(scope) or str(scope),
                tentative=bool(flags & _F_TENTATIVE),
                dadfailed=bool(flags & _F_DADFAILED),
                deprecated=bool(flags & _F_DEPRECATED),
                permanent=bool(flags & _F_PERMANENT),
            )
        )
    return tuple(found)


def parse_listeners(data: bytes) -> tuple[ListeningSocket, ...]:
    """Listening TCP sockets. One on ::ffff:a.b.c.d counts as IPv4, which is what it serves."""
    found = []
    for _, start, _ in split_messages(data, _SOCKET_TYPES, _INET_DIAG_LENGTH, "a socket"):
        family, state, _, _ = _INET_DIAG.unpack_from(data, start)
        if family not in _ADDRESS_SIZES or state != _TCP_LISTEN:
            continue
        port = _PORT.unpack_from(data, start + _INET_DIAG.size)[0]
        source = start + _SOURCE_AT
        address: Address = read_address(family, data[source : source + _ADDRESS_SIZES[family]])
        mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
        served = mapped or address
        found.append(ListeningSocket(family=family_of(served), address=served, port=port))
    return tuple(found)


def parse_bgp_peers(data: bytes) -> frozenset[Address]:
    """The remote addresses of established TCP connections over IPv6; IPv4-mapped ones are IPv4's."""
    found = set()
    for _, start, _ in split_messages(data, _SOCKET_TYPES, _INET_DIAG_LENGTH, "a socket"):
        family, state, _, _ = _INET_DIAG.unpack_from(data, start)
        address = IPv6Address(data[start + _DESTINATION_AT : start + _DESTINATION_AT + 16])
        if family == AF_INET6 and state == _TCP_ESTABLISHED and address.ipv4_mapped is None:
            found.add(address)
    return frozenset(found)
