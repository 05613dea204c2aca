"""README's generated tables are what the program and the lab say today; `scripts/reference` writes them."""

from __future__ import annotations

import pytest

from exporter.report.reference import replace_between_markers
from tests.readme import README, generated

TABLES = generated()


@pytest.mark.parametrize("name", TABLES)
def test_readme_holds_the_table_as_it_is_made_now(name: str) -> None:
    table, maker = TABLES[name]
    text = README.read_text(encoding="utf-8")
    assert replace_between_markers(text, name, table, by=maker) == text, "run scripts/reference"
