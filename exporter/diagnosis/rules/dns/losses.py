"""Nameservers that answer by chance: now with data and now without, some of the time, or one of two. Rules; pure.

Beside servers.py. The first two causes show over the many answers of the last minutes, never over two; they explain
what a single answer of such a server seems to show (a withheld record, a dead server, a search list that breaks musl).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

from exporter.diagnosis.engine.preconditions import bounded
from exporter.diagnosis.engine.rule_input import Judgement, RuleInput
from exporter.diagnosis.rules.dns.samples import (
    Samples,
    called,
    cluster_domain,
    meant_to_reach,
    nothing_asked,
    resolve_command,
    restricted,
    samples,
)
from exporter.diagnosis.rules.dns.steadiness import ROUNDS, alternates, denies, still_happens
from exporter.diagnosis.rules.judging import found
from exporter.model.cause import Cause
from exporter.model.dns import ResolvConf
from exporter.model.dns_name import is_within, zone
from exporter.model.family import Address
from exporter.model.grouping import grouped
from exporter.model.probe import Lookup, Nameserver, Purpose, Told
from exporter.model.reason import Reason
from exporter.model.subject import Pair, Subject
from exporter.plan.answer_history import LOST, RECENT

ENOUGH = 20  # questions
SHARE = 0.2  # of them unanswered
RARE = 20  # one in so many
REPEATED = 8  # times that the command asks
TYPES = 2  # that are both lost and answered: what is withheld by type is no loss

Asked: TypeAlias = tuple[Address, str, str, bool]  # server, name, type, EDNS


def dns_answers_differ(view: RuleInput) -> Judgement:
    """The same question alternately gets data and none."""
    told = _recent(view)
    if not told:
        return nothing_asked(view)
    if _rounds(told) < ROUNDS:
        return Reason.TOO_FEW_SAMPLES
    differing = [answers for answers in _by_question(told).values() if alternates(answers)]
    if not differing:
        return ()
    differing.sort(key=lambda answers: (answers[0].server.label, answers[0].name, answers[0].qtype))
    first = differing[0][0]
    return found(
        Cause.DNS_ANSWERS_DIFFER,
        [answers[0].server.subject for answers in differing],
        evidence=bounded(map(_differing, differing)),
        command=f"dig +noall +comments +answer @{first.server.address} {_repeated(first)}",
    )


def answers_vary(told: Iterable[Told]) -> bool:
    """Whether any question got data as well as none, though perhaps too few answers to find dns_answers_differ."""
    return any(
        any(one.real for one in answers) and any(map(denies, answers)) for answers in _by_question(told).values()
    )


@lru_cache(maxsize=1)
def answering_in_part(view: RuleInput) -> frozenset[tuple[Subject, Address]]:
    """Vantages and nameservers where one round had answers as well as losses."""
    outcomes: dict[tuple[Subject, Address, float], set[bool]] = {}
    for one in _recent(view):
        outcomes.setdefault((one.vantage.subject, one.server.address, one.round), set()).add(one.outcome in LOST)
    return frozenset((vantage, address) for (vantage, address, _), both in outcomes.items() if len(both) > 1)


def dns_queries_lost(view: RuleInput) -> Judgement:
    """A nameserver leaves a fifth of the last minutes' questions unanswered, of several types, and answers others."""
    told = _recent(view)
    if not told:
        return nothing_asked(view)
    meant = meant_to_reach(view)
    told = [one for one in told if meant(one.vantage, one.server.family)]
    if not told:
        return Reason.NO_TARGET
    told = [one for one in told if (one.vantage.subject, one.server.family) not in restricted(view)]
    if not told:
        return Reason.POLICY
    if _rounds(told) < ROUNDS:
        return Reason.TOO_FEW_SAMPLES
    domain = cluster_domain(view.snapshot.lookups_kept)
    lossy = [losses for losses in _losses(told) if losses.matter(domain)]
    if not lossy:
        return ()
    last = lossy[0].lost[-1]
    return found(
        Cause.DNS_QUERIES_LOST,
        [losses.server.subject for losses in lossy],
        evidence=bounded(losses.text for losses in lossy),
        command=f"dig +tries=1 +noall +comments @{last.server.address} {_repeated(last)}",
        pairs=[
            Pair(one.vantage.subject, one.server.subject, one.server.family) for losses in lossy for one in losses.lost
        ],
    )


def dns_parallel_queries_lost(view: RuleInput) -> Judgement:
    """Of A and AAAA sent together from one socket one reply is missing that comes alone, in two rounds."""
    asked = samples(view, Purpose.PARALLEL)
    if not asked:
        return nothing_asked(view)
    if not any(one.before for one in asked):
        return Reason.TOO_FEW_SAMPLES
    lossy = {losses.server.address for losses in _losses(_recent(view)) if losses.by_chance}
    found_of = [(one.server, lost) for one in asked if (lost := _lost_twice(one)) and one.server.address not in lossy]
    if not found_of:
        return ()
    first = found_of[0][1].question
    return found(
        Cause.DNS_PARALLEL_QUERIES_LOST,
        [server.subject for server, _ in found_of],
        evidence=bounded(_parallel_loss(view, server, lost) for server, lost in found_of),
        command=resolve_command(first.vantage, first.name),
    )


