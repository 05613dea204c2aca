"""Causes that single nodes show in the API: podCIDRs, InternalIPs, Calico's annotations. Pure; cluster exporter."""

from __future__ import annotations

from collections.abc import Iterator

from exporter.diagnosis.engine.preconditions import bounded, counted, listed, pod_nodes
from exporter.diagnosis.engine.rule_input import Judgement, RuleInput
from exporter.diagnosis.rules.judging import found, needs
from exporter.model.cause import Cause, Severity
from exporter.model.cluster.calico import IPPool, VxlanMode
from exporter.model.cluster.component import ComponentFlags
from exporter.model.cluster.inventory import ResourceKind
from exporter.model.cluster.node import Node
from exporter.model.cni.profile import Cni
from exporter.model.family import Family, family_of
from exporter.model.grouping import grouped
from exporter.model.reason import Reason

NO_CLOUD = frozenset({"kind", "k3s", "rke2", "minikube"})  # in spec.providerID: these give nodes no addresses
YOUNG = 120.0  # seconds in which a node that joins gets its podCIDRs and Calico's addresses


@needs(ResourceKind.NODES)
def node_pod_cidr_missing(view: RuleInput) -> Judgement:
    """A node without IPv6 podCIDR while others have one, or all where pods get their addresses from podCIDRs.

    Info where the CNI is known not to use them: then a cluster without any is as it should be.
    """
    nodes, uses = _settled(view), view.network.uses_pod_cidrs
    without = [node for node in nodes if not any(family_of(net) is Family.V6 for net in node.pod_cidrs)]
    if len(without) == len(nodes) and not uses:
        return ()
    network = f"{view.network.cni}, ipam {view.network.ipam}"
    notes = {False: f"pods do not get their addresses from podCIDRs ({network})",
             True: f"pods get their addresses from podCIDRs ({network})", None: ""}  # fmt: skip
    return found(
        Cause.NODE_POD_CIDR_MISSING,
        (node.subject for node in without),
        evidence=[
            f"{counted(len(nodes) - len(without), 'node')} of {len(nodes)} have an IPv6 podCIDR",
            *bounded(f"{n.subject}: spec.podCIDRs [{listed(map(str, n.pod_cidrs))}]" for n in without),
            *filter(None, (notes[uses],)),
        ],
        command="kubectl get nodes -o custom-columns=NAME:.metadata.name,PODCIDRS:.spec.podCIDRs",
        severity=Severity.INFO if uses is False else None,
    )


@needs(ResourceKind.NODES)
def node_internal_ip_missing(view: RuleInput) -> Judgement:
    """A node without IPv6 InternalIP, or with a link-local one only. The evidence has the arguments for it."""
    nodes = _settled(view)
    without = [
        node for node in nodes if not any(family_of(a) is Family.V6 and not a.is_link_local for a in node.internal_ips)
    ]
    flags = {each.node: each for each in view.inventory.components or () if each.arguments.get("node-ip")}
    declared = [line for node in without for line in _declarations(node, flags.get(node.name))]
    return found(
        Cause.NODE_INTERNAL_IP_MISSING,
        (node.subject for node in without),
        evidence=[
            f"{counted(len(nodes) - len(without), 'node')} of {len(nodes)} have an IPv6 InternalIP",
            *bounded(_internal_ips(node) for node in without),
            *bounded(declared or ("InternalIPs come from the kubelet's --node-ip or from the cloud provider",)),
        ],
        command="kubectl get nodes -o custom-columns=NAME:.metadata.name,ADDRESSES:.status.addresses[*].address",
    )


def _declarations(node: Node, flags: ComponentFlags | None) -> Iterator[str]:
    """What declares the InternalIPs of a node, the kubelet's argument before what the cloud provider makes of it."""
    if flags is not None:
        yield f"{flags.component} ({flags.source}): --node-ip={flags.arguments['node-ip']}"
    elif node.provided_ips:
        given = ",".join(map(str, node.provided_ips))
        yield f"{node.subject}: --node-ip={given} (annotation alpha.kubernetes.io/provided-node-ip)"
    if node.provider and node.provider not in NO_CLOUD:
        yield f"{node.subject}: its addresses come from the cloud provider {node.provider} (spec.providerID)"


def _internal_ips(node: Node) -> str:
    note = ", of IPv6 only link-local" if node.internal_ip(Family.V6) is not None else ""
    return f"{node.subject}: InternalIP [{listed(map(str, node.internal_ips))}]{note}"


@needs(ResourceKind.NODES, ResourceKind.IP_POOLS)
def calico_node_address_missing(view: RuleInput) -> Judgement:
    """A node that an IPv6 pool selects and that lacks its own IPv6 address, or with VXLAN that of its tunnel."""
    pools = sorted(view.inventory.enabled_pools(Family.V6), key=lambda pool: pool.vxlan_mode is VxlanMode.NEVER)
    lacking: list[tuple[Node, list[str], IPPool]] = []
    for node in _settled(view):
        pool = next((p for p in pools if p.selects(node.name)), None)
        if pool is None or node.windows:
            continue
        needed = list(node.tunnel_annotations.items())[: 1 if pool.vxlan_mode is VxlanMode.NEVER else None]
        lacks = [name for name, value in needed if value is None]
        if lacks:
            lacking.append((node, lacks, pool))
    if not lacking:
        return ()
    return found(
        Cause.CALICO_NODE_ADDRESS_MISSING,
        (node.subject for node, _, _ in lacking),
        evidence=bounded(
            f"{node.subject}: no annotation {listed(lacks)}; pool {pool.name} (vxlanMode {pool.vxlan_mode}"
            f"{'' if 'Tunnel' in pool.allowed_uses else ', allowedUses without Tunnel'}) selects it"
            for node, lacks, pool in lacking
        ),
        command=f"kubectl get node {lacking[0][0].name} -o jsonpath='{{.metadata.annotations}}'",
    )


@needs(ResourceKind.NODES)
def calico_node_address_wrong(view: RuleInput) -> Judgement:
    """Nodes with the same annotation IPv6Address: Calico detected one that moves between them, as a VIP."""
    annotated = [
        (address.ip, node) for node in pod_nodes(view.inventory) if (address := node.calico_address(Family.V6))
    ]
    if not annotated or view.network.cni not in {Cni.CALICO, Cni.UNKNOWN}:
        return Reason.NOT_APPLICABLE  # annotations outlive a Calico that has gone
    shared = {ip: each for ip, each in grouped(annotated, lambda item: item[0]).items() if len(each) > 1}
    return found(
        Cause.CALICO_NODE_ADDRESS_WRONG,
        (node.subject for each in shared.values() for _, node in each),
        evidence=bounded(
            f"annotation projectcalico.org/IPv6Address is {ip} on {listed(node.subject for _, node in each)}"
            for ip, each in shared.items()
        ),
        command="kubectl get nodes -o yaml | grep projectcalico.org/IPv6Address",
    )


def _settled(view: RuleInput) -> list[Node]:
    """The nodes that run pods, without those that are just joining."""
    return [n for n in pod_nodes(view.inventory) if n.created is None or not 0 <= view.now - n.created <= YOUNG]
