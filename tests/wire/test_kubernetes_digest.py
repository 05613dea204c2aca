"""The digest between two exporters: served by the real web server, fetched and kept by a node, whatever happens to the
cluster role.
"""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import aiohttp
import pytest

from exporter.digest import source as digest_source
from exporter.digest.format import ACCEPT, MEDIA, VERSION, Digest, read_digest
from exporter.digest.publisher import DigestPublisher
from exporter.digest.source import DigestClient, DigestedSource
from exporter.inventory.kubernetes.watched_resources import watched_resources
from exporter.model.cause import Cause, Role, Scope, Severity
from exporter.model.cluster.inventory import Came, Inventory, ResourceKind
from exporter.model.report import CauseReport, Finding, Report, Snapshot
from exporter.model.subject import Subject
from exporter.web.server.application import WebOptions, WebServer
from exporter.web.server.connections import ConnectionLimits
from exporter.web.server.listening import bind
from exporter.web.server.rotation import WebSettings
from tests.unit import recorded
from tests.wire.kubernetes_api import serving
from tests.wire.kubernetes_lab import PATIENCE, following, recorded_api, until
from tests.wire.test_web_server import World


@dataclass
class Clock:
    """A clock that only tests move."""

    now: float = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


def report(inventory: Inventory, finished: float, *causes: Cause) -> Report:
    found = tuple(
        CauseReport(
            finding=Finding(
                cause=cause, severity=Severity.WARNING, subjects=(Subject("node/ra"),), evidence=(), command=""
            ),
            scope=Scope.CLUSTER,
            since=finished,
        )
        for cause in causes
    )
    snapshot = Snapshot(
        node="cluster",
        role=Role.CLUSTER,
        started=finished - 1,
        finished=finished,
        complete=True,
        inventory=inventory,
        host=None,
    )
    return Report(snapshot=snapshot, families={}, causes=found)


@asynccontextmanager
async def web_server(publisher: DigestPublisher | None, port: int = 0) -> AsyncIterator[int]:
    (listener,) = bind([f"127.0.0.1:{port}"])
    bound = int(listener.getsockname()[1])
    server = WebServer(World(), WebSettings(""), WebOptions(digest=publisher, limits=ConnectionLimits(idle=PATIENCE)))
    task = asyncio.create_task(server.run([listener]))
    try:
        yield bound
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@asynccontextmanager
async def looking(client: DigestClient) -> AsyncIterator[DigestClient]:
    task = asyncio.create_task(client.run())
    try:
        yield client
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


HEALTHY = recorded.cluster("healthy-dual-stack")


async def test_it_is_served_packed_and_tagged_and_only_where_there_is_one() -> None:
    clock = Clock()
    publisher = DigestPublisher(clock)
    async with web_server(publisher) as port, aiohttp.ClientSession(auto_decompress=False) as session:
        url = f"http://127.0.0.1:{port}/api/v1/digest"
        async with session.get(url) as early:
            assert early.status == 503
        publisher.publish(report(replace(HEALTHY, nodes=None), clock.now))
        async with session.get(url) as unread:
            assert unread.status == 503
        publisher.publish(report(HEALTHY, clock.now - 7))
        async with session.get(url, headers={"Accept-Encoding": "identity"}) as plain:
            body = await plain.read()
            assert plain.status == 200
            assert plain.headers["Content-Type"] == MEDIA.format(VERSION)
            assert plain.headers["Age"] == "7"
            assert "Content-Encoding" not in plain.headers
            tag = plain.headers["ETag"]
        async with session.get(url, headers={"Accept": ACCEPT, "Accept-Encoding": "gzip"}) as zipped:
            packed = await zipped.read()
            assert zipped.headers["Content-Encoding"] == "gzip"
            assert gzip.decompress(packed) == body
            assert len(packed) < len(body) / 3
            assert zipped.headers["ETag"] == tag
        clock.now += 30
        publisher.publish(report(replace(HEALTHY, synced=clock.now), clock.now))
        async with session.get(url, headers={"If-None-Match": f'"x", {tag}'}) as same:
            assert (same.status, await same.read(), same.headers["Age"]) == (304, b"", "0")
        publisher.publish(report(HEALTHY, clock.now, Cause.FELIX_IPV6_OFF))
        async with session.get(url, headers={"If-None-Match": tag}) as changed:
            assert changed.status == 200
            assert changed.headers["ETag"] != tag
        async with session.get(url, headers={"Accept": MEDIA.format(99)}) as unknown:
            assert unknown.status == 406
    assert read_digest(body).inventory.nodes is not None
    async with (
        web_server(None) as port,
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{port}/api/v1/digest") as none,
    ):
        assert none.status == 404


