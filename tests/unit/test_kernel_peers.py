"""States of tunnel peers, from facts and expectations alone."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_interface, ip_network

import pytest

from exporter.diagnosis.vxlan_peers import PeerExpectation, expect_peers, peer_states, tunnel_mac
from exporter.kernel.decode.vxlan import tunnel_family
from exporter.model.cluster.calico import BlockAffinity, IPPool, VxlanMode
from exporter.model.cluster.inventory import NO_INVENTORY, Inventory, InventoryOrigin
from exporter.model.cluster.node import Node
from exporter.model.facts import AddressFact, Neighbour, PeerState, RouteFact, VxlanDevice
from exporter.model.family import Family

BLOCK, OTHER_BLOCK = ip_network("fd00:10:244:2::40/122"), ip_network("fd00:10:244:2::80/122")
TUNNEL, NODE, MAC = ip_address("fd00:10:244:2::40"), ip_address("2001:db8:1::12"), "66:00:00:00:00:02"
PEER = PeerExpectation(name="b", tunnel=TUNNEL, mac=MAC, node=NODE, blocks=(BLOCK,))
DEVICE = VxlanDevice(
    name="vxlan-v6.calico",
    up=True,
    lower_up=True,
    mtu=1430,
    addresses=(AddressFact(link="vxlan-v6.calico", interface=ip_interface("fd00:10:244:1::40/128"), scope="global"),),
    routes=(
        RouteFact(destination=ip_network("fd00:10:244:1::40/128"), link="vxlan-v6.calico"),
        RouteFact(destination=ip_network("fe80::/64"), link="vxlan-v6.calico"),
        RouteFact(destination=BLOCK, link="vxlan-v6.calico", gateway=TUNNEL),
    ),
    neighbours=(
        Neighbour(TUNNEL, MAC, permanent=True),
        Neighbour(ip_address("fe80::1"), "66:00:00:00:00:09", permanent=False),
    ),
    fdb={MAC: NODE},
)


def state(device: VxlanDevice, *peers: PeerExpectation) -> PeerState:
    (found,) = peer_states(device, peers or (PEER,))
    return found.state


def alone(device: VxlanDevice, *routes: RouteFact) -> dict[str, PeerState]:
    return {p.name: p.state for p in peer_states(device, None, routes)}


def test_macs_are_felixs() -> None:
    # Known from a real cluster: SHA-1 of the node's name, behind an "f".
    assert tunnel_mac("node-a", Family.V4) == "66:07:02:c1:cc:60"
    assert tunnel_mac("node-a", Family.V6) == "66:d4:d5:51:3d:42"


def test_the_first_thing_that_is_wrong_is_told() -> None:
    assert state(DEVICE) is PeerState.COMPLETE
    assert state(replace(DEVICE, routes=(), neighbours=(), fdb={})) is PeerState.MISSING_ROUTE
    assert state(replace(DEVICE, neighbours=(), fdb={})) is PeerState.MISSING_NEIGHBOR
    assert state(replace(DEVICE, fdb={})) is PeerState.MISSING_FDB
    assert state(DEVICE, replace(PEER, mac="66:00:00:00:00:03")) is PeerState.WRONG_MAC
    assert state(DEVICE, replace(PEER, node=ip_address("2001:db8:1::13"))) is PeerState.WRONG_DESTINATION


def test_every_block_of_a_peer_needs_its_route() -> None:
    both = replace(PEER, blocks=(BLOCK, OTHER_BLOCK))
    assert state(DEVICE, both) is PeerState.MISSING_ROUTE
    added = RouteFact(destination=OTHER_BLOCK, link="vxlan-v6.calico", gateway=TUNNEL)
    assert state(replace(DEVICE, routes=(*DEVICE.routes, added)), both) is PeerState.COMPLETE


@pytest.mark.parametrize(
    "route",
    [
        RouteFact(destination=BLOCK, link="vxlan-v6.calico", gateway=ip_address("fd00:10:244:3::40")),
        RouteFact(destination=BLOCK, link="vxlan-v6.calico"),
        RouteFact(destination=BLOCK, link="", type="blackhole"),
    ],
)
def test_a_route_that_leads_elsewhere_is_none(route: RouteFact) -> None:
    assert state(replace(DEVICE, routes=(route,))) is PeerState.MISSING_ROUTE


def test_a_borrowed_tunnel_address_has_a_route_without_gateway() -> None:
    single = ip_network("fd00:10:244:2::40/128")
    device = replace(DEVICE, routes=(RouteFact(destination=single, link="vxlan-v6.calico"),))
    assert state(device, replace(PEER, blocks=(single,))) is PeerState.COMPLETE
    assert alone(device) == {str(TUNNEL): PeerState.COMPLETE}


def test_what_is_not_known_is_not_compared() -> None:
    assert state(DEVICE, PeerExpectation(name="b", tunnel=TUNNEL)) is PeerState.COMPLETE
    assert peer_states(replace(DEVICE, flow_based=True), (PEER,)) == ()


def test_without_an_inventory_the_device_is_compared_with_itself() -> None:
    name = str(TUNNEL)
    assert alone(DEVICE) == {name: PeerState.COMPLETE}
    assert alone(replace(DEVICE, neighbours=())) == {name: PeerState.MISSING_NEIGHBOR}
    assert alone(replace(DEVICE, fdb={})) == {name: PeerState.MISSING_FDB}
    assert alone(replace(DEVICE, fdb={"66:00:00:00:00:07": NODE})) == {name: PeerState.WRONG_MAC}
    assert alone(replace(DEVICE, routes=())) == {name: PeerState.MISSING_ROUTE}


def test_a_direct_route_to_a_peers_node_replaces_the_one_through_the_tunnel() -> None:
    direct = RouteFact(destination=BLOCK, link="eth0", gateway=NODE, protocol=80)
    assert alone(replace(DEVICE, routes=()), direct) == {str(TUNNEL): PeerState.COMPLETE}


def cluster(mode: VxlanMode, *, prefix: int = 64) -> Inventory:
    def node(name: str, number: int) -> Node:
        return Node(
            name=name,
            calico_addresses=(ip_interface(f"2001:db8:{number}::1/{prefix}"), ip_interface(f"10.0.{number}.1/24")),
            tunnel_addresses=(ip_address(f"fd00:10:244:{number}::40"), ip_address(f"10.244.{number}.64")),
        )

    return Inventory(
        source=InventoryOrigin.FILE,
        nodes=(node("a", 1), node("b", 2), Node(name="new")),
        pools=(
            IPPool(name="v6", cidr=ip_network("fd00:10:244::/48"), vxlan_mode=mode),
            IPPool(name="v4", cidr=ip_network("10.244.0.0/16"), vxlan_mode=mode),
        ),
        block_affinities=(
            BlockAffinity(cidr=BLOCK, node="b"),
            BlockAffinity(cidr=OTHER_BLOCK, node="b", confirmed=False),
            BlockAffinity(cidr=ip_network("fd00:10:244:2::c0/122"), node="b", deleted=True),
            BlockAffinity(cidr=ip_network("fd00:99::40/122"), node="b"),
            BlockAffinity(cidr=ip_network("10.244.2.64/26"), node="b"),
        ),
    )


def test_expectations_come_from_annotations_and_confirmed_blocks_of_vxlan_pools() -> None:
    assert expect_peers(NO_INVENTORY, "a", "vxlan-v6.calico") is None
    (peer,) = expect_peers(cluster(VxlanMode.ALWAYS), "a", "vxlan-v6.calico") or ()
    assert peer == PeerExpectation(
        name="b", tunnel=TUNNEL, mac=tunnel_mac("b", Family.V6), node=ip_address("2001:db8:2::1"), blocks=(BLOCK,)
    )
    (four,) = expect_peers(cluster(VxlanMode.ALWAYS), "a", "vxlan.calico") or ()
    assert (four.tunnel, four.blocks) == (ip_address("10.244.2.64"), (ip_network("10.244.2.64/26"),))


def test_cross_subnet_expects_tunnel_routes_of_far_peers_alone() -> None:
    (far,) = expect_peers(cluster(VxlanMode.CROSS_SUBNET), "a", "vxlan-v6.calico") or ()
    assert far.blocks == (BLOCK,)
    (near,) = expect_peers(cluster(VxlanMode.CROSS_SUBNET, prefix=32), "a", "vxlan-v6.calico") or ()
    assert near.blocks == ()
    (never,) = expect_peers(cluster(VxlanMode.NEVER), "a", "vxlan-v6.calico") or ()
    assert never.blocks == ()


@pytest.mark.parametrize(
    ("link", "family"),
    [
        ("vxlan.calico", Family.V4), ("vxlan-v6.calico", Family.V6), ("flannel.1", Family.V4),
        ("flannel-v6.4096", Family.V6), ("vxlan.100", None), ("vxlan-v6.7", None), ("flannel.calico", None),
        ("vxlan100", None), ("eth0.100", None),
    ],
)  # fmt: skip
def test_a_tunnel_device_is_known_by_the_name_that_its_cni_gives_it(link: str, family: Family | None) -> None:
    """`vxlan.100` may be anybody's: a VLAN of it, or a VXLAN that an administrator made."""
    assert tunnel_family(link) is family
