"""The two address families, and addresses as plain values. Every other module may use it; it imports no other."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from enum import StrEnum
from typing import TypeAlias, TypeVar

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
Net: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network
Interface: TypeAlias = ipaddress.IPv4Interface | ipaddress.IPv6Interface
Some = TypeVar("Some", Address, Interface)


class Family(StrEnum):
    """An address family. The values are those of the Kubernetes API's IPFamily and of the label `ip_family`."""

    V4 = "IPv4"
    V6 = "IPv6"

    @property
    def other(self) -> Family:
        return Family.V6 if self is Family.V4 else Family.V4


LINK = re.compile(r"[!-$&-~]{1,15}")  # a link's name or number (IFNAMSIZ of linux/if.h)
FAMILIES = (Family.V4, Family.V6)


def family_of(value: Address | Net | Interface) -> Family:
    """The family of an address or network. An IPv4-mapped IPv6 address is IPv6 here: unmap it on input."""
    return Family.V6 if value.version == 6 else Family.V4


def is_destination(address: Address) -> bool:
    """Whether packets to it leave this host over its own family.

    Not to the unspecified, a loopback or a multicast address, an IPv4-mapped one (RFC 4291 section 2.5.5.2: IPv4 on the
    wire), or a link-local IPv6 one without its link.
    """
    if address.is_unspecified or address.is_loopback or address.is_multicast:
        return False
    return not isinstance(address, ipaddress.IPv6Address) or not (address.ipv4_mapped or address.is_link_local)


def contains(outer: Net, inner: Net) -> bool:
    """Whether the outer network includes all of the inner one; never across families."""
    return outer.version == inner.version and outer.supernet_of(inner)  # type: ignore[arg-type]  # versions are equal


def first_of(family: Family, values: Iterable[Some]) -> Some | None:
    """The first of the values that is of the family."""
    return next((value for value in values if family_of(value) is family), None)


def parse_address(text: object) -> Address | None:
    """An address from foreign text; IPv4-mapped IPv6 is unmapped (RFC 4291 2.5.5.2); None for anything else."""
    if not isinstance(text, str):
        return None
    try:
        address = ipaddress.ip_address(text.strip().split("%", 1)[0])
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def parse_net(text: object) -> Net | None:
    """A network from foreign text, host bits allowed; anything else is None."""
    if not isinstance(text, str):
        return None
    try:
        return ipaddress.ip_network(text.strip(), strict=False)
    except ValueError:
        return None
