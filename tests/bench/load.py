"""The load that exporters put on a cluster, by design: `python -m tests.bench.load` prints the table for 10, 500 and
5,000 nodes,
and `scripts/reference` writes it to docs/sizing.md.

Computed, not measured: what each role reads (exporter.inventory.kubernetes.watched_resources) times how large recorded
objects are (tests/data/kubernetes), and the pace and the budget of the probes. tests/wire/test_kubernetes_scale.py
holds the requests against those that a server counts.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache

from exporter.config.load import load_config
from exporter.digest.source import AT_MOST, EVERY
from exporter.inventory.kubernetes.resource_locator import DISCOVER_EVERY
from exporter.inventory.kubernetes.watch import PAGE, WatchTimings
from exporter.inventory.kubernetes.watched_resources import CALICO, WatchedResource, watched_resources
from exporter.model.cause import Role
from exporter.plan.round_plan import pace_of
from tests.unit import recorded
from tests.wire.kubernetes_lab import LISTS

SIZES = (10, 500, 5_000)
# A cluster like many: what stands on each node, and how often it changes.
PODS, SERVICES, BLOCKS = 30, 2, 2
NODE_CHANGES = 1 / 300  # a second: a kubelet reports its status every five minutes
POD_CHANGES = 1 / 3600
DIGEST_BYTES = 46  # of one node in the digest, zipped; tests.bench.kubernetes prints it
FAMILIES = 2


@dataclass(frozen=True)
class Load:
    """What one exporter asks of the API server: at its start, and every second afterwards."""

    requests: int
    received: float  # bytes
    watches: int
    requests_later: float
    received_later: float


def counts(nodes: int) -> Mapping[str, int]:
    """How many objects of each resource such a cluster has."""
    pods, services = nodes * PODS, nodes * SERVICES
    return {
        "nodes": nodes, "pods": pods, "services": services, "endpointslices": services * FAMILIES,
        "namespaces": max(5, nodes // 10),
        "networkpolicies": max(5, nodes // 10), "blockaffinities": nodes * BLOCKS, "ipamblocks": nodes * BLOCKS,
        "ippools": 2,
        "felixconfigurations": 1, "servicecidrs": 1, "daemonsets": 1, "configmaps": 1,
    }  # fmt: skip


@cache
def size_of(resource: str, *, metadata_only: bool) -> float:
    """Bytes of one recorded object as the server sends it."""
    name = next((each for (_, listed), each in LISTS.items() if listed == resource), "")
    if not name:
        return 0.0
    items = recorded.body("list", name)["items"] or [{}]
    return sum(
        len(json.dumps(each["metadata"] if metadata_only else each, separators=(",", ":"))) for each in items
    ) / len(items)


def expected(reading: WatchedResource, nodes: int) -> int:
    """How many objects the server sends for a reading."""
    everything = (
        counts(nodes).get(reading.resource, 0)
        if reading.api_versions != CALICO or "policies" not in reading.resource
        else 0
    )
    if reading.name:
        return min(1, everything)
    if reading.fields:
        return everything // nodes
    return FAMILIES if reading.labels else everything


def load_of(read: Iterable[WatchedResource], nodes: int, absent: frozenset[str] = frozenset()) -> Load:
    """The load of one exporter with these readings. `absent`: resources that this cluster does not serve."""
    read = [each for each in read if each.resource not in absent]
    discovers = any(each.api_versions != ("v1",) for each in read)
    requests, received, later = int(discovers), 0.0, 0.0
    for each in read:
        found = expected(each, nodes)
        size = size_of(each.resource, metadata_only=each.metadata_only)
        requests += max(1, math.ceil(found / PAGE)) if each.paged else 1
        received += found * size
        later += found * size * {"nodes": NODE_CHANGES, "pods": POD_CHANGES}.get(each.resource, 0.0)
    watches = len(read)
    renewals = watches / WatchTimings().watch + (1 / DISCOVER_EVERY if discovers else 0)
    return Load(requests + watches, received, watches, renewals, later)


# Policies of other projects and the operator's object: in this cluster there are none.
ABSENT = frozenset(
    {
        "ciliumnetworkpolicies",
        "ciliumclusterwidenetworkpolicies",
        "adminnetworkpolicies",
        "baselineadminnetworkpolicies",
        "clusternetworkpolicies",
        "installations",
        "ipamconfigurations",
    }
)


def table() -> list[list[str]]:
    """The rows of the table, the head first."""
    config = load_config("", path="", environment={"NODE_NAME": "n"}, hostname="n")
    rows = [["", *(f"{nodes:,} nodes" for nodes in SIZES)]]
    for title, role, digest in (
        ("nodes with `digest.url`", Role.NODE, True),
        ("nodes without it", Role.NODE, False),
        ("cluster exporter", Role.CLUSTER, False),
    ):
        loads = [
            (nodes if role is Role.NODE else 1, load_of(watched_resources(role, "n", digest=digest), nodes, ABSENT))
            for nodes in SIZES
        ]
        rows += [
            [f"{title}: requests at the start", *(f"{n * each.requests:,}" for n, each in loads)],
            [f"{title}: bytes at the start", *(amount(n * each.received) for n, each in loads)],
            [f"{title}: open watches", *(f"{n * each.watches:,}" for n, each in loads)],
            [f"{title}: requests a second", *(rate(n * each.requests_later) for n, each in loads)],
            [f"{title}: bytes a second", *(amount(n * each.received_later) for n, each in loads)],
        ]
    looks = [min(nodes / EVERY, AT_MOST) for nodes in SIZES]
    rows += [
        ["cluster exporter: digest requests a second", *(rate(each) for each in looks)],
        ["cluster exporter: bytes of digests a second, if all changed",
            *(amount(each * DIGEST_BYTES * nodes) for each, nodes in zip(looks, SIZES, strict=True))],
        ["probes: interval of a round", *(f"{pace_of(config, nodes).interval:g} s" for nodes in SIZES)],
        ["probes: DNS queries a second, at most",
            *(rate(nodes * 2 * config.round.interval / pace_of(config, nodes).interval) for nodes in SIZES)],
        ["probes: connects a second to the API server",
            *(rate(nodes * FAMILIES / pace_of(config, nodes).interval) for nodes in SIZES)],
        ["probes: connects a second to peers, from hosts and pods",
            *(rate(nodes * FAMILIES * (config.peers.count + config.pods.sample) / pace_of(config,
                nodes).interval) for nodes in SIZES)],
    ]  # fmt: skip
    return rows


def amount(size: float) -> str:
    """Bytes for people."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} TB"


def rate(number: float) -> str:
    return f"{number:.2g}" if number < 10 else f"{number:,.0f}"


def markdown() -> str:
    """The table as docs/sizing.md has it."""
    head, *rows = table()
    lines = [
        "| " + " | ".join(head) + " |",
        "| --- |" + " --: |" * len(SIZES),
        *("| " + " | ".join(row) + " |" for row in rows),
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(markdown())
