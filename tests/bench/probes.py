"""What a probe costs, exporter and broker together, against blackbox_exporter at the same pace, and whether the latency
that it reports is the network's.

250 pods, each dialled over both families within 10 s, as a round spreads them: dials of the exporter and of
blackbox_exporter in turns. CPU is user and system time of the processes, their peers' is left out.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from statistics import quantiles

import trustme

from exporter.broker.client.requests import BrokerClient, spawn_broker
from exporter.model.family import Family
from exporter.model.probe import (
    Check,
    Group,
    Layer,
    Lookup,
    LookupOutcome,
    Nameserver,
    Observation,
    Outcome,
    Purpose,
    Question,
    Target,
)
from exporter.model.vantage import Netns, Vantage
from exporter.probes.engine.driver import EpollDriver
from exporter.probes.ports import BrokerNetwork
from exporter.probes.runner import Deadline, ProbeRunner
from exporter.probes.tls import TlsContexts
from exporter.telemetry.logs import InternalErrors
from tests.bench.kernel_scenes import PODS, make_pods
from tests.bench.probe_peers import ADDRESSES, C_CLIENT, DNS, HTTPS, NAME, TCP
from tests.bench.table import Row
from tests.kernel.namespaces import batch, delete, path_of, start_inside, unique_prefix

HUB = dict(zip(Family, map(ip_address, ADDRESSES), strict=True))
SECONDS = 10.0
BLACKBOX = "127.0.0.1:9115"
# Neighbours of all namespaces together; by default 1024, less than two for each pod and its gateway.
NEIGHBOURS = [Path(f"/proc/sys/net/{family}/neigh/default/gc_thresh3") for family in ("ipv4", "ipv6")]
MODULES = """modules:
  tcp: {prober: tcp, timeout: 5s}
  icmp: {prober: icmp, timeout: 5s}
  dns: {prober: dns, timeout: 5s, dns: {query_name: x.bench.test, query_type: AAAA, valid_rcodes: [NOERROR]}}
  https: {prober: http, timeout: 5s, http: {headers: {Host: NAME}, tls_config: {ca_file: CA, server_name: NAME}}}
