"""The dashboards as files: `python -m grafana.dashboards` writes grafana/*.json anew from the panels; a test compares the two.

Everything is deterministic: ids by order, places by flowing the panels over the 24 columns of Grafana's grid.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from grafana import cluster, dns, fleet, kernel, node
from grafana.panels import DATASOURCE, ROW, Json, Panel, pick

COLUMNS = 24
TAG = "dualstack-exporter"
RECORDED = "node:dualstack_cause:max"
HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Dashboard:
    """One file. `name` gives file and uid, which never change: links and bookmarks hold them. `held` are the series of causes that are annotated."""

    name: str
    title: str
    says: str
    panels: tuple[Panel, ...]
    variables: tuple[Json, ...]
    held: str

    @property
    def uid(self) -> str:
        return f"dualstack-{self.name}"

    @property
    def path(self) -> Path:
        return HERE / f"{self.name}.json"

    def render(self) -> Json:
        """The dashboard's JSON."""
        return {
            "uid": self.uid,
            "title": f"Dual-stack: {self.title}",
            "description": self.says,
            "tags": [TAG],
            "schemaVersion": 27,
            "version": 1,
            "editable": True,
            "graphTooltip": 1,
            "refresh": "30s",
            "time": {"from": "now-6h", "to": "now"},
            "timezone": "",
            "annotations": {"list": [_annotation(self.held)]},
            "templating": {"list": list(self.variables)},
            "links": [_link(other) for other in DASHBOARDS if other.name != self.name],
            "panels": _place(self.panels),
        }


def _variable(name: str, label: str, query: str, *, choose_all: bool) -> Json:
    """A variable of label values. All is .*, so that it also selects series without the label."""
    both = {"selected": True, "text": "All", "value": "$__all"} if choose_all else {}
    return {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": DATASOURCE,
        "query": query,
        "definition": query,
        "refresh": 2,
        "sort": 1,
        "regex": "",
        "hide": 0,
        "multi": choose_all and name == "node",
        "includeAll": choose_all,
        "allValue": ".*" if choose_all else None,
        "current": both,
        "options": [],
    }


_SOURCE: Json = {
    "name": "datasource",
    "label": "Data source",
    "type": "datasource",
    "query": "prometheus",
    "regex": "",
    "hide": 0,
    "multi": False,
    "includeAll": False,
    "refresh": 1,
    "current": {},
    "options": [],
}
_CLUSTER = _variable("cluster", "Cluster", "label_values(dualstack_exporter_build_info, cluster)", choose_all=True)
_NODE_QUERY = 'label_values(dualstack_exporter_build_info{cluster=~"$cluster", node!=""}, node)'
_NODES = _variable("node", "Node", _NODE_QUERY, choose_all=True)
_NODE = _variable("node", "Node", _NODE_QUERY, choose_all=False)


def _annotation(held: str) -> Json:
    """A region over the time in which a cause held.

    For many nodes the recorded causes are asked: every cause of thousands of nodes at hundreds of steps is more than Prometheus loads.
    """
    return {
        "name": "Causes",
        "datasource": DATASOURCE,
        "enable": True,
        "hide": False,
        "iconColor": "rgba(255, 96, 96, 1)",
        "expr": f"max by (cause) ({held})",
        "step": "60s",
        "titleFormat": "{{cause}}",
        "textFormat": "holds",
        "tagKeys": "cause",
        "type": "dashboard",
    }


def _link(other: Dashboard) -> Json:
    """To another dashboard, with the same data source, cluster and time."""
    return {
        "type": "link",
        "title": other.name.capitalize() if other.name != "dns" else "DNS",
        "tooltip": other.says,
        "url": f"/d/{other.uid}?${{datasource:queryparam}}&${{cluster:queryparam}}",
        "keepTime": True,
        "includeVars": False,
        "targetBlank": False,
        "icon": "dashboard",
        "tags": [],
        "asDropdown": False,
    }


def _place(panels: Iterable[Panel]) -> list[Json]:
    """Left to right, a new line where one is full; a heading has a line of its own."""
    placed = []
    x = y = tallest = 0
    for number, panel in enumerate(panels, 1):
        if panel.kind == ROW or x + panel.width > COLUMNS:
            x, y, tallest = 0, y + tallest, 0
        placed.append(panel.render(number, x, y))
        x, tallest = x + panel.width, max(tallest, panel.height)
    return placed


DASHBOARDS = (
    Dashboard(
        "fleet",
        "which nodes and families work?",
        "Which nodes and families work, what is broken, since when, and what to do.",
        tuple(fleet.panels()),
        (_SOURCE, _CLUSTER, _NODES),
        pick(RECORDED, fleet.S),
    ),
    Dashboard(
        "node",
        "what works on this node?",
        "One node: layers by families, NAT, tunnel and peers, latency by family.",
        tuple(node.panels()),
        (_SOURCE, _CLUSTER, _NODE),
        pick("dualstack_cause", 'severity=~"critical|warning"', kernel.N),
    ),
    Dashboard(
        "dns",
        "do names resolve over both families?",
        "What nameservers answer, who withholds AAAA, and what programs make of it.",
        tuple(dns.panels()),
        (_SOURCE, _CLUSTER, _NODES),
        pick(RECORDED, dns.CAUSES, dns.S),
    ),
    Dashboard(
        "cluster",
        "is the cluster configured for it, and how far is the migration?",
        "The cluster's configuration, and how far it is on its way to dual-stack.",
        tuple(cluster.panels()),
        (_SOURCE, _CLUSTER),
        pick(RECORDED, cluster.CONFIGURED),
    ),
)


def text_of(dashboard: Dashboard) -> str:
    """The file's text."""
    return json.dumps(dashboard.render(), indent=1, ensure_ascii=False) + "\n"


def write() -> None:
    """Write every file anew."""
    for dashboard in DASHBOARDS:
        dashboard.path.write_text(text_of(dashboard), encoding="utf-8")


if __name__ == "__main__":
    write()
