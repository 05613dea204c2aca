"""A whole small cluster on the real kernel: the Calico lab, its API objects, a nameserver, servers, and the exporter in its nodes.

    with Cluster(backend="iptables-nft") as cluster:
        cluster.settle()                       # two healthy rounds
        cluster.lab.fault("vxlan_deleted")     # or cluster.dns("noerror"), cluster.change(...)
        report = cluster.round()               # JSON of one round from the first node
        cluster.heal()

Used by the fault matrix and by `make demo`. Everything it makes goes when it is left.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import trustme
import yaml

from tests.kernel.calico import Lab
from tests.kernel.calico_nodes import OUTSIDE4, OUTSIDE6, SERVICE4, SERVICE6, LabNode
from tests.lab.objects import Object, as_list, cluster_objects

ROOT = Path(__file__).resolve().parents[2]
OUTSIDE_NAME = "outside.test"
CONFIG = """
role: {role}
node_name: {node}
inventory: {{source: file, file: {inventory}}}
timeouts: {{icmp: 400ms, dns: 400ms, tcp: 500ms, tls: 800ms, http: 800ms}}
round: {{interval: {interval}, timeout: {timeout}}}
targets:
  - {{name: outside, host: {outside}, addresses: ["{six}", {four}], port: 443, layers: [icmp, tcp, tls, http], ca_file: {ca}}}
  - {{name: named, host: {outside}, port: 443, layers: [tcp], vantages: [pod]}}
dns:
  names: [{{name: {outside}, expect: [A, AAAA]}}]
