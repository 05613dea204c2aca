"""SECURITY.md names the size of the broker's privileged side; the figure is measured."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from tests.contract.test_links import ROOT

SERVER = ROOT / "exporter" / "broker" / "server"
CLAIM = re.compile(
    r"`exporter/broker/server`: fewer than ([\d,]+) lines of code with `exporter/broker/sockets.py`, "
    r"and fewer than ([\d,]+) in `exporter/broker/protocol`"
)


def code_lines(path: Path) -> int:
    """Lines that are neither blank, a comment nor part of a docstring."""
    text = path.read_text(encoding="utf-8")
    documented: set[int] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            documented.update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    lines = enumerate(text.splitlines(), 1)
    return sum(
        number not in documented and not line.strip().startswith("#") and bool(line.strip()) for number, line in lines
    )


def test_the_privileged_side_is_as_small_as_the_security_page_claims() -> None:
    (claimed,) = CLAIM.findall(re.sub(r"\s+", " ", (ROOT / "SECURITY.md").read_text(encoding="utf-8")))
    broker = SERVER.parent
    for limit, files in zip(
        (int(number.replace(",", "")) for number in claimed),
        ([*SERVER.rglob("*.py"), broker / "sockets.py"], (broker / "protocol").glob("*.py")),
        strict=True,
    ):
        measured = sum(map(code_lines, files))
        assert limit - 200 <= measured < limit, f"{measured} lines of code: SECURITY.md says fewer than {limit}"
