"""BGP connections over IPv6 as the kernel's filter finds them among others."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from ipaddress import ip_address

import pytest

from exporter.kernel.read.host_facts import HostWish
from exporter.kernel.read.readers import read_host
from exporter.model.facts import HostFacts
from tests.kernel.calico_host import host_namespace
from tests.kernel.direct_broker import DirectBroker
from tests.kernel.namespaces import batch, call_inside

pytestmark = pytest.mark.real

HERE, ROUTER, NODE, OTHER = "2001:db8::1", "2001:db8::2", "2001:db8::3", "2001:db8::4"
WISH = HostWish(bgp=True)


@pytest.fixture
def ns() -> Iterator[str]:
    with host_namespace() as name:
        batch({name: [f"address add {address}/128 dev lo nodad" for address in (HERE, ROUTER, NODE, OTHER)]})
        yield name


async def facts_of(ns: str, wish: HostWish = WISH) -> HostFacts:
    facts, readings = await read_host(DirectBroker(ns), settle=0, wish=wish)
    assert ("bgp" in {r.reader for r in readings if r.success}) is wish.bgp, readings
    return facts


def connected(source: str, target: tuple[str, int], family: int = socket.AF_INET6) -> list[socket.socket]:
    """Both ends of a connection, and the socket that listens."""
    listener = socket.create_server(target, family=family)
    client = socket.create_connection(target, source_address=(source, 0))
    return [listener, client, listener.accept()[0]]


def read_among_others(ns: str) -> HostFacts:
    held = [
        *connected(HERE, (ROUTER, 179)),  # seen from both ends: this node opened it, or the other did
        *connected(NODE, (OTHER, 1790)),  # another port
        *connected("127.0.0.1", ("127.0.0.1", 179), socket.AF_INET),
    ]
    mapped = socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
    mapped.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    mapped.connect(("::ffff:127.0.0.1", 179))
    held.append(mapped)
    try:
        return asyncio.run(facts_of(ns))
    finally:
        for each in held:
            each.close()


def test_established_connections_of_port_179_are_found_by_either_end(ns: str) -> None:
    facts = call_inside(ns, read_among_others, ns)
    assert facts.bgp_peers == frozenset(map(ip_address, (HERE, ROUTER)))


async def test_without_a_connection_there_is_no_peer_and_nobody_asks_where_none_is_expected(ns: str) -> None:
    assert (await facts_of(ns)).bgp_peers == frozenset()
    assert (await facts_of(ns, HostWish())).bgp_peers is None
