"""Single faults of the lab's cluster, each with its undoing: what Lab.fault applies, by name.

`state` faults change what a kernel object of the node or of its first pod says; `path` faults are seen by probes alone.
A fault acts on one node; "the peer" is the first of its peers, "the pod" its first pod. Only IPv6 is touched unless the
name says otherwise.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from tests.kernel import calico_network as network
from tests.kernel import namespaces
from tests.kernel.calico_nodes import FABRIC_MTU, POD_MTU

if TYPE_CHECKING:
    from tests.kernel.calico import Lab
    from tests.kernel.calico_nodes import LabNode

Act = Callable[["Lab", "LabNode"], None]

POOL = "fd00:10:244::/48"
MASQ_SET = "cali60masq-ipam-pools"
SMALL_MTU = 1400


def _ip(*lines: str) -> Act:
    """`ip` lines in the node's namespace; {lab}, {peer}, {pod} and {node} are put in."""
    return lambda lab, node: namespaces.batch({node.netns: [_fill(line, lab, node) for line in lines]})


def _bridge(*lines: str) -> Act:
    return lambda lab, node: namespaces.batch({node.netns: [_fill(line, lab, node) for line in lines]}, "bridge")


def _pod_ip(*lines: str) -> Act:
    return lambda lab, node: namespaces.batch({node.pods[0].netns: [_fill(line, lab, node) for line in lines]})


def _fill(line: str, lab: Lab, node: LabNode) -> str:
    return line.format(lab=lab, peer=lab.peers(node)[0], other=lab.peers(node)[-1], pod=node.pods[0], node=node)


def _sysctl(path: str, value: int) -> Act:
    return lambda _, node: namespaces.configure({node.netns: {path: value}})


def _pod_sysctl(path: str, value: int) -> Act:
    return lambda _, node: namespaces.configure({node.pods[0].netns: {path: value}})


def _firewall(iptables: tuple[str, ...], nft: tuple[str, ...]) -> Act:
    """Lines for ip6tables in the lab's variant, or for nft, in the node's namespace."""

    def act(lab: Lab, node: LabNode) -> None:
        if lab.backend == "nftables":
            lab.run(node.netns, "nft", "-f", "-", text="\n".join(nft) + "\n")
            return
        tool = "ip6tables-" + lab.backend.removeprefix("iptables-")
        for line in iptables:
            lab.run(node.netns, tool, *(["-w", "30"] if tool.endswith("legacy") else []), "-t", "nat", *line.split())

    return act


def _drop_pool(lab: Lab, node: LabNode) -> None:
    if lab.backend == "nftables":
        lab.run(node.netns, "nft", "delete", "element", "ip6", "calico", MASQ_SET, "{", POOL, "}")
    else:
        lab.run(node.netns, "ipset", "del", MASQ_SET, POOL)


def _write_rules(lab: Lab, node: LabNode) -> None:
    lab.write_rules(node)


def _remake_tunnel(lab: Lab, node: LabNode, **settings: int) -> None:
    """As Felix: on any mismatch delete and make anew."""
    links = namespaces.run("ip", "-n", node.netns, "-br", "link", "show")
    gone = [f"link delete {lab.tunnel6}"] if f"{lab.tunnel6} " in links else []
    namespaces.batch({node.netns: [*gone, *lab.tunnel(node, six=True, **settings)]})
    namespaces.batch({node.netns: lab.tunnel_entries(node)}, "bridge")


def _restore_node(lab: Lab, node: LabNode) -> None:
    namespaces.batch({node.netns: [*network.node_network(node), *network.pod_routes(node)]})
    namespaces.configure({node.netns: network.pod_sysctls(node)})
    _remake_tunnel(lab, node)


def _other_addresses_left(_: Lab, node: LabNode) -> None:
    """The node loses its address; those on links of CNIs and container runtimes stay."""
    links = {"cilium_host": "veth peer name cilium_net", "cni0": "bridge", "docker0": "bridge", "ovn-k8s-mp0": "bridge"}
    lines = [
        line
        for number, (link, kind) in enumerate(links.items())
        for line in (
            f"link add {link} type {kind}",
            f"link set {link} up",
            f"address add fd00:77:{number}::1/64 dev {link} nodad",
        )
    ]
    namespaces.batch({node.netns: [*lines, f"address delete {node.address6}/64 dev eth0"]})


