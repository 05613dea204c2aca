"""Causes that Calico's IP pools show: missing, exhausted, without NAT, encapsulated differently per family. Pure rules.

Of the cluster exporter. Two pools are "of the same nodes" where their node selections meet.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv6Network

from exporter.diagnosis.engine.preconditions import (
    bounded,
    counted,
    has_calico,
    lacking,
    listed,
    pod_nodes,
    unread,
)
from exporter.diagnosis.engine.rule_input import Judgement, RuleInput
from exporter.diagnosis.rules.judging import found, needs
from exporter.model.cause import Cause, Severity
from exporter.model.cluster.calico import IPAMBlock, IPAMConfig, IPPool
from exporter.model.cluster.inventory import Inventory, ResourceKind
from exporter.model.cluster.node import Node
from exporter.model.family import Family, Net, contains, family_of
from exporter.model.grouping import grouped
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
    """Why no node can lack addresses of pools: there is no Calico, or nodes were not read."""
    return Reason.NOT_APPLICABLE if has_calico(inventory) is False else lacking(inventory, ResourceKind.NODES)


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
    """No free IPv6 address for pods of a node in the blocks that it may use, as Calico looks for one.

    It takes one of the node's blocks, then claims another up to the node's limit, then borrows from the blocks of
    other nodes unless strictAffinity is set. Where IPAMConfig was not read, no limit and no strictness is assumed.
    """
    inventory = view.inventory
    reason = _no_nodes(inventory)
    if reason is not None:
        return reason
    pools = [pool for pool in _pools(inventory, Family.V6) if pool.automatic]
    if not pools:
        return ()
    if not inventory.ipam_blocks:
        return unread(inventory, ResourceKind.IPAM_BLOCKS)
    uses = _pool_uses(pools, inventory.ipam_blocks)
    known = {block.cidr for block in inventory.ipam_blocks}
    granted = {a.node for a in inventory.block_affinities or () if a.cidr.version == 6 and a.cidr not in known}
    starved: dict[str, list[Node]] = {}
    for node in _linux_nodes(inventory):
        # A block that is still to be made has free addresses.
        lack = "" if node.name in granted else _lack(node.name, uses, inventory.ipam_config or UNLIMITED)
        if lack:
            starved.setdefault(lack, []).append(node)
    taken = [use for use in uses if any(use.pool.selects(node.name) for node in starved.get(FULL, ()))]
    hungry = [node for nodes in starved.values() for node in nodes]
    return found(
        Cause.IPPOOL_EXHAUSTED,
        (
            *(u.pool.subject for u in taken),
            *(n.subject for lack, nodes in starved.items() if lack != FULL for n in nodes),
        ),
        evidence=[
            *bounded(
                f"{use.pool.subject}: cidr {use.pool.cidr}, blockSize {use.pool.block_size}: {use}" for use in taken
            ),
            f"no free IPv6 address on {counted(len(hungry), 'node')}: {listed(node.name for node in hungry)}",
            *bounded(f"{listed(n.name for n in nodes)}: {lack}" for lack, nodes in starved.items() if lack != FULL),
        ],
        command="calicoctl ipam show --show-blocks",
    )


UNLIMITED = IPAMConfig(max_blocks=1 << 63)
FULL = "no address is free in its pools"


@dataclass(frozen=True, slots=True, kw_only=True)
class _PoolUse:
    """An IPv6 pool and its blocks, by the node that has them."""

    pool: IPPool
    blocks: Mapping[str, Sequence[IPAMBlock]]
    used: int
    capacity: int  # of the blocks there are

    @property
    def is_claimed(self) -> bool:
        """Whether its blocks cover it: none is left to claim."""
        return self.capacity >= self.pool.cidr.num_addresses

    @property
    def is_full(self) -> bool:
        return self.is_claimed and self.used >= self.capacity

    def __str__(self) -> str:
        return f"all {self.used} addresses used, in {counted(sum(map(len, self.blocks.values())), 'block')}"


def _pool_uses(pools: Iterable[IPPool], blocks: Iterable[IPAMBlock]) -> list[_PoolUse]:
    inside: dict[Net, list[IPAMBlock]] = {pool.cidr: [] for pool in pools}
    lengths = {net.prefixlen for net in inside}
    for block in blocks:
        for length in lengths:
            if family_of(block.cidr) is Family.V6 and length <= block.cidr.prefixlen:
                inside.get(block.cidr.supernet(new_prefix=length), []).append(block)
    return [
        _PoolUse(
            pool=pool,
            blocks=grouped(inside[pool.cidr], lambda block: block.node),
            used=sum(block.used for block in inside[pool.cidr]),
            capacity=sum(block.capacity for block in inside[pool.cidr]),
        )
        for pool in pools
    ]


def _lack(node: str, uses: Iterable[_PoolUse], config: IPAMConfig) -> str:
    """Why no address is free for a pod of the node, empty where one is."""
    usable = [use for use in uses if use.pool.selects(node)]
    own = [block for use in usable for block in use.blocks.get(node, ())]
    if not usable or any(block.used < block.capacity for block in own):
        return ""
    if all(use.is_full for use in usable):
        return FULL
    if len(own) >= config.max_blocks:
        return f"all addresses used in its {counted(len(own), 'block')}, and maxBlocksPerHost is {config.max_blocks}"
    if not config.allocates_blocks:
        return f"all addresses used in its {counted(len(own), 'block')}, and autoAllocateBlocks is false"
    if config.strict_affinity and all(use.is_claimed for use in usable):
        return "other nodes have the blocks with free addresses, and strictAffinity is true"
    return ""


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
