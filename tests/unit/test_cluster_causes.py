"""Causes of nodes, Services, Calico's settings and policies: each found by its own evidence, and each "not when"
silent.
"""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_interface, ip_network
from typing import Any

import pytest

from exporter.config.schema import AaaaPolicy, ServiceExpectation, ServicePolicy
from exporter.diagnosis.engine.rule_input import Expectations
from exporter.diagnosis.rules.cluster import CLUSTER_RULES
from exporter.model.cause import Cause, Severity
from exporter.model.cluster.calico import CalicoNode, Felix, FelixConfiguration, VxlanMode
from exporter.model.cluster.component import CniConfig, ComponentFlags
from exporter.model.cluster.corefile import AaaaBlock, AaaaTreatment, Corefile
from exporter.model.cluster.inventory import NO_INVENTORY, Inventory, ResourceKind
from exporter.model.cluster.node import Node
from exporter.model.cluster.policy import Gap, Policy, PolicyKind
from exporter.model.cluster.service import ServiceCIDR
from exporter.model.cni.profile import Cni, CniSign, Place
from exporter.model.family import Family
from exporter.model.reason import Reason
from tests.unit.cluster_scene import (
    BOTH,
    CNI,
    HEALTHY,
    NODES,
    POOL4,
    POOL6,
    V4,
    V6,
    changed,
    endpoints,
    judge,
    node,
    pod,
    service,
    severity,
    subjects,
)

ANUBIS, BABEL, RA = NODES
V4_CIDR = (ip_network("10.1.13.0/24"),)


@pytest.mark.parametrize("cause", CLUSTER_RULES)
def test_a_healthy_cluster_has_no_cause(cause: Cause) -> None:
    reasons = {
        Cause.IPPOOL_EXHAUSTED: Reason.NO_INVENTORY,
        **dict.fromkeys((Cause.CNI_IPV6_MASQUERADE_OFF, Cause.DNS_SERVICE_NO_ENDPOINTS), Reason.NOT_APPLICABLE),
    }
    assert judge(cause, HEALTHY) == reasons.get(cause, ())


@pytest.mark.parametrize("cause", CLUSTER_RULES)
def test_nothing_is_claimed_without_inventory_or_with_a_stale_one(cause: Cause) -> None:
    assert judge(cause, NO_INVENTORY) is Reason.NO_INVENTORY
    assert judge(cause, replace(HEALTHY, stale=True)) is Reason.STALE_INVENTORY


NEEDED = [
    (Cause.NODE_POD_CIDR_MISSING, ResourceKind.NODES, "nodes"),
    (Cause.NODE_INTERNAL_IP_MISSING, ResourceKind.NODES, "nodes"),
    (Cause.CALICO_NODE_ADDRESS_MISSING, ResourceKind.IP_POOLS, "pools"),
    (Cause.SERVICE_IPV6_MISSING, ResourceKind.SERVICES, "services"),
    (Cause.ENDPOINTSLICE_IPV6_MISSING, ResourceKind.ENDPOINT_SLICES, "endpoint_slices"),
    (Cause.ENDPOINTSLICE_IPV6_MISSING, ResourceKind.PODS, "pods"),
    (Cause.LOADBALANCER_IPV6_MISSING, ResourceKind.SERVICES, "services"),
    (Cause.IPPOOL_IPV6_MISSING, ResourceKind.IP_POOLS, "pools"),
    (Cause.IPPOOL_IPV6_MISSING, ResourceKind.NODES, "nodes"),
    (Cause.IPPOOL_EXHAUSTED, ResourceKind.IPAM_BLOCKS, "ipam_blocks"),
    (Cause.IPPOOL_NAT_OUTGOING_OFF, ResourceKind.IP_POOLS, "pools"),
    (Cause.IPPOOL_VXLAN_MODE_MISMATCH, ResourceKind.IP_POOLS, "pools"),
    (Cause.COREDNS_TEMPLATE_BLOCKS_AAAA, ResourceKind.CONFIG_MAPS, "corefile"),
    (Cause.CNI_NOT_ASSIGNING_IPV6, ResourceKind.CONFIG_MAPS, "cni"),
    (Cause.CNI_NOT_ASSIGNING_IPV6, ResourceKind.IP_POOLS, "pools"),
    (Cause.FELIX_IPV6_OFF, ResourceKind.FELIX, "felix"),
    (Cause.CIDR_OVERLAP, ResourceKind.NODES, "nodes"),
    (Cause.CIDR_OVERLAP, ResourceKind.IP_POOLS, "pools"),
    (Cause.CIDR_UNSUITABLE, ResourceKind.NODES, "nodes"),
    (Cause.NETWORK_POLICY_IPV6_GAP, ResourceKind.POLICIES, "policies"),
    (Cause.CONTROL_PLANE_FLAGS, ResourceKind.PODS, "components"),
]


