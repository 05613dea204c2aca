"""Addresses in text as each libc reads them: in a resolv.conf, and as the name that is resolved. Pure.

Both read IPv4 as inet_aton does: one to four numbers, decimal, octal or hexadecimal. Sources: glibc inet_addr.c,
inet6_scopeid_pton.c and getaddrinfo.c, musl inet_aton.c and lookup_ipliteral.c.
"""

from __future__ import annotations

import ipaddress
import re
from ipaddress import IPv4Address, IPv6Address

from exporter.model.family import LINK

NUMBER = re.compile(r"0[xX][0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*")
LARGEST = {1: 2**32, 2: 2**24, 3: 2**16, 4: 2**8}  # what the last of so many numbers stays below
LONGEST_NUMBER = 64  # digits; ours
NODE_LOCAL_GROUP = ipaddress.IPv6Network("ff01::/16")
LINK_LOCAL_GROUP = ipaddress.IPv6Network("ff02::/16")


def read_ipv4(text: str) -> IPv4Address | None:
    """inet_aton, to the end of the text."""
    parts = text.split(".")
    if not all(NUMBER.fullmatch(part) and len(part) <= LONGEST_NUMBER for part in parts):
        return None
    *first, last = (int(part, 16 if part[1:2] in "xX" and part[1:] else 8 if part[0] == "0" else 10) for part in parts)
    if len(parts) not in LARGEST or last >= LARGEST[len(parts)] or any(number > 255 for number in first):
        return None
    return IPv4Address(sum(number << 24 - 8 * place for place, number in enumerate(first)) + last)


def read_ipv6(text: str) -> tuple[IPv6Address, str | None] | None:
    """The address, and what stands behind a percent sign; None if it is no IPv6 address."""
    bare, sign, scope = text.partition("%")
    try:
        return IPv6Address(bare), scope if sign else None
    except ValueError:
        return None


def read_address(text: str) -> tuple[IPv4Address | IPv6Address, str | None] | None:
    """A name that every libc takes for an address, or for a broken one, and asks nobody."""
    address = read_ipv4(text)
    return read_ipv6(text) if address is None else (address, None)


def has_link(address: IPv6Address, scope: str, *, musl: bool) -> bool:
    """Whether the libc takes this scope of the address: a number, or a link's name where addresses have links.

    Whether such a link exists is not looked at.
    """
    if re.fullmatch("[0-9]+", scope):
        return len(scope) <= LONGEST_NUMBER and int(scope) < 2**32
    linked = address.is_link_local or address in LINK_LOCAL_GROUP or (not musl and address in NODE_LOCAL_GROUP)
    return linked and LINK.fullmatch(scope) is not None
