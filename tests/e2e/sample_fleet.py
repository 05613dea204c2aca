"""A small fleet of exporters that serve the sample days over HTTP, as the exporter itself writes them; each scrape is a
round.

Two healthy nodes, one that turns bad, one that falls silent, and the cluster role of a cluster that is on its way to
dual-stack.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self

from exporter.catalogue import ExporterState, FinishedRound
from exporter.catalogue.totals import Totals, add_round
from exporter.model.cause import Cause
from exporter.model.cluster.service import Service
from exporter.model.dial import dials_of
from exporter.model.family import FAMILIES, Family
from exporter.model.probe import Layer, Observation
from exporter.model.reason import Reason
from exporter.model.report import Report, Unchecked
from exporter.model.vantage import PodState, Vantage
from exporter.web.server.exposition import Exposition
from tests.unit.sample import bad_day, migration_day, own, quiet_day, routed
from tests.unit.sample_probes import HOST, NOW, PYPI, seen

PACKETS = {Family.V4: 180, Family.V6: 45}  # masqueraded in each round of a node on which that works


class SampleExporter:
    """One exporter at a loopback port. `become` changes what the next round sees."""

    def __init__(self, name: str, role: str, report: Report) -> None:
        self.name = name
        self.role = role
        self._report = report
        self._totals = Totals()
        self._rounds = 0
        self._lock = threading.Lock()
        self._exposition = Exposition(own=self._own)
        handler = type("Handler", (_Handler,), {"exporter": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._server.server_address[1]}"

    @property
    def labels(self) -> dict[str, str]:
        """As the scrape configurations of deploy/ set them: no node for the cluster role."""
        return {"cluster": "sample"} | ({"node": self.name} if self.role == "node" else {})

    def become(self, report: Report) -> None:
        """What every later round sees."""
        with self._lock:
            self._report = report

    def scrape(self, accept: str) -> tuple[bytes, str]:
        """Finish a round and write it."""
        with self._lock:
            self._rounds += 1
            report = _counted(self._report, self._rounds)
            self._totals = add_round(self._totals, report)
            self._exposition.publish(FinishedRound(report, self._totals))
            rendered = self._exposition.render(accept, gzip=False)
        return rendered.body, rendered.content_type

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _own(self) -> ExporterState:
        now = time.time()
        return replace(
            own(),
            node=self.name,
            role=self.role,
            last_round=now,
            round_complete=True,
            loop_lag=0.002,
            rounds=self._rounds,
            inventory_synced={"nodes": now - 12, "pods": now - 12},
            reload_time=now - 86_400,
        )


class _Handler(BaseHTTPRequestHandler):
    exporter: SampleExporter

    def do_GET(self) -> None:
        body, kind = self.exporter.scrape(self.headers.get("Accept", ""))
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing on stderr."""


class Fleet:
    """Enter it to start it, healthy; `break_down` makes it bad."""

    def __init__(self) -> None:
        self.nodes = {
            name: SampleExporter(name, "node", good_day()) for name in ("node-a", "node-b", "node-c", "node-d")
        }
        self.cluster = SampleExporter("dualstack-exporter-cluster-0", "cluster", migrated_day())
        self._running = [*self.nodes.values(), self.cluster]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for exporter in self._running:
            exporter.stop()

    @property
    def targets(self) -> list[tuple[str, dict[str, str]]]:
        return [(exporter.address, exporter.labels) for exporter in self._running]

    def break_down(self) -> None:
        """node-a has its bad day, node-d falls silent, the cluster turns out to be half on its way."""
        self.nodes["node-a"].become(routed(bad_day(), missing=1))
        self.cluster.become(unfinished_day())
        silent = self.nodes["node-d"]
        self._running.remove(silent)
        silent.stop()


def good_day() -> Report:
    """A quiet day with an outside target, so that every layer is there."""
    day = routed(quiet_day(pods=24))
    pods = [view.vantage for view in day.snapshot.pods if view.vantage.state is PodState.ELIGIBLE][:6]
    outside = tuple(
        observation for vantage in (HOST, *pods) for family in FAMILIES for observation in _outside(vantage, family)
    )
    made = (*day.snapshot.observations, *outside)
    return replace(day, snapshot=replace(day.snapshot, observations=made, last=dials_of(made)))


def _outside(vantage: Vantage, family: Family) -> Iterator[Observation]:
    took = {Layer.ICMP: 0.011, Layer.TCP: 0.012, Layer.TLS: 0.031, Layer.HTTP: 0.046}
    for layer, seconds in took.items():
        slower = seconds * (1.2 if family is Family.V6 else 1.0)
        yield seen(
            vantage, PYPI, layer, family, seconds=slower, expires=NOW + 40 * 86_400 if layer is Layer.TLS else None
        )


def unfinished_day() -> Report:
    """The sample cluster half on its way, with something that nobody may read."""
    day = migration_day()
    unread = Cause.CONTROL_PLANE_FLAGS
    return replace(day, checked=day.checked - {unread}, unchecked=(Unchecked(unread, Reason.NO_INVENTORY),))


def migrated_day() -> Report:
    """The same cluster with both families everywhere and nothing wrong."""
    day = migration_day()
    inventory = day.snapshot.inventory
    both = next(pod.ips for pod in inventory.pods or () if len(pod.ips) == len(FAMILIES))
    pods = tuple(replace(pod, ips=both) for pod in inventory.pods or ())
    services = tuple(_dual(service, inventory.services or ()) for service in inventory.services or ())
    snapshot = replace(day.snapshot, inventory=replace(inventory, pods=pods, services=services))
    return replace(day, snapshot=snapshot, causes=())


def _dual(service: Service, services: tuple[Service, ...]) -> Service:
    model = next(s for s in services if s.families == FAMILIES)
    return replace(service, cluster_ips=model.cluster_ips, families=FAMILIES, family_policy="PreferDualStack")


def _counted(report: Report, rounds: int) -> Report:
    """The kernel's packet counters go on where a rule masquerades."""
    facts = report.snapshot.host_facts
    if facts is None or facts.nat is None:
        return report
    backends = tuple(
        replace(b, packets=b.packets + rounds * PACKETS[b.family]) if b.rules else b for b in facts.nat.backends
    )
    facts = replace(facts, nat=replace(facts.nat, backends=backends))
    return replace(report, snapshot=replace(report.snapshot, host_facts=facts))
