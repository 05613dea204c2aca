"""Counters and histograms as one frozen value, added up over rounds. Between report and catalogue; no I/O, no clock.

`add_round(previous, report)` is called once for each finished round. Only what a round itself did is added: kept
results of earlier rounds were counted when they were made.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from exporter.model.facts import Backend, NatFacts
from exporter.model.family import Family
from exporter.model.probe import Lookup, Observation
from exporter.model.report import Report

# Upper bounds of the duration buckets in seconds, without +Inf: from a neighbour node to what users call slow. Few,
# because each costs one series per probe and node.
BOUNDS = (0.0005, 0.002, 0.01, 0.1, 1.0)

ProbeKey: TypeAlias = tuple[str, str, str, str]  # vantage, target, layer, ip_family
ProbeOutcomeKey: TypeAlias = tuple[str, str, str, str, str]  # ..., outcome
LookupKey: TypeAlias = tuple[str, str, str, str, str, str]  # vantage, server, name, qtype, ip_family, outcome
NatKey: TypeAlias = tuple[Family, Backend]


@dataclass(frozen=True, slots=True)
class Histogram:
    """Counts per bucket (not cumulative, the last is +Inf) and the sum of what was observed, in seconds."""

    counts: tuple[int, ...] = (0,) * (len(BOUNDS) + 1)
    sum: float = 0.0

    def with_value(self, seconds: float) -> Histogram:
        """This histogram with one more value."""
        at = bisect_left(BOUNDS, seconds)
        return Histogram((*self.counts[:at], self.counts[at] + 1, *self.counts[at + 1 :]), self.sum + seconds)

    @property
    def count(self) -> int:
        return sum(self.counts)

    @property
    def cumulative(self) -> tuple[int, ...]:
        """Counts as Prometheus writes them: each bucket includes those below it."""
        total = 0
        return tuple(total := total + count for count in self.counts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """Everything counted since the process started. `nat_seen`: the kernel's last values, to notice a reset."""

    probes: Mapping[ProbeOutcomeKey, int] = field(default_factory=dict)
    lookups: Mapping[LookupKey, int] = field(default_factory=dict)
    durations: Mapping[ProbeKey, Histogram] = field(default_factory=dict)
    nat_packets: Mapping[NatKey, int] = field(default_factory=dict)
    nat_seen: Mapping[NatKey, int] = field(default_factory=dict)


def probe_key(observation: Observation) -> ProbeKey:
    """The labels under which a probe is counted."""
    return (observation.vantage.kind, observation.target.name, observation.layer.value, observation.family.value)


def lookup_key(lookup: Lookup) -> LookupKey:
    """The labels under which a lookup is counted; `ip_family` is that of the nameserver's address."""
    asked, server = lookup.question, lookup.question.server
    return (asked.vantage.kind, server.label, asked.label, asked.qtype, server.family.value, lookup.outcome.value)


def add_round(previous: Totals, report: Report) -> Totals:
    """The totals after one more finished round."""
    snapshot = report.snapshot
    probes = Counter(previous.probes)
    durations = dict(previous.durations)
    for observation in snapshot.observations:
        key = probe_key(observation)
        probes[(*key, observation.outcome.value)] += 1
        if observation.passed and observation.seconds is not None:
            durations[key] = durations.get(key, Histogram()).with_value(observation.seconds)
    lookups = Counter(previous.lookups)
    lookups.update(lookup_key(lookup) for lookup in snapshot.lookups)
    packets, seen = _add_nat(previous, snapshot.kernel.nat)
    return Totals(probes=probes, lookups=lookups, durations=durations, nat_packets=packets, nat_seen=seen)


def _add_nat(previous: Totals, nat: NatFacts | None) -> tuple[Mapping[NatKey, int], Mapping[NatKey, int]]:
    """Add what the kernel's packet counters grew by; a counter that fell was rewritten by Felix and started at 0."""
    if nat is None:
        return previous.nat_packets, previous.nat_seen
    packets, seen = dict(previous.nat_packets), dict(previous.nat_seen)
    for backend in nat.backends:
        key = (backend.family, backend.backend)
        last = seen.get(key, 0)
        grown = backend.packets - last if backend.packets >= last else backend.packets
        packets[key] = packets.get(key, 0) + grown
        seen[key] = backend.packets
    return packets, seen
