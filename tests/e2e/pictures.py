"""Pictures of the dashboards: their own queries, answered by a real Prometheus, drawn as HTML and photographed by a
headless browser.

    python -m tests.e2e.pictures [DIRECTORY]     (or scripts/dashboards-picture)

No Grafana is at hand where this runs: the pictures show what its panels say, not how exactly it draws them, and say so
themselves. The data is that of the lab: real exporters on real kernels, healthy at first; then a pod without IPv6, no
NAT on one node, ranges that overlap, and AAAA withheld. Time goes faster there (tests/e2e/pages.py). The pictures end
after the first lines of panels.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from grafana.dashboards import DASHBOARDS, Dashboard
from tests.e2e.daemon import ROOT
from tests.e2e.drawing import CELL, COLUMN, GAP, STEP, Answered, draw
from tests.e2e.grafana import substitute
from tests.e2e.pages import Stack, last_pod
from tests.e2e.prometheus import Prometheus, Series
from tests.lab import edits
from tests.lab.dns_faults import TEMPLATE_LINES
from tests.lab.faults import FAULTS

WIDTH = 24 * COLUMN + 16
LINES = {"fleet": 41, "node": 66, "dns": 47, "cluster": 36}  # of the grid that are shown
HEAD, FOOT = 48, 16  # pixels
SAYS = (
    "Not a picture of Grafana: the panels of grafana/{name}.json, their queries answered by a real Prometheus, "
    "drawn by scripts/dashboards-picture"
)
NODE = "node-a"
CHOSEN = {"cluster": ".*", "node": ".*", "__rate_interval": "20s"}
STYLE = """
body { margin: 0; background: #111217; color: #ccccdc; font: 12px/1.35 Inter, Roboto, "DejaVu Sans", sans-serif;
    width: %dpx; }
header { box-sizing: border-box; height: %dpx; padding: 6px 16px 0; font-size: 17px; white-space: nowrap;
    overflow: hidden; }
