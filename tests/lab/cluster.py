"""A whole small cluster on the real kernel: the Calico lab, its API objects, a nameserver, servers, and the exporter in
its nodes.

    with Cluster(backend="iptables-nft") as cluster:
        cluster.settle()                       # some healthy rounds
        cluster.lab.fault("vxlan_deleted")     # or cluster.dns("noerror"), cluster.change(...), cluster.serve(...)
        reports = cluster.round()              # JSON of one round: the node's report, and the cluster role's where that
        runs apart cluster.heal()

Used by the fault matrix, the ordinary life and `make demo`. Everything it makes goes when it is left.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from copy import deepcopy
from ipaddress import ip_address
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import trustme
import yaml

from tests.kernel import namespaces
from tests.kernel.calico_nodes import OUTSIDE4, OUTSIDE6, SERVICE4, SERVICE6, LabNode, LabPod
from tests.lab import cgroups
from tests.lab.dataplanes import ServingLab
from tests.lab.objects import CLIENT4, CLIENT6, Object, as_list, cluster_objects, pod_uid
from tests.lab.roots import PodRoot
from tests.lab.settings import MIRROR4, MIRROR6, OUTSIDE_NAME, Settings, lab_settings

ROOT = Path(__file__).resolve().parents[2]
SEARCH = "search default.svc.cluster.local svc.cluster.local cluster.local\noptions ndots:5 timeout:1 attempts:1\n"
WEB = "8080"
Report = dict[str, Any]


class Cluster:
    """Enter it to set everything up. `roles`: ("all",), or ("node", "cluster") as separate ones."""

    def __init__(
        self, *, lab: ServingLab | None = None, backend: str = "iptables-nft", roles: Sequence[str] = ("all",)
    ) -> None:
        self.lab = lab or ServingLab(backend=backend)
        self.roles = tuple(roles)
        self.objects: list[Object] = []
        self.pod_roots: dict[str, PodRoot] = {}  # by the pod's network namespace
        self._directory = Path(tempfile.mkdtemp(prefix="dualstack-exporter-lab-"))
        self._directory.chmod(0o755)
        self._runners: dict[tuple[str, str], subprocess.Popen[str]] = {}  # by node and role
        self._digest = ""  # where on its node the cluster role serves it, where it runs apart
        self.home = self.lab.nodes[0]  # of the cluster role, where it runs apart
        self._servers: list[subprocess.Popen[bytes]] = []
        self._listeners: dict[str, subprocess.Popen[bytes]] = {}
        self._undo: list[Callable[[], object]] = []
        self._healthy: list[Object] = []
        self._edit_settings: Callable[[Settings], object] | None = None

    @property
    def node(self) -> LabNode:
        """The node that is looked from, and that lab faults break."""
        return self.lab.nodes[0]

    @property
    def resolver(self) -> LabPod:
        """The pod in which the cluster's DNS runs: on another node."""
        return self.lab.resolver

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
        for process in self._servers:
            process.communicate()
        cgroups.remove(self.lab.prefix)
        for node in self.lab.nodes:
            shutil.rmtree(f"/etc/netns/{node.netns}", ignore_errors=True)
        shutil.rmtree(self._directory, ignore_errors=True)

    # use

    def round(self, node: LabNode | None = None) -> list[Report]:
        """The reports of one more round of the exporter in a node: the node's first. A cluster role apart runs before,
        and tells it.
        """
        place = node or self.node
        made = [self._run_round(self._runner(self.home, role)) for role in self.roles[1:]]
        return [self._run_round(self._runner(place, self.roles[0])), *made]

    @staticmethod
    def _run_round(runner: subprocess.Popen[str]) -> Report:
        assert runner.stdin is not None
        assert runner.stdout is not None
        runner.stdin.write("round\n")
        runner.stdin.flush()
        line = runner.stdout.readline()
        if not line:
            raise RuntimeError(f"the runner ended: {runner.communicate()[1]}")
        report: Report = json.loads(line)
        return report

    def settle(self, rounds: int = 3) -> list[Report]:
        """The reports after some rounds."""
        reports = self.round()
        for _ in range(rounds - 1):
            reports = self.round()
        return reports

    def change(self, *edits: Callable[[list[Object]], object]) -> None:
        """Change the API's objects."""
        for edit in edits:
            edit(self.objects)
        self._write_objects()

    def configure(self, edit: Callable[[Settings], object] | None) -> None:
        """Change the exporter's configuration and let it reload; None: as it was."""
        self._edit_settings = edit
        nodes = {node.name: node for node in self.lab.nodes}
        for (name, role), runner in self._runners.items():
            self.config(nodes[name], role)
            assert runner.stdin is not None
            runner.stdin.write("configure\n")

    def forget(self) -> None:
        """Let all that was probed so far be an hour old."""
        for runner in self._runners.values():
            assert runner.stdin is not None
            runner.stdin.write("forget\n")

    def dns(self, mode: str) -> None:
        """What the nameserver does: healthy, or a mode of tests.lab.coredns."""
        self._write("mode", mode)

    def records(self, edit: Callable[[dict[str, Any]], object]) -> None:
        """Change what the nameserver knows."""
        known = json.loads((self._directory / "records.json").read_text())
        edit(known)
        self._write("records.json", json.dumps(known))

    def serve(self, namespace: str, *places: str) -> None:
        """Let another listener take the place of the one in this namespace, until heal()."""
        self._undo.append(lambda: self._listen(namespace, *self.usual(namespace)))
        self._listen(namespace, *places)

    def answer_dns(self, namespace: str, *addresses: str) -> None:
        """Start a nameserver with these addresses; all of them behave alike."""
        files = [str(self._directory / name) for name in ("mode", "records.json")]
        self._wait(self._python(namespace, "tests.lab.coredns", *files, *addresses))

    def restart(self, node: LabNode | None = None) -> None:
        """End the exporter in a node; the next round is the first of another one."""
        runner = self._runners.pop(((node or self.node).name, self.roles[0]))
        runner.kill()
        runner.communicate()

    def certify_ipv6(self, name: str) -> None:
        """Give the outside server, over IPv6 alone, a certificate of this name."""
        self._issue(name, "server-IPv6.pem")
        self._undo.append(lambda: self._issue(OUTSIDE_NAME, "server-IPv6.pem"))

    def apply(self, act: Callable[[], object], undo: Callable[[], object]) -> None:
        """Do something, and its opposite when healing."""
        self._undo.append(undo)
        act()

    def heal(self) -> None:
        """Undo everything: kernel, API, DNS, servers, pods' files, configuration."""
        while self._undo:
            self._undo.pop()()
        self.lab.heal()
        self.dns("healthy")
        self.objects = deepcopy(self._healthy)
        self._write_objects()
        self._write_records()
        for root in self.pod_roots.values():
            root.heal()
        if self._edit_settings is not None:
            self.configure(None)

    def config(self, node: LabNode, role: str = "", **pace: str) -> Path:
        """A configuration file for an exporter in that node; `pace` gives round.interval and round.timeout."""
        role = role or self.roles[0]
        settings = lab_settings(
            role=role, node=node.name, inventory=self.inventory, authority=self._directory / "ca.pem"
        )
        if pace:
            settings["round"] = pace
        if self._edit_settings is not None:
            self._edit_settings(settings)
        path = self._directory / f"{node.name}-{role}.yaml"
        path.write_text(yaml.safe_dump(settings))
        return path

    @property
    def inventory(self) -> Path:
        return self._directory / "inventory.yaml"

    # set-up

    def _start(self) -> None:
        nameservers = f"nameserver {self.resolver.address4}\nnameserver {self.resolver.address6}\n"
        for node in self.lab.nodes:
            folder = Path(f"/etc/netns/{node.netns}")  # what `ip netns exec` mounts (ip-netns(8))
            folder.mkdir(parents=True)
            (folder / "resolv.conf").write_text(nameservers)
            for pod in node.pods:
                self.pod_roots[pod.netns] = PodRoot(self._directory / pod.netns, nameservers + SEARCH)
        namespaces.batch(
            {self.lab.outside: [f"address add {MIRROR6}/64 dev eth0 nodad", f"address add {MIRROR4}/24 dev eth0"]}
        )
        self._healthy = cluster_objects(self.lab, self.resolver)
        self.objects = deepcopy(self._healthy)
        self._write_objects()
        self._write_records()
        self.dns("healthy")
        self._authority = trustme.CA()
        self._authority.cert_pem.write_to_path(str(self._directory / "ca.pem"))
        for family in ("IPv4", "IPv6"):
            self._issue(OUTSIDE_NAME, f"server-{family}.pem")
        for namespace in (self.lab.outside, *self.pod_roots):
            self._listen(namespace, *self.usual(namespace), wait=False)
        for process in self._listeners.values():
            self._wait(process)
        self.answer_dns(self.resolver.netns, self.resolver.address4, self.resolver.address6)

    def usual(self, namespace: str) -> tuple[str, ...]:
        """What listens in a namespace while all is well."""
        if namespace == self.lab.outside:
            return tuple(f"443/{n}+{self._directory / f'server-IPv{n}.pem'}" for n in (4, 6))
        return (*self.as_pod(namespace), WEB)

    def as_pod(self, namespace: str) -> tuple[str, ...]:
        """Arguments for a listener that stands for the pod of this namespace."""
        pod = next(pod for node in self.lab.nodes for pod in node.pods if pod.netns == namespace)
        cgroup = cgroups.pod_cgroup(self.lab.prefix, pod_uid(self.lab, pod))
        return (f"--cgroup={cgroup}", f"--root={self.pod_roots[namespace].path}")

    def _write_objects(self) -> None:
        self._write(self.inventory.name, json.dumps(as_list(self.objects)))  # JSON is YAML

    def _write_records(self) -> None:
        resolver = self.resolver
        services = {
            "web.default.svc.cluster.local": {"A": [SERVICE4], "AAAA": [SERVICE6]},
            "client.default.svc.cluster.local": {"A": [CLIENT4], "AAAA": [CLIENT6]},
            "kube-dns.kube-system.svc.cluster.local": {"A": [resolver.address4], "AAAA": [resolver.address6]},
        }
        known = {
            **services,
            **{ip_address(one["AAAA"][0]).reverse_pointer: {"PTR": [f"{name}."]} for name, one in services.items()},
            OUTSIDE_NAME: {"A": [OUTSIDE4], "AAAA": [OUTSIDE6]},
            "ipv4only.arpa": {"A": ["192.0.0.170", "192.0.0.171"], "AAAA": []},
        }
        self._write("records.json", json.dumps(known))

    def _issue(self, name: str, file: str) -> None:
        made = self._authority.issue_cert(name).private_key_and_cert_chain_pem
        self._write(file, made.bytes().decode())

    def _write(self, file: str, text: str) -> None:
        """At once, as others read it at any moment."""
        fresh = self._directory / f"{file}.new"
        fresh.write_text(text)
        fresh.replace(self._directory / file)

    def _listen(self, namespace: str, *places: str, wait: bool = True) -> None:
        if namespace in self._listeners:
            before = self._listeners[namespace]
            before.kill()
            before.communicate()
            self._servers.remove(before)
        self._listeners[namespace] = self._python(namespace, "tests.lab.listener", *places)
        if wait:
            self._wait(self._listeners[namespace])

    def _python(self, namespace: str, module: str, *arguments: str) -> subprocess.Popen[bytes]:
        command = (sys.executable, "-m", module, *arguments)
        self._servers.append(self.lab.start(namespace, *command, stdout=subprocess.PIPE, cwd=ROOT))
        return self._servers[-1]

    @staticmethod
    def _wait(process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"

    def _digest_url(self, node: LabNode) -> str:
        """Where a node finds the digest: on the network of the node where the cluster role runs."""
        return f"http://{'127.0.0.1' if node is self.home else f'[{self.home.address6}]'}{self._digest}"

    def _runner(self, node: LabNode, role: str) -> subprocess.Popen[str]:
        key = node.name, role
        if key not in self._runners:
            command = [
                "ip", "netns", "exec", node.netns, sys.executable, "-m", "tests.lab.round_runner",
                str(self.inventory), str(self.config(node, role)), *([self._digest_url(node)] if self._digest else []),
            ]  # fmt: skip
            runner = self._runners[key] = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
            )
            assert runner.stdout is not None
            self._digest = runner.stdout.readline().strip() or self._digest
        return self._runners[key]
