"""How long the cluster role's judgement takes at full size; `python -m tests.bench.cluster_rules [NODES]` prints each
rule's seconds, and those for putting the inventory together and for the census.
"""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import TypeVar

from exporter.diagnosis.census import take_census
from exporter.diagnosis.engine.rule_input import RuleInput
from exporter.diagnosis.expectation import families_expected
from exporter.diagnosis.rules.cluster import CLUSTER_RULES
from exporter.inventory.inventory_builder import build_inventory
from exporter.model.cause import Role
from exporter.model.cluster.inventory import Inventory, InventoryOrigin
from exporter.model.reason import Reason
from exporter.model.report import Snapshot
from tests.bench.big_cluster import big_cluster
from tests.bench.table import Row

BUDGET = 1.0
T = TypeVar("T")


def timed(work: Callable[[], T]) -> tuple[T, float]:
    begun = time.perf_counter()
    done = work()
    return done, time.perf_counter() - begun


def rule_times(inventory: Inventory) -> dict[str, tuple[float, str]]:
    """Seconds of each rule, and what it found."""
    families = families_expected(inventory, None)
    view = RuleInput(
        now=0.0,
        snapshot=Snapshot(
            node="",
            role=Role.CLUSTER,
            started=0.0,
            finished=0.0,
            complete=True,
            inventory=inventory,
            host=None,
            families=families,
        ),
    )
    found = {}
    for cause, rule in CLUSTER_RULES.items():
        said, seconds = timed(partial(rule, view))
        what = str(said) if isinstance(said, Reason) else f"{sum(len(f.subjects) for f in said)} subjects"
        found[str(cause)] = (seconds, what)
    return found


def measure(*, short: bool) -> Iterator[Row]:
    nodes = 50 if short else 5_000
    inventory = build_inventory(big_cluster(nodes), source=InventoryOrigin.KUBERNETES)
    total = sum(seconds for seconds, _ in rule_times(inventory).values())
    yield Row(f"all rules for a cluster of {nodes:,} nodes", "", total, BUDGET, "s")


def main(nodes: int) -> None:
    objects, made = timed(lambda: big_cluster(nodes))
    gc.collect()
    inventory, built = timed(lambda: build_inventory(objects, source=InventoryOrigin.KUBERNETES))
    census, counted = timed(lambda: take_census(inventory))
    times = rule_times(inventory)
    total = sum(seconds for seconds, _ in times.values())
    pods, services = len(inventory.pods or ()), len(inventory.services or ())
    lines = [
        f"{nodes} nodes, {pods} pods, {services} Services (made in {made:.2f} s)",
        f"{built:8.3f} s  build_inventory",
        f"{counted:8.3f} s  take_census ({len(census.counts)} rows)",
        *(
            f"{seconds:8.3f} s  {cause}: {what}"
            for cause, (seconds, what) in sorted(times.items(), key=lambda each: -each[1][0])
        ),
        f"{total:8.3f} s  all rules (budget {BUDGET} s)",
    ]
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5_000)
