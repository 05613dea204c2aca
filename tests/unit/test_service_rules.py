"""service_rules_stale: which ports are watched, how kube-proxy names their chains, and each case of the rule."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address
from typing import Any

import pytest

from exporter.diagnosis.engine.explain import explain
from exporter.diagnosis.watched_services import MAX_ENDPOINTS, PROXY_NAME, watched_ports
from exporter.digest.projection import project
from exporter.inventory.kubernetes.store import ObjectStore
from exporter.inventory.kubernetes.watched_resources import ENDPOINT_SLICES
from exporter.inventory.parse.core import parse_service
from exporter.kernel.decode.services import endpoint_of, service_chain
from exporter.model.cause import Cause, Severity
from exporter.model.cluster.inventory import Inventory, ResourceKind
from exporter.model.cluster.service import Endpoint, EndpointSlice, Service, ServicePort
from exporter.model.facts import Backend, HostFacts, KubeProxyFacts, ServiceRoute, WatchedPort
from exporter.model.family import Family, family_of
from exporter.model.reason import Reason
from exporter.model.report import Finding
from exporter.model.subject import Pair, Subject
from tests.unit.cluster_scene import endpoints, service
from tests.unit.node_scene import V4, V6, cluster, host, node_view, only, said

STALE = Cause.SERVICE_RULES_STALE
NFT, LEGACY, NATIVE = Backend.IPTABLES_NFT, Backend.IPTABLES_LEGACY, Backend.NFTABLES
NOW = 10_000.0  # of node_view
HERE, OTHER, GONE = "fd01:0:0:11::5", "fd01:0:0:12::5", "fd01:0:0:11::77"
DNS = service(
    "kube-dns",
    namespace="kube-system",
    labels={"k8s-app": "kube-dns"},
    ports=(
        ServicePort(name="dns", port=53, protocol="UDP"),
        ServicePort(name="dns-tcp", port=53),
        ServicePort(name="metrics", port=9153),
    ),
)
API = service("kubernetes", (V4,), ports=(ServicePort(name="https", port=443),))
OWN = service(
    "exporter", labels={"app.kubernetes.io/name": "dualstack-exporter"}, ports=(ServicePort(name="", port=80),)
)
PORTS = (ServicePort(name="dns", port=53, protocol="UDP"), ServicePort(name="dns-tcp", port=53))


def dns_slice(*addresses: str, **changes: Any) -> EndpointSlice:
    return replace(endpoints("kube-dns", *addresses, namespace="kube-system"), ports=PORTS, **changes)


def scene(*slices: EndpointSlice, of: Service = DNS, **changes: Any) -> Inventory:
    return cluster(services=(of,), endpoint_slices=slices, **changes)


def port(name: str = "dns", protocol: str = "udp", service: str = "kube-system/kube-dns", *ends: str) -> WatchedPort:
    found = frozenset((ip_address(end), 53) for end in ends)
    family = next((family_of(address) for address, _ in found), V6)
    return WatchedPort(service=service, name=name, protocol=protocol, family=family, endpoints=found)


def route(*addresses: str, family: Family = V6, backend: Backend = NFT) -> ServiceRoute:
    watched = replace(port(), family=family)
    found = frozenset(map(ip_address, addresses))
    return ServiceRoute(port=watched, backend=backend, chain="KUBE-SVC-X", addresses=found)


def rules(*routes: ServiceRoute, mode: str = "iptables") -> HostFacts:
    return host(kube_proxy=KubeProxyFacts(mode, {V4: True, V6: True}, routes))


# Which ports


def test_the_ports_of_the_services_that_every_node_needs_are_watched_in_the_families_with_ready_endpoints() -> None:
    slices = (
        dns_slice(HERE),
        dns_slice("10.1.11.5", name="ipv4"),
        replace(endpoints("kubernetes", "10.0.10.11"), ports=(ServicePort(name="https", port=6443),)),
        replace(endpoints("exporter", "10.0.10.13"), ports=(ServicePort(name="", port=10046),)),
        replace(endpoints("exporter", HERE, ready=False), ports=(ServicePort(name="", port=10046),)),
        replace(endpoints("web", HERE), ports=(ServicePort(name="", port=80),)),
    )
    web = service("web", ports=(ServicePort(name="", port=80),))
    found = watched_ports(cluster(services=(DNS, API, OWN, web), endpoint_slices=slices))
    assert {(p.service, p.name, p.protocol, p.family) for p in found} == {
        ("kube-system/kube-dns", "dns", "udp", V4),
        ("kube-system/kube-dns", "dns", "udp", V6),
        ("kube-system/kube-dns", "dns-tcp", "tcp", V4),
        ("kube-system/kube-dns", "dns-tcp", "tcp", V6),
        ("default/kubernetes", "https", "tcp", V4),
        ("default/exporter", "", "tcp", V4),
    }
    assert next(p.endpoints for p in found if p.name == "https") == {(ip_address("10.0.10.11"), 6443)}


@pytest.mark.parametrize(
    "inventory",
    [
        scene(dns_slice(HERE), of=replace(DNS, local_only=True)),
        scene(dns_slice(HERE), of=replace(DNS, labels={**DNS.labels, PROXY_NAME: "another"})),
        scene(dns_slice(HERE), of=replace(DNS, cluster_ips=())),
        scene(dns_slice(HERE), of=replace(DNS, cluster_ips=DNS.cluster_ips[:1])),  # of IPv4 alone
        scene(dns_slice(*(f"fd01::{n:x}" for n in range(1, MAX_ENDPOINTS + 2)))),
        scene(dns_slice(HERE), of=replace(DNS, name="web", labels={})),
        scene(),
        cluster(services=None, endpoint_slices=None),
    ],
)
def test_what_kube_proxy_treats_otherwise_is_not_watched(inventory: Inventory) -> None:
    assert watched_ports(inventory) == ()


def test_a_service_says_whether_it_stays_on_its_node() -> None:
    def local(spec: dict[str, str]) -> bool:
        return parse_service({"metadata": {"name": "a", "namespace": "b"}, "spec": spec}).local_only

    assert local({"internalTrafficPolicy": "Local"})
    assert not local({"internalTrafficPolicy": "Cluster"})
    assert not local({})


# Names: those of kube-proxy's own tests (pkg/proxy/iptables/proxier_test.go, nftables/proxier_test.go) and of clusters


@pytest.mark.parametrize(
    ("watched", "backend", "chain"),
    [
        (port("p80", "tcp", "ns1/svc1"), NFT, "KUBE-SVC-XPGD46QRK7WJZT7O"),
        (port("dns", "udp"), LEGACY, "KUBE-SVC-TCOU7JCQXEZGVUNU"),
        (port("dns-tcp", "tcp"), NFT, "KUBE-SVC-ERIFXISQEP7F7OF4"),
        (port("https", "tcp", "default/kubernetes"), NFT, "KUBE-SVC-NPX46M4PTMTKRN6Y"),
        (port("p80", "tcp", "ns1/svc1"), NATIVE, "service-ULMVA6XW-ns1/svc1/tcp/p80"),
    ],
)
def test_a_ports_chain_is_named_as_kube_proxy_names_it(watched: WatchedPort, backend: Backend, chain: str) -> None:
    assert service_chain(watched, backend) == chain


@pytest.mark.parametrize(
    ("watched", "chain", "address"),
    [
        (replace(port("p80", "tcp", "ns1/svc1"), family=V4, endpoints=frozenset({(ip_address("10.180.0.1"), 80)})),
            "KUBE-SEP-SXIVWICOYRO3J4NJ", "10.180.0.1"),
        (port(), "KUBE-SEP-SXIVWICOYRO3J4NJ", None),  # of no endpoint that is known
        (replace(port(), family=V4), "endpoint-5OJB2KTY-ns1/svc1/tcp/p80__10.180.0.1/80", "10.180.0.1"),
        (port(), "endpoint-2RWMFRLZ-ns1/svc1/tcp/p80__fd00.10.180..1/80", "fd00:10:180::1"),
        (port(), "endpoint-2RWMFRLZ-ns1/svc1/tcp/p80__fd00.10..180..1/80", None),
        (port(), "endpoint-2RWMFRLZ-ns1/svc1/tcp/p80__fd00.10.18...", None),  # cut
    ],
)  # fmt: skip
def test_an_endpoints_chain_tells_its_address(watched: WatchedPort, chain: str, address: str | None) -> None:
    assert endpoint_of(watched, chain) == (None if address is None else ip_address(address))


# The rule


@pytest.mark.parametrize(
    ("facts", "inventory", "evidence"),
    [
        (rules(route(HERE)), scene(dns_slice(HERE)), ""),
        (rules(route(HERE)), scene(dns_slice(HERE, OTHER)), ""),  # a part of them: topology
        (rules(route(HERE, OTHER)), scene(dns_slice(HERE), dns_slice(OTHER, name="second")), ""),
        # One that terminates is still an endpoint.
        (rules(route(HERE, OTHER)), scene(dns_slice(HERE), replace(dns_slice(OTHER, name="second"), endpoints=(
            Endpoint(addresses=(ip_address(OTHER),), ready=False),))), ""),
        (rules(route()), scene(dns_slice(HERE)), f"leads to no endpoint, its EndpointSlices have {HERE} ready"),
        (rules(route(GONE)), scene(dns_slice(HERE)), f"leads to {GONE}, its EndpointSlices have {HERE}"),
        (rules(route(HERE, GONE)), scene(dns_slice(HERE)), f"leads to {GONE}, its EndpointSlices have {HERE}"),
        (rules(route(OTHER)), scene(dns_slice(HERE), replace(dns_slice(OTHER, name="second"), endpoints=(
            Endpoint(addresses=(ip_address(OTHER),), ready=False),))), f"leads to {OTHER}, none of which is ready"),
        # Nothing is ready: another cause, and nothing to lead to.
        (rules(route()), scene(endpoints("kube-dns", HERE, ready=False, namespace="kube-system")), ""),
        (rules(route(GONE)), scene(dns_slice()), ""),
        (rules(route(GONE)), scene(), ""),
        # A port that no pod has.
        (rules(route()), scene(replace(dns_slice(HERE), ports=PORTS[1:])), ""),
        # A change that is younger than two minutes, of any slice of the family; the other family's do not matter.
        (rules(route(GONE)), scene(dns_slice(HERE, changed=NOW - 119)), ""),
        (rules(route(GONE)), scene(dns_slice(HERE), dns_slice(OTHER, name="second", changed=NOW - 1)), ""),
        (rules(route(GONE)), scene(dns_slice(HERE, changed=NOW - 120)), f"leads to {GONE}"),
        (rules(route(GONE)), scene(dns_slice(HERE), dns_slice("10.1.11.5", name="4", changed=NOW)), f"leads to {GONE}"),
        # Slices of more endpoints than are watched, and of a digest that has none of them.
        (rules(route(GONE)), scene(dns_slice(*(f"fd01::{n:x}" for n in range(1, MAX_ENDPOINTS + 2)))), ""),
        (rules(route(GONE)), cluster(services=(DNS,), endpoint_slices=(endpoints("web", HERE),)), ""),
        (rules(route("10.1.11.77", family=V4)), scene(dns_slice("10.1.11.5")), "leads to 10.1.11.77"),
    ],
)  # fmt: skip
def test_rules_lead_where_the_endpoint_slices_say(facts: HostFacts, inventory: Inventory, evidence: str) -> None:
    seen = node_view(facts, inventory)
    if not evidence:
        assert said(STALE, seen) == ()
        return
    found = only(STALE, seen)
    assert (found.subjects, found.severity) == (("service/kube-system/kube-dns",), Severity.WARNING)
    assert found.evidence[0].startswith("service/kube-system/kube-dns dns/udp over IPv")
    assert evidence in found.evidence[0]
    assert "KUBE-SVC-X (iptables-nft)" in found.evidence[0]


@pytest.mark.parametrize(
    ("family", "backend", "command"),
    [
        (V6, NFT, "ip6tables-nft -t nat -S KUBE-SVC-X; kubectl -n kube-system get endpointslices"),
        (V4, LEGACY, "iptables-legacy -t nat -S KUBE-SVC-X; kubectl"),
        (V6, NATIVE, "nft list chain ip6 kube-proxy KUBE-SVC-X; kubectl"),
        (V4, NATIVE, "nft list chain ip kube-proxy KUBE-SVC-X; kubectl"),
    ],
)
def test_the_command_is_that_of_the_backend(family: Family, backend: Backend, command: str) -> None:
    seen = node_view(rules(route(family=family, backend=backend)), scene(dns_slice(HERE), dns_slice("10.1.11.5")))
    assert only(STALE, seen).command.startswith(command)


@pytest.mark.parametrize(
    ("facts", "inventory", "reason"),
    [
        (host(kube_proxy=None), scene(dns_slice(HERE)), Reason.READER_FAILED),
        (rules(route(GONE), mode="none"), scene(dns_slice(HERE)), Reason.NOT_APPLICABLE),
        (rules(route(GONE), mode="ipvs"), scene(dns_slice(HERE)), Reason.NOT_APPLICABLE),
        (rules(), scene(dns_slice(HERE)), Reason.NOT_APPLICABLE),
        (rules(route(GONE)), scene(dns_slice(HERE), stale=True), Reason.STALE_INVENTORY),
        (rules(route(GONE)), cluster(endpoint_slices=None, unread={ResourceKind.ENDPOINT_SLICES: Reason.NO_PERMISSION}),
            Reason.NO_PERMISSION),
        (rules(route(GONE)), cluster(services=None), Reason.NO_INVENTORY),
    ],
)  # fmt: skip
def test_what_was_not_read_is_no_finding(facts: HostFacts, inventory: Inventory, reason: Reason) -> None:
    assert said(STALE, node_view(facts, inventory)) is reason


def test_each_family_is_a_finding_of_its_own_and_explains_that_family_alone() -> None:
    seen = node_view(
        rules(route(GONE), route("10.1.11.77", family=V4)), scene(dns_slice(HERE), dns_slice("10.1.11.5", name="4"))
    )
    judged = said(STALE, seen)
    assert isinstance(judged, tuple)
    assert [finding.family for finding in judged] == [V4, V6]
    pairs = {family: Pair(Subject("pod/default/web"), Subject("server/cluster_dns"), family) for family in (V4, V6)}
    silent = Finding(
        cause=Cause.DNS_UNREACHABLE,
        severity=Severity.WARNING,
        subjects=(Subject("server/cluster_dns"),),
        pairs=frozenset(pairs.values()),
        evidence=("no answer",),
        command="dig",
    )
    assert explain((*judged, silent))[-1].by is STALE
    (left,) = (each.finding for each in explain((judged[1], silent)) if each.finding.cause is Cause.DNS_UNREACHABLE)
    assert left.pairs == {pairs[V4]}


# What nodes are told


def test_the_digest_has_the_endpoints_of_these_services_and_when_they_changed() -> None:
    many = endpoints("exporter", *(f"fd01::{n:x}" for n in range(1, MAX_ENDPOINTS + 2)))
    slices = (
        dns_slice(HERE, changed=NOW - 60),
        dns_slice(OTHER, name="long-ago", changed=NOW - 3600),
        replace(endpoints("kubernetes", "10.0.10.11"), ports=API.ports),
        many,
        endpoints("web", HERE),
    )
    told = project(cluster(services=(DNS, API, OWN), endpoint_slices=slices), NOW)
    assert {(s.name, s.changed) for s in told.endpoint_slices or ()} == {
        ("kube-dns-IPv6", NOW - 60),
        ("long-ago", None),
        ("kubernetes-IPv4", None),
    }
    few = project(cluster(services=(OWN,), endpoint_slices=(endpoints("exporter", HERE, pod="a"),)), NOW)
    assert [end.pod for s in few.endpoint_slices or () for end in s.endpoints] == [""]


def test_an_endpoint_slice_has_the_time_of_its_last_change() -> None:
    def source(address: str) -> dict[str, Any]:
        return {
            "metadata": {"namespace": "kube-system", "name": "kube-dns-1"},
            "addressType": "IPv6",
            "endpoints": [{"addresses": [address]}],
        }

    def changed() -> list[float | None]:
        values = store.objects()[ResourceKind.ENDPOINT_SLICES]
        return [each.changed for each in values if isinstance(each, EndpointSlice)]

    store = ObjectStore()
    store.fill(ENDPOINT_SLICES, {}, 1.0)
    store.set(ENDPOINT_SLICES, source(HERE), 2.0)
    store.set(ENDPOINT_SLICES, source(HERE), 3.0)
    assert changed() == [2.0]
    store.set(ENDPOINT_SLICES, source(OTHER), 4.0)
    assert changed() == [4.0]
