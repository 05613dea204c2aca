"""Judgement, census and assembly grow with the cluster and no faster: work is counted, not timed."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from types import FrameType
from typing import Any

import pytest

from exporter.diagnosis.census import take_census
from exporter.diagnosis.engine.rule_input import RuleInput
from exporter.diagnosis.expectation import families_expected
from exporter.diagnosis.rules.cluster import CLUSTER_RULES
from exporter.digest.format import merge, read_digest, write_digest
from exporter.inventory.inventory_builder import build_inventory
from exporter.model.cause import Cause, Role
from exporter.model.cluster.inventory import Inventory, InventoryOrigin, ResourceKind
from exporter.model.report import Snapshot
from tests.bench.big_cluster import big_cluster

SMALL, FOUR_TIMES = 25, 100


@cache
def objects(nodes: int) -> dict[ResourceKind, list[Any]]:
    return big_cluster(nodes)


@cache
def inventory(nodes: int) -> Inventory:
    return build_inventory(objects(nodes), source=InventoryOrigin.KUBERNETES)


def lines_run(work: Callable[[], object]) -> int:
    """How many lines of Python the work runs: its cost, whatever the machine is doing."""
    run = 0

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal run
        run += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
    return run


def growth(small: Callable[[], object], large: Callable[[], object]) -> float:
    return lines_run(large) / max(500, lines_run(small))


def judge(cause: Cause, nodes: int) -> object:
    known = inventory(nodes)
    families = families_expected(known, None)
    snapshot = Snapshot(
        node="",
        role=Role.CLUSTER,
        started=0.0,
        finished=0.0,
        complete=True,
        inventory=known,
        host=None,
        families=families,
    )
    return CLUSTER_RULES[cause](RuleInput(now=0.0, snapshot=snapshot))


@pytest.mark.parametrize("cause", CLUSTER_RULES)
def test_a_rule_grows_no_faster_than_the_cluster(cause: Cause) -> None:
    inventory(SMALL), inventory(FOUR_TIMES)  # made before anything is counted
    assert growth(partial(judge, cause, SMALL), partial(judge, cause, FOUR_TIMES)) < 5


def test_assembly_and_census_grow_no_faster_than_the_cluster() -> None:
    assert growth(
        partial(build_inventory, objects(SMALL), source=InventoryOrigin.FILE),
        partial(build_inventory, objects(FOUR_TIMES), source=InventoryOrigin.FILE)
    ) < 5  # fmt: skip
    assert growth(partial(take_census, inventory(SMALL)), partial(take_census, inventory(FOUR_TIMES))) < 5


def test_the_digest_is_written_read_and_united_in_proportion_to_the_cluster() -> None:
    written = {nodes: write_digest(inventory(nodes), (), 0.0) for nodes in (SMALL, FOUR_TIMES)}
    read = {nodes: read_digest(body) for nodes, body in written.items()}
    own = {nodes: replace(inventory(nodes), pods=(), nodes=(inventory(nodes).nodes or ())[:1]) for nodes in written}

    def write(nodes: int) -> object:
        return write_digest(inventory(nodes), (), 0.0)

    for work in (write, lambda nodes: read_digest(written[nodes]), lambda nodes: merge(own[nodes], read[nodes])):
        assert growth(partial(work, SMALL), partial(work, FOUR_TIMES)) < 5
