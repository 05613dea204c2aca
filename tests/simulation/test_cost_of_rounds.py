"""How much work a round is, in calls of functions: it does not grow with rounds, and linearly at most with the node."""

from __future__ import annotations

import asyncio

import pytest

from exporter.catalogue.metric import FinishedRound
from exporter.catalogue.totals import Totals, add_round
from exporter.web.server.exposition import Exposition
from tests.simulation.healthy_world import PODS, HealthyWorld
from tests.simulation.test_healthy_rounds import rounds_in
from tests.unit.sample import own
from tests.work import calls_of

LAST = 5  # rounds of which the cheapest counts: some have more to tell


def costs(*ends: int, pods: int = PODS, nodes: int = 5) -> list[int]:
    """The calls of a round, its first scrape included, after so many rounds."""
    world = HealthyWorld(7, pods=pods, nodes=nodes)
    rounds, totals, exposition = rounds_in(world), Totals(), Exposition(own=own)
    made: dict[int, list[int]] = {end: [] for end in ends}

    def one(runner: asyncio.Runner) -> None:
        nonlocal totals
        report = runner.run(rounds.run(lambda: world.inventory))
        totals = add_round(totals, report)
        exposition.publish(FinishedRound(report, totals))
        exposition.render("", gzip=True)

    with asyncio.Runner() as runner:
        for number in range(1, max(ends) + 1):
            world.step()
            end = next((end for end in ends if end - LAST < number <= end), None)
            if end is None:
                runner.run(rounds.run(lambda: world.inventory))
            else:
                made[end].append(calls_of(lambda: one(runner)))
    return [min(each) for each in made.values()]


def test_a_round_costs_the_same_after_two_hundred() -> None:
    early, late = costs(35, 200)
    assert late < 1.1 * early


@pytest.mark.parametrize("more", [{"pods": 4 * 10}, {"nodes": 4 * 6}])
def test_a_round_grows_linearly_at_most_with_the_node_and_its_peers(more: dict[str, int]) -> None:
    least = {"pods": 10, "nodes": 6}
    ((few,), (many,)) = (costs(35, **sizes) for sizes in (least, least | more))
    assert many < 4.2 * few
