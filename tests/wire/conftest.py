"""Fixtures of the wire tests: the row of namespaces, built once and put back as it was after each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.wire import loopback
from tests.wire.namespaces import Row, row_of_namespaces


@pytest.fixture(scope="session")
def built_row() -> Iterator[Row]:
    with row_of_namespaces() as row:
        yield row


@pytest.fixture
def row(built_row: Row) -> Iterator[Row]:
    yield built_row
    built_row.reset()


@pytest.fixture(params=loopback.DRIVERS)
def driver(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The probes of this test run under the own driver, and under plain asyncio."""
    monkeypatch.setattr(loopback, "DRIVER", request.param)
