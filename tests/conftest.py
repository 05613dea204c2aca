"""Rules for the whole suite: what a test marked `real` needs, and that under REQUIRE_REAL=1 no such test may be skipped."""

from __future__ import annotations

import os
from collections.abc import Generator

import pytest
from hypothesis import settings

REQUIRE_REAL = os.environ.get("REQUIRE_REAL") == "1"

# How long one example takes is the machine's business: a busy one must not fail a property.
settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")


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
