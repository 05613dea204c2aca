"""Causes that Calico's IP pools show: missing, exhausted, without NAT, encapsulated differently per family. Pure rules.

Of the cluster exporter. Two pools are "of the same nodes" where their node selections meet.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
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
from exporter.diagnosis.engine.rule_input import Judgement, RuleInput
from exporter.diagnosis.rules.judging import found, needs
from exporter.model.cause import Cause, Severity
from exporter.model.cluster.calico import IPAMBlock, IPPool
from exporter.model.cluster.inventory import Inventory, ResourceKind
from exporter.model.cluster.node import Node
from exporter.model.family import Family, Net, contains, family_of
from exporter.model.reason import Reason

UNIQUE_LOCAL = IPv6Network("fc00::/7")  # RFC 4193
POOLS_COMMAND = "kubectl get ippools -o yaml"


def _pools(inventory: Inventory, family: Family) -> list[IPPool]:
    """The enabled pools of a family that give pods their addresses."""
    return [p for p in inventory.enabled_pools(family) if p.is_for_workloads]


def _share_nodes(one: IPPool, other: IPPool) -> bool:
    if one.nodes is None:
        return other.nodes is None or bool(other.nodes)
    return bool(one.nodes) if other.nodes is None else not one.nodes.isdisjoint(other.nodes)


def _linux_nodes(inventory: Inventory) -> list[Node]:
    """Nodes that Calico gives IPv6: on Windows it has none."""
    return [node for node in pod_nodes(inventory) if not node.windows]


def _no_nodes(inventory: Inventory) -> Reason | None:
    """Why no node can lack addresses of pools: they do not come from Calico, or nodes were not read."""
    if has_calico(inventory) is False or has_calico_ipam(inventory) is False:
        return Reason.NOT_APPLICABLE
    return lacking(inventory, ResourceKind.NODES)


@needs(ResourceKind.IP_POOLS)
def ippool_ipv6_missing(view: RuleInput) -> Judgement:
    """IPv6 is expected and no enabled IPv6 pool gives some node's pods addresses by itself, in every namespace."""
    reason = _no_nodes(view.inventory)
    if reason is not None:
        return reason
    if not view.expected(Family.V6):
        return Reason.SINGLE_STACK if view.expected(Family.V6) is False else Reason.NO_INVENTORY
    pools = [pool for pool in _pools(view.inventory, Family.V6) if pool.assigns_by_itself]
    nodes = _linux_nodes(view.inventory)
    selected = frozenset(name for pool in pools for name in pool.nodes or ())
    without = [node for node in nodes if node.name not in selected]
    if any(pool.nodes is None for pool in pools):
        return ()
    names = listed(node.name for node in without)
    return found(
        Cause.IPPOOL_IPV6_MISSING,
        (node.subject for node in without),
        evidence=[
            f"{counted(len(without), 'node')} of {len(nodes)} without an IPv6 pool that assigns by itself: {names}",
            *_unusable_pools(view.inventory),
        ],
        command=POOLS_COMMAND,
    )


def _unusable_pools(inventory: Inventory) -> tuple[str, ...]:
    """The IPv6 pools there are, with what keeps each from some nodes."""
    pools = [pool for pool in inventory.pools or () if pool.family is Family.V6]
    if not pools:
        return ("there is no IPv6 pool",)
    return bounded(
        f"{p.subject}: cidr {p.cidr}, disabled {str(p.disabled).lower()}, nodeSelector {p.node_selector},"
        f" allowedUses [{listed(sorted(p.allowed_uses))}]{'' if p.automatic else ', assignmentMode Manual'}"
        f"{f', namespaceSelector {p.namespace_selector}' if p.namespace_selector else ''}"
        for p in pools
    )