header small { color: #8e8ea0; display: block; font-size: 11px; margin-top: 3px; }
header i { font-style: normal; background: #22252b; border: 1px solid #34363d; border-radius: 3px;
    padding: 1px 8px; margin-left: 8px; font-size: 12px; }
main { position: relative; margin: 0 8px; }
section { position: absolute; background: #181b1f; border: 1px solid #25272d; border-radius: 3px; overflow: hidden;
    box-sizing: border-box; }
section.row { background: none; border: 0; font-size: 14px; padding: 6px 4px; }
h2 { font-size: 12px; font-weight: 600; margin: 0; padding: 6px 8px 4px; white-space: nowrap; overflow: hidden;
    text-overflow: ellipsis; }
table { border-collapse: collapse; width: 100%%; table-layout: auto; } th { color: #6e9fff; font-weight: 600; }
th, td { text-align: left; padding: 3px 8px; border-bottom: 1px solid #25272d; white-space: nowrap;
    max-width: 420px; overflow: hidden; text-overflow: ellipsis; }
td a { color: #6e9fff; text-decoration: none; } td.on { color: #fff; }
.stats { display: flex; gap: 2px; height: calc(100%% - 30px); padding: 0 4px 4px; box-sizing: border-box; }
.stats div { flex: 1; display: flex; flex-direction: column; align-items: center; justify-content: center;
    font-size: 24px; color: #fff; border-radius: 3px; line-height: 1.1; }
.stats small { font-size: 11px; }
.bar { margin: 8px 10px; } .bar div { background: #25272d; height: 22px; } .bar b { display: block; height: 22px; }
    .bar span { float: right; }
.legend { padding: 0 8px; max-height: 32px; overflow: hidden; font-size: 11px; }
    .legend span { display: inline-block; margin-right: 10px; white-space: nowrap; }
.legend i { display: inline-block; width: 12px; height: 3px; margin: 0 4px 3px 0; }
svg text { fill: #8e8ea0; font-size: 10px; } .none { color: #8e8ea0; text-align: center; padding-top: 24px; }
"""


def picture_of(dashboard: Dashboard, directory: Path) -> Path:
    return directory / f"dashboard-{dashboard.name}.png"


@dataclass(frozen=True)
class Asked:
    """Asks what a dashboard asks, of one stretch of time and with its variables chosen."""

    prometheus: Prometheus
    start: float
    end: float
    chosen: Mapping[str, str]

    def answer(self, panel: Any, began: Sequence[float]) -> Answered:
        answers = []
        for target in panel["targets"]:
            expr = substitute(target["expr"], self.chosen)
            ranged = panel["type"] == "timeseries"
            answers.append(self._range(expr) if ranged else self.prometheus.instant(expr, self.end))
        return Answered(panel, answers, self.start, self.end, began)

    def began(self, annotation: Any) -> list[float]:
        """When each annotated cause began to hold."""
        series = self._range(substitute(annotation["expr"], self.chosen))
        held = [[when for when, value in one.points if value > 0] for one in series]
        return sorted(times[0] for times in held if times)

    def _range(self, expr: str) -> list[Series]:
        return self.prometheus.range(expr, self.start, self.end, STEP)


def page(prometheus: Prometheus, dashboard: Dashboard, *, start: float, end: float) -> str:
    """The dashboard's first lines as HTML, of the time between."""
    asked = Asked(prometheus, start, end, CHOSEN | ({"node": NODE} if dashboard.name == "node" else {}))
    board = dashboard.render()
    (annotation,) = board["annotations"]["list"]
    began = asked.began(annotation)
    panels = list(_first_lines(board["panels"], LINES[dashboard.name]))
    sections = []
    for panel in panels:
        place = panel["gridPos"]
        box = (
            f"left: {place['x'] * COLUMN}px; top: {place['y'] * (CELL + GAP)}px; "
            f"width: {place['w'] * COLUMN - GAP}px; height: {place['h'] * (CELL + GAP) - GAP}px"
        )
        if panel["type"] == "row":
            sections.append(f'<section class="row" style="{box}">&#9662; {escape(panel["title"])}</section>')
            continue
        inside = draw(asked.answer(panel, began))
        sections.append(f'<section style="{box}"><h2>{escape(panel["title"])}</h2>{inside}</section>')
    height = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in panels) * (CELL + GAP)
    return (
        f'<!doctype html><meta charset="utf-8"><style>{STYLE % (WIDTH, HEAD)}</style>'
        f"<header>{escape(board['title'])}{_choices(board, asked.chosen)}"
        f"<small>{SAYS.format(name=dashboard.name)}</small></header>"
        f'<main style="height: {height}px" data-height="{HEAD + height + FOOT}">{"".join(sections)}</main>'
    )


def _choices(board: Any, chosen: Mapping[str, str]) -> str:
    """The variables, as they are shown above a dashboard."""
    return "".join(
        f"<i>{variable['label']}: {'All' if chosen[variable['name']] == '.*' else chosen[variable['name']]}</i>"
        for variable in board["templating"]["list"]
        if variable["name"] in chosen
    )


def _first_lines(panels: Sequence[Any], lines: int) -> Iterator[Any]:
    """The panels that lie within the first lines, without a heading that has none of them below it."""
    heading = None
    for panel in panels:
        if panel["type"] == "row":
            heading = panel
        elif panel["gridPos"]["y"] + panel["gridPos"]["h"] <= lines:
            if heading is not None:
                yield heading
            heading = None
            yield panel


def photograph(html: str, picture: Path) -> None:
    """Let a headless browser draw the page."""
    height = int(html.partition('data-height="')[2].partition('"')[0])
    with tempfile.TemporaryDirectory() as directory:
        source = Path(directory) / "page.html"
        source.write_text(html, encoding="utf-8")
        subprocess.run(
            [
                "chromium", "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
                f"--user-data-dir={directory}/profile",
                "--disable-lcd-text", f"--window-size={WIDTH},{height}", f"--screenshot={picture}", source.as_uri(),
            ],
            check=True, capture_output=True, timeout=240,
        )  # fmt: skip


def shrink(picture: Path) -> None:
    """Keep 96 colours, which are enough for it; a third of the size is left."""
    subprocess.run(["convert", picture, "+dither", "-colors", "96", "-strip", f"PNG8:{picture}"], check=True)


def break_down(stack: Stack) -> Iterator[str]:
    """One thing after the other goes wrong; yields what shows it."""
    lab, cluster = stack.cluster.lab, stack.cluster
    old = lab.nodes[0].pods[1]
    stack.ask_for("gone.test")
    yield 'count(dualstack_resolver_prediction{request="any", result="EAI_NONAME"}) > 0'
    cluster.change(edits.pod_ips(old.name, old.address4))
    yield 'dualstack_migration_ratio{resource="pods"} < 1'
    lab.fault("masquerade_rule_removed")
    yield 'dualstack_cause{cause="nat_masquerade_missing"} == 1'
    lab.fault("pod_ipv6_disabled", last_pod(lab.nodes[2]))
    yield 'dualstack_cause{cause="pod_ipv6_disabled"} == 1'
    FAULTS["ranges_overlap"].act(cluster)
    yield 'dualstack_cause{cause="cidr_overlap"} == 1'
    cluster.pod_roots[cluster.node.pods[1].netns].hold_musl()
    cluster.change(edits.corefile(TEMPLATE_LINES["noerror"]))
    cluster.dns("noerror")
    yield 'count(dualstack_dns_aaaa_block{kind="blanket_nodata"} == 1) == 3'


# What the pictures must show. A round that the machine had no time for may have cut probes that fail: then the node
# looks better than it is.
SHOWN = (
    f'max_over_time(dualstack_family_ok{{node="{NODE}", ip_family="IPv6"}}[4s]) == 0'
    f' and on (node) dualstack_probe_success_ratio{{target="outside", layer="tcp", ip_family="IPv6", vantage="pod"}} '
    f"== 0"
)


def main(directory: Path) -> None:
    """A healthy half minute, then the breakdown, and a picture of each dashboard."""
    with Stack() as stack:
        start = time.time()
        stack.wait_rounds(15)
        for shown_by in break_down(stack):
            stack.prometheus.wait_for(shown_by, patience=120)
            stack.wait_rounds(12)
        stack.prometheus.wait_for(SHOWN, patience=120)
        end = time.time()
        for dashboard in DASHBOARDS:
            picture = picture_of(dashboard, directory)
            photograph(page(stack.prometheus, dashboard, start=start, end=end), picture)
            shrink(picture)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs")
