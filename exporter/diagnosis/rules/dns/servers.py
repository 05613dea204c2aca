"""DNS causes of nameservers: what those that pods use withhold, or that they answer nothing. Pure rules.

aaaa.py decides on one resolver; the rules over many answers are in losses.py, those of search lists in searchlist.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from itertools import chain

from exporter.config.schema import AaaaPolicy
from exporter.diagnosis.engine.preconditions import bounded
from exporter.diagnosis.engine.rule_input import Judgement, RuleInput
from exporter.diagnosis.rules.dns.aaaa import CRITICAL, WORST_FIRST, AaaaVerdict, aaaa_verdict, worst
from exporter.diagnosis.rules.dns.losses import answering_in_part
from exporter.diagnosis.rules.dns.samples import (
    Samples,
    called,
    cluster_domain,
    is_sent,
    known_records,
    meant_to_reach,
    nothing_asked,
    restricted,
    samples,
    unresolved,
)
from exporter.diagnosis.rules.judging import found
from exporter.model.cause import Cause, Severity
from exporter.model.dns import BlockKind
from exporter.model.dns_name import is_within
from exporter.model.family import Address
from exporter.model.grouping import grouped
from exporter.model.probe import Lookup, Nameserver, Purpose
from exporter.model.reason import Reason
from exporter.model.subject import Pair
from exporter.plan.answer_history import LOST

LEAST = 3  # questions that a nameserver must leave unanswered
LEAST_OF_A_LOSSY_ONE = 10  # where it is known to answer some in a round, and others not


def aaaa_blocks(view: RuleInput) -> Mapping[str, BlockKind]:
    """Server label -> kind (dualstack_dns_aaaa_block); of several servers under one label the worst."""
    labels = grouped(verdicts(view, "AAAA"), lambda item: item[0].server.label)
    worsts = ((label, worst(verdict for _, verdict in made)) for label, made in labels.items())
    return {label: found.kind for label, found in worsts if found is not None}


def dns_aaaa_blocked(view: RuleInput) -> Judgement:
    """A resolver that pods use, or that dns.servers names, withholds AAAA; info where that is on purpose."""
    return _blocked(view, Cause.DNS_AAAA_BLOCKED, "AAAA", on_purpose=view.expect.aaaa is AaaaPolicy.BLOCKED)


def dns_a_blocked(view: RuleInput) -> Judgement:
    """The same for A."""
    return _blocked(view, Cause.DNS_A_BLOCKED, "A", on_purpose=False)


@lru_cache(maxsize=2)  # rule and metric ask for the same of one round, for two types
def verdicts(view: RuleInput, qtype: str) -> tuple[tuple[Samples, AaaaVerdict], ...]:
    """The verdict on each nameserver."""
    return tuple(
        (
            one,
            aaaa_verdict(one.now, one.before, known_records(view, one.now), qtype=qtype, steadiness=one.steadiness),
        )
        for one in samples(view, Purpose.VERDICT)
    )


def _blocked(view: RuleInput, cause: Cause, qtype: str, *, on_purpose: bool) -> Judgement:
    made = verdicts(view, qtype)
    if not made:
        return nothing_asked(view)
    held = [(one.server, verdict) for one, verdict in made if verdict.withholds]
    if not held:
        return () if any(one.before for one, _ in made) else Reason.TOO_FEW_SAMPLES
    held.sort(key=lambda item: (WORST_FIRST.index(item[1].kind), item[0].label, str(item[0].address)))
    kind = held[0][1].kind
    severity = Severity.CRITICAL if kind in CRITICAL else Severity.WARNING
    return found(
        cause,
        [server.subject for server, _ in held],
        evidence=bounded(
            f"{called(server)}, {verdict.kind}: {text}" for server, verdict in held for text in verdict.evidence
        ),
        command=_dig(*held[0]),
        severity=Severity.INFO if on_purpose else severity,
        affects_destinations=unresolved(view, (server for server, _ in held), silent=False),
    )


def _dig(server: Nameserver, verdict: AaaaVerdict) -> str:
    """The two questions whose answers show it."""
    name = verdict.evidence[0].partition(":")[0]
    return f"dig @{server.address} {name} A {name} AAAA"


def dns_unreachable(view: RuleInput) -> Judgement:
    """A nameserver leaves every question of a vantage unanswered, in two rounds, and at least three questions."""
    now, before = _sent(view.snapshot.lookups), _sent(_earlier(view))
    if not now:
        return nothing_asked(view)
    now, before = _meant(view, now), _meant(view, before)
    told = [o for o in now if (o.question.vantage.subject, o.question.server.family) not in restricted(view)]
    if not now:
        return Reason.NO_TARGET
    if not told:
        return Reason.POLICY
    if not before:
        return Reason.TOO_FEW_SAMPLES
    domain = cluster_domain((*told, *before))
    told, before = _decisive(told, domain), _decisive(before, domain)
    pairs = {
        pair: lost for pair, asked in grouped(told, _pair).items() if (lost := _lost(view, pair, asked, told, before))
    }
    if not pairs:
        return ()
    vantages = {pair.vantage for pair in pairs}
    first = pairs[min(pairs, key=lambda pair: (pair.destination, pair.vantage))][0].question
    return found(
        Cause.DNS_UNREACHABLE,
        [pair.destination for pair in pairs],
        evidence=bounded(_silence(pair, asked) for pair, asked in sorted(pairs.items())),
        command=f"dig @{first.server.address} {first.name} A",
        severity=Severity.CRITICAL if len(vantages) > 1 else Severity.WARNING,
        pairs=pairs,
        affects_destinations=unresolved(view, (o.question.server for o in chain(*pairs.values())), silent=True),
    )


def _meant(view: RuleInput, lookups: list[Lookup]) -> list[Lookup]:
    """What was asked by vantages that are meant to reach a nameserver over its family."""
    meant = meant_to_reach(view)
    return [one for one in lookups if meant(one.question.vantage, one.question.server.family)]


def _earlier(view: RuleInput) -> Iterable[Lookup]:
    """The round before, and earlier answers to what is asked now, since the budget may make a nameserver wait."""
    last = view.previous.lookups if view.previous is not None else ()
    asked, known = {_key(one) for one in view.snapshot.lookups}, {id(one) for one in last}
    return (*last, *(o for o in view.snapshot.lookups_before if _key(o) in asked and id(o) not in known))


def _key(lookup: Lookup) -> tuple[Address, str, str, Purpose]:
    question = lookup.question
    return question.server.address, question.name, question.qtype, question.purpose


def _sent(lookups: Iterable[Lookup]) -> list[Lookup]:
    """What was asked one by one of nameservers that pods use or that dns.servers names; a reference is neither."""
    others = {Purpose.REFERENCE, Purpose.PARALLEL}
    return [one for one in lookups if is_sent(one) and one.question.purpose not in others]


def _decisive(lookups: list[Lookup], domain: str) -> list[Lookup]:
    """Without lost questions about names outside the cluster's domain: their own servers may be the silent ones."""
    return [o for o in lookups if not domain or o.outcome not in LOST or is_within(o.question.name, domain)]


