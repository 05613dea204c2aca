"""What reading the kernel costs, against the tools that people would run instead: ratios of CPU within one run.

CPU is user and system time of this process, its children, or the broker; each figure is the best of several, so that
other work on the machine matters little.
"""

from __future__ import annotations

import asyncio
import gc
import resource
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from pyroute2 import IPRoute

from exporter.broker.client.requests import BrokerClient, spawn_broker
from exporter.broker.protocol.messages import KernelState, NamespaceRef, ReadTopic
from exporter.broker.protocol.wire import MAX_PLACES
from exporter.broker.server.kernel.topics import read_topics
from exporter.kernel.decode.legacy import parse_chains as parse_legacy
from exporter.kernel.decode.nft import parse_rules
from exporter.kernel.read import requests
from exporter.kernel.read.host_facts import read_addresses, read_links, read_routes, read_vxlan, wanted_entries
from exporter.kernel.read.readers import read_host, read_pods
from exporter.kernel.read.visits import VisitAnswers
from exporter.model.facts import HostFacts
from exporter.model.family import Family
from exporter.vantage.pods import AT_ONCE
from exporter.vantage.rtnetlink_monitor import RtnetlinkMonitor
from tests.bench.kernel_scenes import PEERS, PODS, TUNNEL, kube_rules, make_peers, make_pods, namespace
from tests.bench.table import Row
from tests.kernel.namespaces import call_inside, delete, path_of, run_inside, unique_prefix


def cpu(who: int = resource.RUSAGE_SELF) -> float:
    usage = resource.getrusage(who)
    return usage.ru_utime + usage.ru_stime


def best_of(act: Callable[[], object], *, turns: int, times: int = 1) -> float:
    """Seconds of this process's CPU per call."""
    gc.collect()
    gc.disable()
    found = []
    for _ in range(turns):
        began = time.process_time()
        for _ in range(times):
            act()
        found.append((time.process_time() - began) / times)
    gc.enable()
    return min(found)


def command_cost(name: str, *argv: str, turns: int = 3) -> float:
    """Seconds of CPU of a command in a namespace."""
    found = []
    for _ in range(turns):
        before = cpu(resource.RUSAGE_CHILDREN)
        run_inside(name, *argv)
        found.append(cpu(resource.RUSAGE_CHILDREN) - before)
    return min(found)


def read_chain() -> None:
    topics = (requests.nft_rules(Family.V6, "nat", "cali-nat-outgoing"),)
    (answer,) = read_topics(topics)
    (found,) = parse_rules(answer.data)
    assert found.rule.verdict == "MASQUERADE"


def read_legacy() -> None:
    (answer,) = read_topics((requests.LEGACY_CHAINS[Family.V6],))
    assert parse_legacy(answer.data, Family.V6)["cali-nat-outgoing"].rules


def measure_nft(*, short: bool) -> Iterator[Row]:
    sizes = (100, 500) if short else (10_000, 50_000)
    costs = []
    saved = 0.0
    for rules in sizes:
        with namespace() as name:
            run_inside(name, "ip6tables-nft-restore", text=kube_rules(rules))
            costs.append(call_inside(name, lambda: best_of(read_chain, turns=20, times=50)))
            saved = command_cost(name, "ip6tables-nft-save", "-t", "nat")
    few, many = costs
    yield Row(
        f"one NAT chain of {sizes[1]:,} rules",
        f"the same of {sizes[0]:,} rules",
        many / few, 1.2, detail=f"{many * 1e6:.0f} us, {few * 1e6:.0f} us",
    )  # fmt: skip
    yield Row(
        f"one NAT chain of {sizes[1]:,} rules",
        "ip6tables-nft-save",
        many / saved, 1 / 1000, detail=f"{many * 1e6:.0f} us, {saved * 1e3:.0f} ms",
    )  # fmt: skip


def measure_legacy(*, short: bool) -> Iterator[Row]:
    rules = 500 if short else 50_000
    with namespace() as name:
        run_inside(name, "ip6tables-legacy-restore", "-w", "60", text=kube_rules(rules))
        own = call_inside(name, lambda: best_of(read_legacy, turns=7))
        saved = command_cost(name, "ip6tables-legacy-save", "-t", "nat", turns=5)
        detail = f"{own * 1e3:.0f} ms, {saved * 1e3:.0f} ms"
        yield Row(f"legacy chains of {rules:,} rules", "ip6tables-legacy-save", own / saved, 0.5, detail=detail)


def visit(topics: tuple[ReadTopic, ...]) -> VisitAnswers:
    return VisitAnswers(found=dict(zip(topics, read_topics(topics), strict=True)), seconds=0.0)


