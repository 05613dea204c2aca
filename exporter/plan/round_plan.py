"""One round: how often, how long and within which budget; its state at the start, and what it keeps. Pure.

checks.py, questions.py and name_resolution.py derive from it what the round dials and asks; daemon/rounds.py carries it
out. The budget is that of docs/specification.md section 3.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import TypeVar

from exporter.config.schema import Config
from exporter.model.cluster.inventory import Inventory
from exporter.model.cluster.pod import Pod
from exporter.model.family import FAMILIES, Family
from exporter.model.report import PodView
from exporter.model.subject import Subject
from exporter.model.vantage import PodState, Vantage
from exporter.plan.family_support import unsupported_families
from exporter.plan.result_history import DIALS, ResultHistory, choose_sample, peers_again, rotation
from exporter.plan.servers import KnownServers, known_servers

PROBED = frozenset({PodState.ELIGIBLE, PodState.INTERCEPTED})
QUERIES, CONNECTS = 2.0, 0.1  # per second and node: DNS questions, connections to the API server
LARGE = 500  # nodes; above it the interval grows, so that the cluster sees at most 1,000 queries/s
SPREAD = 5.0  # seconds over which the starts of a round are spread
WHOLE = 10.0  # seconds that one connection may take over all its phases
UNREADY = 2  # rounds of a daemon after which its Service leads to it: ready after the first, known before the third
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """Seconds: a daemon's from the configuration, a check's own (docs/specification.md section 2)."""

    interval: float
    timeout: float
    whole: float = WHOLE
    spread: float = SPREAD
    bounded: bool = True  # whether the budget applies
    configured: float | None = None  # the interval that the budget is for, where a large cluster makes rounds rarer

    @property
    def queries(self) -> int | None:
        """DNS questions per round; None without a budget."""
        return int(QUERIES * (self.configured or self.interval)) if self.bounded else None

    def rounds_between(self, dials: int) -> int:
        """Every how many rounds the API server may be dialled, with so many connections each time."""
        return max(1, ceil(dials / (CONNECTS * (self.configured or self.interval)))) if self.bounded else 1

    @property
    def patience(self) -> float:
        """Seconds that inspecting this machine may take before the round is given up."""
        return min(self.interval, 2 * self.timeout)


def pace_of(config: Config, nodes: int) -> Pace:
    timeout = config.round.timeout
    spread = min(SPREAD, timeout / 5)
    return Pace(
        interval=config.round.interval * max(1.0, nodes / LARGE),
        timeout=timeout,
        whole=min(WHOLE, timeout - spread),
        spread=spread,
        configured=config.round.interval,
    )


def rotated(items: Sequence[T], by: int) -> tuple[T, ...]:
    """The items in the same circular order, starting `by` places later."""
    first = by % len(items) if items else 0
    return (*items[first:], *items[:first])


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundContext:
    """The state at the start of a round. `probes_locally`: whether this machine is inspected and probed at all."""

    host: PodView
    pods: tuple[PodView, ...]
    inventory: Inventory
    families: tuple[Family, ...]  # all but those known not to be expected
    sample: tuple[Vantage, ...]
    known: KnownServers
    now: float
    probes_locally: bool
    unsupported_families: frozenset[tuple[str, Family]]
    peers_again: Mapping[str, Subject]  # by vantage key

    @property
    def sampled(self) -> tuple[PodView, ...]:
        keys = {v.key for v in self.sample}
        return tuple(p for p in self.pods if p.vantage.key in keys)


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundPlan:
    """Everything that decides what a round asks; `number` counts the rounds since the start."""

    number: int
    config: Config
    pace: Pace
    context: RoundContext

    @property
    def pods_by_uid(self) -> dict[str, Pod]:
        """This node's pods in the inventory, whose spec may name further nameservers."""
        return {p.uid: p for p in self.context.inventory.local_pods(self.config.node_name) if p.uid}

    @property
    def may_be_unready(self) -> bool:
        """Whether the daemon may not be ready yet, or not known to be: that takes a round, and then some seconds."""
        return self.pace.bounded and self.number < UNREADY

    @property
    def rounds_between_api_dials(self) -> int:
        return self.pace.rounds_between(len(self.context.families))


def round_context(
    host: PodView,
    pods: tuple[PodView, ...],
    inventory: Inventory,
    *,
    config: Config,
    expected: Mapping[Family, bool | None],
    history: ResultHistory,
    now: float,
    probes_locally: bool,
) -> RoundContext:
    eligible = [p.vantage for p in pods if p.vantage.state in PROBED]
    return RoundContext(
        host=host,
        pods=pods,
        inventory=inventory,
        families=tuple(f for f in FAMILIES if expected.get(f) is not False),
        sample=choose_sample(eligible, history, config.pods.sample),
        known=known_servers(inventory, config, host.resolv_conf),
        now=now,
        probes_locally=probes_locally,
        unsupported_families=unsupported_families(inventory, config.node_name),
        peers_again=peers_again(history),
    )


def result_lifetime(plan: RoundPlan, probed: int) -> float:
    """Seconds for which a vantage's result is kept, with so many probed pods: two rotations."""
    interval = plan.pace.interval
    longest = max(rotation(probed, plan.config.pods.sample, interval), plan.rounds_between_api_dials * interval)
    return 2 * longest + interval


def dial_lifetime(plan: RoundPlan, probed: int) -> float:
    """Seconds for which a vantage's earlier dials are kept: as many rounds as dials, or two rotations."""
    interval = plan.pace.interval
    return max(2 * rotation(probed, plan.config.pods.sample, interval) + interval, (DIALS + 0.5) * interval)