"""
# What blackbox_exporter probes: the module and its target.
TARGETS = {
    "tcp": f"{{}}:{TCP}",
    "dns": f"{{}}:{DNS}",
    "https": f"https://{{}}:{HTTPS}/",
    "icmp": "{}",
}
LAYERS = {"tcp": (Layer.TCP,), "https": (Layer.TCP, Layer.TLS, Layer.HTTP), "icmp": (Layer.ICMP,)}
TIMES = {"tcp": 3, "dns": 3, "https": 1, "icmp": 1}  # over each family, from each pod
BARS = {
    "tcp": ("TCP dial", 0.15),
    "dns": ("DNS lookup, validated", 0.15),
    "https": ("HTTPS GET, chain and name verified", 0.55),
    "icmp": ("ICMP small and full-size pair", 0.35),
}


def cpu_of(pid: int) -> float:
    """Seconds of CPU of a process, to the nanosecond (MAKE_PROCESS_CPUCLOCK of linux/posix-timers.h)."""
    return time.clock_gettime(~pid << 3 | 2)


@dataclass(frozen=True, kw_only=True)
class Scene:
    """The pods, and what stands beside them."""

    pods: Sequence[str]
    seconds: float
    ca_file: str
    c_client: str
    blackbox: subprocess.Popen[bytes]


@contextmanager
def scene(pods: int, seconds: float) -> Iterator[Scene]:
    with ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        for file in NEIGHBOURS:
            stack.callback(file.write_text, file.read_text())
            file.write_text("16384")
        hub, *names = made = make_pods(unique_prefix(), pods)
        stack.callback(delete, made)
        batch({hub: hub_lines(pods)})
        authority = trustme.CA()
        leaf = authority.issue_cert(NAME)
        authority.cert_pem.write_to_path(place / "ca.pem")
        leaf.private_key_pem.write_to_path(place / "key.pem")
        for pem in leaf.cert_chain_pems:
            pem.write_to_path(place / "cert.pem", append=True)
        (place / "blackbox.yml").write_text(MODULES.replace("CA", str(place / "ca.pem")).replace("NAME", NAME))
        (place / "client.c").write_text(C_CLIENT)
        subprocess.run(["cc", "-O2", "-w", "-o", place / "client", place / "client.c", "-lm"], check=True)
        peers = [
            sys.executable,
            "-m",
            "tests.bench.probe_peers",
            "serve",
            str(place / "cert.pem"),
            str(place / "key.pem"),
        ]
        servers = start_inside(hub, *peers, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        stack.callback(end, servers)
        assert servers.stdout is not None
        assert servers.stdout.readline() == b"ready\n"
        blackbox = start_inside(
            names[0], "prometheus-blackbox-exporter", f"--config.file={place}/blackbox.yml",
            f"--web.listen-address={BLACKBOX}", "--log.level=error",
        )  # fmt: skip
        stack.callback(end, blackbox)
        yield Scene(pods=names, seconds=seconds, ca_file=str(place / "ca.pem"), c_client=str(place / "client"),
                    blackbox=blackbox)  # fmt: skip


def end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.communicate()


def hub_lines(pods: int) -> list[str]:
    """The hub is every pod's gateway, as Calico makes it, and the servers' host."""
    addresses = ("169.254.1.1/32", *HUB.values())
    lines = [f"address add {address} dev lo" for address in addresses]
    for i in range(pods):
        lines += [
            f"address add fe80::ecee:eeff:feee:eeee/64 dev cali{i} nodad",
            f"route add 10.244.1.{i + 1}/32 dev cali{i}",
            f"route add fd00:10:244::{i + 1:x}/128 dev cali{i}",
        ]
    return lines


class Exporter:
    """The exporter's probes and their broker, in this process and its child."""

    def __init__(self, scene: Scene, client: BrokerClient, broker: int) -> None:
        self._scene, self._broker = scene, broker
        self._errors = InternalErrors()
        self._runner = ProbeRunner(EpollDriver(BrokerNetwork(client)), TlsContexts(), self._errors, clock=time.time)
        self._vantages = [self._vantage(name) for name in scene.pods]

    @staticmethod
    def _vantage(name: str) -> Vantage:
        info = Path(path_of(name)).stat()
        netns = Netns(device=info.st_dev, inode=info.st_ino, path=path_of(name))
        return Vantage(kind="pod", namespace="bench", name=name, uid=name, netns=netns)

    async def probe(self, kind: str) -> tuple[float, list[float]]:
        """Seconds of CPU per probe, and the latencies that were reported."""
        each = [(vantage, family) for vantage in self._vantages for _ in range(TIMES[kind]) for family in Family]
        pods = {vantage: number for number, vantage in enumerate(self._vantages)}
        starts = [self._scene.seconds * pods[vantage] / len(pods) for vantage, _ in each]  # as a round has them
        deadline = Deadline.after(self._scene.seconds + 30)
        before = self._cpu()
        if kind == "dns":
            questions = [self._question(*one, start) for one, start in zip(each, starts, strict=True)]
            made: Sequence[Observation | Lookup] = await self._runner.ask_all(questions, deadline)
        else:
            checks = [self._check(kind, *one, start) for one, start in zip(each, starts, strict=True)]
            made = await self._runner.check_all(checks, deadline)
        cost = (self._cpu() - before) / len(each)
        wrong = [one for one in made if one.outcome not in {Outcome.OK, LookupOutcome.ANSWER}]
        assert not wrong, (len(wrong), wrong[0])
        if kind == "icmp":
            assert all(isinstance(one, Observation) and one.full_size is Outcome.OK for one in made)
        return cost, [one.seconds for one in made if one.seconds is not None]

    def _cpu(self) -> float:
        return time.process_time() + cpu_of(self._broker)

    def _check(self, kind: str, vantage: Vantage, family: Family, start: float) -> Check:
        target = Target(
            name=kind, group=Group.OUTSIDE, addresses=HUB, port=HTTPS if kind == "https" else TCP, layers=LAYERS[kind],
            host=NAME, ca_file=self._scene.ca_file,
        )  # fmt: skip
        return Check(vantage=vantage, target=target, family=family, start=start)

    @staticmethod
    def _question(vantage: Vantage, family: Family, start: float) -> Question:
        server = Nameserver(HUB[family], "hub", DNS)
        return Question(
            vantage=vantage, server=server, name="x.bench.test", qtype="AAAA", label="x", purpose=Purpose.PULSE,
            start=start,
        )  # fmt: skip


