"""The dashboards over real exporters in the lab: real kernels, real probes. First in good health, in which nothing may
look like a fault; then with a nameserver that withholds AAAA and a node without NAT.
"""

from __future__ import annotations

import json
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from grafana.dashboards import DASHBOARDS, Dashboard
from tests.contract.test_dashboards import label_values
from tests.e2e.daemon import PATIENCE, ROOT
from tests.e2e.grafana import colours, substitute
from tests.e2e.pages import Stack
from tests.e2e.pictures import WIDTH, Asked, break_down, page, photograph, picture_of
from tests.e2e.test_dashboards import VARIABLES, answers, panels_of
from tests.kernel.calico_nodes import OUTSIDE4, OUTSIDE6
from tests.lab.settings import MIRROR4, MIRROR6, OUTSIDE_NAME

pytestmark = pytest.mark.real

# The lab lets everything be read and checked, its peers all answer, and objects from a file have no readers.
NOT_IN_THE_LAB = {
    "Kubernetes readers",
    "Causes not checked",
    "Causes not checked by the cluster exporter",
    "Causes not checked on this node",
    "Failing readers",
    "Unreachable peers",
    "BGP peers over IPv6",
}
# How long a round takes is the machine's affair.
OF_THE_MACHINE = {"Exporter versions, rounds incomplete: orange"}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """In good health, with what is healthy and looks odd: on each node a pod of dnsPolicy Default, whose nameservers
    are the node's and do not know the cluster's names. The dead man's switch fires, as always.
    """
    with Stack(asks_dns=True) as running:
        upstream_resolver(running, tmp_path_factory.mktemp("upstream"))
        for node in running.cluster.lab.nodes:
            own = Path(f"/etc/netns/{node.netns}/resolv.conf")
            own.write_text("".join(f"nameserver {address}\n" for address in (MIRROR6, MIRROR4)))
            running.cluster.pod_roots[node.pods[-1].netns].resolv_conf(own.read_text())
            running.restart_exporter(node)
        running.wait_rounds(4)
        yield running


def upstream_resolver(running: Stack, records: Path) -> None:
    """A nameserver outside the cluster."""
    (records / "mode").write_text("healthy")
    known = {OUTSIDE_NAME: {"A": [OUTSIDE4], "AAAA": [OUTSIDE6]}, "ipv4only.arpa": {"A": ["192.0.0.170"], "AAAA": []}}
    (records / "records.json").write_text(json.dumps(known))
    lab = running.cluster.lab
    command = (sys.executable, "-m", "tests.lab.coredns", str(records / "mode"), str(records / "records.json"))
    server = lab.start(lab.outside, *command, MIRROR6, MIRROR4, stdout=subprocess.PIPE, cwd=ROOT)
    assert server.stdout is not None
    with server.stdout as said:
        assert said.readline() == b"ready\n"


def asked_now(running: Stack, dashboard: Dashboard) -> Asked:
    now = time.time()
    return Asked(running.prometheus, now - 5, now, VARIABLES | ({"node": "node-a"} if dashboard.name == "node" else {}))


def faults_shown(running: Stack, dashboard: Dashboard) -> set[str]:
    """What looks like a fault: red or orange, or a panel with data that has some only if something is wrong."""
    asked, found = asked_now(running, dashboard), set[str]()
    rendered = [panel for panel in dashboard.render()["panels"] if panel["type"] != "row"]
    for panel, drawn in zip(panels_of(dashboard), rendered, strict=True):
        answered = asked.answer(drawn, ())
        if panel.only_bad and any(answered.answers):
            found |= {f"{panel.title}: {dict(one.labels)}" for series in answered.answers for one in series}
        found |= {
            f"{panel.title}, {name}: {colour}"
            for name, _, colour in colours(drawn, answered.answers)
            if colour in {"red", "orange"}
        }
    return found


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda d: d.name)
def test_in_good_health_nothing_looks_like_a_fault(stack: Stack, dashboard: Dashboard) -> None:
    """What does so at every moment of the patience is shown wrongly. At a single one a machine that is too slow for a
    probe's deadline is not in good health.
    """
    lasting = faults_shown(stack, dashboard) - OF_THE_MACHINE

    def healthy() -> bool:
        lasting.intersection_update(faults_shown(stack, dashboard))
        return not lasting

    try:
        stack.prometheus.wait(healthy, "no fault shown", 2 * PATIENCE)
    except AssertionError as error:
        raise AssertionError(f"looks like a fault: {lasting}") from error
    assert stack.prometheus.instant('ALERTS{alertname="DualstackWatchdog", alertstate="firing"}')
    assert stack.prometheus.instant('dualstack_dns_lookups{server="host", name="canary", outcome="nxdomain"}')


