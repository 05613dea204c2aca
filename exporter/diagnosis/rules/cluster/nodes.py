"""Causes that single nodes show in the API: podCIDRs, InternalIPs, Calico's annotations. Pure rules of role cluster."""

from __future__ import annotations

from exporter.diagnosis.engine.preconditions import bounded, counted, has_calico_ipam, lacking, listed, pod_nodes
from exporter.diagnosis.engine.rule_input import Judgement, Rule, RuleInput, finding
from exporter.model.calico import IPPool, VxlanMode
from exporter.model.family import Family, family_of
from exporter.model.inventory import ResourceKind
from exporter.model.node import Node
from exporter.model.report import Cause, Severity
from exporter.model.subject import Subject, SubjectKind

YOUNG = 120.0  # seconds in which a node that joins gets its podCIDRs and Calico's addresses


def _subject(node: Node) -> Subject:
    return Subject.of(SubjectKind.NODE, node.name)


def node_pod_cidr_missing(view: RuleInput) -> Judgement:
    """A node without IPv6 podCIDR while others have one; under Calico's own IPAM, which does not use podCIDRs, only worth knowing."""
    reason = lacking(view.inventory, ResourceKind.NODES)
    if reason is not None:
        return reason
    nodes = _settled(view)
    without = [node for node in nodes if not any(family_of(net) is Family.V6 for net in node.pod_cidrs)]
    if not without or len(without) == len(nodes):
        return ()
    calico = has_calico_ipam(view.inventory)
    note = ("pod addresses come from Calico's pools, which do not use podCIDRs",) if calico else ()
    return (
        finding(
            Cause.NODE_POD_CIDR_MISSING,
            map(_subject, without),
            evidence=[
                f"{counted(len(nodes) - len(without), 'node')} of {len(nodes)} have an IPv6 podCIDR",
                *bounded(f"node/{n.name}: spec.podCIDRs [{listed(map(str, n.pod_cidrs))}]" for n in without),
                *note,
            ],
            command="kubectl get nodes -o custom-columns=NAME:.metadata.name,PODCIDRS:.spec.podCIDRs",
            severity=Severity.INFO if calico else None,
        ),
    )


def node_internal_ip_missing(view: RuleInput) -> Judgement:
    """A node without IPv6 InternalIP, or with a link-local one alone, while others have one."""
    reason = lacking(view.inventory, ResourceKind.NODES)
    if reason is not None:
        return reason
    nodes = _settled(view)
    without = [node for node in nodes if not _usable_ips(node)]
    if not without or len(without) == len(nodes):
        return ()
    return (
        finding(
            Cause.NODE_INTERNAL_IP_MISSING,
            map(_subject, without),
            evidence=[
                f"{counted(len(nodes) - len(without), 'node')} of {len(nodes)} have an IPv6 InternalIP",
                *bounded(_internal_ips(node) for node in without),
            ],
            command="kubectl get nodes -o custom-columns=NAME:.metadata.name,ADDRESSES:.status.addresses[*].address",
        ),
    )


def _usable_ips(node: Node) -> bool:
    return any(family_of(address) is Family.V6 and not address.is_link_local for address in node.internal_ips)


def _internal_ips(node: Node) -> str:
    link_local = any(family_of(address) is Family.V6 for address in node.internal_ips)
    note = ", of IPv6 only link-local" if link_local else ""
    return f"node/{node.name}: InternalIP [{listed(map(str, node.internal_ips))}]{note}"


def calico_node_address_missing(view: RuleInput) -> Judgement:
    """A node that an IPv6 VXLAN pool selects and that lacks an address Felix needs to bring the tunnel up."""
    reason = lacking(view.inventory, ResourceKind.NODES, ResourceKind.IP_POOLS)
    if reason is not None:
        return reason
    pools = [pool for pool in view.inventory.pools or () if _is_v6_tunnel(pool)]
    found = [(node, lacks) for node in _linux(view) for lacks in [_lacks(node)] if lacks and _pool_of(pools, node)]
    if not found:
        return ()
    return (
        finding(
            Cause.CALICO_NODE_ADDRESS_MISSING,
            (_subject(node) for node, _ in found),
            evidence=bounded(
                f"node/{node.name}: no annotation {listed(lacks)}; pool {pool.name} (vxlanMode {pool.vxlan_mode}"
                f"{'' if 'Tunnel' in pool.allowed_uses else ', allowedUses without Tunnel'}) selects it"
                for node, lacks in found
                for pool in [_pool_of(pools, node)]
                if pool is not None
            ),
            command=f"kubectl get node {found[0][0].name} -o jsonpath='{{.metadata.annotations}}'",
        ),
    )


def _is_v6_tunnel(pool: IPPool) -> bool:
    return family_of(pool.cidr) is Family.V6 and not pool.disabled and pool.vxlan_mode is not VxlanMode.NEVER


def _linux(view: RuleInput) -> list[Node]:
    return [node for node in _settled(view) if not node.windows]


def _settled(view: RuleInput) -> list[Node]:
    """The nodes that run pods, without those that are just joining."""
    return [n for n in pod_nodes(view.inventory) if n.created is None or not 0 <= view.now - n.created <= YOUNG]


def _pool_of(pools: list[IPPool], node: Node) -> IPPool | None:
    return next((pool for pool in pools if pool.selects(node.name)), None)


def _lacks(node: Node) -> list[str]:
    present = {
        "projectcalico.org/IPv6Address": node.calico_address(Family.V6),
        "projectcalico.org/IPv6VXLANTunnelAddr": node.tunnel_address(Family.V6),
    }
    return [name for name, value in present.items() if value is None]


NODE_RULES: dict[Cause, Rule] = {
    Cause.NODE_POD_CIDR_MISSING: node_pod_cidr_missing,
    Cause.NODE_INTERNAL_IP_MISSING: node_internal_ip_missing,
    Cause.CALICO_NODE_ADDRESS_MISSING: calico_node_address_missing,
}
