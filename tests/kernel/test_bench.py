"""That every part of the bench runs: its short form, in which no figure counts."""

from __future__ import annotations

import math

import pytest

from tests.bench.__main__ import measure_of, present
from tests.bench.table import Row, render, status

MISSED = Row("a", "b", 2.0, 1.0, "ms", "of 7")
REACHED = Row("longer", "", 0.5, 1.0)


@pytest.mark.real
@pytest.mark.parametrize("part", present())
def test_each_part_measures_something(part: str) -> None:
    rows = list(measure_of(part)(short=True))
    assert rows
    assert all(row.what and math.isfinite(row.figure) and row.figure >= 0 and row.bar > 0 for row in rows), rows


def test_a_missed_bar_is_marked_and_fails_the_run() -> None:
    head, *lines = render([MISSED, REACHED]).splitlines()
    assert head.split() == ["what", "against", "figure", "bar"]
    assert [line.split() for line in lines] == [
        ["a", "b", "2", "ms", "<=", "1", "ms", "FAIL", "of", "7"],
        ["longer", "0.5", "<=", "1", "pass"],
    ]
    assert len({line.index("<=") for line in lines}) <= 2
    assert (status([REACHED]), status([MISSED, REACHED])) == (0, 1)


def test_what_was_judged_by_more_than_the_figure_keeps_that_judgement() -> None:
    assert status([Row("flat", "", 0.5, 1.0, holds=False)]) == 1
