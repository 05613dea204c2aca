"""The minimal set of questions from which one nameserver's AAAA verdict is taken (measured; RFC 2308, RFC 7050). Pure.

Per name: A, AAAA, and MX as the baseline of whether this server puts an SOA into negative answers. A random sibling's A
and AAAA: an NXDOMAIN is a name's, not a type's, so honest servers agree on it. ipv4only.arpa's AAAA tells DNS64. Inside
the cluster domain alone the set needs no outside network.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from exporter.plan.dns_names import is_inside

CANARY, RANDOM = "canary", "random"
DNS64_NAME = "ipv4only.arpa"  # RFC 7050: has A only; an AAAA is synthesised


class WantedQuestion(NamedTuple):
    """One question: the absolute name, its type, and the label under which metrics show it."""

    name: str
    qtype: str
    label: str


def verdict_set(*, canary: str, domain: str, names: Iterable[str], random: str) -> tuple[WantedQuestion, ...]:
    """`canary`: a Service's absolute name, "" without one; `names`: control names. Only those outside the domain lead outside."""
    wanted: list[WantedQuestion] = []
    if domain:
        parent = canary.split(".", 1)[1] if canary else f"default.svc.{domain}"
        wanted += _named(canary, CANARY) if canary else []
        wanted += _sibling(random, parent)
    control = tuple(dict.fromkeys(names))
    for name in control:
        wanted += _named(name, name)
    outside = [name for name in control if not is_inside(name, domain)]
    if outside:
        wanted += _sibling(random, outside[0])
        wanted.append(WantedQuestion(DNS64_NAME, "AAAA", DNS64_NAME if DNS64_NAME in outside else CANARY))
    return tuple(dict.fromkeys(wanted))


def _named(name: str, label: str) -> list[WantedQuestion]:
    return [WantedQuestion(name, qtype, label) for qtype in ("A", "AAAA", "MX")]


def _sibling(random: str, parent: str) -> list[WantedQuestion]:
    return [WantedQuestion(f"{random}.{parent}", qtype, RANDOM) for qtype in ("A", "AAAA")]
