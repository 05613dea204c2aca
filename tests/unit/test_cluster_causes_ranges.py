"""Causes of pools, address ranges and component arguments: each found by its own evidence, and each "not when"
silent.
"""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from exporter.diagnosis.ranges import is_service_address
from exporter.model.cause import Cause, Severity
from exporter.model.cluster.calico import BlockAffinity, IPAMBlock, IPAMConfig, IPPool, VxlanMode
from exporter.model.cluster.component import ComponentFlags
from exporter.model.cluster.inventory import Inventory
from exporter.model.cluster.node import Node
from exporter.model.cluster.service import ServiceCIDR
from exporter.model.reason import Reason
from exporter.model.subject import Subject
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
    judge,
    node,
    pod,
    pool,
    service,
    severity,
    subjects,
)

ONE = frozenset({"ra"})
OTHERS = frozenset({"anubis", "babel"})


@pytest.mark.parametrize(
    ("pools", "expected"),
    [
        ((POOL4,), ("node/anubis", "node/babel", "node/ra")),
        ((POOL4, replace(POOL6, disabled=True)), ("node/anubis", "node/babel", "node/ra")),
        ((POOL4, replace(POOL6, nodes=OTHERS)), ("node/ra",)),
        ((POOL4, replace(POOL6, nodes=OTHERS), pool("ra", "fd02::/48", nodes=ONE)), ()),
        ((POOL4, replace(POOL6, allowed_uses=frozenset({"Tunnel"}))), ("node/anubis", "node/babel", "node/ra")),
        ((POOL6,), ()),
    ],
)
def test_every_node_needs_an_enabled_ipv6_pool(pools: tuple[IPPool, ...], expected: tuple[str, ...]) -> None:
    assert subjects(Cause.IPPOOL_IPV6_MISSING, changed(pools=pools), families=BOTH) == expected


def test_pools_matter_only_where_pods_live_from_them() -> None:
    no_calico = changed(pools=(), felix=(), block_affinities=(), calico_node=None, cni=())
    assert judge(Cause.IPPOOL_IPV6_MISSING, no_calico, families=BOTH) is Reason.NOT_APPLICABLE
    by_pod_cidr = changed(pools=(POOL4,), cni=(replace(CNI, ipam="host-local"),))
    assert judge(Cause.IPPOOL_IPV6_MISSING, by_pod_cidr, families=BOTH) is Reason.NOT_APPLICABLE


def test_nodes_on_which_calico_has_no_ipv6_need_no_pool() -> None:
    nodes = (*NODES[:2], replace(NODES[2], windows=True), node("virtual", 14, virtual=True))
    assert (
        subjects(
            Cause.IPPOOL_IPV6_MISSING, changed(nodes=nodes, pools=(POOL4, replace(POOL6, nodes=OTHERS))), families=BOTH
        )
        == ()
    )


SMALL = pool("small", "fd01::/121")  # two blocks of /122


def block(net: str, used: int, on: str = "ra") -> IPAMBlock:
    return IPAMBlock(cidr=ip_network(net), node=on, used=used, capacity=64)


FULL = (block("fd01::/122", 64), block("fd01::40/122", 64, "anubis"))


@pytest.mark.parametrize(
    ("pools", "blocks", "expected"),
    [
        ((SMALL,), FULL, ("pool/small",)),
        ((SMALL,), (FULL[0],), ()),  # a block is left to claim
        ((SMALL,), (FULL[0], block("fd01::40/122", 63, "anubis")), ()),  # and to borrow from
        ((POOL6,), FULL, ()),
        ((SMALL, pool("more", "fd02::/64")), FULL, ()),
        ((SMALL, pool("more", "fd02::/64", nodes=OTHERS)), FULL, ("pool/small",)),  # ra has the small one alone
        ((SMALL, pool("more", "fd02::/64", disabled=True)), FULL, ("pool/small",)),
        ((replace(SMALL, disabled=True),), FULL, ()),  # no enabled pool of the family
        ((POOL4,), FULL, ()),
        ((replace(SMALL, nodes=frozenset()),), FULL, ()),
    ],
)
def test_a_pool_is_exhausted_when_a_node_has_no_address_left(
    pools: Any, blocks: Any, expected: tuple[str, ...]
) -> None:
    assert subjects(Cause.IPPOOL_EXHAUSTED, changed(pools=pools, ipam_blocks=blocks), families=BOTH) == expected


