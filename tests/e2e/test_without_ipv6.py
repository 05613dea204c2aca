"""A host whose IPv6 is switched off, loopback included: the exporter runs, is heard over IPv4, and says what fails."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.e2e.daemon import run_exporter
from tests.e2e.test_series_budget import NodeDaemon
from tests.e2e.village import Village
from tests.kernel import namespaces

pytestmark = pytest.mark.real

OFF = {f"net/ipv6/conf/{link}/disable_ipv6": 1 for link in ("all", "default", "lo", "eth0")}


class Ipv4Daemon(NodeDaemon):
    """Asked over 127.0.0.1, since there is no ::1."""

    loopback = "127.0.0.1"


@pytest.fixture
def village() -> Iterator[Village]:
    with Village(host=True) as made:
        namespaces.configure({made.host: OFF})
        yield made


def test_it_serves_over_ipv4_and_tells_the_dead_family_from_the_living(village: Village) -> None:
    config = village.config().replace("vantages: [pod]", "vantages: [host, pod]")
    wanted = {
        ("node/here", "tcp", "IPv4"): "ok",
        ("pod/village/one", "tcp", "IPv6"): "ok",
        ("node/here", "tcp", "IPv6"): "unreachable",
        ("node/here", "icmp", "IPv6"): "unreachable",
    }
    with Ipv4Daemon(village.host, f"--inventory.file={village.inventory}", config=config) as daemon:
        daemon.wait(lambda: wanted.items() <= daemon.outcomes().items(), "what each family does")
        daemon.wait(lambda: "ipv6_unreachable" in daemon.causes(), "its second round")
        daemon.wait(lambda: daemon.series().get('dualstack_family_ok{ip_family="IPv6"}') == 1, "the pods have it")
        series, causes = daemon.series(), daemon.causes()
    assert causes["node_ipv6_disabled"]["subjects"] == ["node/here"]
    assert causes["ipv6_unreachable"]["explained_by"] == "node_ipv6_disabled"
    assert not {"node_no_ipv6_address", "node_no_ipv6_default_route", "node_forwarding_off"} & set(causes)
    assert series.get('dualstack_exporter_errors_total{component="probe"}', 0) == 0


def test_check_and_last_work_there_as_well(village: Village) -> None:
    file = village.inventory.with_name("config.yaml")
    file.write_text(village.config())
    flags = [f"--config.file={file}", f"--inventory.file={village.inventory}", "check", "--output=json"]
    done = run_exporter(*flags, namespace=village.host)
    assert done.returncode == 1, done.stderr
    assert "node_ipv6_disabled" in {c["cause"] for c in json.loads(done.stdout)["causes"]}
    with Ipv4Daemon(village.host, f"--inventory.file={village.inventory}", config=village.config()) as daemon:
        daemon.wait_ready()
        place = f"--web.listen-address=:{daemon.port}"
        shown = run_exporter("check", "--last", place, namespace=village.host)
    assert shown.stdout.startswith("[here] "), shown.stderr