@pytest.mark.parametrize(("cause", "kind", "field"), NEEDED)
def test_what_was_not_read_is_told_with_the_sources_reason(cause: Cause, kind: ResourceKind, field: str) -> None:
    blind = changed(**{field: None}, unread={kind: Reason.NO_PERMISSION})
    assert judge(cause, blind, families=BOTH) is Reason.NO_PERMISSION


def with_node(**changes: Any) -> Inventory:
    return changed(nodes=(ANUBIS, BABEL, replace(RA, **changes)))


HOST_LOCAL = replace(CNI, ipam="host-local")


def test_a_node_without_ipv6_pod_cidr_is_a_warning_where_pods_live_from_it() -> None:
    inventory = with_node(pod_cidrs=V4_CIDR)
    podcidrs = replace(inventory, cni=(HOST_LOCAL,))
    assert subjects(Cause.NODE_POD_CIDR_MISSING, podcidrs) == ("node/ra",)
    assert severity(Cause.NODE_POD_CIDR_MISSING, podcidrs) is Severity.WARNING
    no_calico = replace(inventory, cni=(), pools=(), felix=(), block_affinities=(), calico_node=None, installation=None)
    assert severity(Cause.NODE_POD_CIDR_MISSING, no_calico) is Severity.WARNING


def test_under_calico_ipam_a_missing_pod_cidr_is_information() -> None:
    inventory = with_node(pod_cidrs=V4_CIDR)
    assert severity(Cause.NODE_POD_CIDR_MISSING, inventory) is Severity.INFO
    assert severity(Cause.NODE_POD_CIDR_MISSING, replace(inventory, cni=())) is Severity.INFO  # the affinities say so


def test_pod_cidrs_that_no_node_has_or_a_virtual_one_lacks_are_no_cause() -> None:
    assert (
        subjects(Cause.NODE_POD_CIDR_MISSING, changed(nodes=tuple(replace(n, pod_cidrs=V4_CIDR) for n in NODES))) == ()
    )
    assert subjects(Cause.NODE_POD_CIDR_MISSING, with_node(pod_cidrs=(), virtual=True)) == ()


@pytest.mark.parametrize(
    ("ips", "expected"),
    [
        (("10.0.10.13",), ("node/ra",)),
        (("10.0.10.13", "fe80::1"), ("node/ra",)),
        (("2001:db8:10::13",), ()),
        (("fd00::13", "10.0.10.13"), ()),
    ],
)
def test_a_node_needs_an_ipv6_internal_ip_beyond_the_link(ips: tuple[str, ...], expected: tuple[str, ...]) -> None:
    inventory = with_node(internal_ips=tuple(map(ip_address, ips)))
    assert subjects(Cause.NODE_INTERNAL_IP_MISSING, inventory) == expected