STRICT, LIMITED = IPAMConfig(strict_affinity=True), IPAMConfig(strict_affinity=True, max_blocks=2)
LARGE = (*(block(f"fd01::{i}00/122", 64, "anubis") for i in range(2)), block("fd01::200/122", 1, "babel"))


@pytest.mark.parametrize(
    ("pools", "blocks", "config", "expected"),
    [
        ((SMALL,), (FULL[0], block("fd01::40/122", 1, "anubis")), STRICT, ("node/babel", "node/ra")),
        ((SMALL,), (FULL[0], block("fd01::40/122", 1, "anubis")), IPAMConfig(), ()),
        ((SMALL,), (FULL[0], block("fd01::40/122", 1, "anubis")), None, ()),  # not read
        ((SMALL,), FULL, STRICT, ("pool/small",)),  # no node can have one
        ((SMALL,), (FULL[0],), STRICT, ()),  # a block is left to claim
        ((SMALL, pool("more", "fd02::/64", nodes=ONE)), FULL, STRICT, ("pool/small",)),
        ((POOL6,), LARGE, LIMITED, ("node/anubis",)),
        (
            (POOL6,),
            LARGE,
            replace(LIMITED, strict_affinity=False),
            ("node/anubis",),
        ),  # the limit comes before borrowing
        ((POOL6,), LARGE, replace(LIMITED, max_blocks=3), ()),
        ((POOL6,), LARGE, None, ()),
        ((POOL6, replace(SMALL, disabled=True)), LARGE[1:], LIMITED, ()),
        ((POOL6,), LARGE, IPAMConfig(allocates_blocks=False), ("node/anubis", "node/ra")),
        ((replace(POOL6, automatic=False),), LARGE, LIMITED, ()),
        # The built-in limit, where there is no IPAMConfig.
        ((POOL6,), tuple(block(f"fd01::{i}00/122", 64) for i in range(20)), IPAMConfig(), ("node/ra",)),
        ((POOL6,), tuple(block(f"fd01::{i}00/122", 64) for i in range(19)), IPAMConfig(), ()),
    ],
)
def test_a_node_has_no_address_left_in_the_blocks_that_it_may_use(
    pools: Any, blocks: Any, config: IPAMConfig | None, expected: tuple[str, ...]
) -> None:
    inventory = changed(pools=pools, ipam_blocks=blocks, ipam_config=config, block_affinities=())
    assert subjects(Cause.IPPOOL_EXHAUSTED, inventory, families=BOTH) == expected


def test_a_node_that_is_granted_a_block_has_addresses_before_the_block_is_made() -> None:
    granted = BlockAffinity(cidr=ip_network("fd01::40/122"), node="anubis", confirmed=False)
    inventory = changed(pools=(POOL6,), ipam_blocks=LARGE, ipam_config=LIMITED, block_affinities=(granted,))
    assert subjects(Cause.IPPOOL_EXHAUSTED, inventory) == ()
    of_ipv4 = replace(granted, cidr=ip_network("10.1.0.64/26"))
    assert subjects(Cause.IPPOOL_EXHAUSTED, replace(inventory, block_affinities=(of_ipv4,))) == ("node/anubis",)


def test_evidence_names_the_setting_by_which_a_node_has_no_address() -> None:
    said = judge(Cause.IPPOOL_EXHAUSTED, changed(pools=(POOL6,), ipam_blocks=LARGE, ipam_config=LIMITED))
    assert not isinstance(said, Reason)
    assert said[0].evidence[-1] == "anubis: all addresses used in its 2 blocks, and maxBlocksPerHost is 2"


