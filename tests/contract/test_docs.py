"""The generated tables of docs/ are what the program and the lab say today (`scripts/reference` writes them), and
README is one page.
"""

from __future__ import annotations

import re

import pytest
import yaml

from scripts.reference import DOCS, generated
from tests.contract.test_links import ROOT
from tests.contract.vocabulary import RULES

TABLES = generated()
README = ROOT / "README.md"


@pytest.mark.parametrize("name", TABLES)
def test_a_page_has_the_table_as_it_is_made_now(name: str) -> None:
    item = TABLES[name]
    assert item.written(name) == item.page.read_text(encoding="utf-8"), "run scripts/reference"


def test_every_page_of_the_reference_has_a_generated_table_and_readme_links_to_it() -> None:
    pages = {*(DOCS / "reference").glob("*.md")}
    assert pages == {item.page for item in TABLES.values()} - {DOCS / "sizing.md"}
    text = README.read_text(encoding="utf-8")
    assert [page for page in DOCS.rglob("*.md") if f"({page.relative_to(ROOT)})" not in text] == []


def test_readme_stays_short_without_the_tables() -> None:
    assert len(README.read_bytes()) < 13_000


def test_alerts_that_readme_names_exist() -> None:
    groups = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    alerts = {rule["alert"] for group in groups for rule in group["rules"] if "alert" in rule}
    named = set(re.findall(r"`(Dualstack\w+)`", README.read_text(encoding="utf-8")))
    assert len(named) >= 10
    assert named <= alerts
