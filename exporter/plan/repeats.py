"""What a round asks once more because an answer leaves doubt: it is lost, lacks a record that should be there, or differs from another.

Nothing is concluded from one answer (contract section 7: what is suspected is asked again, at least 6 times over two
rounds). Each doubtful question is put TIMES more in the round that raised the doubt, and in every later one while the
doubt lasts, within the round's DNS budget. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from exporter.model.probe import Lookup, LookupOutcome, Purpose, Question
from exporter.plan.aaaa_questions import DNS64_NAME, RANDOM
from exporter.plan.answer_history import LOST, NONE, UNSENT, History, Key, is_real, key_of
from exporter.plan.dns_names import fold_case, is_inside

TIMES = 3
SPREAD = 0.3  # seconds over which they are sent
MOST = 30  # doubtful questions of one round
LEAST_TIME = 0.5  # seconds for an answer, below which asking again tells nothing
SHARE = 3  # of the budget, at most one part in so many is set aside
OTHER = {"A": "AAAA", "AAAA": "A"}
ASKING = frozenset({Purpose.VERDICT, Purpose.PREDICTION, Purpose.PULSE})
ERRORS = frozenset({LookupOutcome.SERVFAIL, LookupOutcome.REFUSED, LookupOutcome.RCODE})


@dataclass(frozen=True, slots=True)
class KnownNames:
    """What is known of names beforehand: the cluster's domain, and by folded name the types that the operator says it has."""

    domain: str
    expected: Mapping[str, frozenset[str]]

    def lacks(self, question: Question) -> bool:
        """Whether the operator says that a name outside the cluster has no such record: its own servers may treat the type badly."""
        name = fold_case(question.name)
        if name == DNS64_NAME or is_inside(name, self.domain):
            return False
        return question.qtype not in self.expected.get(name, frozenset({question.qtype}))

    def has(self, question: Question) -> bool:
        return question.qtype in self.expected.get(fold_case(question.name), frozenset())


def set_aside(doubts: int, budget: int | None) -> int:
    """Of a round's budget, what asking again would have taken in the round before, up to a share."""
    return 0 if budget is None else min(TIMES * doubts, budget // SHARE)


def doubtful(lookups: Iterable[Lookup], history: History, known: KnownNames) -> tuple[Question, ...]:
    """The doubtful questions of a round, those first that were asked the fewest times. `history` holds the round's own answers already."""
    found = _doubtful(lookups, history, known)
    return tuple(found[key] for key in sorted(found, key=lambda key: len(history.told.get(key, ()))))[:MOST]


def asked_again(doubts: Sequence[Question], *, allowance: int | None, seconds: float) -> tuple[Question, ...]:
    """Doubtful questions, TIMES each, one after the other.

    `allowance`: how many may be asked (None: no budget binds); `seconds`: how long an answer may take.
    """
    if seconds < LEAST_TIME:
        return ()
    most = len(doubts) if allowance is None else allowance // TIMES
    chosen = [question for question in doubts[:most] for _ in range(TIMES)]
    step = SPREAD / max(1, len(chosen))
    return tuple(
        replace(q, purpose=Purpose.AGAIN, sends=1, timeout=min(q.timeout, seconds), start=number * step)
        for number, q in enumerate(chosen)
    )


def _doubtful(lookups: Iterable[Lookup], history: History, known: KnownNames) -> dict[Key, Question]:
    """By question, as asked from the first place that it was asked from."""
    made = [one for one in lookups if one.question.purpose in ASKING and one.outcome not in UNSENT]
    places: dict[tuple[str, str], list[Lookup]] = {}
    for one in made:
        places.setdefault((one.question.vantage.key, str(one.question.server.address)), []).append(one)
    found: dict[Key, Question] = {}
    for answers in places.values():
        if all(one.outcome in LOST for one in answers):
            continue  # a server that is silent here: there is nothing to compare
        named = {(fold_case(one.question.name), one.question.qtype): one for one in answers}
        for one in answers:
            for doubted in _doubts(one, named, answers, history, known):
                found.setdefault(key_of(doubted), doubted)
    return found


def _doubts(
    one: Lookup,
    named: Mapping[tuple[str, str], Lookup],
    answers: Sequence[Lookup],
    history: History,
    known: KnownNames,
) -> Iterable[Question]:
    """The questions that this answer makes doubtful: itself, and where answers seem to vary the name's other type."""
    question = one.question
    other = named.get((fold_case(question.name), OTHER.get(question.qtype, "")))
    if one.outcome in LOST or (one.outcome in ERRORS and other is not None):
        if not (known.lacks(question) and _served_elsewhere(one, answers)):
            yield question
    elif question.qtype not in OTHER:
        return
    elif _varies(question, history) or (known.has(question) and not is_real(one.reply)):
        yield question
        if other is not None:
            yield other.question
    elif other is not None and _is_odd(one, other) and not (known.lacks(question) and _served_elsewhere(one, answers)):
        yield question


def _varies(question: Question, history: History) -> bool:
    """Whether this question was answered with the record and without it in the last minutes."""
    told = history.told.get(key_of(question), ())
    return any(one.real for one in told) and any(not one.real and one.outcome in NONE for one in told)


def _is_odd(one: Lookup, other: Lookup) -> bool:
    """Whether the answer is unlike that of an honest server that says what it says of the other type."""
    reply = one.reply
    if reply is None or is_real(reply):
        return False
    if reply.addresses:
        return True  # the unspecified address
    if one.question.label == RANDOM:
        return one.outcome is LookupOutcome.NODATA and other.outcome is LookupOutcome.NXDOMAIN
    if not is_real(other.reply):
        return False
    proper = reply.soa_authority and not reply.ede and reply.answers <= len(reply.chain)
    return one.outcome is LookupOutcome.NXDOMAIN or not proper


def _served_elsewhere(one: Lookup, answers: Iterable[Lookup]) -> bool:
    """Whether this server answers the type properly for a name of another zone."""
    zone = _zone(one.question.name)
    return any(
        answer.question.qtype == one.question.qtype
        and answer.question.label != RANDOM
        and _zone(answer.question.name) != zone
        and answer.reply is not None
        and (is_real(answer.reply) or (answer.outcome is LookupOutcome.NODATA and answer.reply.soa_authority))
        for answer in answers
    )


def _zone(name: str) -> str:
    return ".".join(fold_case(name).split(".")[-2:])
