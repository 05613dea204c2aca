"""Each cause of the node's own kernel: when it holds, each case in which it does not, and what is left where a part was
not read.
"""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_interface
from typing import Any

import pytest

from exporter.diagnosis.engine.rule_input import RuleInput
from exporter.diagnosis.rules.judging import rules_of
from exporter.diagnosis.rules.node import host as host_rules
from exporter.model.cause import Cause, Severity
from exporter.model.cluster.inventory import Inventory, InventoryOrigin
from exporter.model.cluster.node import FlannelNode
from exporter.model.cni.profile import Cni, CniSign, Place
from exporter.model.facts import AddressFact, HostFacts, Inet6Conf, LinkFact, RouteFact
from exporter.model.family import Family, parse_net
from exporter.model.probe import Group
from exporter.model.reason import Reason
from exporter.model.vantage import PodState
from tests.unit.cluster_scene import NODES, POOL4, POOL6
from tests.unit.node_scene import (
    ADDRESS,
    ADDRESSES,
    CONF,
    DEFAULT4,
    DEFAULT6,
    GATEWAY,
    POD_ROUTES,
    cluster,
    holding,
    host,
    inside,
    namespace,
    node_view,
    only,
    route,
    said,
)
from tests.unit.node_scene import ETH0 as HEALTHY_ETH0
from tests.unit.scene import HOST, seen, target, view

NODE_RULES = rules_of(host_rules)
INVENTORY = Inventory(source=InventoryOrigin.KUBERNETES, nodes=(), pools=(), pods=())
OFF = Inet6Conf(forwarding=0, accept_ra=1, disable_ipv6=0)
ETH0 = LinkFact(index=2, name="eth0", up=True, lower_up=True, mtu=1500, inet6=OFF)


def default(net: str) -> RouteFact:
    parsed = parse_net(net)
    assert parsed is not None
    return RouteFact(destination=parsed, link="eth0")


@pytest.mark.parametrize(
    ("cause", "facts", "found"),
    [
        # Links unread: whether IPv6 is switched off cannot be told, and hides nothing.
        (Cause.NODE_NO_IPV6_ADDRESS, HostFacts(addresses=()), True),
        (Cause.NODE_NO_IPV6_DEFAULT_ROUTE, HostFacts(routes=(default("0.0.0.0/0"),)), True),
        (Cause.NODE_FORWARDING_OFF, HostFacts(all_conf=OFF), True),
        # Links read, and IPv6 off: the first cause says it all.
        (
            Cause.NODE_FORWARDING_OFF,
            HostFacts(links=(ETH0,), all_conf=Inet6Conf(forwarding=0, accept_ra=1, disable_ipv6=1)),
            False,
        ),
        (Cause.NODE_NO_IPV6_DEFAULT_ROUTE, HostFacts(routes=(default("0.0.0.0/0"), default("::/0"))), False),
        (Cause.NODE_NO_IPV6_DEFAULT_ROUTE, HostFacts(routes=()), False),
    ],
)
def test_what_was_not_read_hides_nothing_that_was(cause: Cause, facts: HostFacts, found: bool) -> None:
    said = NODE_RULES[cause](view(facts=facts, inventory=INVENTORY))
    assert isinstance(said, tuple)
    assert bool(said) is found


@pytest.mark.parametrize("cause", list(NODE_RULES))
def test_nothing_read_is_unchecked(cause: Cause) -> None:
    assert isinstance(NODE_RULES[cause](view(facts=HostFacts(), inventory=INVENTORY)), Reason)


def conf(**changes: int) -> Inet6Conf:
    return replace(CONF, **changes)


def link(name: str = "eth0", **changes: int) -> LinkFact:
    return replace(HEALTHY_ETH0, name=name, inet6=conf(**changes))


DISABLED, NO_ADDRESS = Cause.NODE_IPV6_DISABLED, Cause.NODE_NO_IPV6_ADDRESS
NO_ROUTE, FORWARDING = Cause.NODE_NO_IPV6_DEFAULT_ROUTE, Cause.NODE_FORWARDING_OFF
MISMATCH, FORCED = Cause.NODE_IP_MISMATCH, Inet6Conf(forwarding=0, accept_ra=0, disable_ipv6=0, force_forwarding=1)
RA, POD_ROUTE = Cause.NODE_ACCEPT_RA_IGNORED, Cause.POD_ROUTE_MISSING
V4_ONLY = ADDRESSES[:1]
TUNNEL = AddressFact(link="vxlan-v6.calico", interface=ip_interface("fd01:0:0:13::/128"), scope="global")
FROM_RA = replace(ADDRESS, permanent=False)
LEARNT = route("::/0", gateway=GATEWAY, from_ra=True, expires=900.0)


