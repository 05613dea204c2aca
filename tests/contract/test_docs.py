"""Generated files are as they are made today: the tables of docs/ (`scripts/reference` writes them) and what the Helm
chart shares with deploy/, alerts/ and grafana/ (`scripts/chart`). README is one page.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from scripts.architecture import DESCRIPTIONS, PICTURE, contracts, picture
from scripts.chart import generated as chart_files
from scripts.reference import DOCS, generated
from tests.contract.test_links import ROOT
from tests.contract.vocabulary import RULES

TABLES = generated()
README = ROOT / "README.md"


@pytest.mark.parametrize("name", TABLES)
def test_a_page_has_the_table_as_it_is_made_now(name: str) -> None:
    item = TABLES[name]
    assert item.written(name) == item.page.read_text(encoding="utf-8"), "run scripts/reference"


@pytest.mark.parametrize("path", chart_files(), ids=lambda path: path.name)
def test_a_generated_file_of_the_chart_is_as_it_is_made_now(path: Path) -> None:
    assert chart_files()[path] == path.read_text(encoding="utf-8"), "run `make chart`"


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


def test_the_picture_of_the_architecture_is_of_the_code_as_it_is() -> None:
    assert {folder for layer in contracts().layers for folder in layer} == {*DESCRIPTIONS}
    assert PICTURE.read_text("utf-8") == picture(), "run scripts/reference"


def test_contributing_lists_every_folder_in_the_order_of_the_layers() -> None:
    listed = re.findall(r"^\| `(\w+)/` \|", (ROOT / "CONTRIBUTING.md").read_text("utf-8"), re.MULTILINE)
    assert listed == [folder for layer in contracts().layers for folder in layer if folder != "__main__"]


def test_every_module_that_contributing_names_is_there() -> None:
    named = set(re.findall(r"`((?:\w+/)+\w+\.py)`", (ROOT / "CONTRIBUTING.md").read_text("utf-8")))
    placeholders = re.compile(r"NAME|TOPIC|test_x")
    missing = {
        n for n in named if not placeholders.search(n) and not any((ROOT / d / n).is_file() for d in ("", "exporter"))
    }
    assert len(named) > 20
    assert missing == set()
