"""Where kube-proxy's rules lead, read from the real kernel: as kube-proxy writes them, in each mode and variant."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_address

import pytest

from exporter.broker.protocol.messages import Topic
from exporter.broker.server.kernel.topics import read_topics
from exporter.kernel.decode import legacy
from exporter.kernel.decode.services import service_chain
from exporter.kernel.read import requests
from exporter.kernel.read.host_facts import HostWish
from exporter.kernel.read.readers import read_host
from exporter.model.facts import Backend, HostFacts, ServiceRoute, WatchedPort
from exporter.model.family import Address, Family
from tests.kernel.calico_host import RULES, host_namespace, restore, write_calico
from tests.kernel.calico_rules import KubePort, NatInput, kube_nft
from tests.kernel.direct_broker import DirectBroker
from tests.kernel.namespaces import call_inside, run_inside

pytestmark = pytest.mark.real

ONE, TWO, GONE = "fd00:10:244:1::41", "fd00:10:244:2::41", "fd00:10:244:3::77"
DNS6, DNS4 = "fd00:10:96::a", "10.96.0.10"


def rules(*endpoints: str, six: bool = True, by_chain: bool = False) -> NatInput:
    """Rules that lead to these endpoints of the DNS Service, over UDP."""
    address, pods = (DNS6, RULES.pod_range) if six else (DNS4, "10.244.0.0/16")
    dns = KubePort("kube-system/kube-dns", "dns", "udp", address, 53, endpoints, 5353, by_chain)
    if six:
        return replace(RULES, more=(dns,))
    return replace(
        RULES, six=False, service="10.96.0.50", endpoints=("10.244.1.65",), more=(dns,),
        pod_range=pods, pools=(pods,), all_pools=(pods,),
    )  # fmt: skip


def port(*endpoints: str, name: str = "dns", six: bool = True) -> WatchedPort:
    known = frozenset((ip_address(each), 5353) for each in endpoints)
    return WatchedPort(
        service="kube-system/kube-dns",
        name=name,
        protocol="udp",
        family=Family.V6 if six else Family.V4,
        endpoints=known,
    )


def write(ns: str, backend: Backend, made: NatInput) -> None:
    if backend is Backend.NFTABLES:
        run_inside(ns, "nft", "-f", "-", text=kube_nft(made))
    else:
        write_calico(ns, backend.removeprefix("iptables-"), made)


async def routes(ns: str, *ports: WatchedPort, previous: HostFacts | None = None) -> tuple[ServiceRoute, ...]:
    facts, readings = await read_host(DirectBroker(ns), wish=HostWish(ports=ports), previous=previous, settle=0)
    assert all(r.success for r in readings), readings
    assert facts.kube_proxy is not None
    return facts.kube_proxy.routes


def led(found: tuple[ServiceRoute, ...]) -> list[set[Address]]:
    return [set(each.addresses) for each in found]


def addresses(*texts: str) -> set[Address]:
    return {ip_address(text) for text in texts}


@pytest.fixture
def ns() -> Iterator[str]:
    with host_namespace() as name:
        yield name


@pytest.mark.parametrize(
    ("backend", "by_chain"), [*((backend, False) for backend in Backend), (Backend.NFTABLES, True)]
)
@pytest.mark.parametrize("six", [True, False])
async def test_the_rules_of_a_port_lead_to_its_endpoints_known_or_not(
    ns: str, backend: Backend, by_chain: bool, six: bool
) -> None:
    one, two, gone = (ONE, TWO, GONE) if six else ("10.244.1.66", "10.244.2.66", "10.244.3.77")
    watched = port(one, two, six=six)
    for ends in ((one, two), (one,), (one, two, gone), (gone,)):
        write(ns, backend, rules(*ends, six=six, by_chain=by_chain))
        (found,) = await routes(ns, watched)
        assert (found.port, found.backend, found.chain) == (watched, backend, service_chain(watched, backend))
        assert found.addresses == addresses(*ends)


@pytest.mark.parametrize("backend", list(Backend))
async def test_a_port_without_rules_leads_to_nothing(ns: str, backend: Backend) -> None:
    write(ns, backend, rules())
    assert led(await routes(ns, port(ONE))) == [set()]
    write(ns, backend, rules(ONE))
    assert led(await routes(ns, port(ONE, name="another"), port(ONE))) == [set(), addresses(ONE)]


@pytest.mark.parametrize("backend", [Backend.IPTABLES_NFT, Backend.NFTABLES])
async def test_a_chain_that_nothing_leads_to_is_a_leftover(ns: str, backend: Backend) -> None:
    write(ns, backend, rules(GONE))
    chain = service_chain(port(), backend)
    if backend is Backend.NFTABLES:
        run_inside(ns, "nft", "-f", "-", text="flush map ip6 kube-proxy service-ips\n")
        run_inside(ns, "nft", "-f", "-", text=_web_alone())
    else:
        run_inside(ns, "ip6tables-nft", "-t", "nat", "-D", "KUBE-SERVICES", "2")
        assert chain not in run_inside(ns, "ip6tables-nft", "-t", "nat", "-S", "KUBE-SERVICES")
    assert led(await routes(ns, port(ONE))) == [set()]


@pytest.mark.parametrize("backend", list(Backend))
async def test_rules_that_are_not_understood_lead_nowhere_that_is_known(ns: str, backend: Backend) -> None:
    write(ns, backend, rules(ONE))
    chain = service_chain(port(), backend)
    if backend is Backend.NFTABLES:
        text = f"flush chain ip6 kube-proxy {chain}\nadd rule ip6 kube-proxy {chain} ip6 nexthdr udp accept\n"
        run_inside(ns, "nft", "-f", "-", text=text)
    else:
        tool = f"ip6tables-{backend.removeprefix('iptables-')}"
        run_inside(ns, tool, "-t", "nat", "-F", chain)
        run_inside(ns, tool, "-t", "nat", "-A", chain, "-p", "udp", "-j", "ACCEPT")
    assert await routes(ns, port(ONE)) == ()


def _web_alone() -> str:
    services = kube_nft(rules()).partition("map service-ips")[2]
    web = next(line for line in services.splitlines() if "elements = {" in line)
    return f"add element ip6 kube-proxy service-ips {web.split('elements = ')[1]}\n"


async def test_of_two_variants_with_rules_none_is_believed(ns: str) -> None:
    write(ns, Backend.IPTABLES_NFT, rules(ONE))
    write(ns, Backend.IPTABLES_LEGACY, rules(GONE))
    assert await routes(ns, port(ONE)) == ()
    run_inside(ns, "ip6tables-legacy", "-t", "nat", "-F")
    assert led(await routes(ns, port(ONE))) == [addresses(ONE)]


async def test_without_service_rules_of_a_family_nothing_is_said_of_its_ports(ns: str) -> None:
    write(ns, Backend.IPTABLES_NFT, rules("10.244.1.66", six=False))
    four, six = port("10.244.1.66", six=False), port(ONE)
    assert [each.port for each in await routes(ns, four, six)] == [four]


async def test_a_kept_copy_of_a_legacy_table_serves_only_the_ports_that_it_was_made_for(ns: str) -> None:
    write(ns, Backend.IPTABLES_LEGACY, rules(ONE))
    broker = DirectBroker(ns)
    before, _ = await read_host(broker, wish=HostWish(ports=()), settle=0)
    facts, _ = await read_host(broker, wish=HostWish(ports=(port(ONE),)), previous=before, settle=0)
    again, _ = await read_host(broker, wish=HostWish(ports=(port(ONE),)), previous=facts, settle=0)
    assert facts.kube_proxy is not None
    assert led(facts.kube_proxy.routes) == [addresses(ONE)]
    assert again.kube_proxy == facts.kube_proxy
    copies = [sum(t.topic is Topic.LEGACY_CHAINS for t in visit) for visit in broker.visits]
    assert sum(map(bool, copies)) == 2


@pytest.mark.parametrize("backend", list(Backend))
async def test_thousands_of_endpoints_leave_the_broker_as_some(ns: str, backend: Backend) -> None:
    many = tuple(f"fd00:10:244:4::{n:x}" for n in range(1, 2001))
    write(ns, backend, rules(*many))
    (found,) = await routes(ns, port(ONE))
    assert 50 <= len(found.addresses) <= len(many)
    assert found.addresses <= addresses(*many)


def test_chains_that_are_followed_bring_what_they_lead_to_and_others_do_not(ns: str) -> None:
    restore(
        ns,
        "legacy",
        "*nat\n:KUBE-SERVICES - [0:0]\n:A - [0:0]\n:B - [0:0]\n:C - [0:0]\n"
        "-A PREROUTING -j KUBE-SERVICES\n-A KUBE-SERVICES -j C\n-A A -j B\n-A B -j RETURN\n-A C -j RETURN\nCOMMIT\n",
    )
    (answer,) = call_inside(ns, read_topics, (requests.legacy_chains(Family.V6, ("A", "NONE")),))
    found = legacy.parse_chains(answer.data, Family.V6)
    assert set(found) == {"POSTROUTING", "PREROUTING", "OUTPUT", "KUBE-SERVICES", "A", "B"}
