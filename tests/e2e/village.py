"""A router and pod-like namespaces around it, with an inventory that names them: what else is on this machine is of
nobody.

The namespaces are tied to their pods by address, as where no cgroup tells.
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import tempfile
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.e2e.daemon import Daemon
from tests.kernel import namespaces

PORT = 8443
_COUNTER = itertools.count()
SERVER = """
import socket, sys, threading
def serve(s):
    while True: s.accept()[0].close()
for family, address in ((socket.AF_INET6, "::"), (socket.AF_INET, "0.0.0.0")):
    s = socket.socket(family)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6: s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    s.bind((address, int(sys.argv[1]))); s.listen(512)
    threading.Thread(target=serve, args=(s,)).start()
print(flush=True)
"""


class Village:
    """Made when entered, gone when left. Every pod has a /64 and a /30 of its own, in which the router has the first
    address.

    Namespaces are told by addresses: no two villages of this machine share any, whichever process made them.

    The router accepts on PORT over both families; 2001:db8:dead::1 and 198.51.100.1 swallow everything. `later`: pods
    that `add` makes. `host`: one namespace more, which is no pod: the node's own. `objects`: more of the cluster.
    """

    def __init__(
        self,
        names: Iterable[str] = ("one", "two"),
        later: Iterable[str] = (),
        *,
        host: bool = False,
        objects: Iterable[dict[str, Any]] = (),
    ) -> None:
        self.prefix = namespaces.unique_prefix()
        self.router, self.host = f"{self.prefix}router", f"{self.prefix}host"
        self._first = (*names, *(["host"] if host else []))
        self._numbers = {name: n for n, name in enumerate((*self._first, *later), 1)}
        self._place = (8 * os.getpid() + next(_COUNTER) % 8) % 2**14
        assert len(self._numbers) < 128
        self._objects = list(objects)
        self._made: set[str] = set()
        self._listed: list[str] = []
        self._server: subprocess.Popen[bytes] | None = None
        self._directory = tempfile.TemporaryDirectory(prefix="dualstack-exporter-village-")
        self.inventory = Path(self._directory.name) / "inventory.json"

    def __enter__(self) -> Self:
        try:
            self.inventory.parent.chmod(0o755)  # read again without privilege
            namespaces.create([self.router])
            namespaces.batch(
                {
                    self.router: [
                        "link set lo up",
                        "address add 2001:db8:ffff::1/128 dev lo",
                        "address add 203.0.113.1/32 dev lo",
                        "route add blackhole 198.51.100.0/24",
                        "route add blackhole 2001:db8:dead::/48",
                    ]
                }
            )
            namespaces.configure({self.router: {"net/ipv4/ip_forward": 1, "net/ipv6/conf/all/forwarding": 1}})
            self.add(self._first)
            self._server = namespaces.python_inside(self.router, SERVER, str(PORT), stdout=subprocess.PIPE)
            assert self._server.stdout is not None
            assert self._server.stdout.readline() == b"\n"
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        if self._server is not None:
            self._server.kill()
            self._server.communicate()
            self._server = None
        namespaces.delete([self.router, *(self.namespace(name) for name in self._made)])
        self._directory.cleanup()

    def namespace(self, name: str) -> str:
        return f"{self.prefix}{name}"

    def addresses(self, name: str) -> tuple[str, str]:
        n = self._numbers[name]
        return f"2001:db8:{self._place:x}:{n:x}::2", str(IPv4Address("10.128.0.2") + 4 * (128 * self._place + n))

    def routers(self, name: str) -> tuple[str, str]:
        """The router's addresses towards a pod: the pod's gateways."""
        six, four = self.addresses(name)
        return str(IPv6Address(six) - 1), str(IPv4Address(four) - 1)

    def add(self, names: Iterable[str]) -> None:
        """Make these pods' namespaces, and list the pods once they have their addresses, as the API server would."""
        for name in names:
            self._made.add(name)
            leaf, near, (six, four) = self.namespace(name), f"r{self._numbers[name]}", self.addresses(name)
            namespaces.create([leaf])
            routers = self.routers(name)
            namespaces.batch(
                {
                    self.router: [
                        f"link add {near} type veth peer name eth0 netns {leaf}",
                        f"link set {near} up",
                        f"address add {routers[0]}/64 dev {near} nodad",
                        f"address add {routers[1]}/30 dev {near}",
                    ]
                }
            )
            namespaces.batch(
                {
                    leaf: [
                        "link set lo up",
                        "link set eth0 up",
                        f"address add {six}/64 dev eth0 nodad",
                        f"address add {four}/30 dev eth0",
                        *(f"route add default via {router}" for router in routers),
                    ]
                }
            )

            self._listed.append(name)
        self._write_inventory()

    def remove(self, names: Iterable[str]) -> None:
        """Remove the namespaces; the pods stay listed, as until the kubelet has told of their end."""
        gone = list(names)
        self._made -= set(gone)
        namespaces.delete([self.namespace(name) for name in gone])

    def links_of_router(self) -> int:
        """How many pods' namespaces really exist: the end of one takes its link along."""
        listed = namespaces.run("ip", "-n", self.router, "-o", "link", "show", "type", "veth")
        return len(listed.splitlines())

    def config(self, *, more: str = "", targets: str = "", **pace: str) -> str:
        """Both families, and the router as target of every pod. A dial to what answers has seconds: a busy machine
        fails none.
        """
        router = (
            f'{{name: router, host: router.test, addresses: ["2001:db8:ffff::1", 203.0.113.1], port: {PORT}, '
            "layers: [icmp, tcp], vantages: [pod]}"
        )
        return (
            f"families: [IPv4, IPv6]\nnode_name: here\n{paced(**pace)}"
            f"dns: {{names: []}}\ntargets: [{router}{', ' if targets else ''}{targets}]\n{more}"
        )

    def daemon(self, config: str, *arguments: str, **options: Any) -> Daemon:
        return Daemon(config, f"--inventory.file={self.inventory}", *arguments, **options)

    def _write_inventory(self) -> None:
        node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "here", "uid": "node-here"}}
        pods = [self._pod(name) for name in self._listed if self.namespace(name) != self.host]
        items = [node, *pods, *self._objects]
        whole = self.inventory.with_name("whole")
        whole.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))
        whole.replace(self.inventory)

    def _pod(self, name: str) -> dict[str, Any]:
        ips = [{"ip": address} for address in self.addresses(name)]
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "namespace": "village",
                "name": name,
                "uid": f"uid-{name}",
                "creationTimestamp": "2020-01-01T00:00:00Z",
            },
            "spec": {"nodeName": "here"},
            "status": {"phase": "Running", "startTime": "2020-01-01T00:00:00Z", "podIPs": ips},
        }


def paced(interval: str = "3s", timeout: str = "2900ms", phase: str = "2900ms") -> str:
    """Lines of a configuration: short rounds, in which what answers at all has the time to, on a busy machine too."""
    phases = ", ".join(f"{name}: {phase}" for name in ("icmp", "dns", "tcp", "tls", "http"))
    return f"round: {{interval: {interval}, timeout: {timeout}}}\ntimeouts: {{{phases}}}\n"


def swallowed(name: str = "hole", timeout: str = "300ms") -> str:
    """A target that never answers, over either family: no machine is too slow to find that out soon."""
    return (
        f'{{name: {name}, host: {name}.test, addresses: ["2001:db8:dead::1", 198.51.100.1], port: 1, '
        f"layers: [tcp], vantages: [pod], timeout: {timeout}}}"
    )
