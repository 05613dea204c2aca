"""Metrics of name resolution: lookups, how a resolver withholds AAAA, and what each libc would return."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from exporter.catalogue.metric import FinishedRound, Metric, Row, counter, gauge
from exporter.catalogue.totals import LookupKey, lookup_key

# Kinds of dualstack_dns_aaaa_block, a closed set (contract section 8).
BLOCK_KINDS = (
    "none",
    "blanket_nodata",
    "blanket_nxdomain",
    "filtered",
    "refused",
    "servfail",
    "dropped",
    "sinkhole",
    "dns64",
    "undecided",
)
LOOKUP = ("vantage", "server", "name", "qtype", "ip_family", "outcome")


def lookups(source: FinishedRound) -> Iterator[Row]:
    made: Counter[LookupKey] = Counter(lookup_key(lookup) for lookup in source.snapshot.lookups)
    return ((key, float(count)) for key, count in made.items())


def lookups_total(source: FinishedRound) -> Iterator[Row]:
    return ((key, float(count)) for key, count in source.totals.lookups.items())


def aaaa_block(source: FinishedRound) -> Iterator[Row]:
    """A state set: for each server one series a kind, exactly one of which is 1."""
    for server, found in source.report.aaaa_blocks.items():
        for kind in BLOCK_KINDS:
            yield (server, kind), float(kind == found)


def resolver_prediction(source: FinishedRound) -> Iterator[Row]:
    return ((key, float(pods)) for key, pods in source.report.predictions.items())


DNS: tuple[Metric[FinishedRound], ...] = (
    gauge("dns_lookups", "DNS questions of the last finished round, by how they ended.", LOOKUP, lookups),
    counter("dns_lookups_total", "DNS questions, by how they ended.", LOOKUP, lookups_total),
    gauge(
        "dns_aaaa_block",
        "How a resolver withholds AAAA records: one series a kind, 1 for the one that holds.",
        ("server", "kind"),
        aaaa_block,
    ),
    gauge(
        "resolver_prediction",
        "Pods for which this libc's getaddrinfo would return this for the name (request: any family, 4 or 6).",
        ("libc", "name", "request", "result"),
        resolver_prediction,
    ),
)
