"""README's generated tables: what the program, the lab and the table of load say today, each between its markers.

python -m tests.readme     writes them; scripts/reference sets up what that needs
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from exporter.report.reference import MAKER, replace_between_markers, tables
from tests.bench import load
from tests.lab.matrix import matrix

README = Path(__file__).resolve().parents[1] / "README.md"


def generated() -> Mapping[str, tuple[str, str]]:
    """Each table and what makes it, by the name in its markers."""
    return {
        **{name: (table, MAKER) for name, table in tables().items()},
        "matrix": (matrix(), "scripts/matrix"),
        "load": (load.markdown(), "python -m tests.bench.load"),
    }


if __name__ == "__main__":
    text = README.read_text(encoding="utf-8")
    for name, (table, maker) in generated().items():
        text = replace_between_markers(text, name, table, by=maker)
    README.write_text(text, encoding="utf-8")
