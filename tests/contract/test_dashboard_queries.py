"""What dashboard queries make of given series, as Prometheus evaluates them (promtool): one row and one severity for
one fault, whatever the nodes say of it.
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from grafana.dashboards import DASHBOARDS
from grafana.words import BLOCKS, RANKED_KINDS

pytestmark = pytest.mark.real

CHOSEN = {"$cluster": ".*", "$node": ".*"}
A, B = 'cluster="one", job="j", instance="a", node="a"', 'cluster="one", job="j", instance="b", node="b"'
NAT, DNS = 'cause="nat_masquerade_missing", scope="node"', 'cause="dns_aaaa_blocked", scope="dns"'


def queries(title: str) -> list[str]:
    (panel,) = (panel for board in DASHBOARDS for panel in board.panels if panel.title == title)
    made = [query.expr for query in panel.queries]
    for name, value in CHOSEN.items():
        made = [expr.replace(name, value) for expr in made]
    return made


def check(tmp_path: Path, series: Mapping[str, float], expected: Mapping[str, Mapping[str, float]]) -> None:
    """That each expression has exactly these series at a moment."""
    case = {
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": [{"series": name, "values": f"{value:g}x10"} for name, value in series.items()],
                "promql_expr_test": [
                    {
                        "expr": expr,
                        "eval_time": "5m",
                        "exp_samples": [{"labels": labels, "value": value} for labels, value in samples.items()],
                    }
                    for expr, samples in expected.items()
                ],
            }
        ],
    }
    path = tmp_path / "case.yaml"
    path.write_text(yaml.safe_dump(case, width=10_000))
    done = subprocess.run(["promtool", "test", "rules", path], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_cause_counts_once_by_its_highest_severity(tmp_path: Path) -> None:
    critical, warning, info = queries("Active causes by severity")
    check(
        tmp_path,
        {
            f'dualstack_cause{{{NAT}, severity="critical", {A}}}': 1,
            f'dualstack_cause{{{NAT}, severity="warning", {B}}}': 1,
            f'dualstack_cause{{{DNS}, severity="critical", {A}}}': 0,
        },
        {critical: {"{}": 1}, warning: {"{}": 0}, info: {"{}": 0}},
    )


def test_a_cause_has_the_severity_that_its_alert_has(tmp_path: Path) -> None:
    """A page for a family that is down is named after its cause, which may be a warning elsewhere."""
    critical, warning, _ = queries("Active causes by severity")
    first, *_ = queries("Active DNS causes")
    row = '{cause="dns_aaaa_blocked", runbook="dns_aaaa_blocked", scope="dns", what="dns_aaaa_blocked"}'
    paged = 'node:dualstack_fault:subjects{cluster="one", node="b", severity="critical"'
    check(
        tmp_path,
        {
            f'dualstack_cause{{{DNS}, severity="warning", {A}}}': 1,
            f'dualstack_cause{{{DNS}, severity="warning", {B}}}': 1,
            f'dualstack_cause{{{NAT}, severity="warning", {B}}}': 0,
            f'{paged}, fault="dns_aaaa_blocked"}}': 1,
            f'{paged}, fault="nat_masquerade_missing"}}': 1,
        },
        {critical: {"{}": 1}, warning: {"{}": 0}, first: {row: 3}},
    )


def test_an_alert_that_changes_its_severity_is_one_row(tmp_path: Path) -> None:
    (firing,) = queries("Firing alerts")
    alert = 'alertname="DualstackFelixIpv6Off", alertstate="firing", cluster="one", fault="felix_ipv6_off"'
    check(
        tmp_path,
        {
            f'ALERTS{{{alert}, severity="critical"}}': 1,
            f'ALERTS{{{alert}, severity="warning"}}': 1,
            'ALERTS{alertname="DualstackWatchdog", alertstate="firing", severity="none"}': 1,
        },
        {firing: {'{alertname="DualstackFelixIpv6Off", cluster="one"}': 3}},
    )


def test_a_nameserver_is_one_row_with_the_worst_that_a_node_sees(tmp_path: Path) -> None:
    worst, nodes, filtered = queries("AAAA handling by nameserver")
    seen = {A: "undecided", B: "filtered"}
    check(
        tmp_path,
        {
            f'dualstack_dns_aaaa_block{{server="cluster_dns", kind="{kind}", {node}}}': float(kind == seen[node])
            for node in seen
            for kind in BLOCKS
        },
        {
            worst: {'{server="cluster_dns"}': [k.value for k in RANKED_KINDS].index("filtered")},
            nodes: {'{server="cluster_dns"}': 2},
            filtered: {'{server="cluster_dns"}': 1},
        },
    )


def test_a_kind_of_object_is_one_row_and_only_if_it_is_read(tmp_path: Path) -> None:
    read, took, current = queries("Kubernetes readers")
    synced = "dualstack_exporter_inventory_last_sync_timestamp_seconds"
    check(
        tmp_path,
        {
            f'dualstack_exporter_info{{role="cluster", {A}}}': 1,
            f'dualstack_reader_success{{reader="api_nodes", {A}}}': 1,
            f'dualstack_reader_duration_seconds{{reader="api_nodes", {A}}}': 0.5,
            f'dualstack_reader_success{{reader="links", {A}}}': 1,
            f'{synced}{{resource="nodes", {A}}}': 290,
            f'{synced}{{resource="inventory", {A}}}': 290,
        },
        {
            read: {'{reader="api_nodes"}': 1},
            took: {'{reader="api_nodes"}': 0.5},
            current: {'{reader="api_nodes"}': 10},
        },
    )


def test_a_name_of_the_exporters_own_is_none_that_lacks_aaaa(tmp_path: Path) -> None:
    (lacking,) = queries("Names with A but no AAAA")
    asked = f'dualstack_dns_lookups{{server="cluster_dns", {A}'
    check(
        tmp_path,
        {
            f'{asked}, name="{name}", qtype="{qtype}", outcome="{outcome}"}}': 1
            for name in ("canary", "ipv4only.arpa", "old.example")
            for qtype, outcome in (("A", "answer"), ("AAAA", "nodata"))
        },
        {lacking: {'{name="old.example", server="cluster_dns"}': 1}},
    )


def test_every_cluster_is_one_row_with_its_families_causes_and_exporters(tmp_path: Path) -> None:
    exporters, six, four, critical, warning, down, stalled, stale = queries("Status by cluster")
    gone = 'cluster="two", job="dualstack-exporter", instance="c"'
    one, two = '{cluster="one"}', '{cluster="two"}'
    series: dict[str, float] = {
        **{f"dualstack_exporter_build_info{{{node}}}": 1 for node in (A, B)},
        **{f'dualstack_exporter_info{{role="node", {node}}}': 1 for node in (A, B)},
        f'dualstack_series_truncated{{metric="x", {A}}}': 0,
        f'dualstack_family_ok{{ip_family="IPv4", {A}}}': 1,
        f'dualstack_family_ok{{ip_family="IPv4", {B}}}': 0,
        f'dualstack_family_expected{{ip_family="IPv4", {A}}}': 1,
        f'dualstack_family_expected{{ip_family="IPv6", {A}}}': 0,
        f'dualstack_cause{{{NAT}, severity="critical", {A}}}': 1,
        f'dualstack_cause{{{NAT}, severity="warning", {B}}}': 1,
        f"dualstack_inventory_stale{{{A}}}": 1,
        f"up{{{gone}}}": 0,
        'up{cluster="one", job="dualstack-exporter", instance="a"}': 1,
    }
    expected: dict[str, dict[str, float]] = {
        exporters: {one: 2, two: 0},
        six: {one: -1},
        four: {one: 1},
        critical: {one: 1},
        warning: {one: 0},
        down: {one: 0, two: 1},
        stalled: {one: 1},
        stale: {one: 1},
    }
    check(tmp_path, series, expected)


@pytest.mark.parametrize(("expected", "shown"), [(1, 2), (0, 1)])
def test_disabled_ipv6_is_a_fault_only_where_it_is_expected(expected: int, shown: int, tmp_path: Path) -> None:
    (disabled,) = queries("IPv6 disabled by sysctl")
    own = 'cluster="one", node=".*"'  # the node dashboard chooses one node, by equality
    series: Any = {
        f"dualstack_host_ipv6_disabled{{{own}}}": 1,
        f'dualstack_family_expected{{ip_family="IPv6", {own}}}': expected,
    }
    check(tmp_path, series, {disabled: {"{}": shown}})
