"""What the CNI plugin and Felix configure on links, as lines for `ip -batch` and `bridge -batch`. Nothing is run here.

felix/dataplane/linux/{vxlan_mgr,route_mgr,endpoint_mgr}.go, cni-plugin/pkg/dataplane/linux/dataplane_linux.go.
"""

from __future__ import annotations

from collections.abc import Sequence

from tests.kernel.calico_nodes import (
    FABRIC_MTU,
    GATEWAY4,
    GATEWAY6,
    OUTSIDE4,
    OUTSIDE6,
    POD_GATEWAY4,
    POD_GATEWAY6,
    PORT,
    TUNNEL4,
    TUNNEL6,
    VNI,
    LabNode,
    LabPod,
)


def fabric_network(nodes: Sequence[LabNode]) -> list[str]:
    ports = [f"to-{node.name}" for node in nodes] + ["to-gateway"]
    return [
        f"link add br0 mtu {FABRIC_MTU} type bridge",
        *(f"link set {port} master br0 up" for port in ports),
        "link set br0 up",
    ]


def gateway_network() -> list[str]:
    return [
        "link set lo up",
        "link set eth0 up",
        "link set eth1 up",
        f"address add {GATEWAY6}/64 dev eth0 nodad",
        f"address add {GATEWAY4}/24 dev eth0",
        "address add 2001:db8:ffff::1/64 dev eth1 nodad",
        "address add 198.51.100.1/24 dev eth1",
    ]


def outside_network() -> list[str]:
    return [
        "link set lo up",
        "link set eth0 up",
        f"address add {OUTSIDE6}/64 dev eth0 nodad",
        f"address add {OUTSIDE4}/24 dev eth0",
        "route add default via 2001:db8:ffff::1",
        "route add default via 198.51.100.1",
    ]


def node_network(node: LabNode) -> list[str]:
    return [
        "link set lo up",
        "link set eth0 up",
        f"address replace {node.address6}/64 dev eth0 nodad",
        f"address replace {node.address4}/24 dev eth0",
        *default_routes(),
        f"route replace blackhole {node.block6} dev lo proto 80 metric 1024",
        f"route replace blackhole {node.block4} proto 80",
    ]


def default_routes() -> list[str]:
    return [f"route replace default via {GATEWAY6} dev eth0", f"route replace default via {GATEWAY4} dev eth0"]


def pod_routes(node: LabNode) -> list[str]:
    lines = []
    for pod in node.pods:
        lines += [
            f"link set {pod.link} up",
            f"route replace {pod.address6}/128 dev {pod.link} metric 1024",
            f"route replace {pod.address4}/32 dev {pod.link} scope link",
        ]
    return lines


def pod_sysctls(node: LabNode) -> dict[str, object]:
    settings: dict[str, object] = {}
    for pod in node.pods:
        six, four = f"net/ipv6/conf/{pod.link}", f"net/ipv4/conf/{pod.link}"
        settings |= {f"{six}/proxy_ndp": 1, f"{six}/forwarding": 1, f"{six}/accept_ra": 0, f"{six}/accept_dad": 0}
        settings |= {f"{four}/proxy_arp": 1, f"{four}/forwarding": 1, f"{four}/route_localnet": 1}
        settings[f"net/ipv4/neigh/{pod.link}/proxy_delay"] = 0
    return settings


def pod_network(pod: LabPod) -> list[str]:
    return [
        "link set lo up",
        "link set eth0 up",
        f"address replace {pod.address6}/128 dev eth0 nodad",
        f"address replace {pod.address4}/32 dev eth0",
        f"route replace {POD_GATEWAY4} dev eth0 scope link",
        f"route replace default via {POD_GATEWAY4} dev eth0",
        f"route replace default via {POD_GATEWAY6} dev eth0 metric 1024",
    ]


def tunnel(
    node: LabNode, peers: Sequence[LabNode], *, six: bool, cross_subnet: bool, vni: int = VNI, mtu: int = 0
) -> list[str]:
    """The device, its address, and per peer the neighbour and the routes to its block."""
    device = TUNNEL6 if six else TUNNEL4
    own, address, mac = (node.address6, node.tunnel6, node.mac6) if six else (node.address4, node.tunnel4, node.mac4)
    lines = [
        (
            f"link add {device} address {mac} mtu {mtu or FABRIC_MTU - (70 if six else 50)} type vxlan id {vni} "
            f"dstport {PORT} local {own} dev eth0 nolearning"
        ),
        f"address replace {address}/{128 if six else 32} dev {device}" + (" nodad" if six else ""),
        f"link set {device} up",
    ]
    for peer in peers:
        lines += _tunnel_peer(peer, six=six, cross_subnet=cross_subnet)
    return lines


def _tunnel_peer(peer: LabNode, *, six: bool, cross_subnet: bool) -> list[str]:
    device = TUNNEL6 if six else TUNNEL4
    tunnel, mac, block = (peer.tunnel6, peer.mac6, peer.block6) if six else (peer.tunnel4, peer.mac4, peer.block4)
    metric = "metric 1024" if six else ""
    if cross_subnet:
        direct = peer.address6 if six else peer.address4
        route = f"route replace {block} via {direct} dev eth0 onlink proto 80 {metric}"
    else:
        route = f"route replace {block} via {tunnel} dev {device} onlink {metric}"
    return [f"neigh replace {tunnel} lladdr {mac} dev {device} nud permanent", route]


def tunnel_entries(peers: Sequence[LabNode]) -> list[str]:
    """Forwarding entries of both devices, for `bridge -batch`."""
    lines = []
    for peer in peers:
        lines.append(f"fdb replace {peer.mac6} dev {TUNNEL6} dst {peer.address6} self permanent")
        lines.append(f"fdb replace {peer.mac4} dev {TUNNEL4} dst {peer.address4} self permanent")
    return lines
