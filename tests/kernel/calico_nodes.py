"""The lab's nodes and pods with their names and addresses, as plain values. calico.py makes namespaces of them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

BACKENDS = ("iptables-nft", "iptables-legacy", "nftables")
POOL6, POOL4 = "fd00:10:244::/48", "10.244.0.0/16"
SERVICE6, SERVICE4 = "fd00:10:96::50", "10.96.0.50"
OUTSIDE6, OUTSIDE4 = "2001:db8:ffff::80", "198.51.100.80"
GATEWAY6, GATEWAY4 = "2001:db8:1::1", "10.99.0.1"
POD_GATEWAY6, POD_GATEWAY4 = "fe80::ecee:eeff:feee:eeee", "169.254.1.1"
VNI, PORT = 4096, 4789
FABRIC_MTU = 1500
POD_MTU = FABRIC_MTU - 70  # the smaller of both tunnels'
TUNNEL6, TUNNEL4 = "vxlan-v6.calico", "vxlan.calico"


@dataclass(frozen=True)
class LabPod:
    """`link`: the host's end of its veth, named as Calico names it."""

    namespace: str
    name: str
    netns: str
    address6: str
    address4: str

    @property
    def link(self) -> str:
        return "cali" + hashlib.sha1(f"{self.namespace}.{self.name}".encode()).hexdigest()[:11]


@dataclass(frozen=True)
class LabNode:
    """`name` is the Kubernetes node's, `netns` the namespace's."""

    name: str
    netns: str
    number: int
    pods: tuple[LabPod, ...]

    @property
    def address6(self) -> str:
        return f"2001:db8:1::{10 + self.number}"

    @property
    def address4(self) -> str:
        return f"10.99.0.{10 + self.number}"

    @property
    def block6(self) -> str:
        return f"fd00:10:244:{self.number}::40/122"

    @property
    def block4(self) -> str:
        return f"10.244.{self.number}.64/26"

    @property
    def tunnel6(self) -> str:
        return f"fd00:10:244:{self.number}::40"

    @property
    def tunnel4(self) -> str:
        return f"10.244.{self.number}.64"

    @property
    def mac6(self) -> str:
        return _tunnel_mac(self.name + "-v6")

    @property
    def mac4(self) -> str:
        return _tunnel_mac(self.name)


def _tunnel_mac(text: str) -> str:
    return (b"f" + hashlib.sha1(text.encode()).digest()[:5]).hex(":")
