"""How far the cluster is on its way to dual-stack: nodes, pods, Services and EndpointSlices by family, and those lacking one. Pure.

Counted over the inventory, rendered by the catalogue. What was not read has no rows. Rows by namespace are those of the
largest namespaces; totals (namespace "") always cover all.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from heapq import nsmallest
from typing import TypeAlias

from exporter.model.family import FAMILIES, Family, family_of
from exporter.model.inventory import Inventory
from exporter.model.node import Node
from exporter.model.pod import Pod
from exporter.model.service import EndpointSlice, Service

MAX_NAMESPACES = 100
MAX_NAMES = 20
ENDED = frozenset({"Succeeded", "Failed"})
API_SERVICE = "default/kubernetes"  # single-stack by the API server's making


class Resource(StrEnum):
    """What is counted; a label value."""

    NODES = "nodes"
    PODS = "pods"
    SERVICES = "services"
    ENDPOINT_SLICES = "endpointslices"


@dataclass(frozen=True, slots=True, kw_only=True)
class FamilyCount:
    """Objects of one resource with an address of the family, and those that lack it; namespace "" is the whole cluster."""

    resource: Resource
    namespace: str
    family: Family
    having: int
    lacking: int


@dataclass(frozen=True, slots=True)
class Progress:
    """Of a resource, how many are dual-stack out of how many could be."""

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
    """One resource: how many objects by namespace, families had and families meant; and the names of those lacking one."""

    groups: dict[tuple[str, frozenset[Family], frozenset[Family]], int] = field(default_factory=dict)
    names: dict[Family, list[str]] = field(default_factory=lambda: {family: [] for family in FAMILIES})

    def add(self, members: Iterable[_Member]) -> _Tally:
        for namespace, name, families, wanted in members:
            group = (namespace, families, wanted)
            self.groups[group] = self.groups.get(group, 0) + 1
            for family in wanted - families:
                self.names[family].append(f"{namespace}/{name}" if namespace else name)
        return self


def take_census(inventory: Inventory) -> Census:
    """The counts of everything that was read."""
    tallies: dict[Resource, _Tally] = {}
    if inventory.nodes is not None:
        tallies[Resource.NODES] = _Tally().add(_nodes(inventory.nodes))
    if inventory.pods is not None:
        tallies[Resource.PODS] = _Tally().add(_pods(inventory.pods))
    if inventory.services is not None:
        tallies[Resource.SERVICES] = _Tally().add(_services(inventory.services))
    if inventory.endpoint_slices is not None:
        tallies[Resource.ENDPOINT_SLICES] = _Tally().add(_slices(inventory.endpoint_slices))
    shown, left_out = _largest_namespaces(tallies.values())
    return Census(
        counts=tuple(count for resource, tally in tallies.items() for count in _counts(resource, tally, shown)),
        progress=tuple(_progress(resource, tally) for resource, tally in tallies.items()),
        lacking=tuple(row for resource, tally in tallies.items() for row in _lacking(resource, tally)),
        namespaces_left_out=left_out,
    )


def _nodes(nodes: Iterable[Node]) -> Iterator[_Member]:
    """Nodes by InternalIP; a link-local one is none."""
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
    """Services with families: not ExternalName, and not the API server's own."""
    for service in services:
        if service.families and service.key != API_SERVICE:
            yield service.namespace, service.name, frozenset(service.families), _BOTH


def _slices(slices: Iterable[EndpointSlice]) -> Iterator[_Member]:
    """EndpointSlices together by Service: the families of which it has a ready endpoint."""
    found: dict[tuple[str, str], set[Family]] = {}
    for each in slices:
        if each.family is not None and each.service:
            families = found.setdefault((each.namespace, each.service), set())
            if each.family not in families and any(
                endpoint.ready and endpoint.addresses for endpoint in each.endpoints
            ):
                families.add(each.family)
    for (namespace, service), families in found.items():
        if families and f"{namespace}/{service}" != API_SERVICE:
            yield namespace, service, frozenset(families), _BOTH


def _largest_namespaces(tallies: Iterable[_Tally]) -> tuple[frozenset[str], int]:
    """The namespaces shown one by one, by number of objects and then name; and how many are not."""
    sizes: dict[str, int] = {}
    for tally in tallies:
        for (namespace, _, _), number in tally.groups.items():
            if namespace:
                sizes[namespace] = sizes.get(namespace, 0) + number
    ordered = sorted(sizes, key=lambda name: (-sizes[name], name))
    return frozenset(ordered[:MAX_NAMESPACES]), max(0, len(ordered) - MAX_NAMESPACES)


def _counts(resource: Resource, tally: _Tally, shown: frozenset[str]) -> Iterator[FamilyCount]:
    cells: dict[tuple[str, Family], list[int]] = {("", family): [0, 0] for family in FAMILIES}
    for (namespace, families, wanted), number in tally.groups.items():
        for place in {"", namespace if namespace in shown else ""}:
            for family in FAMILIES:
                cell = cells.setdefault((place, family), [0, 0])
                if family in families:
                    cell[0] += number
                elif family in wanted:
                    cell[1] += number
    for (namespace, family), (having, lacking) in sorted(cells.items()):
        yield FamilyCount(resource=resource, namespace=namespace, family=family, having=having, lacking=lacking)


def _progress(resource: Resource, tally: _Tally) -> Progress:
    """Objects that are meant to have one family alone are not on their way anywhere."""
    able = {group: number for group, number in tally.groups.items() if group[2] == _BOTH}
    return Progress(resource, sum(n for (_, families, _), n in able.items() if families == _BOTH), sum(able.values()))


def _lacking(resource: Resource, tally: _Tally) -> Iterator[Lacking]:
    for family, names in tally.names.items():
        if names:
            yield Lacking(resource=resource, family=family, names=tuple(nsmallest(MAX_NAMES, names)), total=len(names))
