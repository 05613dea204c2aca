"""Which questions a round asks again because an answer is doubtful: lost, without an expected record, or varying. Pure.

No conclusion is drawn from a single answer (docs/specification.md section 7: what is suspected is asked again, at least
6 times over two rounds). Each doubtful question is asked TIMES more in the round that raised the doubt, and in every
later one while the doubt lasts, within the round's DNS budget.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from exporter.model.dns_name import casefold, is_within, zone
from exporter.model.grouping import grouped
from exporter.model.probe import Lookup, LookupOutcome, Purpose, Question
from exporter.plan.aaaa_questions import DNS64_NAME, RANDOM
from exporter.plan.answer_history import LOST, NONE, UNSENT, AnswerHistory, Key, is_real, key_of

TIMES = 3
SPREAD = 0.3  # seconds over which they are sent
MOST = 30  # doubtful questions of one round
LEAST_TIME = 0.5  # seconds for an answer; with less, a repeat shows nothing
SHARE = 3  # one part in so many of the budget is set aside at most
OTHER = {"A": "AAAA", "AAAA": "A"}
ASKING = frozenset({Purpose.VERDICT, Purpose.PREDICTION, Purpose.PULSE})
ERRORS = frozenset({LookupOutcome.SERVFAIL, LookupOutcome.REFUSED, LookupOutcome.RCODE})


@dataclass(frozen=True, slots=True)
class KnownNames:
    """The cluster's domain, and by casefolded name the record types that the operator expects."""

    domain: str
    expected: Mapping[str, frozenset[str]]

    def lacks(self, question: Question) -> bool:
        """Whether the operator expects no such record of a name outside the cluster, which a foreign server answers."""
        name = casefold(question.name)
        if name == DNS64_NAME or is_within(name, self.domain):
            return False
        return question.qtype not in self.expected.get(name, frozenset({question.qtype}))

    def has(self, question: Question) -> bool:
        return question.qtype in self.expected.get(casefold(question.name), frozenset())


def set_aside(doubts: int, budget: int | None) -> int:
    """How much of a round's budget is kept for asking again: what the round before needed, up to a share."""
    return 0 if budget is None else min(TIMES * doubts, budget // SHARE)


def doubtful(lookups: Iterable[Lookup], history: AnswerHistory, known: KnownNames) -> tuple[Question, ...]:
    """The doubtful questions of a round, the least asked ones first. `history` includes the round's own answers."""
    asked = [one for one in lookups if one.question.purpose in ASKING and one.outcome not in UNSENT]
    found: dict[Key, Question] = {}
    for answers in grouped(asked, lambda one: (one.question.vantage.key, one.question.server.address)).values():
        if all(one.outcome in LOST for one in answers):
            continue  # a silent server: there is nothing to compare
        named = {(casefold(one.question.name), one.question.qtype): one for one in answers}
        for one in answers:
            for question in _doubts(one, named, answers, history, known):
                found.setdefault(key_of(question), question)
    return tuple(found[key] for key in sorted(found, key=lambda key: len(history.get(key, ()))))[:MOST]


def asked_again(doubts: Sequence[Question], *, allowance: int | None, seconds: float) -> tuple[Question, ...]:
    """Doubtful questions, TIMES each. `allowance`: how many at most (None: no budget); `seconds`: for an answer."""
    if seconds < LEAST_TIME:
        return ()
    most = len(doubts) if allowance is None else allowance // TIMES
    chosen = [question for question in doubts[:most] for _ in range(TIMES)]
    step = SPREAD / max(1, len(chosen))
    return tuple(
        replace(q, purpose=Purpose.AGAIN, sends=1, timeout=min(q.timeout, seconds), start=number * step)
        for number, q in enumerate(chosen)
    )


def _doubts(
    one: Lookup,
    named: Mapping[tuple[str, str], Lookup],
    answers: Sequence[Lookup],
    history: AnswerHistory,
    known: KnownNames,
) -> Iterable[Question]:
    """The questions that this answer makes doubtful: its own, and where answers vary the name's other type."""
    question = one.question
    other = named.get((casefold(question.name), OTHER.get(question.qtype, "")))
    failed = one.outcome in LOST or (one.outcome in ERRORS and other is not None)
    if not failed and question.qtype in OTHER and _varies(one, history, known):
        yield question
        if other is not None:
            yield other.question
        return
    suspicious = failed or (other is not None and _is_odd(one, other))
    if suspicious and not (known.lacks(question) and _served_elsewhere(one, answers)):
        yield question


def _varies(one: Lookup, history: AnswerHistory, known: KnownNames) -> bool:
    """Whether the record came and was missing within the last minutes, or is missing although it is expected."""
    told = history.get(key_of(one.question), ())
    if any(past.real for past in told) and any(not past.real and past.outcome in NONE for past in told):
        return True
    return known.has(one.question) and not is_real(one.reply)


def _is_odd(one: Lookup, other: Lookup) -> bool:
    """Whether a correct server that gave the other type's answer would not give this one."""
    reply = one.reply
    if reply is None or is_real(reply):
        return False
    if reply.addresses:
        return True  # the unspecified address
    if one.question.label == RANDOM:
        return one.outcome is LookupOutcome.NODATA and other.outcome is LookupOutcome.NXDOMAIN
    if not is_real(other.reply):
        return False
    proper = reply.soa_authority and not reply.ede and reply.answers - reply.extras <= len(reply.chain)
    return one.outcome is LookupOutcome.NXDOMAIN or not proper


def _served_elsewhere(one: Lookup, answers: Iterable[Lookup]) -> bool:
    """Whether this server answers the type properly for a name of another zone."""
    return any(
        answer.question.qtype == one.question.qtype
        and answer.question.label != RANDOM
        and zone(answer.question.name) != zone(one.question.name)
        and answer.reply is not None
        and (is_real(answer.reply) or (answer.outcome is LookupOutcome.NODATA and answer.reply.soa_authority))
        for answer in answers
    )
