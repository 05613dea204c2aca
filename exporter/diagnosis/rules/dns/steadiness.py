"""Whether what a nameserver says to a question is a lasting state, or goes back and forth: over the last minutes. Pure.

Between the snapshot's history (plan/answer_history.py) and the DNS rules. A server that forwards to two others that
disagree, or one that loses half of the questions, shows by chance what a blocker shows on purpose, for a round or two;
it never does so for long.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from exporter.diagnosis.rules.dns.answer_signs import OTHER, AnswerSign, Evidence
from exporter.model.family import Address
from exporter.model.probe import LookupOutcome, Told
from exporter.plan.answer_history import LOST, NONE, RECENT, Key

AGAIN = 6  # answers that a suspicion needs
ROUNDS = 2  # and in how many rounds
SERVED_FOR = 600.0  # seconds for which an answer that had the record speaks against what withholds it
BY_CHANCE = 0.01  # a run of rounds that comes less often by chance is a change that lasts
ERRORS = frozenset({LookupOutcome.REFUSED, LookupOutcome.SERVFAIL, LookupOutcome.RCODE})


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Answers of one question that say the same, one after the other. `whole`: rounds in which it was never answered otherwise."""

    shows: bool
    answers: int
    rounds: tuple[float, ...]
    whole: int
    last: float

    @property
    def lasts(self) -> bool:
        """A state, not a blip: it fills a round and goes beyond it."""
        return len(self.rounds) >= ROUNDS and self.whole > 0


def runs(said: Iterable[tuple[Told, bool]]) -> tuple[Run, ...]:
    """The runs of what each answer shows, oldest first."""
    groups: list[tuple[bool, list[Told]]] = []
    shown: dict[float, set[bool]] = {}
    for one, shows in said:
        shown.setdefault(one.round, set()).add(shows)
        if not groups or groups[-1][0] is not shows:
            groups.append((shows, []))
        groups[-1][1].append(one)
    return tuple(
        Run(
            shows=shows,
            answers=len(answers),
            rounds=(rounds := tuple(dict.fromkeys(one.round for one in answers))),
            whole=sum(len(shown[number]) == 1 for number in rounds),
            last=answers[-1].time,
        )
        for shows, answers in groups
    )


@dataclass(frozen=True, slots=True)
class Steadiness:
    """The history of one nameserver's answers, at a moment."""

    address: Address
    told: Mapping[Key, tuple[Told, ...]]
    now: float

    def confirms(self, sign: AnswerSign, seen: Evidence, qtype: str) -> bool:
        """Whether what a sign says of a name has held since it began to, asked again and again, and is no part of a back and forth.

        Any answer that had the record speaks against it for ten minutes: a cache keeps what either of two servers said
        for its time to live, so that a back and forth looks like a change that lasts.
        """
        if any(o.real and self.now - o.time <= SERVED_FOR for o in self.told.get((self.address, seen.name, qtype), ())):
            return False
        own = self._runs(seen.name, qtype, lambda one: _shows(sign, one, random=seen.random))
        if not own or not own[-1].shows or own[-1].answers < AGAIN or len(own[-1].rounds) < ROUNDS:
            return False
        steady_other = sign is AnswerSign.SINKHOLE or self._lasting(
            self._runs(seen.name, OTHER[qtype], lambda one: _answers(one, random=seen.random))
        )
        return self._lasting(own) and steady_other

    def is_steady(self, name: str, qtype: str) -> bool:
        """Whether a question that lacks an answer, or an address, lacked it in a lasting way: one lost answer shows nothing."""
        return self._lasting(self._runs(name, qtype, lambda one: one.outcome not in LOST)) and self._lasting(
            self._runs(name, qtype, lambda one: None if one.outcome in LOST else one.outcome is LookupOutcome.NXDOMAIN)
        )

    def _runs(self, name: str, qtype: str, shows: Callable[[Told], bool | None]) -> tuple[Run, ...]:
        told = self.told.get((self.address, name, qtype), ())
        return runs((one, said) for one in told if (said := shows(one)) is not None)

    def _lasting(self, found: Sequence[Run]) -> bool:
        """Whether each state before the present one lasted, as far as it reaches into the last ten minutes."""
        return all(run.lasts or self.now - run.last > RECENT for run in found[:-1])


def goes_back_and_forth(answers: Sequence[Told]) -> bool:
    """Whether one question gets data now and none then, more than once and still.

    Seen within rounds in two of them, or from round to round three times: one change, or one outage, is none.
    """
    telling = [one for one in answers if one.real or denies(one)]
    said = runs((one, one.real) for one in telling)
    if len(said) < ROUNDS:
        return False
    blips = sum(not run.lasts for run in said[1:-1])
    shown: dict[float, set[bool]] = {}
    for one in telling:
        shown.setdefault(one.round, set()).add(one.real)
    mixed = sum(len(both) > 1 for both in shown.values())
    varies = (mixed >= ROUNDS and blips >= ROUNDS) or blips > ROUNDS
    return varies and not _is_over([said[-1].shows in both and len(both) == 1 for both in shown.values()])


def denies(one: Told) -> bool:
    """Whether an answer says that there is none. An alias that leads to a name without the record is what its owner published."""
    return not one.real and one.outcome in NONE and not (one.alias and one.outcome is LookupOutcome.NODATA)


def _is_over(quiet: Sequence[bool]) -> bool:
    """Whether the quiet rounds at the end are too many to be chance, by how many of those before them were not quiet."""
    calm = next((number for number, one in enumerate(reversed(quiet)) if not one), len(quiet))
    before = quiet[: len(quiet) - calm]
    if calm < ROUNDS or not before:
        return calm >= ROUNDS
    often: float = sum(not one for one in before) / len(before)
    return bool((1 - often) ** calm < BY_CHANCE)


def still_happens(quiet: Sequence[bool]) -> bool:
    """Whether something that happens in some rounds, and not in the quiet ones, has not ended."""
    return not _is_over(quiet)


def _answers(one: Told, *, random: bool) -> bool | None:
    """What the other type's answer shows: whether the name has it, or for a random name whether the server denies the name."""
    if one.outcome in LOST or one.outcome is LookupOutcome.MALFORMED:
        return None
    return one.outcome is LookupOutcome.NXDOMAIN if random else one.real


def _shows(sign: AnswerSign, one: Told, *, random: bool) -> bool | None:
    """Whether an answer shows the sign, speaks against it, or (None) tells nothing of it."""
    if one.real:
        return False
    outcome = one.outcome
    if outcome is LookupOutcome.MALFORMED:
        return None
    if sign is AnswerSign.DROPPED:
        return outcome in LOST
    if outcome in LOST:
        return None
    if sign in {AnswerSign.REFUSED, AnswerSign.SERVFAIL}:
        return outcome in ERRORS
    zero = outcome is LookupOutcome.ANSWER  # without a real address
    if sign is AnswerSign.SINKHOLE:
        return True if zero else None
    if sign is AnswerSign.BLANKET_NXDOMAIN:
        return True if outcome is LookupOutcome.NXDOMAIN else None
    if random and outcome is LookupOutcome.NXDOMAIN:
        return False
    return True if outcome is LookupOutcome.NODATA else None
