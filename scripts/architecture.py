"""Draws docs/architecture.svg: the processes of the exporter and the layers of its code.

The layers and the pure folders come from the import contracts in pyproject.toml, the subfolders from the tree, so the
picture shows the code as it is; only the one-line descriptions are written here. A test compares the committed file
with this script's output.

python -m scripts.architecture     writes the file; scripts/reference runs it
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
PICTURE = ROOT / "docs" / "architecture.svg"
WIDTH, HEIGHT = 1180, 1302
LAYERS_TOP, ROW = 500, 52

DESCRIPTIONS = {
    "__main__": "the command `dualstack-exporter`",
    "cli": "check, probe, resolve and the other commands",
    "daemon": "starts and stops the process, runs the rounds",
    "web": "HTTP server and status page",
    "report": "the report as text and JSON, the reference tables",
    "catalogue": "every metric, declared once",
    "migration": "the way to dual-stack, step by step",
    "digest": "cluster data for nodes: served and fetched",
    "vantage": "finds pods' namespaces, reads their state",
    "probes": "sends probes and DNS queries, returns outcomes",
    "diagnosis": "rules: from a snapshot to causes",
    "plan": "decides what a round probes",
    "libc": "how glibc and musl resolve names",
    "inventory": "what the cluster consists of",
    "kernel": "kernel requests; bytes to facts",
    "broker": "all privileged operations",
    "config": "the configuration file",
    "model": "frozen values that all parts use",
    "telemetry": "log and error counts",
}

STYLE = """
svg { --back: #ffffff; --ink: #1f2328; --dim: #59636e; --line: #818b98; --card: #f6f8fa;
      --pure: #dafbe1; --io: #ddf4ff; --root: #ffebe9;
      --pure-edge: #1a7f37; --io-edge: #0969da; --root-edge: #cf222e; }
@media (prefers-color-scheme: dark) {
  svg { --back: #0d1117; --ink: #f0f6fc; --dim: #9198a1; --line: #656c76; --card: #151b23;
        --pure: #12261e; --io: #0c2d4d; --root: #3c1618;
        --pure-edge: #3fb950; --io-edge: #4493f8; --root-edge: #f85149; }
}
text { font: 13px system-ui, sans-serif; fill: var(--ink); }
.title { font-size: 17px; font-weight: 600; } .name { font-weight: 600; } .dim { fill: var(--dim); font-size: 12px; }
.back { fill: var(--back); } .card { fill: var(--card); stroke: var(--line); }
.host { fill: none; stroke: var(--line); stroke-dasharray: 5 4; }
.pure { fill: var(--pure); stroke: var(--pure-edge); } .io { fill: var(--io); stroke: var(--io-edge); }
.root { fill: var(--root); stroke: var(--root-edge); }
.arrow { stroke: var(--line); stroke-width: 1.6; fill: none; marker-end: url(#head); }
#head path { fill: var(--line); }
""".strip()


class Contracts(NamedTuple):
    """The layers of exporter/ from top to bottom, and the folders that do no I/O."""

    layers: Sequence[Sequence[str]]
    pure: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """A rectangle with a name and lines of text below it."""

    x: int
    y: int
    width: int
    height: int
    kind: str
    name: str = ""
    lines: Sequence[str] = ()

    def svg(self) -> Iterator[str]:
        """The box's elements."""
        place = f'x="{self.x}" y="{self.y}" width="{self.width}" height="{self.height}"'
        yield f'<rect class="{self.kind}" {place} rx="6"/>'
        if self.name:
            yield text(self.x + 10, self.y + 20, self.name, "name")
        for number, line in enumerate(self.lines):
            yield text(self.x + 10, self.y + 38 + 16 * number, line, "dim")


def text(x: int, y: int, words: str, kind: str = "") -> str:
    """One line of text."""
    return f'<text x="{x}" y="{y}" class="{kind}">{escape(words)}</text>'


def arrow(*points: tuple[int, int]) -> str:
    """A line through the points with a head at the last one."""
    return f'<polyline class="arrow" points="{" ".join(f"{x},{y}" for x, y in points)}"/>'


def contracts() -> Contracts:
    """The import contracts of pyproject.toml."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    found = project["tool"]["importlinter"]["contracts"]
    layers = next(c["layers"] for c in found if c["type"] == "layers" and c.get("containers") == ["exporter"])
    pure = next(
        c["source_modules"] for c in found if c["type"] == "forbidden" and "exporter.model" in c["source_modules"]
    )
    return Contracts([re.split(r" [:|] ", layer) for layer in layers], frozenset(pure))


def kind_of(folder: str, pure: frozenset[str]) -> str:
    """How a folder is drawn: pure, privileged, or doing I/O."""
    module = "exporter." + folder.replace("/", ".")
    if any(module == name or module.startswith(f"{name}.") for name in pure):
        return "pure"
    return "root" if folder == "broker/server" else "io"


def subfolders(folder: str) -> list[str]:
    """The packages directly below a folder of exporter/."""
    return sorted(path.parent.name for path in (ROOT / "exporter" / folder).glob("*/__init__.py"))


def processes() -> Iterator[str]:
    """The upper half: which process runs where, with which privileges, and what passes between them."""
    yield text(24, 34, "Processes and data flow", "title")
    boxes = (
        Box(x=24, y=56, width=200, height=62, kind="card", name="Kubernetes API", lines=["list and watch, read-only"]),
        Box(x=24, y=190, width=200, height=96, kind="io", name="cluster exporter",
            lines=["one Deployment, uid 65532", "no capability", "checks API objects"]),
        Box(x=290, y=50, width=670, height=412, kind="host", name="one DaemonSet pod on each node"),
        Box(x=310, y=84, width=630, height=140, kind="io",
            name="exporter process: uid 65532, no capability, no_new_privs",
            lines=["a round: read state, plan, probe, decide; report, metrics and pages show the result"]),
        Box(x=310, y=296, width=330, height=58, kind="root", name="broker process: uid 0",
            lines=["NET_RAW NET_ADMIN SYS_PTRACE SYS_ADMIN"]),
        Box(x=310, y=410, width=330, height=40, kind="card", name="kernel tables, pods' network namespaces"),
        Box(x=1010, y=84, width=146, height=80, kind="card", name="clients",
            lines=["Prometheus, browser,", "check --last"]),
        Box(x=1010, y=316, width=146, height=96, kind="card", name="destinations",
            lines=["Services, peers, DNS", "servers, API server,", "configured targets"]),
    )  # fmt: skip
    for box in boxes:
        yield from box.svg()
    yield from flow()
    yield arrow((124, 118), (124, 190))
    yield text(132, 158, "all objects", "dim")
    yield arrow((224, 87), (268, 87), (268, 156), (326, 156))
    yield text(228, 80, "own pods", "dim")
    yield arrow((224, 240), (268, 240), (268, 180), (326, 180))
    yield text(232, 256, "digest", "dim")
    yield arrow((929, 167), (984, 167), (984, 124), (1010, 124))
    yield text(972, 76, "/metrics, status page, report", "dim")
    yield arrow((350, 224), (350, 296))
    yield arrow((460, 296), (460, 224))
    yield text(358, 254, "typed requests", "dim")
    yield text(468, 284, "sockets, raw bytes (SOCK_SEQPACKET)", "dim")
    yield arrow((475, 354), (475, 410))
    yield text(483, 386, "setns, netlink, /proc: read-only", "dim")
    yield arrow((576, 182), (576, 258), (984, 258), (984, 364), (1010, 364))
    yield text(590, 250, "probes, from the network namespaces of the host and of pods", "dim")


def flow() -> Iterator[str]:
    """One round inside the exporter process, by the folders that it passes through."""
    steps = (("inventory", "vantage"), ("plan",), ("probes",), ("diagnosis",), ("report", "catalogue"), ("web",))
    pure = contracts().pure
    x = 326
    for number, folders in enumerate(steps):
        for level, folder in enumerate(folders):
            y = 134 + 36 * level + (18 if len(folders) == 1 else 0)
            yield from Box(x=x, y=y, width=88, height=30, kind=kind_of(folder, pure), name=folder).svg()
        if number + 1 < len(steps):
            yield arrow((x + 88, 167), (x + 103, 167))
        x += 103


def layers() -> Iterator[str]:
    """The lower half: each layer with its folders; a module may import only what is below it."""
    yield text(24, LAYERS_TOP - 8, "Layers of exporter/: imports only point downwards", "title")
    legend = (("pure", "pure: no I/O, no clock"), ("io", "does I/O"), ("root", "privileged"))
    for number, (kind, meaning) in enumerate(legend):
        x = 560 + 200 * number
        yield f'<rect class="{kind}" x="{x}" y="{LAYERS_TOP - 21}" width="16" height="16" rx="3"/>'
        yield text(x + 24, LAYERS_TOP - 8, meaning, "dim")
    drawn = contracts()
    for number, layer in enumerate(drawn.layers):
        width = (WIDTH - 48 - 8 * (len(layer) - 1)) // len(layer)
        for position, folder in enumerate(layer):
            x, y = 24 + position * (width + 8), LAYERS_TOP + 8 + ROW * number
            yield from folder_box(folder, x, y, width, drawn.pure)


def folder_box(folder: str, x: int, y: int, width: int, pure: frozenset[str]) -> Iterator[str]:
    """A folder with its description and its subfolders."""
    yield from Box(x=x, y=y, width=width, height=ROW - 6, kind=kind_of(folder, pure), name=folder).svg()
    yield text(x + 10, y + 37, DESCRIPTIONS[folder], "dim")
    right = x + width - 8
    for name in reversed(subfolders(folder)):
        chip = 8 * len(name) + 14
        right -= chip
        kind = kind_of(f"{folder}/{name}", pure)
        yield f'<rect class="{kind}" x="{right}" y="{y + 4}" width="{chip}" height="20" rx="10"/>'
        yield text(right + 8, y + 18, name, "dim")
        right -= 6


def picture() -> str:
    """The whole file."""
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
        'role="img" aria-label="Processes of dualstack-exporter and the layers of its code">'
    )
    marker = (
        '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" '
        'orient="auto-start-reverse"><path d="M0,0 L8,4 L0,8 z"/></marker></defs>'
    )
    back = f'<rect class="back" width="{WIDTH}" height="{HEIGHT}"/>'
    return "\n".join([head, f"<style>\n{STYLE}\n</style>", marker, back, *processes(), *layers(), "</svg>", ""])


if __name__ == "__main__":
    PICTURE.write_text(picture(), encoding="utf-8")
