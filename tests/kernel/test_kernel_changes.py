"""What the kernel announces spares reading the host's routes, neighbours and forwarding entries, and hides no change of
them.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from dataclasses import replace

import pytest

from exporter.broker.protocol.messages import Topic
from exporter.broker.server.namespaces import NamespaceVisitor
from exporter.kernel.read.readers import read_host
from exporter.kernel.read.route_cache import FULL_EVERY
from exporter.model.facts import HostFacts
from exporter.vantage.rtnetlink_monitor import RtnetlinkMonitor
from tests.kernel.broker_lab import named_namespace, place_of_name, run_as
from tests.kernel.calico import Lab
from tests.kernel.calico_host import host_namespace
from tests.kernel.calico_nodes import TUNNEL6
from tests.kernel.direct_broker import DirectBroker
from tests.kernel.fact_changes import changed
from tests.kernel.namespaces import batch
from tests.kernel.test_kernel_faults import HOST_FAULTS, LINK

pytestmark = pytest.mark.real

ENTRIES = {Topic.ROUTES4, Topic.ROUTES6, Topic.NEIGHBOURS, Topic.FDB}
NOBODY = 65532


class Host:
    """Reads one namespace's facts round after round, as the inspection does."""

    def __init__(self, netns: str) -> None:
        self.netns = netns
        self.now = 1000.0
        self.changes = NamespaceVisitor().visit(place_of_name(netns), RtnetlinkMonitor)
        self._broker = DirectBroker(netns)
        self._facts: HostFacts | None = None
        self._was_read = False

    def was_read(self) -> bool:
        """Whether the last round read the entries."""
        return self._was_read

    async def look(self) -> HostFacts:
        self._broker.visits.clear()
        facts, readings = await read_host(
            self._broker, previous=self._facts, changes=self.changes, clock=lambda: self.now, settle=0
        )
        assert all(r.success for r in readings), readings
        self._was_read = any(t.topic in ENTRIES for topics in self._broker.visits for t in topics)
        self._facts = facts
        return facts

    async def settle(self) -> HostFacts:
        """Facts of a silent round; a few looks pass while the namespace comes to rest (duplicate address detection)."""
        for _ in range(20):
            facts = await self.look()
            if not self._was_read:
                return facts
        raise AssertionError("the kernel is never silent here")


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab() as made:
        yield made


@pytest.fixture
def host(lab: Lab) -> Iterator[Host]:
    made = Host(lab.nodes[0].netns)
    yield made
    made.changes.close()
    lab.heal()


@pytest.fixture
def ns() -> Iterator[str]:
    with host_namespace() as name:
        yield name


@pytest.mark.parametrize("fault", [*HOST_FAULTS, "pod_route_removed", "node_ipv6_disabled", "forwarding_off"])
async def test_a_fault_after_a_silent_round_is_seen_in_the_next_and_so_is_its_healing(
    lab: Lab, host: Host, fault: str
) -> None:
    before = await host.settle()
    lab.fault(fault)
    seen = changed(before, await host.look())
    fresh, _ = await read_host(DirectBroker(host.netns), settle=0)
    assert seen
    assert seen == changed(before, fresh), "as one sees it who keeps nothing"
    if fault in HOST_FAULTS:
        assert seen == HOST_FAULTS[fault]
    lab.heal()
    assert changed(before, await host.look()) <= {f"{LINK}/index"}


async def test_what_a_silent_round_says_is_what_reading_everything_says(host: Host) -> None:
    kept = await host.settle()
    fresh, _ = await read_host(DirectBroker(host.netns), settle=0)
    assert not changed(kept, fresh)
    assert replace(kept, legacy=None, entries_read=0.0, nat=None, limits=fresh.limits) == replace(
        fresh, legacy=None, entries_read=0.0, nat=None
    )


