"""Small constructors of a cluster for the cluster rules' scenarios: a healthy dual-stack one, and what a scenario
changes of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from ipaddress import ip_address, ip_interface, ip_network
from typing import Any

from exporter.diagnosis.engine.rule_input import Expectations, RuleInput
from exporter.diagnosis.expectation import families_expected
from exporter.diagnosis.rules.cluster import CLUSTER_RULES
from exporter.model.cause import Cause, Role, Severity
from exporter.model.cluster.calico import BlockAffinity, CalicoNode, Felix, FelixConfiguration, IPPool, VxlanMode
from exporter.model.cluster.component import CniConfig, ComponentFlags
from exporter.model.cluster.corefile import Corefile
from exporter.model.cluster.inventory import Inventory, InventoryOrigin
from exporter.model.cluster.node import Node
from exporter.model.cluster.pod import Pod
from exporter.model.cluster.service import Endpoint, EndpointSlice, Service, ServiceCIDR
from exporter.model.family import Family, family_of
from exporter.model.reason import Reason
from exporter.model.report import Finding, Snapshot
from exporter.model.subject import Subject

V4, V6 = Family.V4, Family.V6
BOTH = (V4, V6)


def node(name: str, number: int, **changes: Any) -> Node:
    """A Ready dual-stack node with everything Calico needs."""
    return replace(
        Node(
            name=name,
            ready=True,
            internal_ips=(ip_address(f"10.0.10.{number}"), ip_address(f"2001:db8:10::{number}")),
            pod_cidrs=(ip_network(f"10.1.{number}.0/24"), ip_network(f"fd01:0:0:{number}::/64")),
            labels={"kubernetes.io/hostname": name},
            calico_addresses=(ip_interface(f"10.0.10.{number}/24"), ip_interface(f"2001:db8:10::{number}/64")),
            tunnel_addresses=(ip_address(f"10.1.{number}.0"), ip_address(f"fd01:0:0:{number}::")),
        ),
        **changes,
    )


def pod(name: str, on: str, *ips: str, namespace: str = "default", **changes: Any) -> Pod:
    found = Pod(namespace=namespace, name=name, node=on, phase="Running", ready=True, ips=tuple(map(ip_address, ips)))
    return replace(found, **changes)


def service(name: str, families: Iterable[Family] = BOTH, *, namespace: str = "default", **changes: Any) -> Service:
    families = tuple(families)
    policy = "SingleStack" if len(families) == 1 else "PreferDualStack"
    addresses = {V4: ip_address("10.152.183.20"), V6: ip_address("fd98::20")}
    found = Service(
        namespace=namespace,
        name=name,
        families=families,
        family_policy=policy,
        cluster_ips=tuple(addresses[f] for f in families),
    )
    return replace(found, **changes)


def endpoints(of: str, *addresses: str, pod: str = "", ready: bool = True, namespace: str = "default") -> EndpointSlice:
    """A slice of the first address's family; without addresses an empty one of IPv6."""
    made = tuple(ip_address(each) for each in addresses)
    family = family_of(made[0]) if made else V6
    behind = f"{namespace}/{pod}" if pod else ""
    found = tuple(Endpoint(addresses=(address,), ready=ready, pod=behind) for address in made)
    return EndpointSlice(namespace=namespace, name=f"{of}-{family}", service=of, family=family, endpoints=found)


def pool(name: str, cidr: str, **changes: Any) -> IPPool:
    net = ip_network(cidr)
    found = IPPool(
        name=name,
        cidr=net,
        vxlan_mode=VxlanMode.ALWAYS,
        nat_outgoing=True,
        block_size=122 if net.version == 6 else 26,
    )
    return replace(found, **changes)


POOL4, POOL6 = pool("v4", "10.1.0.0/16"), pool("v6", "fd01::/48")
NODES = (node("anubis", 11), node("babel", 12), node("ra", 13))
FELIX = (FelixConfiguration("default", Felix(ipv6_support=True)),)
CNI = CniConfig(
    source="configmap/kube-system/calico-config",
    subject=Subject("configmap/kube-system/calico-config"),
    main_plugin="calico",
    assign_ipv6=True,
    assign_ipv6_text="true",
    ipam="calico-ipam",
)
HEALTHY = Inventory(
    source=InventoryOrigin.KUBERNETES,
    nodes=NODES,
    pods=(pod("web", "ra", "10.1.13.2", "fd01:0:0:13::2"),),
    namespaces=(),
    services=(service("web"), service("kubernetes", (V4,))),
    endpoint_slices=(endpoints("web", "10.1.13.2", pod="web"), endpoints("web", "fd01:0:0:13::2", pod="web")),
    service_cidrs=(ServiceCIDR("kubernetes", (ip_network("10.152.183.0/24"), ip_network("fd98::/108"))),),
    policies=(),
    pools=(POOL4, POOL6),
    block_affinities=(BlockAffinity(cidr=ip_network("fd01::/122"), node="ra"),),
    ipam_blocks=(),
    felix=FELIX,
    calico_node=CalicoNode("kube-system"),
    corefile=Corefile(namespace="kube-system", name="coredns", cluster_domains=("cluster.local",)),
    cni=(CNI,),
    components=(
        ComponentFlags(
            component="kube-apiserver",
            source="pod/kube-system/api",
            subject=Subject("pod/kube-system/api"),
            arguments={"service-cluster-ip-range": "10.152.183.0/24,fd98::/108"},
        ),
    ),
)


def changed(**changes: Any) -> Inventory:
    """The healthy cluster but for the fields given."""
    return replace(HEALTHY, **changes)


def judge(
    cause: Cause,
    inventory: Inventory,
    *,
    expect: Expectations | None = None,
    families: Iterable[Family] | None = None,
) -> tuple[Finding, ...] | Reason:
    """What the rule of the cause says of the inventory, in role cluster."""
    expected = families_expected(inventory, tuple(families) if families is not None else None)
    snapshot = Snapshot(
        node="ra",
        role=Role.CLUSTER,
        started=0.0,
        finished=0.0,
        complete=True,
        inventory=inventory,
        host=None,
        families=expected,
    )
    return CLUSTER_RULES[cause](RuleInput(now=0.0, snapshot=snapshot, expect=expect or Expectations()))


def subjects(cause: Cause, inventory: Inventory, **given: Any) -> tuple[str, ...]:
    """The subjects of the only finding, () where the cause does not hold."""
    said = judge(cause, inventory, **given)
    assert not isinstance(said, Reason), said
    assert len(said) <= 1
    return said[0].subjects if said else ()


def severity(cause: Cause, inventory: Inventory, **given: Any) -> Severity:
    said = judge(cause, inventory, **given)
    assert not isinstance(said, Reason), said
    return said[0].severity
