"""Observations as path rules need them: what the last dials of one destination by one vantage showed. Pure.

Between the kept results of a snapshot and the path rules, with the words for them; nothing is decided here.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from exporter.diagnosis.engine.rule_input import RuleInput
from exporter.model.family import Family
from exporter.model.grouping import grouped
from exporter.model.probe import Group, Layer, Observation, Outcome
from exporter.model.report import Pair, Snapshot
from exporter.model.subject import Subject
from exporter.model.vantage import Vantage

ARRIVED = frozenset({Outcome.OK, Outcome.REFUSED, Outcome.RESET})  # an answer came: the path works, whatever it was
WORDS = {
    "icmp6": (Family.V6, Layer.ICMP),
    "tcp6": (Family.V6, Layer.TCP),
    "tcp4": (Family.V4, Layer.TCP),
    "tls6": (Family.V6, Layer.TLS),
    "tls4": (Family.V4, Layer.TLS),
}
NEVER = float("-inf")
SHOWN_TWICE = 2  # dials that must show the same: nothing is decided on one


@dataclass(frozen=True, slots=True, kw_only=True)
class PathSample:
    """All that one vantage's probe of one destination showed, by family and layer."""

    vantage: Vantage
    destination: Subject
    group: Group
    seen: Mapping[tuple[Family, Layer], Observation]
    wants_ipv4: bool = True  # whether its vantage is meant to have IPv4

    @property
    def pair(self) -> Pair:
        """What of it fails over IPv6: all path causes are about that family."""
        return Pair(self.vantage.subject, self.destination, Family.V6)

    @property
    def time(self) -> float:
        """When it was made, in Unix seconds."""
        return max(o.time for o in self.seen.values())

    def outcome(self, family: Family, layer: Layer) -> Outcome | None:
        """None: not asked, or uninformative about the path."""
        observation = self.seen.get((family, layer))
        return observation.outcome if observation is not None and observation.counted else None

    def arrives(self, family: Family, layer: Layer = Layer.TCP) -> bool:
        """Whether TCP (or, where only echoes were sent, ICMP) arrives over the family; or whether TLS passes."""
        if layer is Layer.TLS:
            return self.outcome(family, Layer.TLS) is Outcome.OK
        if (family, Layer.TCP) in self.seen:
            return self.outcome(family, Layer.TCP) in ARRIVED
        return self.outcome(family, Layer.ICMP) is Outcome.OK

    def is_lost(self, family: Family, layer: Layer = Layer.TCP) -> bool:
        """Whether it was dialled over the family and did not arrive; or arrived, and TLS failed."""
        if layer is Layer.TLS:
            tcp, tls = self.outcome(family, Layer.TCP), self.outcome(family, Layer.TLS)
            return tcp is Outcome.OK and tls not in {None, Outcome.OK}
        told = [self.outcome(family, each) for each in (Layer.TCP, Layer.ICMP)]
        return any(told) and not self.arrives(family)

    def is_lost_over_ipv6_alone(self, layer: Layer = Layer.TCP) -> bool:
        return self.is_lost(Family.V6, layer) and self.arrives(Family.V4, layer)

    @property
    def is_restricted(self) -> bool:
        """Whether an egress policy selects its vantage."""
        return any(o.policy for o in self.seen.values())

    @property
    def has_ipv4(self) -> bool:
        return any(family is Family.V4 for family, _ in self.seen)


@dataclass(frozen=True, slots=True)
class RepeatedSample:
    """The last dials of one pair, the newest first: two at least, six at most."""

    dials: tuple[PathSample, ...]

    @property
    def now(self) -> PathSample:
        return self.dials[0]

    @property
    def pair(self) -> Pair:
        return self.now.pair

    def times(self, holds: Callable[[PathSample], bool]) -> int:
        """For how many it holds."""
        return sum(map(holds, self.dials))

    def shows(self, holds: Callable[[PathSample], bool], standing: Container[Pair] = ()) -> bool:
        """Whether it holds for at least two; for a pair that was found the round before, one is enough."""
        return self.times(holds) >= (1 if self.pair in standing else SHOWN_TWICE)

    def last(self, holds: Callable[[PathSample], bool]) -> PathSample:
        """The newest for which it holds, or the newest."""
        return next(filter(holds, self.dials), self.now)


