"""`check --nodes=all`: the reports of every exporter of the DaemonSet, over real web servers, and a question mark where
none comes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path

import pytest

from exporter.cli import remote
from exporter.cli.remote import collect_nodes
from exporter.model.cluster.inventory import Inventory, InventoryOrigin
from exporter.model.cluster.node import Node
from exporter.model.cluster.pod import Pod
from exporter.model.family import Family
from exporter.report.document import document_of, to_json
from exporter.report.text import Style, write
from exporter.web.server.application import WebOptions, WebServer
from exporter.web.server.listening import bind
from exporter.web.server.rotation import WebSettings
from tests.unit.sample import bad_day
from tests.wire.loopback import listener
from tests.wire.test_web_server import World

LABELS = {"app.kubernetes.io/name": "dualstack-exporter", "app.kubernetes.io/component": "node"}


def exporter_pod(node: str, *addresses: str, **labels: str) -> Pod:
    ips = tuple(map(ip_address, addresses))
    return Pod(
        namespace="dualstack-exporter",
        name=f"exporter-{node}",
        node=node,
        host_network=True,
        ips=ips,
        labels={**LABELS, **labels},
    )


@asynccontextmanager
async def exporter(node: str, address: str, port: int = 0, body: bytes | None = None) -> AsyncIterator[int]:
    """An exporter's web server with the report of that node."""
    report = bad_day()
    told = to_json(document_of(replace(report, snapshot=replace(report.snapshot, node=node)))).encode()
    (socket,) = bind([f"{address}:{port}"])
    bound = int(socket.getsockname()[1])
    server = WebServer(World(report_bytes=told if body is None else body), WebSettings(""), WebOptions())
    task = asyncio.create_task(server.run([socket]))
    try:
        yield bound
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def test_every_exporter_is_asked_and_nodes_without_a_report_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    pods = [
        exporter_pod("ra", "127.0.0.2", "2001:db8::2"),
        exporter_pod("six", "::1"),
        exporter_pod("broken", "127.0.0.4"),
        exporter_pod("down", "127.0.0.5"),
        exporter_pod("pending"),
        replace(exporter_pod("other", "127.0.0.2"), labels={**LABELS, "app.kubernetes.io/component": "cluster"}),
        Pod(namespace="shop", name="web", ips=(ip_address("127.0.0.2"),)),
    ]
    nodes = [Node(name=name) for name in ("ra", "six", "broken", "down", "pending")]
    nodes += [Node(name="pane", windows=True), Node(name="cloud", virtual=True)]
    inventory = Inventory(source=InventoryOrigin.KUBERNETES, nodes=tuple(nodes), pods=tuple(pods))
    async with AsyncExitStack() as stack:
        port = await stack.enter_async_context(exporter("ra", "127.0.0.2"))
        monkeypatch.setattr(remote, "PORT", port)
        await stack.enter_async_context(exporter("six", "[::1]", port))
        await stack.enter_async_context(exporter("broken", "127.0.0.4", port, b"{}"))
        documents, missing = await collect_nodes(inventory, "")
    assert sorted(d.node for d in documents) == ["ra", "six"]
    assert all(d.role == "node" for d in documents)
    assert missing == ("broken", "down", "pending")
    text = write(documents, missing=missing, style=Style(unicode=True, width=100))
    assert all(f"[{node}] IPv6:? IPv4:?  (no report received)" in text for node in missing)
    assert "[ra] IPv6:✗ IPv4:✓" in text


async def test_an_exporter_that_does_not_answer_holds_up_nothing_beyond_two_seconds(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(remote, "WAIT", 0.3)
    with listener(Family.V4) as silent:
        monkeypatch.setattr(remote, "PORT", silent.getsockname()[1])
        inventory = Inventory(
            source=InventoryOrigin.KUBERNETES, nodes=(Node(name="slow"),), pods=(exporter_pod("slow", "127.0.0.1"),)
        )
        async with asyncio.timeout(60):
            assert await collect_nodes(inventory, "") == ([], ("slow",))


async def test_hundreds_of_exporters_are_asked_within_their_own_two_seconds_each(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Waiting for a turn is no fault of the node that waits."""
    monkeypatch.setattr(remote, "WAIT", 1.0)
    monkeypatch.setattr(remote, "AT_ONCE", 4)
    pods = tuple(exporter_pod(f"n{i}", "127.0.0.2") for i in range(300))
    async with exporter("same", "127.0.0.2") as port:
        monkeypatch.setattr(remote, "PORT", port)
        documents, _ = await collect_nodes(Inventory(source=InventoryOrigin.KUBERNETES, nodes=(), pods=pods), "")
    assert len(documents) == 300


async def test_a_cluster_role_on_a_node_does_not_stand_for_that_node(monkeypatch: pytest.MonkeyPatch) -> None:
    inventory = Inventory(
        source=InventoryOrigin.KUBERNETES, nodes=(Node(name="ra"),), pods=(exporter_pod("ra", "127.0.0.2"),)
    )
    async with exporter("ra", "127.0.0.2") as port:
        monkeypatch.setattr(remote, "PORT", port)
        documents, missing = await collect_nodes(inventory, "")
        assert [d.node for d in documents] == ["ra"]
        assert missing == ()
        # A node that asks the others has its own report already.
        assert await collect_nodes(inventory, "ra") == ([], ())