def routes(*v6: RouteFact) -> tuple[RouteFact, ...]:
    return (DEFAULT4, *v6, *POD_ROUTES)


@pytest.mark.parametrize(
    ("facts", "cause", "evidence"),
    [
        (host(), None, ""),
        (host(all_conf=conf(disable_ipv6=1)), DISABLED, "net.ipv6.conf.all.disable_ipv6 = 1"),
        (host(links=(link(disable_ipv6=1),)), DISABLED, "net.ipv6.conf.eth0.disable_ipv6 = 1"),
        (host(links=(link(), link("docker0", disable_ipv6=1))), None, ""),  # not the node's own link
        (host(addresses=V4_ONLY), NO_ADDRESS, "no global IPv6 address"),
        (host(addresses=(*V4_ONLY, replace(ADDRESS, scope="link"))), NO_ADDRESS, "no global IPv6 address"),
        (host(addresses=(*V4_ONLY, replace(ADDRESS, tentative=True))), NO_ADDRESS, "on eth0 is tentative"),
        (host(addresses=(*V4_ONLY, replace(ADDRESS, tentative=True, dadfailed=True))), NO_ADDRESS, "dadfailed"),
        (host(addresses=(*V4_ONLY, TUNNEL)), NO_ADDRESS, "no global IPv6 address"),
        (host(addresses=(*V4_ONLY, replace(ADDRESS, interface=ip_interface("fd12::13/64")))), MISMATCH,
            "2001:db8:10::13"),  # a ULA counts as an address
        (host(addresses=(*V4_ONLY, replace(ADDRESS, link="lo", interface=ip_interface("2001:db8::1/128")))), MISMATCH,
            "2001:db8:10::13"),
        (host(addresses=(*ADDRESSES, replace(ADDRESS, dadfailed=True))), None, ""),
        (host(routes=routes()), NO_ROUTE, "no ::/0, and has 0.0.0.0/0"),
        (host(routes=routes(replace(DEFAULT6, type="unreachable"))), NO_ROUTE, "no ::/0"),
        (host(routes=POD_ROUTES), None, ""),  # IPv4 has none either
        (host(all_conf=conf(forwarding=0)), FORWARDING, "net.ipv6.conf.all.forwarding = 0"),
        # Of the first three the first; forwarding needs IPv6.
        (host(all_conf=conf(disable_ipv6=1, forwarding=0), addresses=V4_ONLY, routes=routes()), DISABLED,
            "all.disable_ipv6"),
        (host(addresses=V4_ONLY, routes=routes()), NO_ADDRESS, "no global"),
        # Router advertisements.
        (host(links=(link(accept_ra=1),), addresses=(*V4_ONLY, FROM_RA), routes=routes(LEARNT)), RA,
            "expires in 900 s"),
        (host(links=(link(accept_ra=2),), addresses=(*V4_ONLY, FROM_RA), routes=routes(LEARNT)), None, ""),
        (host(links=(link(accept_ra=1, forwarding=0),), addresses=(*V4_ONLY, FROM_RA), routes=routes(LEARNT)), None,
            ""),
        (host(links=(link(accept_ra=1),), addresses=(*V4_ONLY, FROM_RA), routes=routes(DEFAULT6)), None, ""),  # static
        (host(links=(link(accept_ra=1),), addresses=(*V4_ONLY, FROM_RA), routes=routes(LEARNT, DEFAULT6)), None, ""),
        (host(links=(link(accept_ra=1),), routes=routes(replace(LEARNT, expires=None))), None, ""),  # never expires
        (host(links=(link(accept_ra=1),)), None, ""),  # nothing came from an advertisement
        # another interface
        (host(links=(link("eth1", accept_ra=1), link(accept_ra=2)), routes=routes(LEARNT)), None, ""),
        # With accept_ra 0 a daemon may renew the route: it must be seen falling, see below.
        (host(links=(link(accept_ra=0),), routes=routes(LEARNT)), None, ""),
    ],
)  # fmt: skip
def test_what_the_kernel_of_the_node_states(facts: HostFacts, cause: Cause | None, evidence: str) -> None:
    seen_by = node_view(facts)
    assert holding(NODE_RULES, seen_by) == ({} if cause is None else {cause: Severity.WARNING})
    if cause is not None:
        found = only(cause, seen_by)
        assert found.subjects == ("node/ra",)
        assert any(evidence in line for line in found.evidence)