async def test_a_change_of_the_inventory_is_told_before_the_next_round_and_how_old_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What a node compares its kernel with is current: a pool that changes is known in seconds, not in a round's
    time.
    """
    from exporter.digest import publisher as served  # noqa: PLC0415 - to lift the bound on how often it is written

    monkeypatch.setattr(served, "EVERY", 0.0)
    monkeypatch.setattr(served, "SHARE", 0.0)
    clock = Clock()
    now = [replace(HEALTHY, current_at=clock.now)]
    publisher = DigestPublisher(clock, source=lambda: now[0])
    publisher.publish(report(replace(HEALTHY, current_at=clock.now), clock.now))
    async with web_server(publisher) as port:
        client = DigestClient(f"http://127.0.0.1:{port}/api/v1/digest", every=0.02, clock=clock)
        source = DigestedSource(_nothing(), client, clock)
        async with looking(client):
            await until(lambda: client.current_at == clock.now)
            assert source.current().pools == HEALTHY.pools
            clock.now += 20  # nothing changed: the same content shows this moment as well
            now[0] = replace(now[0], current_at=clock.now)
            await until(lambda: client.current_at == clock.now)
            assert client.made == clock.now - 20
            clock.now += 5
            now[0] = replace(now[0], pools=(), current_at=clock.now - 1.5)
            await until(lambda: source.current().pools == () and client.current_at == clock.now - 1.5)
            assert client.made == clock.now - 25  # the causes found are of the last round all the same


async def test_many_nodes_at_once_cost_one_packing(monkeypatch: pytest.MonkeyPatch) -> None:
    from exporter.digest import publisher as served  # noqa: PLC0415 - to count what it does

    made = 0
    pack = served._pack

    def counting(*arguments: object) -> served.Packed:
        nonlocal made
        made += 1
        return pack(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(served, "_pack", counting)
    publisher = DigestPublisher()
    publisher.publish(report(HEALTHY, 0.0))
    async with web_server(publisher) as port, aiohttp.ClientSession() as session:

        async def ask() -> int:
            async with session.get(f"http://127.0.0.1:{port}/api/v1/digest") as response:
                return len(await response.read())

        sizes = await asyncio.gather(*(ask() for _ in range(50)))
    assert len(set(sizes)) == 1
    assert made == 1


async def test_a_node_keeps_the_last_digest_and_its_found_causes_for_five_minutes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock()
    publisher = DigestPublisher(clock)
    publisher.publish(report(HEALTHY, clock.now - 10, Cause.FELIX_IPV6_OFF))
    api = recorded_api()
    read = watched_resources(Role.NODE, "ra", digest=True)
    async with serving(api) as api_port, following(tmp_path, api_port, read, clock=clock) as own:
        async with web_server(publisher) as port:
            client = DigestClient(f"http://127.0.0.1:{port}/api/v1/digest", every=0.02, clock=clock)
            source = DigestedSource(own, client, clock)
            assert source.remote_findings() == ()
            assert source.current().unread[ResourceKind.IP_POOLS] == "api_unavailable"
            assert source.current().came is Came.PART
            assert source.current().problem == f"http://127.0.0.1:{port}/api/v1/digest: no answer"
            async with looking(client):
                assert await source.wait_ready(PATIENCE)
                assert source.current().pools == HEALTHY.pools
                assert source.current().pods == own.current().pods
                assert not source.current().stale
                assert (source.current().came, source.current().problem) == (Came.ALL, "")
                assert source.current().synced == clock.now - 10
                assert [each.cause for each in source.remote_findings()] == [Cause.FELIX_IPV6_OFF]
        # The cluster role is gone.
        client.tried.clear()
        async with looking(client):
            await client.tried.wait()
            clock.now += 280
            assert source.remote_findings()
            clock.now += 30
            assert source.remote_findings() == ()
            assert source.current().stale
            assert source.current().came is Came.ALL
            assert "ClientConnectorError" in source.current().problem
            assert source.current().pools == HEALTHY.pools
            # It is back, with a round as old as a restart makes it.
            again = DigestPublisher(clock)
            again.publish(report(HEALTHY, clock.now, Cause.FELIX_IPV6_OFF))
            async with web_server(again, port):
                await until(lambda: source.remote_findings() and not source.current().stale)
    assert {a.path for a in api.requests} == {"/api/v1/pods", "/api/v1/nodes"}  # it never lists by itself instead
    said = [r.message for r in caplog.records if r.name.endswith("digest.source")]
    assert said == ["no digest; the last one stays in use"]


async def test_a_cluster_role_whose_round_is_old_explains_nothing(tmp_path: Path) -> None:
    clock = Clock()
    publisher = DigestPublisher(clock)
    publisher.publish(report(HEALTHY, clock.now - 301, Cause.FELIX_IPV6_OFF))
    async with web_server(publisher) as port:
        client = DigestClient(f"http://127.0.0.1:{port}/api/v1/digest", every=0.02, clock=clock)
        async with looking(client):
            await client.tried.wait()
    assert client.digest is not None
    assert DigestedSource(_nothing(), client, clock).remote_findings() == ()


async def test_of_two_sources_either_or_both_may_never_have_given_anything(tmp_path: Path) -> None:
    read = watched_resources(Role.NODE, "ra", digest=True)
    async with following(tmp_path, 1, read, whole=False) as own:
        await until(lambda: "unreachable" in own.current().problem)
        client = DigestClient("http://[::1]:1/")
        source = DigestedSource(own, client, Clock())
        assert source.current().came is Came.NOTHING
        assert source.current().problem == own.current().problem
        client.digest, client.answered = Digest(HEALTHY), Clock().now
        assert source.current().came is Came.PART
        assert source.current().problem == own.current().problem


def _nothing() -> DigestedSource:
    from exporter.inventory.source import NoSource  # noqa: PLC0415 - here alone

    return DigestedSource(NoSource(), DigestClient("http://[::1]:1/"))


async def test_an_unchanged_digest_is_not_sent_again() -> None:
    publisher = DigestPublisher()
    publisher.publish(report(HEALTHY, 0.0))
    statuses: list[int] = []
    original = publisher.answer

    async def noting(request: aiohttp.web.Request, *, gzipped: bool) -> aiohttp.web.Response:
        response = await original(request, gzipped=gzipped)
        statuses.append(response.status)
        return response

    publisher.answer = noting  # type: ignore[method-assign]
    async with web_server(publisher) as port:
        client = DigestClient(f"http://127.0.0.1:{port}/api/v1/digest", every=0.01)
        async with looking(client):
            await until(lambda: len(statuses) >= 4)
            first = client.digest
    assert statuses[:4] == [200, 304, 304, 304]
    assert client.digest is first


@pytest.mark.parametrize(
    ("status", "body", "headers"),
    [
        (200, b"{}", {}),
        (200, b"\x1f\x8b\x08garbage", {"Content-Encoding": "gzip"}),
        (200, gzip.compress(b" " * 3_000_000), {"Content-Encoding": "gzip"}),
        (304, b"", {}),
        (302, b"", {"Location": "http://127.0.0.1:9/"}),
        (500, b"", {}),
        (401, b"", {"WWW-Authenticate": "Basic"}),
    ],
)
async def test_answers_that_are_no_digest_leave_the_last_one(
    monkeypatch: pytest.MonkeyPatch, status: int, body: bytes, headers: dict[str, str]
) -> None:
    monkeypatch.setattr(digest_source, "MAX_BYTES", 1_000_000)

    async def answer(request: aiohttp.web.BaseRequest) -> aiohttp.web.Response:
        return aiohttp.web.Response(status=status, body=body, headers=headers)

    runner = aiohttp.web.ServerRunner(aiohttp.web.Server(answer))
    await runner.setup()
    site = aiohttp.web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        client = DigestClient(f"http://127.0.0.1:{runner.addresses[0][1]}/", every=0.01)
        async with looking(client):
            async with asyncio.timeout(PATIENCE):
                await client.tried.wait()
        assert client.digest is None
        assert client.answered is None
    finally:
        await runner.cleanup()


def test_large_clusters_are_asked_less_often() -> None:
    client = DigestClient("http://[::1]:1/")
    nodes = tuple(replace((HEALTHY.nodes or ())[0], name=f"n{i}") for i in range(5000))
    client.digest = read_digest(json.dumps({"version": 1, "inventory": {"source": "digest"}, "found": []}).encode())
    client.digest = replace(client.digest, inventory=replace(client.digest.inventory, nodes=nodes))
    assert client.interval == 100
