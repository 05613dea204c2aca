"""Writes the generated tables of docs/ between their markers: metrics, causes, alerts, configuration, faults, load.

python -m scripts.reference     writes them; scripts/reference sets up what that needs
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from alerts.derive import replace_between
from exporter.report.reference import tables
from scripts.matrix import matrix
from tests.bench import load

DOCS = Path(__file__).resolve().parents[1] / "docs"
MAKER = "dualstack-exporter reference"


class Generated(NamedTuple):
    page: Path
    table: str
    maker: str  # the command that prints it

    def written(self, name: str) -> str:
        """The whole page with this table between the markers of that name."""
        begin, end = f"<!-- {name}: begin (made by `{self.maker}`) -->\n", f"<!-- {name}: end -->"
        return replace_between(self.page.read_text(encoding="utf-8"), begin, end, self.table)


def generated() -> Mapping[str, Generated]:
    """Each table by the name in its markers."""
    reference = DOCS / "reference"
    return {
        **{name: Generated(reference / f"{name}.md", table, MAKER) for name, table in tables(root="../../").items()},
        "matrix": Generated(reference / "fault-matrix.md", matrix(), "scripts/matrix"),
        "load": Generated(DOCS / "sizing.md", load.markdown(), "python -m tests.bench.load"),
    }


if __name__ == "__main__":
    for name, item in generated().items():
        item.page.write_text(item.written(name), encoding="utf-8")
