"""The order of the source tree: folders of bounded size, class names with one meaning, mentions that lead somewhere."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MODULES = sorted((ROOT / "exporter").rglob("*.py"))
FOLDERS = sorted({module.parent for module in MODULES})
MOST_FILES, MOST_LINES = 15, 2000
# A name with .py in a text: how comments and docstrings refer to a module.
MENTION = re.compile(r"(?<![\w/.])((?:[a-z_]+/)*[a-z_0-9]+\.py)\b")


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("folder", FOLDERS, ids=name)
def test_a_folder_stays_small_enough_to_be_read(folder: Path) -> None:
    files = [path for path in folder.glob("*.py") if path.name != "__init__.py"]
    lines = sum(len(path.read_text(encoding="utf-8").splitlines()) for path in folder.glob("*.py"))
    assert len(files) <= MOST_FILES, sorted(path.name for path in files)
    assert lines <= MOST_LINES


def test_a_class_name_has_one_meaning() -> None:
    places = defaultdict(list)
    for module in MODULES:
        for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                places[node.name].append(f"{name(module)}:{node.lineno}")
    assert {key: found for key, found in places.items() if len(found) > 1} == {}


def is_keyword_only(node: ast.ClassDef) -> bool:
    calls = [each for each in node.decorator_list if isinstance(each, ast.Call)]
    marked = any(isinstance(each, ast.AnnAssign) and ast.unparse(each.annotation) == "KW_ONLY" for each in node.body)
    return marked or any(keyword.arg == "kw_only" for call in calls for keyword in call.keywords)


def test_dataclasses_of_four_and_more_fields_take_keywords() -> None:
    by_position = [
        f"{name(module)}: {node.name}"
        for module in MODULES
        for node in ast.walk(ast.parse(module.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef)
        and any("dataclass" in ast.unparse(each) for each in node.decorator_list)
        and sum(isinstance(each, ast.AnnAssign) for each in node.body) >= 4
        and not is_keyword_only(node)
    ]
    assert by_position == []


def texts(module: Path) -> Iterator[tuple[int, str]]:
    """Each line of a comment or of a docstring."""
    source = module.read_text(encoding="utf-8")
    for number, line in enumerate(source.splitlines(), 1):
        if "#" in line:
            yield number, line.partition("#")[2]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield getattr(node, "lineno", 1), ast.get_docstring(node) or ""


@pytest.mark.parametrize("module", MODULES, ids=name)
def test_a_module_says_what_it_is_and_names_modules_that_exist(module: Path) -> None:
    assert ast.get_docstring(ast.parse(module.read_text(encoding="utf-8"))), "no docstring"
    paths = {name(path) for path in MODULES}
    lost = [
        (number, mentioned)
        for number, text in texts(module)
        for mentioned in MENTION.findall(text)
        if not any(path == mentioned or path.endswith(f"/{mentioned}") for path in paths)
    ]
    assert lost == []
