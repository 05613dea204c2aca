"""Parses the small files of /proc: conntrack's use and limit, IPv6 counters, forwarding switches. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from exporter.kernel.decode import ParseError
from exporter.model.facts import Inet6Conf

_OFF = Inet6Conf(forwarding=0, accept_ra=0, disable_ipv6=1)
_LONGEST = 20  # digits of a 64-bit number, with its sign


def parse_values(data: bytes) -> Mapping[str, int]:
    """Lines of "name value", numbers."""
    found = {}
    for line in data.splitlines():
        name, _, value = line.partition(b" ")
        found[name.decode(errors="backslashreplace")] = _number(value)
    return found


def _number(text: bytes) -> int:
    text = text.strip()
    if not text.removeprefix(b"-").isdigit() or len(text) > _LONGEST:
        raise ParseError("a value that is no number")
    return int(text)


def parse_conntrack(data: bytes) -> tuple[int | None, int | None]:
    """Entries in use and the limit; None where conntrack is not loaded."""
    found = parse_values(data)
    return found.get("count"), found.get("max")


def parse_checksum_errors(data: bytes) -> int | None:
    """Udp6InCsumErrors of /proc/net/snmp6; None on a kernel that does not count them."""
    for line in data.splitlines():
        words = line.split()
        if len(words) == 2 and words[0] == b"Udp6InCsumErrors":
            return _number(words[1])
    return None


def parse_all_conf(data: bytes) -> tuple[Inet6Conf | None, bool | None]:
    """net.ipv6.conf.all and net.ipv4.ip_forward; None for what was not read.

    A kernel that was started with IPv6 off has none of its files: that is IPv6 disabled.
    """
    found = parse_values(data)
    forwarding = found.get("ipv4.forwarding")
    given = {name: found.get(f"ipv6.{name}") for name in ("forwarding", "accept_ra", "disable_ipv6")}
    values = {name: value for name, value in given.items() if value is not None}
    if len(values) == len(given):
        conf: Inet6Conf | None = Inet6Conf(**values)
    else:
        conf = _OFF if forwarding is not None and not values else None
    return conf, None if forwarding is None else forwarding != 0
