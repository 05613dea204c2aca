"""Causes that Calico's IP pools show: missing, exhausted, without NAT, encapsulated differently per family. Pure rules of role cluster.

Two pools are "of the same nodes" where their node selections meet.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ipaddress import IPv6Network

from exporter.diagnosis.engine.preconditions import (
    bounded,
    counted,
    has_calico,
    has_calico_ipam,
    lacking,
    listed,
    pod_nodes,
    unread,
)
from exporter.diagnosis.engine.rule_input import Judgement, Rule, RuleInput, finding
from exporter.model.calico import IPAMBlock, IPPool
from exporter.model.family import Family, Net, family_of
from exporter.model.inventory import Inventory, ResourceKind
from exporter.model.node import Node
from exporter.model.reason import Reason
from exporter.model.report import Cause, Severity
from exporter.model.subject import Subject, SubjectKind

UNIQUE_LOCAL = IPv6Network("fc00::/7")  # RFC 4193
WORKLOAD = "Workload"
POOLS_COMMAND = "kubectl get ippools -o yaml"


def _pools(inventory: Inventory, family: Family) -> list[IPPool]:
    """The enabled pools of a family that give pods their addresses."""
    return [
        p
        for p in inventory.pools or ()
        if family_of(p.cidr) is family and not p.disabled and WORKLOAD in p.allowed_uses
    ]


def _share_nodes(one: IPPool, other: IPPool) -> bool:
    if one.nodes is None:
        return other.nodes is None or bool(other.nodes)
    return bool(one.nodes) if other.nodes is None else not one.nodes.isdisjoint(other.nodes)


def _linux_nodes(inventory: Inventory) -> list[Node]:
    """Nodes that Calico gives IPv6: on Windows it has none."""
    return [node for node in pod_nodes(inventory) if not node.windows]


def _no_pools(inventory: Inventory) -> Reason | None:
    """Why pools cannot be judged: unread, or the cluster's addresses do not come from Calico."""
    reason = lacking(inventory, ResourceKind.IP_POOLS)
    if reason is not None:
        return reason
    return Reason.NOT_APPLICABLE if has_calico(inventory) is False or has_calico_ipam(inventory) is False else None


def ippool_ipv6_missing(view: RuleInput) -> Judgement:
    """IPv6 is expected and no enabled IPv6 pool selects some node: its pods get no IPv6 address."""
    reason = _no_pools(view.inventory) or lacking(view.inventory, ResourceKind.NODES)
    if reason is not None:
        return reason
    if view.expected(Family.V6) is not True:
        return Reason.SINGLE_STACK if view.expected(Family.V6) is False else Reason.NO_INVENTORY
    pools, nodes = _pools(view.inventory, Family.V6), _linux_nodes(view.inventory)
    selected = frozenset(name for pool in pools for name in pool.nodes or ())
    without = [node for node in nodes if node.name not in selected]
    if not without or any(pool.nodes is None for pool in pools):
        return ()
    return (
        finding(
            Cause.IPPOOL_IPV6_MISSING,
            (Subject.of(SubjectKind.NODE, node.name) for node in without),
            evidence=[
                f"{counted(len(without), 'node')} of {len(nodes)} without an enabled IPv6 pool: {listed(node.name for node in without)}",
                *_passed_over(view.inventory),
            ],
            command=POOLS_COMMAND,
        ),
    )


def _passed_over(inventory: Inventory) -> tuple[str, ...]:
    """The IPv6 pools there are, with what keeps each from some nodes."""
    pools = [pool for pool in inventory.pools or () if family_of(pool.cidr) is Family.V6]
    if not pools:
        return ("there is no IPv6 pool",)
    return bounded(
        f"pool/{p.name}: cidr {p.cidr}, disabled {str(p.disabled).lower()}, nodeSelector {p.node_selector},"
        f" allowedUses [{listed(sorted(p.allowed_uses))}]"
        for p in pools
    )


def ippool_exhausted(view: RuleInput) -> Judgement:
    """No free IPv6 address for pods of a node: every block of the pools that select it is full and no block is left to claim.

    Blocks of other nodes count as usable: Calico borrows from them by default.
    """
    reason = _no_pools(view.inventory) or lacking(view.inventory, ResourceKind.NODES)
    if reason is not None:
        return reason
    pools = _pools(view.inventory, Family.V6)
    if not pools:
        return ()
    if not view.inventory.ipam_blocks:
        return unread(view.inventory, ResourceKind.IPAM_BLOCKS)
    full = _full_pools(pools, view.inventory.ipam_blocks)
    if not full:
        return ()
    starved = [node for node in _linux_nodes(view.inventory) if _is_starved(node, pools, full)]
    if not starved:
        return ()
    taken = [pool for pool in pools if pool.name in full and any(pool.selects(node.name) for node in starved)]
    return (
        finding(
            Cause.IPPOOL_EXHAUSTED,
            (Subject.of(SubjectKind.POOL, pool.name) for pool in taken),
            evidence=[
                *bounded(f"pool/{p.name}: cidr {p.cidr}, blockSize {p.block_size}: {full[p.name]}" for p in taken),
                f"no free IPv6 address on {counted(len(starved), 'node')}: {listed(node.name for node in starved)}",
            ],
            command="calicoctl ipam show --show-blocks",
        ),
    )


