"""Each single fault of the lab changes exactly the right facts, and healing restores them."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_network

import pytest

from exporter.diagnosis.vxlan_peers import expect_peers, peer_states
from exporter.kernel.read.readers import read_host
from exporter.model.facts import HostFacts, PeerState, PodFacts, VxlanDevice
from exporter.model.family import Family
from tests.kernel.calico import Lab
from tests.kernel.calico_inventory import lab_inventory
from tests.kernel.calico_nodes import BACKENDS, POOL6, TUNNEL6
from tests.kernel.direct_broker import DirectBroker
from tests.kernel.fact_changes import changed
from tests.unit.kernel_recordings import read_pod

pytestmark = pytest.mark.real

NAT, TUNNEL = "nat/IPv6", f"vxlan/{TUNNEL6}"
NAT_FAULTS = {
    "masquerade_rule_removed": {f"{NAT}/rules"},
    "masquerade_chain_removed": {f"{NAT}/chain", f"{NAT}/rules"},
    "chain_unhooked": {f"{NAT}/hooked"},
    "pool_not_in_set": {f"{NAT}/rules"},
    "services_removed": {"kube_proxy IPv6"},
}
TUNNEL_ENTRIES = {f"{TUNNEL}/addresses", f"{TUNNEL}/routes", f"{TUNNEL}/neighbours"}
LINK = f"links/{TUNNEL6}"
HOST_FAULTS = {
    "vxlan_deleted": {LINK, TUNNEL, f"addresses {TUNNEL6}", f"routes {TUNNEL6}"},
    "vxlan_down": {
        f"{LINK}/up",
        f"{LINK}/lower_up",
        f"{TUNNEL}/up",
        f"{TUNNEL}/lower_up",
        f"addresses {TUNNEL6}",
        *TUNNEL_ENTRIES,
    },
    "vxlan_wrong_vni": {f"{LINK}/index", f"{TUNNEL}/vni"},
    "vxlan_mtu_small": {f"{LINK}/mtu", f"{TUNNEL}/mtu"},
    "vxlan_address_removed": {f"{TUNNEL}/addresses", f"{TUNNEL}/routes", f"addresses {TUNNEL6}"},
    "route_to_peer_removed": {f"{TUNNEL}/routes"},
    "neighbour_of_peer_removed": {f"{TUNNEL}/neighbours"},
    "wrong_mac_of_peer": {f"{TUNNEL}/neighbours"},
    "fdb_of_peer_removed": {f"{TUNNEL}/fdb"},
    "wrong_destination_of_peer": {f"{TUNNEL}/fdb"},
    "default_route_removed": {"routes eth0"},
    "node_address_removed": {"addresses eth0", "routes eth0"},
}
PEER_STATES = {
    "route_to_peer_removed": PeerState.MISSING_ROUTE,
    "neighbour_of_peer_removed": PeerState.MISSING_NEIGHBOR,
    "wrong_mac_of_peer": PeerState.WRONG_MAC,
    "fdb_of_peer_removed": PeerState.MISSING_FDB,
    "wrong_destination_of_peer": PeerState.WRONG_DESTINATION,
}
POD_FAULTS = {
    "pod_address_removed": {"addresses eth0"},
    "pod_default_route_removed": {"routes eth0"},
    "pod_ipv6_disabled": {
        "addresses eth0",
        "addresses lo",
        "routes eth0",
        "disable_ipv6",
        "links/eth0/inet6",
        "links/lo/inet6",
    },
    "pod_link_ipv6_disabled": {"addresses eth0", "routes eth0", "disable_ipv6", "links/eth0/inet6"},
    "pod_intercepted": {"intercepted"},
}


@pytest.fixture(scope="module", params=BACKENDS)
def any_lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    with Lab(backend=request.param) as made:
        yield made


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab() as made:
        yield made


@pytest.fixture(autouse=True)
def _heal(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    for name in ("lab", "any_lab"):
        if name in request.fixturenames:
            request.getfixturevalue(name).heal()


async def host_facts(lab: Lab) -> HostFacts:
    facts, readings = await read_host(DirectBroker(lab.nodes[0].netns), settle=0)
    assert all(r.success for r in readings), readings
    return facts


async def pod_facts(lab: Lab) -> PodFacts:
    facts, reading = await read_pod(DirectBroker(lab.nodes[0].pods[0].netns))
    assert facts is not None, reading
    return facts


def tunnel_of(facts: HostFacts) -> VxlanDevice:
    assert facts.vxlan is not None
    return facts.vxlan.devices[TUNNEL6]


@pytest.mark.parametrize("fault", NAT_FAULTS)
async def test_a_fault_of_the_packet_filter_changes_its_fact_alone(any_lab: Lab, fault: str) -> None:
    before = await host_facts(any_lab)
    any_lab.fault(fault)
    assert changed(before, await host_facts(any_lab)) == NAT_FAULTS[fault]
    any_lab.heal()
    assert not changed(before, await host_facts(any_lab))


async def test_masquerading_is_judged_by_the_sets_members(any_lab: Lab) -> None:
    any_lab.fault("pool_not_in_set")
    nat = (await host_facts(any_lab)).nat
    assert nat is not None
    live = nat.live(Family.V6)
    assert live is not None
    assert [r.members for r in live.rules] == [()]
    assert live.masquerades(ip_network(POOL6)) is False


async def test_without_its_chain_a_backend_masquerades_nothing(any_lab: Lab) -> None:
    any_lab.fault("masquerade_chain_removed")
    nat = (await host_facts(any_lab)).nat
    assert nat is not None
    live = nat.live(Family.V6)
    assert live is not None
    assert (live.chain, live.rules, live.masquerades(ip_network(POOL6))) == (False, (), False)


@pytest.mark.parametrize("fault", HOST_FAULTS)
async def test_a_fault_of_the_host_changes_its_facts_alone(lab: Lab, fault: str) -> None:
    before = await host_facts(lab)
    lab.fault(fault)
    assert changed(before, await host_facts(lab)) == HOST_FAULTS[fault]
    lab.heal()
    assert changed(before, await host_facts(lab)) <= {f"{LINK}/index"}


@pytest.mark.parametrize("fault", PEER_STATES)
async def test_an_incomplete_peer_is_named_with_what_is_wrong(lab: Lab, fault: str) -> None:
    lab.fault(fault)
    facts = await host_facts(lab)
    broken, *others = lab.nodes[1:]
    expected = expect_peers(lab_inventory(lab), lab.nodes[0].name, TUNNEL6)
    states = {p.name: p.state for p in peer_states(tunnel_of(facts), expected)}
    assert states == {broken.name: PEER_STATES[fault], **{n.name: PeerState.COMPLETE for n in others}}
    if fault != "wrong_destination_of_peer":  # nothing on this node says which address is right
        alone = {p.name: p.state for p in peer_states(tunnel_of(facts), None, facts.routes or ())}
        assert alone == {broken.tunnel6: PEER_STATES[fault], **{n.tunnel6: PeerState.COMPLETE for n in others}}


async def test_switching_forwarding_off_shows_on_the_host_and_on_every_link(lab: Lab) -> None:
    before = await host_facts(lab)
    lab.fault("forwarding_off")
    after = await host_facts(lab)
    assert changed(before, after) == {"all_conf", *(f"links/{link.name}/inet6" for link in before.links or ())}
    assert after.all_conf is not None
    assert after.all_conf.forwarding == 0


async def test_disabling_ipv6_on_a_node_takes_everything_of_ipv6(lab: Lab) -> None:
    lab.fault("node_ipv6_disabled")
    after = await host_facts(lab)
    assert after.all_conf is not None
    assert after.all_conf.disable_ipv6 == 1
    assert not [a for a in after.addresses or () if a.family is Family.V6]
    assert not after.default_routes(Family.V6)
    assert after.default_routes(Family.V4)
    assert not tunnel_of(after).neighbours


async def test_a_missing_pod_route_leaves_the_blocks_blackhole(lab: Lab) -> None:
    before = await host_facts(lab)
    lab.fault("pod_route_removed")
    after = await host_facts(lab)
    pod = lab.nodes[0].pods[0]
    assert changed(before, after) == {f"routes {pod.link}"}
    covering = [
        r
        for r in after.routes or ()
        if ip_network(pod.address6) == r.destination or (r.type == "blackhole" and r.family is Family.V6)
    ]
    assert [r.type for r in covering] == ["blackhole"]


@pytest.mark.parametrize("fault", POD_FAULTS)
async def test_a_fault_of_a_pod_changes_its_facts_alone(lab: Lab, fault: str) -> None:
    before = await pod_facts(lab)
    lab.fault(fault)
    assert changed(before, await pod_facts(lab)) == POD_FAULTS[fault]
    lab.heal()
    assert not changed(before, await pod_facts(lab))


async def test_direct_routes_of_cross_subnet_are_no_fault() -> None:
    with Lab(cross_subnet=True, node_count=2, pod_count=1) as lab:
        facts = await host_facts(lab)
        tunnel = tunnel_of(facts)
        assert not [r for r in tunnel.routes if r.gateway is not None]
        expected = expect_peers(lab_inventory(lab), lab.nodes[0].name, TUNNEL6)
        assert [p.state for p in peer_states(tunnel, expected)] == [PeerState.COMPLETE]
        assert [p.state for p in peer_states(tunnel, None, facts.routes or ())] == [PeerState.COMPLETE]
