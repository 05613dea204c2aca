"""Whose root a pod's files are read from: its containers', never the host's, and of the sandbox's the resolv.conf
alone.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from exporter.broker.client.requests import BrokerClient, spawn_broker
from exporter.broker.server.files.podfiles import GLIBC_FILES, MUSL_FILES
from exporter.config.schema import Config
from exporter.libc.resolv_conf import parse_resolv_conf
from exporter.model.cluster.inventory import Inventory, InventoryOrigin
from exporter.model.cluster.pod import Pod as PodObject
from exporter.model.dns import ResolvConf
from exporter.model.report import PodView
from exporter.vantage import Inspector
from exporter.vantage.pod_files import KEPT
from tests.kernel.namespaces import unique_prefix
from tests.lab.containers import Pod, running_pod

pytestmark = pytest.mark.real

ROUNDS = 4
OF_SANDBOX = b"nameserver 192.0.2.1\n"
OF_CONTAINERS = b"nameserver 192.0.2.53\nsearch team.svc.cluster.local\n"
SANDBOX, CONTAINERS = parse_resolv_conf(OF_SANDBOX), parse_resolv_conf(OF_CONTAINERS)


class Node:
    """The exporter's look at this machine, round by round, on a clock of its own."""

    def __init__(self, broker: BrokerClient, uid: str) -> None:
        self.now = 1_000_000.0
        pod = PodObject(namespace="team", name="web", uid=uid, node="here", phase="Running", created=0.0, started=0.0)
        self._inventory = Inventory(source=InventoryOrigin.FILE, pods=(pod,))
        self._inspector = Inspector(Config(node_name="here"), broker, clock=lambda: self.now)

    async def look(self) -> PodView:
        inspection = await self._inspector.inspect(self._inventory)
        (view,) = [view for view in inspection.pods if view.vantage.subject == "pod/team/web"]
        self.now += 30
        return view

    async def looks(self, rounds: int = ROUNDS) -> set[tuple[frozenset[str] | None, ResolvConf | None]]:
        """What several rounds say of the pod: one thing, where it is stable."""
        return {(view.libc, view.resolv_conf) for view in [await self.look() for _ in range(rounds)]}


@pytest.fixture
def uid() -> str:
    return str(uuid.uuid4())


@pytest.fixture
def pod(tmp_path: Path, uid: str) -> Iterator[Pod]:
    with running_pod(unique_prefix(), uid, root(tmp_path, "sandbox", conf=OF_SANDBOX)) as made:
        yield made


@pytest_asyncio.fixture
async def node(uid: str) -> AsyncIterator[Node]:
    connection, process = spawn_broker()
    client = await BrokerClient.from_socket(connection)
    yield Node(client, uid)
    client.close()
    assert process.wait(10) == 0


def root(folder: Path, name: str, *files: str, conf: bytes = OF_CONTAINERS) -> Path:
    for file, content in (("etc/resolv.conf", conf), *((file, b"loader") for file in files)):
        path = folder / name / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder / name


def said(*libcs: str, conf: ResolvConf = CONTAINERS) -> set[tuple[frozenset[str] | None, ResolvConf | None]]:
    return {(frozenset(libcs), conf)}


async def test_of_a_sandbox_alone_only_the_resolv_conf_counts(pod: Pod, node: Node, tmp_path: Path) -> None:
    """Some sandboxes' images hold a C library, which no program of the pod uses."""
    root(tmp_path, "sandbox", GLIBC_FILES[0], conf=OF_SANDBOX)
    assert pod.sandbox.pid
    assert await node.looks() == {(None, SANDBOX)}


async def test_the_libraries_of_all_containers_count_and_a_containers_resolv_conf(
    pod: Pod, node: Node, tmp_path: Path
) -> None:
    root(tmp_path, "sandbox", GLIBC_FILES[0], conf=OF_SANDBOX)
    pod.add("musl", root(tmp_path, "musl", MUSL_FILES[0]))
    assert await node.looks() == said("musl")
    pod.add("static", root(tmp_path, "static"))
    assert await node.looks() == said("musl")
    pod.add("glibc", root(tmp_path, "glibc", GLIBC_FILES[0]))
    assert await node.looks() == said("glibc", "musl")


async def test_a_pod_of_static_programs_holds_none(pod: Pod, node: Node, tmp_path: Path) -> None:
    pod.add("static", root(tmp_path, "static"))
    assert await node.looks() == said()


async def test_a_container_that_still_has_the_hosts_root_says_nothing_yet(pod: Pod, node: Node, tmp_path: Path) -> None:
    """This machine has glibc and a resolv.conf of its own."""
    young = pod.add("first", root(tmp_path, "first", MUSL_FILES[0]), young=True)
    assert await node.looks() == {(None, SANDBOX)}
    young.start()
    assert await node.looks() == said("musl")
    later = pod.add("second", root(tmp_path, "second", GLIBC_FILES[0]), young=True)
    assert await node.looks() == said("musl")
    later.start()
    assert await node.looks() == said("musl", "glibc")


async def test_a_container_that_crashes_again_and_again_changes_nothing(pod: Pod, node: Node, tmp_path: Path) -> None:
    pod.add("steady", root(tmp_path, "steady", GLIBC_FILES[0]))
    seen = set()
    for attempt in range(3):
        crashing = pod.add(f"crashing {attempt}", root(tmp_path, "crashing", MUSL_FILES[0]))
        seen |= await node.looks(2)
        crashing.end()
        seen |= await node.looks(2)
    assert seen == said("glibc", "musl")
    node.now += KEPT
    assert await node.looks() == said("glibc")


async def test_of_a_pod_whose_only_container_crashes_the_libraries_stay_known(
    pod: Pod, node: Node, tmp_path: Path
) -> None:
    only = pod.add("only", root(tmp_path, "only", MUSL_FILES[0]))
    assert await node.looks() == said("musl")
    only.end()
    assert await node.looks() == said("musl", conf=SANDBOX)


async def test_a_process_that_came_in_from_elsewhere_is_not_the_pods(pod: Pod, node: Node, tmp_path: Path) -> None:
    pod.add("musl", root(tmp_path, "musl", MUSL_FILES[0]))
    with running_pod(unique_prefix(), str(uuid.uuid4()), root(tmp_path, "other", conf=OF_SANDBOX)) as stranger:
        stranger.join(f"/proc/{pod.sandbox.pid}/ns/net")
        stranger.add("visitor", root(tmp_path, "visitor", GLIBC_FILES[0], conf=OF_SANDBOX))
        assert await node.looks() == said("musl")