@pytest.mark.parametrize("nodes", [NODES, NODES[:1]], ids=["all", "a single one"])
def test_an_internal_ip_that_no_node_has_is_missing_on_every_node(nodes: tuple[Node, ...]) -> None:
    inventory = changed(nodes=tuple(replace(n, internal_ips=n.internal_ips[:1]) for n in nodes))
    assert subjects(Cause.NODE_INTERNAL_IP_MISSING, inventory) == tuple(n.subject for n in nodes)


def test_the_evidence_of_a_missing_internal_ip_has_the_argument_for_it() -> None:
    given = {"node-ip": str(RA.internal_ips[0])}
    kubelet = ComponentFlags(component="kubelet", source="/args/kubelet", arguments=given, node="ra")
    inventory = replace(with_node(internal_ips=RA.internal_ips[:1]), components=(kubelet,))
    found = judge(Cause.NODE_INTERNAL_IP_MISSING, inventory)
    assert not isinstance(found, Reason)
    assert found[0].evidence[-1] == f"kubelet (/args/kubelet): --node-ip={RA.internal_ips[0]}"


@pytest.mark.parametrize(
    ("shown", "last"),
    [
        (
            {"provided_ips": (ip_address("10.0.10.13"),)},
            "node/ra: --node-ip=10.0.10.13 (annotation alpha.kubernetes.io/provided-node-ip)",
        ),
        ({"provider": "aws"}, "node/ra: its addresses come from the cloud provider aws (spec.providerID)"),
        ({"provider": "k3s"}, "InternalIPs come from the kubelet's --node-ip or from the cloud provider"),
        ({}, "InternalIPs come from the kubelet's --node-ip or from the cloud provider"),
    ],
)
def test_where_no_argument_is_visible_the_node_shows_what_gives_its_addresses(shown: dict[str, Any], last: str) -> None:
    found = judge(Cause.NODE_INTERNAL_IP_MISSING, with_node(internal_ips=RA.internal_ips[:1], **shown))
    assert not isinstance(found, Reason)
    assert found[0].evidence[-1] == last


@pytest.mark.parametrize("field", ["calico_addresses", "tunnel_addresses"])
def test_a_node_without_calicos_addresses_cannot_bring_its_tunnel_up(field: str) -> None:
    inventory = with_node(**{field: getattr(RA, field)[:1]})
    assert subjects(Cause.CALICO_NODE_ADDRESS_MISSING, inventory) == ("node/ra",)


@pytest.mark.parametrize(
    "pools",
    [
        (POOL4,),
        (POOL4, replace(POOL6, disabled=True)),
        (POOL4, replace(POOL6, nodes=frozenset({"anubis", "babel"}))),
    ],
)
def test_without_an_ipv6_pool_on_the_node_its_addresses_may_lack(pools: Any) -> None:
    inventory = replace(with_node(tunnel_addresses=(), calico_addresses=()), pools=pools)
    assert subjects(Cause.CALICO_NODE_ADDRESS_MISSING, inventory) == ()


def test_a_pool_without_encapsulation_needs_the_nodes_own_address_alone() -> None:
    pools = (POOL4, replace(POOL6, vxlan_mode=VxlanMode.NEVER))
    without_tunnel = replace(with_node(tunnel_addresses=()), pools=pools)
    assert subjects(Cause.CALICO_NODE_ADDRESS_MISSING, without_tunnel) == ()
    without_own = replace(with_node(tunnel_addresses=(), calico_addresses=()), pools=pools)
    found = judge(Cause.CALICO_NODE_ADDRESS_MISSING, without_own)
    assert not isinstance(found, Reason)
    assert found[0].subjects == ("node/ra",)
    assert "IPv6VXLANTunnelAddr" not in found[0].evidence[0]


def test_services_that_asked_for_both_families_stand_first() -> None:
    single = [service(f"a{n}", (V4,)) for n in range(3)]
    asked = service("web", (V4,), family_policy="PreferDualStack")
    found = judge(Cause.SERVICE_IPV6_MISSING, changed(services=(*single, asked)))
    assert not isinstance(found, Reason)
    assert found[0].subjects == ("service/default/web", *(each.subject for each in single))
    assert found[0].evidence[1].startswith("service/default/web: ipFamilyPolicy PreferDualStack")


