"""Which BGP sessions over IPv6 a node should have, by Calico's objects; when one, or a route, is missing; when not."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address
from typing import Any

import pytest

from exporter.diagnosis.bgp import may_speak_bgp
from exporter.diagnosis.engine.rule_input import RuleInput
from exporter.inventory.inventory_builder import build_inventory
from exporter.inventory.parse.objects import identify, parse_object
from exporter.model.cause import Cause
from exporter.model.cluster.calico import BGPConfiguration, BGPPeer, VxlanMode
from exporter.model.cluster.inventory import Inventory, InventoryOrigin, ResourceKind
from exporter.model.cluster.node import Node
from exporter.model.cni.profile import Cni, CniSign, Place
from exporter.model.facts import Reader, ReaderStatus
from exporter.model.family import Family
from exporter.model.reason import Reason
from tests.unit.cluster_scene import NODES, POOL6
from tests.unit.node_scene import BLOCKS, BORN, DEFAULT6, POD_ROUTES, cluster, host, node_view, only, route, said

DOWN, ROUTE = Cause.BGP_SESSION_DOWN, Cause.BGP_ROUTE_MISSING
ANUBIS, BABEL = (ip_address(f"2001:db8:10::{n}") for n in (11, 12))
ROUTER = ip_address("2001:db8:10::1")
BIRD = CniSign(cni=Cni.CALICO, place=Place.AGENT, source="calico-node", settings={"CALICO_NETWORKING_BACKEND": "bird"})
DIRECT = replace(POOL6, vxlan_mode=VxlanMode.NEVER)
MESH, NO_MESH = (BGPConfiguration(name="default", mesh=mesh) for mesh in (True, False))
ROUTES = tuple(route(str(BLOCKS[name]), gateway=at) for name, at in (("anubis", ANUBIS), ("babel", BABEL)))
READ = ReaderStatus(reader=Reader.BGP.value, success=False, seconds=0.0, reason=Reason.NO_PERMISSION)


def nodes(**changes: Any) -> tuple[Node, ...]:
    """The cluster's; `changes` by the name of one."""
    healthy = (replace(n, created=BORN, ready_since=BORN) for n in NODES)
    return tuple(replace(n, **changes.get(n.name, {})) for n in healthy)


def calico(*peers: BGPPeer, **changes: Any) -> Inventory:
    usual: dict[str, Any] = {"pools": (DIRECT,), "cni_signs": (BIRD,), "bgp": (), "bgp_peers": peers, "nodes": nodes()}
    return cluster(**(usual | changes))


def seen(inventory: Inventory, *connected: Any, routes: tuple[Any, ...] = ROUTES, **more: Any) -> RuleInput:
    facts = host(bgp_peers=frozenset(connected), routes=(DEFAULT6, *POD_ROUTES, *routes))
    return node_view(facts, inventory, **more)


def peer(name: str = "tor", **fields: Any) -> BGPPeer:
    return BGPPeer(name=name, **fields)


RR = {"anubis": {"route_reflector": True}}
TO_RR = peer("rr", peers=frozenset({"anubis"}))


