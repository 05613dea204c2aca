"""The way to the cluster role where its Service's address leads nowhere: its endpoints, which the API tells, over
either family.

The fake API server, the exporter's web server and the node's client speak over loopback; a full accept queue swallows
SYNs.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from exporter.digest import source as digest_source
from exporter.digest.format import Digest
from exporter.digest.publisher import DigestPublisher
from exporter.digest.service_env_resolver import ServiceEnvResolver, list_endpoints
from exporter.digest.source import ASK_EVERY, ASK_FIRST, CONNECT, STALE_AFTER, WAIT, DigestClient
from exporter.inventory.kubernetes.client import ApiServer
from exporter.inventory.kubernetes.credentials import load_kubeconfig
from exporter.model.family import Family
from exporter.web.server.application import WebOptions, WebServer
from exporter.web.server.connections import ConnectionLimits
from exporter.web.server.listening import bind
from exporter.web.server.rotation import WebSettings
from tests.wire.kubernetes_api import KubernetesApi, serving
from tests.wire.kubernetes_lab import PATIENCE, until, write_kubeconfig
from tests.wire.loopback import LOOPBACK, black_hole, closed_port, listener
from tests.wire.test_kubernetes_digest import HEALTHY, Clock, looking, report
from tests.wire.test_web_server import World

NAMESPACE, SERVICE = "dualstack-exporter", "dualstack-exporter-cluster"
HOST = f"{SERVICE}.{NAMESPACE}.svc"
VARIABLE = "DUALSTACK_EXPORTER_CLUSTER_SERVICE_HOST"
PLACE = "discovery.k8s.io/v1"
OTHER = {Family.V4: Family.V6, Family.V6: Family.V4}
both = pytest.mark.parametrize("family", [Family.V4, Family.V6])


def endpoint_slice(family: Family, port: int, *, service: str = SERVICE, ready: bool | None = True) -> dict[str, Any]:
    """What the controller makes of the Service's pod for one family."""
    return {
        "apiVersion": PLACE,
        "kind": "EndpointSlice",
        "metadata": {
            "namespace": NAMESPACE,
            "name": f"{service}-{family}-{port}".lower(),
            "labels": {"kubernetes.io/service-name": service},
        },
        "addressType": str(family),
        "endpoints": [{"addresses": [str(LOOPBACK[family])], "conditions": {"ready": ready}, "nodeName": "ra"}],
        "ports": [{"name": "metrics", "port": port, "protocol": "TCP"}],
    }


def api_with(*slices: dict[str, Any]) -> KubernetesApi:
    api = KubernetesApi()
    api.add_kind(PLACE, "endpointslices", "EndpointSlice")
    for each in slices:
        api.put(PLACE, "endpointslices", each)
    return api


@asynccontextmanager
async def cluster_role(family: Family) -> AsyncIterator[int]:
    """A cluster role with a digest, on the loopback address of one family."""
    publisher = DigestPublisher()
    publisher.publish(report(HEALTHY, time.time()))
    (socket,) = bind([f"[{LOOPBACK[family]}]:0" if family is Family.V6 else f"{LOOPBACK[family]}:0"])
    server = WebServer(World(), WebSettings(""), WebOptions(digest=publisher, limits=ConnectionLimits(idle=PATIENCE)))
    task = asyncio.create_task(server.run([socket]))
    try:
        yield int(socket.getsockname()[1])
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@asynccontextmanager
async def node(
    directory: Path, api: KubernetesApi, told: Family | None, port: int, **options: Any
) -> AsyncIterator[DigestClient]:
    """A node's client whose kubelet told it the Service's address of that family, with this port in its URL; not yet
    running.
    """
    (directory / "namespace").write_text(NAMESPACE)
    (directory / "resolv.conf").write_text("nameserver 192.0.2.1\n")
    async with serving(api) as api_port:
        path = str(write_kubeconfig(directory, f"http://127.0.0.1:{api_port}"))
        server = ApiServer(await load_kubeconfig(path), partial(load_kubeconfig, path))
        services = ServiceEnvResolver(
            {} if told is None else {VARIABLE: str(LOOPBACK[told])},
            endpoints=partial(list_endpoints, server),
            namespace=directory / "namespace",
            resolv_conf=directory / "resolv.conf",
        )
        try:
            yield DigestClient(f"http://{HOST}:{port}/api/v1/digest", resolver=services, **options)
        finally:
            await server.close()


async def time_to_digest(client: DigestClient) -> float:
    began = time.monotonic()
    async with looking(client):
        await until(lambda: client.digest is not None, "the digest")
    return time.monotonic() - began


def asked(api: KubernetesApi) -> list[tuple[str, str]]:
    return [(each.path, each.query.get("labelSelector", "")) for each in api.requests]


LISTED = (
    f"/apis/{PLACE}/namespaces/{NAMESPACE}/endpointslices",
    f"kubernetes.io/service-name={SERVICE}",
)


