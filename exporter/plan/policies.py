"""Whose traffic an egress policy may stop by design: such failures are kept and blamed on no path. Pure."""

from __future__ import annotations

from exporter.model.family import Family
from exporter.model.inventory import Inventory
from exporter.model.subject import Subject, SubjectKind


def under_policy(inventory: Inventory) -> frozenset[tuple[str, Family]]:
    """(subject of the pod, family) where a policy selects the pod and does not allow everything outwards over that family.

    Pods on the host's network are outside policies on most CNIs, and are no vantages anyway.
    """
    found: set[tuple[str, Family]] = set()
    for policy in inventory.policies or ():
        if not policy.restricts_egress:
            continue
        keys = policy.selected
        if policy.selects_all:
            keys = frozenset(p.key for p in inventory.pods or () if policy.namespace in {"", p.namespace})
        found.update((Subject.of(SubjectKind.POD, key), family) for key in keys for family in policy.restricts_egress)
    return frozenset(found)
