"""What a node dials: the cluster's own targets, the ring of peers, and the operator's targets by address and by
name.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from ipaddress import ip_address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.model.cluster.inventory import Inventory, InventoryOrigin, ResourceKind
from exporter.model.cluster.node import Node
from exporter.model.cluster.policy import Policy, PolicyKind
from exporter.model.cluster.service import Endpoint, EndpointSlice, Service, ServicePort
from exporter.model.cluster.well_known import dns_endpoints, dns_services
from exporter.model.family import FAMILIES, Address, Family
from exporter.model.probe import Group, Layer, Target
from exporter.model.reason import Reason
from exporter.plan.peer_pods import peer_pods
from exporter.plan.targets import (
    apiserver,
    at_pods,
    cluster_dns,
    inside,
    outside,
    own_service,
    peers,
    ring,
    with_addresses,
)
from tests.unit.plan_scene import API, KUBE_DNS, OWN, a_node, a_pod, cluster, config

V4, V6 = Family.V4, Family.V6
NOW = 10_000.0
NAMES = st.lists(st.text("abcdef0123456789-", min_size=1, max_size=8), min_size=1, max_size=40, unique=True)


@given(names=NAMES, count=st.integers(0, 10))
def test_every_node_is_probed_by_as_many_as_it_probes(names: list[str], count: int) -> None:
    nodes = [a_node(name, n % 250 + 1) for n, name in enumerate(names)]
    chosen = {name: [n.name for n in ring(nodes, name, count, NOW)] for name in names}
    degree = min(count, len(names) - 1)
    assert {len(peers) for peers in chosen.values()} == {degree}
    assert all(name not in peers and len(set(peers)) == len(peers) for name, peers in chosen.items())
    indegree = Counter(peer for peers in chosen.values() for peer in peers)
    assert set(indegree.values()) <= {degree}
    assert len(indegree) == (len(names) if degree else 0)


@given(names=NAMES, seed=st.randoms(use_true_random=False))
def test_the_ring_is_the_same_whatever_the_order_of_the_list(names: list[str], seed: object) -> None:
    nodes = [a_node(name) for name in names]
    shuffled = sorted(nodes, key=lambda n: hash((n.name, seed)))
    assert ring(nodes, names[0], 5, NOW) == ring(shuffled, names[0], 5, NOW)


@pytest.mark.parametrize(
    "node",
    [
        a_node("no", ready=False),
        a_node("no", ready_since=NOW - 119),
        a_node("no", windows=True),
        a_node("no", virtual=True),
    ],
)
def test_no_peer_is_unready_new_or_without_an_exporter(node: Node) -> None:
    assert ring([a_node("ra"), node], "ra", 5, NOW) == ()
    fine = replace(node, ready=True, ready_since=NOW - 120, windows=False, virtual=False)
    assert ring([a_node("ra"), fine], "ra", 5, NOW) == (fine,)


def test_a_node_that_is_not_listed_has_no_peers_and_an_unready_one_still_has() -> None:
    assert ring([a_node("a"), a_node("b")], "ra", 5, NOW) == ()
    assert [n.name for n in ring([a_node("a"), a_node("ra", ready=False)], "ra", 5, NOW)] == ["a"]


def test_a_peer_is_dialled_at_its_tunnel_address_else_at_its_internal_ip() -> None:
    tunnelled, plain = a_node("t", 2), a_node("p", 3, tunnel_addresses=(ip_address("10.42.3.1"),))
    found = peers(cluster(nodes=(a_node("ra"), tunnelled, plain)), config(), FAMILIES, NOW)
    addresses = {t.peer: {f: str(a) for f, a in t.addresses.items()} for t in found}
    assert addresses == {
        "t": {V4: "10.42.2.1", V6: "fd42::2:1"},
        "p": {V4: "10.42.3.1", V6: "2001:db8::3"},
    }
    assert {(t.name, t.group, t.subject[:5], t.layers) for t in found} == {
        ("peers", Group.PEERS, "peer/", (Layer.ICMP, Layer.TCP))
    }


def test_a_link_local_internal_ip_is_no_address_to_dial() -> None:
    node = a_node("p", 3, tunnel_addresses=(), internal_ips=(ip_address("192.0.2.3"), ip_address("fe80::3")))
    (found,) = peers(cluster(nodes=(a_node("ra"), node)), config(), FAMILIES, NOW)
    assert set(found.addresses) == {V4}


def test_no_peers_where_none_are_wanted() -> None:
    assert peers(cluster(nodes=(a_node("ra"), a_node("b", 2))), config("peers: {count: 0}"), FAMILIES, NOW) == ()


def test_inside_targets_are_dialled_by_tcp_over_each_expected_family_that_they_have() -> None:
    found = {t.name: t for t in inside(cluster(), config(), FAMILIES, NOW)}
    assert set(found) == {"service", "cluster_dns", "apiserver"}
    assert {t.layers for t in found.values()} == {(Layer.TCP,)}
    assert {name: (set(t.addresses), t.port) for name, t in found.items()} == {
        "service": ({V4, V6}, 10046),
        "cluster_dns": ({V4, V6}, 53),
        "apiserver": ({V4}, 443),
    }
    only_four = {t.name: set(t.addresses) for t in inside(cluster(), config(), (V4,), NOW)}
    assert only_four == {"service": {V4}, "cluster_dns": {V4}, "apiserver": {V4}}


def slice_of(*endpoints: tuple[str, bool], service: str = OWN.name) -> EndpointSlice:
    listed = tuple(Endpoint(addresses=(ip_address(address),), ready=ready) for address, ready in endpoints)
    return EndpointSlice(namespace=OWN.namespace, name="s", service=service, family=V4, endpoints=listed)


@pytest.mark.parametrize(
    ("slices", "starting", "dialled"),
    [
        (None, True, True),  # not read
        ((slice_of(service="another"),), True, True),  # of a Service with too many endpoints for the digest
        ((slice_of(),), False, False),
        ((slice_of(("192.0.2.1", False)),), False, False),
        ((slice_of(("192.0.2.1", True)),), False, True),
        ((slice_of(("192.0.2.1", True)),), True, False),  # of the one before: this one is not ready yet
        ((slice_of(("2001:db8::1", True), ("10.1.0.7", True)),), True, False),  # the node's, and the pod's
        ((slice_of(("192.0.2.1", True), ("192.0.2.2", True)),), True, True),
    ],
)
def test_the_own_service_is_dialled_where_an_exporter_is_ready_behind_it(
    slices: tuple[EndpointSlice, ...] | None, starting: bool, dialled: bool
) -> None:
    pods = (a_pod("exporter", ips=(ip_address("10.1.0.7"),), labels={"app.kubernetes.io/name": "dualstack-exporter"}),)
    inventory = cluster(nodes=(a_node("ra"), a_node("b", 2)), pods=pods, endpoint_slices=slices)
    found = {t.name for t in inside(inventory, config(), FAMILIES, NOW, starting=starting)}
    assert ("service" in found) is dialled
    assert {"cluster_dns", "apiserver"} <= found


def test_without_an_inventory_there_is_nothing_inside() -> None:
    assert inside(Inventory(source=InventoryOrigin.NONE), config(), FAMILIES, NOW) == ()


def test_a_single_stack_dns_service_is_completed_by_its_endpoints() -> None:
    service = replace(KUBE_DNS, cluster_ips=(ip_address("10.96.0.10"),), selector={"k8s-app": "kube-dns"})
    ready = Endpoint(addresses=(ip_address("fd00:42::53"),), ready=True)
    gone = Endpoint(addresses=(ip_address("fd00:42::54"),), ready=False)
    slices = (
        EndpointSlice(
            namespace="kube-system", name="kube-dns-6", service="kube-dns", family=V6, endpoints=(gone, ready)
        ),
    )
    found = cluster_dns(cluster(services=(service,), endpoint_slices=slices), FAMILIES)
    assert found is not None
    assert found.addresses == {V4: ip_address("10.96.0.10"), V6: ip_address("fd00:42::53")}
    pods = (a_pod("coredns", labels={"k8s-app": "kube-dns"}, ready=True, ips=(ip_address("fd00:42::55"),)),)
    by_pods = cluster_dns(cluster(services=(service,), pods=pods), FAMILIES)
    assert by_pods is not None
    assert by_pods.addresses[V6] == ip_address("fd00:42::55")


def test_a_service_that_only_shares_a_port_or_a_name_is_not_the_cluster_dns() -> None:
    other = Service(
        namespace="team",
        name="resolver",
        cluster_ips=(ip_address("10.96.5.5"),),
        ports=(ServicePort(name="dns", port=53),),
    )
    web = Service(
        namespace="kube-system",
        name="coredns",
        cluster_ips=(ip_address("10.96.5.6"),),
        ports=(ServicePort(name="metrics", port=9153),),
    )
    assert dns_services(cluster(services=(other, web))) == ()
    assert cluster_dns(cluster(services=(other, web)), FAMILIES) is None
    assert dns_endpoints(cluster(services=(other,)), ()) == ()


def test_headless_services_are_no_targets() -> None:
    headless = replace(OWN, cluster_ips=())
    assert own_service(cluster(services=(headless, OWN)), FAMILIES) == own_service(cluster(), FAMILIES)
    assert own_service(cluster(services=(headless,)), FAMILIES) is None
    assert apiserver(cluster(services=(replace(API, cluster_ips=()),)), FAMILIES) is None


A, AAAA = ip_address("198.51.100.80"), ip_address("2001:db8:ffff::80")


def by_name(text: str, addresses: dict[Family, Address | None], families: tuple[Family, ...] = FAMILIES) -> Target:
    (target,) = config(f"targets: [{{name: web, host: web.test, port: 443{text}}}]").targets
    return with_addresses(target, addresses, families)


@pytest.mark.parametrize(
    ("learned", "asked"),
    [
        ({V4: A, V6: AAAA}, {V4: A, V6: AAAA}),
        ({V4: A, V6: None}, {V4: A}),  # the name has no AAAA: that is no failure
        ({V4: None, V6: AAAA}, {V6: AAAA}),
        ({V4: A}, {V4: A, V6: None}),  # nobody answered the AAAA question: it may well have one
        ({V4: None, V6: None}, {V4: None, V6: None}),  # resolves to nothing: fails over each
        ({}, {V4: None, V6: None}),
    ],
)
def test_families_auto_are_those_that_the_name_has(
    learned: dict[Family, Address | None], asked: dict[Family, Address | None]
) -> None:
    assert by_name("", learned).addresses == asked


def test_named_families_are_dialled_in_any_case_and_no_other() -> None:
    assert by_name(", families: [IPv4, IPv6]", {V4: A, V6: None}).addresses == {V4: A, V6: None}
    assert by_name(", families: [IPv6]", {V4: A, V6: AAAA}).addresses == {V6: AAAA}


def test_a_family_that_is_not_expected_is_not_dialled() -> None:
    assert by_name("", {V4: A, V6: AAAA}, (V4,)).addresses == {V4: A}
    assert by_name("", {V4: A, V6: None}, (V6,)).addresses == {}
    assert by_name(", families: [IPv6]", {V4: A, V6: AAAA}, (V4,)).addresses == {}


@pytest.mark.parametrize(
    ("written", "asked"),
    [
        ("host: web.test, addresses: ['2001:db8::1', 192.0.2.1]", {V4, V6}),
        ("host: web.test, addresses: [192.0.2.1]", {V4}),
        ("host: '2001:db8::1'", {V6}),
        ("host: '::ffff:192.0.2.1'", {V4}),
    ],
)
def test_literal_addresses_are_dialled_over_their_own_families(written: str, asked: set[Family]) -> None:
    ((_, made),) = outside(config(f"targets: [{{name: web, {written}, port: 80}}]"), FAMILIES)
    assert made is not None
    assert set(made.addresses) == asked


def test_a_name_waits_for_its_resolution_and_tls_proves_it() -> None:
    cfg = config("targets: [{name: web, host: web.test, port: 443, layers: [tcp, tls]}]")
    ((target, made),) = outside(cfg, FAMILIES)
    assert made is None
    assert with_addresses(target, {V4: A}, FAMILIES).server_name == "web.test"


FOUR = [ip_address(f"10.1.0.{n}") for n in range(9)]
SIX = [ip_address(f"fd01::{n}") for n in range(9)]
THERE: dict[str, Any] = {"node": "n0", "ready": True}


def test_a_node_is_known_by_two_of_its_pods_for_each_family() -> None:
    pods = (
        a_pod("a-single", ips=(FOUR[1],), **THERE),
        *(a_pod(f"d-{n}", ips=(FOUR[n], SIX[n]), **THERE) for n in (2, 3, 4)),
        a_pod("e-six", ips=(SIX[5],), **THERE),
    )
    known = peer_pods(cluster(pods=pods, nodes=(a_node("n0"), a_node("n1"))))
    assert known == {"n0": (FOUR[2], SIX[2], FOUR[3], SIX[3])}
    assert peer_pods(cluster(pods=tuple(reversed(pods)), nodes=(a_node("n0"),))) == known


@pytest.mark.parametrize(
    "which",
    [
        {"host_network": True}, {"phase": "Pending"}, {"ready": False}, {"deleting": True}, {"runtime_class": "kata"},
        {"ips": ()}, {"ips": (ip_address("fe80::1"),)},
    ],
)  # fmt: skip
def test_a_pod_that_may_not_answer_is_no_way_to_its_node(which: dict[str, Any]) -> None:
    pod = a_pod("web", **{"ips": (FOUR[1], SIX[1]), **THERE, **which})
    assert peer_pods(cluster(pods=(pod,), nodes=(a_node("n0"),))) == {}


@pytest.mark.parametrize(("namespace", "known"), [("default", False), ("", False), ("other", True)])
def test_a_pod_that_a_policy_may_protect_is_none_either(namespace: str, known: bool) -> None:
    policy = Policy(kind=PolicyKind.KUBERNETES, namespace=namespace, name="deny")
    pod = a_pod("web", ips=(FOUR[1], SIX[1]), **THERE)
    assert bool(peer_pods(cluster(pods=(pod,), policies=(policy,)))) is known


@pytest.mark.parametrize(("reason", "known"), [(Reason.NO_PERMISSION, False), (Reason.NO_INVENTORY, True)])
def test_where_policies_may_not_be_read_any_pod_may_be_protected(reason: Reason, known: bool) -> None:
    pod = a_pod("web", ips=(FOUR[1], SIX[1]), **THERE)
    unread = {ResourceKind.POLICIES: reason}
    assert bool(peer_pods(cluster(pods=(pod,), policies=None, unread=unread))) is known


def test_over_a_family_that_no_pod_of_it_has_a_peer_is_dialled_at_its_node() -> None:
    (peer,) = peers(cluster(nodes=(a_node("n0", 1), a_node("ra", 9))), config(), FAMILIES, NOW)
    dialled = at_pods(peer, (FOUR[1], FOUR[2]))
    assert dialled.addresses == {V4: FOUR[1], V6: ip_address("fd42::1:1")}
    assert dialled.others == {V4: (FOUR[2],)}
    assert at_pods(peer, ()) == peer