def test_nodes_with_the_same_calico_address_are_named_whatever_its_prefix_length() -> None:
    vip = replace(BABEL, calico_addresses=(*BABEL.calico_addresses[:1], ip_interface("2001:db8:10::11/128")))
    inventory = changed(nodes=(ANUBIS, vip, RA))
    assert subjects(Cause.CALICO_NODE_ADDRESS_WRONG, inventory) == ("node/anubis", "node/babel")


def test_a_shared_calico_address_of_ipv4_is_another_matter_and_none_at_all_is_not_calico() -> None:
    same = replace(BABEL, calico_addresses=(ANUBIS.calico_addresses[0], BABEL.calico_addresses[1]))
    assert judge(Cause.CALICO_NODE_ADDRESS_WRONG, changed(nodes=(ANUBIS, same, RA))) == ()
    sign = CniSign(cni=Cni.CILIUM, place=Place.AGENT, source="daemonset/kube-system/cilium")
    gone = replace(changed(nodes=(ANUBIS, replace(BABEL, calico_addresses=ANUBIS.calico_addresses), RA)),
        cni_signs=(sign,), cni=None, calico_node=None)  # fmt: skip
    assert judge(Cause.CALICO_NODE_ADDRESS_WRONG, gone) is Reason.NOT_APPLICABLE, "left by a former Calico"
    bare = tuple(replace(each, calico_addresses=()) for each in NODES)
    assert judge(Cause.CALICO_NODE_ADDRESS_WRONG, changed(nodes=bare)) is Reason.NOT_APPLICABLE


def test_windows_nodes_have_no_ipv6_tunnel() -> None:
    assert subjects(Cause.CALICO_NODE_ADDRESS_MISSING, with_node(tunnel_addresses=(), windows=True)) == ()


PREFER = Expectations(
    services=(
        ServiceExpectation(namespaces=("legacy-*",)),
        ServiceExpectation(policy=ServicePolicy.PREFER_DUAL_STACK),
    )
)


def test_single_stack_services_are_information_until_a_policy_asks_for_more() -> None:
    inventory = changed(services=(service("web", (V4,)), service("old", (V4,), namespace="legacy-shop")))
    assert subjects(Cause.SERVICE_IPV6_MISSING, inventory) == ("service/default/web", "service/legacy-shop/old")
    assert severity(Cause.SERVICE_IPV6_MISSING, inventory) is Severity.INFO
    assert subjects(Cause.SERVICE_IPV6_MISSING, inventory, expect=PREFER) == ("service/default/web",)
    assert severity(Cause.SERVICE_IPV6_MISSING, inventory, expect=PREFER) is Severity.WARNING
    legacy = changed(services=(service("old", (V4,), namespace="legacy-shop"),))
    assert severity(Cause.SERVICE_IPV6_MISSING, legacy, expect=PREFER) is Severity.INFO


@pytest.mark.parametrize(
    "fine",
    [
        service("kubernetes", (V4,)),
        service("pypi", (), type="ExternalName"),
        service("web-v6only", (V6,)),
        service("web", (V6, V4)),
    ],
)
def test_services_that_are_right_as_they_are(fine: Any) -> None:
    assert subjects(Cause.SERVICE_IPV6_MISSING, changed(services=(fine,)), expect=PREFER) == ()


WEB4 = endpoints("web", "10.1.13.2", pod="web")


