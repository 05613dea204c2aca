"""A Calico cluster of network namespaces: three nodes, two pods each, a fabric, a gateway and an outside host. On the
real kernel.

State is what Felix, the CNI plugin and kube-proxy write (calico_rules.py has the packet filters, calico_faults.py the
faults).

    with Lab(backend="iptables-nft") as lab:
        lab.nodes[0].netns, lab.nodes[0].pods[1].netns, lab.outside, lab.gateway, lab.fabric   # names of namespaces
        lab.call(lab.nodes[0].pods[0].netns, function, argument)    # in a forked child inside the namespace
        lab.start(lab.outside, "sleep", "60")                       # ended with the lab
        lab.fault("fdb_of_peer"); lab.heal()                        # on the first node, against the second

Addresses: nodes 2001:db8:1::11.. and 10.99.0.11.., pods fd00:10:244:N::41.. and 10.244.N.65.., outside
2001:db8:ffff::80 and 198.51.100.80, Service fd00:10:96::50 and 10.96.0.50 port 80 (to port 8080 of each node's first
pod). Only NAT gets pods outside.
"""

from __future__ import annotations

import itertools
import subprocess
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self, TypeVar

from tests.kernel import calico_network as network
from tests.kernel import namespaces
from tests.kernel.calico_faults import FAULTS
from tests.kernel.calico_nodes import (
    FABRIC_MTU,
    POD_MTU,
    POOL4,
    POOL6,
    SERVICE4,
    SERVICE6,
    TUNNEL4,
    TUNNEL6,
    VNI,
    LabNode,
    LabPod,
)
from tests.kernel.calico_rules import (
    NEW_ALL_POOLS,
    NatInput,
    calico_nft,
    ipset_restore,
    kube_nft,
    nat_restore,
)

Result = TypeVar("Result")