def test_exhaustion_cannot_be_told_without_blocks() -> None:
    assert judge(Cause.IPPOOL_EXHAUSTED, changed(ipam_blocks=())) is Reason.NO_INVENTORY
    assert judge(Cause.IPPOOL_EXHAUSTED, changed(ipam_blocks=None)) is Reason.NO_INVENTORY


NO_NAT = replace(POOL6, nat_outgoing=False)


@pytest.mark.parametrize(
    ("pools", "expected"),
    [
        ((POOL4, NO_NAT), ("pool/v6",)),
        ((POOL4, POOL6), ()),
        ((POOL4, replace(NO_NAT, cidr=ip_network("2001:db8:1::/48"))), ()),  # global addresses need no NAT
        ((POOL4, replace(NO_NAT, disabled=True)), ()),
        ((replace(POOL4, nat_outgoing=False), NO_NAT), ()),  # nobody asks for NAT
        ((replace(POOL4, nodes=OTHERS), replace(NO_NAT, nodes=ONE)), ()),  # other nodes
        ((replace(POOL4, nodes=ONE), NO_NAT), ("pool/v6",)),
        ((NO_NAT,), ()),
    ],
)
def test_nat_is_missing_where_ipv4_has_it(pools: Any, expected: tuple[str, ...]) -> None:
    inventory = changed(pools=pools)
    assert subjects(Cause.IPPOOL_NAT_OUTGOING_OFF, inventory) == expected
    if expected:
        assert severity(Cause.IPPOOL_NAT_OUTGOING_OFF, inventory) is Severity.INFO


CROSS = replace(POOL6, vxlan_mode=VxlanMode.CROSS_SUBNET)


@pytest.mark.parametrize(
    ("pools", "expected"),
    [
        ((POOL4, CROSS), ("pool/v6",)),
        ((POOL4, POOL6), ()),
        ((POOL4, replace(CROSS, disabled=True)), ()),
        ((replace(POOL4, nodes=OTHERS), replace(CROSS, nodes=ONE)), ()),
        ((replace(POOL4, vxlan_mode=VxlanMode.NEVER, ipip_mode="Always"), CROSS), ()),
        ((POOL4, pool("v4b", "10.2.0.0/16", vxlan_mode=VxlanMode.CROSS_SUBNET), CROSS), ()),
        ((CROSS,), ()),
    ],
)
def test_encapsulation_differs_by_family(pools: Any, expected: tuple[str, ...]) -> None:
    inventory = changed(pools=pools)
    assert subjects(Cause.IPPOOL_VXLAN_MODE_MISMATCH, inventory) == expected
    if expected:
        assert severity(Cause.IPPOOL_VXLAN_MODE_MISMATCH, inventory) is Severity.INFO