@pytest.mark.parametrize(
    ("slices", "expected"),
    [
        ((WEB4,), ("service/default/web",)),
        ((WEB4, endpoints("web")), ("service/default/web",)),  # a slice without endpoints
        ((WEB4, endpoints("web", "fd01::2", pod="web", ready=False)), ("service/default/web",)),
        ((WEB4, endpoints("web", "fd01::2", pod="web")), ()),
        ((endpoints("web", "10.1.13.2", pod="web", ready=False),), ()),
        ((endpoints("web", "192.0.2.5"),), ("service/default/web",)),  # written by hand, no pods behind
        ((endpoints("web", "10.1.13.2", pod="gone"),), ()),
        ((), ()),
    ],
)
def test_endpoint_slices_of_a_service_with_ipv6(slices: Any, expected: tuple[str, ...]) -> None:
    assert subjects(Cause.ENDPOINTSLICE_IPV6_MISSING, changed(endpoint_slices=slices)) == expected


def test_endpoints_that_are_no_pods_are_information() -> None:
    by_hand = changed(endpoint_slices=(endpoints("web", "192.0.2.5"),))
    assert severity(Cause.ENDPOINTSLICE_IPV6_MISSING, by_hand) is Severity.INFO
    assert severity(Cause.ENDPOINTSLICE_IPV6_MISSING, changed(endpoint_slices=(WEB4,))) is not Severity.INFO


def test_a_headless_service_without_selector_has_families_by_default_alone() -> None:
    headless = service("web", cluster_ips=(), selector={})
    inventory = changed(services=(headless,), endpoint_slices=(endpoints("web", "192.0.2.5"),))
    assert subjects(Cause.ENDPOINTSLICE_IPV6_MISSING, inventory) == ()


def test_pods_without_ipv6_are_not_the_endpoint_slices_fault() -> None:
    inventory = changed(endpoint_slices=(WEB4,), pods=(pod("web", "ra", "10.1.13.2"),))
    assert subjects(Cause.ENDPOINTSLICE_IPV6_MISSING, inventory) == ()


@pytest.mark.parametrize("single", [service("web", (V4,)), service("web", (), type="ExternalName")])
def test_services_without_ipv6_need_no_ipv6_endpoints(single: Any) -> None:
    assert subjects(Cause.ENDPOINTSLICE_IPV6_MISSING, changed(services=(single,), endpoint_slices=(WEB4,))) == ()


V4_RANGE, V6_RANGE = ip_network("10.152.183.0/24"), ip_network("fd98::/108")


@pytest.mark.parametrize(
    ("ranges", "changes", "missing"),
    [
        ((ServiceCIDR("kubernetes", (V4_RANGE,)),), {}, True),
        ((ServiceCIDR("kubernetes", (V4_RANGE, V6_RANGE), ready=False),), {}, True),
        ((ServiceCIDR("kubernetes", (V4_RANGE,)), ServiceCIDR("more", (V6_RANGE,))), {}, False),
        ((), {}, True),
        ((ServiceCIDR("kubernetes", (V4_RANGE,)),), {"components": None}, True),  # a Service has an IPv6 ClusterIP
        ((ServiceCIDR("kubernetes", (V4_RANGE,)),), {"services": ()}, True),  # kube-apiserver has both ranges
        ((ServiceCIDR("kubernetes", (V4_RANGE,)),), {"components": None, "services": (service("a", (V4,)),)}, False),
        # A headless Service without selector is given both families in a cluster of one as well.
        ((ServiceCIDR("kubernetes", (V4_RANGE,)),),
         {"components": None, "services": (service("a", BOTH, cluster_ips=()),)}, False),
    ],
)  # fmt: skip
def test_dual_stack_services_need_a_ready_range_of_ipv6(ranges: Any, changes: dict[str, Any], *, missing: bool) -> None:
    expected = ("service/default/kubernetes",) if missing else ()
    assert subjects(Cause.SERVICE_CIDR_IPV6_MISSING, changed(service_cidrs=ranges, **changes)) == expected


