"""The daemon and the API server as processes: whatever becomes of the server, rounds go on, and the inventory says how
old it is.

Both run in a namespace without any route: the recorded cluster's addresses are asked and dialled there, and nowhere
else.
"""

from __future__ import annotations

import json
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from exporter.model.cluster.inventory import ResourceKind
from tests.e2e.daemon import PATIENCE, Daemon
from tests.kernel import namespaces
from tests.wire.kubernetes_lab import write_kubeconfig
from tests.wire.kubernetes_process import ApiProcess

pytestmark = pytest.mark.real

CONFIG = """
role: {role}
node_name: ra
families: [IPv4, IPv6]
inventory: {{kubeconfig: {kubeconfig}}}
round: {{interval: 1s, timeout: 900ms}}
timeouts: {{icmp: 200ms, tcp: 200ms, dns: 200ms}}
digest: {{url: "{digest}"}}
"""
STALE = "dualstack_inventory_stale"
EVENTS_SENT = 'dualstack_exporter_events_total{outcome="sent"}'
ROUNDS = "dualstack_exporter_rounds_total"


@pytest.fixture(scope="module")
def island() -> Iterator[str]:
    name = f"{namespaces.unique_prefix()}island"
    namespaces.create([name])
    try:
        namespaces.run_inside(name, "ip", "link", "set", "lo", "up")
        yield name
    finally:
        namespaces.delete([name])


@pytest.fixture
def api(island: str) -> Iterator[ApiProcess]:
    with ApiProcess("nsenter", f"--net={namespaces.path_of(island)}") as process:
        yield process


class IslandDaemon(Daemon):
    """A daemon in the namespace, asked from inside it."""

    def __init__(self, island: str, config: str, *command: str, environment: dict[str, str] | None = None) -> None:
        self._island = island
        super().__init__(
            config,
            prefix=["nsenter", f"--net={namespaces.path_of(island)}"],
            command=command or (sys.executable, "-m", "exporter"),
            environment=environment,
        )

    def get(self, path: str) -> tuple[int, str]:
        found: tuple[int, str] | str = namespaces.call_inside(self._island, _fetch, f"http://[::1]:{self.port}{path}")
        if isinstance(found, str):
            raise ConnectionError(found)
        return found


def _fetch(url: str) -> tuple[int, str] | str:
    try:
        with urllib.request.urlopen(url, timeout=PATIENCE) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()
    except OSError as error:
        return str(error)


def test_causes_become_events_where_they_are_opted_in_to(island: str, api: ApiProcess, tmp_path: Path) -> None:
    with IslandDaemon(island, config(tmp_path, api, "cluster") + "events: true\n") as daemon:
        daemon.wait(lambda: daemon.series().get(EVENTS_SENT, 0) >= 1, "an event")
        causes = {c["cause"] for c in daemon.report()["causes"]}
        url = f"http://127.0.0.1:{api.port}/apis/events.k8s.io/v1/events"
        found = namespaces.call_inside(island, _fetch, url)
        assert isinstance(found, tuple)
        listed = json.loads(found[1])["items"]
    with IslandDaemon(island, config(tmp_path, api, "cluster")) as daemon:
        daemon.wait_rounds(1)
        assert EVENTS_SENT not in daemon.series()
    assert {"".join(word.capitalize() for word in cause.split("_")) for cause in causes} >= {
        e["reason"] for e in listed
    }
    assert {e["regarding"]["kind"] for e in listed} <= {"Node", "Pod"}


def config(directory: Path, api: ApiProcess, role: str, digest: str = "") -> str:
    kubeconfig = write_kubeconfig(directory, f"http://127.0.0.1:{api.port}")
    kubeconfig.chmod(0o600)  # as people have it: read before privilege is given up
    return CONFIG.format(role=role, kubeconfig=kubeconfig, digest=digest)


def unknown(daemon: Daemon) -> set[str]:
    """The causes that want of objects keeps from being checked."""
    absent = {"api_unavailable", "no_inventory", "stale_inventory"}
    return {each["cause"] for each in daemon.report()["unchecked"] if each["reason"] in absent}


