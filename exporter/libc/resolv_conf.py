"""A resolv.conf as a libc reads it: bytes to model.dns.ResolvConf. Pure; between the broker, or a file, and the plan.

The file belongs to a pod and may contain anything: the result is bounded, nothing raises. Sources: resolv.conf(5),
glibc resolv/res_init.c, musl src/network/resolvconf.c and lookup_name.c. If the two differ, the fields musl_* are
musl's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import islice

from exporter.model.dns import ResolvConf
from exporter.model.family import Address, parse_scoped

NAMESERVER_LIMIT = 3  # MAXNS of both
NDOTS_LIMIT, TIMEOUT_LIMIT, ATTEMPTS_LIMIT = 15, 30, 5  # RES_MAXNDOTS, RES_MAXRETRANS, RES_MAXRETRY
SEARCH_LIMIT = 32  # ours: glibc has none since 2.26, Kubernetes admits 32
MUSL_LINE = 254  # bytes without the newline: a longer line does not fit musl's buffer of 256 and is skipped whole
SIZE_LIMIT = 64 * 1024  # bytes, as much as the broker reads
BLANK = re.compile(r"[ \t]+")
NUMBER = re.compile(r"(ndots|timeout|attempts):([0-9]{1,9})")
DOMAIN = re.compile(r"[!-~]{1,253}")
FLAG = re.compile(r"debug|edns0|inet6|no-aaaa|no-reload|no-tld-query|rotate|single-request(-reopen)?|trust-ad|use-vc")


def parse_resolv_conf(content: bytes) -> ResolvConf:
    """Never fails. A file without a nameserver gives none, although a libc would then ask 127.0.0.1."""
    lines = [line.split("\0", 1)[0] for line in content[:SIZE_LIMIT].decode("latin-1").split("\n")]
    short = [line for line in lines if len(line) <= MUSL_LINE]
    numbers, flags = _options(lines)
    return ResolvConf(
        nameservers=_nameservers(lines),
        search=_search(lines),
        ndots=min(numbers.get("ndots", 1), NDOTS_LIMIT),
        timeout=min(numbers.get("timeout", 5), TIMEOUT_LIMIT),
        attempts=min(numbers.get("attempts", 2), ATTEMPTS_LIMIT),
        options=flags,
        musl_search=_search(short, whole_domain_line=True),
        musl_nameservers=_nameservers(short),
    )


def _values(lines: Iterable[str], *keywords: str) -> Iterable[tuple[str, list[str]]]:
    """(keyword, words) of each line that starts with a keyword, at its very beginning, and a blank."""
    for line in lines:
        keyword, *words = BLANK.split(line)
        if keyword in keywords and words:
            yield keyword, [word for word in words if word]


def _nameservers(lines: Iterable[str]) -> tuple[Address, ...]:
    """The first three that are addresses, link-local ones with their link; text after the address is ignored."""
    texts = (re.split("[;#]", words[0], maxsplit=1)[0] for _, words in _values(lines, "nameserver") if words)
    found = (address for text in texts if (address := parse_scoped(text)) is not None)
    return tuple(islice(found, NAMESERVER_LIMIT))


def _search(lines: Iterable[str], *, whole_domain_line: bool = False) -> tuple[str, ...]:
    """The last search or domain line counts. musl reads a domain line like a search line, glibc only its first word."""
    found: list[str] = []
    for keyword, words in _values(lines, "search", "domain"):
        if words:
            found = words[:1] if keyword == "domain" and not whole_domain_line else words
    # "." alone is the root, which each libc treats in its own way.
    return tuple(word.removesuffix(".") or word for word in found if DOMAIN.fullmatch(word))[:SEARCH_LIMIT]


def _options(lines: Iterable[str]) -> tuple[dict[str, int], frozenset[str]]:
    """Numbers and known flags of all options lines; the last number wins, what is unknown is skipped."""
    numbers: dict[str, int] = {}
    flags: set[str] = set()
    for _, words in _values(lines, "options"):
        for word in words:
            number = NUMBER.match(word)
            if number is not None:
                numbers[number[1]] = int(number[2])
            elif FLAG.fullmatch(word):
                flags.add(word)
    return numbers, frozenset(flags)
