"""Parses link and address dumps (RTM_NEWLINK, RTM_NEWADDR; linux/if_link.h, linux/if_addr.h, linux/ipv6.h). Pure: bytes -> facts."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from functools import lru_cache

from exporter.kernel.decode.netlink import (
    AF_INET,
    AF_INET6,
    Attributes,
    pick_attributes,
    read_attributes,
    read_interface,
    read_mac,
    read_nested,
    read_text,
    read_u32,
    split_messages,
)
from exporter.kernel.decode.parse_error import ParseError
from exporter.model.facts import AddressFact, Inet6Conf, LinkFact

_RTM_NEWLINK, _RTM_NEWADDR = 16, 20
_IFINFOMSG = struct.Struct("=BxHiII")  # family, type, index, flags, change
_IFF_UP, _IFF_LOOPBACK, _IFF_LOWER_UP = 0x1, 0x8, 0x10000
_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU, _IFLA_LINK, _IFLA_LINKINFO, _IFLA_AF_SPEC = 1, 3, 4, 5, 18, 26
_IFLA_WANTED = frozenset({_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU, _IFLA_LINK, _IFLA_LINKINFO, _IFLA_AF_SPEC})
_IFLA_INFO_KIND, _IFLA_INFO_DATA = 1, 2
_IFLA_INET6_CONF = 2
_DEVCONF_FORWARDING, _DEVCONF_ACCEPT_RA, _DEVCONF_DISABLE_IPV6 = 0, 3, 26
_DEVCONF_NEEDED = _DEVCONF_DISABLE_IPV6 + 1
_IFADDRMSG = struct.Struct("=BBBBI")  # family, prefix length, flags, scope, index
_IFA_ADDRESS, _IFA_LOCAL, _IFA_CACHEINFO, _IFA_FLAGS = 1, 2, 6, 8
_CACHEINFO = struct.Struct("=II")  # preferred, valid (seconds); two stamps follow
_FOREVER = 0xFFFFFFFF
_F_TEMPORARY, _F_DADFAILED, _F_DEPRECATED, _F_TENTATIVE, _F_PERMANENT = 0x01, 0x08, 0x20, 0x40, 0x80
_SCOPES = {0: "global", 200: "site", 253: "link", 254: "host"}
_FAMILIES = frozenset({AF_INET, AF_INET6})
_I32 = struct.Struct("=i")
_REMEMBERED = 1024  # links that change nothing but their counters from round to round


def split_links(data: bytes) -> Iterable[tuple[LinkFact, bytes]]:
    """Each link of a dump, with IFLA_INFO_DATA of its kind (b"" without). Malformed on anything a kernel would not send."""
    for kind, start, end in split_messages(data):
        if kind != _RTM_NEWLINK:
            continue
        if end - start < _IFINFOMSG.size:
            raise ParseError("a link message ends early")
        family, _, index, flags, _ = _IFINFOMSG.unpack_from(data, start)
        if family != 0:
            continue  # AF_BRIDGE and AF_INET6 have dumps of their own, in the same message type
        if index <= 0:
            raise ParseError("a link without an index")
        attributes = pick_attributes(data, start + _IFINFOMSG.size, end, _IFLA_WANTED)
        info = read_nested(attributes.get(_IFLA_LINKINFO))
        yield _link_fact(index, flags, attributes, info), info.get(_IFLA_INFO_DATA, b"")


def parse_links(data: bytes) -> tuple[LinkFact, ...]:
    """The links of a dump."""
    return tuple(link for link, _ in split_links(data))


def _link_fact(index: int, flags: int, attributes: Attributes, info: Attributes) -> LinkFact:
    name = read_text(attributes.get(_IFLA_IFNAME), "IFLA_IFNAME")
    if not name:
        raise ParseError("a link without a name")
    return LinkFact(
        index=index,
        name=name,
        up=bool(flags & _IFF_UP),
        lower_up=bool(flags & _IFF_LOWER_UP),
        mtu=read_u32(attributes.get(_IFLA_MTU), "IFLA_MTU"),
        mac=read_mac(attributes.get(_IFLA_ADDRESS, b"")),
        kind=read_text(info[_IFLA_INFO_KIND], "IFLA_INFO_KIND") if _IFLA_INFO_KIND in info else "",
        parent=read_u32(attributes[_IFLA_LINK], "IFLA_LINK") if _IFLA_LINK in attributes else 0,
        loopback=bool(flags & _IFF_LOOPBACK),
        inet6=_inet6_conf(attributes.get(_IFLA_AF_SPEC)),
    )


@lru_cache(_REMEMBERED)
def _inet6_conf(af_spec: bytes | None) -> Inet6Conf | None:
    """IFLA_AF_SPEC > AF_INET6 > IFLA_INET6_CONF: an array of s32. None where the link has no IPv6 (or the kernel none). Remembered."""
    values = read_nested(read_nested(af_spec).get(AF_INET6)).get(_IFLA_INET6_CONF)
    if values is None:
        return None
    if len(values) < 4 * _DEVCONF_NEEDED:
        raise ParseError("IFLA_INET6_CONF is too short")
    return Inet6Conf(
        forwarding=_I32.unpack_from(values, 4 * _DEVCONF_FORWARDING)[0],
        accept_ra=_I32.unpack_from(values, 4 * _DEVCONF_ACCEPT_RA)[0],
        disable_ipv6=_I32.unpack_from(values, 4 * _DEVCONF_DISABLE_IPV6)[0],
    )


def parse_addresses(data: bytes, names: Mapping[int, str]) -> tuple[AddressFact, ...]:
    """The addresses of a dump. `names`: links by index; an address whose link is not among them (it came later) gets "#INDEX"."""
    found = []
    for kind, start, end in split_messages(data):
        if kind != _RTM_NEWADDR:
            continue
        if end - start < _IFADDRMSG.size:
            raise ParseError("an address message ends early")
        family, length, flags, scope, index = _IFADDRMSG.unpack_from(data, start)
        if family not in _FAMILIES:
            continue
        attributes = read_attributes(data, start + _IFADDRMSG.size, end)
        value = attributes.get(_IFA_LOCAL, attributes.get(_IFA_ADDRESS))
        if value is None:
            raise ParseError("an address message without an address")
        if _IFA_FLAGS in attributes:
            flags = read_u32(attributes[_IFA_FLAGS], "IFA_FLAGS")
        found.append(
            AddressFact(
                link=names.get(index) or f"#{index}",
                interface=read_interface(family, value, length),
                scope=_SCOPES.get(scope) or str(scope),
                tentative=bool(flags & _F_TENTATIVE),
                dadfailed=bool(flags & _F_DADFAILED),
                deprecated=bool(flags & _F_DEPRECATED),
                temporary=family == AF_INET6 and bool(flags & _F_TEMPORARY),
                permanent=bool(flags & _F_PERMANENT),
                valid_seconds=_valid_seconds(attributes.get(_IFA_CACHEINFO)),
            )
        )
    return tuple(found)


def _valid_seconds(cacheinfo: bytes | None) -> int | None:
    if cacheinfo is None:
        return None
    if len(cacheinfo) < _CACHEINFO.size:
        raise ParseError("IFA_CACHEINFO is too short")
    valid: int = _CACHEINFO.unpack_from(cacheinfo)[1]
    return None if valid == _FOREVER else valid
