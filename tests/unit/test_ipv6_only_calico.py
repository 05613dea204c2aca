"""A healthy cluster of IPv6 alone with the IPv4 pool and tunnel addresses that Calico makes by itself: IPv4 is not
expected, nothing is found.

The objects are as calico-node v3.34 leaves them where CALICO_IPV4POOL_CIDR is not set, IP is none, and the CNI plugin
assigns IPv6 alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from exporter.config.load import load_config
from exporter.diagnosis.engine.rule_input import RuleInput
from exporter.diagnosis.expectation import families_expected
from exporter.diagnosis.rules.cluster import CLUSTER_RULES
from exporter.digest.format import merge, read_digest, write_digest
from exporter.inventory.file import load_text
from exporter.model.cause import Role, Severity
from exporter.model.cluster.inventory import Inventory, InventoryOrigin, ResourceKind
from exporter.model.family import FAMILIES
from exporter.model.reason import Reason
from exporter.model.report import Snapshot
from exporter.plan.targets import peers
from tests.unit.cluster_scene import V4, V6

NODES = {"n1": 1, "n2": 2, "n3": 3}
NOW = 1_800_000_000.0
NODE_LISTS = frozenset({
    ResourceKind.PODS, ResourceKind.NODES, ResourceKind.NAMESPACES, ResourceKind.SERVICES, ResourceKind.IP_POOLS,
    ResourceKind.BLOCK_AFFINITIES, ResourceKind.FELIX, ResourceKind.CONFIG_MAPS,
})  # fmt: skip
CRD = "crd.projectcalico.org/v1"
CONFLIST = {
    "name": "k8s-pod-network",
    "plugins": [{"type": "calico", "ipam": {"type": "calico-ipam", "assign_ipv4": "false", "assign_ipv6": "true"}}],
}
Object = dict[str, Any]


def made(kind: str, version: str, name: str, namespace: str = "", **rest: Any) -> Object:
    metadata = {"name": name, "creationTimestamp": "2026-01-01T00:00:00Z", **rest.pop("metadata", {})}
    return {
        "apiVersion": version,
        "kind": kind,
        "metadata": {**metadata, **({"namespace": namespace} if namespace else {})},
        **rest,
    }


def node(name: str, number: int) -> Object:
    annotations = {
        "projectcalico.org/IPv6Address": f"2001:db8:10::{number}/64",
        "projectcalico.org/IPv6VXLANTunnelAddr": f"fd00:10:244:{number}::",
        "projectcalico.org/IPv4VXLANTunnelAddr": f"192.168.{number}.0",
    }
    return made(
        "Node", "v1", name,
        metadata={"annotations": annotations, "labels": {"kubernetes.io/os": "linux"}},
        spec={"podCIDR": f"fd00:10:244:{number:x}00::/64", "podCIDRs": [f"fd00:10:244:{number:x}00::/64"]},
        status={
            "addresses": [{"type": "InternalIP", "address": f"2001:db8:10::{number}"}],
            "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}],
        },
    )  # fmt: skip


def pod(name: str, on: str, address: str) -> Object:
    status = {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}]}
    return made("Pod", "v1", name, "default", spec={"nodeName": on, "containers": [{"name": "web"}]}, status=status)


def block(cidr: str, on: str, *attributes: Object) -> Iterator[Object]:
    allocations = [*range(len(attributes)), *[None] * (64 - len(attributes))]
    name = cidr.replace(".", "-").replace(":", "-").replace("/", "-")
    spec = {"cidr": cidr, "affinity": f"host:{on}", "allocations": allocations, "attributes": list(attributes)}
    yield made("IPAMBlock", CRD, name, spec=spec)
    affinity = {"cidr": cidr, "node": on, "state": "confirmed", "type": "host", "deleted": "false"}
    yield made("BlockAffinity", CRD, f"{on}-{name}", spec=affinity)


def tunnel(on: str, kind: str) -> Object:
    return {"handle_id": f"{kind}-tunnel-addr-{on}", "secondary": {"node": on, "type": kind}}


def pool(name: str, cidr: str, size: int) -> Object:
    spec = {
        "cidr": cidr, "blockSize": size, "vxlanMode": "Always", "ipipMode": "Never", "natOutgoing": True,
        "nodeSelector": "all()", "allowedUses": ["Workload", "Tunnel"], "assignmentMode": "Automatic",
    }  # fmt: skip
    return made("IPPool", CRD, name, spec=spec)


def objects() -> list[Object]:
    service = {
        "clusterIP": "fd00:10:96::a", "clusterIPs": ["fd00:10:96::a"], "ipFamilies": ["IPv6"],
        "ipFamilyPolicy": "SingleStack", "ports": [{"name": "dns", "port": 53, "protocol": "UDP"}],
    }  # fmt: skip
    found = [
        made("Namespace", "v1", "default"),
        made("Service", "v1", "kube-dns", "kube-system", spec=service),
        made("ServiceCIDR", "networking.k8s.io/v1", "kubernetes", spec={"cidrs": ["fd00:10:96::/112"]}),
        pool("default-ipv4-ippool", "192.168.0.0/16", 26),
        pool("default-ipv6-ippool", "fd00:10:244::/48", 122),
        made("FelixConfiguration", CRD, "default", spec={"ipv6Support": True}),
        made(
            "ConfigMap", "v1", "calico-config", "kube-system",
            data={"cni_network_config": json.dumps(CONFLIST)},
        ),
    ]  # fmt: skip
    for name, number in NODES.items():
        address = f"fd00:10:244:{number}::1"
        holder = {"handle_id": f"k8s-pod-network.{number}", "secondary": {"namespace": "default", "pod": "w"}}
        found += [
            node(name, number),
            pod(f"w{number}", name, address),
            *block(f"192.168.{number}.0/26", name, tunnel(name, "vxlanTunnelAddress")),
            *block(f"fd00:10:244:{number}::/122", name, tunnel(name, "vxlanV6TunnelAddress"), holder),
        ]
    return found


def cluster(*without: str) -> Inventory:
    """The cluster as its cluster role reads it, without these kinds of object: as from the API, but for the means."""
    kept = [each for each in objects() if each["kind"] not in without]
    inventory = load_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": kept}))
    lists = {"IPAMBlock": ResourceKind.IPAM_BLOCKS, "ConfigMap": ResourceKind.CONFIG_MAPS}
    unread = {kind: Reason.NO_PERMISSION for name, kind in lists.items() if name in without}
    return replace(
        inventory, source=InventoryOrigin.KUBERNETES, unread=unread, cni=() if inventory.cni is None else inventory.cni
    )


def by_itself(whole: Inventory, me: str) -> Inventory:
    """What a node without a cluster role lists: of pods its own, no blocks."""
    unread = {kind: Reason.NO_INVENTORY for kind in ResourceKind if kind not in NODE_LISTS}
    return replace(
        whole,
        pods=whole.local_pods(me),
        ipam_blocks=None,
        service_cidrs=None,
        unread=unread,
    )


def told(whole: Inventory, me: str) -> Inventory:
    """What a node has of its own and of the digest."""
    nodes = tuple(each for each in whole.nodes or () if each.name == me)
    own = replace(
        Inventory(source=InventoryOrigin.KUBERNETES),
        pods=whole.local_pods(me),
        nodes=nodes,
        unread={
            kind: Reason.NO_INVENTORY for kind in ResourceKind if kind not in {ResourceKind.PODS, ResourceKind.NODES}
        },
    )
    return merge(own, read_digest(write_digest(whole, (), NOW)))


@pytest.mark.parametrize("without", [(), ("IPAMBlock",), ("ConfigMap",), ("IPAMBlock", "ConfigMap")])
def test_ipv4_is_not_expected_whoever_is_asked(without: tuple[str, ...]) -> None:
    whole = cluster(*without)
    expected = {V4: False, V6: True}
    assert families_expected(whole, None) == expected
    assert families_expected(replace(whole, source=InventoryOrigin.FILE), None) == expected
    for me in NODES:
        assert families_expected(told(whole, me), None) == expected


def test_a_node_by_itself_goes_by_the_cni_configuration_or_leaves_it_open() -> None:
    assert families_expected(by_itself(cluster(), "n1"), None) == {V4: False, V6: True}
    assert families_expected(by_itself(cluster("ConfigMap"), "n1"), None) == {V4: None, V6: True}


def test_nothing_is_found_and_nobody_is_dialled_over_ipv4() -> None:
    whole = cluster()
    families = families_expected(whole, None)
    snapshot = Snapshot(
        node="n1",
        role=Role.CLUSTER,
        started=0.0,
        finished=0.0,
        complete=True,
        inventory=whole,
        host=None,
        families=families,
    )
    for cause, rule in CLUSTER_RULES.items():
        said = rule(RuleInput(now=NOW, snapshot=snapshot))
        assert isinstance(said, Reason) or [f for f in said if f.severity is not Severity.INFO] == [], cause
    config = load_config("", path="", environment={"NODE_NAME": "n1"}, hostname="n1")
    dialled = peers(told(whole, "n1"), config, tuple(f for f in FAMILIES if families[f] is not False), NOW)
    assert len(dialled) == 2
    assert {family for target in dialled for family in target.addresses} == {V6}


def test_the_first_pod_with_an_ipv4_address_makes_it_expected_everywhere() -> None:
    whole = cluster("ConfigMap")
    own = whole.pods or ()
    dual = replace(own[0], ips=(*own[0].ips, whole.nodes[0].tunnel_addresses[0]))  # type: ignore[index]  # it has three
    both = replace(whole, pods=(dual, *own[1:]))
    assert families_expected(both, None) == {V4: True, V6: True}
    for me in NODES:
        assert families_expected(told(both, me), None) == {V4: True, V6: True}
