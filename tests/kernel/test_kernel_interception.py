"""Service meshes in a pod's own tables, written with the real tools: found where they take what the pod sends, and only
there.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.kernel.direct_broker import DirectBroker
from tests.kernel.namespaces import batch, create, delete, run_inside, unique_prefix
from tests.unit.kernel_recordings import read_pod

pytestmark = pytest.mark.real

ISTIO = """*nat
:ISTIO_INBOUND - [0:0]
:ISTIO_IN_REDIRECT - [0:0]
:ISTIO_OUTPUT - [0:0]
:ISTIO_REDIRECT - [0:0]
-A PREROUTING -p tcp -j ISTIO_INBOUND
-A OUTPUT -p tcp -j ISTIO_OUTPUT
-A ISTIO_INBOUND -p tcp -j ISTIO_IN_REDIRECT
-A ISTIO_IN_REDIRECT -p tcp -j REDIRECT --to-ports 15006
-A ISTIO_OUTPUT -m owner --uid-owner 1337 -j RETURN
-A ISTIO_OUTPUT -j ISTIO_REDIRECT
-A ISTIO_REDIRECT -p tcp -j REDIRECT --to-ports 15001
COMMIT
"""
INBOUND_ONLY = """*nat
:IN - [0:0]
-A PREROUTING -p tcp -j IN
-A IN -p tcp -j REDIRECT --to-ports 15006
-A OUTPUT -p udp --dport 5353 -j REDIRECT --to-ports 15053
-A OUTPUT -p sctp -j REDIRECT
COMMIT
"""
DNS_ONLY = """*nat
-A OUTPUT -p udp -m multiport --dports 50:60,853 -j REDIRECT --to-ports 15053
COMMIT
"""
UDP_THEN_TCP = """*nat
:BOTH - [0:0]
-A OUTPUT -p udp --dport 123 -j BOTH
-A BOTH -p tcp -j REDIRECT --to-ports 15001
COMMIT
"""
DOCKER_DNS = """*nat
:DOCKER_OUTPUT - [0:0]
-A OUTPUT -d {loopback} -j DOCKER_OUTPUT
-A DOCKER_OUTPUT -p tcp --dport 53 -j DNAT --to-destination {target}
COMMIT
"""
TPROXY_OWN = """*mangle
:DIVERT - [0:0]
-A OUTPUT -p tcp -j MARK --set-xmark 0x1/0xffffffff
-A PREROUTING -p tcp -m mark --mark 0x1 -j DIVERT
-A DIVERT -p tcp -j TPROXY --on-port 15001 --tproxy-mark 0x1/0x1
COMMIT
"""
TPROXY_INBOUND = """*mangle
-A PREROUTING -p tcp -j TPROXY --on-port 15006 --tproxy-mark 0x1/0x1
COMMIT
"""
UNREACHED = """*nat
:LONELY - [0:0]
-A LONELY -p tcp -j REDIRECT --to-ports 15001
-A OUTPUT -j ACCEPT
-A OUTPUT -p tcp -j LONELY
COMMIT
"""
CASES = {
    "istio": (ISTIO, True),
    "dns": (DNS_ONLY, True),
    "tproxy of what it sends": (TPROXY_OWN, True),
    "inbound only": (INBOUND_ONLY, False),
    "inbound tproxy": (TPROXY_INBOUND, False),
    "a jump of udp alone": (UDP_THEN_TCP, False),
    "behind an end": (UNREACHED, False),
}
NATIVE = {
    "redirect in a table for both families": (
        "table inet mesh { chain out { type nat hook output priority -100; meta l4proto tcp redirect to :15001; }\n}",
        True,
    ),
    "through a verdict map": (
        """table ip6 mesh { chain tcp6 { meta l4proto tcp redirect to :15001; }
chain out { type nat hook output priority -100; meta l4proto vmap { tcp : jump tcp6 }; }
}""",
        True,
    ),
    "port 53": (
        "table ip mesh { chain out { type nat hook output priority -100; udp dport 53 redirect to :15053; }\n}",
        True,
    ),
    "tproxy of what it sends": (
        """table inet mesh { chain out { type route hook output priority -150; meta l4proto tcp meta mark set 1; }
chain in { type filter hook prerouting priority -150; meta mark 1 meta l4proto tcp tproxy to :15001; }
}""",
        True,
    ),
    "a filter alone": (
        "table inet mesh { chain out { type filter hook output priority 0; tcp dport 25 drop; }\n}",
        False,
    ),
    "another port": (
        "table inet mesh { chain out { type nat hook output priority -100; udp dport 5353 redirect to :53; }\n}",
        False,
    ),
}


@pytest.fixture
def pod() -> Iterator[str]:
    name = unique_prefix() + "pod"
    create([name])
    batch({name: ["link set lo up"]})
    try:
        yield name
    finally:
        delete([name])


async def intercepted(pod: str) -> bool | None:
    facts, reading = await read_pod(DirectBroker(pod))
    assert facts is not None, reading
    return facts.intercepted


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("tool", ["iptables-nft", "iptables-legacy", "ip6tables-nft", "ip6tables-legacy"])
async def test_interception_by_iptables(pod: str, tool: str, case: str) -> None:
    text, expected = CASES[case]
    run_inside(pod, f"{tool}-restore", text=text)
    assert await intercepted(pod) is expected


@pytest.mark.parametrize("case", NATIVE)
async def test_interception_by_nftables(pod: str, case: str) -> None:
    text, expected = NATIVE[case]
    run_inside(pod, "nft", "-f", "-", text=text)
    assert await intercepted(pod) is expected


@pytest.mark.parametrize("variant", ["nft", "legacy"])
async def test_dockers_own_resolver_is_no_mesh(pod: str, variant: str) -> None:
    run_inside(
        pod, f"iptables-{variant}-restore", text=DOCKER_DNS.format(loopback="127.0.0.11/32", target="127.0.0.11:4000")
    )
    assert await intercepted(pod) is False


async def test_a_namespace_without_tables_is_not_intercepted(pod: str) -> None:
    assert await intercepted(pod) is False