@both
async def test_an_address_that_swallows_everything_delays_the_digest_of_the_other_family_by_seconds(
    family: Family, tmp_path: Path
) -> None:
    """A node on which one family is broken, be it the one that the kubelet tells of."""
    async with cluster_role(OTHER[family]) as live:
        with black_hole(family) as dead:
            api = api_with(endpoint_slice(family, dead), endpoint_slice(OTHER[family], live))
            async with node(tmp_path, api, family, dead) as client:
                assert await time_to_digest(client) < WAIT - CONNECT
    assert asked(api) == [LISTED]


@both
async def test_a_refused_address_and_one_that_was_never_told_cost_no_time_at_all(
    family: Family, tmp_path: Path
) -> None:
    """kube-proxy refuses where it knows no endpoint; a pod that is older than the Service was told nothing."""
    for told in (family, None):
        async with cluster_role(family) as live:
            with closed_port(family) as dead:
                api = api_with(endpoint_slice(family, live))
                async with node(tmp_path, api, told, dead) as client:
                    assert await time_to_digest(client) < CONNECT
        assert asked(api) == [LISTED]


async def test_what_accepts_and_stays_silent_does_not_keep_the_other_address_from_being_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a path does that carries small packets alone: the connection stands and no answer comes."""
    monkeypatch.setattr(digest_source, "WAIT", 0.5)
    async with cluster_role(Family.V4) as live:
        with listener(Family.V6) as silent:
            api = api_with(endpoint_slice(Family.V4, live))
            async with node(tmp_path, api, Family.V6, silent.getsockname()[1]) as client:
                await time_to_digest(client)
    assert asked(api) == [LISTED]


async def test_once_found_it_is_asked_there_without_the_api(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="exporter.digest")
    clock = Clock()
    async with cluster_role(Family.V6) as live:
        with closed_port(Family.V4) as dead:
            api = api_with(endpoint_slice(Family.V6, live))
            async with node(tmp_path, api, Family.V4, dead, every=0.01, clock=clock) as client, looking(client):
                await until(lambda: client.digest is not None, "the digest")
                clock.now += 10 * STALE_AFTER
                await until(lambda: client.answered == clock.now, "another answer")
    assert asked(api) == [LISTED]
    said = [record.message for record in caplog.records]
    assert said.count("its Service's address gives no answer; its endpoints are asked") == 1


@pytest.fixture
def nobody() -> Iterator[Callable[[Family], int]]:
    with ExitStack() as stack:
        yield lambda family: stack.enter_context(closed_port(family))


async def test_while_the_cluster_role_is_away_nodes_that_have_a_digest_ask_the_api_for_nothing(
    tmp_path: Path, nobody: Callable[[Family], int]
) -> None:
    """5,000 of them would, at the very moment."""
    clock = Clock()
    api = api_with(endpoint_slice(Family.V4, nobody(Family.V4)))
    async with node(tmp_path, api, Family.V4, nobody(Family.V4), every=0.001, clock=clock) as client:
        client.digest, client.answered = Digest(HEALTHY), clock.now
        async with looking(client):
            await until(lambda: client._misses > 30, "misses")
            assert asked(api) == []
            clock.now += 2 * STALE_AFTER  # what it holds is too old: it may ask, seldom
            before = client._misses
            await until(lambda: client._misses >= before + 40, "misses")
            after = client._misses
    assert 1 <= len(asked(api)) <= (after - before) / ASK_EVERY + 2


async def test_a_node_that_never_had_one_asks_the_api_less_and_less_often(
    tmp_path: Path, nobody: Callable[[Family], int]
) -> None:
    api = api_with()  # the Service has no endpoints
    async with node(tmp_path, api, Family.V4, nobody(Family.V4), every=0.001) as client, looking(client):
        await until(lambda: client._misses >= 60, "misses")
        seen, misses = len(asked(api)), client._misses
    assert len(ASK_FIRST) + 59 // ASK_EVERY <= seen <= len(ASK_FIRST) + misses // ASK_EVERY


@pytest.mark.parametrize("answer", ["refused", "unready", "another's", "nonsense"])
async def test_an_answer_without_an_endpoint_changes_nothing(
    tmp_path: Path, nobody: Callable[[Family], int], answer: str
) -> None:
    async with cluster_role(Family.V4) as live:
        api = api_with(
            *([endpoint_slice(Family.V4, live, ready=False)] if answer == "unready" else []),
            *([endpoint_slice(Family.V4, live, service="other")] if answer == "another's" else []),
        )
        if answer == "refused":
            api.allowed = lambda *_: False
        if answer == "nonsense":
            broken = endpoint_slice(Family.V4, live)
            api.put(PLACE, "endpointslices", {**broken, "endpoints": [None, {"addresses": ["x", 7]}], "ports": [3, {}]})
        async with node(tmp_path, api, Family.V4, nobody(Family.V4), every=0.001) as client, looking(client):
            await until(lambda: client._misses >= 4, "misses")
            assert client.digest is None
    assert set(asked(api)) == {LISTED}
