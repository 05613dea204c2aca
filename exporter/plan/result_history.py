"""Results kept between probes of the same vantage, and the sample that follows from them. Pure.

See docs/specification.md section 4, rotation. A pod's last result is kept until the pod is probed again or gone, at
most two rotations, and so is the probe before it, because "two rounds" of a pod are two probes of it. A pod whose last
probe failed is probed every round until it has passed twice. Of each target the last dials are kept, since a target
that fails in part passes now and then. Times are of a monotonic clock: a wall clock that is set back would have the
same pods probed again and again, and the others never.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import ceil
from typing import TypeAlias

from exporter.model.cluster.inventory import Inventory
from exporter.model.dial import Dial, Dials, dials_of
from exporter.model.family import Address, Family
from exporter.model.grouping import grouped
from exporter.model.probe import NEUTRAL, Group, Layer, Lookup, Observation, Outcome, Purpose
from exporter.model.report import PodView
from exporter.model.subject import Subject
from exporter.model.vantage import PodState, Vantage
from exporter.plan.family_support import under_policy

PASSES_TO_TRUST = 2
DIALS = 6  # of one vantage to one target that are kept


@dataclass(frozen=True, kw_only=True)
class KeptResult:
    """One vantage's last probe and the one before. A probe that was cut, or got no socket, leaves them in place."""

    asked: float  # when it was last probed
    time: float  # when `observations` were made
    observations: tuple[Observation, ...]
    before: tuple[Observation, ...] = ()
    suspect: int = 0  # passes still needed after a failure
    dials: Mapping[str, Dials] = field(default_factory=dict)  # by target's subject

    @cached_property
    def last_two(self) -> tuple[tuple[Dial, ...], tuple[Dial, ...]]:
        """The last probe's dials and those of the one before."""
        return dials_of(self.observations), dials_of(self.before)


@dataclass(frozen=True, slots=True)
class ResultHistory:
    vantages: Mapping[str, KeptResult]  # by Vantage.key

    def last_two(self) -> tuple[tuple[Dial, ...], tuple[Dial, ...]]:
        """The dials of each vantage's last probe, and of the one before."""
        last, before = ([d for kept in self.vantages.values() for d in kept.last_two[n]] for n in (0, 1))
        return tuple(last), tuple(before)

    def dials(self) -> tuple[Dials, ...]:
        """The last dials of each vantage and target."""
        return tuple(dials for kept in self.vantages.values() for dials in kept.dials.values())


EMPTY = ResultHistory({})

LookupKey: TypeAlias = tuple[Address, str, str, Purpose, bool]  # server, name, type, purpose, EDNS


@dataclass(frozen=True, slots=True)
class AnswerPairs:
    """The last answer to each question and the one of the round before it, whichever vantage asked."""

    last: Mapping[LookupKey, Lookup]
    before: Mapping[LookupKey, Lookup]


NO_ANSWERS = AnswerPairs({}, {})


def keep_answers(answers: AnswerPairs, made: Iterable[Lookup], *, now: float, keep: float) -> AnswerPairs:
    """The answers after a round; `now` is Unix seconds, as in the lookups. An answer from the future is dropped."""
    asked: dict[LookupKey, Lookup] = {}
    for lookup in made:
        q = lookup.question
        asked[q.server.address, q.name, q.qtype, q.purpose, q.edns] = lookup
    before = {**answers.before, **{key: answers.last[key] for key in asked if key in answers.last}}
    last = {key: one for key, one in {**answers.last, **asked}.items() if abs(now - one.time) <= keep}
    recent = {key: one for key, one in before.items() if key in last and abs(now - one.time) <= 2 * keep}
    return AnswerPairs(last, recent)


def rotation(pods: int, sample: int, interval: float) -> float:
    """Seconds until every pod was probed once."""
    return max(1, ceil(pods / max(1, sample))) * interval


def keep_results(
    history: ResultHistory,
    made: Mapping[str, tuple[Observation, ...]],
    *,
    present: Iterable[str],
    now: float,
    keep: float,  # seconds for a vantage's last result and the last two dials of a target
    remember: float,  # seconds for earlier dials
) -> ResultHistory:
    """The results after a round: `made` by vantage key, `present` the keys that still exist and may be probed."""
    alive = set(present)
    kept = {k: v for k, v in history.vantages.items() if k in alive and k not in made and now - v.time <= keep}
    for key, observations in made.items():
        if key in alive:
            last = history.vantages.get(key)
            if last is not None and now - last.time > keep:
                last = None
            dials = _dialled(last.dials if last is not None else {}, observations, now)
            kept[key] = replace(_next(last, _filled(last, observations, keep), now), dials=dials)
    dialled = {o.target.subject for one in kept.values() for o in one.observations}
    since = (now - keep, now - remember)
    return ResultHistory({key: _remembered(one, dialled, since) for key, one in kept.items()})


def _dialled(before: Mapping[str, Dials], observations: Iterable[Observation], now: float) -> dict[str, Dials]:
    """The kept dials, and in front of them those made now that show something."""
    made = grouped(observations, lambda o: o.target.subject)
    new = {subject: Dial(tuple(seen), now) for subject, seen in made.items() if _shows(seen)}
    earlier = {subject: before[subject].made if subject in before else () for subject in new}
    return {**before, **{subject: Dials((one, *earlier[subject])[:DIALS]) for subject, one in new.items()}}