async def test_neighbours_of_other_links_disturb_nobody_and_those_of_the_tunnel_do(lab: Lab, host: Host) -> None:
    await host.settle()
    node = lab.nodes[0]
    lines = [
        f"neigh replace 2001:db8:1::{i:x} lladdr 02:00:00:00:00:01 dev eth0 nud reachable" for i in range(200, 300)
    ]
    batch({node.netns: [*lines, *(line.split(" lladdr")[0].replace("replace", "del") + " dev eth0" for line in lines)]})
    await host.look()
    assert not host.was_read()
    batch({node.netns: [f"neigh add fd00:10:244:ffff::1 lladdr 66:00:00:00:00:01 dev {TUNNEL6} nud permanent"]})
    facts = await host.look()
    batch({node.netns: [f"neigh del fd00:10:244:ffff::1 dev {TUNNEL6}"]})
    assert host.was_read()
    assert facts.vxlan is not None
    assert "66:00:00:00:00:01" in {n.mac for n in facts.vxlan.devices[TUNNEL6].neighbours}


async def test_after_more_changes_than_the_kernel_keeps_all_is_read_anew(ns: str) -> None:
    host = Host(ns)
    await host.settle()
    routes = [f"2001:db8:7:{i:x}::/64" for i in range(3000)]
    batch({ns: [f"route add blackhole {route}" for route in routes]})
    facts = await host.look()
    assert host.was_read()
    assert len([r for r in facts.routes or () if r.type == "blackhole"]) >= len(routes)
    batch({ns: [f"route del blackhole {route}" for route in routes]})
    after = await host.settle()
    assert not [r for r in after.routes or () if str(r.destination).startswith("2001:db8:7:")]
    host.changes.close()


async def test_everything_is_read_anew_after_a_while_of_silence(ns: str) -> None:
    host = Host(ns)
    await host.settle()
    host.now += FULL_EVERY - 1
    await host.look()
    assert not host.was_read()
    host.now += 2
    await host.look()
    assert host.was_read()
    await host.look()
    assert not host.was_read()
    host.changes.close()


async def test_a_route_that_expires_counts_down_in_every_round(ns: str) -> None:
    batch({ns: ["link add eth0 type veth peer name eth1", "link set eth0 up", "link set eth1 up"]})
    host = Host(ns)
    await host.settle()
    batch({ns: ["route add 2001:db8:8::/64 dev eth0 expires 1000"]})
    for _ in range(3):
        assert any(r.expires for r in (await host.look()).routes or ())
        assert host.was_read()
    batch({ns: ["route del 2001:db8:8::/64 dev eth0"]})
    await host.settle()
    host.changes.close()


async def test_where_the_kernel_refuses_its_announcements_all_is_read_in_every_round(
    ns: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> socket.socket:
        raise PermissionError(13, "as a sandbox may")

    monkeypatch.setattr("exporter.vantage.rtnetlink_monitor._subscribe", refuse)
    host = Host(ns)
    for _ in range(3):
        await host.look()
        assert host.was_read()


def test_listening_needs_no_privilege_at_all() -> None:
    def act() -> str:
        changes = RtnetlinkMonitor()
        said = [changes.is_silent(), changes.is_silent()]
        os.write(ready, b"x")
        os.read(made, 1)
        return f"{[*said, changes.is_silent(), changes.is_silent()]}"

    with named_namespace() as name:
        was_made, made_it = os.pipe()
        is_ready, said_ready = os.pipe()
        made, ready = was_made, said_ready
        child = os.fork()
        if not child:  # makes the change once the other listens
            os.read(is_ready, 1)
            batch({name: ["address add 2001:db8::53/128 dev lo nodad"]})
            os.write(made_it, b"x")
            os._exit(0)
        try:
            said = NamespaceVisitor().visit(place_of_name(name), lambda: run_as(NOBODY, act))
        finally:
            os.waitpid(child, 0)
            for descriptor in (was_made, made_it, is_ready, said_ready):
                os.close(descriptor)
    assert said == "[False, True, False, True]"