async def blackbox_cost(scene: Scene, kind: str) -> float:
    """Seconds of CPU per probe of blackbox_exporter, from one pod, at the same pace."""
    hosts = (str(HUB[Family.V4]), str(HUB[Family.V6]) if kind == "icmp" else f"[{HUB[Family.V6]}]")
    urls = [f"http://{BLACKBOX}/probe?module={kind}&target={TARGETS[kind].format(hosts[i % 2])}"
            for i in range(2 * TIMES[kind] * len(scene.pods))]  # fmt: skip
    command = ("-m", "tests.bench.probe_peers", "drive", str(scene.seconds), *urls)
    before = cpu_of(scene.blackbox.pid)
    driver = start_inside(scene.pods[0], sys.executable, *command, stdout=subprocess.PIPE)
    said, _ = await asyncio.to_thread(driver.communicate)
    assert int(said) == len(urls), f"{kind}: blackbox_exporter succeeded {said!r} times of {len(urls)}"
    return (cpu_of(scene.blackbox.pid) - before) / len(urls)


async def c_client(scene: Scene) -> list[float]:
    """The kernel's round-trip time of each dial of a client in C, at the same pace, in seconds."""
    argv = (scene.c_client, str(scene.seconds), str(TCP), *map(str, HUB.values()), *map(path_of, scene.pods))
    process = await asyncio.create_subprocess_exec(*argv, stdout=asyncio.subprocess.PIPE)
    said, _ = await process.communicate()
    assert process.returncode == 0
    return [float(line.split()[0]) / 1e6 for line in said.splitlines()]


async def _measure(scene: Scene, turns: int) -> Iterator[Row]:
    connection, process = spawn_broker()
    client = await BrokerClient.from_socket(connection)
    try:
        exporter = Exporter(scene, client, process.pid)
        await c_client(scene)  # every pod knows its gateway now
        rows: list[Row] = []
        for kind, (what, bar) in BARS.items():
            await exporter.probe(kind)
            costs = [(await exporter.probe(kind), await blackbox_cost(scene, kind)) for _ in range(turns)]
            ours, theirs = (min(each) for each in zip(*[(one[0], other) for one, other in costs], strict=True))
            against = "blackbox_exporter's CPU" + (" for one echo" if kind == "icmp" else "")
            rows.append(Row(what, against, ours / theirs, bar, "x", f"{ours * 1e6:.0f} us / {theirs * 1e6:.0f} us"))
            if kind == "tcp":
                (_, reported), real = await asyncio.gather(exporter.probe(kind), c_client(scene))
                rows += latency_rows(reported, real)
        return iter(rows)
    finally:
        client.close()
        process.wait()


def latency_rows(reported: Sequence[float], real: Sequence[float]) -> Iterator[Row]:
    """How far the reported latency is above that of a client that does nothing else: our own delay would be in it."""
    for name, index, bar in (("p50", 49, 0.10), ("p99", 98, 0.25)):
        ours, theirs = (quantiles(values, n=100)[index] for values in (reported, real))
        above, detail = max(0.0, ours / theirs - 1), f"{ours * 1e6:.0f} us / {theirs * 1e6:.0f} us"
        yield Row(f"reported TCP latency, {name}", "above TCP_INFO of a client in C", above, bar, "", detail)


def measure(*, short: bool) -> Iterator[Row]:
    with scene(4 if short else PODS, 1.0 if short else SECONDS) as made:
        yield from asyncio.run(_measure(made, 1 if short else 2))