def _is_starved(node: Node, pools: Sequence[IPPool], full: dict[str, str]) -> bool:
    usable = [pool for pool in pools if pool.selects(node.name)]
    return bool(usable) and all(pool.name in full for pool in usable)


def _full_pools(pools: Sequence[IPPool], blocks: Iterable[IPAMBlock]) -> dict[str, str]:
    """The pools without a free address, with how full they are: their blocks cover them and every address is used."""
    inside: dict[Net, list[IPAMBlock]] = {pool.cidr: [] for pool in pools}
    lengths = {net.prefixlen for net in inside}
    for block in blocks:
        for length in lengths:
            if block.cidr.version == 6 and length <= block.cidr.prefixlen:
                inside.get(block.cidr.supernet(new_prefix=length), []).append(block)
    full = {}
    for pool in pools:
        found = inside[pool.cidr]
        if sum(b.capacity for b in found) >= pool.cidr.num_addresses and all(b.used >= b.capacity for b in found):
            full[pool.name] = f"all {sum(b.used for b in found)} addresses used, in {counted(len(found), 'block')}"
    return full


def _contains(outer: Net, inner: Net) -> bool:
    return outer.version == inner.version and outer.prefixlen <= inner.prefixlen and inner.network_address in outer


def ippool_nat_outgoing_off(view: RuleInput) -> Judgement:
    """An IPv6 pool of unique local addresses without natOutgoing while the IPv4 pool of the same nodes has it.

    A pool of global addresses needs no NAT. Information here: a node that sees the damage makes it a warning.
    """
    reason = lacking(view.inventory, ResourceKind.IP_POOLS)
    if reason is not None:
        return reason
    v4 = [pool for pool in _pools(view.inventory, Family.V4) if pool.nat_outgoing]
    found = [
        (pool, other)
        for pool in _pools(view.inventory, Family.V6)
        if not pool.nat_outgoing and _contains(UNIQUE_LOCAL, pool.cidr)
        for other in [next((each for each in v4 if _share_nodes(pool, each)), None)]
        if other is not None
    ]
    if not found:
        return ()
    return (
        finding(
            Cause.IPPOOL_NAT_OUTGOING_OFF,
            (Subject.of(SubjectKind.POOL, pool.name) for pool, _ in found),
            evidence=bounded(
                f"pool/{p.name}: cidr {p.cidr} (unique local), natOutgoing false; pool/{other.name}: cidr {other.cidr}, natOutgoing true"
                for p, other in found
            ),
            command=f"kubectl get ippool {found[0][0].name} -o yaml",
            severity=Severity.INFO,
        ),
    )


def ippool_vxlan_mode_mismatch(view: RuleInput) -> Judgement:
    """An IPv6 pool whose vxlanMode no IPv4 pool of the same nodes has. IPv4 over IP-in-IP is encapsulated in its own way: not compared.

    Information here: a node whose cross-node IPv6 fails makes it a warning.
    """
    reason = lacking(view.inventory, ResourceKind.IP_POOLS)
    if reason is not None:
        return reason
    v4 = [pool for pool in _pools(view.inventory, Family.V4) if pool.ipip_mode in ("", "Never")]
    found = []
    for pool in _pools(view.inventory, Family.V6):
        others = [each for each in v4 if _share_nodes(pool, each)]
        if others and all(each.vxlan_mode is not pool.vxlan_mode for each in others):
            found.append((pool, others[0]))
    if not found:
        return ()
    return (
        finding(
            Cause.IPPOOL_VXLAN_MODE_MISMATCH,
            (Subject.of(SubjectKind.POOL, pool.name) for pool, _ in found),
            evidence=bounded(
                f"pool/{p.name}: vxlanMode {p.vxlan_mode}; pool/{other.name}: vxlanMode {other.vxlan_mode}"
                for p, other in found
            ),
            command=POOLS_COMMAND,
            severity=Severity.INFO,
        ),
    )


POOL_RULES: dict[Cause, Rule] = {
    Cause.IPPOOL_IPV6_MISSING: ippool_ipv6_missing,
    Cause.IPPOOL_EXHAUSTED: ippool_exhausted,
    Cause.IPPOOL_NAT_OUTGOING_OFF: ippool_nat_outgoing_off,
    Cause.IPPOOL_VXLAN_MODE_MISMATCH: ippool_vxlan_mode_mismatch,
}
