"""Which families a cluster is meant to have: as configured, else as it names them, and unknown where it could not be
read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from exporter.diagnosis.expectation import families_expected, family_evidence
from exporter.diagnosis.felix import effective
from exporter.model.cause import Cause
from exporter.model.cluster.calico import CalicoNode, Felix, FelixConfiguration, Installation, IPAMBlock
from exporter.model.cluster.component import CniConfig
from exporter.model.cluster.inventory import NO_INVENTORY, Inventory, InventoryOrigin, ResourceKind
from exporter.model.cluster.node import Node
from exporter.model.cluster.pod import Pod
from exporter.model.cluster.service import Service, ServiceCIDR
from exporter.model.family import Family
from exporter.model.reason import Reason
from tests.unit.cluster_scene import CNI, V4, V6, changed, pool, subjects

DEFAULT4, DEFAULT6 = pool("default-ipv4-ippool", "10.1.0.0/16"), pool("default-ipv6-ippool", "fd01::/48")
NOTHING = Inventory(
    source=InventoryOrigin.KUBERNETES, nodes=(), pods=(), services=(), service_cidrs=(), pools=(), cni=(), unread={}
)  # everything was read, and names no family


def block(cidr: str, *, pods: int, used: int = 0) -> IPAMBlock:
    return IPAMBlock(cidr=ip_network(cidr), node="ra", used=max(used, pods), capacity=64, pods=pods)


def test_configuration_decides_alone() -> None:
    assert families_expected(NO_INVENTORY, (V6,)) == {V4: False, V6: True}
    assert families_expected(NOTHING, (V4, V6)) == {V4: True, V6: True}


def test_without_inventory_nothing_is_known() -> None:
    assert families_expected(NO_INVENTORY, None) == {V4: None, V6: None}


def test_what_was_read_whole_and_names_no_family_has_none() -> None:
    assert families_expected(NOTHING, None) == {V4: False, V6: False}


@pytest.mark.parametrize(
    ("changes", "named", "evidence"),
    [
        (
            {"pools": (pool("x", "fd01::/48"),), "ipam_blocks": (block("fd01::/122", pods=1),)},
            V6,
            "pods have addresses of IPPool x (fd01::/48)",
        ),
        ({"pod_families": frozenset({V6})}, V6, "pods of other nodes have addresses of it"),
        (
            {"nodes": (Node(name="ra", pod_cidrs=(ip_network("fd01::/64"),)),)},
            V6,
            "node/ra has the podCIDR fd01::/64",
        ),
        ({"service_cidrs": (ServiceCIDR("x", (ip_network("fd98::/108"),)),)}, V6, "ServiceCIDR x has fd98::/108"),
        (
            {"services": (Service(namespace="a", name="b", cluster_ips=(ip_address("10.0.0.1"),)),)},
            V4,
            "service/a/b has the address 10.0.0.1",
        ),
        ({"cluster_pod_cidrs": (ip_network("fd01::/48"),)}, V6, "podSubnet of kubeadm is fd01::/48"),
        ({"cluster_service_cidrs": (ip_network("10.96.0.0/12"),)}, V4, "serviceSubnet of kubeadm is 10.96.0.0/12"),
        (
            {"cni": (CniConfig(source="x", main_plugin="calico", assign_ipv4=False, assign_ipv6=True),)},
            V6,
            "x has assign_ipv6: true",
        ),
        (
            {"cni": (CniConfig(source="x", main_plugin="calico", assign_ipv4_text="true"),)},
            V4,
            "x has assign_ipv4: true",
        ),
        (
            {"pods": (Pod(namespace="a", name="b", ips=(ip_address("fd01::1"),)),)},
            V6,
            "pod/a/b has the address fd01::1",
        ),
    ],
)
def test_each_of_these_names_a_family(changes: dict[str, Any], named: Family, evidence: str) -> None:
    inventory = replace(NOTHING, **changes)
    assert families_expected(inventory, None) == {named: True, named.other: False}
    assert family_evidence(inventory, None) == {named: (evidence,), named.other: ()}


def test_one_clause_of_a_kind_is_evidence_enough() -> None:
    nodes = tuple(Node(name=f"n{i}", pod_cidrs=(ip_network(f"fd01:0:0:{i}::/64"),)) for i in range(9))
    ranges = (ServiceCIDR("x", (ip_network("fd98::/108"),)), ServiceCIDR("y", (ip_network("fd99::/108"),)))
    cni = tuple(CniConfig(source=source, main_plugin="calico", assign_ipv6=True) for source in ("file", "object"))
    found = family_evidence(replace(NOTHING, nodes=nodes, service_cidrs=ranges), None)
    assert found[V6] == ("node/n0 has the podCIDR fd01::/64", "ServiceCIDR x has fd98::/108")
    found = family_evidence(replace(NOTHING, cni=cni), None)
    assert found[V6] == ("file has assign_ipv6: true",)


@pytest.mark.parametrize(
    "changes",
    [
        {"cni": (CniConfig(source="x", main_plugin="calico"),)},  # assign_ipv4 is on by default
        {
            "pods": (Pod(namespace="a", name="b", ips=(ip_address("2001:db8::1"),), host_network=True),)
        },  # the node's own address
        {"nodes": (Node(name="ra", internal_ips=(ip_address("2001:db8::1"),)),)},
        {"cni": (CniConfig(source="x", main_plugin="cilium-cni", assign_ipv4=True, assign_ipv6=True),)},
    ],
)
def test_these_name_none(changes: dict[str, Any]) -> None:
    assert families_expected(replace(NOTHING, **changes), None) == {V4: False, V6: False}


@pytest.mark.parametrize("field", ["nodes", "pods", "pools", "cni"])
def test_what_was_not_read_leaves_a_family_unknown(field: str) -> None:
    unread: dict[str, Any] = {field: None}
    assert families_expected(replace(NOTHING, **unread), None) == {V4: None, V6: None}


def test_services_stand_for_ranges_that_older_clusters_have_no_object_for() -> None:
    assert families_expected(replace(NOTHING, service_cidrs=None), None)[V6] is False
    assert families_expected(replace(NOTHING, service_cidrs=None, services=None), None)[V6] is None


def test_pools_are_no_question_where_calico_is_not() -> None:
    absent = replace(NOTHING, pools=None, unread={ResourceKind.IP_POOLS: Reason.NOT_APPLICABLE})
    assert families_expected(absent, None)[V6] is False


# Pools


def pools_alone(**changes: Any) -> Mapping[Family, bool | None]:
    """What is expected where nothing but an IPv4 and an IPv6 pool is there, the blocks were read, and CNI configuration
    is not seen.
    """
    made = {"pools": (DEFAULT4, DEFAULT6), "ipam_blocks": (), **changes}
    return families_expected(replace(NOTHING, **made), None)


def test_a_pool_that_no_pod_uses_and_nobody_asked_for_names_no_family() -> None:
    assert pools_alone() == {V4: False, V6: False}
    tunnels = (block("10.1.0.0/26", used=3, pods=0), block("fd01::/122", used=3, pods=0))
    assert pools_alone(ipam_blocks=tunnels) == {V4: False, V6: False}, "tunnel addresses are Calico's own"


def test_a_pool_that_pods_use_names_its_family() -> None:
    assert pools_alone(ipam_blocks=(block("10.1.0.0/26", pods=1),)) == {V4: True, V6: False}
    assert pools_alone(ipam_blocks=(block("10.99.0.0/26", pods=1),)) == {V4: False, V6: False}, (
        "of a pool that is no more"
    )


@pytest.mark.parametrize(
    "kept",
    [
        {"disabled": True},
        {"automatic": False},  # assignmentMode Manual
        {"allowed_uses": frozenset({"LoadBalancer"})},
        {"allowed_uses": frozenset({"Tunnel"})},
        {"nodes": frozenset()},
    ],
)
def test_a_pool_that_assigns_nothing_by_itself_names_no_family(kept: dict[str, Any]) -> None:
    used = (block("fd01::/122", pods=1),)
    declared = Installation(pools=(DEFAULT6.cidr,))
    pools = (DEFAULT4, replace(DEFAULT6, **kept))
    assert pools_alone(pools=pools, ipam_blocks=used, installation=declared) == {V4: False, V6: False}


def test_pools_say_nothing_where_addresses_come_from_somewhere_else() -> None:
    host_local = CniConfig(source="x", main_plugin="calico", ipam="host-local")
    assert pools_alone(cni=(host_local,), ipam_blocks=(block("fd01::/122", pods=1),)) == {V4: False, V6: False}


@pytest.mark.parametrize(
    ("declared", "named"),
    [
        ({"installation": Installation(pools=(ip_network("fd01::/48"),))}, {V6}),
        ({"calico_node": CalicoNode("kube-system", {"CALICO_IPV6POOL_CIDR": "fd01::/48"})}, {V6}),
        ({"calico_node": CalicoNode("kube-system", {"CALICO_IPV4POOL_CIDR": "10.1.0.0/16"})}, {V4}),
        ({"calico_node": CalicoNode("kube-system", {"CALICO_IPV4POOL_VXLAN": "Always", "IP": "none"})}, set()),
        (
            {
                "calico_node": CalicoNode(
                    "kube-system", {"CALICO_IPV4POOL_CIDR": "10.1.0.0/16", "NO_DEFAULT_POOLS": "true"}
                )
            },
            set(),
        ),
        ({"cni": (CniConfig(source="x", main_plugin="calico", pools=("fd01::/48",)),)}, {V6}),
        ({"cni": (CniConfig(source="x", main_plugin="calico", pools=("default-ipv4-ippool",)),)}, {V4}),
    ],
)
def test_a_pool_that_somebody_asked_for_names_its_family(declared: dict[str, Any], named: set[Family]) -> None:
    assert pools_alone(**declared) == {family: family in named for family in (V4, V6)}


def test_where_the_configuration_does_not_assign_a_family_a_pool_of_it_names_none() -> None:
    off = (CniConfig(source="x", main_plugin="calico", assign_ipv4=False, assign_ipv4_text="false"),)
    blocks = (block("10.1.0.0/26", pods=1), block("fd01::/122", pods=1))  # left over
    assert pools_alone(cni=off, ipam_blocks=blocks) == {V4: False, V6: False}


def test_a_family_that_is_declared_and_nowhere_present_is_expected_and_the_lack_is_a_cause() -> None:
    """A fresh dual-stack cluster whose CNI configuration lacks assign_ipv6: the pool alone is there, since somebody
    asked for it.
    """
    told = {"CALICO_IPV6POOL_CIDR": "fd01::/48", "CALICO_IPV4POOL_CIDR": "10.1.0.0/16"}
    fresh = replace(
        NOTHING,
        pools=(DEFAULT4, DEFAULT6),
        ipam_blocks=(block("10.1.0.0/26", pods=2),),
        pods=(Pod(namespace="a", name="b", ips=(ip_address("10.1.0.2"),)),),
        calico_node=CalicoNode("kube-system", told),
        cni=(replace(CNI, assign_ipv6=False, assign_ipv6_text=None),),
    )
    assert families_expected(fresh, None) == {V4: True, V6: True}
    assert subjects(Cause.CNI_NOT_ASSIGNING_IPV6, fresh) == ("configmap/kube-system/calico-config",)
    off = replace(
        fresh,
        cni=(CniConfig(source="x", main_plugin="calico", assign_ipv4=False, assign_ipv6=True),),
        pods=(),
        ipam_blocks=(),
    )
    assert families_expected(off, None) == {V4: False, V6: True}, "that IPv4 is off is nobody's oversight"


def test_one_of_many_pods_decides_nothing() -> None:
    pods = tuple(Pod(namespace="a", name=f"p{n}", ips=(ip_address(f"fd01::{n}"),)) for n in range(1, 3))
    for present in (pods, pods[:1]):
        assert pools_alone(pods=present, ipam_blocks=(block("fd01::/122", pods=len(present)),))[V6] is True
    assert pools_alone(pods=pods[:1], ipam_blocks=None)[V6] is True, "without the right to read blocks the pods say it"


@pytest.mark.parametrize(
    ("changes", "known"),
    [
        (
            {"unread": {ResourceKind.IPAM_BLOCKS: Reason.NO_INVENTORY}},
            False,
        ),  # a node by itself: no blocks, and of pods its own alone
        ({"unread": {ResourceKind.IPAM_BLOCKS: Reason.API_UNAVAILABLE}}, False),  # not yet
        ({"unread": {ResourceKind.IPAM_BLOCKS: Reason.NO_PERMISSION}}, True),  # the cluster role has seen all pods
        ({"source": InventoryOrigin.FILE, "unread": {ResourceKind.IPAM_BLOCKS: Reason.NO_INVENTORY}}, True),
        ({"source": InventoryOrigin.DIGEST}, False),  # of a cluster role that does not tell it yet
        ({"source": InventoryOrigin.DIGEST, "pod_families": frozenset()}, True),
    ],
)
def test_whether_a_pool_is_used_may_be_unknown(changes: dict[str, Any], known: bool) -> None:
    unknown = None if not known else False
    assert pools_alone(**{"ipam_blocks": None, **changes}) == {V4: unknown, V6: unknown}
    off = (CniConfig(source="x", main_plugin="calico", assign_ipv4=False, assign_ipv6=False),)
    assert pools_alone(**{"ipam_blocks": None, **changes, "cni": off}) == {V4: False, V6: False}, "no use is possible"


def test_felix_settings_are_merged_for_a_node() -> None:
    objects = (
        FelixConfiguration("default", Felix(vxlan_vni=4097, vxlan_port=4790)),
        FelixConfiguration("node.ra", Felix(vxlan_vni=5000)),
        FelixConfiguration("node.babel", Felix(vxlan_vni=6000)),
    )
    env = CalicoNode(
        "kube-system",
        {"FELIX_VXLANPORT": "8472", "FELIX_VXLANVNI": "x"},
    )
    assert effective(changed(felix=objects, calico_node=env), "ra") == Felix(vxlan_vni=5000, vxlan_port=8472)
    assert effective(NO_INVENTORY, "ra") == Felix()
