"""The dashboards as files: `python -m grafana.dashboards` writes grafana/*.json from the panels.

The output is deterministic: ids by order, positions by placing the panels in the 24 columns of Grafana's grid. A test
compares the files with it.
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
    """One file. `name` sets file and uid, which links use, so it must not change; `active` selects annotated causes."""

    name: str
    title: str
    description: str
    panels: tuple[Panel, ...]
    variables: tuple[Json, ...]
    active: str

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
            "description": self.description,
            "tags": [TAG],
            "schemaVersion": 27,
            "version": 1,
            "editable": True,
            "graphTooltip": 1,
            "refresh": "30s",
            "time": {"from": "now-6h", "to": "now"},
            "timezone": "",
            "annotations": {"list": [_annotation(self.active)]},
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


def _annotation(active: str) -> Json:
    """A region for the time in which a cause was active.

    For many nodes it uses recorded causes, because every cause of thousands of nodes is more than Prometheus loads.
    """
    return {
        "name": "Causes",
        "datasource": DATASOURCE,
        "enable": True,
        "hide": False,
        "iconColor": "rgba(255, 96, 96, 1)",
        "expr": f"max by (cause) ({active})",
        "step": "60s",
        "titleFormat": "{{cause}}",
        "textFormat": "active",
        "tagKeys": "cause",
        "type": "dashboard",
    }


def _link(other: Dashboard) -> Json:
    """A link to another dashboard with the same data source, cluster and time."""
    return {
        "type": "link",
        "title": other.name.capitalize() if other.name != "dns" else "DNS",
        "tooltip": other.description,
        "url": f"/d/{other.uid}?${{datasource:queryparam}}&${{cluster:queryparam}}",
        "keepTime": True,
        "includeVars": False,
        "targetBlank": False,
        "icon": "dashboard",
        "tags": [],
        "asDropdown": False,
    }


def _place(panels: Iterable[Panel]) -> list[Json]:
    """Place panels from left to right in lines; a heading has its own line."""
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
        "fleet",
        "State of all nodes and families, active causes and alerts, and links to runbooks.",
        tuple(fleet.panels()),
        (_SOURCE, _CLUSTER, _NODES),
        pick(RECORDED, fleet.S),
    ),
    Dashboard(
        "node",
        "node",
        "One node: probes by layer and family, NAT, tunnel, peers, latency and kernel state.",
        tuple(node.panels()),
        (_SOURCE, _CLUSTER, _NODE),
        pick("dualstack_cause", 'severity=~"critical|warning"', kernel.N),
    ),
    Dashboard(
        "dns",
        "DNS",
        "Nameservers that filter AAAA, query outcomes, and results for programs by C library.",
        tuple(dns.panels()),
        (_SOURCE, _CLUSTER, _NODES),
        pick(RECORDED, dns.CAUSES, dns.S),
    ),
    Dashboard(
        "cluster",
        "cluster configuration and migration",
        "The cluster's dual-stack configuration and the progress of its migration.",
        tuple(cluster.panels()),
        (_SOURCE, _CLUSTER),
        pick(RECORDED, cluster.CONFIGURED),
    ),
)


def text_of(dashboard: Dashboard) -> str:
    """The file's text."""
    return json.dumps(dashboard.render(), indent=1, ensure_ascii=False) + "\n"


def write() -> None:
    """Write all files."""
    for dashboard in DASHBOARDS:
        dashboard.path.write_text(text_of(dashboard), encoding="utf-8")


if __name__ == "__main__":
    write()