def service_range(*nets: str) -> tuple[ServiceCIDR, ...]:
    return (ServiceCIDR("kubernetes", tuple(map(ip_network, nets))),)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"service_cidrs": service_range("fd01::ff00:0:0/108")}, ("pool/v6",)),
        ({"service_cidrs": service_range("10.0.0.0/8")}, ("node/anubis", "node/babel", "node/ra", "pool/v4")),
        ({"nodes": (*NODES, node("wolf", 14, internal_ips=(ip_address("10.1.200.1"),)))}, ("node/wolf", "pool/v4")),
        ({"nodes": (*NODES, node("wolf", 14, pod_cidrs=(ip_network("fd98::/112"),)))}, ("node/wolf",)),
        ({"pools": (POOL4,), "nodes": (node("a", 1, pod_cidrs=(ip_network("fd98::/64"),)),)}, ("node/a",)),
        ({"pools": (POOL4, pool("lb", "fd98::/112", allowed_uses=frozenset({"LoadBalancer"})))}, ()),
        ({"service_cidrs": None, "cluster_service_cidrs": (ip_network("fd01::/108"),)}, ("pool/v6",)),
        ({"service_cidrs": None, "services": (service("x", (V6,), cluster_ips=(ip_address("fd01::9"),)),),
            "components": ()},
         ("pool/v6", "service/default/x")),
        ({"service_cidrs": None,
            "components": (ComponentFlags(component="kube-apiserver", source="pod/x/y",
                arguments={"service-cluster-ip-range": "fd01::/112"}),)},
         ("pool/v6",)),
        ({"cluster_pod_cidrs": (ip_network("10.152.0.0/16"),)}, ("configmap/kube-system/kubeadm-config",)),
        ({"cluster_pod_cidrs": (ip_network("10.1.0.0/16"), ip_network("fd01::/48"))}, ()),
    ],
)  # fmt: skip
def test_ranges_of_different_kinds_must_not_overlap(changes: dict[str, Any], expected: tuple[str, ...]) -> None:
    assert subjects(Cause.CIDR_OVERLAP, changed(**changes)) == expected


LEFT = pool("left", "fd98::/64", disabled=True)  # contains the Services' range
TAKEN = (block("fd98::/122", 3),)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"pools": (POOL4, POOL6, LEFT)}, Severity.INFO),
        ({"pools": (POOL4, POOL6, replace(LEFT, disabled=False))}, Severity.WARNING),  # the next pod may get one of it
        ({"pools": (POOL4, POOL6, replace(LEFT, disabled=False, automatic=False))}, Severity.INFO),
        ({"pools": (POOL4, POOL6, replace(LEFT, disabled=False, nodes=frozenset()))}, Severity.INFO),
        ({"pools": (POOL4, POOL6, LEFT), "ipam_blocks": TAKEN}, Severity.WARNING),
        ({"pools": (POOL4, POOL6, LEFT), "pods": (pod("old", "ra", "10.1.13.2", "fd98::7"),)}, Severity.WARNING),
        ({"pools": (POOL4, POOL6, LEFT), "nodes": (replace(NODES[0], tunnel_addresses=(ip_address("fd98::9"),)),)},
         Severity.WARNING),
        ({"pools": (POOL4, POOL6, LEFT), "ipam_blocks": None, "pods": None}, Severity.WARNING),  # not known
        # Another CNI gives addresses, and Calico's objects were left.
        ({"pools": (POOL4, POOL6, replace(LEFT, disabled=False)), "cni": (replace(CNI, ipam="host-local"),),
          "ipam_blocks": TAKEN}, Severity.INFO),
    ],
)  # fmt: skip
def test_an_overlap_with_a_pool_that_nothing_uses_is_information(changes: dict[str, Any], expected: Severity) -> None:
    said = judge(Cause.CIDR_OVERLAP, changed(**changes))
    assert not isinstance(said, Reason)
    assert [(f.severity, f.subjects) for f in said] == [(expected, ("pool/left",))]
    assert ("nothing uses pool/left" in said[0].evidence) is (expected is Severity.INFO)


def test_the_pool_that_calico_made_of_its_own_accord_on_an_ipv6_only_cluster_is_not_used() -> None:
    nodes = tuple(replace(each, tunnel_addresses=(), internal_ips=(each.internal_ips[0],)) for each in NODES)
    default = pool("default-ipv4-ippool", "10.0.0.0/16")
    inventory = changed(pools=(default, POOL6), nodes=nodes, pods=(pod("web", "ra", "fd01:0:0:13::2"),))
    assert severity(Cause.CIDR_OVERLAP, inventory, families=(V6,)) is Severity.INFO


