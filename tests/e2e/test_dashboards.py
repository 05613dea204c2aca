"""Every query of every dashboard against a real Prometheus that scraped exporters: healthy ones, a bad day, and a real
process.
"""

from __future__ import annotations

import json
import math
import os
import re
import signal
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from grafana.dashboards import DASHBOARDS, Dashboard
from grafana.panels import ROW, Panel
from tests.e2e.alerting import scaled_rules
from tests.e2e.daemon import Daemon, children_of
from tests.e2e.grafana import colours, substitute, table_rows
from tests.e2e.prometheus import Prometheus, Series
from tests.e2e.sample_fleet import Fleet

pytestmark = pytest.mark.real

ROOT = Path(__file__).resolve().parents[2]
RULES = ROOT / "alerts" / "dualstack.yaml"
WINDOW = 60.0
VARIABLES = {"cluster": ".*", "node": ".*", "__rate_interval": "8s"}
ONE_NODE = VARIABLES | {"node": "node-a"}

DAEMON = """
node_name: plain-host
families: [IPv4, IPv6]
round: {interval: 1s, timeout: 900ms}
timeouts: {icmp: 300ms, tcp: 300ms, dns: 300ms}
inventory: {source: none}
netns: {include: [no-such-namespace]}
targets: [{name: here, addresses: ["::1", 127.0.0.1], port: %d, layers: [icmp, tcp], vantages: [host]}]
dns: {servers: []}
"""

# What a host without Kubernetes and without pods has no data for, on the node dashboard.
NEEDS_A_CLUSTER = {
    "Pods probed",
    "Cluster services by family",
    "TLS certificate expiry",
    "NAT outgoing by IP pool",
    "Masquerade rules by backend",
    "kube-proxy rules by family",
    "Masqueraded packets by family",
    "VXLAN devices",
    "Tunnel peers by state",
    "BGP peers over IPv6",
    "Pods by probing state",
    "Pods by C library",
}


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    with Fleet() as running:
        yield running


@pytest.fixture(scope="module")
def prometheus(fleet: Fleet, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """With the shipped rules, a minute of which takes two seconds: what is alerted after ten of them is alerted
    here.
    """
    rules = tmp_path_factory.mktemp("rules") / "dualstack.yaml"
    rules.write_text(scaled_rules(RULES.read_text(), 2.0))
    with Prometheus(fleet.targets, rules=[rules]) as running:
        yield running


@pytest.fixture(scope="module")
def healthy(prometheus: Prometheus) -> Prometheus:
    """After enough rounds for every rate, before anything went wrong."""
    prometheus.wait_for('min(dualstack_exporter_rounds_total{cluster="sample"}) > 8')
    prometheus.wait_for("cluster:dualstack_probes_answered:ratio_rate5m")
    return prometheus


@pytest.fixture(scope="module")
def bad(fleet: Fleet, healthy: Prometheus) -> Prometheus:
    """Some rounds after things went wrong; tests of the healthy state stand before those that ask for this."""
    fleet.break_down()
    healthy.wait_for('dualstack_family_ok{node="node-a", ip_family="IPv6"} == 0')
    before = healthy.value('dualstack_exporter_rounds_total{node="node-a"}')
    healthy.wait_for(f'dualstack_exporter_rounds_total{{node="node-a"}} > {before} + 4')
    healthy.wait_for('ALERTS{fault="dns_aaaa_blocked", alertstate="firing"}')
    healthy.wait_for('ALERTS{fault="exporter_absent", alertstate="firing"}')
    healthy.wait_for('ALERTS{fault="cidr_overlap", alertstate="firing"}')
    healthy.wait_for('node:dualstack_fault:subjects{fault="nat_masquerade_missing", severity="critical"}')
    return healthy


def variables_of(dashboard: Dashboard) -> Mapping[str, str]:
    return ONE_NODE if dashboard.name == "node" else VARIABLES


def answers(prometheus: Prometheus, panel: Panel, variables: Mapping[str, str]) -> list[list[Series]]:
    """Of each query of a panel, in the way in which Grafana asks it."""
    now = time.time()
    found = []
    for query in panel.queries:
        expr = substitute(query.expr, variables)
        series = (
            prometheus.range(expr, now - WINDOW, now, 1.0) if panel.kind == "timeseries" else prometheus.instant(expr)
        )
        found.append([s for s in series if any(math.isfinite(value) for _, value in s.points)])
    return found


def panels_of(dashboard: Dashboard) -> list[Panel]:
    return [panel for panel in dashboard.panels if panel.kind != ROW]


ALL = [
    pytest.param(dashboard, panel, id=f"{dashboard.name}: {panel.title}")
    for dashboard in DASHBOARDS
    for panel in panels_of(dashboard)
]


@pytest.mark.parametrize(("dashboard", "panel"), ALL)
def test_in_a_healthy_fleet_panels_of_faults_are_empty_and_all_others_full(
    healthy: Prometheus, dashboard: Dashboard, panel: Panel
) -> None:
    found = answers(healthy, panel, variables_of(dashboard))
    assert [bool(series) for series in found] == [not panel.only_bad] * len(panel.queries)
    drawn = next(p for p in dashboard.render()["panels"] if p["title"] == panel.title)
    alarming = [each for each in colours(drawn, found) if each[2] in {"red", "orange"}]
    assert alarming == []


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda d: d.name)
def test_every_variable_has_values(healthy: Prometheus, dashboard: Dashboard) -> None:
    asked = {}
    for variable in json.loads(dashboard.path.read_text())["templating"]["list"]:
        if variable["type"] == "query":
            match = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"])
            assert match
            asked[variable["name"]] = healthy.label_values(match.group(2), substitute(match.group(1), VARIABLES))
    expected = {"cluster": ["sample"], "node": ["node-a", "node-b", "node-c", "node-d"]}
    assert asked == {name: values for name, values in expected.items() if name in asked}
    assert "cluster" in asked


