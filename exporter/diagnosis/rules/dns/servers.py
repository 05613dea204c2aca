"""DNS causes: what the nameservers that pods use withhold, or that they answer nothing. Pure rules over two rounds of lookups.

After the lookups, beside path.py; the verdict on a resolver stands in aaaa.py, the search list's in searchlist.py.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping

from exporter.diagnosis.engine.preconditions import bounded
from exporter.diagnosis.engine.rule_input import Judgement, Rule, RuleInput, finding
from exporter.diagnosis.rules.dns.aaaa import CRITICAL, WORST_FIRST, AaaaVerdict, aaaa_verdict, worst
from exporter.diagnosis.rules.dns.losses import answering_in_part, dns_answers_differ, dns_queries_lost
from exporter.diagnosis.rules.dns.samples import (
    UNSENT,
    Samples,
    called,
    cluster_domain,
    meant_to_reach,
    nothing_asked,
    samples,
    steadiness,
    truth,
)
from exporter.diagnosis.rules.dns.searchlist import dns_search_breaks_musl, predictions
from exporter.diagnosis.rules.dns.service_records import service_aaaa_missing
from exporter.model.dns_name import is_within
from exporter.model.family import Address
from exporter.model.probe import Lookup, LookupOutcome, Nameserver, Purpose
from exporter.model.reason import Reason
from exporter.model.report import Cause, Pair, Severity
from exporter.plan.family_support import under_policy

__all__ = ["DNS_RULES", "aaaa_blocks", "predictions"]

UNANSWERED = frozenset({LookupOutcome.TIMEOUT, LookupOutcome.UNREACHABLE})
LEAST = 3  # questions that a nameserver must leave unanswered
LEAST_OF_A_LOSSY_ONE = 10  # where it is known to answer some in a round, and others not


def aaaa_blocks(view: RuleInput) -> Mapping[str, str]:
    """Server label -> kind (dualstack_dns_aaaa_block); of several servers under one label the worst."""
    labels: dict[str, list[AaaaVerdict]] = {}
    for one, verdict in _verdicts(view, "AAAA"):
        labels.setdefault(one.server.label, []).append(verdict)
    return {label: found.kind.value for label, verdicts in labels.items() if (found := worst(verdicts)) is not None}


def dns_aaaa_blocked(view: RuleInput) -> Judgement:
    """A resolver that pods use, or that dns.servers names, withholds AAAA; info where that is on purpose."""
    return _blocked(view, Cause.DNS_AAAA_BLOCKED, "AAAA", on_purpose=view.expect.aaaa == "blocked")


def dns_a_blocked(view: RuleInput) -> Judgement:
    """The same of A."""
    return _blocked(view, Cause.DNS_A_BLOCKED, "A", on_purpose=False)


def _verdicts(view: RuleInput, qtype: str) -> list[tuple[Samples, AaaaVerdict]]:
    found = []
    for one in samples(view, Purpose.VERDICT):
        known = truth(view, one.now)
        steady = steadiness(view, one.server.address)
        found.append((one, aaaa_verdict(one.now, one.before, known, qtype=qtype, steadiness=steady)))
    return found


def _blocked(view: RuleInput, cause: Cause, qtype: str, *, on_purpose: bool) -> Judgement:
    verdicts = _verdicts(view, qtype)
    if not verdicts:
        return nothing_asked(view)
    held = [(one.server, verdict) for one, verdict in verdicts if verdict.withholds]
    if not held:
        return () if any(one.before for one, _ in verdicts) else Reason.TOO_FEW_SAMPLES
    held.sort(key=lambda item: (WORST_FIRST.index(item[1].kind), item[0].label, str(item[0].address)))
    kind = held[0][1].kind
    severity = Severity.CRITICAL if kind in CRITICAL else Severity.WARNING
    return (
        finding(
            cause,
            [server.subject for server, _ in held],
            evidence=bounded(
                f"{called(server)}, {verdict.kind}: {text}" for server, verdict in held for text in verdict.evidence
            ),
            command=_dig(held[0][0], held[0][1]),
            severity=Severity.INFO if on_purpose else severity,
            kind=kind.value,
        ),
    )


def _dig(server: Nameserver, verdict: AaaaVerdict) -> str:
    """The two questions whose answers show it."""
    name = verdict.evidence[0].partition(":")[0]
    return f"dig @{server.address} {name} A {name} AAAA"


def dns_unreachable(view: RuleInput) -> Judgement:
    """A nameserver leaves every question of a place unanswered, in two rounds and three questions at least."""
    now, before = _sent(view.snapshot.lookups), _sent(_earlier(view))
    if not now:
        return nothing_asked(view)
    restricted = under_policy(view.inventory)
    now, before = _meant(view, now), _meant(view, before)
    told = [one for one in now if (one.question.vantage.subject, one.question.server.family) not in restricted]
    if not now:
        return Reason.NO_TARGET
    if not told:
        return Reason.POLICY
    if not before:
        return Reason.TOO_FEW_SAMPLES
    domain = cluster_domain((*told, *before))
    told, before = _decisive(told, domain), _decisive(before, domain)
    lossy = answering_in_part(view)
    pairs = {pair: lost for pair, asked in _pairs(told).items() if (lost := _lost(pair, asked, told, before, lossy))}
    if not pairs:
        return ()
    places = {pair.vantage for pair in pairs}
    first = min(pairs, key=lambda pair: (pair.destination, pair.vantage))
    return (
        finding(
            Cause.DNS_UNREACHABLE,
            [pair.destination for pair in pairs],
            evidence=bounded(_silence(pair, asked) for pair, asked in sorted(pairs.items())),
            command=f"dig @{pairs[first][0].question.server.address} {pairs[first][0].question.name} A",
            severity=Severity.CRITICAL if len(places) > 1 else Severity.WARNING,
            pairs=pairs,
        ),
    )


def _meant(view: RuleInput, lookups: list[Lookup]) -> list[Lookup]:
    """What was asked by places that are meant to reach a nameserver over its family."""
    meant = meant_to_reach(view)
    return [one for one in lookups if meant(one.question.vantage, one.question.server.family)]


def _earlier(view: RuleInput) -> Iterable[Lookup]:
    """The round before; and of what is asked now the answer before, since the budget may let a nameserver wait for its turn."""
    last = view.previous.lookups if view.previous is not None else ()
    asked, known = {_key(one) for one in view.snapshot.lookups}, {id(one) for one in last}
    return (*last, *(o for o in view.snapshot.lookups_before if _key(o) in asked and id(o) not in known))


def _key(lookup: Lookup) -> tuple[Address, str, str, Purpose]:
    question = lookup.question
    return question.server.address, question.name, question.qtype, question.purpose


def _sent(lookups: Iterable[Lookup]) -> list[Lookup]:
    """What was asked of nameservers that pods use or that dns.servers names; a reference is neither."""
    return [one for one in lookups if one.outcome not in UNSENT and one.question.purpose is not Purpose.REFERENCE]


def _decisive(lookups: list[Lookup], domain: str) -> list[Lookup]:
    """Without questions about names outside the cluster's domain that got lost: who serves these may be the one that is silent."""
    return [
        one for one in lookups if not domain or one.outcome not in UNANSWERED or is_within(one.question.name, domain)
    ]


