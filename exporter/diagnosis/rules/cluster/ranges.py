"""Causes that address ranges show: overlaps, and ranges that components cannot use well. Pure; cluster exporter."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from ipaddress import IPv4Network, IPv6Network

from exporter.diagnosis.engine.preconditions import bounded, counted, has_calico, has_calico_ipam, listed, unread
from exporter.diagnosis.engine.rule_input import Judgement, RuleInput
from exporter.diagnosis.ranges import (
    API_SERVICE,
    KUBEADM,
    Range,
    RangeKind,
    meet,
    node_ranges,
    overlaps,
    pod_ranges,
    service_ranges,
)
from exporter.diagnosis.rules.cluster.control_plane import allocates, networks, source_subject
from exporter.diagnosis.rules.judging import found, needs
from exporter.model.cause import Cause, Severity
from exporter.model.cluster.calico import IPPool
from exporter.model.cluster.component import ComponentFlags, release_of
from exporter.model.cluster.inventory import Inventory, ResourceKind
from exporter.model.family import Family, Net, contains, family_of
from exporter.model.reason import Reason
from exporter.model.report import Finding
from exporter.model.subject import Subject

LINK_LOCAL: dict[Family, Net] = {Family.V4: IPv4Network("169.254.0.0/16"), Family.V6: IPv6Network("fe80::/10")}
UNDEFINED_ULA = IPv6Network("fc00::/8")  # RFC 4193 3.1: the L bit must be 1, which leaves fd00::/8
# The largest range that bitmaps could cover, and the smallest: kubeadm needs ten addresses.
SERVICE_PREFIX = {Family.V4: (12, 28), Family.V6: (108, 124)}
BITMAPS_GONE = (1, 34)
BLOCK_SIZES = {Family.V4: (20, 32), Family.V6: (116, 128)}  # libcalico-go/lib/clientv3/ippool.go
NODE_MASK = {Family.V4: ("node-cidr-mask-size-ipv4", 24), Family.V6: ("node-cidr-mask-size-ipv6", 64)}
MASK_DIFFERENCE = 16  # kube-controller-manager's clusterSubnetMaxDiff
COMMAND = "kubectl get ippools,servicecidrs -o yaml; kubectl get nodes -o wide"


@needs()
def cidr_overlap(view: RuleInput) -> Judgement:
    """Ranges of different kinds overlap: pods, Services, node addresses. Info for a pool that nothing uses."""
    inventory = view.inventory
    pods = pod_ranges(inventory, _idle_pools(view))
    pairs = list(overlaps([*pods, *service_ranges(inventory), *node_ranges(inventory)]))
    if not pairs:
        return _unknown(inventory) or ()
    harmless = [pair for pair in pairs if any(all(each.idle for each in side) for side in pair)]
    harmful = [pair for pair in pairs if pair not in harmless]
    return (*_overlap(harmful, None), *_overlap(harmless, Severity.INFO))


def _overlap(pairs: Sequence[tuple[list[Range], list[Range]]], severity: Severity | None) -> tuple[Finding, ...]:
    ranges = [each for pair in pairs for side in pair for each in side]
    idle = [f"nothing uses {pool}" for pool in dict.fromkeys(each.subject for each in ranges if each.idle)]
    return found(
        Cause.CIDR_OVERLAP,
        (each.subject for each in ranges if each.kind is not RangeKind.SERVICES or each.is_address),
        evidence=bounded(
            (
                *(f"{outer[0].label} contains {listed((each.label for each in inner), 3)}" for outer, inner in pairs),
                *(idle if severity is Severity.INFO else ()),
            )
        ),
        command=COMMAND,
        severity=severity,
    )


def _idle_pools(view: RuleInput) -> frozenset[str]:
    """The pools that give pods no address and of which none is known to be in use."""
    inventory = view.inventory
    leftover = has_calico_ipam(inventory, view.network) is False
    giving_none = [
        pool
        for pool in inventory.pools or ()
        if leftover
        or pool.disabled
        or not pool.automatic
        or pool.nodes == frozenset()
        or view.expected(pool.family) is False
    ]
    if not giving_none or (inventory.ipam_blocks is None and inventory.pods is None):
        return frozenset()
    blocks = [] if leftover else [block.cidr for block in inventory.ipam_blocks or () if block.used]
    addresses = [address for pod in inventory.pods or () if not pod.host_network for address in pod.ips]
    addresses += [address for node in inventory.nodes or () if not leftover for address in node.tunnel_addresses]
    return frozenset(
        pool.name
        for pool in giving_none
        if not any(contains(pool.cidr, block) for block in blocks) and not any(a in pool.cidr for a in addresses)
    )


@needs(ResourceKind.SERVICE_CIDRS)
def service_cidr_ipv6_missing(view: RuleInput) -> Judgement:
    """kube-apiserver's arguments or ClusterIPs are dual-stack, and no ServiceCIDR of IPv6 is Ready."""
    inventory = view.inventory
    ranges = inventory.service_cidrs or ()
    if any(each.ready and Family.V6 in map(family_of, each.cidrs) for each in ranges):
        return ()
    flag = "service-cluster-ip-range"
    asking = [
        f"{each.component} ({each.source}): --{flag}={each.arguments[flag]}"
        for each in inventory.components or ()
        if each.component == "kube-apiserver" and Family.V6 in map(family_of, networks(each, flag))
    ]
    having = [each.subject for each in inventory.services or () if Family.V6 in map(family_of, each.cluster_ips)]
    if having:
        asking.append(f"{counted(len(having), 'Service')} with an IPv6 ClusterIP: {listed(having, 3)}")
    return found(
        Cause.SERVICE_CIDR_IPV6_MISSING,
        (API_SERVICE,) if asking else (),
        evidence=bounded(
            (
                *(
                    f"ServiceCIDR {r.name}: {listed(map(str, r.cidrs))}, {'' if r.ready else 'not '}Ready"
                    for r in ranges
                ),
                *(() if ranges else ("there is no ServiceCIDR",)),
                *asking,
            )
        ),
        command="kubectl get servicecidrs -o yaml",
    )


