"""CPU from the start of exporter and broker to the end of the first round, with compiled bytecode as in the image."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from tests.bench.node_scene import busy_node
from tests.bench.table import Row

BAR = 2.0


def measure(*, short: bool) -> Iterator[Row]:
    pods = 5 if short else 250
    with busy_node(pods) as node:
        node.daemon.wait(lambda: "first round finished" in node.daemon.log_text(), "a round")
        own, its = cpu_of(node.exporter), cpu_of(node.broker)
    detail = f"exporter {own:.2f} s, broker {its:.2f} s"
    yield Row(f"start to the first finished round, {pods} pods", "", own + its, BAR, "s", detail)


def cpu_of(process: int) -> float:
    """Seconds of CPU of all its threads, user and system: proc(5)."""
    words = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")
