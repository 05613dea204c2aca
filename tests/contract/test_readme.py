"""README's generated tables are what the program and the lab say today; `scripts/reference` writes them."""

from __future__ import annotations

from pathlib import Path

import pytest

from exporter.report.reference import MAKER, replace_between_markers, tables
from tests.bench import load
from tests.lab.matrix import matrix

README = Path(__file__).resolve().parents[2] / "README.md"
TABLES = {
    **{name: (table, MAKER) for name, table in tables().items()},
    "matrix": (matrix(), "scripts/matrix"),
    "load": (load.markdown(), "python -m tests.bench.load"),
}


@pytest.mark.parametrize("name", TABLES)
def test_readme_holds_the_table_as_it_is_made_now(name: str) -> None:
    table, maker = TABLES[name]
    text = README.read_text(encoding="utf-8")
    assert replace_between_markers(text, name, table, by=maker) == text, "run scripts/reference"
