"""Counts of our own faults by component (dualstack_exporter_errors_total). Expected failures of the world are values, not counted here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping


class InternalErrors:
    """Created once in daemon/app.py and handed to whoever may meet a bug of ours."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def count(self, component: str) -> None:
        self._counts[component] += 1

    @property
    def totals(self) -> Mapping[str, int]:
        return dict(self._counts)
