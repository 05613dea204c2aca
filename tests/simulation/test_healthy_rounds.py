"""A thousand simulated rounds of a healthy cluster that never stands still: not one cause in any of them."""

from __future__ import annotations

from collections import Counter
from typing import cast

import pytest

from exporter.config.load import load_config
from exporter.daemon.rounds import Rounds
from exporter.model.cause import Cause
from exporter.plan.round_plan import Pace
from exporter.probes.resolution.target_resolver import TargetResolver
from exporter.probes.runner import ProbeRunner
from exporter.vantage import Inspector
from tests.simulation.healthy_world import CONFIG, HealthyWorld

ROUNDS = 250
# Addresses are Calico's, whose pools have a cause of their own, and VXLAN leads to them, neither BGP nor WireGuard.
NOT_HERE = {
    Cause.CNI_IPV6_MASQUERADE_OFF, Cause.BGP_SESSION_DOWN, Cause.BGP_ROUTE_MISSING, Cause.WIREGUARD_V6_INCOMPLETE,
}  # fmt: skip
PACE = Pace(interval=30.0, timeout=25.0)


def rounds_in(world: HealthyWorld) -> Rounds:
    runner = cast("ProbeRunner", world)
    return Rounds(
        config=load_config(CONFIG, path="", environment={}, hostname="ra"),
        pace=PACE,
        inspector=cast("Inspector", world),
        runner=runner,
        target_resolver=TargetResolver(runner, timeout=2.0, clock=world.clock),
        clock=world.clock,
        steady=world.clock,
    )


@pytest.mark.parametrize("seed", range(4))
async def test_a_quarter_of_a_thousand_healthy_rounds_finds_nothing(seed: int) -> None:
    world = HealthyWorld(seed)
    rounds = rounds_in(world)
    found: Counter[str] = Counter()
    checked: set[Cause] = set()
    for _ in range(ROUNDS):
        world.step()
        report = await rounds.run(lambda: world.inventory)
        found.update(f"{item.finding.cause}: {item.finding.evidence[:2]}" for item in report.causes)
        checked |= report.checked
    assert found == {}
    assert checked == set(Cause) - NOT_HERE
