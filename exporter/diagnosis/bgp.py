"""The BGP sessions over IPv6 that a node should have, and the blocks that need routes, by Calico's objects. Pure.

For the rules of rules/node/bgp.py and the metric of peers. Calico renders BIRD's configuration by the same objects
(confd/pkg/backends/calico/bgp_processor.go has the mesh, client.go the BGPPeers).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from exporter.diagnosis.engine.preconditions import lacking, unread
from exporter.diagnosis.network import pod_network
from exporter.model.cluster.calico import BGP_PORT, BGPConfiguration, BGPPeer, BlockAffinity, IPPool, VxlanMode
from exporter.model.cluster.inventory import Inventory, ResourceKind
from exporter.model.cluster.node import Node
from exporter.model.cni.network import PodNetwork
from exporter.model.cni.profile import Cni, Effect
from exporter.model.family import Address, Family, contains, family_of
from exporter.model.reason import Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class BgpSession:
    """One session that a node should have. `node` is the other end; None: a router outside the cluster."""

    name: str  # the node's, or the BGPPeer's
    address: Address
    because: str
    node: Node | None = None
    filtered: bool = False  # BGPFilters decide about its routes


@dataclass(frozen=True, slots=True, kw_only=True)
class BgpPlan:
    """What a node's BGP over IPv6 should be."""

    sessions: tuple[BgpSession, ...]
    pools: tuple[IPPool, ...]  # whose blocks are reached without a tunnel, at least within a subnet


def speaks_bgp(network: PodNetwork) -> bool:
    """Whether Calico's nodes run BIRD: its backend is `bird`."""
    state = network.switch(Effect.BGP) if network.cni is Cni.CALICO else None
    return state is not None and state.on is True


def may_speak_bgp(inventory: Inventory) -> bool:
    """Whether the kernel has to be asked for BGP connections."""
    return bool(_pools(inventory)) and speaks_bgp(pod_network(inventory))


def bgp_plan(inventory: Inventory, network: PodNetwork, name: str) -> BgpPlan | Reason:
    """The plan of this node; a Reason where it is unknown, or the node does not speak BGP over IPv6."""
    reason = lacking(inventory, ResourceKind.NODES, ResourceKind.IP_POOLS)
    if reason is not None:
        return reason
    own, pools = inventory.node(name), _pools(inventory)
    if not speaks_bgp(network) or own is None or own.calico_address(Family.V6) is None or not pools:
        return Reason.NOT_APPLICABLE
    for kind, read in ((ResourceKind.BGP_CONFIGURATIONS, inventory.bgp), (ResourceKind.BGP_PEERS, inventory.bgp_peers)):
        if read is None and unread(inventory, kind) is not Reason.NOT_APPLICABLE:
            return unread(inventory, kind)
    settings = {each.name: each for each in inventory.bgp or ()}
    default = settings.get("default", BGPConfiguration(name="default"))
    if any(each.port != BGP_PORT for each in (default, settings.get(f"node.{name}", default))):
        return Reason.NOT_APPLICABLE
    found: dict[Address, BgpSession] = {}
    for session in (*_configured(inventory, own), *(_mesh(inventory, own) if default.mesh else ())):
        found.setdefault(session.address, session)
    return BgpPlan(sessions=tuple(found.values()), pools=pools)


def _pools(inventory: Inventory) -> tuple[IPPool, ...]:
    """The IPv6 pools whose blocks are announced and not always reached through the tunnel."""
    usual = (pool for pool in inventory.enabled_pools(Family.V6) if pool.is_for_workloads and pool.exported)
    return tuple(pool for pool in usual if pool.vxlan_mode is not VxlanMode.ALWAYS)


def routed_blocks(plan: BgpPlan, inventory: Inventory, own: Node, peer: Node) -> Iterator[BlockAffinity]:
    """The blocks of a peer to which the node needs a route that leads through no tunnel."""
    mine, theirs = own.calico_address(Family.V6), peer.calico_address(Family.V6)
    near = mine is not None and theirs is not None and theirs.ip in mine.network
    for block in inventory.block_affinities or ():
        if block.node != peer.name or not block.confirmed or block.deleted or family_of(block.cidr) is not Family.V6:
            continue
        pool = next((each for each in plan.pools if contains(each.cidr, block.cidr)), None)
        if pool is not None and (pool.vxlan_mode is VxlanMode.NEVER or near):
            yield block


def _mesh(inventory: Inventory, own: Node) -> Iterator[BgpSession]:
    """The node-to-node mesh, of which route reflectors are no part."""
    if own.route_reflector:
        return
    for peer in inventory.nodes or ():
        if not peer.route_reflector:
            yield from _with_node(own, peer, "node-to-node mesh")


def _configured(inventory: Inventory, own: Node) -> Iterator[BgpSession]:
    """The sessions of BGPPeers, which both ends have where both are nodes."""
    nodes = {node.name: node for node in inventory.nodes or ()}
    for peer in inventory.bgp_peers or ():
        chosen = peer.nodes is None or own.name in peer.nodes
        if peer.workloads or peer.port != BGP_PORT:
            continue
        others = peer.peers if chosen else frozenset()
        if own.name in peer.peers:
            others |= nodes.keys() if peer.nodes is None else peer.nodes
        for name in sorted(others & nodes.keys()):
            yield from _with_node(own, nodes[name], f"BGPPeer {peer.name}", filtered=peer.filtered)
        if chosen and not peer.peers and peer.address is not None:
            yield from _with_address(own, peer, peer.address, nodes.values())


def _with_node(own: Node, peer: Node, because: str, *, filtered: bool = False) -> Iterator[BgpSession]:
    here, there = own.calico_address(Family.V6), peer.calico_address(Family.V6)
    if there is not None and here is not None and there.ip != here.ip:
        yield BgpSession(name=peer.name, address=there.ip, because=because, node=peer, filtered=filtered)


def _with_address(own: Node, peer: BGPPeer, address: Address, nodes: Iterable[Node]) -> Iterator[BgpSession]:
    """A BGPPeer by its address, which may be a node's. One of IPv4 is no session over IPv6."""
    known = ((node, node.calico_address(Family.V6)) for node in nodes)
    node = next((node for node, at in known if at is not None and at.ip == address), None)
    if node is not None:
        yield from _with_node(own, node, f"BGPPeer {peer.name}", filtered=peer.filtered)
    elif address.version == 6:
        yield BgpSession(name=peer.name, address=address, because=f"BGPPeer {peer.name}", filtered=peer.filtered)
