"""A short form of `make soak`: namespaces come and go while a daemon makes its rounds, and it finds no fault."""

from __future__ import annotations

import pytest

from tests.bench.soak import Sample, growth, soak

pytestmark = pytest.mark.real


def test_churn_of_namespaces_shows_no_fault_and_leaves_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert soak(rounds=30, wanted=60, interval=1.0) == 0, capsys.readouterr().out


def test_what_grows_is_told() -> None:
    steady = [Sample(1000, 10, 2)] * 20
    assert list(growth("exporter", steady, memory=True)) == []
    leaking = [Sample(1000 + 20 * n, 10 + n, 2 + n // 10) for n in range(20)]
    assert [each.split()[1] for each in growth("exporter", leaking, memory=True)] == [
        "memory",
        "threads",
        "descriptors",
    ]
    assert [each.split()[1] for each in growth("exporter", leaking, memory=False)] == ["threads", "descriptors"]
