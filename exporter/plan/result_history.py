"""Results kept between probes of the same vantage, and the sample that follows from them (contract section 4, rotation). Pure.

A pod's last result stays until it is probed again or gone, at most two rotations; the probe before it stays beside it,
because "two rounds" of a pod means two probes of it. A pod whose last probe failed is probed every round until it has
passed twice. Of each target the last dials stay as well, since one that fails in part passes now and then. Times are
those of a clock that never steps: a wall clock set back would have the same pods probed again and again, and the others
never.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field, replace
from math import ceil
from typing import TypeAlias

from exporter.model.family import Address, Family
from exporter.model.probe import NEUTRAL, Group, Layer, Lookup, Observation, Outcome, Purpose
from exporter.model.vantage import Vantage

PASSES_TO_TRUST = 2
DIALS = 6  # of one vantage to one target that are remembered


@dataclass(frozen=True, slots=True)
class Attempt:
    """One dial of one target: when it was made, and what its layers came to over both families."""

    at: float
    observations: tuple[Observation, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptResult:
    """One vantage's last probe and the one before. `suspect` counts the passes still wanted after a failure.

    `asked` is when it was last probed, `time` when `observations` were made: what told nothing (it was cut, or no
    socket could be had) leaves the last result of the same target, family and layer in place. `attempts` are the last
    dials by the target's subject, the newest first.
    """

    asked: float
    time: float
    observations: tuple[Observation, ...]
    before: tuple[Observation, ...] = ()
    suspect: int = 0
    attempts: Mapping[str, tuple[Attempt, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ResultHistory:
    """Kept results by Vantage.key."""

    vantages: Mapping[str, KeptResult]

    def observations(self) -> tuple[Observation, ...]:
        return tuple(o for kept in self.vantages.values() for o in kept.observations)

    def before(self) -> tuple[Observation, ...]:
        return tuple(o for kept in self.vantages.values() for o in kept.before)

    def history(self) -> tuple[tuple[Observation, ...], ...]:
        """At place n what each vantage's dial before its last n dials of a target came to."""
        made = [attempts for kept in self.vantages.values() for attempts in kept.attempts.values()]
        return tuple(
            tuple(o for attempts in made if len(attempts) > n for o in attempts[n].observations) for n in range(DIALS)
        )


EMPTY = ResultHistory({})

LookupKey: TypeAlias = tuple[Address, str, str, Purpose, bool]  # server, name, type, purpose, EDNS


@dataclass(frozen=True, slots=True)
class AnswerPairs:
    """The last answer to each question and the one of the round before it, whichever vantage asked."""

    last: Mapping[LookupKey, Lookup]
    before: Mapping[LookupKey, Lookup]


NO_ANSWERS = AnswerPairs({}, {})


def keep_answers(answers: AnswerPairs, made: Iterable[Lookup], *, now: float, keep: float) -> AnswerPairs:
    """The answers after a round. Several vantages that asked the same in one round are one round.

    `now` is Unix seconds, as in the lookups; an answer from the future (the clock was set back) is of no known age and
    goes.
    """
    asked: dict[LookupKey, Lookup] = {}
    for lookup in made:
        q = lookup.question
        asked[q.server.address, q.name, q.qtype, q.purpose, q.edns] = lookup
    before = {**answers.before, **{key: answers.last[key] for key in asked if key in answers.last}}
    last = {key: one for key, one in {**answers.last, **asked}.items() if abs(now - one.time) <= keep}
    return AnswerPairs(
        last, {key: one for key, one in before.items() if key in last and abs(now - one.time) <= 2 * keep}
    )


def rotation(pods: int, sample: int, interval: float) -> float:
    """Seconds until every pod was probed once."""
    return max(1, ceil(pods / max(1, sample))) * interval


def keep_results(
    store: ResultHistory,
    made: Mapping[str, tuple[Observation, ...]],
    *,
    present: Iterable[str],
    now: float,
    keep: float,
    remember: float,
) -> ResultHistory:
    """The store after a round: `made` by vantage key, `present` the keys that still exist and may be probed.

    `keep` and `remember` are seconds: for a vantage's last result and the last two dials of a target, and for the dials
    before these.
    """
    alive = set(present)
    result = {k: v for k, v in store.vantages.items() if k in alive and k not in made and now - v.time <= keep}
    for key, observations in made.items():
        if key in alive:
            last = store.vantages.get(key)
            if last is not None and now - last.time > keep:
                last = None
            attempts = _attempts(last.attempts if last is not None else {}, observations, now)
            result[key] = replace(_next(last, _filled(last, observations, keep), now), attempts=attempts)
    dialled = {o.target.subject for kept in result.values() for o in kept.observations}
    since = (now - keep, now - remember)
    return ResultHistory(
        {key: replace(k, attempts=_remembered(k.attempts, dialled, since)) for key, k in result.items()}
    )


