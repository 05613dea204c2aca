"""The readers against the real kernel: on every backend the facts are what was configured, and nothing else was done to
get them.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path

import pytest

from exporter.broker.protocol.messages import HOME
from exporter.diagnosis.vxlan_peers import expect_peers, peer_states
from exporter.kernel.read.readers import read_addresses, read_host
from exporter.model.facts import Backend, HostFacts, ListeningSocket, Neighbour, PeerState, SourceMatch
from exporter.model.family import FAMILIES, Family
from tests.kernel.calico import Lab
from tests.kernel.calico_inventory import lab_inventory
from tests.kernel.calico_nodes import BACKENDS, GATEWAY4, GATEWAY6, POD_GATEWAY6, POOL4, POOL6, TUNNEL4, TUNNEL6
from tests.kernel.calico_rules import NEW_ALL_POOLS, OLD_ALL_POOLS
from tests.kernel.direct_broker import DirectBroker, watched
from tests.kernel.namespaces import call_inside
from tests.unit.kernel_recordings import read_pod

pytestmark = pytest.mark.real

LISTENERS = """
import socket, sys
kept = [socket.create_server(("0.0.0.0", 8081))]
for port, v6only, address in ((8082, 1, "::"), (8083, 0, "::"), (8084, 1, "::1")):
    one = socket.socket(socket.AF_INET6)
    one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, v6only)
    one.bind((address, port))
    one.listen()
    kept.append(one)
mapped = socket.socket(socket.AF_INET6)
mapped.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
mapped.bind(("::ffff:127.0.0.1", 8085))
mapped.listen()
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="module", params=BACKENDS)
def lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    with Lab(
        backend=request.param, all_set=OLD_ALL_POOLS if request.param == "iptables-nft" else NEW_ALL_POOLS
    ) as made:
        yield made


async def host_facts(lab: Lab) -> HostFacts:
    facts, readings = await read_host(DirectBroker(lab.nodes[0].netns), settle=0)
    assert all(r.success for r in readings), readings
    return facts


async def test_nat_outgoing_is_found_in_the_backend_that_has_it(lab: Lab) -> None:
    nat = (await host_facts(lab)).nat
    assert nat is not None
    assert len(nat.read) == 6
    assert not nat.unread
    assert {(b.family, b.backend) for b in nat.backends} == {(f, Backend(lab.backend)) for f in FAMILIES}
    for family, pool in ((Family.V4, POOL4), (Family.V6, POOL6)):
        live = nat.live(family)
        assert live is not None
        assert (live.chain, live.hooked, live.mark_rule) == (True, True, False)
        name = f"cali{'60' if family is Family.V6 else '40'}masq-ipam-pools"
        assert live.rules == (SourceMatch(set_name=name, members=(ip_network(pool),)),)
        assert live.masquerades(ip_network(pool)) is True
        assert live.masquerades(ip_network("fd00:bad::/64" if family is Family.V6 else "10.9.0.0/16")) is False


async def test_packets_that_left_are_counted(lab: Lab) -> None:
    before = (await host_facts(lab)).nat
    lab.run(lab.nodes[0].pods[0].netns, "ping", "-c", "1", "-W", "5", "2001:db8:ffff::80")
    after = (await host_facts(lab)).nat
    assert before is not None
    assert after is not None
    old, new = before.live(Family.V6), after.live(Family.V6)
    assert old is not None
    assert new is not None
    assert new.packets == old.packets + 1
    assert new.bytes == old.bytes + 104


async def test_service_rules_stand_in_the_mode_that_is_used(lab: Lab) -> None:
    found = (await host_facts(lab)).kube_proxy
    assert found is not None
    assert found.mode == ("nftables" if lab.backend == "nftables" else "iptables")
    assert found.services == {Family.V4: True, Family.V6: True}


async def test_tunnel_devices_are_as_configured(lab: Lab) -> None:
    vxlan = (await host_facts(lab)).vxlan
    assert vxlan is not None
    assert set(vxlan.devices) == {TUNNEL6, TUNNEL4}
    assert not vxlan.bpf
    here, *peers = lab.nodes
    six = vxlan.devices[TUNNEL6]
    assert (six.up, six.lower_up, six.mtu, six.vni, six.port) == (True, True, 1430, 4096, 4789)
    assert (six.local, six.parent, six.parent_mtu) == (ip_address(here.address6), "eth0", 1500)
    assert (six.learning, six.flow_based, six.mac, six.kind) == (False, False, here.mac6, "vxlan")
    assert ip_interface(f"{here.tunnel6}/128") in {a.interface for a in six.addresses}
    assert set(six.neighbours) == {Neighbour(ip_address(p.tunnel6), p.mac6, permanent=True) for p in peers}
    assert six.fdb == {p.mac6: ip_address(p.address6) for p in peers}
    routes = {(r.destination, r.gateway) for r in six.routes if r.gateway is not None}
    assert routes == {(ip_network(p.block6), ip_address(p.tunnel6)) for p in peers}
    four = vxlan.devices[TUNNEL4]
    assert four.local == ip_address(here.address4)
    assert four.fdb == {p.mac4: ip_address(p.address4) for p in peers}


