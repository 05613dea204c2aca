"""What Corefiles withhold, beside the answers that CoreDNS 1.13.1 gave with them (tests/data/corefiles.json).

Each was run on loopback with an upstream that has A and AAAA for every name, and asked over IPv4: `answers` has what A
and AAAA got, null where CoreDNS refused the file. The plugin kubernetes was left out.
"""

from __future__ import annotations

import json
from ipaddress import ip_address
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from exporter.inventory.corefile.corefile import read_corefile
from exporter.inventory.corefile.syntax import MAX_IMPORTS, MAX_REPEATED, SyntaxParser, Token
from exporter.model.cluster.corefile import Corefile

ROWS: list[dict[str, Any]] = json.loads((Path(__file__).parent.parent / "data" / "corefiles.json").read_text())
# Withheld as data: templates and inline hosts that make A themselves.
DATA = frozenset({"twin-regex", "twin-whole-zone", "any-after-a", "hosts-v4-alone"})
# Withheld from other clients than the one that asked.
OTHERS = frozenset({"acl-allow-net", "view-client"})


def read(row: dict[str, Any]) -> Corefile:
    data = {"Corefile": "\n".join(row["corefile"]) + "\n"}
    return read_corefile("kube-system", "coredns", data, row.get("files"), [str(row.get("port", 53))])


@pytest.mark.parametrize("row", ROWS, ids=[row["name"] for row in ROWS])
def test_a_corefile_withholds_as_coredns_answers(row: dict[str, Any]) -> None:
    blocks = [block for block in read(row).blocks if block.plugin != "hosts"]
    said = "all" if any(block.all_names for block in blocks) else "part" if blocks else "none"
    assert said == row["withholds"]


@pytest.mark.parametrize("row", ROWS, ids=[row["name"] for row in ROWS])
def test_the_expectation_is_what_was_answered(row: dict[str, Any]) -> None:
    asked = (row["answers"] or {}).values()
    withheld = any(dialled(a, "A") and not dialled(aaaa, "AAAA") for a, aaaa in asked)
    expected = row["withholds"] != "none" and row["name"] not in OTHERS
    assert withheld is (expected or row["name"] in DATA)


def dialled(answer: str, qtype: str) -> bool:
    """Whether the answer has an address of that type that can be dialled."""
    words = answer.split()
    given = [ip_address(text) for kind, text in pairwise(words) if kind == qtype]
    return any(not (a.is_unspecified or a.is_loopback or getattr(a, "ipv4_mapped", None)) for a in given)


def test_enough_of_them_were_answered() -> None:
    assert sum(row["answers"] is not None for row in ROWS) >= 60


DOUBLED = "".join(f"(s{n}) {{\n import s{n + 1}\n import s{n + 1}\n}}\n" for n in range(40))
WIDE = "".join(f"({a}) {{\n" + f" import {b}\n" * 60 + "}\n" for a, b in ("ab", "bc", "cd"))
ITSELF = "(h) {\n hosts 1.2.3.4 {\n import x\n }\n" + " rewrite stop type AAAA A\n import x\n" * 4 + "}\n"


@pytest.mark.parametrize(
    ("content", "extra"),
    [
        (DOUBLED + ". {\n import s0\n}\n", ""),
        (WIDE + "(d) {\n cache\n}\n. {\n import a\n}\n", ""),
        (ITSELF + ". {\n import h\n}\n", ITSELF.partition("\n")[2]),
        (". {\n import x\n}\n", "template IN AAAA .\nimport x\n" * 10),
    ],
)
def test_imports_that_import_each_other_are_read_in_few_steps(
    content: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[int] = []  # the words that each import puts in
    imported = SyntaxParser._imported

    def counted(parser: SyntaxParser, pattern: str, line: int) -> list[Token]:
        words = imported(parser, pattern, line)
        steps.append(len(words))
        return words

    monkeypatch.setattr(SyntaxParser, "_imported", counted)
    found = read_corefile("kube-system", "coredns", {"Corefile": content, "x": extra}, {"x": extra})
    assert any("too many imports" in error for error in found.errors)
    assert len(steps) <= MAX_IMPORTS + 1
    assert sum(steps) <= MAX_REPEATED + len(content.split()) + len(extra.split())