def _attempts(
    before: Mapping[str, tuple[Attempt, ...]], observations: Iterable[Observation], now: float
) -> dict[str, tuple[Attempt, ...]]:
    """The dials that were remembered, and in front of them those made now that told something."""
    made: dict[str, list[Observation]] = {}
    for o in observations:
        made.setdefault(o.target.subject, []).append(o)
    told = {subject: Attempt(now, tuple(seen)) for subject, seen in made.items() if _told(seen)}
    return {**before, **{subject: (one, *before.get(subject, ()))[:DIALS] for subject, one in told.items()}}


def _remembered(
    attempts: Mapping[str, tuple[Attempt, ...]], dialled: Container[str], since: tuple[float, float]
) -> dict[str, tuple[Attempt, ...]]:
    """Without dials of long ago, and without targets that nobody dials any more. `since`: for the last two of a target, and for the others."""
    recent = {
        subject: tuple(a for n, a in enumerate(made) if a.at >= since[n > 1])
        for subject, made in attempts.items()
        if subject in dialled
    }
    return {subject: made for subject, made in recent.items() if made}


def _filled(last: KeptResult | None, observations: tuple[Observation, ...], keep: float) -> tuple[Observation, ...]:
    """What was probed, with the last result in place of each probe that was our own to fail: it told nothing of the path."""
    if last is None or not any(o.outcome is Outcome.LOCAL for o in observations):
        return observations
    told = {_what(o): o for o in last.observations if o.outcome not in NEUTRAL}

    def known(o: Observation) -> Observation:
        then = told.get(_what(o)) if o.outcome is Outcome.LOCAL else None
        return then if then is not None and abs(o.time - then.time) <= keep else o

    return tuple(map(known, observations)) if _told(observations) else observations


def _what(observation: Observation) -> tuple[str, Family, Layer]:
    return observation.target.subject, observation.family, observation.layer


def _next(last: KeptResult | None, observations: tuple[Observation, ...], now: float) -> KeptResult:
    """What is kept of a vantage after it was probed."""
    if last is None:
        return KeptResult(
            asked=now,
            time=now,
            observations=observations,
            before=(),
            suspect=PASSES_TO_TRUST if _failed(observations) else 0,
        )
    if not _told(observations) and _told(last.observations):
        return replace(last, asked=now)
    wanted = PASSES_TO_TRUST if _failed(observations) else max(0, last.suspect - 1)
    return KeptResult(asked=now, time=now, observations=observations, before=last.observations, suspect=wanted)


def _failed(observations: Iterable[Observation]) -> bool:
    return any(o.counted and not o.passed for o in observations)


def _told(observations: Iterable[Observation]) -> bool:
    """Whether anything was learnt of any path."""
    return any(o.outcome not in NEUTRAL for o in observations)


def of_targets(store: ResultHistory, names: Container[str]) -> ResultHistory:
    """What is kept, of outside targets only those that are still configured."""

    def still(observations: Iterable[Observation]) -> tuple[Observation, ...]:
        return tuple(o for o in observations if o.target.group is not Group.OUTSIDE or o.target.name in names)

    return ResultHistory(
        {
            key: replace(one, observations=still(one.observations), before=still(one.before))
            for key, one in store.vantages.items()
        }
    )


def choose_sample(eligible: Iterable[Vantage], store: ResultHistory, size: int) -> tuple[Vantage, ...]:
    """The pods to probe this round: suspects first (at most half), then those probed longest ago; ties by subject, so it rotates."""
    kept = store.vantages
    pods = sorted(eligible, key=lambda v: (kept[v.key].asked if v.key in kept else float("-inf"), v.subject))
    suspects = [v for v in pods if v.key in kept and kept[v.key].suspect > 0][: size // 2]
    taken = {v.key for v in suspects}
    rest = [v for v in pods if v.key not in taken]
    return (*suspects, *rest[: max(0, size - len(suspects))])
