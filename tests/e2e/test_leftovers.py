"""Test runs that are killed, and runs that leave something: the next one begins on a clean machine, the other one
fails.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import leftovers
from tests.e2e.daemon import ROOT
from tests.kernel import namespaces

pytestmark = pytest.mark.real

LITTER = """
import select, subprocess, tempfile
from pathlib import Path
from tests.kernel import namespaces

def test_litter():
    name = namespaces.unique_prefix() + "litter"
    namespaces.create([name])
    namespaces.start_inside(name, "sleep", "600")
    Path(tempfile.mkdtemp(prefix="dualstack-exporter-test-"), "file").touch()
    Path({said!r}).write_text(name)
    if {stay}:
        select.select([], [], [])
"""


@pytest.fixture
def outer(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    found = [*leftovers.find(), *leftovers.directories(Path("/tmp"))]
    leftovers.remove(each for each in leftovers.abandoned(found) if each.owner != os.getpid())


def start(directory: Path, text: str) -> subprocess.Popen[str]:
    """A run of pytest of its own, under the rules of this suite."""
    file = directory / "test_inner.py"
    file.write_text(text)
    options = ["-q", "-p", "no:cacheprovider", "-p", "tests.conftest", f"--rootdir={directory}", "-c", "/dev/null"]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST")} | {
        "PYTHONPATH": str(ROOT),
        "TMPDIR": "/tmp",
    }
    return subprocess.Popen(
        [sys.executable, "-m", "pytest", *options, str(file)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=directory,
        env=environment,
    )


def owned(pid: int) -> list[leftovers.Leftover]:
    found = [*leftovers.find(), *leftovers.directories(Path("/tmp"))]
    return [each for each in found if each.owner == pid]


def test_what_a_killed_run_left_is_removed_and_what_a_running_one_has_stays(outer: Path) -> None:
    said = outer / "said"
    text = LITTER.format(said=str(said), stay=True)
    killed = start(outer, text)
    living: subprocess.Popen[str] | None = None
    try:
        wait_for(killed, said)
        said.unlink()
        living = start(outer, text)
        wait_for(living, said)
        kinds = {"namespace", "process", "directory"}
        assert {each.kind for each in owned(killed.pid)} == {each.kind for each in owned(living.pid)} == kinds
        killed.send_signal(signal.SIGKILL)
        killed.wait()
        assert {each.kind for each in owned(killed.pid)} == kinds
        clean = start(outer, "def test_nothing(): pass")
        assert clean.communicate()[0].count("1 passed") == 1
        assert owned(killed.pid) == []
        assert {each.kind for each in owned(living.pid)} == kinds
    finally:
        for process in (killed, living):
            if process is not None:
                process.kill()
                process.communicate()


def wait_for(process: subprocess.Popen[str], said: Path) -> None:
    while not said.exists():
        assert process.poll() is None, process.communicate()[0]
        select.select([], [], [], 0.05)


def test_a_run_that_leaves_something_fails_and_names_it(outer: Path) -> None:
    said = outer / "said"
    run = start(outer, LITTER.format(said=str(said), stay=False))
    shown = run.communicate()[0]
    assert "1 passed" in shown
    assert run.returncode == pytest.ExitCode.TESTS_FAILED
    for words in (
        "left behind by this run",
        f"namespace {namespaces.path_of(said.read_text())}",
        "process /proc/",
        "file /tmp/",
    ):
        assert words in shown
    assert owned(run.pid) == []
