"""Rows of the matrix: what no kernel object of the node shows, and dials alone do. On the way, on another node, at the
target.
"""

from __future__ import annotations

from functools import partial

from tests.kernel.calico_nodes import SERVICE6
from tests.lab import edits
from tests.lab.cluster import Cluster
from tests.lab.fault import DNS_SILENT, UNREACHABLE, Act, Fault, Scope, all_of, by, of_lab, warning
from tests.lab.objects import block, network_policy


def filtered(where: str, family: str, hook: str, *rules: str, priority: int = 0) -> Act:
    """Packet filter rules in a namespace: "node", "gateway", "outside", "peer" (the last one), "resolver", "pod" (the
    first).
    """
    table = f"lab{hook}"

    def act(cluster: Cluster) -> None:
        places = {
            "node": cluster.node.netns,
            "gateway": cluster.lab.gateway,
            "peer": cluster.lab.nodes[-1].netns,
            "resolver": cluster.resolver.netns,
            "outside": cluster.lab.outside,
            "pod": cluster.node.pods[0].netns,
        }
        text = (
            f"table {family} {table} {{\nchain fault {{\ntype filter hook {hook} priority {priority};\n"
            + "\n".join(rules)
            + "\n}\n}\n"
        )
        nft = partial(cluster.lab.run, places[where], "nft", "-f", "-")
        cluster.apply(lambda: nft(text=text), lambda: nft(text=f"delete table {family} {table}\n"))

    return act


SERVICE_REJECTED = all_of(  # as kube-proxy does where it knows no endpoint
    *(filtered("node", "ip6", hook, f"ip6 daddr {SERVICE6} reject", priority=-300) for hook in ("output", "prerouting"))
)


def _on_peer(name: str) -> Act:
    """A fault of the kernel lab on the node where the cluster's DNS runs."""
    return lambda cluster: cluster.lab.fault(name, cluster.lab.nodes[1])


def _wrong_certificate(cluster: Cluster) -> None:
    cluster.certify_ipv6("somebody-else.test")


def _without_ipv6_listener(cluster: Cluster) -> None:
    cluster.serve(cluster.lab.outside, *(place for place in cluster.usual(cluster.lab.outside) if "/4" in place))


# Everything to the node's own addresses but what it tunnels for its pods: the node is up, and answers nobody.
DEAF = ("udp dport 4789 accept", "meta l4proto { tcp, udp, icmp, ipv6-icmp } drop")
PEER_DEAF = filtered("peer", "inet", "input", *DEAF)
IPV4_ONLY_EGRESS = network_policy("egress-ipv4", {"policyTypes": ["Egress"], "egress": [{"to": [block("0.0.0.0/0")]}]})

PATH_FAULTS: tuple[Fault, ...] = (
    Fault(
        "outside_tcp6_blocked", Scope.PATH, "a firewall drops TCP over IPv6 to the outside; ICMPv6 passes",
        of_lab("outside_tcp6_blocked"), warning("ipv6_tcp_blocked"), ipv6=False, detect=2, apart=True,
    ),
    Fault(
        "outside_ipv6_blocked", Scope.PATH, "a firewall drops all IPv6 to the outside",
        of_lab("outside_ipv6_blocked"), warning(UNREACHABLE), ipv6=False, detect=2,
    ),
    Fault(
        "outside_tcp6_prohibited", Scope.PATH,
        "a firewall rejects TCP over IPv6 to the outside (administratively prohibited)",
        filtered("gateway", "ip6", "forward", "meta l4proto tcp reject with icmpv6 type admin-prohibited"),
        warning("ipv6_tcp_blocked"), ipv6=False, detect=2,
    ),
    Fault(
        "outside_mtu_blackhole", Scope.PATH, "full-size packets to the outside vanish, and so does Packet Too Big",
        of_lab("outside_mtu_blackhole"), warning("ipv6_mtu_blackhole"), detect=2,
    ),
    Fault(
        "fabric_mtu", Scope.PATH, "full-size packets between nodes vanish",
        of_lab("fabric_mtu"), warning("ipv6_mtu_blackhole"), detect=2,
    ),
    Fault(
        "tunnel_tcp6_dropped", Scope.PATH, "TCP over IPv6 that comes through the tunnel is dropped; ICMPv6 passes",
        of_lab("tunnel_tcp6_dropped"), warning("ipv6_tcp_blocked"), ipv6=False, detect=2,
    ),
    Fault(
        "one_pod_filtered", Scope.PATH, "one pod's own packet filter drops all IPv6 that it sends",
        filtered("pod", "ip6", "output", "icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept", "drop"),
        warning(UNREACHABLE), by(UNREACHABLE, DNS_SILENT), ipv6=False, detect=2, apart=True,
    ),
    Fault(
        "peer_tunnel_deleted", Scope.PATH, "another node has lost its tunnel: nothing of this node is wrong",
        _on_peer("vxlan_deleted"), warning(UNREACHABLE), by(UNREACHABLE, DNS_SILENT), ipv6=False, detect=2,
    ),
    Fault(
        "peer_deaf", Scope.PATH, "one peer answers over neither family", PEER_DEAF,
        {}, infos=("target_down",), detect=2,
    ),
    Fault(
        "outside_down", Scope.PATH, "the outside host answers nobody", filtered("outside", "inet", "input", "drop"),
        {}, infos=("target_down",), ipv4=False, ipv6=False, detect=2,
    ),
    Fault(
        "tls_wrong_name_over_ipv6", Scope.PATH, "over IPv6 another server answers, with another certificate",
        _wrong_certificate, warning("ipv6_tls_failed"), detect=2,
    ),
    Fault(
        "outside_listens_on_ipv4_alone", Scope.PATH, "the outside server listens on IPv4 alone",
        _without_ipv6_listener, warning("target_refuses_ipv6"), ipv6=False, detect=2,
    ),
    Fault(
        "egress_policy_of_ipv4", Scope.PATH, "an egress policy allows IPv4 alone, and what enforces it drops IPv6",
        all_of(
            lambda cluster: cluster.change(edits.added(IPV4_ONLY_EGRESS)),
            filtered("node", "ip6", "forward", 'iifname "cali*" drop'),
        ),
        {}, infos=("network_policy_ipv6_gap",), ipv6=None,
    ),
)  # fmt: skip
