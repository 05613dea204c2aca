"""Whether A and AAAA that leave one socket together are both answered, as libcs send them: what is asked for it. Pure.

Beside repeats.py; daemon/rounds.py carries it out, diagnosis/rules/dns/losses.py judges. Each nameserver is sent one
pair of a name whose types it answered one by one in the same round. If one reply is missing, more pairs follow, and the
missing ones are asked alone: one lost packet is no fault of sending together.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from exporter.model.grouping import grouped
from exporter.model.probe import Lookup, LookupOutcome, Lost, Purpose, Question, Together
from exporter.plan.aaaa_questions import RANDOM
from exporter.plan.round_plan import rotated

MORE = 4  # pairs after one that lost a reply
MOST_OF_THEM = 3  # of all five that must have lost one
COST = 2  # questions of one pair
CONFIRMING = MORE * COST + MORE + 1  # and of what follows a suspicion, at most
WAIT = 1.0  # seconds for a reply that came at once when it was asked alone
LEAST_TIME = 2.5 * WAIT  # of a round that must be left


def pairs(lookups: Iterable[Lookup], *, number: int, allowance: int | None, seconds: float) -> tuple[Together, ...]:
    """One pair for each nameserver of this round's verdict sets; with a small allowance not for all in each round."""
    if seconds < LEAST_TIME:
        return ()
    answered = [
        one
        for one in lookups
        if one.question.purpose is Purpose.VERDICT
        and one.reply is not None
        and not one.truncated
        and one.question.qtype in {"A", "AAAA"}
        and one.question.label != RANDOM
    ]
    found: dict[object, Together] = {}
    for asked in grouped(
        answered, lambda o: (o.question.server.address, o.question.vantage.key, o.question.name)
    ).values():
        types = {one.question.qtype: _together(one.question) for one in asked}
        if len(types) == COST:
            found.setdefault(asked[0].question.server.address, Together((types["A"], types["AAAA"])))
    chosen = tuple(found.values())
    return chosen if allowance is None else rotated(chosen, number)[: max(0, allowance) // COST]


def predicted(lookups: Iterable[Lookup], kind: Lost) -> tuple[Together, ...]:
    """For each candidate and nameserver of a prediction that answered both alone: both from one socket.

    For the second kind those alone that the first one has shown to lose a reply.
    """
    answered = [one for one in lookups if one.reply is not None and not one.truncated]
    found = []
    for asked in grouped(answered, lambda o: (o.question.server.address, o.question.name)).values():
        lossy = any(one.lost is Lost.AT_ONCE for one in asked)
        if len(asked) == COST and (kind is Lost.AT_ONCE or lossy):
            pair = (replace(o.question, sends=1, timeout=min(o.question.timeout, WAIT)) for o in asked)
            found.append(Together(tuple(pair), in_turn=kind is Lost.IN_TURN))
    return tuple(found)


def with_losses(lookups: Iterable[Lookup], kind: Lost, lossy: Iterable[Question]) -> tuple[Lookup, ...]:
    """The lookups, those marked whose replies are lost in that way."""
    lost = {(one.server.address, one.name, one.qtype) for one in lossy}
    asked = ((one, (one.question.server.address, one.question.name, one.question.qtype)) for one in lookups)
    return tuple(replace(one, lost=kind) if key in lost else one for one, key in asked)


def _together(question: Question) -> Question:
    """Without EDNS and once, as a libc asks."""
    return replace(question, purpose=Purpose.PARALLEL, edns=False, sends=1, timeout=min(question.timeout, WAIT))


def missing(pair: Sequence[Lookup]) -> Question | None:
    """The question whose reply alone did not come."""
    lost = [one.question for one in pair if one.reply is None and one.outcome is LookupOutcome.TIMEOUT]
    return lost[0] if len(lost) == 1 and sum(one.reply is not None for one in pair) == len(pair) - 1 else None


def asked_alone(made: Iterable[Sequence[Lookup]]) -> tuple[Question, ...]:
    """The missing ones, each from a socket of its own."""
    lost = (question for pair in made if (question := missing(pair)) is not None)
    return tuple(replace(question, purpose=Purpose.AGAIN) for question in lost)


def shown(made: Sequence[Sequence[Lookup]], alone: Iterable[Lookup]) -> tuple[Lookup, ...]:
    """What the pairs sent to one nameserver show, as one of them; nothing where it may be chance."""
    lossy = [pair for pair in made if missing(pair) is not None]
    if not lossy:
        return tuple(made[0]) if all(one.reply is not None for one in made[0]) else ()
    if len(lossy) < MOST_OF_THEM or any(one.reply is None for one in alone):
        return ()
    return tuple(replace(one, detail=f"{len(lossy)} of {len(made)}") for one in lossy[0])