def _remembered(kept: KeptResult, dialled: Container[str], since: tuple[float, float]) -> KeptResult:
    """Without old dials and targets no longer dialled. `since`: for the last two of a target, and for earlier ones."""
    dials = {s: left for s, dials in kept.dials.items() if s in dialled and (left := _recent(dials, since))}
    return kept if dials == kept.dials else replace(kept, dials=dials)


def _recent(dials: Dials, since: tuple[float, float]) -> Dials | None:
    if dials.made[-1].at >= max(since):
        return dials
    made = tuple(dial for n, dial in enumerate(dials.made) if dial.at >= since[n > 1])
    if len(made) == len(dials.made):
        return dials
    return Dials(made) if made else None


def _filled(last: KeptResult | None, observations: tuple[Observation, ...], keep: float) -> tuple[Observation, ...]:
    """The new results, with the last one in place of each probe that failed on our side or was not made.

    An outside target is not dialled while its name waits to be resolved.
    """
    if last is None or not _shows(observations):
        return observations
    known = {_key(o): o for o in last.observations if o.outcome not in NEUTRAL}
    filled = []
    for o in observations:
        then = known.get(_key(o)) if o.outcome is Outcome.LOCAL else None
        filled.append(then if then is not None and abs(o.time - then.time) <= keep else o)
    dialled, now = {o.target.subject for o in observations}, max(o.time for o in observations)
    waiting = (o for o in known.values() if o.target.group is Group.OUTSIDE and o.target.subject not in dialled)
    return (*filled, *(o for o in waiting if abs(now - o.time) <= keep))


def _key(observation: Observation) -> tuple[str, Family, Layer]:
    return observation.target.subject, observation.family, observation.layer


def _next(last: KeptResult | None, observations: tuple[Observation, ...], now: float) -> KeptResult:
    if last is not None and not _shows(observations) and _shows(last.observations):
        return replace(last, asked=now)
    failed = any(o.counted and not o.passed for o in observations)
    before, suspect = (last.observations, last.suspect) if last is not None else ((), 0)
    return KeptResult(
        asked=now,
        time=now,
        observations=observations,
        before=before,
        suspect=PASSES_TO_TRUST if failed else max(0, suspect - 1),
    )


def _shows(observations: Iterable[Observation]) -> bool:
    """Whether anything was learned about any path."""
    return any(o.outcome not in NEUTRAL for o in observations)


@dataclass(frozen=True, slots=True)
class StillPresent:
    """What a round saw, without what ended while it ran."""

    pods: tuple[PodView, ...]
    observations: tuple[Observation, ...]
    lookups: tuple[Lookup, ...]


def drop_vanished(
    pods: Iterable[PodView],
    observations: Sequence[Observation],
    lookups: Iterable[Lookup],
    *,
    left: Mapping[str, PodState | None],  # the new state of pods that ended meanwhile, by vantage key; None: gone
    inventory: Inventory,  # as of now
) -> StillPresent:
    """Without pods that vanished or began terminating; failures that an egress policy may cause are marked."""
    vanished = {o.vantage.key for o in observations if o.outcome is Outcome.VANISHED}
    gone = {*left, *vanished}
    restricted = under_policy(inventory)
    present = []
    for pod in pods:
        state = left.get(pod.vantage.key)
        if state is not None:  # it is terminating: in its new state, without what was read of it
            present.append(PodView(vantage=replace(pod.vantage, state=state)))
        elif pod.vantage.key not in gone:
            present.append(pod)
    return StillPresent(
        pods=tuple(present),
        observations=tuple(
            replace(o, policy=True) if not o.passed and (o.vantage.subject, o.family) in restricted else o
            for o in observations
            if o.vantage.key not in gone
        ),
        lookups=tuple(one for one in lookups if one.question.vantage.key not in gone),
    )


def of_targets(history: ResultHistory, names: Container[str]) -> ResultHistory:
    """The results without those of outside targets that are no longer configured."""

    def still(observations: Iterable[Observation]) -> tuple[Observation, ...]:
        return tuple(o for o in observations if o.target.group is not Group.OUTSIDE or o.target.name in names)

    return ResultHistory(
        {
            key: replace(one, observations=still(one.observations), before=still(one.before))
            for key, one in history.vantages.items()
        }
    )


def peers_again(history: ResultHistory) -> dict[str, Subject]:
    """By vantage key the peer that its last dial failed to reach for the first time: nothing is decided on one dial."""
    found = {}
    for key, kept in history.vantages.items():
        before = {o.target.subject for o in kept.before}
        failed = (o.target.subject for o in kept.observations if o.target.peer and o.counted and not o.passed)
        peer = next((subject for subject in failed if subject not in before), None)
        if peer is not None:
            found[key] = peer
    return found


def choose_sample(eligible: Iterable[Vantage], history: ResultHistory, size: int) -> tuple[Vantage, ...]:
    """The pods to probe this round: suspects first (at most half), then those probed longest ago, ties by subject."""
    kept = history.vantages
    pods = sorted(eligible, key=lambda v: (kept[v.key].asked if v.key in kept else float("-inf"), v.subject))
    suspects = [v for v in pods if v.key in kept and kept[v.key].suspect > 0][: size // 2]
    taken = {v.key for v in suspects}
    rest = [v for v in pods if v.key not in taken]
    return (*suspects, *rest[: max(0, size - len(suspects))])
