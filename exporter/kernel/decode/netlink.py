"""Netlink framing: messages of a dump, attributes of a message (linux/netlink.h). Pure; the other parsers build on it.

A small walk over structs in place of a general decoder, because a dump of 5,000 peers is read every round. Parsers see
attributes through the class Attributes only, so a parser of small dumps may take a message class of pyroute2 instead.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network

from exporter.kernel.decode import ParseError
from exporter.model.family import Address, Interface, Net

AF_INET = 2
AF_INET6 = 10

_HEADER = struct.Struct("=IHHII")
ATTRIBUTE = struct.Struct("=HH")
_TYPE_MASK = 0x3FFF  # without NLA_F_NESTED and NLA_F_NET_BYTEORDER
_REMEMBERED = 1 << 15  # values of pure functions: some MiB at most


def _number(code: str) -> Callable[[Attributes, int, str], int]:
    layout = struct.Struct(code)

    def read(found: Attributes, kind: int, what: str) -> int:
        value = found.get(kind)
        if value is None:
            raise ParseError(f"{what} is missing")
        if len(value) != layout.size:
            raise ParseError(f"{what} has {len(value)} bytes")
        number: int = layout.unpack(value)[0]
        return number

    return read


class Attributes(dict[int, bytes]):
    """Attributes by type. Of a repeated type the last one counts, as in the kernel. `what` is a name for errors."""

    __slots__ = ()

    u8, u16, u32 = _number("=B"), _number("=H"), _number("=I")
    be16, be32, be64 = _number("!H"), _number("!I"), _number("!Q")

    def nested(self, kind: int) -> Attributes:
        """The attributes inside an attribute; none where it is absent."""
        return read_nested(self.get(kind))

    def text(self, kind: int, what: str) -> str:
        """A NUL-terminated name. Bytes that are no UTF-8 become escapes: names are for comparing and for people."""
        value = self.get(kind)
        if value is None:
            raise ParseError(f"{what} is missing")
        return value.split(b"\0", 1)[0].decode(errors="backslashreplace")


def split_messages(
    data: bytes, kinds: frozenset[int] | range = range(1 << 16), header: int = 0, what: str = "a netlink"
) -> Iterator[tuple[int, int, int]]:
    """Type, start of the body and end of each message of these types. `header`: bytes that a body has at least."""
    offset = 0
    size = len(data)
    least = 16 + header
    unpack = _HEADER.unpack_from
    while offset < size:
        if size - offset < 16:
            raise ParseError("a netlink message ends early")
        length, kind, _, _, _ = unpack(data, offset)
        if not 16 <= length <= size - offset:
            raise ParseError("a netlink message of impossible length")
        if kind in kinds:
            if length < least:
                raise ParseError(f"{what} message ends early")
            yield kind, offset + 16, offset + length
        offset += (length + 3) & -4


def read_attributes(data: bytes, start: int, end: int, wanted: frozenset[int] | None = None) -> Attributes:
    """The attributes between two offsets, or those of the wanted types: a link has dozens."""
    found = Attributes()
    unpack = ATTRIBUTE.unpack_from
    try:
        while start < end:
            length, kind = unpack(data, start)
            if length < 4:
                raise ParseError("an attribute of impossible length")
            kind &= _TYPE_MASK
            if wanted is None or kind in wanted:
                found[kind] = data[start + 4 : start + length]
            start += (length + 3) & -4
    except struct.error:
        raise ParseError("an attribute ends early") from None
    if start > end + 3:
        raise ParseError("an attribute of impossible length")
    return found


def read_nested(value: bytes | None) -> Attributes:
    """The attributes inside an attribute; none where it is absent."""
    return read_attributes(value, 0, len(value)) if value else Attributes()


def list_nested(value: bytes) -> Iterator[tuple[int, bytes]]:
    """The attributes inside an attribute in order, repeated types included."""
    start = 0
    end = len(value)
    while start < end:
        if end - start < 4:
            raise ParseError("an attribute ends early")
        length, kind = ATTRIBUTE.unpack_from(value, start)
        if not 4 <= length <= end - start:
            raise ParseError("an attribute of impossible length")
        yield kind & _TYPE_MASK, value[start + 4 : start + length]
        start += (length + 3) & ~3


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
    return IPv6Interface((int(address), length)) if family == AF_INET6 else IPv4Interface((int(address), length))


@lru_cache(_REMEMBERED)
def read_network(family: int, value: bytes, length: int) -> Net:
    """A network. Remembered. ParseError where bits of the host part are set."""
    address = read_address(family, value)
    try:
        return IPv6Network((value, length)) if isinstance(address, IPv6Address) else IPv4Network((value, length))
    except ValueError as error:
        raise ParseError(f"a network: {error}") from None


@lru_cache(_REMEMBERED)
def read_mac(value: bytes) -> str:
    """A link-layer address as text; "" for those that are no Ethernet address (tunnels have others). Remembered."""
    return value.hex(":") if len(value) == 6 else ""
