"""Every link of every page of the project: the file is there, and so is the heading."""

from __future__ import annotations

import re
import tomllib
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
URLS = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["urls"]
HOME = f"{URLS['Repository']}/blob/main/"  # a link that begins so leads into this tree
PAGES = sorted(p for p in ROOT.glob("**/*.md") if not any(part.startswith(".") for part in p.relative_to(ROOT).parts))
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)[^)]*\)")

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def prose(page: Path) -> str:
    """The page without its code."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"`[^`\n]*`", "``", re.sub(r"^    .*$", "", text, flags=re.MULTILINE))


def links(page: Path) -> Iterator[tuple[bool, str, str]]:
    """Whether it is a picture, its words, and where it leads."""
    for picture, words, target in LINK.findall(prose(page)):
        yield picture == "!", words, target


def anchors(page: Path) -> set[str]:
    """The names that headings get: lower case, without punctuation, with hyphens for spaces."""
    found = set()
    for heading in re.findall(r"^#{1,6} (.+)$", page.read_text(), re.MULTILINE):
        letters = unicodedata.normalize("NFC", heading.lower())
        found.add("".join("-" if c == " " else c for c in letters if c.isalnum() or c in " -_"))
    return found


def test_the_pages_are_found() -> None:
    names = {str(page.relative_to(ROOT)) for page in PAGES}
    assert {
        "README.md",
        "SECURITY.md",
        "CHANGELOG.md",
        "alerts/README.md",
        "docs/sizing.md",
        "docs/reference/causes.md",
    } <= names


@each_page
def test_every_link_leads_somewhere(page: Path) -> None:
    for _, words, target in links(page):
        inside = target.removeprefix(HOME)
        if re.match(r"[a-z]+://", inside):
            continue
        path, _, anchor = inside.partition("#")
        there = page if not path else (ROOT if inside != target else page.parent) / path
        assert there.exists(), f"[{words}]({target})"
        assert not anchor or anchor in anchors(there), f"[{words}]({target})"


@each_page
def test_every_picture_says_in_words_what_it_shows(page: Path) -> None:
    assert [target for picture, words, target in links(page) if picture and len(words) < 20] == []


@pytest.mark.parametrize("folder", ["deploy", "alerts", "scripts", "grafana"])
def test_every_file_that_a_comment_names_is_there(folder: str) -> None:
    """In comments of manifests and scripts: paths below the project's own directories."""
    named = re.compile(r"\b((?:alerts|deploy|docs|grafana|scripts|tests|exporter)/[\w./-]+\w\.(?:py|ya?ml|md|json))\b")
    for path in (p for p in (ROOT / folder).rglob("*") if p.suffix in {".yaml", ".py", "", ".sh"} and p.is_file()):
        for comment in re.findall(r"# (.+)", path.read_text()):
            for name in named.findall(comment):
                assert (ROOT / name).exists(), f"{path.relative_to(ROOT)}: {name}"
