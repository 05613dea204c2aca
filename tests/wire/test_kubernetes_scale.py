"""The Kubernetes source with a larger cluster: work grows with what changes, not with what is there."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from exporter.digest.format import write_digest
from exporter.inventory.inventory_builder import build_inventory
from exporter.inventory.kubernetes import store
from exporter.inventory.kubernetes.watched_resources import PODS, watched_resources
from exporter.inventory.parse.objects import parse_object
from exporter.model.cause import Role
from exporter.model.cluster.inventory import ResourceKind
from tests.bench.big_api import PODS_A_NODE, BigApi
from tests.bench.load import ABSENT, load_of
from tests.wire.kubernetes_api import serving
from tests.wire.kubernetes_lab import following, until

NODES = 60


def names(nodes: int) -> list[str]:
    return [f"node-{n:05}" for n in range(nodes)]


@pytest.fixture
def big() -> BigApi:
    return BigApi(NODES)


async def test_one_event_parses_one_object_and_a_burst_builds_a_few_inventories(
    tmp_path: Path, big: BigApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    parsed: list[ResourceKind] = []
    built: list[int] = []

    def counting_parse(kind: ResourceKind, source: Any) -> Any:
        parsed.append(kind)
        return parse_object(kind, source)

    def counting_build(*arguments: Any, **named: Any) -> Any:
        built.append(1)
        return build_inventory(*arguments, **named)

    async with serving(big) as port, following(tmp_path, port) as source:
        before = source.current()
        assert len(before.pods or ()) == NODES * PODS_A_NODE
        monkeypatch.setattr(store, "parse_object", counting_parse)
        monkeypatch.setattr("exporter.inventory.kubernetes.source.build_inventory", counting_build)
        big.change_pods(1, names(NODES))
        await until(lambda: source.current().pods != before.pods)
        assert parsed == [ResourceKind.PODS]
        assert source.current().services is not None
        # What did not change is the same object still.
        assert all(a is b for a, b in zip(source.current().nodes or (), before.nodes or (), strict=True))
        parsed.clear()
        built.clear()
        big.change_pods(1500, names(NODES))
        await until(lambda: len(parsed) == 1500)
        last = big.collections["v1", "pods"].events[-1][2]
        await until(
            lambda: any(p.name == last.name and str(p.ips[1]) in last.raw.decode() for p in source.current().pods or ())
        )
        assert len(built) < 500


async def test_the_digest_of_a_large_cluster_is_small_and_a_node_with_it_asks_for_little(
    tmp_path: Path, big: BigApi
) -> None:
    async with serving(big) as port:
        async with following(tmp_path, port) as source:
            assert len(write_digest(source.current(), (), time.time())) < 3_000 * NODES
        await until(lambda: not big.watching)  # whose bookmarks would count
        sent = big.sent
        (tmp_path / "node").mkdir()
        async with following(tmp_path / "node", port, watched_resources(Role.NODE, "node-00003", digest=True)) as node:
            assert len(node.current().pods or ()) == PODS_A_NODE
        assert big.sent - sent < 400_000


async def test_reading_four_times_as_much_takes_about_four_times_as_long(tmp_path: Path) -> None:
    """With room for noise: a quadratic step would take sixteen times as long."""

    async def seconds(nodes: int) -> float:
        directory = tmp_path / str(nodes)
        directory.mkdir(exist_ok=True)
        async with serving(BigApi(nodes)) as port:
            began = time.process_time()
            async with following(directory, port, [PODS]) as source:
                assert len(source.current().pods or ()) == nodes * PODS_A_NODE
            return time.process_time() - began

    few = min([await seconds(40) for _ in range(2)])
    many = min([await seconds(160) for _ in range(2)])
    assert many / few < 9


@pytest.mark.parametrize(("role", "digest"), [(Role.NODE, True), (Role.NODE, False), (Role.CLUSTER, False)])
async def test_the_table_of_load_counts_the_requests_that_the_server_sees(
    tmp_path: Path, big: BigApi, role: Role, digest: bool
) -> None:
    read = watched_resources(role, "node-00003", digest=digest)
    computed = load_of(read, NODES, ABSENT)
    async with serving(big) as port, following(tmp_path, port, read):
        await until(lambda: len(big.requests) >= computed.requests)
        assert big.watching == computed.watches
    assert len(big.requests) == computed.requests