@pytest.fixture(scope="module")
def broken(stack: Stack) -> Stack:
    """Tests of the healthy state stand before those that ask for this."""
    for shown_by in break_down(stack):
        stack.prometheus.wait_for(shown_by, PATIENCE)
    return stack


def test_the_same_panels_show_faults_where_there_are_some(broken: Stack) -> None:
    for dashboard in DASHBOARDS:
        broken.prometheus.wait(lambda d=dashboard: bool(faults_shown(broken, d)), dashboard.name, PATIENCE)  # type: ignore[misc]


def test_every_panel_returns_data_of_real_exporters(broken: Stack) -> None:
    """Within some rounds: a probe that a round's deadline cuts is in no ratio of that round."""
    waiting = {
        (dashboard.name, panel.title): panel
        for dashboard in DASHBOARDS
        for panel in panels_of(dashboard)
        if panel.title not in NOT_IN_THE_LAB
    }
    chosen = {
        name: VARIABLES | ({"node": "node-a"} if name == "node" else {}) for name in ("fleet", "node", "dns", "cluster")
    }

    def all_shown() -> bool:
        for (name, title), panel in list(waiting.items()):
            if all(answers(broken.prometheus, panel, chosen[name])):
                del waiting[name, title]
        return not waiting

    try:
        broken.prometheus.wait(all_shown, "every panel", PATIENCE)
    except AssertionError as error:
        raise AssertionError(f"without data: {sorted(waiting)}") from error


def test_what_is_left_out_is_empty_there(broken: Stack) -> None:
    full = {
        panel.title
        for dashboard in DASHBOARDS
        for panel in panels_of(dashboard)
        if panel.title in NOT_IN_THE_LAB and all(answers(broken.prometheus, panel, VARIABLES))
    }
    assert full == set()


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda d: d.name)
def test_a_picture_can_be_made_that_says_what_it_is(broken: Stack, dashboard: Dashboard, tmp_path: Path) -> None:
    html = page(broken.prometheus, dashboard, start=time.time() - 30, end=time.time())
    assert "Not a picture of Grafana" in html
    assert html.count("<section") > 10
    picture = picture_of(dashboard, tmp_path)
    photograph(html, picture)
    width, _ = struct.unpack(">II", picture.read_bytes()[16:24])  # of the header that every PNG begins with
    assert width == WIDTH


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda d: d.name)
def test_variables_offer_the_nodes_and_causes_are_annotated(broken: Stack, dashboard: Dashboard) -> None:
    board = dashboard.render()
    offered = {v["name"]: label_values(v["query"]) for v in board["templating"]["list"] if v["type"] == "query"}
    values = {
        name: broken.prometheus.label_values(label, substitute(selector, VARIABLES))
        for name, (selector, label) in offered.items()
    }
    assert values.pop("cluster") == []  # the label is of Prometheus's own configuration, and not set here
    assert values in ({}, {"node": ["node-a", "node-b", "node-c"]})
    (annotation,) = board["annotations"]["list"]
    chosen = VARIABLES | ({"node": "node-a"} if dashboard.name == "node" else {})
    assert broken.prometheus.instant(f"{substitute(annotation['expr'], chosen)} > 0")