def test_before_service_cidrs_existed_none_is_missing() -> None:
    before = changed(service_cidrs=None, unread={ResourceKind.SERVICE_CIDRS: Reason.NOT_APPLICABLE})
    assert judge(Cause.SERVICE_CIDR_IPV6_MISSING, before) is Reason.NOT_APPLICABLE


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"ingress_ips": (ip_address("198.51.100.1"),)}, ("service/default/web",)),
        ({"ingress_ips": (ip_address("198.51.100.1"), ip_address("2001:db8::1"))}, ()),
        ({"ingress_ips": (ip_address("2001:db8::1"),)}, ()),
        ({}, ()),  # still pending
        ({"ingress_hostnames": ("lb.example.test",)}, ()),
        ({"ingress_ips": (ip_address("198.51.100.1"),), "families": (V4,)}, ()),
        ({"ingress_ips": (ip_address("198.51.100.1"),), "type": "ClusterIP"}, ()),
    ],
)
def test_load_balancers(changes: dict[str, Any], expected: tuple[str, ...]) -> None:
    balancer = replace(service("web", type="LoadBalancer"), **changes)
    assert subjects(Cause.LOADBALANCER_IPV6_MISSING, changed(services=(balancer,))) == expected


def corefile(*blocks: AaaaBlock, errors: tuple[str, ...] = ()) -> Inventory:
    return changed(corefile=Corefile(namespace="kube-system", name="coredns", blocks=blocks, errors=errors))


BLANKET = AaaaBlock(
    zone=".", plugin="template", fate=AaaaTreatment.NODATA, line=7, text="template IN AAAA . { rcode NOERROR }"
)
PARTIAL = replace(BLANKET, zone="example.test", all_names=False)
BLOCKS = Cause.COREDNS_TEMPLATE_BLOCKS_AAAA


def test_a_corefile_that_withholds_aaaa_is_critical_for_all_names() -> None:
    assert subjects(BLOCKS, corefile(BLANKET)) == ("configmap/kube-system/coredns",)
    assert severity(BLOCKS, corefile(BLANKET)) is Severity.CRITICAL
    assert severity(BLOCKS, corefile(PARTIAL)) is Severity.WARNING
    assert severity(BLOCKS, corefile(PARTIAL, BLANKET)) is Severity.CRITICAL


def test_the_configmap_that_holds_the_directive_is_the_subject() -> None:
    assert subjects(BLOCKS, corefile(replace(BLANKET, file="coredns-custom/a.override"))) == (
        "configmap/kube-system/coredns-custom",
    )
    cache = changed(node_local=Corefile(namespace="kube-system", name="node-local-dns", blocks=(BLANKET,)))
    assert subjects(BLOCKS, cache) == ("configmap/kube-system/node-local-dns",)


def test_aaaa_blocked_on_purpose_is_information() -> None:
    assert severity(BLOCKS, corefile(BLANKET), expect=Expectations(aaaa=AaaaPolicy.BLOCKED)) is Severity.INFO


def test_hosts_of_ipv4_alone_are_data_and_no_filter() -> None:
    assert subjects(BLOCKS, corefile(replace(PARTIAL, plugin="hosts", zone="db.lan"))) == ()


def test_dns64_answers_every_client_of_a_cluster_of_ipv6_alone() -> None:
    behind_dns64 = corefile(replace(BLANKET, ipv4_clients_only=True))
    assert subjects(BLOCKS, behind_dns64, families=(V6,)) == ()
    assert subjects(BLOCKS, behind_dns64, families=BOTH) == ("configmap/kube-system/coredns",)


def test_a_corefile_that_cannot_be_read_whole_proves_no_innocence() -> None:
    assert judge(BLOCKS, corefile(errors=("line 2: the imported x is not known",))) is Reason.READER_FAILED
    assert subjects(BLOCKS, corefile(BLANKET, errors=("line 9: unexpected }",)))


OFF = replace(CNI, assign_ipv6=False, assign_ipv6_text="false")
ASSIGNS = Cause.CNI_NOT_ASSIGNING_IPV6