def test_an_advertisement_that_has_run_out_took_the_default_route_with_it() -> None:
    """Both hold; the verdict explains the second by the first."""
    prefix = route("2001:db8:10::/64", from_ra=True, expires=10.0)
    gone = node_view(host(links=(link(accept_ra=1),), routes=routes(prefix)))
    assert holding(NODE_RULES, gone) == {RA: Severity.WARNING, NO_ROUTE: Severity.WARNING}
    assert "no IPv6 default route is left" in only(RA, gone).evidence[0]


@pytest.mark.parametrize(
    ("earlier", "now", "holds"),
    [(500.0, 470.0, True), (500.0, 500.0, False), (1800.0, 1770.0, False), (None, 470.0, False)]
)  # fmt: skip
def test_where_a_daemon_may_renew_the_route_it_must_be_seen_falling(
    earlier: float | None, now: float, *, holds: bool
) -> None:
    def facts(left: float) -> HostFacts:
        return host(links=(link(accept_ra=0),), routes=routes(replace(LEARNT, expires=left)))

    before = None if earlier is None else node_view(facts(earlier)).snapshot
    assert bool(holding([RA], node_view(facts(now), previous=before))) is holds


@pytest.mark.parametrize(
    ("pools", "target_group", "outcome", "severity"),
    [
        ((POOL4, POOL6), None, "", Severity.WARNING),
        ((POOL4, replace(POOL6, nat_outgoing=False)), None, "", Severity.INFO),
        ((POOL4, replace(POOL6, disabled=True)), None, "", Severity.INFO),
        ((POOL4,), None, "", Severity.INFO),
        ((POOL4,), Group.OUTSIDE, "tcp6=unreachable", Severity.WARNING),
        ((POOL4,), Group.OUTSIDE, "tcp4=ok", Severity.INFO),  # it names IPv4 alone
        ((POOL4,), Group.SERVICE, "tcp6=ok", Severity.INFO),
    ],
)
def test_a_default_route_that_nobody_needs_is_information(
    pools: Any, target_group: Group | None, outcome: str, severity: Severity
) -> None:
    kept = seen(HOST, target("pypi", target_group), outcome) if target_group is not None else []
    without = node_view(host(routes=routes()), cluster(pools=pools), kept=kept)
    assert only(NO_ROUTE, without).severity is severity


HERE = ("pod/default/web",)


@pytest.mark.parametrize(
    ("facts", "said_of_it"),
    [
        (host(), None),
        (host(routes=(DEFAULT4, DEFAULT6, *POD_ROUTES[1:])), "no route of its own"),
        (host(routes=(DEFAULT4, *POD_ROUTES[1:])), "no route of its own"),
        (host(routes=(DEFAULT4, DEFAULT6, route("fd01:0:0:13::/122", type="blackhole"), *POD_ROUTES[1:])),
            "blackhole fd01:0:0:13::/122"),
        (host(routes=(DEFAULT4, DEFAULT6, route("fd01:0:0:13::/122", type="blackhole"), *POD_ROUTES)), None),
        (host(routes=(DEFAULT4, DEFAULT6, route("fd01:0:0:13::/64", "cni0"))), None),  # a bridge
        (host(routes=(DEFAULT4, DEFAULT6, route("fd01:0:0:13::2/128", type="unreachable"), *POD_ROUTES[1:])),
            "no route of its own"),
        (host(routes=(DEFAULT4, *POD_ROUTES[1:]), all_conf=conf(disable_ipv6=1)), None),
    ],
)  # fmt: skip
def test_the_hosts_route_to_a_pod(facts: HostFacts, said_of_it: str | None) -> None:
    seen_by = node_view(facts)
    if said_of_it is None:
        assert holding([POD_ROUTE], seen_by) == {}
        return
    found = only(POD_ROUTE, seen_by)
    assert found.subjects == HERE
    assert said_of_it in found.evidence[0]
    assert found.command == "ip -6 route get fd01:0:0:13::2"


