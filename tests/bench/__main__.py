"""Measures what the exporter costs and prints one table: `python -m tests.bench [--short] [PART ...]`, as root.

The exit status is 1 if a bar is missed. `--short` runs every part with little work, to see that it runs: its figures
mean nothing, so that no bar counts.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from typing import Protocol

from tests.bench.table import Row, machine, render, status


class Measure(Protocol):
    """Measures one part, or sees that it runs."""

    def __call__(self, *, short: bool) -> Iterator[Row]: ...


# The module of each part and its function.
PARTS = {
    "nft": "kernel:measure_nft",
    "legacy": "kernel:measure_legacy",
    "peers": "kernel:measure_peers",
    "pods": "kernel:measure_pods",
    "cluster": "cluster_rules:measure",
    "probes": "probes:measure",
    "rounds": "rounds:measure",
    "memory": "memory:measure",
    "namespaces": "namespaces:measure",
    "start": "start:measure",
}


def measure_of(part: str) -> Measure:
    module, _, function = PARTS[part].partition(":")
    found: Measure = getattr(import_module(f"tests.bench.{module}"), function)
    return found


def present() -> list[str]:
    """The parts whose module exists."""
    return [part for part, place in PARTS.items() if find_spec(f"tests.bench.{place.partition(':')[0]}")]


def main(arguments: list[str]) -> int:
    short = "--short" in arguments
    wanted = [argument for argument in arguments if argument != "--short"] or present()
    unknown = [part for part in wanted if part not in PARTS]
    if unknown:
        sys.stderr.write(f"no such part: {', '.join(unknown)}; parts: {', '.join(PARTS)}\n")
        return 2
    rows: list[Row] = []
    for part in wanted:
        sys.stderr.write(f"measuring {part}\n")
        rows += measure_of(part)(short=short)
    sys.stdout.write(f"{machine()}\n\n{render(rows)}")
    return 0 if short else status(rows)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
