"""Netlink framing: messages of a dump, attributes of a message (linux/netlink.h). Pure; every other parser here builds on it.

A small walk over structs in place of a general decoder: a dump of 5,000 peers is read every round.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network

from exporter.kernel.decode.parse_error import ParseError
from exporter.model.family import Address, Interface, Net

AF_INET = 2
AF_INET6 = 10

_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_TYPE_MASK = 0x3FFF  # without NLA_F_NESTED and NLA_F_NET_BYTEORDER
_U8, _U16, _U32 = struct.Struct("=B"), struct.Struct("=H"), struct.Struct("=I")
_BE16, _BE32, _BE64 = struct.Struct("!H"), struct.Struct("!I"), struct.Struct("!Q")

_REMEMBERED = 1 << 15  # values of pure functions: some MiB at most

Attributes = dict[int, bytes]


def split_messages(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Type, start of the body and end of each message."""
    offset = 0
    size = len(data)
    unpack = _HEADER.unpack_from
    while offset < size:
        if size - offset < 16:
            raise ParseError("a netlink message ends early")
        length, kind, _, _, _ = unpack(data, offset)
        if not 16 <= length <= size - offset:
            raise ParseError("a netlink message of impossible length")
        yield kind, offset + 16, offset + length
        offset += (length + 3) & -4


def read_attributes(data: bytes, start: int, end: int) -> Attributes:
    """The attributes between two offsets, by type. Of a repeated type the last one counts, as in the kernel."""
    found: Attributes = {}
    unpack = _ATTRIBUTE.unpack_from
    try:
        while start < end:
            length, kind = unpack(data, start)
            if length < 4:
                raise ParseError("an attribute of impossible length")
            found[kind & _TYPE_MASK] = data[start + 4 : start + length]
            start += (length + 3) & -4
    except struct.error:
        raise ParseError("an attribute ends early") from None
    if start > end + 3:
        raise ParseError("an attribute of impossible length")
    return found


def pick_attributes(data: bytes, start: int, end: int, wanted: frozenset[int]) -> Attributes:
    """As read_attributes, of the wanted types alone: a link has dozens."""
    found: Attributes = {}
    unpack = _ATTRIBUTE.unpack_from
    try:
        while start < end:
            length, kind = unpack(data, start)
            if length < 4:
                raise ParseError("an attribute of impossible length")
            if kind & _TYPE_MASK in wanted:
                found[kind & _TYPE_MASK] = data[start + 4 : start + length]
            start += (length + 3) & -4
    except struct.error:
        raise ParseError("an attribute ends early") from None
    if start > end + 3:
        raise ParseError("an attribute of impossible length")
    return found


def read_nested(value: bytes | None) -> Attributes:
    """The attributes inside an attribute; none where it is absent."""
    return read_attributes(value, 0, len(value)) if value else {}


def list_nested(value: bytes) -> Iterator[tuple[int, bytes]]:
    """The attributes inside an attribute in order, repeated types included."""
    start = 0
    end = len(value)
    while start < end:
        if end - start < 4:
            raise ParseError("an attribute ends early")
        length, kind = _ATTRIBUTE.unpack_from(value, start)
        if not 4 <= length <= end - start:
            raise ParseError("an attribute of impossible length")
        yield kind & _TYPE_MASK, value[start + 4 : start + length]
        start += (length + 3) & ~3


def _read_number(layout: struct.Struct, value: bytes | None, what: str) -> int:
    if value is None:
        raise ParseError(f"{what} is missing")
    if len(value) != layout.size:
        raise ParseError(f"{what} has {len(value)} bytes")
    number: int = layout.unpack(value)[0]
    return number


def read_u8(value: bytes | None, what: str) -> int:
    return _read_number(_U8, value, what)


def read_u16(value: bytes | None, what: str) -> int:
    return _read_number(_U16, value, what)


def read_u32(value: bytes | None, what: str) -> int:
    return _read_number(_U32, value, what)


def read_be16(value: bytes | None, what: str) -> int:
    return _read_number(_BE16, value, what)


def read_be32(value: bytes | None, what: str) -> int:
    return _read_number(_BE32, value, what)


def read_be64(value: bytes | None, what: str) -> int:
    return _read_number(_BE64, value, what)


def read_text(value: bytes | None, what: str) -> str:
    """A NUL-terminated name. Bytes that are no UTF-8 come out as escapes: names are for comparing and for people."""
    if value is None:
        raise ParseError(f"{what} is missing")
    return value.split(b"\0", 1)[0].decode(errors="backslashreplace")


@lru_cache(_REMEMBERED)
def read_address(family: int, value: bytes) -> Address:
    """An address of AF_INET or AF_INET6, by family and length. Remembered: the same ones come in every round."""
    if family == AF_INET6 and len(value) == 16:
        return IPv6Address(value)
    if family == AF_INET and len(value) == 4:
        return IPv4Address(value)
    raise ParseError(f"an address of family {family} with {len(value)} bytes")


@lru_cache(_REMEMBERED)
def read_interface(family: int, value: bytes, length: int) -> Interface:
    """An address with the length of its prefix. Remembered."""
    address = read_address(family, value)
    if length > address.max_prefixlen:
        raise ParseError(f"a prefix length of {length}")
    return IPv6Interface((int(address), length)) if address.version == 6 else IPv4Interface((int(address), length))


@lru_cache(_REMEMBERED)
def read_network(family: int, value: bytes, length: int) -> Net:
    """A network. Remembered. Malformed where bits of the host part are set."""
    address = read_address(family, value)
    try:
        return IPv6Network((value, length)) if address.version == 6 else IPv4Network((value, length))
    except ValueError as error:
        raise ParseError(f"a network: {error}") from None


@lru_cache(_REMEMBERED)
def read_mac(value: bytes) -> str:
    """A link-layer address as text; "" for those that are no Ethernet address (tunnels have others). Remembered."""
    return value.hex(":") if len(value) == 6 else ""