GONE = host(routes=(DEFAULT4, DEFAULT6))


@pytest.mark.parametrize(
    ("pods", "inventory", "reason"),
    [
        ([], cluster(), Reason.NO_PODS),
        ([inside(state=PodState.TERMINATING)], cluster(), Reason.NO_PODS),
        ([inside(state=PodState.STARTING)], cluster(), Reason.NO_PODS),
        ([inside()], cluster(pods=None), Reason.NO_INVENTORY),
        ([inside("web", namespace(addresses=()))], cluster(), None),  # it does not have the address
        ([inside(addresses=())], cluster(), None),  # the API names none
    ],
)
def test_pods_that_need_no_route(pods: Any, inventory: Inventory, reason: Reason | None) -> None:
    assert said(POD_ROUTE, node_view(GONE, inventory, pods)) == (() if reason is None else reason)
    assert only(POD_ROUTE, node_view(GONE, cluster(), [inside(state=PodState.INTERCEPTED)])).subjects == HERE


def test_a_host_that_is_no_node_need_not_forward() -> None:
    off = host(all_conf=conf(forwarding=0))
    assert said(FORWARDING, node_view(off, replace(cluster(), nodes=None, pools=None))) is Reason.NO_INVENTORY
    assert only(FORWARDING, node_view(off, cluster(nodes=NODES, pools=None))).subjects == ("node/ra",)


def forced(*names: str, among: tuple[str, ...] = ("eth0", "cali2", "cali3")) -> HostFacts:
    """A node whose all.forwarding is 0 and that forces forwarding on the named links."""
    off = conf(forwarding=0)
    links = tuple(
        replace(HEALTHY_ETH0, name=name, inet6=FORCED if name in names else off) for name in (*among, "docker0")
    )
    return host(all_conf=off, links=links)


@pytest.mark.parametrize(
    ("facts", "lacking"),
    [
        (forced("eth0", "cali2", "cali3"), None),  # docker0 carries nothing of pods
        (forced("eth0", "cali2"), "cali3"),
        (forced("cali2", "cali3"), "eth0"),
        (forced("eth0", "cali2", "cali3", among=("eth0", "cali2", "cali3", "vxlan-v6.calico")), "vxlan-v6.calico"),
    ],
)
def test_forwarding_may_be_forced_on_the_links_of_pods(facts: HostFacts, lacking: str | None) -> None:
    if lacking is None:
        assert said(FORWARDING, node_view(facts)) == ()
    else:
        assert f"net.ipv6.conf.{lacking}.force_forwarding = 0" in only(FORWARDING, node_view(facts)).evidence


def test_forwarding_of_single_links_forwards_nothing() -> None:
    facts = host(all_conf=conf(forwarding=0), links=(link(),))
    assert only(FORWARDING, node_view(facts)).evidence == (
        "net.ipv6.conf.all.forwarding = 0",
        "net.ipv4.ip_forward = 1",
    )


def of_families(seen_by: RuleInput, *, ipv4: bool | None) -> RuleInput:
    return replace(seen_by, snapshot=replace(seen_by.snapshot, families={Family.V4: ipv4, Family.V6: True}))


V6_ALONE = host(routes=POD_ROUTES, addresses=ADDRESSES[1:])


@pytest.mark.parametrize(
    ("facts", "ipv4", "found"),
    [
        (V6_ALONE, False, True),
        (V6_ALONE, None, True),
        (V6_ALONE, True, False),  # IPv4 is meant to be and has no route either: the node leads nowhere
        (host(routes=POD_ROUTES), None, False),  # it has an IPv4 address
        (host(routes=POD_ROUTES), False, True),
        (replace(V6_ALONE, routes=(DEFAULT6, *POD_ROUTES)), False, False),
    ],
)
def test_a_default_route_needs_no_twin_of_ipv4_where_that_is_not_expected(
    facts: HostFacts, ipv4: bool | None, found: bool
) -> None:
    assert bool(said(NO_ROUTE, of_families(node_view(facts), ipv4=ipv4))) is found


def test_pods_with_global_addresses_need_the_default_route() -> None:
    public = inside(addresses=(ip_address("2001:db8:77::2"),))
    for pods, severity in (([public], Severity.WARNING), ([inside()], Severity.INFO)):
        seen_by = node_view(host(routes=routes()), cluster(pools=()), pods)
        assert only(NO_ROUTE, seen_by).severity is severity