def read_peers(peers: int) -> None:
    first = visit((requests.LINKS, requests.ADDRESSES, *requests.ROUTES.values()))
    links = read_links(first)
    second = visit(wanted_entries(links))
    names = links.names
    device = read_vxlan(links, read_addresses(first, names), read_routes(first, names), second).devices[TUNNEL]
    assert len(device.fdb) == peers
    assert sum(n.permanent for n in device.neighbours) >= peers


def dump_peers(peers: int) -> None:
    with IPRoute() as route:
        index = route.link_lookup(ifname=TUNNEL)[0]
        assert len(list(route.get_neighbours(family=10, ifindex=index))) >= peers
        assert len(list(route.fdb("dump", ifindex=index))) >= peers
        assert len(list(route.get_routes(family=10))) >= peers


def measure_peers(*, short: bool) -> Iterator[Row]:
    peers = 50 if short else PEERS
    with namespace() as name:
        make_peers(name, peers)
        own = call_inside(name, lambda: best_of(lambda: read_peers(peers), turns=7))
        other = call_inside(name, lambda: best_of(lambda: dump_peers(peers), turns=3))
        detail = f"{own * 1e3:.0f} ms, {other * 1e3:.0f} ms"
        yield Row(f"{peers:,} VXLAN peers", "pyroute2's dumps", own / other, 0.1, detail=detail)
        polled, silent = call_inside(name, measure_rounds, peers)
        detail = f"{silent * 1e3:.1f} ms, {polled * 1e3:.0f} ms"
        yield Row("a silent round of the host", "reading everything", silent / polled, 0.1, detail=detail)


class Inline:
    """The broker's reading without a broker."""

    async def read_kernel(
        self, places: tuple[NamespaceRef, ...], topics: tuple[ReadTopic, ...]
    ) -> tuple[KernelState, ...]:
        return tuple(KernelState(0, read_topics(topics)) for _ in places)


def measure_rounds(peers: int) -> tuple[float, float]:
    """Seconds of CPU for the host's facts where everything is read in every round, and where the kernel announced no
    change.
    """

    def seconds(changes: RtnetlinkMonitor | None) -> float:
        held: list[HostFacts | None] = [None]

        def look() -> None:
            facts, _ = loop.run_until_complete(read_host(Inline(), previous=held[0], changes=changes, settle=0))
            assert facts.vxlan is not None
            assert len(facts.vxlan.devices[TUNNEL].fdb) == peers
            held[0] = facts

        look()
        return best_of(look, turns=7)

    loop = asyncio.new_event_loop()  # asyncio.run would spell out the facts each time, to tell signal handlers apart
    try:
        return seconds(None), seconds(RtnetlinkMonitor())
    finally:
        loop.close()


def place_of(name: str) -> NamespaceRef:
    info = Path(path_of(name)).stat()
    return NamespaceRef(device=info.st_dev, inode=info.st_ino, path=path_of(name))


def broker_cpu(pid: int) -> float:
    """Seconds on a CPU, to the nanosecond (Documentation/scheduler/sched-stats)."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9


async def inspect_pods(names: list[str]) -> tuple[float, float]:
    """Seconds of CPU for one inspection of every pod: of this process, and of the broker."""
    connection, process = spawn_broker()
    client = await BrokerClient.from_socket(connection)
    slots = asyncio.Semaphore(AT_ONCE)

    async def inspect(batch: tuple[NamespaceRef, ...]) -> Any:
        async with slots:
            return await read_pods(client, batch)

    found = []
    try:
        places = [place_of(name) for name in names]
        batches = [tuple(places[i : i + MAX_PLACES]) for i in range(0, len(places), MAX_PLACES)]
        for _ in range(10):
            gc.collect()
            gc.disable()
            own, its = time.process_time(), broker_cpu(process.pid)
            results = await asyncio.gather(*map(inspect, batches))
            found.append((time.process_time() - own, broker_cpu(process.pid) - its))
            gc.enable()
            assert all(
                facts is not None and facts.has_default_route(Family.V6) for batch in results for facts, _ in batch
            )
    finally:
        client.close()
        process.wait()
    return min(found, key=sum)


def measure_pods(*, short: bool) -> Iterator[Row]:
    pods = 5 if short else PODS
    prefix = unique_prefix()
    made = [prefix + "hub", *(f"{prefix}pod-{i}" for i in range(pods))]
    try:
        make_pods(prefix, pods)
        own, its = asyncio.run(inspect_pods(made[1:]))
        detail = f"{own * 1e3:.0f} ms here, {its * 1e3:.0f} ms in the broker"
        yield Row(f"{pods} pods inspected, broker included", "", (own + its) * 1e3, 120, "ms", detail)
    finally:
        delete(made)
