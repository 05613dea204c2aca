"""Rows of the matrix: BGP over IPv6 between nodes, on the lab whose routes are BIRD's."""

from __future__ import annotations

from tests.lab import edits
from tests.lab.bgp import BgpLab
from tests.lab.cluster import Cluster
from tests.lab.fault import BGP, Act, Fault, Scope, by, warning


def _lab(cluster: Cluster) -> BgpLab:
    assert isinstance(cluster.lab, BgpLab)
    return cluster.lab


def _session_blocked(cluster: Cluster) -> None:
    """A firewall on this node drops BGP over IPv6 with the second node, in both directions."""
    lab, here, peer = _lab(cluster), cluster.node, cluster.lab.nodes[1]
    rules = "".join(
        f"chain {hook} {{ type filter hook {hook} priority -200; ip6 {end} {peer.address6} tcp {side} 179 drop; "
        f"ip6 {end} {peer.address6} tcp {other} 179 drop; }}\n"
        for hook, end, side, other in (("input", "saddr", "dport", "sport"), ("output", "daddr", "dport", "sport"))
    )

    def act() -> None:
        lab.run(here.netns, "nft", "-f", "-", text=f"table ip6 labbgp {{\n{rules}}}\n")
        lab.wait_for_routes(here, without=peer)

    def undo() -> None:
        lab.run(here.netns, "nft", "delete", "table", "ip6", "labbgp")
        lab.wait_for_routes(here)

    cluster.apply(act, undo)


def _not_announced(cluster: Cluster) -> None:
    """The second node's BIRD announces nothing over IPv6, by a filter; its sessions stand."""
    lab, here, peer = _lab(cluster), cluster.node, cluster.lab.nodes[1]

    def act() -> None:
        lab.configure_bird(peer, export6=False)
        lab.wait_for_routes(here, without=peer)

    def undo() -> None:
        lab.configure_bird(peer, export6=True)
        lab.wait_for_routes(here)

    cluster.apply(act, undo)


def _mesh_off(cluster: Cluster) -> None:
    """The mesh is off and no BGPPeer is there: BIRD has no peers."""
    cluster.change(edits.spec("BGPConfiguration", "default", nodeToNodeMeshEnabled=False))
    _not_announced(cluster)


def _row(name: str, says: str, act: Act, cause: str, *explained: str) -> Fault:
    return Fault(name, Scope.NODE, says, act, warning(cause), by(cause, *explained), ipv6=False, backends=(BGP,))


BGP_FAULTS = (
    _row("bgp_session_blocked", "a firewall drops BGP over IPv6 with one peer", _session_blocked,
         "bgp_session_down", "bgp_route_missing", "ipv6_unreachable", "dns_unreachable"),
    _row("bgp_route_not_announced", "a peer announces no IPv6 routes", _not_announced,
         "bgp_route_missing", "ipv6_unreachable", "dns_unreachable"),
    _row("bgp_mesh_off", "the node-to-node mesh is off, and a peer's routes are gone", _mesh_off,
         "bgp_route_missing", "ipv6_unreachable", "dns_unreachable"),
)  # fmt: skip
