"""Counts the exporter's own bugs by component (dualstack_exporter_errors_total); expected failures are not counted."""

from __future__ import annotations

from collections import Counter


class InternalErrors(Counter[str]):
    """Created once by daemon/app.py and passed to the parts that survive an unexpected exception."""

    def count(self, component: str) -> None:
        self[component] += 1
