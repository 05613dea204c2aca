"""Which families a pod lacks on purpose or by age, and over which an egress policy may stop its traffic. Pure.

Read by the plan, which does not dial the families that a pod lacks for these reasons, and by diagnosis, which blames no
path for them. status.podIPs shows which families a pod has; a pod that lacks one for no such reason is dialled over it,
so that it shows.
"""

from __future__ import annotations

from exporter.model.cluster.inventory import Inventory
from exporter.model.cluster.pod import Pod
from exporter.model.family import FAMILIES, Family, family_of
from exporter.model.subject import Subject, SubjectKind


def unsupported_families(inventory: Inventory, node: str) -> frozenset[tuple[str, Family]]:
    """(pod subject, family) for a node's pods that lack the family by age, or by choice of pod or namespace."""
    choosing = {space.name for space in inventory.namespaces or () if space.address_choice}
    since = {family: family_since(inventory, node, family) for family in FAMILIES}
    return frozenset(
        (Subject.of(SubjectKind.POD, pod.key), family)
        for pod in inventory.local_pods(node)
        if pod.ips
        for family in {*FAMILIES} - {family_of(address) for address in pod.ips}
        if pod.address_choice or pod.namespace in choosing or is_older(pod, since[family])
    ) | frozenset((pod.subject, Family.V6) for pod in inventory.local_pods(node) if pod.disables_ipv6)


def family_since(inventory: Inventory, node: str, family: Family) -> float | None:
    """Since when pods of the node get the family; None if unknown.

    It is when the first pool was created that gives pods of the node addresses of the family, or gave one to a pod that
    is still there. Without such pools it is when the oldest pod was created that has an address of the family.
    """
    pods = [p for p in inventory.local_pods(node) if not p.host_network and family in map(family_of, p.ips)]
    pools = [
        pool
        for pool in inventory.pools or ()
        if pool.family is family and pool.selects(node)
        if (not pool.disabled and pool.automatic and pool.is_for_workloads)
        or any(address in pool.cidr for pod in pods for address in pod.ips)
    ]
    return min((each.created for each in (pools or pods) if each.created), default=None)


def is_older(pod: Pod, since: float | None) -> bool:
    """Whether the pod was created earlier: a pod keeps the addresses that it got at its creation."""
    return since is not None and pod.created is not None and pod.created < since


def under_policy(inventory: Inventory) -> frozenset[tuple[str, Family]]:
    """(pod subject, family) where a policy selects the pod and does not allow all egress over that family."""
    found: set[tuple[str, Family]] = set()
    for policy in inventory.policies or ():
        if not policy.restricts_egress:
            continue
        keys = policy.selected
        if policy.selects_all:
            keys = frozenset(p.key for p in inventory.pods or () if policy.namespace in {"", p.namespace})
        found.update((Subject.of(SubjectKind.POD, key), family) for key in keys for family in policy.restricts_egress)
    return frozenset(found)
