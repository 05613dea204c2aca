"""Runs rounds of one role on demand inside a lab node: a command per line in, for each round a line of JSON out. Ends
with its input.

    ip netns exec NODE python -m tests.lab.round_runner INVENTORY CONFIG [DIGEST_URL]

First a line comes: where the cluster role's digest is, empty for other roles. `round` runs a round and prints its
report; with a digest the node knows its own pods and Node, and of the cluster what the digest says at that moment.
`configure` reads the configuration again; `forget` lets an hour go by for results. By the clock of these a round takes
as long as the interval, however soon the next one follows. The parts are the daemon's own, the digest's server and
client included; only the pace is the caller's, so that a test counts rounds instead of waiting for them. The objects
count as the API's: a cluster role asks the cluster DNS about its Services only where there is an API.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

from exporter.broker.client.requests import BrokerClient, spawn_broker
from exporter.config.load import load_config
from exporter.config.schema import Config
from exporter.daemon.rounds import Rounds
from exporter.daemon.wiring import build_rounds
from exporter.diagnosis.engine.rule_input import NO_CHANCE
from exporter.diagnosis.rules.dns import steadiness as dns_steady
from exporter.digest.publisher import DigestPublisher
from exporter.digest.source import DigestClient, DigestedSource
from exporter.inventory.file import load_file
from exporter.inventory.source import InventorySource
from exporter.kernel.read import host_reader as survey
from exporter.model.cause import Role
from exporter.model.cluster.inventory import Inventory, InventoryOrigin, ResourceKind
from exporter.model.reason import Reason
from exporter.model.report import Found, Report
from exporter.plan import name_resolution
from exporter.plan.round_plan import Pace
from exporter.report.document import document_of, encode
from exporter.telemetry.logs import InternalErrors
from exporter.web.server.application import WebOptions, WebServer
from exporter.web.server.exposition import Rendered
from exporter.web.server.listening import bind
from exporter.web.server.rotation import WebSettings

PACE = Pace(interval=30.0, timeout=8.0, whole=2.5, spread=0.0, bounded=False)
LOOK_EVERY = 0.02
PATIENCE = 60.0


def config_of(path: str) -> Config:
    return load_config(path=path, environment={}, hostname="lab")


class Objects(InventorySource):
    """The file's objects as the API's: all of them, or those of one node (what its own watches would hold)."""

    def __init__(self, path: str, node: str = "") -> None:
        self._path = path
        self._node = node

    def current(self) -> Inventory:
        everything = replace(load_file(self._path), source=InventoryOrigin.KUBERNETES)
        if not self._node:
            return everything
        unread: dict[ResourceKind, Reason] = {
            kind: Reason.NO_INVENTORY for kind in ResourceKind if kind not in {ResourceKind.PODS, ResourceKind.NODES}
        }
        nodes = tuple(n for n in everything.nodes or () if n.name == self._node)
        return Inventory(
            source=InventoryOrigin.KUBERNETES, nodes=nodes, pods=everything.local_pods(self._node), unread=unread
        )

    def remote_findings(self) -> tuple[Found, ...]:
        return ()

    async def wait_ready(self, patience: float) -> bool:
        return patience >= 0

    async def run(self) -> None:
        await asyncio.Event().wait()


@dataclass
class Told:
    """What the digest says: as it is now, not as it was a moment ago."""

    source: DigestedSource
    client: DigestClient

    async def anew(self) -> None:
        """Wait for the end of two looks: the second began after the caller asked."""
        for _ in range(2):
            self.client.tried.clear()
            async with asyncio.timeout(PATIENCE):
                await self.client.tried.wait()
        if self.client.digest is None:
            raise RuntimeError("the cluster role serves no digest")


class DigestAlone:
    """What the web server shows beside the digest: nothing (web.server.State)."""

    ready = True

    def render(self, accept: str, *, gzip: bool) -> Rendered:
        raise NotImplementedError(accept, gzip)

    def report(self) -> bytes | None:
        return None

    def page(self) -> str:
        return ""

    def runbook(self, name: str) -> str | None:
        raise NotImplementedError(name)

    def migration(self) -> str | None:
        return None

    def config_text(self) -> str:
        return ""

    async def reload(self) -> str:
        return ""


@asynccontextmanager
async def digest_server(publisher: DigestPublisher) -> AsyncIterator[str]:
    """The daemon's own web server on a free port of its node; gives where it is there."""
    listeners = bind([":0"])
    server = WebServer(DigestAlone(), WebSettings(""), WebOptions(digest=publisher))
    task = asyncio.create_task(server.run(listeners))
    try:
        yield f":{listeners[0].getsockname()[1]}/api/v1/digest"
    finally:
        task.cancel()


@asynccontextmanager
async def told(url: str, inventory: str, node: str) -> AsyncIterator[Told]:
    client = DigestClient(url, every=LOOK_EVERY)
    task = asyncio.create_task(client.run())
    try:
        yield Told(DigestedSource(Objects(inventory, node), client), client)
    finally:
        task.cancel()


def line_of(report: Report | None, errors: InternalErrors) -> str:
    assert report is not None
    return json.dumps({**encode(document_of(report)), "errors": dict(errors), "complete": report.snapshot.complete})


async def serve(inventory: str, path: str, url: str) -> None:
    config, errors, steady = config_of(path), InternalErrors(), RoundClock()
    if config.role is Role.CLUSTER:
        rounds, publisher = build_rounds(config, PACE, None, errors, steady=steady), DigestPublisher()
        async with digest_server(publisher) as address:
            await obey(address, path, rounds, Objects(inventory), errors, steady=steady, publisher=publisher)
        return
    connection, child = spawn_broker()
    broker = await BrokerClient.from_socket(connection)
    rounds = build_rounds(config, PACE, broker, errors, steady=steady)
    if url:
        async with told(url, inventory, config.node_name) as digest:
            await obey("", path, rounds, digest.source, errors, steady=steady, digest=digest)
    else:
        await obey("", path, rounds, Objects(inventory), errors, steady=steady)
    broker.close()
    child.wait()


class RoundClock:
    """The clock by which results age: it goes on with the rounds."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


async def obey(
    greeting: str,
    path: str,
    rounds: Rounds,
    source: Objects | DigestedSource,
    errors: InternalErrors,
    *,
    steady: RoundClock,
    publisher: DigestPublisher | None = None,
    digest: Told | None = None,
) -> None:
    say(greeting)
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        if line.strip() == "configure":
            rounds.configure(config_of(path), PACE)
            continue
        if line.strip() == "forget":
            steady.now += 3600.0
            rounds._memory = replace(rounds._memory, chance=NO_CHANCE)  # of 15 minutes, by the clock that tests share
            continue
        steady.now += PACE.interval
        if digest is not None:
            await digest.anew()
        now = source.current()
        report = await rounds.run(lambda now=now: now, source.remote_findings())  # type: ignore[misc]  # a default binds it
        if publisher is not None and report is not None:
            publisher.publish(report)
        say(line_of(report, errors))


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    # Rounds follow one another in no time: nothing that a round looks up may be taken from the one before.
    name_resolution.LONGEST = name_resolution.LONGEST_NONE = 0.0
    survey.LEGACY_EVERY = 0.0
    dns_steady.SERVED_FOR = 0.0  # the answers of earlier rounds count as older than that
    asyncio.run(serve(sys.argv[1], sys.argv[2], sys.argv[3] if len(sys.argv) > 3 else ""))
