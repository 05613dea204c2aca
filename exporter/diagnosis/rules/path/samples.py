"""Observations as path rules want them: what the last dials of one destination by one vantage showed. Pure.

Between the kept results of a snapshot and path.py, with the words for them; nothing is decided here.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from exporter.diagnosis.engine.rule_input import RuleInput
from exporter.model.family import Family
from exporter.model.probe import Group, Layer, Observation, Outcome
from exporter.model.report import Pair
from exporter.model.subject import Subject
from exporter.model.vantage import Vantage

ARRIVED = frozenset({Outcome.OK, Outcome.REFUSED, Outcome.RESET})  # an answer came: the path works, whatever it said


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
        """What fails of it over IPv6: all path causes are about that family."""
        return Pair(self.vantage.subject, self.destination, Family.V6)

    @property
    def time(self) -> float:
        """When it was made, in Unix seconds."""
        return max(o.time for o in self.seen.values())

    def outcome(self, family: Family, layer: Layer) -> Outcome | None:
        """None: not asked, or says nothing of the path."""
        observation = self.seen.get((family, layer))
        return observation.outcome if observation is not None and observation.counted else None

    def arrives(self, family: Family) -> bool:
        """Whether TCP (or, where only echoes were sent, ICMP) arrives over the family."""
        if (family, Layer.TCP) in self.seen:
            return self.outcome(family, Layer.TCP) in ARRIVED
        return self.outcome(family, Layer.ICMP) is Outcome.OK

    @property
    def excused(self) -> bool:
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

    def both(self, holds: Callable[[PathSample], bool]) -> bool:
        """Whether it holds of each of the last two."""
        return all(map(holds, self.dials[:2]))

    def times(self, holds: Callable[[PathSample], bool]) -> int:
        """Of how many it holds."""
        return sum(map(holds, self.dials))

    def shows(self, holds: Callable[[PathSample], bool], standing: Container[Pair] = ()) -> bool:
        """Whether it holds of two at least; of a pair that was found the round before, whether it still holds of one."""
        return self.times(holds) >= (1 if self.pair in standing else SHOWN_TWICE)

    def last(self, holds: Callable[[PathSample], bool]) -> PathSample:
        """The newest of which it holds, or the newest."""
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
    ipv4 = view.expected(Family.V4) is not False
    now, before = dials(view.snapshot.kept, ipv4=ipv4), dials(view.snapshot.kept_before, ipv4=ipv4)
    pairs: dict[tuple[str, str], list[PathSample]] = {}
    for made in view.snapshot.history:
        for d in dials(made, ipv4=ipv4):
            if d.time <= view.accounted.get(d.pair, float("-inf")):
                continue
            pairs.setdefault((d.vantage.key, d.destination), []).append(d)
    recent = (
        RepeatedSample(tuple(made)) for made in pairs.values() if len(made) >= SHOWN_TWICE and not made[0].excused
    )
    return Probes(now, before, tuple(recent))


def dials(observations: Iterable[Observation], *, ipv4: bool = True) -> tuple[PathSample, ...]:
    """Observations grouped by (vantage, destination), without destinations that are meant to be out of reach.

    `ipv4`: whether the cluster is meant to have it.
    """
    table: dict[tuple[str, str], dict[tuple[Family, Layer], Observation]] = {}
    for o in observations:
        if not o.target.expect_reachable:
            continue
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


def say(dial: PathSample, template: str) -> str:
    """The template with the outcomes that it names (icmp6, tcp6, tcp4, tls6, tls4) and the size of the full-size echo."""

    def word(family: Family, layer: Layer) -> str:
        observation = dial.seen.get((family, layer))
        return observation.outcome.value if observation is not None else "not asked"

    size = next((o.full_size_bytes for (f, layer), o in dial.seen.items() if f is Family.V6 and layer is Layer.ICMP), 0)
    return template.format(
        icmp6=word(Family.V6, Layer.ICMP),
        tcp6=word(Family.V6, Layer.TCP),
        tcp4=word(Family.V4, Layer.TCP),
        tls6=word(Family.V6, Layer.TLS),
        tls4=word(Family.V4, Layer.TLS),
        size=size,
    )


def at(dial: PathSample) -> str:
    """The address that was dialled over IPv6, in brackets, where there was one."""
    address = next((o.address for (f, _), o in dial.seen.items() if f is Family.V6 and o.address is not None), None)
    return f" ({address})" if address is not None else ""


def probe_command(observation: Observation | None) -> str:
    """What repeats the dial step by step."""
    if observation is None or observation.address is None:
        return "dualstack-exporter check"
    address = f"[{observation.address}]" if observation.address.version == 6 else str(observation.address)
    place = observation.vantage
    flag = ""
    if place.kind == "pod":
        flag = f" --netns={place.name}" if place.namespace == "netns" else f" --pod={place.namespace}/{place.name}"
    return f"dualstack-exporter probe {address}:{observation.target.port}{flag}"
