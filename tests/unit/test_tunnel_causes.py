"""Each tunnel cause: when it holds, each case in which it does not, and which of several comes first."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_interface, ip_network
from typing import Any

import pytest

from exporter.diagnosis.engine.verdict import Memory, judge
from exporter.diagnosis.felix import effective
from exporter.diagnosis.rules.judging import rules_of
from exporter.diagnosis.rules.node import vxlan as tunnel_rules
from exporter.diagnosis.rules.registry import RULES
from exporter.diagnosis.vxlan_peers import tunnel_mac
from exporter.model.cause import Cause, Severity
from exporter.model.cluster.calico import BlockAffinity, Felix, FelixConfiguration, VxlanMode
from exporter.model.cluster.inventory import Inventory, ResourceKind
from exporter.model.cluster.node import FlannelNode, Node
from exporter.model.cni.profile import Cni, CniSign, Place
from exporter.model.facts import AddressFact, LinkFact, Neighbour, Reader, ReaderStatus, RouteFact, VxlanFacts
from exporter.model.family import Net
from exporter.model.reason import Reason
from tests.unit.cluster_scene import NODES, POOL4, POOL6
from tests.unit.node_scene import (
    BLOCKS,
    BORN,
    DEVICE,
    NUMBER,
    V4,
    V6,
    cluster,
    device,
    holding,
    host,
    inside,
    namespace,
    node_view,
    only,
    said,
    tunnels,
)

TUNNEL_RULES = rules_of(tunnel_rules)
MISSING, DOWN = Cause.VXLAN_DEVICE_MISSING, Cause.VXLAN_DEVICE_DOWN
WRONG, PEER = Cause.VXLAN_MISCONFIGURED, Cause.VXLAN_PEER_INCOMPLETE
NOW = 10_000.0
TUNNEL_OF = {n.name: n.tunnel_address(V6) for n in NODES}
NO_DEVICE = VxlanFacts({})


def seen(vxlan: VxlanFacts | None = None, inventory: Inventory | None = None, **more: Any) -> Any:
    return node_view(host(vxlan=tunnels() if vxlan is None else vxlan), inventory, now=NOW, **more)


@pytest.mark.parametrize(
    ("vxlan", "cause", "evidence"),
    [
        (tunnels(), None, ""),
        (NO_DEVICE, MISSING, "there is no link vxlan-v6.calico"),
        (tunnels(up=False), DOWN, "IFF_UP clear"),
        (tunnels(lower_up=False), DOWN, "IFF_LOWER_UP clear"),
        (tunnels(vni=42), WRONG, "VNI 42, should be 4096"),
        (tunnels(port=8472), WRONG, "port 8472, should be 4789"),
        (tunnels(learning=True), WRONG, "learning is on"),
        (tunnels(local=ip_address("2001:db8:10::99")), WRONG, "local 2001:db8:10::99, should be 2001:db8:10::13"),
        (tunnels(parent=""), WRONG, "no parent"),
        (tunnels(addresses=()), WRONG, f"address {TUNNEL_OF['ra']} is not on it"),
        (tunnels(mtu=1431), WRONG, "MTU 1431 is above that of eth0 (1500) - 70"),
        (tunnels(mtu=1429), WRONG, "MTU 1429 is below that of pod/default/"),
        (tunnels(mac="66:00:00:00:00:01"), WRONG, f"should be {tunnel_mac('ra', V6)}"),
        (tunnels(mac=tunnel_mac("ra", V6)), None, ""),
        # Of several the first.
        (tunnels(up=False, vni=42), DOWN, "IFF_UP"),
        (tunnels(vni=42, fdb={}), WRONG, "VNI"),
        # What could not be read differs from nothing.
        (tunnels(vni=None, port=None, local=None, learning=None, parent_mtu=None), None, ""),
        # Nothing is wrong with a device that holds more than one address.
        (tunnels(addresses=(AddressFact(link=DEVICE, interface=ip_interface("fd01::99/128"), scope="global"),
            *device().addresses)), None, ""),
    ],
)  # fmt: skip
def test_the_first_thing_that_is_wrong_with_the_device(vxlan: VxlanFacts, cause: Cause | None, evidence: str) -> None:
    view = seen(vxlan)
    assert holding(TUNNEL_RULES, view) == ({} if cause is None else {cause: Severity.WARNING})
    if cause is not None:
        found = only(cause, view)
        assert found.subjects == ("node/ra",)
        assert any(evidence in line for line in found.evidence)


def test_felixs_own_settings_are_what_the_device_should_have() -> None:
    felix = FelixConfiguration("default", Felix(vxlan_vni=42, vxlan_port=8472))
    inventory = cluster(felix=(felix,))
    assert holding(TUNNEL_RULES, seen(tunnels(vni=42, port=8472), inventory)) == {}
    assert holding(TUNNEL_RULES, seen(inventory=inventory)) == {WRONG: Severity.WARNING}


def peers_of(**changes: Any) -> VxlanFacts:
    return tunnels(**changes)


ANUBIS, BABEL = "anubis", "babel"
OTHERS = tuple(n for n in device().neighbours if n.address != TUNNEL_OF[ANUBIS])


@pytest.mark.parametrize(
    ("vxlan", "evidence"),
    [
        (peers_of(routes=tuple(r for r in device().routes if r.gateway != TUNNEL_OF[ANUBIS])), "missing route"),
        (peers_of(neighbours=OTHERS), "missing neighbor"),
        (peers_of(neighbours=(*OTHERS, Neighbour(ip_address("fd01:0:0:11::"), "66:00:00:00:00:01", permanent=True))),
            "wrong mac"),
        (peers_of(fdb={m: a for m, a in device().fdb.items() if m != tunnel_mac(ANUBIS, V6)}), "missing fdb"),
        (peers_of(fdb={**device().fdb, tunnel_mac(ANUBIS, V6): ip_address("2001:db8:10::12")}), "wrong destination"),
    ],
)  # fmt: skip
def test_the_entries_of_a_peer_that_disagree(vxlan: VxlanFacts, evidence: str) -> None:
    found = only(PEER, seen(vxlan))
    assert found.subjects == ("peer/anubis",)
    assert found.evidence[0].startswith(f"peer/anubis: {evidence}: ")
    assert holding(TUNNEL_RULES, seen(vxlan)) == {PEER: Severity.WARNING}


def test_a_peer_spoils_the_services_that_stand_on_it_alone() -> None:
    found = only(PEER, seen(peers_of(neighbours=OTHERS)))
    assert "target/cluster_dns" in found.affects_destinations
    assert "target/service" not in found.affects_destinations  # on babel


EMPTY = tunnels(routes=(), neighbours=(), fdb={})
NOT_PEERS: dict[str, Inventory] = {
    "not Ready": cluster(nodes=tuple(replace(n, ready=n.name == "ra", created=BORN) for n in NODES)),
    "joined a minute ago": cluster(nodes=tuple(replace(n, created=NOW - 60) for n in NODES)),
    "changed a minute ago": cluster(nodes=tuple(replace(n, created=BORN, changed=NOW - 60) for n in NODES)),
    "their blocks changed a minute ago": cluster(
        block_affinities=tuple(BlockAffinity(cidr=net, node=name, changed=NOW - 60) for name, net in BLOCKS.items())
    ),
    "their blocks are a minute old": cluster(
        block_affinities=tuple(BlockAffinity(cidr=net, node=name, created=NOW - 60) for name, net in BLOCKS.items())
    ),
    "without tunnel addresses": cluster(nodes=tuple(replace(n,
        tunnel_addresses=n.tunnel_addresses[:1]) for n in NODES[:2]) + NODES[2:]),
}  # fmt: skip


@pytest.mark.parametrize("which", NOT_PEERS)
def test_peers_that_need_not_be_in_the_kernel(which: str) -> None:
    assert said(PEER, seen(EMPTY, NOT_PEERS[which])) == ()


def test_two_minutes_later_they_need_to_be() -> None:
    for inventory in (
        cluster(nodes=tuple(replace(n, created=NOW - 121, changed=NOW - 121) for n in NODES)),
        cluster(block_affinities=tuple(BlockAffinity(cidr=b, node=n, changed=NOW - 121) for n, b in BLOCKS.items())),
    ):
        assert only(PEER, seen(EMPTY, inventory)).subjects == ("peer/anubis", "peer/babel")


@pytest.mark.parametrize("changes", [{"confirmed": False}, {"deleted": True}, {"node": ""}])
def test_a_block_that_is_nobodys_needs_no_route(changes: dict[str, Any]) -> None:
    extra = replace(BlockAffinity(cidr=ip_network("fd01:0:0:b::/122"), node=ANUBIS), **changes)
    blocks = (*(BlockAffinity(cidr=net, node=name) for name, net in BLOCKS.items()), extra)
    assert said(PEER, seen(inventory=cluster(block_affinities=blocks))) == ()
    certain = replace(extra, confirmed=True, deleted=False, node=ANUBIS)
    assert only(PEER, seen(inventory=cluster(block_affinities=(*blocks[:-1], certain)))).subjects == ("peer/anubis",)


def test_crosssubnet_reaches_peers_of_the_own_subnet_directly() -> None:
    cross = cluster(pools=(POOL4, replace(POOL6, vxlan_mode=VxlanMode.CROSS_SUBNET)))
    assert said(PEER, seen(tunnels(routes=()), cross)) == ()
    far = tuple(
        replace(n, calico_addresses=(ip_interface("2001:db8:99::1/64"),)) if n.name == BABEL else n for n in NODES
    )
    assert "peer/babel" in only(PEER, seen(tunnels(routes=()), replace(cross, nodes=far))).subjects


def test_other_ends_of_the_wire_are_none_of_ours() -> None:
    """Windows nodes of a dual-stack cluster have no IPv6 tunnel address, WireGuard carries its peers itself."""
    wired = cluster(nodes=tuple(replace(n, wireguard=True, created=BORN) for n in NODES))
    assert said(PEER, seen(EMPTY, wired)) is Reason.NOT_APPLICABLE


@pytest.mark.parametrize(
    ("vxlan", "inventory", "reason"),
    [
        (VxlanFacts({}, bpf=True), cluster(), Reason.NOT_APPLICABLE),
        (VxlanFacts({"vxlan.calico": device(name="vxlan.calico", flow_based=True)}), cluster(), Reason.NOT_APPLICABLE),
        (NO_DEVICE, cluster(pools=(POOL4, replace(POOL6, vxlan_mode=VxlanMode.NEVER))), Reason.NOT_APPLICABLE),
        (NO_DEVICE, cluster(pools=(POOL4, replace(POOL6, disabled=True))), Reason.NOT_APPLICABLE),
        (NO_DEVICE, cluster(pools=(POOL4, replace(POOL6, nodes=frozenset({BABEL})))), Reason.NOT_APPLICABLE),
        (NO_DEVICE, cluster(pools=(POOL4,)), Reason.NOT_APPLICABLE),
        (NO_DEVICE, cluster(pools=None), Reason.NO_INVENTORY),
        (NO_DEVICE, cluster(pools=None, unread={ResourceKind.IP_POOLS: Reason.NOT_APPLICABLE}), Reason.NOT_APPLICABLE),
    ],
)  # fmt: skip
@pytest.mark.parametrize("cause", TUNNEL_RULES)
def test_nodes_that_need_no_such_device(cause: Cause, vxlan: VxlanFacts, inventory: Inventory, reason: Reason) -> None:
    assert said(cause, seen(vxlan, inventory)) is reason


@pytest.mark.parametrize("cause", TUNNEL_RULES)
def test_a_tunnel_that_was_not_read_is_unchecked(cause: Cause) -> None:
    view = node_view(host(vxlan=None))
    assert said(cause, view) is Reason.READER_FAILED
    failed = replace(
        view.snapshot,
        readings=(ReaderStatus(reader=Reader.VXLAN, success=False, seconds=0.1, reason=Reason.NO_PERMISSION),),
    )
    assert said(cause, replace(view, snapshot=failed)) is Reason.NO_PERMISSION


@pytest.mark.parametrize("field", ["nodes", "block_affinities"])
def test_peers_are_not_compared_with_what_was_not_read(field: str) -> None:
    assert said(PEER, seen(EMPTY, cluster(**{field: None}))) is Reason.NO_INVENTORY


def test_the_missing_device_says_what_calico_had_to_make_it_of() -> None:
    found = only(MISSING, seen(NO_DEVICE))
    assert "annotation projectcalico.org/IPv6VXLANTunnelAddr: fd01:0:0:13::" in found.evidence


def test_a_small_pod_and_links_beside_it_make_no_mtu_wrong() -> None:
    small = namespace(links=(LinkFact(index=3, name="eth0", up=True, lower_up=True, mtu=1280),))
    assert holding(TUNNEL_RULES, seen(tunnels(mtu=1280), pods=[inside("web", small)])) == {}


def test_the_device_is_compared_once_a_round(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[str] = []

    def counted(inventory: Inventory, node: str) -> Felix:
        compared.append(node)
        return effective(inventory, node)

    monkeypatch.setattr("exporter.diagnosis.tunnels.effective", counted)
    for rounds in (1, 2):
        assert holding(TUNNEL_RULES, seen(tunnels(vni=42))) == {WRONG: Severity.WARNING}
        assert len(compared) == rounds


def test_a_direct_route_that_stands_instead_is_named() -> None:
    far = tuple(r for r in device().routes if r.gateway != TUNNEL_OF[ANUBIS])
    left = RouteFact(destination=BLOCKS[ANUBIS], link="eth0", gateway=ip_address("2001:db8:10::11"), protocol=80)
    facts = host(vxlan=tunnels(routes=far))
    view = node_view(replace(facts, routes=(*(facts.routes or ()), left)), now=NOW)
    assert f"instead {BLOCKS[ANUBIS]} via 2001:db8:10::11 dev eth0" in only(PEER, view).evidence[0]
    assert "instead ::/0" in only(PEER, node_view(facts, now=NOW)).evidence[0]


# flannel: what the annotations of its nodes say, and the device that belongs to them.
MACS = {name: f"0a:58:00:00:00:{number:02x}" for name, number in NUMBER.items()}
FLANNEL = "flannel-v6.1"


def flannel_nodes(**changes: Any) -> tuple[Node, ...]:
    return tuple(
        replace(
            n, created=BORN, calico_addresses=(), tunnel_addresses=(),
            flannel=replace(
                FlannelNode(
                    backend="vxlan", addresses=n.internal_ips, vnis={V4: 1, V6: 1}, macs={V6: MACS[n.name]}
                ),
                **changes,
            ),
        )
        for n in NODES
    )  # fmt: skip


def flannel_cluster(**changes: Any) -> Inventory:
    empty: dict[str, Any] = {"pools": (), "block_affinities": (), "felix": (), "calico_node": None, "cni": None}
    return cluster(**{**empty, "nodes": flannel_nodes(), **changes})


PEERS = {n.name: n for n in flannel_nodes() if n.name != "ra"}


def end_of(name: str) -> Net:
    cidr = PEERS[name].pod_cidr(V6)
    assert cidr is not None
    return cidr


def flannel(**changes: Any) -> VxlanFacts:
    """As flannel leaves it (pkg/backend/vxlan): the tunnel address is the first of the podCIDR."""
    made = device(
        name=FLANNEL, vni=1, port=8472, mac=MACS["ra"],
        addresses=(AddressFact(link=FLANNEL, interface=ip_interface("fd01:0:0:13::/128"), scope="global"),),
        routes=tuple(
            RouteFact(destination=end_of(n), link=FLANNEL, gateway=end_of(n).network_address) for n in PEERS
        ),
        neighbours=tuple(Neighbour(end_of(n).network_address, MACS[n], permanent=True) for n in PEERS),
        fdb={MACS[n]: ip_address(f"2001:db8:10::{NUMBER[n]}") for n in PEERS},
    )  # fmt: skip
    return VxlanFacts({FLANNEL: replace(made, **changes)})


@pytest.mark.parametrize(
    ("vxlan", "cause", "evidence"),
    [
        (flannel(), None, ""),
        (NO_DEVICE, MISSING, "there is no link flannel-v6.1"),
        (flannel(up=False), DOWN, "flannel-v6.1: IFF_UP clear"),
        (flannel(vni=2), WRONG, "VNI 2, should be 1"),
        (flannel(port=4789), WRONG, "port 4789, should be 8472"),
        (flannel(local=ip_address("2001:db8:10::99")), WRONG, "local 2001:db8:10::99, should be 2001:db8:10::13"),
        (flannel(parent=""), WRONG, "no parent"),
        (flannel(addresses=()), WRONG, "address fd01:0:0:13:: is not on it"),
        (flannel(mac="66:00:00:00:00:01"), WRONG, "MAC 66:00:00:00:00:01, should be"),
        (flannel(mtu=1431), WRONG, "MTU 1431 is above"),
        (flannel(mtu=1300), WRONG, "MTU 1300 is below that of pod/default/"),
        (flannel(routes=()), PEER, "no route to fd01:0:0:11::/64 via fd01:0:0:11::"),
        (flannel(neighbours=()), PEER, "no neighbour fd01:0:0:11::"),
        (flannel(fdb={}), PEER, "no forwarding entry"),
    ],
)
def test_flannels_device_is_judged_by_the_nodes_annotations(
    vxlan: VxlanFacts, cause: Cause | None, evidence: str
) -> None:
    view = seen(vxlan, flannel_cluster())
    assert holding(TUNNEL_RULES, view) == ({} if cause is None else {cause: Severity.WARNING})
    if cause is not None:
        assert any(evidence in line for line in only(cause, view).evidence)


def test_flannels_pods_have_the_mtu_of_ipv4s_tunnel_by_design() -> None:
    pods = [inside("web", namespace(links=(LinkFact(index=3, name="eth0", up=True, lower_up=True, mtu=1450),)))]
    for vxlan in (flannel(), flannel(mtu=1430)):
        assert holding((*TUNNEL_RULES, Cause.POD_MTU_ABOVE_TUNNEL), seen(vxlan, flannel_cluster(), pods=pods)) == {}


def test_windows_nodes_need_another_port_of_flannel() -> None:
    nodes = flannel_nodes(vnis={V6: 4096})
    made = {"flannel-v6.4096": replace(flannel().devices[FLANNEL], name="flannel-v6.4096", vni=4096, port=4789)}
    assert said(WRONG, seen(VxlanFacts(made), flannel_cluster(nodes=nodes))) == ()


def test_flannel_with_direct_routing_reaches_peers_without_the_tunnel() -> None:
    direct = tuple(
        RouteFact(destination=end_of(n), link="eth0", gateway=ip_address(f"2001:db8:10::{NUMBER[n]}")) for n in PEERS
    )
    facts = host(vxlan=flannel(routes=(), neighbours=(), fdb={}))
    view = node_view(replace(facts, routes=(*(facts.routes or ()), *direct)), flannel_cluster(), now=NOW)
    assert said(PEER, view) == ()


@pytest.mark.parametrize(
    "nodes",
    [
        flannel_nodes(backend="host-gw"),
        flannel_nodes(vnis={V4: 1}, macs={}),  # flannel carries IPv4 alone: another cause
        tuple(replace(n, pod_cidrs=n.pod_cidrs[:1]) for n in flannel_nodes()),
    ],
    ids=["another backend", "IPv4 alone", "no IPv6 podCIDR"],
)
def test_flannel_that_makes_no_tunnel_for_ipv6(nodes: tuple[Node, ...]) -> None:
    for cause in TUNNEL_RULES:
        assert said(cause, seen(NO_DEVICE, flannel_cluster(nodes=nodes))) is Reason.NOT_APPLICABLE


def test_calicos_pools_come_before_annotations_that_flannel_left() -> None:
    nodes = tuple(
        replace(old, calico_addresses=n.calico_addresses, tunnel_addresses=n.tunnel_addresses)
        for old, n in zip(flannel_nodes(), NODES, strict=True)
    )
    assert holding(TUNNEL_RULES, seen(inventory=cluster(nodes=nodes))) == {}


def signed(cni: Cni) -> tuple[CniSign, ...]:
    return (CniSign(cni=cni, place=Place.AGENT, source="daemonset/kube-system/agent"),)


def test_annotations_and_pools_of_a_cni_that_runs_no_more_ask_for_no_tunnel() -> None:
    left = flannel_cluster(cni_signs=signed(Cni.CILIUM))
    policy = cluster(block_affinities=(), cni=None, cni_signs=signed(Cni.AWS_VPC_CNI))
    for inventory in (left, policy):
        for cause in TUNNEL_RULES:
            assert said(cause, seen(NO_DEVICE, inventory)) is Reason.NOT_APPLICABLE


def test_canal_has_calicos_policies_and_flannels_tunnel() -> None:
    canal = flannel_cluster(
        felix=cluster().felix, calico_node=cluster().calico_node, cni_signs=signed(Cni.FLANNEL), pools=(POOL4, POOL6)
    )
    assert only(MISSING, seen(NO_DEVICE, canal)).evidence[0].endswith("there is no link flannel-v6.1")
    assert holding(TUNNEL_RULES, seen(flannel(), canal)) == {}


def test_a_tunnel_that_no_pool_asks_for_any_more_is_forgotten_after_two_rounds() -> None:
    """A pool goes from VXLAN to none and Felix removes the device: found while the older inventory stands, then not."""
    without = cluster(pools=(POOL4, replace(POOL6, vxlan_mode=VxlanMode.NEVER)))
    memory, found = Memory(), []
    for number, inventory in enumerate((cluster(), cluster(), without, without)):
        now = NOW + 30.0 * number
        given = seen(NO_DEVICE, replace(inventory, current_at=now))
        verdict, memory = judge(
            replace(given, now=now, snapshot=replace(given.snapshot, inspected=now)), memory, rules=RULES
        )
        found.append(MISSING in {c.finding.cause for c in verdict.causes})
    assert found == [False, True, True, False]


def test_the_command_for_a_missing_device_asks_for_logs_where_calico_runs() -> None:
    found = only(MISSING, seen(NO_DEVICE))
    assert found.command == (
        "ip -d link show vxlan-v6.calico; kubectl -n kube-system logs -l k8s-app=calico-node | grep -i vtep"
    )
    unknown = only(MISSING, seen(NO_DEVICE, replace(cluster(), calico_node=None)))
    assert "kubectl -n calico-system logs" in unknown.command
