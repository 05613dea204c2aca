"""DNS zones as a Corefile writes them, and which lies in which. Pure; used by corefile.py and corefile_aaaa.py."""

from __future__ import annotations

from exporter.model.family import parse_net

ROOT = "."


def zone_of(text: str) -> str:
    """A zone as written, normalized: no transport, port, final dot or capitals; "." for the root, "" for a reverse zone."""
    name = text.partition("://")[2] or text
    head, colon, tail = name.rpartition(":")
    name = head if colon and tail.isdigit() else name
    if parse_net(name) is not None:
        return ""  # CIDR notation of a reverse zone
    name = name.rstrip(".").lower()
    return "" if is_reverse(name) else name or ROOT


def is_reverse(zone: str) -> bool:
    return zone.endswith(("in-addr.arpa", "ip6.arpa"))


def within(inner: str, outer: str) -> bool:
    """Whether every name of the zone `inner` lies in `outer`."""
    return outer in (ROOT, inner) or inner.endswith("." + outer)


def meet(zones: list[str], others: list[str]) -> list[str]:
    """The zones common to both lists: of two nested ones the inner."""
    found = [a if within(a, b) else b for a in zones for b in others if within(a, b) or within(b, a)]
    return list(dict.fromkeys(found))
