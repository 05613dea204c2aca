"""Compares a tunnel device with what it should have for each peer, for the tunnel rules and the peers' metric. Pure.

Felix (felix/dataplane/linux/vxlan_mgr.go) and flannel (pkg/backend/vxlan/vxlan_network.go) write three things per
remote node: a route per block or podCIDR through the peer's tunnel address, a permanent neighbour from that address to
the peer's MAC, and a forwarding entry from that MAC to the peer's node address. Without an inventory
kernel/decode/tunnel_peers.py compares the device with itself.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from exporter.diagnosis.host_links import RouteTable, described
from exporter.kernel.decode.tunnel_peers import PeerFinding, compare_with_itself, is_host
from exporter.kernel.decode.vxlan import tunnel_family
from exporter.model.cluster.calico import IPPool, VxlanMode
from exporter.model.cluster.inventory import Inventory
from exporter.model.cluster.node import Node
from exporter.model.facts import PeerState, RouteFact, VxlanDevice
from exporter.model.family import Address, Family, Net, contains, family_of
from exporter.model.grouping import grouped

FLANNEL = "flannel"  # how the names of its devices begin


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerExpectation:
    """What one peer's tunnel end looks like, from the inventory. None: not known, so not compared."""

    name: str
    tunnel: Address
    mac: str | None = None
    node: Address | None = None
    blocks: tuple[Net, ...] = ()  # those reached through the tunnel: not CrossSubnet's direct ones
    may_be_direct: bool = False  # flannel with DirectRouting reaches it without the tunnel, by its node address


def tunnel_mac(node: str, family: Family) -> str:
    """The MAC that Felix derives from a node's name: "f" and five bytes of SHA-1."""
    text = node + ("-v6" if family is Family.V6 else "")
    digest = hashlib.sha1(text.encode(), usedforsecurity=False).digest()
    return (b"f" + digest[:5]).hex(":")


def expect_peers(inventory: Inventory, own: str, device: str) -> tuple[PeerExpectation, ...] | None:
    """The peers that this tunnel device of node `own` should know; None where nodes were not read.

    A peer without a tunnel address of the family is left out: that it lacks one is another finding. Callers check
    whether a peer is Ready and how old its objects are.
    """
    family = tunnel_family(device)
    if inventory.nodes is None or family is None:
        return None
    peers = (node for node in inventory.nodes if node.name != own)
    if device.startswith(FLANNEL):
        return tuple(made for peer in peers if (made := _flannel_peer(peer, family)) is not None)
    return tuple(_calico_peers(inventory, own, family, peers))


def _flannel_peer(peer: Node, family: Family) -> PeerExpectation | None:
    """By its annotations and podCIDR: the tunnel address is the network's own (pkg/backend/vxlan/vxlan_network.go)."""
    cidr, flannel = peer.pod_cidr(family), peer.flannel
    if cidr is None or flannel is None or flannel.backend != "vxlan" or family not in flannel.macs:
        return None
    return PeerExpectation(
        name=peer.name,
        tunnel=cidr.network_address,
        mac=flannel.macs[family],
        node=flannel.address(family),
        blocks=(cidr,),
        may_be_direct=True,
    )


def _calico_peers(inventory: Inventory, own: str, family: Family, peers: Iterable[Node]) -> Iterator[PeerExpectation]:
    """By Node annotations and confirmed blocks."""
    here = inventory.node(own)
    mine = here.calico_address(family) if here else None
    confirmed = (b for b in inventory.block_affinities or () if b.confirmed and not b.deleted)
    blocks = grouped((b for b in confirmed if family_of(b.cidr) is family), lambda block: block.node)
    for peer in peers:
        tunnel = peer.tunnel_address(family)
        if tunnel is None:
            continue
        theirs = peer.calico_address(family)
        near = mine is not None and theirs is not None and theirs.ip in mine.network
        held = [block.cidr for block in blocks.get(peer.name, ())]
        yield PeerExpectation(
            name=peer.name,
            tunnel=tunnel,
            mac=peer.tunnel_macs.get(family) or tunnel_mac(peer.name, family),
            node=theirs.ip if theirs else None,
            blocks=tuple(cidr for cidr in held if _is_tunnelled(inventory.pools, cidr, near=near)),
        )


def _is_tunnelled(pools: Sequence[IPPool] | None, block: Net, *, near: bool) -> bool:
    """Whether a block is reached through the tunnel, by its pool's mode; `near`: the peer is in our subnet.

    A block outside every pool, or with pools unread, is expected nowhere.
    """
    mode = next((pool.vxlan_mode for pool in pools or () if contains(pool.cidr, block)), None)
    return mode is VxlanMode.ALWAYS or (mode is VxlanMode.CROSS_SUBNET and not near)


def peer_states(
    device: VxlanDevice, expectations: Sequence[PeerExpectation] | None, routes: Sequence[RouteFact] = ()
) -> tuple[PeerFinding, ...]:
    """The state of each peer of a tunnel device; a flow-based device (eBPF's) has no peers here.

    With `expectations` None the device is compared with itself: what a route leads to needs a neighbour, a neighbour a
    forwarding entry, and each peer a route (its own tunnel address comes from one of its blocks). `routes`: the host's
    other routes, which include CrossSubnet's direct ones.
    """
    if device.flow_based:
        return ()
    if expectations is None:
        return tuple(compare_with_itself(device, routes))
    neighbours = {n.address: n.mac for n in device.neighbours}
    over = {(r.destination, r.gateway) for r in device.routes if r.type == "unicast"}
    beside = {(r.destination, r.gateway) for r in routes} if any(e.may_be_direct for e in expectations) else set()
    stands = lru_cache(maxsize=1)(lambda: RouteTable((*routes, *device.routes)))  # needed where a route is missing
    return tuple(
        PeerFinding(expected.name, PeerState.COMPLETE)
        if expected.may_be_direct and all((block, expected.node) in beside for block in expected.blocks)
        else _compare(device, neighbours, over, stands, expected)
        for expected in expectations
    )


def _compare(
    device: VxlanDevice,
    neighbours: Mapping[Address, str],
    over: set[tuple[Net, Address | None]],
    stands: Callable[[], RouteTable],
    peer: PeerExpectation,
) -> PeerFinding:
    missing = [b for b in peer.blocks if (b, peer.tunnel) not in over and not (is_host(b) and (b, None) in over)]
    if missing:
        instead = described(stands().match(missing[0].network_address))
        return PeerFinding(
            peer.name, PeerState.MISSING_ROUTE, f"no route to {missing[0]} via {peer.tunnel}; instead {instead}"
        )
    mac = neighbours.get(peer.tunnel)
    if mac is None:
        return PeerFinding(peer.name, PeerState.MISSING_NEIGHBOR, f"no neighbour {peer.tunnel}")
    if peer.mac is not None and mac != peer.mac:
        return PeerFinding(peer.name, PeerState.WRONG_MAC, f"neighbour {peer.tunnel} has {mac}, not {peer.mac}")
    destination = device.fdb.get(mac)
    if destination is None:
        return PeerFinding(peer.name, PeerState.MISSING_FDB, f"no forwarding entry for {mac}")
    if peer.node is not None and destination != peer.node:
        return PeerFinding(peer.name, PeerState.WRONG_DESTINATION, f"{mac} leads to {destination}, not {peer.node}")
    return PeerFinding(peer.name, PeerState.COMPLETE)