def _restore_beside_the_cnis(lab: Lab, node: LabNode) -> None:
    gone = [f"link delete {link}" for link in ("cilium_host", "cni0", "docker0", "ovn-k8s-mp0")]
    namespaces.batch({node.netns: gone})
    _restore_node(lab, node)


def _restore_pod(lab: Lab, node: LabNode) -> None:
    namespaces.batch({node.pods[0].netns: network.pod_network(node.pods[0])})


def _enable_node(lab: Lab, node: LabNode) -> None:
    namespaces.configure({node.netns: {"net/ipv6/conf/all/disable_ipv6": 0, "net/ipv6/conf/all/forwarding": 1}})
    _restore_node(lab, node)


def _enable_pod(lab: Lab, node: LabNode) -> None:
    namespaces.configure({node.pods[0].netns: {"net/ipv6/conf/all/disable_ipv6": 0}})
    _restore_pod(lab, node)


def _enable_pod_link(lab: Lab, node: LabNode) -> None:
    _pod_sysctl("net/ipv6/conf/eth0/disable_ipv6", 0)(lab, node)
    _restore_pod(lab, node)


def _pod_mtu(mtu: int) -> Act:
    """Both ends of the pod's link."""

    def act(_: Lab, node: LabNode) -> None:
        pod = node.pods[0]
        line = f"link set {{}} mtu {mtu}"
        namespaces.batch({node.netns: [line.format(pod.link)], pod.netns: [line.format("eth0")]})

    return act


def _restore_pod_link(lab: Lab, node: LabNode) -> None:
    _pod_mtu(POD_MTU)(lab, node)
    namespaces.batch({node.netns: network.pod_routes(node)})
    namespaces.configure({node.netns: network.pod_sysctls(node)})
    _restore_pod(lab, node)


def _force_forwarding(value: int) -> Act:
    """On every link of the node but that of the first pod; the kernel has it since Linux 6.17."""

    def act(lab: Lab, node: LabNode) -> None:
        links = ("eth0", lab.tunnel6, *(pod.link for pod in node.pods[1:]))
        paths = {f"net/ipv6/conf/{link}/force_forwarding": value for link in links}
        known = lab.run(node.netns, "ls", "/proc/sys/net/ipv6/conf/eth0")
        settings: dict[str, object] = {"net/ipv6/conf/all/forwarding": 1 - value}
        namespaces.configure({node.netns: settings | (paths if "force_forwarding" in known else {})})

    return act


def _too_big_dropped(lab: Lab, node: LabNode) -> None:
    """A pod with a larger MTU than its tunnel, which never learns of it."""
    _pod_mtu(FABRIC_MTU)(lab, node)
    rule = "icmpv6 type packet-too-big drop"
    table = f"table ip6 lab {{ chain fault {{ type filter hook input priority 0;\n{rule}\n}}\n}}\n"
    _nft(lab, node.pods[0].netns, table)


def _too_big_heard(lab: Lab, node: LabNode) -> None:
    _nft(lab, node.pods[0].netns, "delete table ip6 lab\n")
    _pod_mtu(POD_MTU)(lab, node)


def _fabric_mtu(mtu: int) -> Act:
    """The switch's ports: it drops what is larger, without a word."""
    return lambda lab, _: namespaces.batch({lab.fabric: [f"link set to-{n.name} mtu {mtu}" for n in lab.nodes]})


def _gateway_filter(*rules: str, hook: str = "forward") -> Act:
    text = f"table ip6 lab {{ chain fault {{ type filter hook {hook} priority 0;\n" + "\n".join(rules) + "\n}\n}\n"
    return lambda lab, _: _nft(lab, lab.gateway, text)


def _nft(lab: Lab, namespace: str, text: str) -> None:
    lab.run(namespace, "nft", "-f", "-", text=text)


