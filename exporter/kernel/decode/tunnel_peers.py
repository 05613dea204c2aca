"""A tunnel device compared with itself: its entries for each peer must fit together. Pure.

Felix writes three things per remote node (felix/dataplane/linux/vxlan_mgr.go): a route per block through the peer's
tunnel address, a permanent neighbour from that address to the peer's MAC, and a forwarding entry from that MAC to the
peer's node address. diagnosis/vxlan_peers.py compares the peers with the inventory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from exporter.kernel.decode.vxlan import tunnel_family
from exporter.model.facts import PeerState, RouteFact, VxlanDevice
from exporter.model.family import Family, Net, family_of


@dataclass(frozen=True, slots=True)
class PeerFinding:
    """One peer's state, with evidence for people. `name` is the node's, or the tunnel address without an inventory."""

    name: str
    state: PeerState
    detail: str = ""


def incomplete_peers(device: VxlanDevice, routes: Sequence[RouteFact]) -> tuple[PeerFinding, ...]:
    """The peers that are not complete: with thousands of peers naming the others takes its time."""
    return () if device.flow_based else tuple(compare_with_itself(device, routes, complete=False))


def compare_with_itself(
    device: VxlanDevice, routes: Sequence[RouteFact], *, complete: bool = True
) -> Iterator[PeerFinding]:
    neighbours = {n.address: n.mac for n in device.neighbours}
    gateways = {r.gateway for r in device.routes if r.gateway is not None}
    local = {a.interface.ip for a in device.addresses}
    # A borrowed tunnel address has a route of its own over the device, without a gateway.
    gateways |= {
        r.destination.network_address for r in device.routes if r.gateway is None and is_host(r.destination)
    } - local
    direct = {r.gateway for r in routes if r.gateway is not None and r.type == "unicast"}
    family = tunnel_family(device.name) or Family.V6
    peers = {a for a in (*gateways, *neighbours) if family_of(a) is family and not a.is_link_local}
    orphans = set(device.fdb) - set(neighbours.values())
    for tunnel in sorted(peers, key=int):
        mac = neighbours.get(tunnel)
        destination = device.fdb.get(mac) if mac is not None else None
        if mac is None:
            yield PeerFinding(str(tunnel), PeerState.MISSING_NEIGHBOR, f"no neighbour {tunnel}")
        elif destination is None and orphans:
            detail = f"{mac} has no forwarding entry, {min(orphans)} no neighbour"
            yield PeerFinding(str(tunnel), PeerState.WRONG_MAC, detail)
        elif destination is None:
            yield PeerFinding(str(tunnel), PeerState.MISSING_FDB, f"no forwarding entry for {mac}")
        elif tunnel not in gateways and destination not in direct:
            yield PeerFinding(str(tunnel), PeerState.MISSING_ROUTE, f"no route via {tunnel}")
        elif complete:
            yield PeerFinding(str(tunnel), PeerState.COMPLETE)


def is_host(net: Net) -> bool:
    return net.prefixlen == net.max_prefixlen