def _pair(lookup: Lookup) -> Pair:
    """Vantage, nameserver and family; `_lost` distinguishes servers under one label by their address."""
    asked = lookup.question
    return Pair(asked.vantage.subject, asked.server.subject, asked.server.family)


def _lost(view: RuleInput, pair: Pair, asked: list[Lookup], now: list[Lookup], before: list[Lookup]) -> list[Lookup]:
    """What this vantage asked of its nameservers that answered it nothing now and nothing in the round before.

    Where it did not ask in the round before, other vantages' questions count. Where a server answered some
    questions of a round, the loss of a few may be chance.
    """
    lost = []
    by_server = [grouped(lookups, lambda one: one.question.server.address) for lookups in (asked, before, now)]
    for address in by_server[0]:
        own, earlier, everywhere = (lookups.get(address, []) for lookups in by_server)
        same = [one for one in earlier if one.question.vantage.subject == pair.vantage] or earlier
        silent = _all_lost(own) and _all_lost(same)
        nobody = _all_lost(everywhere) and _all_lost(earlier)
        enough = len(everywhere) + len(earlier) if nobody else len(own) + len(same)
        least = LEAST_OF_A_LOSSY_ONE if (pair.vantage, address) in answering_in_part(view) else LEAST
        if earlier and silent and enough >= least:
            lost += own
    return lost


def _all_lost(lookups: Iterable[Lookup]) -> bool:
    return all(one.outcome in LOST for one in lookups)


def _silence(pair: Pair, lost: list[Lookup]) -> str:
    servers = ", ".join(dict.fromkeys(f"{one.question.server.address}" for one in lost))
    outcomes = ", ".join(sorted({one.outcome.value for one in lost}))
    return f"{pair.vantage} got no answer from {pair.destination} ({servers}) to {len(lost)} questions: {outcomes}"
