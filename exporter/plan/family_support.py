"""Which families a pod does not have, and nobody's fault it is: it chose so, or it is older than them. Nothing is dialled over these. Pure.

status.podIPs decides what a pod has; a pod that lacks a family for no such reason is dialled over it all the same, so
that it shows.
"""

from __future__ import annotations

from exporter.model.family import FAMILIES, Family, family_of
from exporter.model.inventory import Inventory
from exporter.model.pod import Pod
from exporter.model.subject import Subject, SubjectKind


def unsupported_families(inventory: Inventory, node: str) -> frozenset[tuple[str, Family]]:
    """(subject of the pod, family) for the pods of a node that lack the family by annotation, their own or their namespace's, or by age."""
    choosing = {space.name for space in inventory.namespaces or () if space.address_choice}
    since = {family: first_pool(inventory, node, family) for family in FAMILIES}
    return frozenset(
        (Subject.of(SubjectKind.POD, pod.key), family)
        for pod in inventory.local_pods(node)
        if pod.ips
        for family in {*FAMILIES} - {family_of(address) for address in pod.ips}
        if pod.address_choice or pod.namespace in choosing or is_older(pod, since[family])
    )


def first_pool(inventory: Inventory, node: str, family: Family) -> float | None:
    """When the first pool of the family that selects the node was made; None where that is not known."""
    made = (p.created for p in inventory.pools or () if family_of(p.cidr) is family and p.selects(node))
    return min((created for created in made if created), default=None)


def is_older(pod: Pod, since: float | None) -> bool:
    """Whether the pod was there before: it keeps the addresses that it was born with."""
    return since is not None and pod.created is not None and pod.created < since