HEALTHY_NUMBERS = {
    "Nodes without working IPv6": [0],
    "Nodes without working IPv4": [0],
    "Active causes by severity": [0, 0, 0],
    "Nodes reporting": [4],
    "Scrape targets down": [0],
    "Stale inventories": [0],
    "IPv6 status": [1],
    "AAAA filtered": [0],
    "Corefile filter": [0],
    "Dual-stack pods": [1],
}
BAD_NUMBERS = HEALTHY_NUMBERS | {
    "Nodes without working IPv6": [1],
    "Active causes by severity": [2, 1, 1],
    "Nodes reporting": [3],
    "Scrape targets down": [1],
    "IPv6 status": [0],
    "AAAA filtered": [1],
    "Dual-stack pods": [12 / 18],
}


def numbers(prometheus: Prometheus, titles: Mapping[str, Any]) -> dict[str, list[float]]:
    """The numbers that a dashboard shows under these titles."""
    return {
        panel.title: [
            series.points[-1][1] for found in answers(prometheus, panel, variables_of(dashboard)) for series in found
        ]
        for dashboard in DASHBOARDS
        for panel in panels_of(dashboard)
        if panel.title in titles
    }


def test_big_numbers_are_right_in_a_healthy_fleet(healthy: Prometheus) -> None:
    assert numbers(healthy, HEALTHY_NUMBERS) == HEALTHY_NUMBERS


def test_a_choice_of_nodes_holds_for_the_numbers(healthy: Prometheus) -> None:
    fleet_board = DASHBOARDS[0]
    (panel,) = (p for p in panels_of(fleet_board) if p.title == "Nodes reporting")
    (found,) = answers(healthy, panel, VARIABLES | {"node": "(node-a|node-c)"})
    assert found[0].points[-1][1] == 2
    (found,) = answers(healthy, panel, VARIABLES | {"cluster": "another"})
    assert found == []


# From here on things have gone wrong.


@pytest.mark.parametrize(("dashboard", "panel"), ALL)
def test_on_a_bad_day_every_query_of_every_panel_returns_data(
    bad: Prometheus, dashboard: Dashboard, panel: Panel
) -> None:
    found = answers(bad, panel, variables_of(dashboard))
    assert [bool(series) for series in found] == [True] * len(panel.queries)


def test_big_numbers_are_right_on_a_bad_day(bad: Prometheus) -> None:
    assert numbers(bad, BAD_NUMBERS) == {title: pytest.approx(expected) for title, expected in BAD_NUMBERS.items()}


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda d: d.name)
def test_causes_are_annotated_where_they_hold(bad: Prometheus, dashboard: Dashboard) -> None:
    (annotation,) = json.loads(dashboard.path.read_text())["annotations"]["list"]
    now = time.time()
    series = bad.range(substitute(annotation["expr"], variables_of(dashboard)), now - WINDOW, now, 1.0)
    held = {s.labels["cause"] for s in series if any(value > 0 for _, value in s.points)}
    expected = {
        "fleet": {"dns_aaaa_blocked", "nat_masquerade_missing", "cidr_overlap"},
        "node": {"dns_aaaa_blocked", "nat_masquerade_missing"},
        "dns": {"dns_aaaa_blocked"},
        "cluster": {"cidr_overlap"},
    }
    assert held == expected[dashboard.name]


def rows_of(prometheus: Prometheus, dashboard: Dashboard, title: str) -> list[dict[str, Any]]:
    """A table as it is shown."""
    (panel,) = (p for p in panels_of(dashboard) if p.title == title)
    drawn = next(p for p in json.loads(dashboard.path.read_text())["panels"] if p["title"] == title)
    return table_rows(drawn, answers(prometheus, panel, variables_of(dashboard)))


