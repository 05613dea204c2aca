"""What nameservers answered in the last minutes, question by question: a bounded value that rounds pass on. Pure.

plan/repeats.py decides from it what to ask again, diagnosis/rules/dns/steadiness.py judges by it. The last two answers
that rules compare are kept in result_history.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeAlias

from exporter.model.dns import Reply
from exporter.model.dns_name import casefold
from exporter.model.family import Address
from exporter.model.grouping import grouped
from exporter.model.probe import Lookup, LookupOutcome, Purpose, Question, Told
from exporter.plan.aaaa_questions import RANDOM

RECENT = 600.0  # seconds: the "last 10 minutes" of docs/specification.md section 7
REMEMBERED = RECENT + 300.0  # longer, to show how long a run lasted that ends within them
AT_MOST = 1024  # answers to one question; the DNS budget keeps far below

UNSENT = frozenset({LookupOutcome.NOT_ALLOWED, LookupOutcome.NOT_ASKED})
LOST = frozenset({LookupOutcome.TIMEOUT, LookupOutcome.UNREACHABLE})
NONE = frozenset({LookupOutcome.NXDOMAIN, LookupOutcome.NODATA, LookupOutcome.REFUSED, LookupOutcome.SERVFAIL})

Key: TypeAlias = tuple[Address, str, str]  # server, name, type
AnswerHistory: TypeAlias = Mapping[Key, tuple[Told, ...]]  # oldest answer first
NO_HISTORY: AnswerHistory = {}


def remember(history: AnswerHistory, made: Iterable[Lookup], *, now: float) -> AnswerHistory:
    """The history after a round. `now` is Unix seconds, as in the lookups; an answer from the future is dropped."""
    found: dict[Key, list[Told]] = {key: list(answers) for key, answers in history.items()}
    for one in made:
        if one.outcome not in UNSENT and one.question.purpose not in {Purpose.REFERENCE, Purpose.PARALLEL}:
            found.setdefault(key_of(one.question), []).append(_told(one, now))
    return {
        key: tuple(sorted(fresh, key=lambda one: one.time)[-AT_MOST:])
        for key, answers in found.items()
        if (fresh := [one for one in answers if abs(now - one.time) <= REMEMBERED])
    }


def all_told(history: AnswerHistory) -> tuple[Told, ...]:
    return tuple(one for answers in history.values() for one in answers)


def by_question(told: Iterable[Told]) -> AnswerHistory:
    """A snapshot's history as rules use it."""
    found = grouped(told, lambda one: (one.server.address, one.name, one.qtype))
    return {key: tuple(answers) for key, answers in found.items()}


def key_of(question: Question) -> Key:
    """What a question is remembered under; a random name by its parent, because its first label changes every hour."""
    name = casefold(question.name)
    if question.label == RANDOM:
        name = f"{RANDOM}.{name.partition('.')[2]}"
    return question.server.address, name, question.qtype


def _told(lookup: Lookup, now: float) -> Told:
    q = lookup.question
    _, name, qtype = key_of(q)
    return Told(
        vantage=q.vantage,
        server=q.server,
        name=name,
        qtype=qtype,
        edns=q.edns,
        outcome=lookup.outcome,
        real=is_real(lookup.reply),
        alias=lookup.reply is not None and bool(lookup.reply.chain),
        time=lookup.time,
        round=now,
    )


def is_real(reply: Reply | None) -> bool:
    """Whether a reply has the record: names, or an address other than the unspecified one."""
    return reply is not None and (bool(reply.names) or any(not a.is_unspecified for a in reply.addresses))