@pytest.mark.parametrize(
    ("inventory", "connected", "down"),
    [
        (calico(), (ANUBIS, BABEL), ()),
        (calico(), (ANUBIS,), ("peer/babel",)),
        (calico(bgp=(MESH,)), (), ("peer/anubis", "peer/babel")),
        (calico(bgp=(NO_MESH,)), (), ()),
        (calico(bgp=(BGPConfiguration(name="node.ra"), NO_MESH)), (), ()),
        # Route reflectors are no part of the mesh.
        (calico(nodes=nodes(**RR)), (BABEL,), ()),
        (calico(nodes=nodes(ra={"route_reflector": True})), (), ()),
        # A BGPPeer by selectors gives both ends a session, in either direction.
        (calico(TO_RR, bgp=(NO_MESH,), nodes=nodes(**RR)), (), ("peer/anubis",)),
        (calico(peer(nodes=frozenset({"babel"}), peers=frozenset({"ra"})), bgp=(NO_MESH,)), (), ("peer/babel",)),
        (calico(peer(nodes=frozenset({"babel"}), peers=frozenset({"anubis"})), bgp=(NO_MESH,)), (), ()),
        # By address: a router, named by its BGPPeer, or a node.
        (calico(peer(address=ROUTER), bgp=(NO_MESH,)), (), ("peer/tor",)),
        (calico(peer(address=ROUTER), bgp=(NO_MESH,)), (ROUTER,), ()),
        (calico(peer(address=BABEL), bgp=(NO_MESH,)), (), ("peer/babel",)),
        (calico(peer(address=ROUTER, nodes=frozenset({"babel"})), bgp=(NO_MESH,)), (), ()),
        # A router of IPv4 may bring routes of IPv6 (RFC 4760); one of pods, or on another port, is not looked for.
        (calico(peer(address=ip_address("10.0.10.1")), bgp=(NO_MESH,)), (), ()),
        (calico(peer(address=ROUTER, port=1790), bgp=(NO_MESH,)), (), ()),
        (calico(peer(workloads=True), bgp=(NO_MESH,)), (), ()),
        # Peers that are not Ready, or young; peers that Calico has no address of.
        (calico(nodes=nodes(babel={"ready": False})), (ANUBIS,), ()),
        (calico(nodes=nodes(babel={"changed": 9_900.0})), (ANUBIS,), ()),
        (calico(nodes=nodes(babel={"calico_addresses": ()})), (ANUBIS,), ()),
    ],
)
def test_the_sessions_that_should_be_there(inventory: Inventory, connected: Any, down: tuple[str, ...]) -> None:
    found = said(DOWN, seen(inventory, *connected))
    assert isinstance(found, tuple)
    assert tuple(s for each in found for s in each.subjects) == down


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"cni_signs": ()}, Reason.NOT_APPLICABLE),  # it is not known that BIRD runs
        ({"cni_signs": (replace(BIRD, settings={"CALICO_NETWORKING_BACKEND": "vxlan"}),)}, Reason.NOT_APPLICABLE),
        ({"pools": (POOL6,)}, Reason.NOT_APPLICABLE),  # VXLAN leads everywhere
        ({"pools": (replace(DIRECT, exported=False),)}, Reason.NOT_APPLICABLE),
        ({"pools": (replace(DIRECT, disabled=True),)}, Reason.NOT_APPLICABLE),
        ({"bgp": (BGPConfiguration(name="default", port=1790),)}, Reason.NOT_APPLICABLE),
        ({"bgp": None}, Reason.NO_INVENTORY),
        ({"bgp": None, "unread": {ResourceKind.BGP_CONFIGURATIONS: Reason.NO_PERMISSION}}, Reason.NO_PERMISSION),
        ({"bgp_peers": None}, Reason.NO_INVENTORY),
        ({"nodes": nodes(ra={"changed": 9_950.0})}, Reason.NOT_APPLICABLE),
        ({"nodes": nodes(ra={"calico_addresses": ()})}, Reason.NOT_APPLICABLE),
        ({"stale": True}, Reason.STALE_INVENTORY),
    ],
)
def test_where_nothing_can_be_expected(changes: dict[str, Any], reason: Reason) -> None:
    view = seen(calico(**changes), routes=())
    assert said(DOWN, view) is reason
    assert said(ROUTE, view) is reason


def test_a_kind_that_is_not_served_has_no_objects() -> None:
    absent = {ResourceKind.BGP_CONFIGURATIONS: Reason.NOT_APPLICABLE, ResourceKind.BGP_PEERS: Reason.NOT_APPLICABLE}
    view = seen(calico(bgp=None, bgp_peers=None, unread=absent), ANUBIS)
    assert only(DOWN, view).subjects == ("peer/babel",)


def test_connections_that_were_not_read_are_unknown() -> None:
    view = node_view(host(bgp_peers=None), calico())
    view = replace(view, snapshot=replace(view.snapshot, readings=(READ,)))
    assert said(DOWN, view) is Reason.NO_PERMISSION


def test_the_kernel_is_asked_only_where_calico_speaks_bgp() -> None:
    assert may_speak_bgp(calico())
    assert not may_speak_bgp(calico(pools=(POOL6,)))
    assert not may_speak_bgp(calico(cni_signs=()))


BLACKHOLE = route(str(BLOCKS["babel"]), link="lo", type="blackhole")
CROSS = replace(DIRECT, vxlan_mode=VxlanMode.CROSS_SUBNET)
FILTERED = peer(address=ROUTER, filtered=True)