"""


class Cluster:
    """Enter it to set everything up. `role` is that of the exporter in the first node."""

    def __init__(self, *, backend: str = "iptables-nft", role: str = "all", **lab: Any) -> None:
        self.lab = Lab(backend=backend, **lab)
        self.role = role
        self._directory = Path(tempfile.mkdtemp(prefix="dualstack-exporter-lab-"))
        self._directory.chmod(0o755)
        self._runners: dict[str, subprocess.Popen[str]] = {}
        self._healthy: list[Object] = []
        self.objects: list[Object] = []

    @property
    def node(self) -> LabNode:
        """The node that is looked from, and that lab faults break."""
        return self.lab.nodes[0]

    def __enter__(self) -> Self:
        try:
            self.lab.__enter__()
            self._start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        for runner in self._runners.values():
            runner.kill()
            runner.communicate()
        self._runners.clear()
        self.lab.close()
        for namespace in self.lab.all_namespaces():
            shutil.rmtree(f"/etc/netns/{namespace}", ignore_errors=True)
        shutil.rmtree(self._directory, ignore_errors=True)

    # -- use -------------------------------------------------------------------------------------------------------------------

    def round(self, node: LabNode | None = None) -> dict[str, Any]:
        """The report of one more round of the exporter in a node."""
        runner = self._runner(node or self.node)
        assert runner.stdin is not None
        assert runner.stdout is not None
        runner.stdin.write("round\n")
        runner.stdin.flush()
        line = runner.stdout.readline()
        if not line:
            raise RuntimeError(f"the runner ended: {runner.communicate()[1]}")
        report: dict[str, Any] = json.loads(line)
        return report

    def settle(self, rounds: int = 3) -> dict[str, Any]:
        """The report after some rounds."""
        report = self.round()
        for _ in range(rounds - 1):
            report = self.round()
        return report

    def change(self, edit: Callable[[list[Object]], None]) -> None:
        """Change the API's objects."""
        edit(self.objects)
        self._write_objects()

    def dns(self, mode: str) -> None:
        """What the nameserver makes of AAAA: healthy, noerror, nxdomain, refused, servfail, dropped, filtered, silent."""
        (self._directory / "mode").write_text(mode)

    def records(self, edit: Callable[[dict[str, Any]], None]) -> None:
        """Change what the nameserver knows."""
        path = self._directory / "records.json"
        known = json.loads(path.read_text())
        edit(known)
        path.write_text(json.dumps(known))

    def heal(self) -> None:
        """Undo everything: kernel, API and DNS."""
        self.lab.heal()
        self.dns("healthy")
        self.objects = deepcopy(self._healthy)
        self._write_objects()
        self._write_records()

    def config(self, node: LabNode, *, interval: str = "30s", timeout: str = "10s", role: str = "") -> Path:
        """A configuration file for an exporter in that node."""
        path = self._directory / f"{node.name}.yaml"
        path.write_text(
            CONFIG.format(
                role=role or self.role,
                node=node.name,
                inventory=self.inventory,
                outside=OUTSIDE_NAME,
                six=OUTSIDE6,
                four=OUTSIDE4,
                ca=self._directory / "ca.pem",
                interval=interval,
                timeout=timeout,
            )
        )
        return path

    @property
    def inventory(self) -> Path:
        return self._directory / "inventory.yaml"

    # -- set-up ----------------------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        resolver = self.lab.nodes[1].pods[1]
        nameservers = f"nameserver {resolver.address4}\nnameserver {resolver.address6}\n"
        search = (
            "search default.svc.cluster.local svc.cluster.local cluster.local\noptions ndots:5 timeout:1 attempts:1\n"
        )
        for node in self.lab.nodes:
            self._resolv_conf(node.netns, nameservers)
            for pod in node.pods:
                self._resolv_conf(pod.netns, nameservers + search)
        self._healthy = cluster_objects(self.lab, resolver)
        self.objects = deepcopy(self._healthy)
        self._write_objects()
        self._write_records()
        self.dns("healthy")
        self._certificate()
        started = [self._listen(pod.netns, "8080") for node in self.lab.nodes for pod in node.pods]
        started.append(self._listen(self.lab.outside, f"443+{self._directory / 'server.pem'}"))
        arguments = (
            resolver.address4,
            resolver.address6,
            str(self._directory / "mode"),
            str(self._directory / "records.json"),
        )
        started.append(self._python(resolver.netns, "tests.lab.coredns", *arguments))
        for process in started:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"

    @staticmethod
    def _resolv_conf(namespace: str, text: str) -> None:
        """What `ip netns exec` mounts over /etc/resolv.conf (ip-netns(8))."""
        folder = Path(f"/etc/netns/{namespace}")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "resolv.conf").write_text(text)

    def _write_objects(self) -> None:
        fresh = self.inventory.with_suffix(".new")
        fresh.write_text(yaml.safe_dump(as_list(self.objects)))
        fresh.replace(self.inventory)

    def _write_records(self) -> None:
        resolver = self.lab.nodes[1].pods[1]
        known = {
            "web.default.svc.cluster.local": {"A": [SERVICE4], "AAAA": [SERVICE6]},
            "kube-dns.kube-system.svc.cluster.local": {"A": [resolver.address4], "AAAA": [resolver.address6]},
            OUTSIDE_NAME: {"A": [OUTSIDE4], "AAAA": [OUTSIDE6]},
            "ipv4only.arpa": {"A": ["192.0.0.170", "192.0.0.171"], "AAAA": []},
        }
        (self._directory / "records.json").write_text(json.dumps(known))

    def _certificate(self) -> None:
        authority = trustme.CA()
        authority.cert_pem.write_to_path(str(self._directory / "ca.pem"))
        made = authority.issue_cert(OUTSIDE_NAME)
        made.private_key_and_cert_chain_pem.write_to_path(str(self._directory / "server.pem"))

    def _listen(self, namespace: str, *places: str) -> subprocess.Popen[bytes]:
        return self._python(namespace, "tests.lab.listener", *places)

    def _python(self, namespace: str, module: str, *arguments: str) -> subprocess.Popen[bytes]:
        """In the namespace, with its own resolv.conf mounted as ip-netns does, so that a process stands for the pod."""
        command = ["ip", "netns", "exec", namespace, sys.executable, "-m", module, *arguments]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT)
        self.lab._started.append(process)
        return process

    def _runner(self, node: LabNode) -> subprocess.Popen[str]:
        if node.name not in self._runners:
            command = [
                "ip", "netns", "exec", node.netns, sys.executable, "-m", "tests.lab.round_runner",
                str(self.config(node)), str(self.inventory),
            ]  # fmt: skip
            self._runners[node.name] = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
            )
        return self._runners[node.name]
