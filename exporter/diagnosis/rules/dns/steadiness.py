"""Whether a nameserver's answer to a question is a lasting state or alternates, over the last minutes. Pure.

Between the snapshot's history (plan/answer_history.py) and the DNS rules. A server that forwards to two others that
disagree, or one that loses half of the questions, shows by chance what a blocker shows on purpose, for a round or two,
but never for long.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from exporter.diagnosis.rules.dns.answer_signs import AnswerSign, Evidence, Sign
from exporter.model.dns import BlockKind
from exporter.model.family import Address
from exporter.model.probe import LookupOutcome, Told
from exporter.plan.answer_history import LOST, NONE, RECENT, Key
from exporter.plan.repeats import OTHER

AGAIN = 6  # answers that a suspicion needs
ROUNDS = 2  # and in how many rounds
SERVED_FOR = 600.0  # seconds for which an answer that had the record contradicts a sign of withholding
BY_CHANCE = 0.01  # a run of rounds that comes less often by chance is a change that lasts
ERRORS = frozenset({LookupOutcome.REFUSED, LookupOutcome.SERVFAIL, LookupOutcome.RCODE})
UNINFORMATIVE = LOST | {LookupOutcome.MALFORMED}
# The outcomes that show a sign; an ANSWER here has no real address.
NO_DATA = frozenset({LookupOutcome.NODATA})
SHOWN_BY: Mapping[Sign, frozenset[LookupOutcome]] = {
    BlockKind.BLANKET_NODATA: NO_DATA,
    BlockKind.FILTERED: NO_DATA,
    AnswerSign.MARKED: NO_DATA,
    BlockKind.BLANKET_NXDOMAIN: frozenset({LookupOutcome.NXDOMAIN}),
    BlockKind.SINKHOLE: frozenset({LookupOutcome.ANSWER}),
    BlockKind.REFUSED: ERRORS,
    BlockKind.SERVFAIL: ERRORS,
    BlockKind.DROPPED: LOST,
}
ERROR_SIGNS = frozenset(
    {BlockKind.REFUSED, BlockKind.SERVFAIL, BlockKind.DROPPED}
)  # any other answer contradicts these


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Consecutive answers to one question that show the same. `whole`: its rounds without any other answer."""

    shows: bool
    answers: int
    rounds: tuple[float, ...]
    whole: int
    last: float

    @property
    def lasts(self) -> bool:
        """Whether it is a state, not a blip: it fills a round and goes beyond it."""
        return len(self.rounds) >= ROUNDS and self.whole > 0


def _by_round(said: Iterable[tuple[Told, bool]]) -> dict[float, set[bool]]:
    shown: dict[float, set[bool]] = {}
    for one, shows in said:
        shown.setdefault(one.round, set()).add(shows)
    return shown


def runs(said: Sequence[tuple[Told, bool]]) -> tuple[Run, ...]:
    """The runs of what each answer shows, oldest first."""
    shown = _by_round(said)
    groups = (list(group) for _, group in groupby(said, key=lambda item: item[1]))
    return tuple(
        Run(
            shows=group[0][1],
            answers=len(group),
            rounds=(rounds := tuple(dict.fromkeys(one.round for one, _ in group))),
            whole=sum(len(shown[number]) == 1 for number in rounds),
            last=group[-1][0].time,
        )
        for group in groups
    )


@dataclass(frozen=True, slots=True)
class Steadiness:
    """The history of one nameserver's answers, at a moment."""

    address: Address
    told: Mapping[Key, tuple[Told, ...]]
    now: float

    def confirms(self, sign: Sign, seen: Evidence, qtype: str) -> bool:
        """Whether a sign for a name held since it began, was repeated often enough, and does not alternate.

        Any answer that had the record contradicts it for ten minutes: a cache keeps the answer of either of two servers
        for its time to live, so that an alternation looks like a change that lasts.
        """
        if any(o.real and self.now - o.time <= SERVED_FOR for o in self._answers(seen.name, qtype)):
            return False
        own = self._runs(seen.name, qtype, lambda one: _shows(sign, one, random=seen.random))
        if not own or not own[-1].shows or own[-1].answers < AGAIN or len(own[-1].rounds) < ROUNDS:
            return False
        other = self._runs(seen.name, OTHER[qtype], lambda one: _has_other(one, random=seen.random))
        return self._lasting(own) and (sign is BlockKind.SINKHOLE or self._lasting(other))

    def is_steady(self, name: str, qtype: str) -> bool:
        """Whether a question with no answer, or no address, lacked it for long: one lost answer shows nothing."""
        return self._lasting(self._runs(name, qtype, lambda one: one.outcome not in LOST)) and self._lasting(
            self._runs(name, qtype, lambda one: None if one.outcome in LOST else one.outcome is LookupOutcome.NXDOMAIN)
        )

    def _answers(self, name: str, qtype: str) -> tuple[Told, ...]:
        return self.told.get((self.address, name, qtype), ())

    def _runs(self, name: str, qtype: str, shows: Callable[[Told], bool | None]) -> tuple[Run, ...]:
        return runs([(one, said) for one in self._answers(name, qtype) if (said := shows(one)) is not None])

    def _lasting(self, found: Sequence[Run]) -> bool:
        """Whether each state before the present one lasted, as far as it is within the last ten minutes."""
        return all(run.lasts or self.now - run.last > RECENT for run in found[:-1])


def alternates(answers: Iterable[Told]) -> bool:
    """Whether one question gets data at times and none at others, more than once and still.

    Seen within rounds in two of them, or from round to round three times: one change, or one outage, is none.
    """
    said = [(one, one.real) for one in answers if one.real or denies(one)]
    found = runs(said)
    if len(found) < ROUNDS:
        return False
    blips = sum(not run.lasts for run in found[1:-1])
    shown = _by_round(said)
    mixed = sum(len(both) > 1 for both in shown.values())
    varies = (mixed >= ROUNDS and blips >= ROUNDS) or blips > ROUNDS
    return varies and still_happens([both == {found[-1].shows} for both in shown.values()])


def denies(one: Told) -> bool:
    """Whether an answer denies the record. An alias to a name without it is what its owner published."""
    return not one.real and one.outcome in NONE and not (one.alias and one.outcome is LookupOutcome.NODATA)


def still_happens(quiet: Sequence[bool]) -> bool:
    """Whether something that happens in some rounds, and not in the quiet ones, has not ended.

    It has when the quiet rounds at the end are too many to be chance, given how many of those before were not quiet.
    """
    calm = next((number for number, one in enumerate(reversed(quiet)) if not one), len(quiet))
    before = quiet[: len(quiet) - calm]
    if calm < ROUNDS or not before:
        return calm < ROUNDS
    share_of_quiet = sum(before) / len(before)
    return bool(share_of_quiet**calm >= BY_CHANCE)


def _has_other(one: Told, *, random: bool) -> bool | None:
    """Whether the name has the other type, or for a random name, whether the server denies the name; None: unknown."""
    if one.outcome in UNINFORMATIVE:
        return None
    return one.outcome is LookupOutcome.NXDOMAIN if random else one.real


def _shows(sign: Sign, one: Told, *, random: bool) -> bool | None:
    """Whether an answer shows the sign, contradicts it, or (None) neither."""
    if one.real:
        return False
    if one.outcome in SHOWN_BY[sign]:
        return True
    if sign in ERROR_SIGNS:
        return None if one.outcome in UNINFORMATIVE else False
    denied = random and one.outcome is LookupOutcome.NXDOMAIN and sign is not BlockKind.SINKHOLE
    return False if denied else None