@pytest.mark.parametrize(
    ("inventory", "routes", "evidence"),
    [
        (calico(), ROUTES, None),
        (calico(), ROUTES[:1], "peer/babel: no route to fd01:0:0:12::/122; instead ::/0 via 2001:db8:10::1 dev eth0"),
        (calico(bgp=(NO_MESH,)), ROUTES[:1], "peer/babel: no route"),
        (calico(), (*ROUTES[:1], BLACKHOLE), "instead blackhole fd01:0:0:12::/122 dev lo"),
        # An address that another node borrowed is not the block; the peer's own ones, or a route to more, are enough.
        (calico(), (*ROUTES[:1], route("fd01:0:0:12::/128", gateway=ANUBIS)), "peer/babel: no route"),
        (calico(), (*ROUTES[:1], route("fd01:0:0:12::/128", gateway=BABEL)), None),
        (calico(), (*ROUTES[:1], route("fd01:0:0:12::/64", gateway=BABEL)), None),
        # A router outside may announce the default route alone.
        (calico(peer(address=ROUTER)), (), None),
        (calico(FILTERED), (), Reason.NOT_APPLICABLE),
        (calico(pools=(CROSS,)), ROUTES[:1], "peer/babel: no route"),
        (calico(nodes=nodes(babel={"ready": False})), ROUTES[:1], None),
        (calico(block_affinities=None), (), Reason.NO_INVENTORY),
    ],
)
def test_the_routes_that_should_be_there(inventory: Inventory, routes: Any, evidence: str | Reason | None) -> None:
    view = seen(inventory, ANUBIS, BABEL, ROUTER, routes=routes)
    if evidence is None or isinstance(evidence, Reason):
        assert said(ROUTE, view) == (evidence or ())
    else:
        assert evidence in only(ROUTE, view).evidence[0]


def test_cross_subnet_leads_to_other_subnets_by_the_tunnel() -> None:
    far = replace(nodes()[0], calico_addresses=())
    inventory = calico(pools=(CROSS,), nodes=(far, *nodes()[1:]))
    assert said(ROUTE, seen(inventory, BABEL, routes=ROUTES[1:])) == ()


def test_calicos_objects_become_sessions() -> None:
    def made(kind: str, name: str, **spec: Any) -> dict[str, Any]:
        return {"apiVersion": "projectcalico.org/v3", "kind": kind, "metadata": {"name": name}, "spec": spec}

    def node(name: str, number: int, **labels: str) -> dict[str, Any]:
        notes = {"projectcalico.org/IPv6Address": f"2001:db8:10::{number}/64"}
        if "rr" in labels:
            notes["projectcalico.org/RouteReflectorClusterID"] = "1.0.0.1"
        return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "annotations": notes, "labels": labels}}

    sources = [
        node("ra", 13, rack="1"), node("babel", 12, rack="2"), node("anubis", 11, rr="yes"),
        made("BGPConfiguration", "default", nodeToNodeMeshEnabled=False, listenPort=1179),
        made("BGPPeer", "rr", peerSelector="has(rr)", nodeSelector="!has(rr)", filters=["none"]),
        made("BGPPeer", "tor", peerIP="[2001:db8:10::1]:1790", nodeSelector="rack == '1'"),
        made("BGPPeer", "old", peerIP="10.0.10.1:179", node="babel"),
        made("BGPPeer", "all", peerIP="2001:db8:10::2"),
        made("BGPPeer", "odd", peerSelector="rack =="),
    ]  # fmt: skip
    objects: dict[ResourceKind, list[Any]] = {}
    for each in sources:
        kind = identify(each)
        assert kind is not None
        objects.setdefault(kind, []).append(parse_object(kind, each))
    found = build_inventory(objects, source=InventoryOrigin.FILE)
    assert found.bgp == (BGPConfiguration(name="default", mesh=False, port=1179),)
    assert found.bgp_peers is not None
    shown = {p.name: (p.nodes, p.peers, p.address and str(p.address), p.port, p.filtered) for p in found.bgp_peers}
    two = frozenset({"ra", "babel"})
    assert shown == {
        "all": (None, frozenset(), "2001:db8:10::2", 179, False),
        "old": (frozenset({"babel"}), frozenset(), "10.0.10.1", 179, False),
        "rr": (two, frozenset({"anubis"}), None, 179, True),
        "tor": (frozenset({"ra"}), frozenset(), "2001:db8:10::1", 1790, False),
    }
    assert [node.route_reflector for node in found.nodes or ()] == [True, False, False]
    assert [(each.kind, each.name) for each in found.unreadable] == [(ResourceKind.BGP_PEERS, "odd")]
    assert found.nodes is not None
    assert found.nodes[0].calico_address(Family.V6) is not None
