"""How far the cluster's migration is: nodes, pods, Services and EndpointSlices by family, and those lacking one. Pure.

Counted over the inventory, exposed by the catalogue. What was not read has no rows. Rows by namespace are those of the
largest namespaces; totals (namespace "") always cover all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from heapq import nsmallest
from typing import TypeAlias

from exporter.diagnosis.endpoints import API
from exporter.model.cluster.inventory import Inventory
from exporter.model.cluster.node import Node
from exporter.model.cluster.pod import Pod
from exporter.model.cluster.service import EndpointSlice, Service
from exporter.model.family import FAMILIES, Family, family_of

MAX_NAMESPACES = 100
MAX_NAMES = 20
ENDED = frozenset({"Succeeded", "Failed"})


class Resource(StrEnum):
    """What is counted; a label value."""

    NODES = "nodes"
    PODS = "pods"
    SERVICES = "services"
    ENDPOINT_SLICES = "endpointslices"


@dataclass(frozen=True, slots=True, kw_only=True)
class FamilyCount:
    """Objects of a resource with an address of the family, and those that lack it; namespace "": the whole cluster."""

    resource: Resource
    namespace: str
    family: Family
    having: int
    lacking: int


@dataclass(frozen=True, slots=True)
class Progress:
    """How many of a resource are dual-stack, out of how many could be."""

    resource: Resource
    dual: int
    total: int

    @property
    def ratio(self) -> float | None:
        """Between 0 and 1; None where there is nothing to count."""
        return self.dual / self.total if self.total else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Lacking:
    """The first names, in order, of those that lack a family; for the status page and the report, not for labels."""

    resource: Resource
    family: Family
    names: tuple[str, ...]
    total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Census:
    counts: tuple[FamilyCount, ...] = ()
    progress: tuple[Progress, ...] = ()
    lacking: tuple[Lacking, ...] = ()
    namespaces_left_out: int = 0


_Member: TypeAlias = tuple[str, str, frozenset[Family], frozenset[Family]]
"""One counted object: namespace, name, the families it has, those it is meant to have."""

_BOTH = frozenset(FAMILIES)


@dataclass(slots=True)
class _Tally:
    """How many objects of a resource by namespace, families had and families meant; the names of those lacking one."""

    resource: Resource
    groups: Counter[tuple[str, frozenset[Family], frozenset[Family]]] = field(default_factory=Counter)
    names: dict[Family, list[str]] = field(default_factory=lambda: {family: [] for family in FAMILIES})


def take_census(inventory: Inventory) -> Census:
    """The counts of everything that was read."""
    members = (
        (Resource.NODES, None if inventory.nodes is None else _nodes(inventory.nodes)),
        (Resource.PODS, None if inventory.pods is None else _pods(inventory.pods)),
        (Resource.SERVICES, None if inventory.services is None else _services(inventory.services)),
        (Resource.ENDPOINT_SLICES, None if inventory.endpoint_slices is None else _slices(inventory.endpoint_slices)),
    )
    tallies = [_tally(resource, found) for resource, found in members if found is not None]
    shown, left_out = _largest_namespaces(tallies)
    return Census(
        counts=tuple(count for tally in tallies for count in _counts(tally, shown)),
        progress=tuple(map(_progress, tallies)),
        lacking=tuple(row for tally in tallies for row in _lacking(tally)),
        namespaces_left_out=left_out,
    )


def _tally(resource: Resource, members: Iterable[_Member]) -> _Tally:
    tally = _Tally(resource)
    for namespace, name, families, wanted in members:
        tally.groups[namespace, families, wanted] += 1
        for family in wanted - families:
            tally.names[family].append(f"{namespace}/{name}" if namespace else name)
    return tally


def _nodes(nodes: Iterable[Node]) -> Iterator[_Member]:
    """Nodes by InternalIP; a link-local one does not count."""
    for node in nodes:
        if not node.virtual:
            yield "", node.name, frozenset(family_of(a) for a in node.internal_ips if not a.is_link_local), _BOTH


def _pods(pods: Iterable[Pod]) -> Iterator[_Member]:
    """Pods of the pod network that have an address: those on the host's network have the node's, ended ones none."""
    shared: dict[tuple[int, ...], frozenset[Family]] = {}
    for pod in pods:
        if pod.host_network or not pod.ips or pod.phase in ENDED:
            continue
        versions = tuple([address.version for address in pod.ips])
        families = shared.get(versions)
        if families is None:
            families = shared[versions] = frozenset(map(family_of, pod.ips))
        yield pod.namespace, pod.name, families, frozenset(pod.families) if pod.families else _BOTH


def _services(services: Iterable[Service]) -> Iterator[_Member]:
    """Services with families: not ExternalName, and not the API server's own, which is single-stack by design."""
    for service in services:
        if service.families and service.key != API:
            yield service.namespace, service.name, frozenset(service.families), _BOTH


def _slices(slices: Iterable[EndpointSlice]) -> Iterator[_Member]:
    """EndpointSlices together by Service: the families of which it has a ready endpoint."""
    found: dict[tuple[str, str], set[Family]] = {}
    for each in slices:
        if each.family is not None and each.service:
            families = found.setdefault((each.namespace, each.service), set())
            if each.family not in families and any(e.ready and e.addresses for e in each.endpoints):
                families.add(each.family)
    for (namespace, service), families in found.items():
        if families and f"{namespace}/{service}" != API:
            yield namespace, service, frozenset(families), _BOTH


def _largest_namespaces(tallies: Iterable[_Tally]) -> tuple[frozenset[str], int]:
    """The namespaces shown one by one, by number of objects and then name; and how many are not."""
    sizes: Counter[str] = Counter()
    for tally in tallies:
        for (namespace, _, _), number in tally.groups.items():
            sizes[namespace] += number
    del sizes[""]
    ordered = sorted(sizes, key=lambda name: (-sizes[name], name))
    return frozenset(ordered[:MAX_NAMESPACES]), max(0, len(ordered) - MAX_NAMESPACES)


def _counts(tally: _Tally, shown: frozenset[str]) -> Iterator[FamilyCount]:
    having: Counter[tuple[str, Family]] = Counter()
    lacking: Counter[tuple[str, Family]] = Counter()
    for (namespace, families, wanted), number in tally.groups.items():
        for place in ("", namespace) if namespace in shown else ("",):
            for family in FAMILIES:
                having[place, family] += number * (family in families)
                lacking[place, family] += number * (family in wanted - families)
    for namespace, family in sorted({*having, *(("", family) for family in FAMILIES)}):
        yield FamilyCount(
            resource=tally.resource,
            namespace=namespace,
            family=family,
            having=having[namespace, family],
            lacking=lacking[namespace, family],
        )


def _progress(tally: _Tally) -> Progress:
    """Objects that are meant to have one family only do not count."""
    able = {group: number for group, number in tally.groups.items() if group[2] == _BOTH}
    dual = sum(number for (_, families, _), number in able.items() if families == _BOTH)
    return Progress(tally.resource, dual, sum(able.values()))


def _lacking(tally: _Tally) -> Iterator[Lacking]:
    for family, names in tally.names.items():
        if names:
            first = tuple(nsmallest(MAX_NAMES, names))
            yield Lacking(resource=tally.resource, family=family, names=first, total=len(names))
