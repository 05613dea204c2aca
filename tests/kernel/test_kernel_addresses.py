"""Addresses and routes in every state that the kernel gives them: lifetimes, duplicates, router advertisements, several
next hops.
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Iterator
from ipaddress import IPv6Address, ip_address, ip_interface, ip_network

import pytest

from exporter.kernel.read.readers import read_host
from exporter.model.facts import AddressFact, HostFacts
from exporter.model.family import Family
from tests.kernel.direct_broker import DirectBroker
from tests.kernel.namespaces import batch, call_inside, configure, create, delete, run_inside, unique_prefix

pytestmark = pytest.mark.real

WAIT = 10.0


@pytest.fixture
def pair() -> Iterator[tuple[str, str]]:
    """Two hosts on one wire, eth0 to eth0."""
    prefix = unique_prefix()
    names = (prefix + "host", prefix + "router")
    create(names)
    try:
        configure({names[1]: {"net/ipv6/conf/default/accept_dad": 0}})
        batch({"": [f"link add eth0 index 100 netns {names[0]} type veth peer name eth0 netns {names[1]}"]})
        batch({name: ["link set lo up", "link set eth0 up"] for name in names})
        yield names
    finally:
        delete(names)


async def facts_of(namespace: str) -> HostFacts:
    facts, readings = await read_host(DirectBroker(namespace), settle=0)
    assert all(r.success for r in readings), readings
    return facts


async def address_of(namespace: str, interface: str) -> AddressFact | None:
    found = (await facts_of(namespace)).addresses or ()
    return next((a for a in found if a.interface == ip_interface(interface)), None)


async def test_a_duplicate_address_is_tentative_and_then_failed(pair: tuple[str, str]) -> None:
    host, other = pair
    batch({other: ["address add 2001:db8::7/64 dev eth0 nodad"]})
    batch({host: ["address add 2001:db8::7/64 dev eth0"]})
    found = await address_of(host, "2001:db8::7/64")
    assert found is not None
    assert found.tentative
    assert not found.usable
    deadline = time.monotonic() + WAIT
    while not found.dadfailed:
        assert time.monotonic() < deadline, "the kernel did not notice the duplicate"
        found = await address_of(host, "2001:db8::7/64")
        assert found is not None
    assert not found.usable


async def test_lifetimes_and_deprecation_are_told(pair: tuple[str, str]) -> None:
    host, _ = pair
    batch(
        {
            host: [
                "address add 2001:db8::8/64 dev eth0 nodad valid_lft 1000 preferred_lft 0",
                "address add 2001:db8::9/64 dev eth0 nodad",
                "address add fd00::1 peer fd00::2/128 dev eth0 nodad",
                "address add 192.0.2.1 peer 192.0.2.2/32 dev eth0",
                "address add 192.0.2.9/24 dev lo scope host",
            ]
        }
    )
    found = await address_of(host, "2001:db8::8/64")
    assert found is not None
    assert (found.deprecated, found.permanent, found.usable) == (True, False, True)
    forever = await address_of(host, "2001:db8::9/64")
    assert forever is not None
    assert (forever.deprecated, forever.permanent) == (False, True)
    for interface, scope in (("fd00::1/128", "global"), ("192.0.2.1/32", "global"), ("192.0.2.9/24", "host")):
        own = await address_of(host, interface)
        assert own is not None, interface
        assert own.scope == scope


def advertise(prefix: str, lifetime: int) -> None:
    """Send one router advertisement with a prefix for SLAAC (RFC 4861 4.2, 4.6.2)."""
    option = struct.pack("!BBBBIII", 3, 4, 64, 0xC0, 7200, 3600, 0) + IPv6Address(prefix).packed
    message = struct.pack("!BBHBBHII", 134, 0, 0, 64, 0, lifetime, 0, 0) + option
    with socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6) as sender:
        index = socket.if_nametoindex("eth0")
        sender.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
        sender.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
        sender.sendto(message, ("ff02::1", 0, 0, index))


async def test_what_a_router_advertised_is_known_as_such(pair: tuple[str, str]) -> None:
    host, router = pair
    configure({host: {"net/ipv6/conf/eth0/accept_ra": 1}})
    deadline = time.monotonic() + WAIT
    facts = await facts_of(host)
    while not facts.default_routes(Family.V6):
        assert time.monotonic() < deadline, "no route came from the advertisement"
        call_inside(router, advertise, "2001:db8:5::", 1800)
        facts = await facts_of(host)
    (route,) = facts.default_routes(Family.V6) or ()
    assert (route.from_ra, route.protocol, route.link) == (True, 9, "eth0")
    assert route.expires is not None
    assert 1790 <= route.expires <= 1800
    assert route.gateway is not None
    assert route.gateway.is_link_local
    (address,) = [a for a in facts.addresses or () if a.is_global and a.family is Family.V6]
    assert not address.permanent
    (link,) = [each for each in facts.links or () if each.name == "eth0"]
    assert link.inet6 is not None
    assert (link.inet6.accept_ra, link.inet6.forwarding) == (1, 0)


async def test_forwarding_that_is_forced_on_a_link_is_read(pair: tuple[str, str]) -> None:
    host, _ = pair
    exists = "force_forwarding" in run_inside(host, "ls", "/proc/sys/net/ipv6/conf/eth0")  # since Linux 6.17
    if exists:
        configure({host: {"net/ipv6/conf/eth0/force_forwarding": 1}})
    links = {each.name: each.inet6 for each in (await facts_of(host)).links or ()}
    forced = {name: conf is not None and conf.force_forwarding for name, conf in links.items()}
    assert (forced["eth0"], forced["lo"]) == (int(exists), 0)


async def test_a_link_below_the_minimum_has_no_ipv6(pair: tuple[str, str]) -> None:
    """What link_mtu_below_ipv6_minimum says of the kernel."""
    host, _ = pair
    batch({host: ["address add 2001:db8::7/64 dev eth0 nodad", "link set eth0 mtu 1279"]})
    assert await address_of(host, "2001:db8::7/64") is None
    (link,) = [each for each in (await facts_of(host)).links or () if each.name == "eth0"]
    assert (link.mtu, link.inet6) == (1279, None)


async def test_flannels_tunnel_is_read_as_calicos_is(pair: tuple[str, str]) -> None:
    host, _ = pair
    mac, end, node = "0a:58:00:00:00:02", "fd00:10:42:2::", "2001:db8::2"
    batch(
        {
            host: [
                "address add 2001:db8::7/64 dev eth0 nodad",
                "link add flannel-v6.1 type vxlan id 1 dev eth0 local 2001:db8::7 dstport 8472 nolearning",
                "link set flannel-v6.1 mtu 1430 up",
                "address add fd00:10:42:1::/128 dev flannel-v6.1 nodad",
                f"neigh add {end} lladdr {mac} dev flannel-v6.1 nud permanent",
                f"route add {end}/64 via {end} dev flannel-v6.1 onlink",
            ]
        }
    )
    batch({host: [f"fdb add {mac} dev flannel-v6.1 dst {node} self permanent"]}, "bridge")
    facts = await facts_of(host)
    assert facts.vxlan is not None
    device = facts.vxlan.devices["flannel-v6.1"]
    assert (device.vni, device.port, str(device.local), device.parent) == (1, 8472, "2001:db8::7", "eth0")
    assert [str(route.gateway) for route in device.routes if route.gateway] == [end]
    assert [neighbour.mac for neighbour in device.neighbours if str(neighbour.address) == end] == [mac]
    assert str(device.fdb[mac]) == node
    assert "flannel-v6.1" not in {route.link for route in facts.routes or ()}


async def test_several_next_hops_and_foreign_gateways_are_read(pair: tuple[str, str]) -> None:
    host, _ = pair
    batch(
        {
            host: [
                "address add 2001:db8::1/64 dev eth0 nodad",
                "address add 192.0.2.1/24 dev eth0",
                "route add 2001:db8:2::/64 nexthop via 2001:db8::a dev eth0 nexthop via 2001:db8::b dev eth0",
                "route add 198.51.100.0/24 nexthop via 192.0.2.2 dev eth0 nexthop via 192.0.2.3 dev eth0",
                "route add 203.0.113.0/24 via inet6 fe80::1 dev eth0",
                "route add unreachable 2001:db8:3::/64",
                "route add prohibit 10.9.0.0/16",
                "route add 2001:db8:4::/64 via 2001:db8::a dev eth0 metric 77 mtu 1300 proto 80",
                "route add 2001:db8:6::/64 via 2001:db8::a dev eth0 table 100",
            ]
        }
    )
    routes = (await facts_of(host)).routes or ()

    def of(destination: str) -> list[str]:
        return sorted(str(r.gateway) for r in routes if r.destination == ip_network(destination))

    assert of("2001:db8:2::/64") == ["2001:db8::a", "2001:db8::b"]
    assert of("198.51.100.0/24") == ["192.0.2.2", "192.0.2.3"]
    assert of("203.0.113.0/24") == ["fe80::1"]
    kinds = {str(r.destination): r.type for r in routes}
    assert (kinds["2001:db8:3::/64"], kinds["10.9.0.0/16"]) == ("unreachable", "prohibit")
    (route,) = [r for r in routes if r.destination == ip_network("2001:db8:4::/64")]
    assert (route.protocol, route.link) == (80, "eth0")
    assert route.gateway == ip_address("2001:db8::a")
    assert of("2001:db8:6::/64") == [], "of another table"