@dataclass(frozen=True, slots=True)
class Probes:
    """The last two probes of every vantage, and the last dials of every pair that was dialled twice at least.

    A pod dials another peer each time, so that its last two probes need not be of the same pairs.
    """

    now: tuple[PathSample, ...]
    before: tuple[PathSample, ...]
    pairs: tuple[RepeatedSample, ...]


@lru_cache(maxsize=1)
def probes_of(view: RuleInput) -> Probes:
    """The probes of a view; all rules of a round ask for the same."""
    now, before, *history = samples_of(view.snapshot)
    unaccounted = (s for s in itertools.chain(*history) if s.time > _void_until(view, s.pair))
    pairs = grouped(unaccounted, lambda sample: (sample.vantage.key, sample.destination))
    repeated = (
        RepeatedSample(tuple(made)) for made in pairs.values() if len(made) >= SHOWN_TWICE and not made[0].is_restricted
    )
    return Probes(now, before, tuple(repeated))


def _void_until(view: RuleInput, pair: Pair) -> float:
    """Dials up to then show nothing: their failures are accounted for, or came by chance (chance.py)."""
    stands = any(pair in pairs for pairs in view.standing.values())
    doubted = NEVER if stands else view.chance.doubted.get(pair.destination, NEVER)
    return max(doubted, view.accounted.get(pair, NEVER))


@lru_cache(maxsize=1)  # path causes and the others are judged with two views of one snapshot
def samples_of(snapshot: Snapshot) -> tuple[tuple[PathSample, ...], ...]:
    """Those of the last two probes, and of each round of the history."""
    ipv4 = snapshot.families.get(Family.V4) is not False
    return tuple(_group(made, ipv4=ipv4) for made in (snapshot.kept, snapshot.kept_before, *snapshot.history))


def _group(observations: Iterable[Observation], *, ipv4: bool) -> tuple[PathSample, ...]:
    """Observations by vantage and destination, without destinations that are meant to be unreachable.

    `ipv4`: whether the cluster is meant to have it.
    """
    table: dict[tuple[str, Subject], dict[tuple[Family, Layer], Observation]] = {}
    for o in observations:
        if o.target.expect_reachable:
            table.setdefault((o.vantage.key, o.target.subject), {})[o.family, o.layer] = o
    return tuple(
        PathSample(
            vantage=first.vantage,
            destination=first.target.subject,
            group=first.target.group,
            seen=seen,
            wants_ipv4=ipv4 and Family.V4 in first.vantage.families,
        )
        for seen in table.values()
        for first in [next(iter(seen.values()))]
    )


def describe(sample: PathSample, template: str) -> str:
    """The template with the outcomes that it names (WORDS) and the size of the full-size echo."""
    seen = sample.seen
    words = {word: seen[key].outcome.value if key in seen else "not asked" for word, key in WORDS.items()}
    echo = seen.get((Family.V6, Layer.ICMP))
    return template.format(**words, size=echo.full_size_bytes if echo is not None else 0)


def dialled(sample: PathSample) -> str:
    """The address that was dialled over IPv6, in brackets; empty without one."""
    address = next((o.address for (f, _), o in sample.seen.items() if f is Family.V6 and o.address is not None), None)
    return f" ({address})" if address is not None else ""


def probe_command(observation: Observation | None) -> str:
    """The command that repeats the dial step by step."""
    if observation is None or observation.address is None:
        return "dualstack-exporter check"
    address = f"[{observation.address}]" if observation.family is Family.V6 else str(observation.address)
    place = observation.vantage
    flag = ""
    if place.kind == "pod":
        flag = f" --netns={place.name}" if place.namespace == "netns" else f" --pod={place.namespace}/{place.name}"
    return f"dualstack-exporter probe {address}:{observation.target.port}{flag}"
