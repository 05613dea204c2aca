"""Pods whose file system never answers: each costs the broker a bounded time, and nobody else their answers."""

from __future__ import annotations

import errno
import os
import signal
import socket
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from exporter.broker.client.requests import BrokerClient, connect_broker
from exporter.broker.protocol.messages import InstalledLibc, NamespaceRef, PodFiles, SocketKind
from exporter.broker.server.files.reader import MAX_STUCK
from exporter.broker.server.privilege import SYS_PTRACE
from exporter.config.schema import Config
from exporter.libc.resolv_conf import parse_resolv_conf
from exporter.model.cluster.inventory import Inventory, InventoryOrigin
from exporter.model.cluster.pod import Pod as PodObject
from exporter.model.facts import Reader, ReaderStatus
from exporter.model.reason import Reason
from exporter.vantage import Inspector
from tests.kernel.broker_lab import (
    broker_process,
    closing,
    descriptors_of,
    listening_broker,
    named_namespace,
    place_of_name,
    place_of_pid,
    process,
    status_of,
    wait_until,
    wanted,
)
from tests.kernel.namespaces import unique_prefix
from tests.kernel.stalled import LEAVES, TAKES, stalled_pod
from tests.lab import cgroups
from tests.lab.roots import PodRoot, place_program

pytestmark = [pytest.mark.real, pytest.mark.attack]

CONTENT = "nameserver 2001:db8::10\n"
READ = PodFiles(resolv_errno=0, resolv_conf=CONTENT.encode(), libc_errno=0, libcs=(InstalledLibc.GLIBC,))
TIMED_OUT = PodFiles(resolv_errno=errno.ETIMEDOUT, resolv_conf=b"", libc_errno=errno.ETIMEDOUT, libcs=())
BUSY = PodFiles(resolv_errno=errno.EBUSY, resolv_conf=b"", libc_errno=errno.EBUSY, libcs=())
LONG = 20.0  # seconds: far more than a pod may cost, and less than a broker that waits for ever takes


def made_root(path: Path) -> Path:
    path.mkdir()
    PodRoot(path, CONTENT)
    return path


@contextmanager
def honest_pod(path: Path) -> Iterator[NamespaceRef]:
    place_program(made_root(path), "/serve")
    with process("unshare", "--net", "chroot", str(path), "/serve") as started:
        yield place_of_pid(started.pid)