def test_a_cni_configuration_that_assigns_no_ipv6() -> None:
    assert subjects(ASSIGNS, changed(cni=(OFF,))) == ("configmap/kube-system/calico-config",)
    assert severity(ASSIGNS, changed(cni=(OFF,))) is Severity.WARNING
    mounted = replace(OFF, source="/etc/cni/net.d/10-calico.conflist", subject=None, assign_ipv6_text=None)
    assert subjects(ASSIGNS, changed(cni=(mounted,))) == ("node/ra",)
    assert subjects(ASSIGNS, changed(cni=(OFF,), pools=(POOL4, replace(POOL6, disabled=True))))  # a pool exists


def test_without_an_ipv6_pool_nothing_is_to_be_assigned() -> None:
    assert subjects(ASSIGNS, changed(cni=(OFF,), pools=(POOL4,)), families=BOTH) == ()


@pytest.mark.parametrize("other", [CniConfig(source="x", main_plugin="cilium-cni"), replace(OFF, ipam="host-local")])
def test_another_plugin_assigns_by_its_own_rules(other: CniConfig) -> None:
    assert judge(ASSIGNS, changed(cni=(other,))) == ()  # some pod has IPv6


def test_a_broken_cni_configuration_cannot_be_judged() -> None:
    assert judge(ASSIGNS, changed(cni=(CniConfig(source="x", error="not JSON"),))) is Reason.READER_FAILED


def felix(**ipv6: bool | None) -> tuple[FelixConfiguration, ...]:
    return tuple(FelixConfiguration(name.replace("_", "."), Felix(ipv6_support=value)) for name, value in ipv6.items())


def calico_node(value: str | None = None, *unseen: str) -> CalicoNode:
    return CalicoNode("kube-system", {} if value is None else {"FELIX_IPV6SUPPORT": value}, frozenset(unseen))


ALL_NODES = ("node/anubis", "node/babel", "node/ra")


@pytest.mark.parametrize(
    ("objects", "daemonset", "expected"),
    [
        (felix(default=True), calico_node(), ()),
        (felix(default=None), calico_node(), ()),  # built in: on
        ((), calico_node(), ()),
        (felix(default=False), calico_node(), ALL_NODES),
        (felix(default=False, node_ra=True), calico_node(), ("node/anubis", "node/babel")),
        (felix(default=True, node_ra=False), calico_node(), ("node/ra",)),
        (felix(default=True, node_ra=None), calico_node(), ()),
        (felix(default=True), calico_node("false"), ALL_NODES),  # the environment beats the objects
        (felix(default=False, node_ra=False), calico_node("True"), ()),
        (felix(default=False), calico_node("maybe"), ALL_NODES),  # no truth value: as if unset
        (felix(default=True), calico_node(None, "FELIX_IPV6SUPPORT"), ()),
        (felix(default=False), None, ALL_NODES),
        (None, calico_node("false"), ALL_NODES),  # whatever the objects say
    ],
)
def test_felix_goes_by_environment_then_node_then_default(
    objects: Any, daemonset: Any, expected: tuple[str, ...]
) -> None:
    assert subjects(Cause.FELIX_IPV6_OFF, changed(felix=objects, calico_node=daemonset)) == expected


@pytest.mark.parametrize(
    ("daemonset", "said"),
    [
        (None, "was not read"),
        (calico_node(None, "FELIX_IPV6SUPPORT"), "cannot be seen"),
        (calico_node(None, "*"), "cannot be seen"),
    ],
)
def test_an_environment_that_cannot_be_seen_is_mentioned(daemonset: Any, said: str) -> None:
    found = judge(Cause.FELIX_IPV6_OFF, changed(felix=felix(default=False), calico_node=daemonset))
    assert not isinstance(found, Reason)
    assert said in found[0].evidence[-1]
    visible = judge(Cause.FELIX_IPV6_OFF, changed(felix=felix(default=False)))
    assert not isinstance(visible, Reason)
    assert len(visible[0].evidence) == 1


