"""A node with 110 pods, at the default configuration: at most 500 series in a scrape (specification section 8)."""

from __future__ import annotations

import subprocess
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.daemon import Daemon
from tests.e2e.village import Village
from tests.kernel import namespaces

pytestmark = pytest.mark.real

PODS = 110
BUDGET = 500
SPACES = 8  # Kubernetes namespaces, each with a search list of its own
PEERS = range(1, 11)
GROUPS = {"service", "peers", "cluster_dns", "apiserver"}
# A rotation takes six rounds. What answers has seconds to do so: nothing fails because the machine is busy.
CONFIG = """
node_name: here
round: {interval: 4s, timeout: 3900ms}
timeouts: {icmp: 3900ms, dns: 3900ms, tcp: 3900ms}
"""
# The cluster's DNS: it knows the exporter's own Service, denies the rest of its zone honestly, and refuses what is
# outside.
NAMESERVER = """
import dns.flags, dns.message, dns.rcode, dns.rrset, selectors, socket, sys
NAME = "dualstack-exporter.monitoring.svc.cluster.local."
HAS = {"A": "10.96.0.77", "AAAA": "fd00:96::77"}
SOA = "ns.dns.cluster.local. hostmaster.cluster.local. 1 2 3 4 5"
selector = selectors.DefaultSelector()
for family, address in ((socket.AF_INET6, "fd00:96::a"), (socket.AF_INET, "10.96.0.10")):
    s = socket.socket(family, socket.SOCK_DGRAM); s.bind((address, 53)); selector.register(s, selectors.EVENT_READ)
    t = socket.socket(family); t.bind((address, 53)); t.listen(128); selector.register(t, selectors.EVENT_READ)
for family, address in ((socket.AF_INET6, "fd00:96::77"), (socket.AF_INET, "10.96.0.77")):
    t = socket.socket(family); t.bind((address, 10046)); t.listen(128); selector.register(t, selectors.EVENT_READ)
print(flush=True)
while True:
    for key, _ in selector.select():
        if key.fileobj.type == socket.SOCK_STREAM:
            key.fileobj.accept()[0].close()
            continue
        wire, who = key.fileobj.recvfrom(4096)
        query = dns.message.from_wire(wire)
        reply = dns.message.make_response(query, recursion_available=True)
        reply.flags |= dns.flags.AA
        name, kind = str(query.question[0].name).lower(), dns.rdatatype.to_text(query.question[0].rdtype)
        if name == NAME and kind in HAS:
            reply.answer.append(dns.rrset.from_text(name, 5, "IN", kind, HAS[kind]))
        elif name.endswith("cluster.local."):
            reply.authority.append(dns.rrset.from_text("cluster.local.", 5, "IN", "SOA", SOA))
            reply.set_rcode(dns.rcode.NOERROR if name == NAME else dns.rcode.NXDOMAIN)
        else:
            reply.set_rcode(dns.rcode.REFUSED)
        key.fileobj.sendto(reply.to_wire(), who)
"""


def fetch(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=60) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


class NodeDaemon(Daemon):
    """An exporter whose host is a namespace."""

    loopback = "[::1]"

    def __init__(self, network: str, *arguments: str, config: str = "") -> None:
        self._network = network
        super().__init__(
            config, *arguments, prefix=("nsenter", f"--net=/run/netns/{network}"), environment={"NODE_NAME": "here"}
        )

    def get(self, path: str) -> tuple[int, str]:
        try:
            return namespaces.call_inside(self._network, fetch, f"http://{self.loopback}:{self.port}{path}")
        except RuntimeError as error:
            raise ConnectionError(str(error)) from error


def service(namespace: str, name: str, addresses: list[str], port: int, **labels: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"namespace": namespace, "name": name, "uid": f"uid-{name}", "labels": labels},
        "spec": {
            "type": "ClusterIP",
            "clusterIP": addresses[0],
            "clusterIPs": addresses,
            "ipFamilies": ["IPv4", "IPv6"][: len(addresses)],
            "ipFamilyPolicy": "PreferDualStack" if len(addresses) > 1 else "SingleStack",
            "ports": [{"name": "main", "port": port, "protocol": "TCP"}],
        },
    }


def node(name: str, number: int) -> dict[str, Any]:
    tunnels = {
        "projectcalico.org/IPv4VXLANTunnelAddr": f"10.42.{number}.1",
        "projectcalico.org/IPv6VXLANTunnelAddr": f"fd42::{number:x}:1",
    }
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "uid": f"uid-{name}", "annotations": tunnels},
        "status": {
            "addresses": [{"type": "InternalIP", "address": f"10.43.0.{number}"}],
            "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2020-01-01T00:00:00Z"}],
        },
    }