def _open_gateway(lab: Lab, _: LabNode) -> None:
    _nft(lab, lab.gateway, "add table ip6 lab\ndelete table ip6 lab\n")


def _outside_blackhole(lab: Lab, node: LabNode) -> None:
    namespaces.batch({lab.gateway: [f"link set eth1 mtu {SMALL_MTU}"]})
    _gateway_filter("icmpv6 type packet-too-big drop", hook="output")(lab, node)


def _outside_open(lab: Lab, node: LabNode) -> None:
    namespaces.batch({lab.gateway: ["link set eth1 mtu 1500"]})
    _open_gateway(lab, node)


def _tunnel_drops_tcp(lab: Lab, node: LabNode) -> None:
    rule = f'iifname "{lab.tunnel6}" meta l4proto tcp drop'
    _nft(
        lab, node.netns, f"table ip6 lab {{ chain fault {{ type filter hook prerouting priority -300;\n{rule}\n}}\n}}\n"
    )


def _tunnel_open(lab: Lab, node: LabNode) -> None:
    _nft(lab, node.netns, "delete table ip6 lab\n")


_MESH = """table ip6 nat {
    chain ISTIO_REDIRECT { meta l4proto tcp counter redirect to :15001; }
    chain ISTIO_OUTPUT { meta skuid 1337 return; jump ISTIO_REDIRECT; }
    chain OUTPUT { type nat hook output priority -100; meta l4proto tcp jump ISTIO_OUTPUT; }
}
"""