def test_the_table_of_causes_says_what_is_broken_since_when_and_what_to_do(bad: Prometheus) -> None:
    rows = rows_of(bad, DASHBOARDS[0], "Active causes")
    causes = [row["cause"] for row in rows]
    # The critical ones first: one by itself, and the one because of which IPv6 is down on the node.
    assert set(causes[:2]) == {"dns_aaaa_blocked", "nat_masquerade_missing"}
    assert causes[2:] == ["cidr_overlap", "pod_ipv6_missing"]
    assert [row["severity"] for row in rows] == [3, 3, 2, 1]
    for row in rows:
        assert row["what is wrong"] == row["what to do"] == row["cause"]  # put into words by mappings
        assert (row["seen by"], row["subjects"]) == (1, 1)
        if row["severity"] > 1:
            assert time.time() - WINDOW - 60 < row["since"] / 1000 <= time.time()
        else:
            assert row.get("since") is None  # info makes no alert


def test_the_table_of_nodes_tells_the_bad_from_the_good_and_the_silent(bad: Prometheus) -> None:
    rows = {row["node"]: row for row in rows_of(bad, DASHBOARDS[0], "Node status by family")}
    assert next(iter(rows)) == "node-a"  # the worst first
    assert set(rows) == {"node-a", "node-b", "node-c"}  # node-d says nothing, which the alerts tell
    told = {node: (row["causes"], row["IPv6"], row["IPv4"], row["pods failing"]) for node, row in rows.items()}
    assert told == {"node-a": (2, 0, 1, 6), "node-b": (0, 1, 1, 0), "node-c": (0, 1, 1, 0)}
    silent = [row for row in rows_of(bad, DASHBOARDS[0], "Firing alerts") if row["alert"] == "DualstackExporterAbsent"]
    assert [row["node (-: cluster)"] for row in silent] == ["node-d"]


def test_the_table_of_clusters_sums_each_up(bad: Prometheus) -> None:
    (row,) = rows_of(bad, DASHBOARDS[0], "Status by cluster")
    assert row == {
        "cluster": "sample", "IPv6": 1, "IPv4": 0, "critical causes": 2, "warning causes": 1, "exporters": 4,
        "not scraped": 1, "stalled": 0, "stale inventory": 0,
    }  # fmt: skip


def test_the_table_of_layers_sets_the_families_side_by_side(bad: Prometheus) -> None:
    rows = rows_of(bad, DASHBOARDS[1], "Probe success by vantage, target and layer")
    told = {(row["from"], row["to"], row["layer"]): (row.get("IPv6"), row.get("IPv4")) for row in rows}
    assert told["pod", "pypi", "tcp"] == (0, 1)
    assert told["pod", "pypi", "tls"] == (None, 1)  # behind a failed layer nothing is counted
    assert told["host", "pypi", "tcp"] == (1, 1)
    assert rows[0]["lowest"] == 0


# A real process on this host, which has no Kubernetes.


@pytest.fixture(scope="module")
def plain() -> Iterator[tuple[Prometheus, Daemon]]:
    """A daemon that dials itself over both families, and a Prometheus without a label cluster."""
    alone = (
        "unshare",
        "--pid",
        "--fork",
        "--mount-proc",
        "--kill-child",
    )  # other processes' namespaces would count as pods
    with Daemon(DAEMON % 1, prefix=alone) as first:
        port = first.port
        first.config.write_text(DAEMON % port)
        first.wait_ready()
        with Prometheus([(f"[::1]:{port}", {"node": "plain-host"})], rules=[RULES]) as running:
            running.wait_for('dualstack_probe_success_ratio{target="here", layer="tcp", ip_family="IPv6"} == 1')
            rounds = running.value("dualstack_exporter_rounds_total")
            running.wait_for(f"dualstack_exporter_rounds_total > {rounds} + 4")
            yield running, first
        for exporter in children_of(first.pid):  # unshare hands no signal on
            os.kill(exporter, signal.SIGTERM)


def test_a_real_exporter_fills_the_node_dashboard_without_kubernetes(plain: tuple[Prometheus, Daemon]) -> None:
    prometheus, _ = plain
    here = VARIABLES | {"node": "plain-host"}
    empty = {
        panel.title
        for panel in panels_of(DASHBOARDS[1])
        if not panel.only_bad and not all(answers(prometheus, panel, here)[: 1 if panel.kind == "table" else None])
    }
    assert empty <= NEEDS_A_CLUSTER


def test_without_a_label_cluster_the_variable_is_empty_and_all_selects_everything(
    plain: tuple[Prometheus, Daemon],
) -> None:
    prometheus, _ = plain
    assert prometheus.label_values("cluster", "dualstack_exporter_build_info") == []
    assert numbers(prometheus, {"Nodes reporting": 0}) == {"Nodes reporting": [1]}
