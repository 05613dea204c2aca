"""The rows of a measurement: one figure, its bar, and whether it holds; printed as one table."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

HEAD = ("what", "against", "figure", "bar", "")


@dataclass(frozen=True)
class Row:
    """One bar. `holds` follows from `figure` and `bar` where it is not given."""

    what: str
    against: str  # what the figure is a ratio to or a share of; "" for an absolute figure
    figure: float
    bar: float  # the figure may be this at most
    unit: str = ""  # of figure and bar: "s", "%", "x"
    detail: str = ""  # what it was computed from, for people
    holds: bool | None = None

    @property
    def passes(self) -> bool:
        return self.figure <= self.bar if self.holds is None else self.holds

    @property
    def cells(self) -> tuple[str, ...]:
        figure, bar = (f"{number:.4g}{self.unit and ' ' + self.unit}" for number in (self.figure, self.bar))
        verdict = "pass" if self.passes else "FAIL"
        return self.what, self.against, figure, f"<= {bar}", f"{verdict}  {self.detail}".rstrip()


def machine() -> str:
    """Where it was measured, in one line."""
    cores = len(os.sched_getaffinity(0))
    return f"{cores} cores, {platform.python_implementation()} {platform.python_version()}, kernel {platform.release()}"


def render(rows: Sequence[Row]) -> str:
    """The table as text, aligned: words to the left, numbers to the right."""
    lines = [HEAD, *(row.cells for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEAD))]
    aligned = (
        (what.ljust(widths[0]), against.ljust(widths[1]), figure.rjust(widths[2]), bar.rjust(widths[3]), verdict)
        for what, against, figure, bar, verdict in lines
    )
    return "".join("  ".join(line).rstrip() + "\n" for line in aligned)


def status(rows: Iterable[Row]) -> int:
    """The exit status: 1 if a bar is missed."""
    return 0 if all(row.passes for row in rows) else 1
