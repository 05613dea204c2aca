"""Probes whose sockets a real broker makes in another namespace: from where they look, and what is left when something
goes.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from exporter.broker.client.requests import BrokerClient, spawn_broker
from exporter.broker.protocol.messages import SocketKind
from exporter.model.family import FAMILIES, Family
from exporter.model.probe import Layer, Outcome
from exporter.model.vantage import Netns, Vantage
from exporter.probes.engine.driver import Job
from exporter.probes.ports import BrokerNetwork, LocalNetwork, NoSocketError, open_socket
from tests.kernel.namespaces import unique_prefix
from tests.wire.loopback import HOST, cancel, drive, listener, make_check, outcomes, run
from tests.wire.namespaces import SERVER, Row, execute

pytestmark = pytest.mark.real
both_families = pytest.mark.parametrize("family", FAMILIES)


@asynccontextmanager
async def broker() -> AsyncIterator[tuple[BrokerClient, subprocess.Popen[bytes]]]:
    connection, process = spawn_broker()
    client = await BrokerClient.from_socket(connection)
    try:
        yield client, process
    finally:
        client.close()
        process.kill()
        process.wait()


def vantage_of(name: str) -> Vantage:
    status = Path("/run/netns", name).stat()
    return Vantage(
        kind="pod",
        namespace="",
        name=name,
        netns=Netns(device=status.st_dev, inode=status.st_ino, path=f"/run/netns/{name}"),
    )


@contextmanager
def namespace() -> Iterator[str]:
    name = f"{unique_prefix()}net"
    execute("ip", "netns", "add", name)
    try:
        yield name
    finally:
        subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)


def held_sockets() -> set[str]:
    found = set()
    for descriptor in Path("/proc/self/fd").iterdir():
        try:
            found.add(str(descriptor.readlink()))
        except FileNotFoundError:  # the descriptor of this listing
            continue
    return {target for target in found if target.startswith("socket:")}


@both_families
async def test_probes_look_from_inside_the_namespace(row: Row, family: Family) -> None:
    vantage = vantage_of(row.client.name)
    async with broker() as (client, _):
        network = BrokerNetwork(client)
        check = make_check(family, 80, (Layer.ICMP, Layer.TCP), address=SERVER[family], vantage=vantage)
        assert outcomes(await run(check, network)) == {Layer.ICMP: Outcome.OK, Layer.TCP: Outcome.REFUSED}
        with listener(family) as sock:  # on the loopback address of this namespace, which is not the pod's
            (observation,) = await run(make_check(family, sock.getsockname()[1], vantage=vantage), network)
    assert observation.outcome is Outcome.REFUSED


@both_families
async def test_the_host_is_the_brokers_own_namespace(family: Family) -> None:
    async with broker() as (client, _):
        with listener(family) as sock:
            (observation,) = await run(make_check(family, sock.getsockname()[1]), BrokerNetwork(client))
    assert observation.outcome is Outcome.OK


async def test_a_namespace_that_went_has_vanished() -> None:
    async with broker() as (client, _):
        with namespace() as name:
            vantage = vantage_of(name)
        (gone,) = await run(make_check(Family.V6, 80, vantage=vantage), BrokerNetwork(client))
        unknown = replace(vantage, netns=None)
        (never,) = await run(make_check(Family.V6, 80, vantage=unknown), BrokerNetwork(client))
    assert (gone.outcome, never.outcome) == (Outcome.VANISHED, Outcome.VANISHED)


async def test_a_broker_that_ended_is_our_own_trouble() -> None:
    async with broker() as (client, process):
        process.kill()
        await asyncio.wait_for(client.closed.wait(), 5)
        observations = await run(make_check(Family.V6, 80, (Layer.ICMP, Layer.TCP)), BrokerNetwork(client))
    assert set(outcomes(observations).values()) == {Outcome.LOCAL}


async def test_cancelling_at_any_turn_of_the_loop_leaves_no_socket_open(row: Row) -> None:
    row.server.nft("input drop")
    check = make_check(Family.V6, 80, (Layer.ICMP, Layer.TCP), address=SERVER[Family.V6])
    check = replace(check, vantage=vantage_of(row.client.name))
    async with broker() as (client, _):
        network = BrokerNetwork(client)
        before = held_sockets()
        for turns in range(40):
            task = asyncio.create_task(run(check, network))
            for _ in range(turns):
                await asyncio.sleep(0)
            await cancel(task)
            await client.namespaces()  # what was under way has arrived by now
            assert held_sockets() == before


async def test_a_socket_of_ours_speaks_one_family_and_is_bound_to_its_number() -> None:
    network = LocalNetwork()
    for kind in (SocketKind.TCP6, SocketKind.UDP6, SocketKind.TCP4, SocketKind.UDP4):
        ((sock, number),) = await drive([Job(partial(open_socket, HOST, kind, seconds=1))], network)
        with sock:
            assert sock.getsockname()[1] == number
            assert sock.gettimeout() == 0
            if kind in {SocketKind.TCP6, SocketKind.UDP6}:
                assert sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)


async def test_a_socket_that_cannot_be_bound_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    def exhausted(*_: object) -> int:
        raise NoSocketError(errno.EADDRNOTAVAIL)

    network = LocalNetwork()
    monkeypatch.setattr(network.numbers, "take", exhausted)
    before = held_sockets()
    with pytest.raises(NoSocketError):
        await drive([Job(partial(open_socket, HOST, SocketKind.TCP6, seconds=1))], network)
    assert held_sockets() == before
