"""A resolv.conf as each libc reads it: bytes to model.dns.ResolvConf. Pure; between broker or file, and plan.

The file belongs to a pod and may contain anything: the result is bounded, nothing raises. Sources: resolv.conf(5),
glibc resolv/res_init.c, musl src/network/resolvconf.c and lookup_name.c.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from ipaddress import IPv6Address
from itertools import islice

from exporter.libc.numeric import has_link, read_ipv4, read_ipv6
from exporter.model.dns import ResolvConf
from exporter.model.family import Address

NAMESERVER_LIMIT = 3  # MAXNS of both
NDOTS_LIMIT, TIMEOUT_LIMIT, ATTEMPTS_LIMIT = 15, 30, 5  # RES_MAXNDOTS, RES_MAXRETRANS, RES_MAXRETRY
MUSL_TIMEOUT_LIMIT, MUSL_ATTEMPTS_LIMIT = 60, 10
SEARCH_LIMIT = 32  # ours: glibc has none since 2.26, Kubernetes admits 32
LONGEST_DOMAIN = 254  # characters kept of one that fits into no query
SILENT = IPv6Address("100::")  # of the discard prefix (RFC 6666): stands for one whose replies are not taken
MUSL_LINE = 254  # bytes without the newline: a longer line does not fit musl's buffer of 256 and is skipped whole
SIZE_LIMIT = 64 * 1024  # bytes, as much as the broker reads
BLANK = re.compile(r"[ \t]+")
SPACE = re.compile(r"[ \t\n\v\f\r]+")  # isspace
ATOI = re.compile(r"[ \t\n\v\f\r]*([+-]?[0-9]*)")
NUMBERS = ("ndots", "timeout", "attempts")
MUSL_NUMBERS = {"ndots": r"ndots:([0-9]+)?", "timeout": r"timeout:([0-9]+)?", "attempts": r"attempts:([0-9]+)?"}
FLAGS = (
    *("rotate", "edns0", "single-request-reopen", "single-request", "no-tld-query", "no_tld_query", "no-reload"),
    *("use-vc", "trust-ad", "no-aaaa"),
)  # a longer one stands before its beginning


def parse_resolv_conf(content: bytes) -> ResolvConf:
    """Never fails. A file without a nameserver gives none, although a libc then asks 127.0.0.1."""
    text = content[:SIZE_LIMIT].decode("latin-1")
    glibc = _as_glibc(text)
    musl = replace(_as_musl(text), options=glibc.options)
    return glibc if musl == glibc else replace(glibc, musl=musl)


def _as_glibc(text: str) -> ResolvConf:
    """res_init.c, res_vinit_1: keywords end in a blank or a tab, and other white space belongs to the words."""
    servers: list[Address] = []
    search: list[str] = []
    numbers: dict[str, int] = {}
    flags: set[str] = set()
    for line in text.split("\n"):
        keyword, *rest = BLANK.split(line.split("\0", 1)[0], maxsplit=1)
        words = BLANK.split(rest[0]) if rest else []
        if keyword == "nameserver" and words:
            servers += _glibc_nameserver(words[0])
        elif keyword in {"search", "domain"} and words and words[0]:
            search = words if keyword == "search" else words[:1]
        elif keyword == "options" and rest:
            _read_options(rest[0], numbers, flags)
    return ResolvConf(
        nameservers=tuple(servers[:NAMESERVER_LIMIT]),
        search=_search(search),
        # A field of four bits: what is negative becomes large.
        ndots=min(numbers.get("ndots", 1), NDOTS_LIMIT) & NDOTS_LIMIT,
        timeout=max(0, min(numbers.get("timeout", 5), TIMEOUT_LIMIT)),
        attempts=max(0, min(numbers.get("attempts", 2), ATTEMPTS_LIMIT)),
        options=frozenset(flags),
    )


def _glibc_nameserver(word: str) -> Iterator[Address]:
    """A link that it does not accept is left away."""
    address: Address | None = read_ipv4(word)
    if address is None and (found := read_ipv6(word)) is not None:
        address, scope = found
        address = _linked(address, scope) if scope and has_link(address, scope, musl=False) else _plain(address)
    if address is not None:
        yield address


def _linked(address: IPv6Address, scope: str) -> Address:
    """With its link, where that counts for the kernel."""
    return IPv6Address(f"{address}%{scope}") if address.is_link_local else _plain(address)


def _plain(address: IPv6Address) -> Address:
    return address.ipv4_mapped or address


def _read_options(text: str, numbers: dict[str, int], flags: set[str]) -> None:
    """res_setoptions: each word by how it begins; the last number wins, and atoi reads it, which may be in the next."""
    for word in re.finditer(r"[^ \t]+", text):
        name, colon, _ = word[0].partition(":")
        if colon and name in NUMBERS:
            numbers[name] = _atoi(text[word.start() + len(name) + 1 :])
        else:
            flags |= {flag.replace("_", "-") for flag in islice(filter(word[0].startswith, FLAGS), 1)}


def _atoi(text: str) -> int:
    """Strtol as an int: what is too large for a long is its greatest value, of which the lower half is left."""
    found = ATOI.match(text)
    digits = found[1] if found else ""
    if digits in {"", "+", "-"}:
        return 0
    large = 2**63 - 1 if digits[0] != "-" else -(2**63)
    number = large if len(digits) > 20 else max(-(2**63), min(int(digits), 2**63 - 1))
    return (number + 2**31) % 2**32 - 2**31


def _as_musl(text: str) -> ResolvConf:
    """resolvconf.c: any white space ends a keyword; a domain line is a search line; numbers may stand anywhere."""
    servers: list[Address] = []
    search: list[str] = []
    numbers = {"ndots": 1, "timeout": 5, "attempts": 2}
    for line in _musl_lines(text):
        keyword, *words = SPACE.split(line)
        if not words:
            continue
        if keyword == "options":
            found = {name: match[1] for name, what in MUSL_NUMBERS.items() if (match := re.search(what, line))}
            numbers.update({name: int(digits[:9]) for name, digits in found.items() if digits})
        elif keyword == "nameserver":
            servers += _musl_nameserver(words[0])
        elif keyword in {"search", "domain"}:
            search = [word for word in words if word]
    return ResolvConf(
        nameservers=tuple(servers[:NAMESERVER_LIMIT]),
        search=_search(search),
        ndots=min(numbers["ndots"], NDOTS_LIMIT),
        timeout=min(numbers["timeout"], MUSL_TIMEOUT_LIMIT),
        attempts=min(numbers["attempts"], MUSL_ATTEMPTS_LIMIT),
    )


def _musl_lines(text: str) -> Iterator[str]:
    """Fgets into 256 bytes; where no newline is seen in them, all is skipped up to the next one that is read."""
    at = 0
    while at < len(text):
        end = text.find("\n", at, at + MUSL_LINE + 1)
        line = text[at : end + 1] if end >= 0 else text[at : at + MUSL_LINE + 1]
        at += len(line)
        seen = line.split("\0", 1)[0]
        if "\n" in seen or (end < 0 and len(line) <= MUSL_LINE):
            yield seen
        else:
            at = text.find("\n", at) + 1 or len(text)


def _musl_nameserver(word: str) -> Iterator[Address]:
    """Without a link that it accepts it is no nameserver."""
    address = read_ipv4(word)
    if address is not None:
        yield address
    elif (found := read_ipv6(word)) is not None:
        bare, scope = found
        if scope is None:
            yield _plain(bare)
        elif has_link(bare, scope, musl=True):
            # It compares the scopes of replies, which the kernel gives to link-local addresses alone.
            yield _linked(bare, scope) if bare.is_link_local or not int(scope) else SILENT


def _search(words: Iterable[str]) -> tuple[str, ...]:
    """Domains as text: other octets than printable ones as in a zone file (RFC 1035 section 5.1).

    "." alone is the root, which each libc treats in its own way.
    """
    found = (re.sub("[^!-~]", lambda odd: f"\\{ord(odd[0]):03}", word[:LONGEST_DOMAIN]) for word in words if word)
    return tuple(islice((word.removesuffix(".") or word for word in found), SEARCH_LIMIT))