async def test_every_peer_is_complete_with_and_without_an_inventory(lab: Lab) -> None:
    facts = await host_facts(lab)
    assert facts.vxlan is not None
    assert facts.routes is not None
    inventory = lab_inventory(lab)
    for name in (TUNNEL6, TUNNEL4):
        device = facts.vxlan.devices[name]
        expected = expect_peers(inventory, lab.nodes[0].name, name)
        found = peer_states(device, expected)
        assert {p.name: p.state for p in found} == {n.name: PeerState.COMPLETE for n in lab.nodes[1:]}, found
        alone = peer_states(device, None, facts.routes)
        assert [p.state for p in alone] == [PeerState.COMPLETE] * 2, alone


async def test_host_addresses_routes_and_switches_are_as_configured(lab: Lab) -> None:
    facts = await host_facts(lab)
    here = lab.nodes[0]
    assert facts.addresses is not None
    own = {a.interface: a for a in facts.addresses if a.link == "eth0" and a.is_global}
    assert set(own) == {ip_interface(f"{here.address6}/64"), ip_interface(f"{here.address4}/24")}
    assert all(a.usable and a.permanent for a in own.values())
    for family, gateway in ((Family.V6, GATEWAY6), (Family.V4, GATEWAY4)):
        found = facts.default_routes(family)
        assert found is not None
        assert [(r.gateway, r.link, r.from_ra, r.expires) for r in found] == [
            (ip_address(gateway), "eth0", False, None)
        ]
    assert facts.routes is not None
    assert ip_network(here.block6) in {
        r.destination for r in facts.routes if r.type == "blackhole" and r.protocol == 80
    }
    to_pods = {(str(r.destination), r.link) for r in facts.routes}
    assert {(f"{p.address6}/128", p.link) for p in here.pods} <= to_pods
    assert facts.all_conf is not None
    assert (facts.all_conf.forwarding, facts.all_conf.disable_ipv6, facts.forwarding_v4) == (1, 0, True)
    assert facts.limits.kernel_release == os.uname().release
    assert facts.limits.conntrack_max
    assert facts.limits.udp6_checksum_errors == 0


async def test_pods_are_as_configured(lab: Lab) -> None:
    pod = lab.nodes[0].pods[1]
    facts, reading = await read_pod(DirectBroker(pod.netns))
    assert reading.success
    assert facts is not None
    assert [a.interface for a in facts.global_addresses(Family.V6)] == [ip_interface(f"{pod.address6}/128")]
    assert [a.interface for a in facts.global_addresses(Family.V4)] == [ip_interface(f"{pod.address4}/32")]
    assert [r.gateway for r in facts.routes if r.family is Family.V6] == [ip_address(POD_GATEWAY6)]
    assert facts.has_default_route(Family.V4)
    assert all(r.is_default for r in facts.routes)
    assert (facts.mtu, facts.disable_ipv6, facts.intercepted, facts.listeners) == (1430, False, False, ())
    assert set((await read_addresses(DirectBroker(pod.netns), (HOME,)))[0]) == {
        ip_address(pod.address6),
        ip_address(pod.address4),
    }


async def test_listeners_are_told_apart_by_family_and_v6only(lab: Lab) -> None:
    pod = lab.nodes[0].pods[0]
    started = lab.start(pod.netns, sys.executable, "-c", LISTENERS, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert started.stdout is not None
    assert started.stdin is not None
    assert started.stdout.readline()
    facts, _ = await read_pod(DirectBroker(pod.netns))
    started.stdin.close()
    started.wait()
    started.stdout.close()
    assert facts is not None
    assert set(facts.listeners or ()) == {
        ListeningSocket(family=Family.V4, address=ip_address("0.0.0.0"), port=8081),
        ListeningSocket(family=Family.V6, address=ip_address("::"), port=8082),
        ListeningSocket(family=Family.V6, address=ip_address("::"), port=8083),
        ListeningSocket(family=Family.V6, address=ip_address("::1"), port=8084),
        ListeningSocket(family=Family.V4, address=ip_address("127.0.0.1"), port=8085),
    }


async def test_a_host_takes_three_visits_and_a_pod_without_rules_one(lab: Lab) -> None:
    host, pod = DirectBroker(lab.nodes[0].netns), DirectBroker(lab.nodes[0].pods[1].netns)
    facts, _ = await read_host(host, settle=0)
    assert len(host.visits) == 3
    await read_host(host, previous=facts, settle=0)
    assert len(host.visits) == 6
    await read_pod(pod)
    assert len(pod.visits) == 1


def test_the_watch_sees_a_program_and_a_write() -> None:
    _, seen = call_inside("", watched, os.system, "true")
    assert any(each.startswith("os.system") for each in seen)
    _, seen = call_inside("", watched, Path("/proc/self/comm").write_text, "x")
    assert any(each.startswith("open") for each in seen)