def test_pod_cidrs_in_a_pool_that_nothing_uses_are_ranges_of_their_own() -> None:
    left = pool("left", "10.152.0.0/16", disabled=True)
    nodes = (node("a", 1, pod_cidrs=(ip_network("10.152.183.0/26"),)),)
    said = judge(Cause.CIDR_OVERLAP, changed(pools=(POOL4, POOL6, left), nodes=nodes, pods=()))
    assert not isinstance(said, Reason)
    assert [(f.severity, f.subjects) for f in said] == [
        (Severity.WARNING, ("node/a",)), (Severity.INFO, ("pool/left",))
    ]  # fmt: skip


def test_service_addresses_are_known_by_range_or_by_service() -> None:
    none = replace(HEALTHY, services=(), service_cidrs=None, cluster_service_cidrs=(), components=())
    one = replace(none, services=(replace(service("a"), cluster_ips=(ip_address("192.0.2.9"),)),))
    ranges = (ServiceCIDR(name="v6", cidrs=(ip_network("fd00:96::/108"),)),)
    ranged = replace(one, service_cidrs=ranges)
    told = [
        [is_service_address(ip_address(a), i) for a in ("192.0.2.9", "fd00:96::f:1", "fd00:97::1")]
        for i in (none, one, ranged)
    ]
    assert told == [[False] * 3, [True, False, False], [True, True, False]]


def test_pod_cidrs_inside_their_pool_are_no_overlap() -> None:
    assert all(any(net.network_address in p.cidr for p in (POOL4, POOL6)) for n in NODES for net in n.pod_cidrs)
    assert subjects(Cause.CIDR_OVERLAP, HEALTHY) == ()


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"pools": (POOL4, pool("x", "fe80:0:0:1::/64"))}, ("pool/x",)),
        ({"pools": (POOL4, pool("x", "169.254.0.0/24"))}, ("pool/x",)),
        ({"pools": (POOL4, pool("x", "fc01::/48"))}, ("pool/x",)),
        ({"pools": (POOL4, pool("x", "fc00::/7"))}, ("pool/x",)),
        ({"pools": (POOL4, pool("x", "fd02::/48", block_size=64))}, ("pool/x",)),
        ({"pools": (POOL4, pool("x", "fd02::/125"))}, ("pool/x",)),
        ({"pools": (POOL4, pool("x", "2001:db8:1::/64"))}, ()),
        ({"nodes": (*NODES, node("wolf", 14, pod_cidrs=(ip_network("fc02::/64"),)))}, ("node/wolf",)),
        ({"service_cidrs": service_range("fd98::/64")}, ("service/default/kubernetes",)),
        ({"service_cidrs": service_range("fd98::/108", "10.96.0.0/12")}, ()),
        ({"service_cidrs": service_range("10.0.0.0/8"), "nodes": (), "pools": ()}, ("service/default/kubernetes",)),
        ({"service_cidrs": service_range("10.96.0.0/30")}, ("service/default/kubernetes",)),
    ],
)
def test_ranges_that_the_components_cannot_use_well(changes: dict[str, Any], expected: tuple[str, ...]) -> None:
    inventory = changed(**changes)
    assert subjects(Cause.CIDR_UNSUITABLE, inventory) == expected
    if expected:
        assert severity(Cause.CIDR_UNSUITABLE, inventory) is Severity.INFO


def of_version(version: str) -> tuple[Node, ...]:
    return tuple(replace(each, kubelet_version=version) for each in NODES)


@pytest.mark.parametrize(
    ("version", "kubeadm", "said"),
    [
        ("", False, "kubeadm and kube-apiserver before 1.34 refuse Service ranges larger than /108"),
        ("v1.33.9", False, "before 1.34 (kubelets here are at most 1.33) refuse"),
        ("v1.29.4+k3s1", True, "(kubelets here are at most 1.29)"),
        ("v1.36.2", True, "kube-apiserver 1.36 takes it, kubeadm and older ones refuse"),
        ("v1.34.0", False, ""),
        ("v9", False, "kubeadm and kube-apiserver before 1.34 refuse"),
    ],
)
def test_large_service_ranges_are_refused_by_some_versions_alone(version: str, kubeadm: bool, said: str) -> None:
    ranges = service_range("fd98::/64")
    known = changed(service_cidrs=ranges, nodes=of_version(version), cluster_service_cidrs=ranges[0].cidrs * kubeadm)
    found = judge(Cause.CIDR_UNSUITABLE, known)
    assert not isinstance(found, Reason)
    assert bool(found) == bool(said)
    for each in found:
        assert said in each.evidence[0]
        assert each.evidence[0].startswith("Service range fd98::/64 (servicecidr kubernetes): ")