def renamed(**changes: Any) -> Inventory:
    return cluster(nodes=tuple(replace(n, **changes) if n.name == "ra" else n for n in NODES))


def of_flannel(annotations: FlannelNode) -> Inventory:
    empty: dict[str, Any] = {"pools": (), "block_affinities": (), "felix": (), "calico_node": None, "cni": None}
    return replace(renamed(flannel=annotations, calico_addresses=()), **empty)


GONE_ADDRESS = ip_address("2001:db8:99::13")
FLANNEL_NODE = FlannelNode(backend="vxlan", addresses=(GONE_ADDRESS,))


@pytest.mark.parametrize(
    ("inventory", "evidence"),
    [
        (cluster(), None),
        (renamed(internal_ips=(ip_address("10.0.10.13"), GONE_ADDRESS)), "InternalIP 2001:db8:99::13"),
        (renamed(calico_addresses=(ip_interface("2001:db8:99::13/64"),)), "projectcalico.org/IPv6Address"),
        (of_flannel(FLANNEL_NODE), "flannel.alpha.coreos.com/public-ipv6"),
        (of_flannel(replace(FLANNEL_NODE, overwritten=True)), None),  # somebody set another one on purpose
        (renamed(flannel=FLANNEL_NODE), None),  # left from before Calico
        (renamed(internal_ips=(ip_address("10.9.9.9"),)), None),  # IPv4 is none of its business
        (renamed(internal_ips=(ip_address("fe80::1"),)), None),  # another cause
    ],
)
def test_an_address_by_which_the_cluster_knows_the_node(inventory: Inventory, evidence: str | None) -> None:
    if evidence is None:
        assert said(MISMATCH, node_view(inventory=inventory)) == ()
        return
    found = only(MISMATCH, node_view(inventory=inventory))
    assert evidence in found.evidence[0]
    assert "2001:db8:10::13 (eth0)" in found.evidence[0]


def test_a_node_without_any_address_or_unknown_has_no_wrong_one() -> None:
    assert said(MISMATCH, node_view(host(addresses=V4_ONLY))) == ()
    assert said(MISMATCH, node_view(inventory=cluster(nodes=NODES[:2]))) is Reason.NOT_APPLICABLE
    assert said(MISMATCH, node_view(inventory=cluster(nodes=None))) is Reason.NO_INVENTORY


@pytest.mark.parametrize(
    "link",
    [
        "vxlan-v6.calico", "cali0123456789a", "tunl0", "wg-v6.cali", "flannel-v6.1", "flannel.1", "cni0", "cilium_host",
        "cilium_vxlan", "ovn-k8s-mp0", "ovn0", "antrea-gw0", "kube-bridge", "kube-dummy-if", "docker0",
        "br-0123456789ab", "kube-ipvs0", "nodelocaldns", "virbr0",
    ],
)  # fmt: skip
def test_addresses_on_links_of_the_pod_network_are_none_of_the_hosts(link: str) -> None:
    of_network = replace(ADDRESS, link=link, interface=ip_interface("fd77::1/64"))
    assert only(NO_ADDRESS, node_view(host(addresses=(*V4_ONLY, of_network)))).subjects == ("node/ra",)


@pytest.mark.parametrize("link", ["eth0", "bond0.7", "br-ex", "br0", "wg0", "tailscale0", "dummy0", "lo", "vlan10"])
def test_addresses_on_other_links_are_the_hosts(link: str) -> None:
    assert said(NO_ADDRESS, node_view(host(addresses=(*V4_ONLY, replace(ADDRESS, link=link))))) == ()


def test_a_cni_that_masquerades_needs_the_default_route() -> None:
    def signed(value: str) -> Inventory:
        sign = CniSign(
            cni=Cni.CILIUM, place=Place.CONFIG_MAP, source="configmap/kube-system/cilium-config",
            settings={"enable-ipv6": "true", "enable-ipv6-masquerade": value},
        )  # fmt: skip
        return cluster(pools=(), block_affinities=(), felix=(), calico_node=None, cni=None, cni_signs=(sign,))

    for value, severity in (("true", Severity.WARNING), ("false", Severity.INFO)):
        assert only(NO_ROUTE, node_view(host(routes=routes()), signed(value))).severity is severity
