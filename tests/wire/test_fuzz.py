"""A short form of `make fuzz`: that every target runs, and what some thousand inputs of each find."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz.targets import TARGETS

ROOT = Path(__file__).resolve().parents[2]
pytest.importorskip("atheris", reason="there is no atheris for this Python or machine")


@pytest.mark.attack
@pytest.mark.parametrize("target", TARGETS)
def test_no_input_has_an_outcome_that_is_not_stated(target: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.fuzz", target, "--inputs=10000", f"--kept={tmp_path}"]
    ended = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "pass" in ended.stdout