@dataclass
class Lab:
    """Enter it to set everything up; leaving removes it, also after a failure. `pods` are per node."""

    backend: str = "iptables-nft"
    all_set: str = NEW_ALL_POOLS
    nat_pools6: tuple[str, ...] = (POOL6,)
    cross_subnet: bool = False
    node_count: int = 3
    pod_count: int = 2
    prefix: str = field(default_factory=namespaces.unique_prefix)
    tunnel6: str = TUNNEL6
    tunnel4: str = TUNNEL4

    def __post_init__(self) -> None:
        self.fabric, self.gateway, self.outside = (self.prefix + each for each in ("fabric", "gateway", "outside"))
        self.nodes = tuple(self._make_node(i + 1) for i in range(self.node_count))
        self._started: list[subprocess.Popen[bytes]] = []
        self._undo: list[Callable[[], None]] = []

    def _make_node(self, number: int) -> LabNode:
        name = f"node-{chr(96 + number)}"
        pods = tuple(
            LabPod(
                "default",
                f"web-{chr(96 + number)}-{i}",
                f"{self.prefix}pod-{chr(96 + number)}-{i}",
                f"fd00:10:244:{number}::{0x41 + i:x}",
                f"10.244.{number}.{65 + i}",
            )
            for i in range(self.pod_count)
        )
        return LabNode(name, f"{self.prefix}{name}", number, pods)

    # use

    def __enter__(self) -> Self:
        try:
            self._build()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End what was started, remove all namespaces. May be called twice."""
        for each in self._started:
            with suppress(ProcessLookupError):
                each.kill()
            each.wait()
        self._started.clear()
        namespaces.delete(self.all_namespaces())

    def all_namespaces(self) -> tuple[str, ...]:
        pods = tuple(pod.netns for node in self.nodes for pod in node.pods)
        return (self.fabric, self.gateway, self.outside, *(node.netns for node in self.nodes), *pods)

    def peers(self, node: LabNode) -> tuple[LabNode, ...]:
        return tuple(each for each in self.nodes if each is not node)

    def call(self, namespace: str, function: Callable[..., Result], *arguments: Any) -> Result:
        """The result of a function called in a forked child inside a namespace."""
        return namespaces.call_inside(namespace, function, *arguments)

    def run(self, namespace: str, *argv: str, text: str = "") -> str:
        """What a command says that is run in a namespace."""
        return namespaces.run_inside(namespace, *argv, text=text)

    def start(self, namespace: str, *argv: str, **options: Any) -> subprocess.Popen[bytes]:
        """A process in a namespace, killed with the lab."""
        started = namespaces.start_inside(namespace, *argv, **options)
        self._started.append(started)
        return started

    def fault(self, name: str, node: LabNode | None = None) -> None:
        """Break one thing on a node (the first by default): a name of calico_faults.FAULTS."""
        broken = node or self.nodes[0]
        apply, undo = FAULTS[name]
        self._undo.append(lambda: undo(self, broken))
        apply(self, broken)

    def heal(self) -> None:
        """Undo all faults, the last one first."""
        while self._undo:
            self._undo.pop()()

    # set-up

    def _build(self) -> None:
        namespaces.create(self.all_namespaces())
        namespaces.configure(self._first_sysctls())
        namespaces.batch({"": self._wires()})
        scripts = {node.netns: [*network.node_network(node), *network.pod_routes(node)] for node in self.nodes}
        for node in self.nodes:
            scripts[node.netns] += [*self.tunnel(node, six=True), *self.tunnel(node, six=False)]
            scripts |= {pod.netns: network.pod_network(pod) for pod in node.pods}
        scripts[self.fabric] = network.fabric_network(self.nodes)
        scripts[self.gateway] = network.gateway_network()
        scripts[self.outside] = network.outside_network()
        namespaces.batch(scripts)
        namespaces.batch({node.netns: self.tunnel_entries(node) for node in self.nodes}, "bridge")
        offloads = {node.netns: ["eth0", *(pod.link for pod in node.pods)] for node in self.nodes}
        offloads |= {pod.netns: ["eth0"] for node in self.nodes for pod in node.pods}
        offloads |= {self.gateway: ["eth0", "eth1"], self.outside: ["eth0"]}
        namespaces.configure({node.netns: network.pod_sysctls(node) for node in self.nodes}, offloads)
        for node in self.nodes:
            self.write_rules(node)

    def _first_sysctls(self) -> dict[str, dict[str, object]]:
        """Before any link exists: links copy `default`, so that no address waits for duplicate detection."""
        quiet = {"net/ipv6/conf/default/accept_dad": 0, "net/ipv6/conf/default/accept_ra": 0}
        settings: dict[str, dict[str, object]] = {name: dict(quiet) for name in self.all_namespaces()}
        for name in (self.gateway, *(node.netns for node in self.nodes)):
            settings[name] |= {"net/ipv6/conf/all/forwarding": 1, "net/ipv4/ip_forward": 1}
        # A bridge with br_netfilter would route and answer Packet Too Big; a switch does neither.
        settings[self.fabric] |= dict.fromkeys(
            ("net/bridge/bridge-nf-call-ip6tables", "net/bridge/bridge-nf-call-iptables"), 0
        )
        return settings

    def _wires(self) -> list[str]:
        # The first end has an index of its own: where both ends' are equal the kernel takes the carrier's change for
        # one that is not urgent, and brings the port up a second later (net/core/link_watch.c).
        indices = itertools.count(100)

        def wire(one: tuple[str, str], other: tuple[str, str], mtu: int, address: str = "") -> str:
            return (
                f"link add {one[1]} index {next(indices)} mtu {mtu} {address} netns {one[0]} type veth "
                f"peer name {other[1]} mtu {mtu} netns {other[0]}"
            )

        lines = [wire((self.fabric, f"to-{n.name}"), (n.netns, "eth0"), FABRIC_MTU) for n in self.nodes]
        lines.append(wire((self.fabric, "to-gateway"), (self.gateway, "eth0"), FABRIC_MTU))
        lines.append(wire((self.gateway, "eth1"), (self.outside, "eth0"), FABRIC_MTU))
        lines += [
            wire((n.netns, pod.link), (pod.netns, "eth0"), POD_MTU, "address ee:ee:ee:ee:ee:ee")
            for n in self.nodes
            for pod in n.pods
        ]
        return lines

    def tunnel(self, node: LabNode, *, six: bool, vni: int = VNI, mtu: int = 0) -> list[str]:
        """Lines for `ip`: a node's tunnel device, its address, and per peer the neighbour and the route to its
        block.
        """
        return network.tunnel(node, self.peers(node), six=six, cross_subnet=self.cross_subnet, vni=vni, mtu=mtu)

    def tunnel_entries(self, node: LabNode) -> list[str]:
        """Lines for `bridge`: the forwarding entries of both of a node's tunnel devices."""
        return network.tunnel_entries(self.peers(node))

    def nat_input(self, *, six: bool) -> NatInput:
        return NatInput(
            six=six,
            pools=self.nat_pools6 if six else (POOL4,),
            all_pools=(POOL6,) if six else (POOL4,),
            all_set=self.all_set,
            tunnel=self.tunnel6 if six else self.tunnel4,
            service=SERVICE6 if six else SERVICE4,
            endpoints=tuple(n.pods[0].address6 if six else n.pods[0].address4 for n in self.nodes if n.pods),
            pod_range=POOL6 if six else POOL4,
        )

    def write_rules(self, node: LabNode) -> None:
        """Write NAT outgoing and Service rules of both families anew, with the backend's own tools."""
        inputs = [self.nat_input(six=True), self.nat_input(six=False)]
        if self.backend == "nftables":
            text = "".join(calico_nft(each) + kube_nft(each) for each in inputs)
            namespaces.run_inside(node.netns, "nft", "-f", "-", text=text)
            return
        variant = self.backend.removeprefix("iptables-")
        namespaces.run_inside(node.netns, "ipset", "restore", text="".join(ipset_restore(each) for each in inputs))
        for each in inputs:
            tool = f"{'ip6tables' if each.six else 'iptables'}-{variant}-restore"
            wait = ["-w", "30"] if variant == "legacy" else []
            namespaces.run_inside(node.netns, tool, *wait, text=nat_restore(each))
