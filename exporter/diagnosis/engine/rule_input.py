"""What a rule is given and what it returns: the one signature of all rules. Between snapshot and verdict; data only.

A rule is a pure function named after the cause it finds. It returns the findings that hold (none: the cause does not
hold), or the Reason why it could not decide. It never guesses: what was not read is a Reason, not an empty answer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TypeAlias

from exporter.config.schema import AaaaPolicy, ControlName, ServiceExpectation
from exporter.diagnosis.network import pod_network
from exporter.model.cause import Cause, Role
from exporter.model.cluster.inventory import Inventory
from exporter.model.cni.network import PodNetwork
from exporter.model.family import Family
from exporter.model.probe import Layer
from exporter.model.reason import Reason
from exporter.model.report import Finding, Snapshot
from exporter.model.subject import Pair, Subject


@dataclass(frozen=True, slots=True)
class Expectations:
    """What the operator configured as intended, as far as rules need it."""

    services: tuple[ServiceExpectation, ...] = (ServiceExpectation(),)
    aaaa: AaaaPolicy = AaaaPolicy.SERVED
    control_names: tuple[ControlName, ...] = ()


@dataclass(frozen=True, slots=True)
class Chance:
    """What was seen of destinations that may fail by chance, over either family (diagnosis/chance.py).

    `doubted`: the last time (Unix seconds) that a destination had endpoints on a node that answers over no family.
    `losses`: the dials of the last minutes that failed over IPv4, or over IPv6 alone, by destination and by what failed
    (TCP, or TLS after it): when, and that family.
    """

    doubted: Mapping[Subject, float] = field(default_factory=dict)
    losses: Mapping[tuple[Subject, Layer], tuple[tuple[float, Family], ...]] = field(default_factory=dict)


NO_CHANCE = Chance()


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class RuleInput:
    """This round, the one before, and now (Unix seconds); rules call it `view`.

    Two rounds of a pod are its kept observation and the one before that. Only path causes are given `standing`,
    the pairs that each cause was found for in the round before, and `accounted`, the pairs whose failures up to a
    moment (Unix seconds) followed from a cause that is over, and `chance`.

    A view equals only itself, so that what several rules need can be cached for it and is computed once a round.
    """

    now: float
    snapshot: Snapshot
    previous: Snapshot | None = None
    expect: Expectations = Expectations()
    standing: Mapping[Cause, frozenset[Pair]] = field(default_factory=dict)
    accounted: Mapping[Pair, float] = field(default_factory=dict)
    chance: Chance = NO_CHANCE

    @property
    def inventory(self) -> Inventory:
        return self.snapshot.inventory

    @property
    def node(self) -> str:
        return self.snapshot.node

    @property
    def role(self) -> Role:
        return self.snapshot.role

    @property
    def network(self) -> PodNetwork:
        """What runs the cluster's pod network."""
        return network_of(self.snapshot)

    def expected(self, family: Family) -> bool | None:
        """Whether pods of this cluster are meant to have the family; None: not known."""
        return self.snapshot.families.get(family)


@lru_cache(maxsize=2)
def network_of(snapshot: Snapshot) -> PodNetwork:
    """What runs the cluster's pod network; all that judge a round ask for the same."""
    return pod_network(snapshot.inventory)


Judgement: TypeAlias = tuple[Finding, ...] | Reason
Rule: TypeAlias = Callable[[RuleInput], Judgement]
