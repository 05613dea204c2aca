"""A busy node for measurements: a host namespace with a fake API server, HTTPS targets and the cluster's DNS in it, and
pods around it. The exporter has PID and mount namespaces of its own: the machine's processes are none that it reads.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from types import TracebackType

import trustme

from tests.bench.big_api import pod_mould
from tests.bench.kernel_scenes import pod_lines
from tests.e2e.daemon import ROOT, Daemon, children_of
from tests.e2e.test_series_budget import NAMESERVER, OBJECTS, PEERS, fetch
from tests.kernel import namespaces
from tests.wire.kubernetes_api import KubernetesApi, serving
from tests.wire.kubernetes_lab import KINDS, LISTS, write_kubeconfig

COMPILED = (
    "import exporter.cli.command, exporter.daemon.launch, exporter.daemon.api_source, exporter.broker.server.command"
)
PORT = 10047  # that of the Service is the nameserver's
NODE = "here"
TARGETS = (("10.245.0.1", "fd00:10:245::1"), ("10.245.0.2", "fd00:10:245::2"), ("10.245.0.3", "fd00:10:245::3"))
SERVED = (
    "10.96.0.10/32", "fd00:96::a/128", "10.96.0.77/32", "fd00:96::77/128",
    *(address for n in PEERS for address in (f"10.42.{n}.1/32", f"fd42::{n:x}:1/128", f"10.43.0.{n}/32")),
)  # fmt: skip
RESOURCES = {"Node": "nodes", "Service": "services", "IPPool": "ippools"}


def addresses(number: int) -> tuple[str, str]:
    """Of a pod, as `pod_lines` gives them."""
    return str(IPv4Address("10.244.1.1") + number), str(IPv6Address("fd00:10:244::1") + number)


def host_lines(pods: int) -> list[str]:
    """The host's side of the pods, as Calico makes it: one gateway for all, and a route to each."""
    lines = ["link set lo up", "address add 169.254.1.1/32 dev lo"]
    lines += [f"address add {address} dev lo" for address in SERVED]
    lines += [
        f"address add {address}/{length} dev lo"
        for four, six in TARGETS
        for address, length in ((four, 32), (six, 128))
    ]
    for number in range(pods):
        four, six = addresses(number)
        link = f"cali{number}"
        lines += [
            f"link set {link} up",
            f"address add fe80::ecee:eeff:feee:eeee/64 dev {link} nodad",
            f"route add {four}/32 dev {link}",
            f"route add {six}/128 dev {link}",
        ]
    return lines


@contextmanager
def pods_of_a_node(pods: int) -> Iterator[str]:
    """Pods and their host; the name of the host's namespace."""
    prefix = namespaces.unique_prefix()
    host, names = f"{prefix}host", [f"{prefix}pod-{number}" for number in range(pods)]
    try:
        namespaces.create([host, *names])
        links = [f"link add cali{i} netns {host} type veth peer name eth0 netns {name}" for i, name in enumerate(names)]
        namespaces.batch({"": links})
        namespaces.configure({host: {"net/ipv4/ip_forward": 1, "net/ipv6/conf/all/forwarding": 1}})
        namespaces.batch({host: host_lines(pods)})
        for start in range(0, pods, 50):
            namespaces.batch({name: pod_lines(start + i) for i, name in enumerate(names[start : start + 50])})
        yield host
    finally:
        namespaces.delete([host, *names])


class BusyNode:
    """A running exporter of role node on such a host, with the cluster's objects from a watched API server."""

    def __init__(self, host: str, daemon: Daemon) -> None:
        self.host, self.daemon = host, daemon

    @property
    def exporter(self) -> int:
        """The exporter's pid: nsenter became unshare, whose child it is."""
        (pid,) = children_of(self.daemon.pid)
        return pid

    @property
    def broker(self) -> int:
        (pid,) = children_of(self.exporter)
        return pid

    def wait_rounds(self, number: int) -> None:
        """However long so many rounds take, with a scrape every second, as long as each comes."""
        reached = 0.0
        while reached < number:
            time.sleep(1.0)
            self.daemon.wait_rounds(int(min(number, reached + 1)))
            reached = self.daemon.series()["dualstack_exporter_rounds_total"]


