"""An API server that vanishes without a word, its watches open and quiet: the kernel finds it out, not the silence."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from exporter.inventory.kubernetes import client
from exporter.inventory.kubernetes import watch_state as standing
from exporter.inventory.kubernetes.client import ApiServer
from exporter.inventory.kubernetes.credentials import load_kubeconfig
from exporter.inventory.kubernetes.source import KubernetesSource
from exporter.inventory.kubernetes.watch import WatchTimings
from exporter.inventory.kubernetes.watched_resources import NODES
from exporter.model.family import Family
from tests.wire.kubernetes_api import KubernetesApi
from tests.wire.kubernetes_lab import recorded_api, until, write_kubeconfig
from tests.wire.namespaces import SERVER, Row

TEMPO = WatchTimings(first_delay=0.05, longest_delay=0.2)  # watches of five minutes, as in real life


def kept_alive(**seconds: int) -> tuple[tuple[int, int, int], ...]:
    """The options of every connection, quicker."""
    return (
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
        (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, seconds["idle"]),
        (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, seconds["every"]),
        (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, seconds["count"]),
        (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, seconds["sent"] * 1000),
    )


def test_a_dead_server_is_found_within_a_minute_whether_anything_was_sent_or_not() -> None:
    values = {option: value for _, option, value in client.KEEPALIVE}
    silent = values[socket.TCP_KEEPIDLE] + values[socket.TCP_KEEPINTVL] * values[socket.TCP_KEEPCNT]
    assert values[socket.SO_KEEPALIVE] == 1
    assert 30 <= silent <= 60
    assert 30_000 <= values[socket.TCP_USER_TIMEOUT] <= 60_000
    assert values.keys() == {option for _, option, _ in kept_alive(idle=1, every=1, count=1, sent=1)}


@pytest.mark.real
async def test_a_server_that_vanishes_in_silence_is_noticed_long_before_its_watch_would_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, row: Row
) -> None:
    monkeypatch.setattr(client, "KEEPALIVE", kept_alive(idle=1, every=1, count=2, sent=3))
    monkeypatch.setattr(client, "CONNECT", 1.0)
    monkeypatch.setattr(standing, "OUTAGE", 0.5)
    monkeypatch.setattr(standing, "HELD", 0.05)
    make = client._socket
    monkeypatch.setattr(client, "_socket", lambda info: row.client.inside(make, info))
    api = recorded_api()
    async with _serving_there(api, row) as port, _following(tmp_path, port) as source:
        state = source._states()[NODES]
        await until(lambda: source.current().nodes and state.opened is not None)
        await until(lambda: not source.current().stale)
        asked = len(api.requests)
        row.router.nft("forward drop")
        await until(lambda: source.current().stale, "stale")
        assert source.current().nodes
        assert "10.99.2.1" in source.current().problem
        row.router.nft()
        await until(lambda: not source.current().stale and state.opened is not None, "fresh again")
        assert len(api.requests) > asked


@asynccontextmanager
async def _serving_there(api: KubernetesApi, row: Row) -> AsyncIterator[int]:
    def listen() -> socket.socket:
        return socket.create_server((str(SERVER[Family.V4]), 0))

    runner = web.ServerRunner(web.Server(api.handle, handler_cancellation=True), shutdown_timeout=0.0)
    await runner.setup()
    listener = row.server.inside(listen)
    await web.SockSite(runner, listener).start()
    try:
        yield listener.getsockname()[1]
    finally:
        api.cut_streams()
        await runner.cleanup()


@asynccontextmanager
async def _following(directory: Path, port: int) -> AsyncIterator[KubernetesSource]:
    path = str(write_kubeconfig(directory, f"http://{SERVER[Family.V4]}:{port}"))

    async def load() -> Any:
        return await load_kubeconfig(path)

    source = KubernetesSource(ApiServer(await load(), load), [NODES], timings=TEMPO)
    running = asyncio.create_task(source.run())
    try:
        yield source
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running
