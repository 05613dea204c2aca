"""Rules for the whole suite: what a test marked `real` needs, that under REQUIRE_REAL=1 no such test may be skipped,
and that nothing stays.

A run first removes what runs that were killed left behind, and fails at its end when it left something itself.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Generator
from pathlib import Path

import pytest
from hypothesis import settings

from tests import leftovers

REQUIRE_REAL = os.environ.get("REQUIRE_REAL") == "1"

# How long one example takes is the machine's business: a busy one must not fail a property. CI tries the same examples
# each time, so that its verdict is about the change; everywhere else each run looks for new ones.
settings.register_profile("any machine", deadline=None, derandomize=REQUIRE_REAL)
settings.load_profile("any machine")

LEFT = pytest.StashKey[list[str]]()
ENDING = 5.0  # seconds that what was told to end may take


def pytest_sessionstart() -> None:
    place = Path(tempfile.gettempdir())
    leftovers.remove(leftovers.abandoned([*leftovers.find(), *leftovers.directories(place)]))
    os.environ[leftovers.MARK] = f"{os.getpid():x}"
    # pytest keeps the files of the last runs where it always does; all else is in one directory that names this run.
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(place))
    tempfile.tempdir = tempfile.mkdtemp(prefix=f"dualstack-tests-{os.getpid():x}-")
    Path(tempfile.tempdir).chmod(0o755)  # an exporter that gave its privilege up reads its configuration below


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    place = Path(tempfile.gettempdir())
    tempfile.tempdir = None
    if leftovers.DIRECTORY.match(place.name) is None:
        return
    end = time.monotonic() + ENDING
    while (left := _left()) and time.monotonic() < end:
        time.sleep(0.05)
    names = [str(each) for each in left] + [f"file {path}" for path in sorted(place.iterdir())]
    leftovers.remove(left)
    shutil.rmtree(place, ignore_errors=True)
    if names:
        session.config.stash[LEFT] = names
        session.exitstatus = session.exitstatus or pytest.ExitCode.TESTS_FAILED


def _left() -> list[leftovers.Leftover]:
    return [each for each in leftovers.find() if each.owner == os.getpid()]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if names := config.stash.get(LEFT, []):
        terminalreporter.section("left behind by this run: a failure", red=True)
        for name in names:
            terminalreporter.line(name)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if os.geteuid() == 0:
        return
    for item in items:
        if item.get_closest_marker("real"):
            item.add_marker(pytest.mark.skip(reason="needs root: it makes network namespaces or starts servers"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if REQUIRE_REAL and report.skipped and item.get_closest_marker("real") and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"REQUIRE_REAL=1 allows no skip of a real test, but: {report.longrepr}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    # A module that skips itself while it is collected hides all its tests, whatever they are marked with.
    report = yield
    if REQUIRE_REAL and report.skipped:
        report.outcome = "failed"
        report.longrepr = f"REQUIRE_REAL=1 allows no skipped module, but: {report.longrepr}"
    return report