STATE_FAULTS: dict[str, tuple[Act, Act]] = {
    "masquerade_rule_removed": (
        _firewall(("-F cali-nat-outgoing",), ("flush chain ip6 calico nat-cali-nat-outgoing",)),
        _write_rules,
    ),
    "masquerade_chain_removed": (
        _firewall(
            ("-F cali-POSTROUTING", "-F cali-nat-outgoing", "-X cali-nat-outgoing"),
            ("flush chain ip6 calico nat-cali-POSTROUTING", "delete chain ip6 calico nat-cali-nat-outgoing"),
        ),
        _write_rules,
    ),
    "chain_unhooked": (
        _firewall(
            ("-D POSTROUTING -m comment --comment cali:0i8pjzKKPyA34aQD -j cali-POSTROUTING",),
            ("flush chain ip6 calico nat-POSTROUTING",),
        ),
        _write_rules,
    ),
    "pool_not_in_set": (_drop_pool, _write_rules),
    "services_removed": (
        _firewall(("-F PREROUTING", "-F OUTPUT", "-F KUBE-SERVICES"), ("delete table ip6 kube-proxy",)),
        _write_rules,
    ),
    "vxlan_deleted": (_ip("link delete {lab.tunnel6}"), _remake_tunnel),
    "vxlan_down": (_ip("link set {lab.tunnel6} down"), _remake_tunnel),
    "vxlan_wrong_vni": (lambda lab, node: _remake_tunnel(lab, node, vni=4097), _remake_tunnel),
    "vxlan_mtu_small": (_ip("link set {lab.tunnel6} mtu 1280"), _ip("link set {lab.tunnel6} mtu 1430")),
    "vxlan_mtu_below_minimum": (_ip("link set {lab.tunnel6} mtu 1200"), _remake_tunnel),
    "vxlan_address_removed": (
        _ip("address delete {node.tunnel6}/128 dev {lab.tunnel6}"),
        _ip("address replace {node.tunnel6}/128 dev {lab.tunnel6} nodad"),
    ),
    "route_to_peer_direct": (
        _ip(
            "route delete {peer.block6} dev {lab.tunnel6}",
            "route add {peer.block6} via {peer.address6} dev eth0 proto 80 onlink metric 1024",
        ),
        _ip(
            "route delete {peer.block6} dev eth0",
            "route replace {peer.block6} via {peer.tunnel6} dev {lab.tunnel6} onlink metric 1024",
        ),
    ),
    "route_to_peer_removed": (
        _ip("route delete {peer.block6} dev {lab.tunnel6}"),
        _ip("route replace {peer.block6} via {peer.tunnel6} dev {lab.tunnel6} onlink metric 1024"),
    ),
    "neighbour_of_peer_removed": (
        _ip("neigh delete {peer.tunnel6} dev {lab.tunnel6}"),
        _ip("neigh replace {peer.tunnel6} lladdr {peer.mac6} dev {lab.tunnel6} nud permanent"),
    ),
    "wrong_mac_of_peer": (
        _ip("neigh replace {peer.tunnel6} lladdr 66:00:00:00:00:01 dev {lab.tunnel6} nud permanent"),
        _ip("neigh replace {peer.tunnel6} lladdr {peer.mac6} dev {lab.tunnel6} nud permanent"),
    ),
    "fdb_of_peer_removed": (
        _bridge("fdb delete {peer.mac6} dev {lab.tunnel6} dst {peer.address6} self"),
        _bridge("fdb replace {peer.mac6} dev {lab.tunnel6} dst {peer.address6} self permanent"),
    ),
    "wrong_destination_of_peer": (
        _bridge("fdb replace {peer.mac6} dev {lab.tunnel6} dst {other.address6} self permanent"),
        _bridge("fdb replace {peer.mac6} dev {lab.tunnel6} dst {peer.address6} self permanent"),
    ),
    "pod_address_removed": (_pod_ip("address delete {pod.address6}/128 dev eth0"), _restore_pod),
    "pod_default_route_removed": (_pod_ip("route delete default via fe80::ecee:eeff:feee:eeee dev eth0"), _restore_pod),
    "pod_ipv6_disabled": (_pod_sysctl("net/ipv6/conf/all/disable_ipv6", 1), _enable_pod),
    "pod_link_ipv6_disabled": (
        _pod_sysctl("net/ipv6/conf/eth0/disable_ipv6", 1),
        _enable_pod_link,
    ),
    "pod_mtu_below_minimum": (_pod_mtu(1200), _restore_pod_link),
    "pod_mtu_above_tunnel": (_pod_mtu(FABRIC_MTU), _pod_mtu(POD_MTU)),
    "pod_mtu_above_tunnel_unknown_to_it": (_too_big_dropped, _too_big_heard),
    "pod_route_removed": (
        _ip("route delete {pod.address6}/128 dev {pod.link}"),
        _ip("route replace {pod.address6}/128 dev {pod.link} metric 1024"),
    ),
    "pod_intercepted": (
        lambda lab, node: _nft(lab, node.pods[0].netns, _MESH),
        lambda lab, node: _nft(lab, node.pods[0].netns, "delete table ip6 nat\n"),
    ),
    "forwarding_forced_in_part": (_force_forwarding(1), _force_forwarding(0)),
    "forwarding_off": (_sysctl("net/ipv6/conf/all/forwarding", 0), _sysctl("net/ipv6/conf/all/forwarding", 1)),
    "default_route_removed": (
        _ip("route delete default via 2001:db8:1::1 dev eth0"),
        _ip("route replace default via 2001:db8:1::1 dev eth0"),
    ),
    "node_address_removed": (_ip("address delete {node.address6}/64 dev eth0"), _restore_node),
    "node_address_removed_beside_the_cnis": (_other_addresses_left, _restore_beside_the_cnis),
    "node_ipv6_disabled": (_sysctl("net/ipv6/conf/all/disable_ipv6", 1), _enable_node),
}

PATH_FAULTS: dict[str, tuple[Act, Act]] = {
    "fabric_mtu": (_fabric_mtu(SMALL_MTU), _fabric_mtu(1500)),  # IPv4 suffers as well
    "outside_tcp6_blocked": (_gateway_filter("meta l4proto tcp drop"), _open_gateway),
    "outside_ipv6_blocked": (_gateway_filter("drop"), _open_gateway),
    "outside_mtu_blackhole": (_outside_blackhole, _outside_open),
    "tunnel_tcp6_dropped": (_tunnel_drops_tcp, _tunnel_open),  # towards this node
}

FAULTS = STATE_FAULTS | PATH_FAULTS