def _pairs(lookups: Iterable[Lookup]) -> dict[Pair, list[Lookup]]:
    """Lookups by place, nameserver and family; servers under one label are told apart by their address in `_lost`."""
    found: dict[Pair, list[Lookup]] = {}
    for one in lookups:
        server = one.question.server
        found.setdefault(Pair(one.question.vantage.subject, server.subject, server.family), []).append(one)
    return found


def _lost(
    pair: Pair, asked: list[Lookup], now: list[Lookup], before: list[Lookup], lossy: Container[tuple[str, Address]]
) -> list[Lookup]:
    """What this place asked of those of its nameservers that answered nothing now, and nothing in the round before to whoever asked.

    `lossy`: places and servers of which some questions of a round were answered; there, few that are lost may be
    chance.
    """
    lost = []
    for address in dict.fromkeys(one.question.server.address for one in asked):
        own = [one for one in asked if one.question.server.address == address]
        earlier = [one for one in before if one.question.server.address == address]
        same = [one for one in earlier if one.question.vantage.subject == pair.vantage] or earlier
        silent = all(one.outcome in UNANSWERED for one in (*own, *same))
        everywhere = [one for one in now if one.question.server.address == address]
        nobody = all(one.outcome in UNANSWERED for one in (*everywhere, *earlier))
        enough = len(everywhere) + len(earlier) if nobody else len(own) + len(same)
        least = LEAST_OF_A_LOSSY_ONE if (pair.vantage, address) in lossy else LEAST
        if earlier and silent and enough >= least:
            lost += own
    return lost


def _silence(pair: Pair, lost: list[Lookup]) -> str:
    servers = dict.fromkeys(f"{one.question.server.address}" for one in lost)
    outcomes = sorted({one.outcome.value for one in lost})
    return f"{pair.vantage} got no answer from {pair.destination} ({', '.join(servers)}) to {len(lost)} questions: {', '.join(outcomes)}"


DNS_RULES: dict[Cause, Rule] = {
    Cause.DNS_AAAA_BLOCKED: dns_aaaa_blocked,
    Cause.DNS_A_BLOCKED: dns_a_blocked,
    Cause.DNS_UNREACHABLE: dns_unreachable,
    Cause.DNS_ANSWERS_DIFFER: dns_answers_differ,
    Cause.DNS_QUERIES_LOST: dns_queries_lost,
    Cause.DNS_SEARCH_BREAKS_MUSL: dns_search_breaks_musl,
    Cause.SERVICE_AAAA_MISSING: service_aaaa_missing,
}
