"""Counts the exporter's own bugs by component (dualstack_exporter_errors_total); expected failures are not counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping


class InternalErrors:
    """Created once by daemon/app.py and passed to the parts that survive an unexpected exception."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def count(self, component: str) -> None:
        self._counts[component] += 1

    @property
    def totals(self) -> Mapping[str, int]:
        return dict(self._counts)
