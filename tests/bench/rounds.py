"""What a round costs: planning, judging and the first scrape alone, on a simulated node, and all of a real daemon's.

Of the simulated node it is the CPU of this process without that of the world, and the cheapest of several rounds
counts. Of the real one it is that of exporter and broker; its rounds follow each other faster than on a node.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import cast

from exporter.catalogue.metric import FinishedRound
from exporter.catalogue.totals import Totals, add_round
from exporter.config.load import load_config
from exporter.daemon.rounds import Rounds
from exporter.model.cluster.inventory import Inventory
from exporter.model.probe import Check, Lookup, Observation, Question, Together
from exporter.plan.round_plan import Pace
from exporter.probes.resolution.target_resolver import TargetResolver
from exporter.probes.runner import Deadline, ProbeRunner
from exporter.vantage import Inspection, Inspector
from exporter.web.server.exposition import Exposition
from tests.bench.node_scene import BusyNode, busy_node
from tests.bench.probes import cpu_of
from tests.bench.table import Row
from tests.simulation.healthy_world import HealthyWorld
from tests.unit.sample import own

INTERVAL = 30.0
PACE = 2.0  # seconds between rounds of the real daemon
SIZES = (10, 110, 250)
EARLY, LATE = 35, 200  # rounds; every pod of 250 has been dialled twice after 26
LAST = 5  # rounds of which the cheapest counts
TARGETS = "".join(
    f"  - {{name: {name}, host: {name}.example, addresses: ['2001:db8::{n}', 192.0.2.{n}], port: 443, "
    "layers: [icmp, tcp, tls, http]}\n"
    for n, name in enumerate(("one", "two", "three"), 70)
)
CONFIG = f"role: all\nnode_name: ra\ntargets:\n{TARGETS}dns: {{names: [{{name: both.example}}]}}\n"


class TimedWorld(HealthyWorld):
    """Knows how much CPU it took itself."""

    spent = 0.0

    async def inspect(self, inventory: Inventory, **how: bool) -> Inspection:
        began = time.process_time()
        made = await super().inspect(inventory, **how)
        self.spent += time.process_time() - began
        return made

    async def check_all(self, checks: Sequence[Check], deadline: Deadline) -> tuple[Observation, ...]:
        began = time.process_time()
        made = await super().check_all(checks, deadline)
        self.spent += time.process_time() - began
        return made

    async def ask_all(self, questions: Sequence[Question], deadline: Deadline) -> tuple[Lookup, ...]:
        began = time.process_time()
        made = await super().ask_all(questions, deadline)
        self.spent += time.process_time() - began
        return made

    async def ask_together(self, asked: Sequence[Together], deadline: Deadline) -> tuple[tuple[Lookup, ...], ...]:
        began = time.process_time()
        made = await super().ask_together(asked, deadline)
        self.spent += time.process_time() - began
        return made


@dataclass(frozen=True)
class Cost:
    """Seconds of CPU for a round and for its first scrape, of so many series."""

    round: float
    scrape: float
    series: int


async def costs(pods: int, ends: Sequence[int]) -> list[Cost]:
    """The cost of a round after so many rounds."""
    world = TimedWorld(1, pods=pods)
    runner = cast("ProbeRunner", world)
    rounds = Rounds(
        config=load_config(CONFIG, path="", environment={}, hostname="ra"),
        pace=Pace(interval=INTERVAL, timeout=25.0),
        inspector=cast("Inspector", world),
        runner=runner,
        target_resolver=TargetResolver(runner, timeout=2.0, clock=world.clock),
        clock=world.clock,
        steady=world.clock,
    )
    totals, exposition, made = Totals(), Exposition(own=own), []
    for _ in range(max(ends)):
        world.step()
        world.spent, began = 0.0, time.process_time()
        report = await rounds.run(lambda: world.inventory)
        done = time.process_time()
        totals = add_round(totals, report)
        exposition.publish(FinishedRound(report, totals))
        text = exposition.render("", gzip=False).body
        made.append(Cost(done - began - world.spent, time.process_time() - done, text.count(b"\n")))
    last = [made[max(0, end - LAST) : end] for end in ends]
    return [Cost(min(c.round for c in some), min(c.scrape for c in some), some[-1].series) for some in last]


def cost_after(node: BusyNode, rounds: int, some: int) -> float:
    """Seconds of CPU of one round of the daemon after so many, on average over some; in these there is one scrape."""

    def reading() -> tuple[float, float]:
        done = node.daemon.series()["dualstack_exporter_rounds_total"]
        return cpu_of(node.exporter) + cpu_of(node.broker), done

    node.wait_rounds(rounds)
    before, first = reading()
    time.sleep(some * PACE)
    after, last = reading()
    return (after - before) / (last - first)


def whole_rounds(pods: int, ends: Sequence[int], bar: float, some: int = 10) -> Iterator[Row]:
    with busy_node(pods, interval=PACE) as node:
        made = [cost_after(node, end, some) for end in ends]
    detail = ", ".join(f"{cost * 1e3:.0f} ms after {end}" for cost, end in zip(made, ends, strict=True))
    share = 100 * made[-1] / INTERVAL
    yield Row(f"a whole round, {pods} pods", f"one core at {INTERVAL:g} s", share, bar, "%", detail)
    if len(made) > 1:
        yield Row(f"a whole round, {pods} pods, after {ends[-1]}", f"after {ends[0]}", made[-1] / made[0], 1.15, "x")


def measure(*, short: bool) -> Iterator[Row]:
    for pods in SIZES[:1] if short else SIZES:
        early, late = asyncio.run(costs(pods, (2, 4) if short else (EARLY, LATE)))
        detail = f"{late.round * 1e3:.0f} ms / {early.round * 1e3:.0f} ms"
        yield Row(f"planning and judging, {pods} pods, round {LATE}", f"round {EARLY}", late.round / early.round, 1.25,
                  "x", detail)  # fmt: skip
        share = 100 * late.scrape / INTERVAL
        detail = f"{late.scrape * 1e3:.0f} ms, {late.series} lines, all metrics of the round made"
        yield Row(f"first scrape of a round, {pods} pods", f"one core at {INTERVAL:g} s", share, 0.1, "%", detail)
    for size in ((4, (3,), 2.0, 2),) if short else ((110, (30,), 1.0), (250, (40, 200), 2.0)):
        yield from whole_rounds(*size)
