"""The commands on the project's pages: our own take these flags, make has these verbs, the scripts and the files that
they name are there.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from exporter.catalogue import CATALOGUE
from exporter.catalogue.metric import Type
from exporter.cli.command import parser
from tests.contract.alert_rules import RECORDED
from tests.contract.kustomize import render
from tests.contract.test_links import PAGES, ROOT

SPAN = re.compile(r"`([^`\n]+)`")
CODE_LINE = re.compile(r"^(?: {4,}|\$ )(\S.*)$", re.MULTILINE)
FENCED = re.compile(r"^```\w*\n(.*?)^```", re.MULTILINE | re.DOTALL)
END = {"|", ">", "&&", ";", "||", "#"}  # of one command, in the shell

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def commands(page: Path) -> Iterator[str]:
    """What looks like a command: code spans, and lines of code blocks. A span may go on in the next line of its
    sentence.
    """
    text = page.read_text()
    fenced = [line for block in FENCED.findall(text) for line in block.splitlines()]
    joined = re.sub(r"(?<=\S)\n +(?=\S)|(?<=[\w./-])\n(?=[\w-])", " ", FENCED.sub("", text))
    yield from dict.fromkeys([*SPAN.findall(joined), *CODE_LINE.findall(text), *fenced])


def arguments(command: str, program: str) -> Iterator[list[str]]:
    """Those of each call of the program in a command line, also where kubectl runs it."""
    for found in re.finditer(rf"(?:^|(?<= -- )|(?<=\| )|(?<=; )|(?<=&& )){re.escape(program)}(?: |$)", command):
        try:
            words = shlex.split(command[found.end() :])
        except ValueError:  # a quotation that ends on another line
            continue
        stops = [n for n, word in enumerate(words) if word in END or word.endswith(";")]
        yield words[: min(stops, default=len(words))]


def test_commands_are_found() -> None:
    ours = [words for page in PAGES for command in commands(page) for words in arguments(command, "dualstack-exporter")]
    assert ["check", "--last"] in ours
    assert ["check", "--role=cluster", "--inventory.file=cluster.yaml"] in ours
    assert sum(words[:1] == ["resolve"] for words in ours) > 1


@each_page
def test_our_own_command_takes_what_pages_give_it(page: Path) -> None:
    for command in commands(page):
        for words in arguments(command, "dualstack-exporter"):
            if words[:1] in ([], ["broker"]) or "[flags]" in words or "..." in words:
                continue
            if not {"--version", "--help"} & set(words):
                parser().parse_args(words)  # ends the program, and so the test, over what it does not know


@each_page
def test_make_has_the_verbs_that_pages_name(page: Path) -> None:
    verbs = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for command in commands(page):
        for words in arguments(command, "make"):
            asked = {word for word in words if re.fullmatch(r"[a-z]+", word)}
            assert asked <= verbs, command


@each_page
def test_scripts_and_files_of_commands_are_there(page: Path) -> None:
    for command in commands(page):
        for script in re.findall(r"(?:^|\s)(scripts/[\w-]+(?:\.\w+)?)", command):
            assert (ROOT / script).is_file(), command
        for words in arguments(re.sub(r"^microk8s ", "", command), "kubectl"):
            for flag, value in pairwise(words):
                if flag == "-k":
                    assert render(ROOT / value), command
                if flag == "-f" and value.startswith(("deploy/", "alerts/")):
                    assert (ROOT / value).is_file(), command


@each_page
def test_metrics_that_pages_name_exist(page: Path) -> None:
    known = {m.name for m in CATALOGUE} | RECORDED
    known |= {f"{m.name}_{part}" for m in CATALOGUE if m.type is Type.HISTOGRAM for part in ("bucket", "sum", "count")}
    named = set(re.findall(r"(?<![\w:/.-])(?:\w+:)?dualstack_[a-z0-9_]+(?::\w+)?", page.read_text()))
    assert named <= known
