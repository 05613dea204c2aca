"""What reading the Kubernetes API costs at full size, against the fake server as a process: `python -m
tests.bench.kubernetes [NODES]`.

Prints a table for roles cluster and node: time and CPU to the first inventory, requests, bytes, memory, events a second
absorbed, time of a rebuild, size of the digest. 5,000 nodes (150,000 pods, 10,000 Services) by default.
"""

from __future__ import annotations

import asyncio
import gc
import gzip
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from exporter.digest.format import read_digest, write_digest
from exporter.inventory.inventory_builder import build_inventory
from exporter.inventory.kubernetes.client import ApiServer
from exporter.inventory.kubernetes.credentials import load_kubeconfig
from exporter.inventory.kubernetes.source import KubernetesSource
from exporter.inventory.kubernetes.watched_resources import watched_resources
from exporter.model.cause import Role
from exporter.model.cluster.inventory import InventoryOrigin
from tests.bench.cluster_rules import rule_times
from tests.wire.kubernetes_lab import write_kubeconfig

ROOT = Path(__file__).resolve().parents[2]
EVENTS = 20_000
PATIENCE = 600.0


def resident() -> float:
    """MiB of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20


def cpu() -> float:
    return time.process_time()


@contextmanager
def big_server(nodes: int) -> Iterator[tuple[int, subprocess.Popen[str]]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.bench.big_api", str(nodes)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    assert process.stdout is not None
    try:
        yield int(process.stdout.readline()), process
    finally:
        process.kill()
        process.communicate()


async def measure(port: int, server: subprocess.Popen[str], role: Role, *, digest: bool) -> dict[str, str]:
    """One source of that role, from its start until it has absorbed a burst of events."""
    with tempfile.TemporaryDirectory() as directory:
        path = str(write_kubeconfig(Path(directory), f"http://127.0.0.1:{port}"))
        api = ApiServer(await load_kubeconfig(path), lambda: load_kubeconfig(path))
    before = resident()
    source = KubernetesSource(api, watched_resources(role, "node-00007", digest=digest))
    began, spent = time.monotonic(), cpu()
    running = asyncio.create_task(source.run())
    assert await source.wait_ready(PATIENCE)
    row = {"start, s": f"{time.monotonic() - began:.1f}", "start, CPU s": f"{cpu() - spent:.1f}"}
    gc.collect()
    row["memory, MiB"] = f"{resident() - before:.0f}"
    row["peak, MiB"] = f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - before:.0f}"
    row["pods"] = str(len(source.current().pods or ()))
    if role is Role.CLUSTER:
        row["events/s"] = f"{await _absorb(source, server):.0f}"
        row |= await asyncio.to_thread(_judge, source)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    return row


async def _absorb(source: KubernetesSource, server: subprocess.Popen[str]) -> float:
    """Events a second from the first to the last of a burst."""
    version = source._store.version
    assert server.stdin is not None
    server.stdin.write(f"{EVENTS}\n")
    server.stdin.flush()
    while source._store.version == version:  # noqa: ASYNC110 - the store has no event
        await asyncio.sleep(0.001)
    began = time.monotonic()
    first = source._store.version
    while source._store.version < version + EVENTS:  # noqa: ASYNC110
        await asyncio.sleep(0.005)
    return (version + EVENTS - first) / (time.monotonic() - began)


def _judge(source: KubernetesSource) -> dict[str, str]:
    """What a change costs: a rebuild; what a round costs: every rule; and the digest."""
    began = cpu()
    inventory = build_inventory(source._store.objects(), source=InventoryOrigin.KUBERNETES)
    row = {"rebuild, CPU s": f"{cpu() - began:.1f}"}
    row["rules, s"] = f"{sum(seconds for seconds, _ in rule_times(inventory).values()):.1f}"
    began = cpu()
    body = write_digest(inventory, (), time.time())
    row["digest, KiB"] = f"{len(body) >> 10}"
    row["zipped, KiB"] = f"{len(gzip.compress(body, 5)) >> 10}"
    row["written, CPU s"] = f"{cpu() - began:.1f}"
    began = cpu()
    read_digest(body)
    return row | {"read, CPU s": f"{cpu() - began:.1f}"}


def main(nodes: int) -> None:
    with big_server(nodes) as (port, server):
        sys.stdout.write(f"{nodes:,} nodes, {nodes * 30:,} pods, {nodes * 2:,} Services\n\n")
        rows = {}
        for name, role, digest in (
            ("node with digest", Role.NODE, True),
            ("node by itself", Role.NODE, False),
            ("cluster", Role.CLUSTER, False),
        ):
            rows[name] = asyncio.run(measure(port, server, role, digest=digest))
    keys = list(rows["cluster"])
    sys.stdout.write(f"| | {' | '.join(rows)} |\n|---{'|--:' * len(rows)}|\n")
    for key in keys:
        sys.stdout.write(f"| {key} | {' | '.join(row.get(key, '') for row in rows.values())} |\n")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5_000)
