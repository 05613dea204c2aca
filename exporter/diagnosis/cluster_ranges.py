"""Causes that address ranges show: overlaps, and ranges that the components cannot use well. Pure rules of role cluster."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Network, IPv6Network

from exporter.diagnosis.control_plane import allocates, source_subject
from exporter.diagnosis.grounds import bounded, has_calico, lacking, listed, unread
from exporter.diagnosis.ranges import Range, RangeKind, node_ranges, overlaps, pod_ranges, service_ranges
from exporter.diagnosis.view import Judgement, Rule, View, finding
from exporter.model.calico import IPPool
from exporter.model.component import ComponentFlags
from exporter.model.family import Net, parse_net
from exporter.model.inventory import Inventory, Kind
from exporter.model.report import Cause, Reason

LINK_LOCAL: dict[int, Net] = {4: IPv4Network("169.254.0.0/16"), 6: IPv6Network("fe80::/10")}
UNDEFINED_ULA = IPv6Network("fc00::/8")  # RFC 4193 3.1: the L bit must be 1, which leaves fd00::/8
SERVICE_PREFIX = {4: (12, 28), 6: (108, 124)}  # kube-apiserver's largest; kubeadm needs ten addresses
BLOCK_SIZES = {4: (20, 32), 6: (116, 128)}  # libcalico-go/lib/clientv3/ippool.go
NODE_MASK = {4: ("node-cidr-mask-size-ipv4", 24), 6: ("node-cidr-mask-size-ipv6", 64)}
MASK_DIFFERENCE = 16  # kube-controller-manager's clusterSubnetMaxDiff
COMMAND = "kubectl get ippools,servicecidrs -o yaml; kubectl get nodes -o wide"


def cidr_overlap(view: View) -> Judgement:
    """Ranges of different kinds overlap: pods, Services, node addresses."""
    inventory = view.inventory
    reason = lacking(inventory)
    if reason is not None:
        return reason
    pairs = list(overlaps([*pod_ranges(inventory), *service_ranges(inventory), *node_ranges(inventory)]))
    if not pairs:
        return _unknown(inventory) or ()
    return (
        finding(
            Cause.CIDR_OVERLAP,
            (each.subject for pair in pairs for side in pair for each in side if _is_named(each)),
            evidence=bounded(
                f"{outer[0].label} contains {listed((each.label for each in inner), 3)}" for outer, inner in pairs
            ),
            command=COMMAND,
        ),
    )


def _is_named(each: Range) -> bool:
    """Subjects are the pods' and nodes' side, and Services where it is their own addresses."""
    return each.kind is not RangeKind.SERVICES or each.net.prefixlen == each.net.max_prefixlen


def _unknown(inventory: Inventory) -> Reason | None:
    """Why ranges cannot be said to be disjoint: a kind of them was not read."""
    if inventory.nodes is None:
        return unread(inventory, Kind.NODES)
    if inventory.pools is None and has_calico(inventory) is not False:
        return unread(inventory, Kind.IP_POOLS)
    known = inventory.cluster_service_cidrs or inventory.services is not None
    return unread(inventory, Kind.SERVICE_CIDRS) if inventory.service_cidrs is None and not known else None


def cidr_unsuitable(view: View) -> Judgement:
    """Ranges that are link-local or in fc00::/8, or of a size that a component refuses. Information only."""
    inventory = view.inventory
    reason = lacking(inventory)
    if reason is not None:
        return reason
    found = [*_by_place(inventory), *_by_size(inventory)]
    if not found:
        return _unknown(inventory) or ()
    return (
        finding(
            Cause.CIDR_UNSUITABLE,
            (subject for subject, _ in found),
            evidence=bounded(line for _, line in found),
            command=COMMAND,
        ),
    )


def _by_place(inventory: Inventory) -> Iterator[tuple[str, str]]:
    for each in (*pod_ranges(inventory), *service_ranges(inventory)):
        if _meet(each.net, LINK_LOCAL[each.net.version]):
            yield each.subject, f"{each.label} is link-local"
        elif each.net.version == 6 and _meet(each.net, UNDEFINED_ULA):
            yield (
                each.subject,
                f"{each.label} lies in fc00::/8, of which no unique local address may be made (RFC 4193); fd00::/8 is",
            )


def _meet(one: Net, other: Net) -> bool:
    """Whether two networks of one family overlap: the address of the inner lies in the outer."""
    return one.network_address in other or other.network_address in one


def _by_size(inventory: Inventory) -> Iterator[tuple[str, str]]:
    for each in service_ranges(inventory):
        largest, smallest = SERVICE_PREFIX[each.net.version]
        if each.net.prefixlen < largest:
            yield each.subject, f"{each.label}: kube-apiserver and kubeadm refuse Service ranges larger than /{largest}"
        elif smallest < each.net.prefixlen < each.net.max_prefixlen:
            yield each.subject, f"{each.label}: kubeadm refuses Service ranges smaller than /{smallest}"
    for pool in inventory.pools or ():
        yield from (
            (f"pool/{pool.name}", f"pool/{pool.name} {pool.cidr}: {problem}") for problem in _pool_problems(pool)
        )
    for flags in inventory.components or ():
        if flags.component == "kube-controller-manager" and allocates(flags):
            yield from ((source_subject(flags), f"{flags.source}: {problem}") for problem in _mask_problems(flags))


def _pool_problems(pool: IPPool) -> Iterator[str]:
    low, high = BLOCK_SIZES[pool.cidr.version]
    if not low <= pool.block_size <= high:
        yield f"Calico refuses blockSize {pool.block_size} (allowed {low} to {high})"
    elif pool.cidr.prefixlen > pool.block_size and not pool.disabled:
        yield f"smaller than one block of /{pool.block_size}"


def _mask_problems(flags: ComponentFlags) -> Iterator[str]:
    """What kube-controller-manager refuses: it allocates at most 2^16 nodes' podCIDRs out of a cluster CIDR."""
    nets = map(parse_net, flags.arguments.get("cluster-cidr", "").split(","))
    for net in (net for net in nets if net is not None):
        mask = _node_mask(flags, net)
        if net.prefixlen > mask:
            yield f"cluster-cidr {net} is smaller than a node's /{mask}"
        elif mask - net.prefixlen > MASK_DIFFERENCE:
            yield f"cluster-cidr {net} is more than {MASK_DIFFERENCE} bits larger than a node's /{mask}"


def _node_mask(flags: ComponentFlags, net: Net) -> int:
    name, usual = NODE_MASK[net.version]
    text = flags.arguments.get(name) or flags.arguments.get("node-cidr-mask-size", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 3 and int(text) else usual


RANGE_RULES: dict[Cause, Rule] = {Cause.CIDR_OVERLAP: cidr_overlap, Cause.CIDR_UNSUITABLE: cidr_unsuitable}