@needs(ResourceKind.IP_POOLS)
def ippool_exhausted(view: RuleInput) -> Judgement:
    """No free IPv6 address for pods of a node: the pools that select it are covered by blocks, and every block is full.

    Blocks of other nodes count as usable: Calico borrows from them by default.
    """
    reason = _no_nodes(view.inventory)
    if reason is not None:
        return reason
    pools = _pools(view.inventory, Family.V6)
    if not pools:
        return ()
    if not view.inventory.ipam_blocks:
        return unread(view.inventory, ResourceKind.IPAM_BLOCKS)
    full = _full_pools(pools, view.inventory.ipam_blocks)
    starved = [node for node in _linux_nodes(view.inventory) if _is_starved(node, pools, full)] if full else []
    taken = [pool for pool in pools if pool.name in full and any(pool.selects(node.name) for node in starved)]
    return found(
        Cause.IPPOOL_EXHAUSTED,
        (pool.subject for pool in taken),
        evidence=[
            *bounded(f"{p.subject}: cidr {p.cidr}, blockSize {p.block_size}: {full[p.name]}" for p in taken),
            f"no free IPv6 address on {counted(len(starved), 'node')}: {listed(node.name for node in starved)}",
        ],
        command="calicoctl ipam show --show-blocks",
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
            if family_of(block.cidr) is Family.V6 and length <= block.cidr.prefixlen:
                inside.get(block.cidr.supernet(new_prefix=length), []).append(block)
    full = {}
    for pool in pools:
        own = inside[pool.cidr]
        if sum(b.capacity for b in own) >= pool.cidr.num_addresses and all(b.used >= b.capacity for b in own):
            full[pool.name] = f"all {sum(b.used for b in own)} addresses used, in {counted(len(own), 'block')}"
    return full


@needs(ResourceKind.IP_POOLS)
def ippool_nat_outgoing_off(view: RuleInput) -> Judgement:
    """A pool of IPv6 unique local addresses (others need no NAT) without natOutgoing, unlike its nodes' IPv4 pool."""
    masqueraded = [pool for pool in _pools(view.inventory, Family.V4) if pool.nat_outgoing]
    off = [
        (pool, others[0])
        for pool, others in _with_others(view.inventory, masqueraded)
        if not pool.nat_outgoing and contains(UNIQUE_LOCAL, pool.cidr)
    ]
    if not off:
        return ()
    return found(
        Cause.IPPOOL_NAT_OUTGOING_OFF,
        (pool.subject for pool, _ in off),
        evidence=bounded(
            f"{p.subject}: cidr {p.cidr} (unique local), natOutgoing false;"
            f" {other.subject}: cidr {other.cidr}, natOutgoing true"
            for p, other in off
        ),
        command=f"kubectl get ippool {off[0][0].name} -o yaml",
        severity=Severity.INFO,
    )


def _with_others(inventory: Inventory, v4: Sequence[IPPool]) -> Iterator[tuple[IPPool, list[IPPool]]]:
    """Each IPv6 pool beside those IPv4 pools of the same nodes, where there are any."""
    for pool in _pools(inventory, Family.V6):
        others = [each for each in v4 if _share_nodes(pool, each)]
        if others:
            yield pool, others


@needs(ResourceKind.IP_POOLS)
def ippool_vxlan_mode_mismatch(view: RuleInput) -> Judgement:
    """An IPv6 pool whose vxlanMode no IPv4 pool of the same nodes has; IPv4 pools with IP-in-IP are not compared."""
    comparable = [pool for pool in _pools(view.inventory, Family.V4) if pool.ipip_mode in ("", "Never")]
    mismatches = [
        (pool, others[0])
        for pool, others in _with_others(view.inventory, comparable)
        if all(each.vxlan_mode is not pool.vxlan_mode for each in others)
    ]
    return found(
        Cause.IPPOOL_VXLAN_MODE_MISMATCH,
        (pool.subject for pool, _ in mismatches),
        evidence=bounded(
            f"{p.subject}: vxlanMode {p.vxlan_mode}; {other.subject}: vxlanMode {other.vxlan_mode}"
            for p, other in mismatches
        ),
        command=POOLS_COMMAND,
        severity=Severity.INFO,
    )
