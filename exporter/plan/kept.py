"""Results kept between probes of the same vantage, and the sample that follows from them (contract section 4, rotation). Pure.

A pod's last result stays until it is probed again or gone, at most two rotations; the probe before it stays beside it, because "two
rounds" of a pod means two probes of it. A pod whose last probe failed is probed every round until it has passed twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import ceil
from typing import TypeAlias

from exporter.model.family import Address
from exporter.model.probe import Lookup, Observation, Purpose
from exporter.model.vantage import Vantage

PASSES_TO_TRUST = 2


@dataclass(frozen=True, slots=True)
class Kept:
    """One vantage's last probe and the one before. `suspect` counts the passes still wanted after a failure."""

    time: float
    observations: tuple[Observation, ...]
    before: tuple[Observation, ...] = ()
    suspect: int = 0


@dataclass(frozen=True, slots=True)
class Store:
    """Kept results by Vantage.key."""

    vantages: Mapping[str, Kept]

    def observations(self) -> tuple[Observation, ...]:
        return tuple(o for kept in self.vantages.values() for o in kept.observations)

    def before(self) -> tuple[Observation, ...]:
        return tuple(o for kept in self.vantages.values() for o in kept.before)


EMPTY = Store({})

LookupKey: TypeAlias = tuple[Address, str, str, Purpose, bool]  # server, name, type, purpose, EDNS


@dataclass(frozen=True, slots=True)
class Answers:
    """The last answer to each question and the one of the round before it, whichever vantage asked."""

    last: Mapping[LookupKey, Lookup]
    before: Mapping[LookupKey, Lookup]


NO_ANSWERS = Answers({}, {})


def fold_answers(answers: Answers, made: Iterable[Lookup], *, now: float, keep: float) -> Answers:
    """The answers after a round. Several vantages that asked the same in one round are one round."""
    asked: dict[LookupKey, Lookup] = {}
    for lookup in made:
        q = lookup.question
        asked[q.server.address, q.name, q.qtype, q.purpose, q.edns] = lookup
    before = {**answers.before, **{key: answers.last[key] for key in asked if key in answers.last}}
    last = {key: one for key, one in {**answers.last, **asked}.items() if now - one.time <= keep}
    return Answers(last, {key: one for key, one in before.items() if key in last and now - one.time <= 2 * keep})


def rotation(pods: int, sample: int, interval: float) -> float:
    """Seconds until every pod was probed once."""
    return max(1, ceil(pods / max(1, sample))) * interval


def fold(
    store: Store, made: Mapping[str, tuple[Observation, ...]], *, present: Iterable[str], now: float, keep: float
) -> Store:
    """The store after a round: `made` by vantage key, `present` the keys that still exist and may be probed, `keep` in seconds."""
    alive = set(present)
    result = {k: v for k, v in store.vantages.items() if k in alive and k not in made and now - v.time <= keep}
    for key, observations in made.items():
        if key not in alive:
            continue
        last = store.vantages.get(key)
        failed = any(o.counted and not o.passed for o in observations)
        wanted = PASSES_TO_TRUST if failed else max(0, (last.suspect if last else 0) - 1)
        result[key] = Kept(now, observations, last.observations if last else (), wanted)
    return Store(result)


def choose_sample(eligible: Iterable[Vantage], store: Store, size: int) -> tuple[Vantage, ...]:
    """The pods to probe this round: suspects first (at most half), then those probed longest ago; ties by subject, so it rotates."""
    pods = sorted(eligible, key=lambda v: (store.vantages[v.key].time if v.key in store.vantages else 0.0, v.subject))
    suspects = [v for v in pods if v.key in store.vantages and store.vantages[v.key].suspect > 0][: max(1, size // 2)]
    taken = {v.key for v in suspects}
    rest = [v for v in pods if v.key not in taken]
    return (*suspects, *rest[: max(0, size - len(suspects))])
