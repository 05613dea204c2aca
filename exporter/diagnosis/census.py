"""How far the cluster is on its way to dual-stack: nodes, pods, Services and EndpointSlices by family, and those lacking one. Pure.

Counted over the inventory, rendered by the catalogue. What was not read has no rows. Rows by namespace are those of the largest
namespaces; totals (namespace "") always cover all.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from exporter.model.family import FAMILIES, Family, family_of
from exporter.model.inventory import EndpointSlice, Inventory, Node, Pod, Service

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


@dataclass(frozen=True, slots=True)
class Count:
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


@dataclass(frozen=True, slots=True)
class Lacking:
    """The first names, in order, of those that lack a family; for the status page and the report, not for labels."""

    resource: Resource
    family: Family
    names: tuple[str, ...]
    total: int


@dataclass(frozen=True, slots=True)
class Census:
    counts: tuple[Count, ...] = ()
    progress: tuple[Progress, ...] = ()
    lacking: tuple[Lacking, ...] = ()
    namespaces_left_out: int = 0


@dataclass(frozen=True, slots=True)
class _Member:
    """One counted object: where, its name, and the families it has. `wanted`: those it is meant to have, lacking none else."""

    namespace: str
    name: str
    families: frozenset[Family]
    wanted: frozenset[Family] = frozenset(FAMILIES)


def take_census(inventory: Inventory) -> Census:
    """The counts of everything that was read."""
    members: dict[Resource, list[_Member]] = {}
    if inventory.nodes is not None:
        members[Resource.NODES] = list(_nodes(inventory.nodes))
    if inventory.pods is not None:
        members[Resource.PODS] = list(_pods(inventory.pods))
    if inventory.services is not None:
        members[Resource.SERVICES] = list(_services(inventory.services))
    if inventory.endpoint_slices is not None:
        members[Resource.ENDPOINT_SLICES] = list(_slices(inventory.endpoint_slices))
    shown, left_out = _largest_namespaces(members.values())
    return Census(
        counts=tuple(count for resource, found in members.items() for count in _counts(resource, found, shown)),
        progress=tuple(_progress(resource, found) for resource, found in members.items()),
        lacking=tuple(row for resource, found in members.items() for row in _lacking(resource, found)),
        namespaces_left_out=left_out,
    )


def _nodes(nodes: Iterable[Node]) -> Iterator[_Member]:
    """Nodes by InternalIP; a link-local one is none."""
    for node in nodes:
        if not node.virtual:
            yield _Member("", node.name, frozenset(family_of(a) for a in node.internal_ips if not a.is_link_local))


def _pods(pods: Iterable[Pod]) -> Iterator[_Member]:
    """Pods of the pod network that have an address: those on the host's network have the node's, ended ones none."""
    cached: dict[tuple[int, ...], frozenset[Family]] = {}
    for pod in pods:
        if pod.host_network or not pod.ips or pod.phase in ENDED:
            continue
        versions = tuple(address.version for address in pod.ips)
        families = cached.setdefault(versions, frozenset(map(family_of, pod.ips)))
        yield _Member(pod.namespace, pod.name, families, frozenset(pod.families or FAMILIES))


def _services(services: Iterable[Service]) -> Iterator[_Member]:
    """Services with families: not ExternalName, and not the API server's own."""
    for service in services:
        if service.families and service.key != API_SERVICE:
            yield _Member(service.namespace, service.name, frozenset(service.families))


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
            yield _Member(namespace, service, frozenset(families))


def _largest_namespaces(members: Iterable[list[_Member]]) -> tuple[frozenset[str], int]:
    """The namespaces shown one by one, by number of objects and then name; and how many are not."""
    sizes: dict[str, int] = {}
    for found in members:
        for member in found:
            if member.namespace:
                sizes[member.namespace] = sizes.get(member.namespace, 0) + 1
    ordered = sorted(sizes, key=lambda name: (-sizes[name], name))
    return frozenset(ordered[:MAX_NAMESPACES]), max(0, len(ordered) - MAX_NAMESPACES)


def _counts(resource: Resource, members: list[_Member], shown: frozenset[str]) -> Iterator[Count]:
    totals: dict[tuple[str, Family], list[int]] = {("", family): [0, 0] for family in FAMILIES}
    for member in members:
        for place in {"", member.namespace if member.namespace in shown else ""}:
            for family in FAMILIES:
                cell = totals.setdefault((place, family), [0, 0])
                if family in member.families:
                    cell[0] += 1
                elif family in member.wanted:
                    cell[1] += 1
    for (namespace, family), (having, lacking) in sorted(totals.items()):
        yield Count(resource, namespace, family, having, lacking)


def _progress(resource: Resource, members: list[_Member]) -> Progress:
    """Members that are meant to have one family alone are not on their way anywhere."""
    able = [member for member in members if len(member.wanted) == len(FAMILIES)]
    return Progress(resource, sum(len(member.families) == len(FAMILIES) for member in able), len(able))


def _lacking(resource: Resource, members: list[_Member]) -> Iterator[Lacking]:
    for family in FAMILIES:
        names = [
            m.name if not m.namespace else f"{m.namespace}/{m.name}" for m in members if family in m.wanted - m.families
        ]
        if names:
            yield Lacking(resource, family, tuple(sorted(names)[:MAX_NAMES]), len(names))
