"""The rights that each role needs at the API server, derived from what it reads; manifests are checked against them.

Reading only, and only by list and watch. What is read of one object by name is granted by resourceNames: a list with
the field selector metadata.name is authorised for that name.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from exporter.inventory.kubernetes.watched_resources import (
    CLUSTER,
    NODE,
    PODS,
    WatchedResource,
    own_endpoints,
    watched_resources,
)
from exporter.model.cause import Role

VERBS = ("list", "watch")
NAMESPACE = "dualstack-exporter"  # where the manifests put the exporter


@dataclass(frozen=True, slots=True, order=True, kw_only=True)
class Right:
    """One verb on one resource of one API group. Empty `namespace`: in all of them; empty `name`: of any name."""

    group: str
    resource: str
    name: str
    verb: str
    namespace: str


def rights(role: Role, *, digest: bool = False) -> frozenset[Right]:
    """What the service account of that role must be allowed. `digest`: of a node that fetches the rest as a digest."""
    if role is Role.NODE and digest:
        # RBAC cannot limit a right to the objects of one node, and a node's name is not known when rights are granted.
        watched = _rights(each for each in (PODS, *NODE) if each.resource in {"pods", "nodes"})
        return watched | _rights([own_endpoints(NAMESPACE, "")], verbs=("list",))
    return _rights(each for each in (CLUSTER if role is not Role.NODE else (PODS, *NODE)) if not each.optional)


def optional_rights(role: Role) -> frozenset[Right]:
    """What some distributions' overlays grant on top."""
    return _rights(each for each in watched_resources(role, "") if each.optional)


def _rights(wanted: Iterable[WatchedResource], verbs: Iterable[str] = VERBS) -> frozenset[Right]:
    return frozenset(
        Right(group=group, resource=each.resource, name=each.name, verb=verb, namespace=each.namespace)
        for each in wanted
        for group in each.groups
        for verb in verbs
    )