def test_arguments_noted_on_a_node_are_judged_there_and_the_command_shows_them() -> None:
    known = shows(flags("kube-controller-manager", "node/ra annotation k3s.io/node-args", cluster_cidr="10.42.0.0/16"))
    said = judge(Cause.CONTROL_PLANE_FLAGS, known, families=BOTH)
    assert not isinstance(said, Reason)
    (found,) = said
    assert found.subjects == ("node/ra",)
    assert found.command == "kubectl get node ra -o jsonpath='{.metadata.annotations}'"


def object_of(source: str) -> Subject | None:
    """The object that a source names; a path names none."""
    return None if source.startswith("/") else Subject(source.partition(" ")[0])


def manager(cidrs: str, source: str = "pod/kube-system/kcm", **more: str) -> ComponentFlags:
    given = {"cluster-cidr": cidrs, "allocate-node-cidrs": "true", **{k.replace("_", "-"): v for k, v in more.items()}}
    return ComponentFlags(
        component="kube-controller-manager",
        source=source,
        subject=object_of(source),
        arguments={k: v for k, v in given.items() if v},
        node="cp",
    )


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (manager("10.1.0.0/16,fd01::/48"), ()),
        (manager("10.1.0.0/16,fd01::/40"), ("pod/kube-system/kcm",)),  # 2^24 nodes of /64
        (manager("fd01::/40", node_cidr_mask_size_ipv6="56"), ()),
        (manager("fd01::/108"), ("pod/kube-system/kcm",)),  # smaller than one node's /64
        (manager("fd01::/40", allocate_node_cidrs="false"), ()),
    ],
)
def test_cluster_cidrs_that_the_controller_manager_refuses(flags: ComponentFlags, expected: tuple[str, ...]) -> None:
    assert subjects(Cause.CIDR_UNSUITABLE, changed(components=(flags,))) == expected


def shows(*flags: ComponentFlags) -> Inventory:
    return changed(components=flags)


def flags(component: str, source: str = "pod/kube-system/x", **arguments: str) -> ComponentFlags:
    return ComponentFlags(
        component=component,
        source=source,
        subject=object_of(source),
        arguments={k.replace("_", "-"): v for k, v in arguments.items()},
        node="ra",
    )


DUAL = "10.152.183.0/24,fd98::/108"
PODS = "10.1.0.0/16,fd01::/48"


@pytest.mark.parametrize(
    "shown",
    [
        (flags("kube-apiserver", service_cluster_ip_range=DUAL),),
        (manager(PODS), flags("kube-proxy", "configmap/kube-system/kube-proxy", cluster_cidr=PODS)),
        (manager(PODS), flags("kube-proxy", cluster_cidr="fd01::/48,10.1.0.0/16")),
        (manager(PODS), flags("kube-proxy", cluster_cidr="10.1.0.0/16", detect_local_mode="NodeCIDR")),
        (flags("kubelet", "/args/kubelet", node_ip="10.0.10.13,2001:db8:10::13"),),
        (flags("kubelet", "/args/kubelet", node_ip="::"),),
        (flags("kubelet", "/args/kubelet", node_ip="10.0.10.13"),),  # the cloud provider completed the node's addresses
        (flags("kube-proxy", feature_gates="Other=true"),),
        (flags("kube-apiserver", service_cluster_ip_range="${RANGE}"),),
        (flags("kube-controller-manager", allocate_node_cidrs="false"),),
    ],
)
def test_arguments_that_are_dual_stack_and_agree(shown: tuple[ComponentFlags, ...]) -> None:
    assert subjects(Cause.CONTROL_PLANE_FLAGS, shows(*shown)) == ()


