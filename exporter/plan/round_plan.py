"""One round: its state at the start, what it samples, and how long its results are kept. Pure.

checks.py, questions.py and name_resolution.py derive from it what the round dials and asks; daemon/rounds.py carries it
out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from exporter.config.schema import Config
from exporter.model.family import FAMILIES, Family
from exporter.model.inventory import Inventory
from exporter.model.pod import Pod
from exporter.model.probe import Layer, Timeouts
from exporter.model.report import PodView
from exporter.model.vantage import PodState, Vantage
from exporter.plan.family_support import unsupported_families
from exporter.plan.pace import Pace, rounds_between
from exporter.plan.result_history import DIALS, ResultHistory, choose_sample, rotation
from exporter.plan.servers import KnownServers, known_servers

PROBED = frozenset({PodState.ELIGIBLE, PodState.INTERCEPTED})


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
    """The context of a round: which pods it samples, over which families, and which nameservers may be asked."""
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
    )


def rounds_between_api_dials(plan: RoundPlan) -> int:
    return rounds_between(len(plan.context.families), plan.pace.connects)


def result_lifetime(plan: RoundPlan, probed: int) -> float:
    """Seconds for which a vantage's result is kept, with so many probed pods: two rotations."""
    interval = plan.pace.interval
    longest = max(rotation(probed, plan.config.pods.sample, interval), rounds_between_api_dials(plan) * interval)
    return 2 * longest + interval


def dial_lifetime(plan: RoundPlan, probed: int) -> float:
    """Seconds for which a vantage's earlier dials are kept: as many rounds as dials, or two rotations."""
    interval = plan.pace.interval
    return max(2 * rotation(probed, plan.config.pods.sample, interval) + interval, (DIALS + 0.5) * interval)


def timeouts(plan: RoundPlan) -> Timeouts:
    """The configured ones, none longer than the whole that the pace allows."""
    whole = plan.pace.whole
    return Timeouts({layer: min(plan.config.timeouts[layer], whole) for layer in Layer}, whole)
