"""The dashboards over real exporters in the lab: real kernels, real probes, a nameserver that withholds AAAA, a node
without NAT.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from grafana.dashboards import DASHBOARDS, Dashboard
from tests.contract.test_dashboards import label_values
from tests.e2e.daemon import PATIENCE
from tests.e2e.grafana import substitute
from tests.e2e.pages import Stack
from tests.e2e.pictures import WIDTH, break_down, page, photograph, picture_of
from tests.e2e.test_dashboards import VARIABLES, answers, panels_of

pytestmark = pytest.mark.real

# The lab lets everything be read and checked, its peers all answer, and objects from a file have neither readers nor an
# API that would make the cluster role ask the cluster DNS.
NOT_IN_THE_LAB = {
    "Kubernetes readers",
    "Causes not checked on this node",
    "Failing readers",
    "Unreachable peers",
    "Missing AAAA",
}


@pytest.fixture(scope="module")
def broken() -> Iterator[Stack]:
    with Stack() as stack:
        for shown_by in break_down(stack):
            stack.prometheus.wait_for(shown_by, PATIENCE)
        yield stack


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
