"""Calico's WireGuard device on a real kernel: the rule and the routes that lead to it, and the device where the kernel
has WireGuard.
"""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Iterator
from ipaddress import ip_network

import pytest

from exporter.kernel.read.host_facts import HostWish
from exporter.kernel.read.readers import read_host
from exporter.model.facts import HostFacts, WireguardFacts
from tests.kernel.calico_host import host_namespace
from tests.kernel.direct_broker import DirectBroker
from tests.kernel.namespaces import batch

pytestmark = pytest.mark.real

WISH = HostWish(wireguard=True)
MARK = "0x100000/0x100000"


@pytest.fixture
def ns() -> Iterator[str]:
    with host_namespace() as name:
        yield name


def make_device(ns: str) -> bool:
    """Whether the kernel has WireGuard: where it has not, another device has its name."""
    made = subprocess.run(
        ["ip", "-n", ns, "link", "add", "wg-v6.cali", "type", "wireguard"], check=False, capture_output=True
    )
    if made.returncode:
        batch({ns: ["link add wg-v6.cali type bridge"]})
    batch({ns: ["link set wg-v6.cali up"]})
    return made.returncode == 0


def facts_of(ns: str, wish: HostWish = WISH) -> HostFacts:
    facts, readings = asyncio.run(read_host(DirectBroker(ns), settle=0, wish=wish))
    assert ("wireguard" in {r.reader for r in readings if r.success}) is wish.wireguard, readings
    return facts


def test_a_missing_device_is_a_state_and_nobody_asks_where_it_is_not_used(ns: str) -> None:
    assert facts_of(ns).wireguard == WireguardFacts(exists=False, up=False)
    assert facts_of(ns, HostWish()).wireguard is None


def test_the_rule_and_the_routes_of_the_device_are_read(ns: str) -> None:
    has_wireguard = make_device(ns)
    for rule in (f"priority 99 not fwmark {MARK} table 1", "priority 100 fwmark 0x2/0x2 table 2"):
        subprocess.run(["ip", "-6", "-n", ns, "rule", "add", *rule.split()], check=True)
    batch({ns: [
        "route add fd01:0:0:12::/122 dev wg-v6.cali table 1",
        "route add fd01:0:0:13::/122 dev wg-v6.cali table 2",
        "route add throw fd01:0:0:14::/122 table 1", "route add fd01:0:0:15::/122 dev lo table 1",
    ]})  # fmt: skip
    found = facts_of(ns).wireguard
    assert found is not None
    assert (found.exists, found.up) == (True, True)
    assert found.routed == {ip_network("fd01:0:0:12::/122")}
    assert found.peers == ()
    assert bool(found.key) is False, f"no key was set ({has_wireguard=})"
