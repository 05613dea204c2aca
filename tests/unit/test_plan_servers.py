"""Which nameservers may be asked, and what they are called: docs/specification.md section 4."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.config.schema import Config
from exporter.model.cluster.inventory import Inventory, InventoryOrigin
from exporter.model.cluster.service import Service, ServicePort
from exporter.model.dns import ResolvConf
from exporter.model.report import PodView
from exporter.plan.name_resolution import ResolutionGroup, resolution_groups
from exporter.plan.servers import known_servers, servers_of
from tests.unit.plan_scene import a_pod, cluster, conf, config, round_plan, view
from tests.unit.scene import HOST, pod

TEAM = Service(
    namespace="team", name="resolver", cluster_ips=(ip_address("10.96.5.5"),), ports=(ServicePort(name="dns", port=53),)
)
POD = a_pod("own", dns_servers=(ip_address("192.0.2.99"),))
INVENTORY = cluster(
    services=(*(cluster().services or ()), TEAM), pods=(a_pod("coredns", labels={"k8s-app": "kube-dns"}, ready=True),)
)
CONFIG = config(
    "dns: {servers: [pod, {name: corp, address: 192.0.2.53}], allow: [198.51.100.0/24, '2001:db8:53::/48']}"
)
KNOWN = known_servers(INVENTORY, CONFIG, conf("192.0.2.1", "2001:db8::1", search=()))


@pytest.mark.parametrize(
    ("address", "label", "allowed"),
    [
        ("10.96.0.10", "cluster_dns", True),
        ("fd00:96::a", "cluster_dns", True),
        ("10.96.5.5", "team/resolver", True),
        ("169.254.20.10", "node_local", True),
        ("192.0.2.1", "host", True),
        ("2001:db8::1", "host", True),
        ("192.0.2.53", "corp", True),
        ("192.0.2.99", "other", True),  # the pod's own spec.dnsConfig
        ("198.51.100.7", "other", True),
        ("2001:db8:53::7", "other", True),
        ("169.254.169.254", "other", False),
        ("127.0.0.1", "other", False),
        ("::1", "other", False),
        ("8.8.8.8", "other", False),
        ("fd00:ec2::254", "other", False),
    ],
)
def test_who_may_be_asked_and_under_which_label(address: str, label: str, allowed: bool) -> None:
    ((server, said),) = servers_of(conf(address), KNOWN, POD)
    assert (server.label, said, str(server.address)) == (label, allowed, address)


def test_another_pods_dns_config_allows_nothing() -> None:
    assert servers_of(conf("192.0.2.99"), KNOWN, a_pod("other"))[0][1] is False
    assert servers_of(conf("192.0.2.99"), KNOWN)[0][1] is False


def test_without_an_inventory_only_the_hosts_nameservers_and_the_operators() -> None:
    known = known_servers(Inventory(source=InventoryOrigin.NONE), config(), conf("192.0.2.1"))
    assert [allowed for _, allowed in servers_of(conf("192.0.2.1", "169.254.20.10", "10.96.0.10"), known)] == [
        True,
        False,
        False,
    ]


@given(addresses=st.lists(st.ip_addresses(), max_size=50))
def test_no_file_makes_more_than_three_servers_or_one_that_nobody_else_named(addresses: list[object]) -> None:
    file = ResolvConf(nameservers=tuple(addresses))  # type: ignore[arg-type]  # hypothesis gives both kinds
    found = servers_of(file, KNOWN)
    assert len(found) <= 3
    labels = {"cluster_dns", "team/resolver", "node_local", "host", "corp", "other"}
    assert {server.label for server, _ in found} <= labels
    for server, allowed in found:
        ranged = any(server.address.version == n.version and server.address in n for n in CONFIG.dns.allow)
        assert allowed == (server.address in KNOWN.labels or ranged)


BOTH = config("targets: [{name: a, host: a.test, port: 1}, {name: b, host: b.test, port: 1, vantages: [host]}]")
ONE = config("targets: [{name: a, host: a.test, port: 1}]")


def groups(
    host: PodView, sample: Sequence[PodView], of: Config, *, inventory: Inventory = INVENTORY, number: int = 0
) -> tuple[ResolutionGroup, ...]:
    return resolution_groups(round_plan(of, inventory, host=host, sample=sample, known=KNOWN, number=number))


def test_names_are_resolved_once_per_file_and_from_the_host_by_itself() -> None:
    one, two, three = (
        view(pod(n), conf(a)) for n, a in (("1", "10.96.0.10"), ("2", "10.96.0.10"), ("3", "fd00:96::a"))
    )
    host = view(HOST, conf("192.0.2.1"))
    found = groups(host, [one, two, three], BOTH)
    assert [([v.name for v in n.vantages], [t.name for t in n.targets], n.asked_from.name) for n in found] == [
        (["ra"], ["a", "b"], "ra"),
        (["1", "2"], ["a"], "1"),
        (["3"], ["a"], "3"),
    ]


def test_a_pod_whose_nameservers_may_not_be_asked_dials_what_the_hosts_say() -> None:
    host = view(HOST, conf("192.0.2.1"))
    for file in (conf("169.254.169.254", "127.0.0.1"), None):
        (naming,) = groups(host, [view(pod("bad"), file)], ONE)[1:]
        assert ([v.name for v in naming.vantages], naming.asked_from) == (["bad"], HOST)
        assert [str(s.address) for s in naming.servers] == ["192.0.2.1"]


def test_what_the_pods_spec_names_may_be_asked_for_targets_too() -> None:
    own = replace(INVENTORY, pods=(POD,))
    naming = groups(view(HOST, None), [view(pod("own"), conf("192.0.2.99"))], ONE, inventory=own)[1]
    assert [str(s.address) for s in naming.servers] == ["192.0.2.99"]


def test_with_nobody_to_ask_nothing_is_asked_and_the_target_is_told_of() -> None:
    found = groups(view(HOST, None), [], ONE)
    assert [(n.asked_from, n.servers, len(n.targets)) for n in found] == [(HOST, (), 1)]


def test_the_order_turns_so_that_a_tight_budget_reaches_all() -> None:
    host, one = view(HOST, conf("192.0.2.1")), view(pod("1"), conf())
    first = [
        (n.vantages[0].name, n.targets[0].name) for turn in range(2) for n in groups(host, [one], BOTH, number=turn)[:1]
    ]
    assert first == [("ra", "a"), ("1", "a")]