def causes(daemon: Daemon) -> set[str]:
    """The causes found, once a round has finished."""
    status, body = daemon.get("/api/v1/report")
    return {cause["cause"] for cause in json.loads(body)["causes"]} if status == 200 else set()


def synced(daemon: Daemon, kind: ResourceKind) -> float:
    return daemon.series()[f'dualstack_exporter_inventory_last_sync_timestamp_seconds{{resource="{kind}"}}']


def test_rounds_go_on_while_the_api_server_is_killed_stopped_and_started(
    tmp_path: Path, island: str, api: ApiProcess
) -> None:
    with IslandDaemon(island, config(tmp_path, api, "cluster")) as daemon:
        # Node ra of the recorded cluster is IPv4 alone. What is found in the second round running is there by then.
        daemon.wait(lambda: "node_pod_cidr_missing" in causes(daemon), "what the cluster lacks")
        begun = daemon.series()[ROUNDS]
        daemon.wait_rounds(int(begun) + 2)
        before = daemon.series()
        assert before[STALE] == 0
        found = causes(daemon)
        api.kill()
        last = synced(daemon, ResourceKind.PODS)
        daemon.wait(lambda: daemon.series()[STALE] == 1, "stale")
        daemon.wait_rounds(int(before[ROUNDS]) + 6)
        stale = daemon.series()
        assert stale["dualstack_inventory_age_seconds"] >= 9
        assert synced(daemon, ResourceKind.PODS) == pytest.approx(last, abs=2)
        assert daemon.get("/-/ready")[0] == daemon.get("/-/healthy")[0] == 200
        # What was found is kept five minutes beyond the last look.
        assert causes(daemon) == found
        api.start("nodes/babel")
        daemon.wait(lambda: daemon.series()[STALE] == 0, "fresh again")
        assert synced(daemon, ResourceKind.PODS) > last
        rounds = daemon.series()[ROUNDS]
        api.stop()
        daemon.wait(lambda: daemon.series()[ROUNDS] >= rounds + 3, "rounds beside a server that stands still")
        api.go_on()
        daemon.wait(lambda: "the API server answers again" in daemon.log_text(), "the end of the outage in the log")
        log = daemon.log_text()
    assert log.count("the API server fails; what was read last stays in use") == 1
    assert log.count("the API server answers again") == 1
    assert "Traceback" not in log


def test_a_daemon_starts_without_an_api_server_and_finds_it_later(tmp_path: Path, island: str, api: ApiProcess) -> None:
    api.kill()
    with IslandDaemon(island, config(tmp_path, api, "cluster")) as daemon:
        daemon.wait_rounds(2)
        unchecked = {each["reason"] for each in daemon.report()["unchecked"]}
        assert unchecked == {"api_unavailable"}
        api.start()
        daemon.wait(lambda: bool(causes(daemon)), "causes")


def test_a_node_learns_from_the_cluster_role_and_keeps_what_it_learnt(
    tmp_path: Path, island: str, api: ApiProcess
) -> None:
    with IslandDaemon(island, config(tmp_path, api, "cluster")) as cluster:
        cluster.wait_rounds(1)
        url = f"http://dualstack-exporter-cluster:{cluster.port}/api/v1/digest"
        variables = {"DUALSTACK_EXPORTER_CLUSTER_SERVICE_HOST": "::1"}  # as the kubelet tells it; no resolver is here
        (tmp_path / "node").mkdir(mode=0o755)
        record = tmp_path / "late"
        command = (sys.executable, str(Path(__file__).with_name("late_imports.py")), str(record))
        settings = config(tmp_path / "node", api, "node", url)
        with IslandDaemon(island, settings, *command, environment=variables) as node:
            node.wait_rounds(1)
            node.wait(lambda: not unknown(node), "the digest")
            assert node.get("/api/v1/digest")[0] == 404
            cluster.process.kill()
            cluster.process.wait()
            rounds = node.series()[ROUNDS]
            node.wait(lambda: node.series()[ROUNDS] >= rounds + 3, "rounds without the cluster role")
            assert not unknown(node)
            assert node.series()[STALE] == 0
            assert "Traceback" not in node.log_text()
    assert record.read_text().split() == []  # nothing is imported once privilege is gone