class _HostDaemon(Daemon):
    """Asked from within the host's namespace; a first process of PID and mount namespaces of its own."""

    def __init__(self, host: str, config: str, directory: Path) -> None:
        self._host = host
        isolated = (
            *("nsenter", f"--net={namespaces.path_of(host)}"),
            *("unshare", "--pid", "--fork", "--kill-child", "--mount-proc"),
        )
        # Bytecode is compiled, as in the image.
        environment = {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(directory / "bytecode")}
        subprocess.run([sys.executable, "-c", COMPILED], check=True, cwd=ROOT, env={**os.environ, **environment})
        super().__init__(
            config, prefix=isolated, environment={**environment, "NODE_NAME": NODE}, port=PORT, level="info"
        )

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in children_of(self.pid):
            os.kill(process, signal.SIGTERM)  # unshare passes none on
        super().__exit__(kind, error, trace)

    def get(self, path: str) -> tuple[int, str]:
        try:
            return namespaces.call_inside(self._host, fetch, f"http://[::1]:{self.port}{path}")
        except RuntimeError as error:
            raise ConnectionError(str(error)) from error


@contextmanager
def busy_node(pods: int, *, interval: float = 30.0, more: str = "") -> Iterator[BusyNode]:
    """`more`: further lines of the configuration."""
    with pods_of_a_node(pods) as host, tempfile.TemporaryDirectory(prefix="dualstack-exporter-bench-") as name:
        directory = Path(name)
        directory.chmod(0o755)
        inside = ["nsenter", f"--net={namespaces.path_of(host)}", sys.executable]
        servers = [
            subprocess.Popen(
                [*inside, "-m", __spec__.name, name, str(pods)],
                stdout=subprocess.PIPE,
                stdin=subprocess.PIPE,
                text=True,
                cwd=ROOT,
            ),
            subprocess.Popen(
                [*inside, "-c", NAMESERVER], stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True, cwd=ROOT
            ),
        ]
        try:
            for server in servers:
                assert server.stdout is not None
                server.stdout.readline()
            with _HostDaemon(host, configuration(directory, interval) + more, directory) as daemon:
                yield BusyNode(host, daemon)
        finally:
            for server in servers:
                server.kill()
                server.communicate()


def configuration(directory: Path, interval: float) -> str:
    targets = ", ".join(
        f'{{name: t{number}, host: web.test, addresses: ["{six}", {four}], port: 443, layers: [icmp, tcp, tls, http],'
        f" ca_file: {directory / 'ca.pem'}}}"
        for number, (four, six) in enumerate(TARGETS)
    )
    timeouts = ", ".join(f"{layer}: {interval * 900:.0f}ms" for layer in ("icmp", "dns", "tcp", "tls", "http"))
    return (
        f"node_name: {NODE}\ninventory: {{kubeconfig: {directory / 'kubeconfig'}}}\n"
        f"round: {{interval: {interval:g}s, timeout: {interval * 950:.0f}ms}}\ntimeouts: {{{timeouts}}}\n"
        f"targets: [{targets}]\n"
    )


# What runs in the host's namespace.


def cluster(pods: int) -> KubernetesApi:
    """The API server of a small cluster whose node here has all the pods."""
    api = KubernetesApi(bookmark_every=60.0)
    for place, resource in LISTS:
        api.add_kind(place, resource, KINDS.get(resource, ""))
    for source in (*OBJECTS, {"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE, "uid": "node-here"}}):
        api.put(source["apiVersion"], RESOURCES[source["kind"]], json.loads(json.dumps(source)))
    api.put("v1", "namespaces", {"kind": "Namespace", "metadata": {"name": "apps", "uid": "uid-apps"}})
    mould = pod_mould()
    for number in range(pods):
        four, six = addresses(number)
        values = {
            "name": f"pod-{number}",
            "namespace": "apps",
            "uid": f"uid-{number}",
            "version": "1",
            "app": "a",
            "hash": "0",
        }
        api.put("v1", "pods", json.loads(mould.fill(**values, node=NODE, four=four, six=six)))
    api.compact()
    return api


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        if await reader.readuntil(b"\r\n\r\n"):
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            await writer.drain()
    except (OSError, asyncio.IncompleteReadError):
        pass
    finally:
        writer.close()


async def serve(directory: Path, pods: int) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(directory / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("web.test").configure_cert(context)
    for place in [address for target in TARGETS for address in target]:
        await asyncio.start_server(answer, place, 443, ssl=context)
    async with serving(cluster(pods)) as port:
        write_kubeconfig(directory, f"http://127.0.0.1:{port}").chmod(0o644)
        print(flush=True)  # noqa: T201 - the bench waits for it
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1]), int(sys.argv[2])))