def pool(name: str, cidr: str) -> dict[str, Any]:
    spec = {"cidr": cidr, "natOutgoing": True, "vxlanMode": "Always"}
    return {"apiVersion": "crd.projectcalico.org/v1", "kind": "IPPool", "metadata": {"name": name}, "spec": spec}


OBJECTS = [
    service("kube-system", "kube-dns", ["10.96.0.10", "fd00:96::a"], 53, **{"k8s-app": "kube-dns"}),
    service(
        "monitoring",
        "dualstack-exporter",
        ["10.96.0.77", "fd00:96::77"],
        10046,
        **{"app.kubernetes.io/name": "dualstack-exporter"},
    ),
    service("default", "kubernetes", ["10.96.0.1"], 443),
    *(node(f"n{number}", number) for number in PEERS),
    pool("v4", "10.0.0.0/8"),
    pool("v6", "2001:db8::/33"),
]


@pytest.fixture
def cluster() -> Iterator[Village]:
    names = [f"p{n}" for n in range(PODS)]
    village = Village(names, host=True, objects=OBJECTS)
    files: list[Path] = []
    nameserver: subprocess.Popen[bytes] | None = None
    try:
        for n, name in enumerate(names):
            directory = Path("/etc/netns") / village.namespace(name)
            directory.mkdir(parents=True)
            files.append(directory / "resolv.conf")
            search = f"s{n % SPACES}.svc.cluster.local svc.cluster.local cluster.local corp.example"
            files[-1].write_text(f"nameserver 10.96.0.10\nsearch {search}\noptions ndots:5\n")
        with village:
            addresses = ["10.96.0.10/32", "fd00:96::a/128", "10.96.0.77/32", "fd00:96::77/128"]
            addresses += [a for n in PEERS if n != 3 for a in (f"10.42.{n}.1/32", f"fd42::{n:x}:1/128")]
            namespaces.batch({village.router: [f"address add {a} dev lo" for a in addresses]})
            nameserver = namespaces.python_inside(village.router, NAMESERVER, stdout=subprocess.PIPE)
            assert nameserver.stdout is not None
            assert nameserver.stdout.readline() == b"\n"
            yield village
    finally:
        if nameserver is not None:
            nameserver.kill()
            nameserver.communicate()
        for file in files:
            file.unlink(missing_ok=True)
            file.parent.rmdir()
        with suppress(OSError):
            Path("/etc/netns").rmdir()


def works(daemon: Daemon) -> bool:
    """Whether both families work and every kind of destination has been tried: what a machine that is busy reaches a
    few rounds later.
    """
    report = daemon.report()
    families = {family: told["ok"] for family, told in report["families"].items()}
    return families == {"IPv4": True, "IPv6": True} and {p["target"] for p in report["probes"]} == GROUPS


def test_a_node_with_110_pods_stays_within_its_budget_of_series(cluster: Village) -> None:
    """Faster rounds than by default, so that every pod had its turn and every kind of question was asked."""
    with NodeDaemon(cluster.host, f"--inventory.file={cluster.inventory}", config=CONFIG) as daemon:
        daemon.wait(lambda: daemon.series().get('dualstack_pods{state="eligible"}') == PODS, "all pods found")
        for share in (0.25, 0.5, 0.75, 1):
            daemon.wait(partial(probed, daemon, share * PODS), f"{share:.0%} of a rotation")
        daemon.wait(lambda: works(daemon), "both families, every kind of destination")
        rounds = daemon.series()["dualstack_exporter_rounds_total"]
        daemon.wait_rounds(int(rounds) + 2)
        scrape = daemon.get("/metrics")[1]
    series = [line.rsplit(" ", 1)[0] for line in scrape.splitlines() if line and not line.startswith("#")]
    by_metric = Counter(name.partition("{")[0] for name in series)
    assert len(series) <= BUDGET, by_metric.most_common(12)
    assert not any(name.endswith("_created") for name in by_metric)
    checked = subprocess.run(
        ["promtool", "check", "metrics"], input=scrape, capture_output=True, text=True, check=False
    )
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")
    print(f"{len(series)} series: {by_metric.most_common(12)}")  # noqa: T201 - what was measured


def probed(daemon: Daemon, pods: float) -> bool:
    return daemon.series().get("dualstack_pods_probed", 0) >= pods