def children_of(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def states_of(pid: int) -> list[str]:
    """What each child of a process does: S works or waits for work, D waits uninterruptibly, Z is a zombie."""
    return sorted(status_of(child)["State"][0].replace("R", "S") for child in children_of(pid))


async def has_come_to(client: BrokerClient, pid: int, states: list[str]) -> None:
    """Wait until the broker's children do this. It looks after them whenever it is asked anything."""
    end = time.monotonic() + LONG
    while states_of(pid) != states:
        assert time.monotonic() < end, states_of(pid)
        await client.named("/")


async def read(client: BrokerClient, *places: NamespaceRef) -> list[PodFiles]:
    began = time.monotonic()
    found = await client.read_pod_files(places)
    assert time.monotonic() - began < LONG
    return list(found)


@pytest.mark.parametrize("below", ["etc", "lib64"])
async def test_a_stalled_pod_is_given_up_and_the_others_are_read(tmp_path: Path, below: str) -> None:
    with (
        honest_pod(tmp_path / "honest") as honest,
        named_namespace() as name,
        broker_process() as (connection, broker),
        closing(await BrokerClient.from_socket(connection.dup())) as client,
    ):
        assert await read(client, honest) == [READ]
        with stalled_pod(made_root(tmp_path / "stalled"), below=below) as stalled:
            assert await read(client, honest, stalled.place, honest) == [READ, TIMED_OUT, READ]
            assert states_of(broker.pid) == ["D", "S"], "one that cannot be killed, and one that works"
            before = children_of(broker.pid)
            for _ in range(5):
                assert await read(client, stalled.place, honest) == [TIMED_OUT, READ]
            assert children_of(broker.pid) == before, "it is not tried again so soon"
            (opened,) = await client.open_sockets(wanted(place_of_name(name), (SocketKind.TCP6,)))
            assert isinstance(opened, socket.socket)
            opened.close()
        await has_come_to(client, broker.pid, ["S"])  # what hung is gone with the file system, and no zombie stays
        assert await read(client, honest) == [READ]


async def test_a_child_that_can_be_killed_is_gone_at_once(tmp_path: Path) -> None:
    with (
        stalled_pod(made_root(tmp_path / "stalled"), kind=LEAVES) as stalled,
        broker_process() as (connection, broker),
        closing(await BrokerClient.from_socket(connection.dup())) as client,
    ):
        assert await read(client, stalled.place) == [TIMED_OUT]
        await has_come_to(client, broker.pid, [])


async def test_more_stalled_pods_than_children_stop_the_reading_and_nothing_else(tmp_path: Path) -> None:
    """With fewer of them than usual, so that each pod's server has its second to take the request."""
    few = 3
    assert few < MAX_STUCK
    with (
        honest_pod(tmp_path / "honest") as honest,
        broker_process(code=f"from exporter.broker.server.files import reader; reader.MAX_STUCK = {few}") as (
            connection,
            broker,
        ),
        closing(await BrokerClient.from_socket(connection.dup())) as client,
    ):
        with ExitStack() as stack:
            pods = [stack.enter_context(stalled_pod(made_root(tmp_path / str(n)))) for n in range(few + 1)]
            for pod in pods[:-1]:
                assert await read(client, pod.place) == [TIMED_OUT]
            assert await read(client, pods[-1].place, honest) == [BUSY, BUSY]
            assert states_of(broker.pid) == ["D"] * few
            assert (await client.named("/run")).errno == errno.EACCES
        await has_come_to(client, broker.pid, [])
        assert await read(client, honest) == [READ]


async def test_a_look_at_the_node_names_the_stalled_pod_and_sees_the_others(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Round by round, and from the round on in which its file system answers again. Nothing is left alone for long
    here.
    """
    code = "from exporter.broker.server.files import reader; reader.FIRST_REST = reader.LONGEST_REST = 0.0"
    lab, uids = unique_prefix(), {name: str(uuid.uuid4()) for name in ("honest", "stalled")}
    pods = tuple(
        PodObject(namespace="team", name=name, uid=uid, node="here", phase="Running", created=0.0, started=0.0)
        for name, uid in uids.items()
    )
    inventory = Inventory(source=InventoryOrigin.FILE, pods=pods)
    with ExitStack() as stack:
        stack.callback(cgroups.remove, lab)
        honest = stack.enter_context(honest_pod(tmp_path / "honest"))
        stalled = stack.enter_context(stalled_pod(made_root(tmp_path / "stalled")))
        for name, place in (("honest", honest), ("stalled", stalled.place)):
            cgroups.move(place.pid, cgroups.pod_cgroup(lab, uids[name]))
        connection, _ = stack.enter_context(broker_process(code=code))
        client = stack.enter_context(closing(await BrokerClient.from_socket(connection.dup())))
        inspector = Inspector(Config(node_name="here"), client, clock=time.time)

        async def look() -> tuple[dict[str, tuple[object, Reason | None, object]], ReaderStatus]:
            inspection = await inspector.inspect(inventory)
            (reading,) = [each for each in inspection.readings if each.reader == Reader.RESOLV_CONF]
            views = [view for view in inspection.pods if view.vantage.namespace == "team"]
            return {v.vantage.name: (v.resolv_conf, v.resolv_conf_unread, v.libc) for v in views}, reading

        read = (parse_resolv_conf(CONTENT.encode()), None, frozenset({"glibc"}))
        for _ in range(3):
            views, reading = await look()
            assert views == {"honest": read, "stalled": (None, Reason.READER_FAILED, None)}
            assert (reading.success, reading.detail) == (True, "no answer from the file systems of pod/team/stalled")
        assert [r.levelname for r in caplog.records if "does not answer" in r.getMessage()] == ["WARNING"]
        stalled.heal()
        end = time.monotonic() + LONG
        while (await look())[0] != {"honest": read, "stalled": read}:
            assert time.monotonic() < end, "it is read again"


@pytest.mark.parametrize("kind", [TAKES, LEAVES])
async def test_the_broker_ends_although_a_child_hangs(tmp_path: Path, kind: str) -> None:
    socket_path = tmp_path / "broker.sock"
    with stalled_pod(made_root(tmp_path / "stalled"), kind=kind) as stalled, listening_broker(socket_path) as broker:
        with closing(await BrokerClient.from_socket(connect_broker(str(socket_path)))) as client:
            assert await read(client, stalled.place) == [TIMED_OUT]
        broker.terminate()
        assert broker.wait(LONG) == 0


async def test_the_child_holds_one_capability_and_its_channel_alone(tmp_path: Path) -> None:
    socket_path = tmp_path / "broker.sock"
    with (
        honest_pod(tmp_path / "honest") as honest,
        listening_broker(socket_path) as broker,
        closing(await BrokerClient.from_socket(connect_broker(str(socket_path)))) as client,
    ):
        assert await read(client, honest) == [READ]
        (child,) = children_of(broker.pid)
        status = status_of(child)
        assert {int(status[field], 16) for field in ("CapEff", "CapPrm")} == {1 << SYS_PTRACE}
        assert {int(status[field], 16) for field in ("CapInh", "CapAmb")} == {0}
        assert status["NoNewPrivs"] == "1"
        assert len(descriptors_of(child)) == 4, "three standard ones, and the channel"
        assert [name for name in descriptors_of(child)[3:] if name.startswith("socket:")]
        broker.kill()
        broker.wait()
        wait_until(lambda: not Path(f"/proc/{child}").exists())


async def test_a_child_that_was_killed_is_replaced(tmp_path: Path) -> None:
    with (
        honest_pod(tmp_path / "honest") as honest,
        broker_process() as (connection, broker),
        closing(await BrokerClient.from_socket(connection.dup())) as client,
    ):
        assert await read(client, honest) == [READ]
        (child,) = children_of(broker.pid)
        os.kill(child, signal.SIGKILL)
        wait_until(lambda: states_of(broker.pid) == ["Z"])
        assert await read(client, honest) == [READ], "no fault of this pod"
        assert states_of(broker.pid) == ["S"]
