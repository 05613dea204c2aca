"""Nameservers that answer by chance: now with data and now without, or now and now not at all. Rules over the last minutes; pure.

Beside dns.py, in whose table of rules they stand. Both are seen over many answers, never over two; what a single answer
of such a server seems to show (a withheld record, a dead server, a search list that breaks musl) is theirs to explain.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from exporter.diagnosis.engine.preconditions import bounded
from exporter.diagnosis.engine.rule_input import Judgement, RuleInput, finding
from exporter.diagnosis.rules.dns.samples import called, cluster_domain, meant_to_reach, nothing_asked
from exporter.diagnosis.rules.dns.steadiness import ROUNDS, denies, goes_back_and_forth, still_happens
from exporter.model.dns_name import is_within, zone
from exporter.model.family import Address
from exporter.model.probe import Nameserver, Told
from exporter.model.reason import Reason
from exporter.model.report import Cause, Pair
from exporter.plan.answer_history import LOST, RECENT
from exporter.plan.family_support import under_policy

ENOUGH = 20  # questions
SHARE = 0.2  # of them unanswered
REPEATED = 8  # times that the command asks
TYPES = 2  # of which both are lost and answered: what is withheld by type is no loss

Asked: TypeAlias = tuple[Address, str, str, bool]  # server, name, type, EDNS


def dns_answers_differ(view: RuleInput) -> Judgement:
    """The same question gets data now and none then, back and forth."""
    told = _recent(view)
    if not told:
        return nothing_asked(view)
    if len({one.round for one in told}) < ROUNDS:
        return Reason.TOO_FEW_SAMPLES
    differing = {asked: said for asked, said in _by_question(told).items() if goes_back_and_forth(said)}
    if not differing:
        return ()
    (address, name, qtype, _), _ = min(differing.items(), key=_order)
    return (
        finding(
            Cause.DNS_ANSWERS_DIFFER,
            [said[0].server.subject for said in differing.values()],
            evidence=bounded(
                _differing(asked[1], asked[2], said) for asked, said in sorted(differing.items(), key=_order)
            ),
            command=f"dig +noall +comments +answer @{address} {_times(name, qtype)}",
        ),
    )


def answers_vary(told: Iterable[Told]) -> bool:
    """Whether any question got data as well as none: too few answers yet, perhaps, to say that they differ."""
    return any(
        any(one.real for one in said) and any(denies(one) for one in said) for said in _by_question(told).values()
    )


def answering_in_part(view: RuleInput) -> frozenset[tuple[str, Address]]:
    """Places and nameservers where one round had answers as well as losses."""
    outcomes: dict[tuple[str, Address, float], set[bool]] = {}
    for one in _recent(view):
        outcomes.setdefault((one.vantage.subject, one.server.address, one.round), set()).add(one.outcome in LOST)
    return frozenset((place, address) for (place, address, _), both in outcomes.items() if len(both) > 1)


def dns_queries_lost(view: RuleInput) -> Judgement:
    """A nameserver leaves at least a fifth of the questions of the last minutes unanswered, whatever their type, and answers others."""
    told = _recent(view)
    if not told:
        return nothing_asked(view)
    meant, restricted = meant_to_reach(view), under_policy(view.inventory)
    told = [one for one in told if meant(one.vantage, one.server.family)]
    if not told:
        return Reason.NO_TARGET
    told = [one for one in told if (one.vantage.subject, one.server.family) not in restricted]
    if not told:
        return Reason.POLICY
    if len({one.round for one in told}) < ROUNDS:
        return Reason.TOO_FEW_SAMPLES
    domain = cluster_domain(view.snapshot.lookups_kept)
    lossy = [losses for losses in _losses(told) if losses.matter(domain)]
    if not lossy:
        return ()
    pairs = {
        Pair(one.vantage.subject, one.server.subject, one.server.family) for losses in lossy for one in losses.lost
    }
    example = lossy[0].lost[-1]
    return (
        finding(
            Cause.DNS_QUERIES_LOST,
            [losses.server.subject for losses in lossy],
            evidence=bounded(losses.says for losses in lossy),
            command=f"dig +tries=1 +noall +comments @{example.server.address} {_times(example.name, example.qtype)}",
            pairs=pairs,
        ),
    )


def _recent(view: RuleInput) -> list[Told]:
    return [one for one in view.snapshot.told if abs(view.now - one.time) <= RECENT]


def _by_question(told: Iterable[Told]) -> dict[Asked, list[Told]]:
    found: dict[Asked, list[Told]] = {}
    for one in told:
        found.setdefault((one.server.address, one.name, one.qtype, one.edns), []).append(one)
    return found


def _order(item: tuple[Asked, Sequence[Told]]) -> tuple[str, str, str]:
    asked, said = item
    return said[0].server.label, asked[1], asked[2]


def _times(name: str, qtype: str) -> str:
    """One question many times, as dig takes it."""
    return " ".join([f"{name} {qtype}"] * REPEATED)


def _differing(name: str, qtype: str, said: Sequence[Told]) -> str:
    data = sum(one.real for one in said)
    none = Counter(one.outcome.value for one in said if denies(one))
    without = ", ".join(f"{number} {outcome}" for outcome, number in sorted(none.items()))
    rounds = len({one.round for one in said})
    return f"{called(said[0].server)}, {name} {qtype}: {data} answers with data and {without}, in {rounds} rounds"


@dataclass(frozen=True, slots=True)
class _Losses:
    """What one nameserver was asked by places that it answered at all in the same round, of questions that it answers at times."""

    server: Nameserver
    asked: tuple[Told, ...]

    @property
    def lost(self) -> tuple[Told, ...]:
        return tuple(one for one in self.asked if one.outcome in LOST)

    @property
    def says(self) -> str:
        types = ", ".join(sorted({one.qtype for one in self.lost}))
        rounds = len({one.round for one in self.lost})
        share = f"{len(self.lost)} of {len(self.asked)} questions"
        return f"{called(self.server)} left {share} unanswered in {rounds} rounds, of the types {types}"

    def matter(self, domain: str) -> bool:
        """Whether they are many, of several types and zones, not outside the cluster's domain alone, and go on."""
        lost, asked = self.lost, self.asked
        if len(asked) < ENOUGH or len(lost) < SHARE * len(asked):
            return False
        inside = [one for one in asked if is_within(one.name, domain)]
        if inside and sum(one.outcome in LOST for one in inside) < SHARE * len(inside):
            return False
        zones, lossy = ({zone(one.name) for one in some} for some in (asked, lost))
        if len({one.qtype for one in lost}) < TYPES or (len(zones) > 1 and len(lossy) < 2 and not inside):
            return False
        rounds: dict[float, bool] = {}
        for one in sorted(asked, key=lambda one: one.round):
            rounds[one.round] = rounds.get(one.round, True) and one.outcome not in LOST
        quiet = list(rounds.values())
        return quiet.count(False) >= ROUNDS and still_happens(quiet)


def _losses(told: Iterable[Told]) -> list[_Losses]:
    """By nameserver, what may be compared.

    A place that got no answer at all in a round shows a dead server or a broken way; a question that is never answered
    is somebody else's silence: a foreign zone's, or a block.
    """
    servers: dict[Address, list[Told]] = {}
    for one in told:
        servers.setdefault(one.server.address, []).append(one)
    return [_Losses(said[0].server, _comparable(said)) for said in servers.values()]


def _comparable(said: Sequence[Told]) -> tuple[Told, ...]:
    answering = {(one.vantage.key, one.round) for one in said if one.outcome not in LOST}
    heard = [one for one in said if (one.vantage.key, one.round) in answering]
    known = {(one.name, one.qtype) for one in heard if one.outcome not in LOST}
    return tuple(one for one in heard if (one.name, one.qtype) in known)