def _lost_twice(asked: Samples) -> Lookup | None:
    """The reply that the last pair lacked, if the one before lacked one as well; names may change between rounds."""
    pairs = [p for half in (asked.now, asked.before) for p in grouped(half, lambda one: one.question.name).values()]
    pairs.sort(key=lambda pair: pair[0].time, reverse=True)
    lost = [next((one for one in pair if one.outcome in LOST), None) for pair in pairs[:ROUNDS]]
    return lost[0] if len(lost) == ROUNDS and lost[1] is not None else None


def _parallel_loss(view: RuleInput, server: Nameserver, lost: Lookup) -> str:
    """With the delay of each libc.

    glibc asks again after `timeout`, then one by one (resolv/res_send.c; with single-request from the start). musl asks
    for what is missing after `timeout` divided by `attempts` (src/network/res_msend.c).
    """
    question = lost.question
    files = {pod.vantage.subject: pod.resolv_conf for pod in view.snapshot.pods}
    conf = files.get(question.vantage.subject) or view.snapshot.host_resolv_conf or ResolvConf()
    musl = conf.for_musl
    alone = conf.options & {"single-request", "single-request-reopen", "use-vc"}
    return (
        f"{called(server)}, {question.name}: A and AAAA sent together from {question.vantage.subject}: the reply to "
        f"{question.qtype} was missing, for {lost.detail} such pairs one reply; sent alone, it came. "
        f"glibc waits {0 if alone else conf.timeout} s longer then, musl {musl.timeout / max(1, musl.attempts):g} s"
    )


def _recent(view: RuleInput) -> list[Told]:
    return [one for one in view.snapshot.told if abs(view.now - one.time) <= RECENT]


def _rounds(told: Iterable[Told]) -> int:
    return len({one.round for one in told})


def _by_question(told: Iterable[Told]) -> dict[Asked, list[Told]]:
    return grouped(told, lambda one: (one.server.address, one.name, one.qtype, one.edns))


def _repeated(one: Told) -> str:
    """One question many times, as dig takes it."""
    return " ".join([f"{one.name} {one.qtype}"] * REPEATED)


def _differing(answers: Sequence[Told]) -> str:
    first, data = answers[0], sum(one.real for one in answers)
    none = Counter(one.outcome.value for one in answers if denies(one))
    without = ", ".join(f"{number} {outcome}" for outcome, number in sorted(none.items()))
    what = f"{called(first.server)}, {first.name} {first.qtype}"
    return f"{what}: {data} answers with data and {without}, in {_rounds(answers)} rounds"


@dataclass(frozen=True, slots=True)
class _Losses:
    """Questions to one nameserver that may be compared: it answers them at times, and the vantage in the same round."""

    server: Nameserver
    asked: tuple[Told, ...]

    @property
    def lost(self) -> tuple[Told, ...]:
        return tuple(one for one in self.asked if one.outcome in LOST)

    @property
    def by_chance(self) -> bool:
        """Whether so many are lost that a pair may lose one as well."""
        return len(self.lost) * RARE > len(self.asked)

    @property
    def text(self) -> str:
        types = ", ".join(sorted({one.qtype for one in self.lost}))
        share = f"{len(self.lost)} of {len(self.asked)} questions"
        return f"{called(self.server)} left {share} unanswered in {_rounds(self.lost)} rounds, of the types {types}"

    def matter(self, domain: str) -> bool:
        """Whether they are many, of several types and zones, also in the cluster's domain if asked, and continue."""
        lost, asked = self.lost, self.asked
        if len(asked) < ENOUGH or not _is_large_share(asked):
            return False
        inside = [one for one in asked if is_within(one.name, domain)]
        if inside and not _is_large_share(inside):
            return False
        zones, lossy = ({zone(one.name) for one in some} for some in (asked, lost))
        if len({one.qtype for one in lost}) < TYPES or (len(zones) > 1 and len(lossy) < 2 and not inside):
            return False
        rounds: dict[float, bool] = {}
        for one in sorted(asked, key=lambda one: one.round):
            rounds[one.round] = rounds.get(one.round, True) and one.outcome not in LOST
        quiet = list(rounds.values())
        return quiet.count(False) >= ROUNDS and still_happens(quiet)


def _is_large_share(asked: Sequence[Told]) -> bool:
    return sum(one.outcome in LOST for one in asked) >= SHARE * len(asked)


def _losses(told: Iterable[Told]) -> list[_Losses]:
    """By nameserver.

    A vantage that got no answer at all in a round shows a dead server or a broken path; a question that is never
    answered is another fault: a foreign zone's, or a block.
    """
    servers = grouped(told, lambda one: one.server.address)
    return [_Losses(answers[0].server, _comparable(answers)) for answers in servers.values()]


def _comparable(answers: Sequence[Told]) -> tuple[Told, ...]:
    answering = {(one.vantage.key, one.round) for one in answers if one.outcome not in LOST}
    heard = [one for one in answers if (one.vantage.key, one.round) in answering]
    known = {(one.name, one.qtype) for one in heard if one.outcome not in LOST}
    return tuple(one for one in heard if (one.name, one.qtype) in known)
