"""Dials as rules judge them: all that one vantage's dial of one target showed, and its last dials of one target. Pure.

Values of this module equal only themselves and are passed from round to round as they are, so that what follows from
one is computed once, however many rounds and rules ask for it.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from exporter.model.family import FAMILIES, Family
from exporter.model.grouping import grouped
from exporter.model.probe import Group, Layer, Observation, Outcome, Target
from exporter.model.subject import Pair, Subject
from exporter.model.vantage import Vantage

ARRIVED = frozenset({Outcome.OK, Outcome.REFUSED, Outcome.RESET})  # an answer came: the path works, whatever it was
DECISIVE = 3  # dials that decide whether a vantage reaches a target
SHOWN_TWICE = 2  # dials that must show the same: nothing is decided on one


@dataclass(frozen=True, eq=False)
class Dial:
    """The results of one dial's layers over both families: one at least. `at`: when, in monotonic seconds."""

    observations: tuple[Observation, ...]
    at: float = 0.0

    @cached_property
    def vantage(self) -> Vantage:
        return self.observations[0].vantage

    @cached_property
    def target(self) -> Target:
        return self.observations[0].target

    @cached_property
    def destination(self) -> Subject:
        return self.target.subject

    @cached_property
    def group(self) -> Group:
        return self.target.group

    @cached_property
    def pair(self) -> Pair:
        """What of it fails over IPv6: all path causes are about that family."""
        return Pair(self.vantage.subject, self.destination, Family.V6)

    @cached_property
    def time(self) -> float:
        """When it was made, in Unix seconds."""
        return max(o.time for o in self.observations)

    @cached_property
    def seen(self) -> Mapping[tuple[Family, Layer], Observation]:
        return {(o.family, o.layer): o for o in self.observations}

    @cached_property
    def _outcomes(self) -> Mapping[tuple[Family, Layer], Outcome]:
        return {key: o.outcome for key, o in self.seen.items() if o.counted}

    def outcome(self, family: Family, layer: Layer) -> Outcome | None:
        """None: not asked, or uninformative about the path."""
        return self._outcomes.get((family, layer))

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

    @cached_property
    def is_restricted(self) -> bool:
        """Whether an egress policy selects its vantage."""
        return any(o.policy for o in self.observations)

    @cached_property
    def is_meant_to_arrive(self) -> bool:
        return all(o.target.expect_reachable for o in self.observations)

    @cached_property
    def has_ipv4(self) -> bool:
        return any(o.family is Family.V4 for o in self.observations)

    @cached_property
    def counted(self) -> frozenset[Family]:
        """The families over which something was shown."""
        return frozenset(family for family, _ in self._outcomes)

    @cached_property
    def failing(self) -> tuple[Observation, ...]:
        """What counts and did not do what is expected of the target."""
        return tuple(o for o in self.observations if o.counted and not o.passed)

    @cached_property
    def unasked(self) -> frozenset[Family]:
        """The families over which its name was not resolved, because no nameserver may be asked for it."""
        return frozenset(o.family for o in self.observations if o.outcome is Outcome.NOT_ALLOWED)

    @cached_property
    def passed(self) -> Mapping[Family, bool]:
        """Whether it passed at the deepest layer, by family; absent where it neither got there nor failed before."""
        verdicts = grouped(
            (o for o in self.observations if o.counted and (_is_deepest(o) or not o.passed)), lambda o: o.family
        )
        return {family: any(_is_deepest(o) and o.passed for o in made) for family, made in verdicts.items()}


def _is_deepest(o: Observation) -> bool:
    """A target that is meant to be unreachable is not tried beyond the layer at which it passes."""
    return o.layer is o.target.deepest or (not o.target.expect_reachable and o.layer is not Layer.ICMP)


@dataclass(frozen=True, eq=False)
class Dials:
    """The last dials of one target by one vantage, the newest first: one at least, six at most."""

    made: tuple[Dial, ...]
    _times: dict[Callable[[Dial], bool], int] = field(default_factory=dict, init=False, repr=False)

    @cached_property
    def now(self) -> Dial:
        return self.made[0]

    @property
    def pair(self) -> Pair:
        return self.made[0].pair

    @cached_property
    def are_meant_to_arrive(self) -> bool:
        return all(dial.is_meant_to_arrive for dial in self.made)

    @cached_property
    def passed(self) -> Mapping[Family, bool]:
        return mostly_passed(self.made)

    def times(self, holds: Callable[[Dial], bool]) -> int:
        """For how many it holds. `holds` is a function of a module: what it says is remembered."""
        found = self._times.get(holds)
        if found is None:
            found = self._times[holds] = sum(map(holds, self.made))
        return found

    def shows(self, holds: Callable[[Dial], bool], standing: Container[Pair] = ()) -> bool:
        """Whether it holds for at least two; for a pair that was found the round before, one is enough."""
        times = self.times(holds)
        return times >= SHOWN_TWICE or (times > 0 and self.pair in standing)

    def last(self, holds: Callable[[Dial], bool]) -> Dial:
        """The newest for which it holds, or the newest."""
        return next(filter(holds, self.made), self.now)


def mostly_passed(dials: Iterable[Dial]) -> Mapping[Family, bool]:
    """Whether most of the newest three passed that show it, by family."""
    newest = sorted(dials, key=lambda dial: dial.time, reverse=True)
    verdicts = {f: [dial.passed[f] for dial in newest if f in dial.passed][:DECISIVE] for f in FAMILIES}
    return {family: 2 * sum(passed) > len(passed) for family, passed in verdicts.items() if passed}


def dials_of(observations: Iterable[Observation]) -> tuple[Dial, ...]:
    """One probe of each vantage as its dials, by vantage and target."""
    made = grouped(observations, lambda o: (o.vantage.key, o.target.subject))
    return tuple(Dial(tuple(each)) for each in made.values())