X = ("pod/kube-system/x",)


@pytest.mark.parametrize(
    ("shown", "expected", "said"),
    [
        ((flags("kube-apiserver", service_cluster_ip_range="10.152.183.0/24"),), X, "names no IPv6"),
        ((flags("kube-proxy", cluster_cidr="fd01::/48"),), X, "names no IPv4"),
        ((manager(PODS, service_cluster_ip_range="fd99::/108"), flags("kube-apiserver", service_cluster_ip_range=DUAL)),
            ("pod/kube-system/kcm", *X), "--service-cluster-ip-range differs"),
        ((manager(PODS, allocate_node_cidrs=""),), ("pod/kube-system/kcm",),
            "no --allocate-node-cidrs: nodes get no podCIDR"),
        ((manager(PODS, allocate_node_cidrs="false"),), ("pod/kube-system/kcm",), "--allocate-node-cidrs=false"),
        ((manager(PODS, node_cidr_mask_size="24"),), ("pod/kube-system/kcm",), "is refused with two families"),
        ((flags("kubelet", "/args/kubelet", feature_gates="A=true,IPv6DualStack=true"),), ("node/ra",),
            "does not exist since Kubernetes 1.25"),
        ((flags("kube-apiserver", service_cluster_ip_range=DUAL),
            manager(PODS, service_cluster_ip_range="10.152.183.0/24,fd99::/108")),
         ("pod/kube-system/kcm", *X), "--service-cluster-ip-range differs"),
        ((manager(PODS), manager("10.1.0.0/16,fd02::/48", "/args/kcm")), ("node/cp", "pod/kube-system/kcm"),
            "--cluster-cidr differs"),
    ],
)  # fmt: skip
def test_arguments_that_are_wrong(shown: tuple[ComponentFlags, ...], expected: tuple[str, ...], said: str) -> None:
    # Judged are a gate by the version and podCIDRs that nobody gives by the nodes.
    nodes = tuple(replace(n, kubelet_version="v1.30.4+k3s1", pod_cidrs=()) for n in NODES)
    found = judge(Cause.CONTROL_PLANE_FLAGS, replace(shows(*shown), nodes=nodes))
    assert not isinstance(found, Reason)
    assert found[0].subjects == expected
    assert found[0].severity is Severity.WARNING
    assert any(said in line for line in found[0].evidence)


def test_a_kubelet_of_one_family_makes_its_node_single_stack() -> None:
    nodes = (*NODES[:2], replace(NODES[2], internal_ips=(ip_address("10.0.10.13"),)))
    inventory = changed(nodes=nodes, components=(flags("kubelet", "/args/kubelet", node_ip="10.0.10.13"),))
    assert subjects(Cause.CONTROL_PLANE_FLAGS, inventory) == ("node/ra",)


def test_a_cluster_of_one_family_needs_arguments_of_that_one() -> None:
    shown = shows(flags("kube-apiserver", service_cluster_ip_range="fd98::/108"))
    assert subjects(Cause.CONTROL_PLANE_FLAGS, shown, families=(V6,)) == ()
    assert subjects(Cause.CONTROL_PLANE_FLAGS, shown, families=(V4, V6)) == X


def test_where_no_argument_is_visible_nothing_is_said() -> None:
    assert judge(Cause.CONTROL_PLANE_FLAGS, shows()) is Reason.NO_INVENTORY


