"""What nameservers said in the last minutes, question by question (contract section 7: "the last 10 minutes"). A pure, bounded value.

Beside kept.py, which holds the last two answers alone. plan/repeats.py asks again by it,
diagnosis/rules/dns/steadiness.py judges by it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from exporter.model.dns import Reply
from exporter.model.family import Address
from exporter.model.probe import Lookup, LookupOutcome, Purpose, Question, Told
from exporter.plan.aaaa_questions import RANDOM
from exporter.plan.dns_names import fold_case

RECENT = 600.0  # seconds: the ten minutes
REMEMBERED = RECENT + 300.0  # longer, so that what ended before them is known to have lasted
AT_MOST = 1024  # answers to one question; the DNS budget keeps far below

UNSENT = frozenset({LookupOutcome.NOT_ALLOWED, LookupOutcome.NOT_ASKED})
LOST = frozenset({LookupOutcome.TIMEOUT, LookupOutcome.UNREACHABLE})
NONE = frozenset({LookupOutcome.NXDOMAIN, LookupOutcome.NODATA, LookupOutcome.REFUSED, LookupOutcome.SERVFAIL})

Key: TypeAlias = tuple[Address, str, str]  # server, name, type


@dataclass(frozen=True, slots=True)
class History:
    """By question, oldest answer first."""

    told: Mapping[Key, tuple[Told, ...]]

    def all(self) -> tuple[Told, ...]:
        return tuple(one for answers in self.told.values() for one in answers)


NO_HISTORY = History({})


def remember(history: History, made: Iterable[Lookup], *, now: float) -> History:
    """The history after a round. `now` is Unix seconds, as in the lookups; what is from the future is of no known age and goes."""
    found: dict[Key, list[Told]] = {key: list(answers) for key, answers in history.told.items()}
    for one in made:
        if one.outcome not in UNSENT and one.question.purpose is not Purpose.REFERENCE:
            found.setdefault(key_of(one.question), []).append(_told(one, now))
    kept = {
        key: tuple(sorted(fresh, key=lambda one: one.time)[-AT_MOST:])
        for key, answers in found.items()
        if (fresh := [one for one in answers if abs(now - one.time) <= REMEMBERED])
    }
    return History(kept)


def by_question(told: Iterable[Told]) -> dict[Key, tuple[Told, ...]]:
    """A snapshot's history as rules look it up."""
    found: dict[Key, list[Told]] = {}
    for one in told:
        found.setdefault((one.server.address, one.name, one.qtype), []).append(one)
    return {key: tuple(answers) for key, answers in found.items()}


def key_of(question: Question) -> Key:
    return question.server.address, told_name(question), question.qtype


def told_name(question: Question) -> str:
    """The name under which answers are remembered."""
    name = fold_case(question.name)
    return f"{RANDOM}.{name.partition('.')[2]}" if question.label == RANDOM else name


def _told(lookup: Lookup, now: float) -> Told:
    q = lookup.question
    return Told(
        vantage=q.vantage,
        server=q.server,
        name=told_name(q),
        qtype=q.qtype,
        edns=q.edns,
        outcome=lookup.outcome,
        real=is_real(lookup.reply),
        alias=lookup.reply is not None and bool(lookup.reply.chain),
        time=lookup.time,
        round=now,
    )


def is_real(reply: Reply | None) -> bool:
    """Whether a reply has the record: names, or an address that is one (not the unspecified address)."""
    if reply is None:
        return False
    return bool(reply.names) or any(not address.is_unspecified for address in reply.addresses)