def _unknown(inventory: Inventory) -> Reason | None:
    """Why ranges cannot be found to be disjoint: a kind of them was not read."""
    if inventory.nodes is None:
        return unread(inventory, ResourceKind.NODES)
    if inventory.pools is None and has_calico(inventory) is not False:
        return unread(inventory, ResourceKind.IP_POOLS)
    known = inventory.cluster_service_cidrs or inventory.services is not None
    return unread(inventory, ResourceKind.SERVICE_CIDRS) if inventory.service_cidrs is None and not known else None


@needs()
def cidr_unsuitable(view: RuleInput) -> Judgement:
    """Ranges that are link-local or in fc00::/8, or of a size that a component refuses. Information only."""
    problems = [*_by_place(view.inventory), *_by_size(view.inventory)]
    if not problems:
        return _unknown(view.inventory) or ()
    return found(
        Cause.CIDR_UNSUITABLE,
        (subject for subject, _ in problems),
        evidence=bounded(line for _, line in problems),
        command=COMMAND,
    )


def _by_place(inventory: Inventory) -> Iterator[tuple[Subject, str]]:
    for each in (*pod_ranges(inventory), *service_ranges(inventory)):
        if meet(each, LINK_LOCAL[family_of(each.where)]):
            yield each.subject, f"{each.label} is link-local"
        elif meet(each, UNDEFINED_ULA):
            why = "of which no unique local address may be made (RFC 4193); fd00::/8 is"
            yield each.subject, f"{each.label} lies in fc00::/8, {why}"


def _by_size(inventory: Inventory) -> Iterator[tuple[Subject, str]]:
    refusing = _refusing_large(inventory)
    for each in service_ranges(inventory):
        largest, smallest = SERVICE_PREFIX[family_of(each.where)]
        if each.length < largest and refusing:
            yield each.subject, f"{each.label}: {refusing} refuse Service ranges larger than /{largest}"
        elif smallest < each.length and not each.is_address:
            yield each.subject, f"{each.label}: kubeadm refuses Service ranges smaller than /{smallest}"
    for pool in inventory.pools or ():
        yield from ((pool.subject, f"{pool.subject} {pool.cidr}: {problem}") for problem in _pool_problems(pool))
    for flags in inventory.components or ():
        if flags.component == "kube-controller-manager" and allocates(flags):
            subject = source_subject(flags, flags.node)
            yield from ((subject, f"{flags.source}: {problem}") for problem in _mask_problems(flags))


def _refusing_large(inventory: Inventory) -> str:
    """Which components refuse a large Service range here; empty for none.

    kube-apiserver did while it kept its ClusterIPs in bitmaps (validateClusterIPFlags; the gate
    DisableAllocatorDualWrite is on since 1.34), kubeadm still does. A kubelet is never newer than its API server.
    """
    releases = [release for each in inventory.nodes or () if (release := release_of(each.kubelet_version))]
    newest = max(releases, default=None)
    if newest is None or newest < BITMAPS_GONE:
        known = "" if newest is None else f" (kubelets here are at most {newest[0]}.{newest[1]})"
        return f"kubeadm and kube-apiserver before {BITMAPS_GONE[0]}.{BITMAPS_GONE[1]}{known}"
    kubeadm = inventory.cluster_service_cidrs or any(each.subject == KUBEADM for each in inventory.components or ())
    return f"kube-apiserver {newest[0]}.{newest[1]} takes it, kubeadm and older ones" if kubeadm else ""


def _pool_problems(pool: IPPool) -> Iterator[str]:
    low, high = BLOCK_SIZES[pool.family]
    if not low <= pool.block_size <= high:
        yield f"Calico refuses blockSize {pool.block_size} (allowed {low} to {high})"
    elif pool.cidr.prefixlen > pool.block_size and not pool.disabled:
        yield f"smaller than one block of /{pool.block_size}"


def _mask_problems(flags: ComponentFlags) -> Iterator[str]:
    """What kube-controller-manager refuses: it allocates at most 2^16 nodes' podCIDRs out of a cluster CIDR."""
    for net in networks(flags, "cluster-cidr"):
        mask = _node_mask(flags, family_of(net))
        if net.prefixlen > mask:
            yield f"cluster-cidr {net} is smaller than a node's /{mask}"
        elif mask - net.prefixlen > MASK_DIFFERENCE:
            yield f"cluster-cidr {net} is more than {MASK_DIFFERENCE} bits larger than a node's /{mask}"


def _node_mask(flags: ComponentFlags, family: Family) -> int:
    name, usual = NODE_MASK[family]
    text = flags.arguments.get(name) or flags.arguments.get("node-cidr-mask-size", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 3 and int(text) else usual