def test_without_calico_there_is_no_felix() -> None:
    bare = changed(felix=(), pools=(), block_affinities=(), calico_node=None)
    assert judge(Cause.FELIX_IPV6_OFF, bare) is Reason.NOT_APPLICABLE


def policy(*gaps: tuple[str, Family, Gap], namespace: str = "shop") -> Policy:
    kind = PolicyKind.KUBERNETES if namespace else PolicyKind.CALICO_GLOBAL
    return Policy(kind=kind, namespace=namespace, name="egress", gaps=gaps)


def test_policies_of_one_family_are_information_and_say_what_becomes_of_the_other() -> None:
    inventory = changed(policies=(policy(("egress", V6, Gap.DENIED)), policy(("ingress", V6, Gap.OPEN), namespace="")))
    found = judge(Cause.NETWORK_POLICY_IPV6_GAP, inventory)
    assert not isinstance(found, Reason)
    assert found[0].subjects == ("policy/egress", "policy/shop/egress")
    assert found[0].severity is Severity.INFO
    assert "egress: its allow list names IPv4 only: IPv6 is denied" in found[0].evidence[1]
    assert "ingress: its exceptions name IPv4 only: IPv6 is open" in found[0].evidence[2]


def test_policies_that_deny_a_family_by_a_rule_of_their_own_come_last() -> None:
    refusing = policy(("egress", V6, Gap.REFUSED), namespace="app")
    inventory = changed(policies=(refusing, policy(("egress", V6, Gap.DENIED))))
    found = judge(Cause.NETWORK_POLICY_IPV6_GAP, inventory)
    assert not isinstance(found, Reason)
    assert found[0].subjects == ("policy/shop/egress", "policy/app/egress")
    assert found[0].severity is Severity.INFO
    assert found[0].evidence[2].endswith("app/egress: egress: a rule denies all of IPv6 and not IPv4")
    assert judge(Cause.NETWORK_POLICY_IPV6_GAP, inventory, families=(V4,)) == ()


def test_policies_that_leave_out_a_family_nobody_expects_are_right() -> None:
    inventory = changed(policies=(policy(("egress", V4, Gap.DENIED)),))
    assert subjects(Cause.NETWORK_POLICY_IPV6_GAP, inventory, families=(V6,)) == ()


def test_evidence_stays_short_however_many_are_affected() -> None:
    crowd = tuple(
        node(f"n{number:03}", number % 250 + 1, internal_ips=(ip_address("10.0.0.1"),)) for number in range(300)
    )
    found = judge(Cause.NODE_INTERNAL_IP_MISSING, changed(nodes=(*NODES, *crowd)))
    assert not isinstance(found, Reason)
    assert len(found[0].subjects) == 300
    assert len(found[0].evidence) == 13
    assert found[0].evidence[-2] == "and 290 more"


@pytest.mark.parametrize(
    ("cause", "lacks"),
    [
        (Cause.NODE_POD_CIDR_MISSING, {"pod_cidrs": V4_CIDR}),
        (Cause.NODE_INTERNAL_IP_MISSING, {"internal_ips": (ip_address("10.0.10.13"),)}),
        (Cause.CALICO_NODE_ADDRESS_MISSING, {"tunnel_addresses": ()}),
    ],
)
@pytest.mark.parametrize(("age", "found"), [(30.0, False), (600.0, True), (-3600.0, True), (None, True)])
def test_a_node_that_is_joining_may_still_lack_addresses(
    cause: Cause, lacks: dict[str, Any], age: float | None, found: bool
) -> None:
    """The rules are judged at the time 0; an age below 0 is a clock that runs behind."""
    nodes = (ANUBIS, BABEL, replace(RA, created=None if age is None else 0.0 - age, **lacks))
    assert bool(subjects(cause, changed(nodes=nodes))) is found
