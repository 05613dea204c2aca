"""Conntrack's use and IPv6 UDP checksum errors, counted by the real kernel."""

from __future__ import annotations

import platform
import socket
import struct
from collections.abc import Iterator

import pytest

from exporter.kernel.read.readers import read_host
from exporter.model.facts import KernelCounters
from tests.kernel.calico_host import host_namespace
from tests.kernel.direct_broker import DirectBroker
from tests.kernel.namespaces import call_inside, run_inside

pytestmark = pytest.mark.real

# Any rule that asks for a packet's state has conntrack follow the flows of its namespace.
FOLLOWED = "table inet t { chain c { type filter hook output priority 0; ct state new accept; }; }"
PORTS = range(40000, 40005)


@pytest.fixture
def ns() -> Iterator[str]:
    with host_namespace() as name:
        yield name


async def limits(ns: str) -> KernelCounters:
    facts, readings = await read_host(DirectBroker(ns), settle=0)
    assert all(r.success for r in readings if r.reader in {"conntrack", "snmp6"}), readings
    return facts.limits


def speak() -> None:
    """One datagram to each port of the loopback address, to where nobody listens."""
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as speaker:
        for port in PORTS:
            speaker.sendto(b"x", ("::1", port))


def corrupt(count: int) -> None:
    """Datagrams with a wrong checksum to a port that is open (RFC 8200 8.1), past the kernel's own checksumming."""
    with (
        socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as listener,
        socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_RAW) as sender,
    ):
        listener.bind(("::1", 0))
        port = listener.getsockname()[1]
        datagram = struct.pack("!HHHH", 4711, port, 12, 0xBEEF) + b"oops"
        loopback = socket.inet_pton(socket.AF_INET6, "::1")
        header = struct.pack("!IHBB", 6 << 28, len(datagram), socket.IPPROTO_UDP, 64) + loopback * 2
        for _ in range(count):
            sender.sendto(header + datagram, ("::1", 0))


async def test_flows_are_counted_against_their_limit(ns: str) -> None:
    before = await limits(ns)
    run_inside(ns, "nft", "-f", "-", text=FOLLOWED)
    call_inside(ns, speak)
    after = await limits(ns)
    assert before.conntrack_count is not None
    assert after.conntrack_count is not None
    assert after.conntrack_count - before.conntrack_count == len(PORTS)
    assert after.conntrack_max == before.conntrack_max
    assert after.conntrack_max


async def test_each_datagram_of_a_wrong_checksum_is_counted(ns: str) -> None:
    assert (await limits(ns)).udp6_checksum_errors == 0
    call_inside(ns, corrupt, 7)
    assert (await limits(ns)).udp6_checksum_errors == 7


async def test_the_kernels_release_is_the_running_ones(ns: str) -> None:
    assert (await limits(ns)).kernel_release == platform.release()
