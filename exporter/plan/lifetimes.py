"""How long what nameservers said of a target's name may be used, and which names are asked next. Pure; probes/target_resolver.py carries it out."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from typing import TypeVar

from exporter.model.probe import NEUTRAL, Layer, Lookup, LookupOutcome, Observation, Outcome

LONGEST = 60.0  # seconds for which addresses are used, whatever their TTL says above that
LONGEST_NONE = 30.0  # the same of the answer that there are none
K = TypeVar("K", bound=Hashable)


def lifetime(lookup: Lookup) -> float:
    """Seconds for which this answer may be used; 0 for what is no answer.

    Addresses: the least TTL of the CNAME chain and of the records. None of them: what the SOA says (RFC 2308 section
    5), and no longer than the chain that leads there; without an SOA it is not kept.
    """
    reply = lookup.reply
    if reply is None:
        return 0.0
    if lookup.outcome is LookupOutcome.ANSWER:
        return min(LONGEST, max(0, reply.ttl or 0))
    if lookup.outcome in {LookupOutcome.NODATA, LookupOutcome.NXDOMAIN} and reply.negative_ttl is not None:
        chain = reply.negative_ttl if reply.ttl is None else reply.ttl
        return min(LONGEST_NONE, max(0, min(reply.negative_ttl, chain)))
    return 0.0


def doubtful(observations: Iterable[Observation]) -> frozenset[str]:
    """The host names whose addresses were dialled in vain. An echo that fails beside a connection that is made is no reason."""
    return frozenset(
        o.target.host
        for o in observations
        if not o.passed
        and o.outcome not in NEUTRAL
        and o.outcome is not Outcome.NO_ADDRESS
        and (o.layer is not Layer.ICMP or o.target.deepest is Layer.ICMP)
    )


def admitted(due: Mapping[K, float], costs: Mapping[K, int], least: int, budget: int) -> frozenset[K]:
    """Which of the names that are due may ask in this round: those asked longest ago, as far as the budget suffices.

    `due`: when each was last answered; `costs`: questions that each took, `least` where that is not known. The first
    one may ask in any case, since it is told when the budget is used up, and nothing could ask otherwise.
    """
    chosen: set[K] = set()
    spent = 0
    for key in sorted(due, key=lambda each: due[each]):  # stable: those of one age in the order given, which turns
        spent += costs.get(key, least)
        if chosen and spent > budget:
            break
        chosen.add(key)
    return frozenset(chosen)
