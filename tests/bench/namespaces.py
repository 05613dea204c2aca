"""What the broker's listing of network namespaces costs on a node with many processes, against listing /proc alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from exporter.broker.server import processes
from tests.bench.table import Row
from tests.e2e.daemon import ROOT

CHURN = 0.01  # of all processes between two listings
INTERVAL = 30.0  # seconds between two listings, as the broker sees it
LISTINGS = 20


def measure(*, short: bool) -> Iterator[Row]:
    count, pods = (100, 5) if short else (5_000, 250)
    alone = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", sys.executable, "-m", __spec__.name]
    text = subprocess.run(
        [*alone, f"{count}", f"{pods}"], cwd=ROOT, check=True, stdout=subprocess.PIPE, timeout=120
    ).stdout
    own, listing = json.loads(text)
    detail = f"{own * 1e3:.2f} ms, {listing * 1e3:.2f} ms"
    what = f"namespaces of {pods} pods among {count:,} processes, {CHURN:.0%} churn"
    yield Row(what, "listing /proc alone", own / listing, 2.0, detail=detail)


def cost(act: Callable[[], object]) -> float:
    began = time.process_time()
    act()
    return time.process_time() - began


def compare(count: int, pods: int) -> tuple[float, float]:
    """Seconds of CPU of both, the median of some listings, taken in turns."""
    with tempfile.TemporaryDirectory() as directory:
        program = str(Path(directory) / "many_processes")
        subprocess.run(["cc", "-O1", "-o", program, Path(__file__).with_name("many_processes.c")], check=True)
        others = subprocess.Popen([program, f"{count}", f"{pods}"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert others.stdin is not None
        assert others.stdout is not None
        others.stdout.readline()
        home = Path("/proc/self/ns/net").stat()
        table = processes.ProcessTable((home.st_dev, home.st_ino))
        now = 0.0
        processes.monotonic = lambda: now  # type: ignore[attr-defined]
        own, listing = [], []
        for _ in range(LISTINGS):
            others.stdin.write(b"%d\n" % (CHURN * count))
            others.stdin.flush()
            others.stdout.readline()
            now += INTERVAL
            listing.append(cost(lambda: os.listdir("/proc")))  # noqa: PTH208 - as the broker does
            own.append(cost(table.list_namespaces))
        assert len(table.list_namespaces().found) == pods
        others.kill()
        others.wait()  # the processes below it hold its standard output; they end with the PID namespace
        others.stdin.close()
        others.stdout.close()
    half = LISTINGS // 2  # the first listings see every process for the first time
    return sorted(own[half:])[half // 2], sorted(listing[half:])[half // 2]


if __name__ == "__main__":
    json.dump(compare(int(sys.argv[1]), int(sys.argv[2])), sys.stdout)
