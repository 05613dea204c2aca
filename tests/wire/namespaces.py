"""Three namespaces in a row for the wire tests: a client (as a pod), a router, a server; veth links, both families.

client 10.99.1.1 fd99:1::1 -- router -- 10.99.2.1 fd99:2::1 (and .2, ::2) server
"""

from __future__ import annotations

import ctypes
import itertools
import os
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from ipaddress import ip_address
from pathlib import Path
from typing import TypeVar

from exporter.broker.protocol.messages import SocketKind
from exporter.model.family import Address, Family
from exporter.model.vantage import Netns, Vantage
from exporter.probes.ports import Network, make_socket
from tests.kernel.namespaces import unique_prefix

CLIENT = {Family.V4: ip_address("10.99.1.1"), Family.V6: ip_address("fd99:1::1")}
SERVER = {Family.V4: ip_address("10.99.2.1"), Family.V6: ip_address("fd99:2::1")}
SECOND = {Family.V4: ip_address("10.99.2.2"), Family.V6: ip_address("fd99:2::2")}
NOWHERE = {Family.V4: ip_address("10.99.9.9"), Family.V6: ip_address("fd99:9::9")}  # the router has no route to it

CLONE_NEWNET = 0x40000000
_COUNTER = itertools.count()
_LIBC = ctypes.CDLL(None, use_errno=True)
T = TypeVar("T")


def execute(*command: str, stdin: str = "") -> None:
    done = subprocess.run(command, input=stdin, text=True, check=False, capture_output=True)
    assert not done.returncode, f"{command}: {done.stderr}\n{stdin}"


class Namespace:
    """One named namespace. What runs `inside` it runs on a thread of its own that ends there."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.filtered = False

    def ip(self, *commands: str) -> None:
        execute("ip", "-n", self.name, "-batch", "-", stdin="\n".join(commands))

    def set(self, **values: object) -> None:
        """Set sysctls; a double underscore stands for a dot."""
        for key, value in values.items():
            self.inside(Path("/proc/sys", *key.split("__")).write_text, str(value))

    def nft(self, *rules: str) -> None:
        """Replace the namespace's rules; each is "chain rule", the chain one of input, forward, output."""
        chains = "".join(
            f"chain {hook} {{ type filter hook {hook} priority 0; }}\n" for hook in ("input", "forward", "output")
        )
        added = "".join(f"add rule inet test {rule}\n" for rule in rules)
        self.filtered = bool(rules)
        script = f"flush ruleset\ntable inet test {{\n{chains}}}\n{added}"
        execute("ip", "netns", "exec", self.name, "nft", "-f", "-", stdin=script)

    def inside(self, action: Callable[..., T], *arguments: object) -> T:
        results: list[T] = []

        def run() -> None:
            descriptor = os.open(f"/run/netns/{self.name}", os.O_RDONLY | os.O_CLOEXEC)
            try:
                if _LIBC.setns(descriptor, CLONE_NEWNET):
                    raise OSError(ctypes.get_errno(), "setns")
            finally:
                os.close(descriptor)
            results.append(action(*arguments))

        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
        (result,) = results  # empty where it raised: pytest tells of the thread's exception
        return result


class NamespaceNetwork(Network):
    """A network whose sockets are all made inside one namespace; ping sockets where asked for, else raw ones."""

    def __init__(self, namespace: Namespace, *, ping: bool = False) -> None:
        super().__init__()
        self._namespace = namespace
        self._ping = ping

    async def sockets(self, asked: Sequence[tuple[Vantage, SocketKind, int]]) -> Sequence[socket.socket | int]:
        if {kind for _, kind, _ in asked} & {SocketKind.ICMP4, SocketKind.ICMP6}:
            self._namespace.set(net__ipv4__ping_group_range="0 0" if self._ping else "1 0")
        return [self._namespace.inside(make_socket, kind, number) for _, kind, number in asked]


class Row:
    """The three namespaces. `vantage` is the client as a pod."""

    def __init__(self, prefix: str) -> None:
        self.client, self.router, self.server = (Namespace(name=f"{prefix}{end}") for end in "crs")
        self.mtu = 1500
        self.vantage = Vantage(
            kind="pod", namespace="tests", name="client", netns=Netns(device=0, inode=next(_COUNTER) + 1)
        )

    def build(self) -> None:
        for namespace in (self.client, self.router, self.server):
            execute("ip", "netns", "add", namespace.name)
            namespace.set(net__ipv6__conf__default__accept_dad=0)
        self.client.set(net__ipv4__ping_group_range="0 0")
        self.client.ip(
            f"link add c0 type veth peer name r0 netns {self.router.name}",
            "addr add 10.99.1.1/24 dev c0",
            "addr add fd99:1::1/64 dev c0 nodad",
            "link set lo up",
            "link set c0 up",
        )
        self.router.ip(
            f"link add r1 type veth peer name s0 netns {self.server.name}",
            *(f"addr add {address} dev r0" for address in ("10.99.1.254/24", "fd99:1::fe/64")),
            *(f"addr add {address} dev r1" for address in ("10.99.2.254/24", "fd99:2::fe/64")),
            "link set r0 up",
            "link set r1 up",
        )
        self.router.set(net__ipv4__ip_forward=1, net__ipv6__conf__all__forwarding=1)
        self.router.set(net__ipv4__icmp_ratemask=0, net__ipv6__icmp__ratelimit=0)  # its errors are what is looked at
        addresses: tuple[Address, ...] = (*SERVER.values(), *SECOND.values())
        self.server.ip(
            *(f"addr add {a}/{24 if a.version == 4 else 64} dev s0" for a in addresses),
            "link set lo up",
            "link set s0 up",
            "route add default via 10.99.2.254",
            "route add default via fd99:2::fe",
        )
        self.client.ip("route add default via 10.99.1.254", "route add default via fd99:1::fe")
        for address in SERVER.values():  # the kernel may take a second until a new link carries packets
            execute("ip", "netns", "exec", self.client.name, "ping", "-c1", "-w9", "-i0.1", "-q", str(address))

    def reset(self) -> None:
        """No rules, full size, nothing learned of the path: as built."""
        for namespace in (self.client, self.router, self.server):
            if namespace.filtered:
                namespace.nft()
        if self.mtu != 1500:
            self.narrow(1500)
        for family in ("-4", "-6"):
            execute("ip", family, "-n", self.client.name, "route", "flush", "cache")

    def remove(self) -> None:
        for namespace in (self.client, self.router, self.server):
            if Path("/run/netns", namespace.name).exists():
                execute("ip", "netns", "delete", namespace.name)

    def narrow(self, mtu: int) -> None:
        """Make the link between router and server smaller."""
        self.mtu = mtu
        self.router.ip(f"link set r1 mtu {mtu}")
        self.server.ip(f"link set s0 mtu {mtu}")


@contextmanager
def row_of_namespaces() -> Iterator[Row]:
    row = Row(unique_prefix())
    try:
        row.build()
        yield row
    finally:
        row.remove()
