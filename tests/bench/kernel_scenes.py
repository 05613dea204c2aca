"""Big states of a node for benchmarks: tables of 50,000 rules, 5,000 tunnel peers, hundreds of pods. Made in
namespaces, as root.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv6Address

from tests.kernel.namespaces import batch, create, delete, unique_prefix

PEERS = 5_000
PODS = 250
TUNNEL = "vxlan-v6.calico"


@contextmanager
def namespace() -> Iterator[str]:
    name = unique_prefix() + "bench"
    create([name])
    try:
        yield name
    finally:
        delete([name])


def kube_rules(rules: int) -> str:
    """Table nat as kube-proxy fills it (five rules and three chains a Service), with Calico's chains hooked behind
    it.
    """
    services = rules // 5
    lines = [
        "*nat",
        ":KUBE-SERVICES - [0:0]",
        ":KUBE-MARK-MASQ - [0:0]",
        ":cali-POSTROUTING - [0:0]",
        ":cali-nat-outgoing - [0:0]",
    ]
    body = ["-A PREROUTING -j KUBE-SERVICES", "-A OUTPUT -j KUBE-SERVICES", "-A POSTROUTING -j cali-POSTROUTING"]
    body += ["-A cali-POSTROUTING -j cali-nat-outgoing", "-A cali-nat-outgoing -s fd00:10:244::/48 -j MASQUERADE"]
    for i in range(services):
        service, endpoint = f"KUBE-SVC-{i:016X}", f"KUBE-SEP-{i:016X}"
        address = f"fd00:96::{i:x}/128"
        lines += [f":{service} - [0:0]", f":{endpoint} - [0:0]"]
        body += [
            f"-A KUBE-SERVICES -d {address} -p tcp -m tcp --dport 80 -j {service}",
            f"-A {service} ! -s fd00:10:244::/48 -d {address} -p tcp -m tcp --dport 80 -j KUBE-MARK-MASQ",
            f'-A {service} -m comment --comment "default/s{i}:http" -j {endpoint}',
            f"-A {endpoint} -s fd00:10:244::{i % 60000 + 1:x}/128 -j KUBE-MARK-MASQ",
            f"-A {endpoint} -p tcp -m tcp -j DNAT --to-destination [fd00:10:244::{i % 60000 + 1:x}]:8080",
        ]
    return "\n".join([*lines, *body, "COMMIT", ""])


def make_peers(name: str, peers: int = PEERS) -> None:
    """Peers on one tunnel device: a neighbour, a route and a forwarding entry each."""
    lines = [
        "link add eth0 type veth peer name other",
        "link set eth0 up",
        "address add 2001:db8:1::1/64 dev eth0 nodad",
        f"link add {TUNNEL} type vxlan id 4096 dstport 4789 local 2001:db8:1::1 dev eth0 nolearning",
        f"link set {TUNNEL} up",
    ]
    entries = []
    base = int(IPv6Address("fd00:10:244::"))
    for i in range(peers):
        tunnel = IPv6Address(base + ((i + 1) << 16))
        mac = (0x66 << 40 | i).to_bytes(6, "big").hex(":")
        lines.append(f"neigh add {tunnel} lladdr {mac} dev {TUNNEL} nud permanent")
        lines.append(f"route add {tunnel}/122 via {tunnel} dev {TUNNEL} onlink")
        entries.append(f"fdb add {mac} dev {TUNNEL} dst 2001:db8:2::{i:x} self permanent")
    batch({name: lines})
    batch({name: entries}, "bridge")


def make_pods(prefix: str, pods: int = PODS) -> list[str]:
    names = [f"{prefix}pod-{i}" for i in range(pods)]
    hub = prefix + "hub"
    create([hub, *names])
    batch({"": [f"link add cali{i} netns {hub} type veth peer name eth0 netns {name}" for i, name in enumerate(names)]})
    batch({hub: ["link set lo up", *(f"link set cali{i} up" for i in range(pods))]})
    for start in range(0, pods, 50):
        batch({name: pod_lines(start + i) for i, name in enumerate(names[start : start + 50])})
    return [hub, *names]


def pod_lines(number: int) -> list[str]:
    return [
        "link set lo up",
        "link set eth0 up",
        f"address add fd00:10:244::{number + 1:x}/128 dev eth0 nodad",
        f"address add 10.244.1.{number + 1}/32 dev eth0",
        "route add 169.254.1.1 dev eth0 scope link",
        "route add default via 169.254.1.1 dev eth0",
        "route add default via fe80::ecee:eeff:feee:eeee dev eth0",
    ]
