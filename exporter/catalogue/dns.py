"""Metrics of name resolution: lookups, how a resolver withholds AAAA, and what each libc would return."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from exporter.catalogue.metric import FinishedRound, Metric, Row, counter, gauge
from exporter.catalogue.totals import lookup_key
from exporter.model.dns import BlockKind

LOOKUP = ("vantage", "server", "name", "qtype", "ip_family", "outcome")


def aaaa_block(source: FinishedRound) -> Iterator[Row]:
    """A state set: for each server one series a kind, exactly one of which is 1."""
    for server, found in source.report.aaaa_blocks.items():
        for kind in BlockKind:
            yield (server, kind.value), float(kind is found)


# fmt: off
DNS: tuple[Metric[FinishedRound], ...] = (
    gauge("dns_lookups", "DNS queries of the last finished round, by outcome.", LOOKUP,
          lambda source: Counter(map(lookup_key, source.snapshot.lookups)).items()),
    counter("dns_lookups_total", "DNS queries, by outcome.", LOOKUP, lambda source: source.totals.lookups.items()),
    gauge("dns_aaaa_block", "How a resolver withholds AAAA records: one series per kind, 1 for the one that applies.",
          ("server", "kind"), aaaa_block),
    gauge("resolver_prediction",
          "Pods in which getaddrinfo of this libc would return this result for the name (request: any family, 4 or 6).",
          ("libc", "name", "request", "result"), lambda source: source.report.predictions.items()),
)
# fmt: on