@pytest.mark.parametrize(
    ("gate", "image", "kubelet", "gone"),
    [
        ("IPv6DualStack", "v1.22.17", "", False),
        ("IPv6DualStack", "v1.25.0", "v1.22.17", True),
        ("MultiCIDRRangeAllocator", "", "v1.28.3", False),
        ("CloudDualStackNodeIPs", "1", "v1.33.2", True),
        ("CloudDualStackNodeIPs", "", "", False),
        ("Unheard", "v1.33.2", "v1.33.2", False),
    ],
)
def test_a_gate_is_judged_by_the_version_of_its_component(gate: str, image: str, kubelet: str, gone: bool) -> None:
    nodes = tuple(replace(n, kubelet_version=kubelet) for n in NODES)
    shown = replace(flags("kube-proxy", feature_gates=f"{gate}=true"), version=image)
    assert bool(subjects(Cause.CONTROL_PLANE_FLAGS, replace(shows(shown), nodes=nodes))) is gone


MICROK8S = "/var/snap/microk8s/current/args/kube-controller-manager"
BARE = {"nodes": tuple(replace(n, pod_cidrs=()) for n in NODES)}


@pytest.mark.parametrize(
    ("shown", "changes", "expected"),
    [
        ((manager(PODS, MICROK8S, allocate_node_cidrs=""),), BARE, Severity.INFO),
        ((manager(PODS, MICROK8S, allocate_node_cidrs=""),), {**BARE, "pods": (pod("web", "ra", "10.1.13.2"),)},
         Severity.WARNING),  # no pod has IPv6
        ((manager(PODS, MICROK8S, allocate_node_cidrs=""),), {**BARE, "cni": (replace(CNI, ipam="host-local"),)},
         Severity.WARNING),
        ((manager(PODS, MICROK8S, allocate_node_cidrs=""), flags("kube-proxy", cluster_cidr="10.1.0.0/16")), BARE,
         Severity.WARNING),  # not all else is right
        ((manager(PODS, allocate_node_cidrs=""),), BARE, Severity.WARNING),
    ],
)  # fmt: skip
def test_microk8s_under_calicos_ipam_needs_no_pod_cidrs(
    shown: tuple[ComponentFlags, ...], changes: dict[str, Any], expected: Severity
) -> None:
    inventory = replace(shows(*shown), **changes)
    assert severity(Cause.CONTROL_PLANE_FLAGS, inventory, families=BOTH) is expected


@pytest.mark.parametrize(
    ("argument", "changes", "expected"),
    [
        ({"value": "10.1.0.0/16"}, {}, Severity.INFO),  # every node has an IPv6 podCIDR
        ({"value": "10.1.0.0/16"}, BARE, Severity.INFO),  # pods have IPv6 from Calico's pools
        ({"value": "10.1.0.0/16"}, {**BARE, "pods": (pod("web", "ra", "10.1.13.2"),), "ipam_blocks": ()},
         Severity.WARNING),
        ({"service_cluster_ip_range": "10.152.183.0/24"}, {}, Severity.INFO),  # Services have IPv6 addresses
        ({"service_cluster_ip_range": "10.152.183.0/24"}, {"services": (), "service_cidrs": ()}, Severity.WARNING),
        ({"feature_gates": "IPv6DualStack=true", "value": "10.1.0.0/16"}, {}, Severity.WARNING),
    ],
)  # fmt: skip
def test_an_argument_of_the_controller_manager_that_contradicts_what_is_there_is_info(
    argument: dict[str, str], changes: dict[str, Any], expected: Severity
) -> None:
    nodes = tuple(replace(n, kubelet_version="v1.30.4") for n in changes.get("nodes", NODES))
    shown = manager(argument.pop("value", PODS), **argument)
    assert severity(Cause.CONTROL_PLANE_FLAGS, replace(shows(shown), **{**changes, "nodes": nodes})) is expected


def test_another_controller_may_give_the_pod_cidrs() -> None:
    assert subjects(Cause.CONTROL_PLANE_FLAGS, shows(manager(PODS, allocate_node_cidrs="false"))) == ()
