"""Which dialled destinations a pod, a node or a Service stands behind: what is broken there affects them for everybody. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator

from exporter.model.family import Address
from exporter.model.inventory import Inventory
from exporter.model.service import Service
from exporter.model.subject import Subject, SubjectKind
from exporter.model.vantage import Vantage
from exporter.model.well_known import OWN_SERVICE, dns_endpoints, dns_services

API = "default/kubernetes"


def services_behind(inventory: Inventory, pods: Iterable[Vantage]) -> frozenset[Subject]:
    """Destinations, as subjects, of which these pods are ready endpoints."""
    addresses = {a for pod in pods for a in pod.addresses}
    return _behind(inventory, lambda ends: not addresses.isdisjoint(ends)) if addresses else frozenset()


def services_on(inventory: Inventory, nodes: Collection[str]) -> frozenset[Subject]:
    """Destinations, as subjects, that have a ready endpoint on one of these nodes.

    A digest names no endpoint's node: its address tells it, by the node's blocks. The exporter's own Service, whose
    endpoints no digest carries, has one on every node.
    """
    if not nodes:
        return frozenset()
    slices = (e for s in inventory.endpoint_slices or () for e in s.endpoints if e.node in nodes)
    pods = (pod for pod in inventory.pods or () if pod.node in nodes and not pod.host_network)
    addresses = {*(a for e in slices for a in e.addresses), *(a for pod in pods for a in pod.ips)}
    blocks = [b.cidr for b in inventory.block_affinities or () if b.node in nodes and b.confirmed and not b.deleted]
    found = _behind(
        inventory,
        lambda ends: any(a in addresses or any(a.version == b.version and a in b for b in blocks) for a in ends),
    )
    return found | (_own(inventory) if inventory.source == "digest" else frozenset())


def destinations_of(inventory: Inventory, services: Collection[str]) -> frozenset[Subject]:
    """What the Services of these subjects (service/NAMESPACE/NAME) are called where they are dialled or asked."""
    return frozenset(
        name
        for s in _dialled(inventory)
        if Subject.of(SubjectKind.SERVICE, s.key) in services
        for name in _called(inventory, s)
    )


def _behind(inventory: Inventory, holds: Callable[[tuple[Address, ...]], bool]) -> frozenset[Subject]:
    return frozenset(
        name for s in _dialled(inventory) if holds(dns_endpoints(inventory, (s,))) for name in _called(inventory, s)
    )


def _own(inventory: Inventory) -> frozenset[Subject]:
    return frozenset(name for s in _dialled(inventory) if _is_own(s) for name in _called(inventory, s))


def _dialled(inventory: Inventory) -> Iterator[Service]:
    """The few Services that anything is asked of."""
    dns = {s.key for s in dns_services(inventory)}
    return (
        s
        for s in inventory.services or ()
        if s.key in dns or s.key == API or _is_own(s) or any(p.port == 53 for p in s.ports)
    )


def _is_own(service: Service) -> bool:
    return service.labels.get("app.kubernetes.io/name") == OWN_SERVICE


def _called(inventory: Inventory, service: Service) -> Iterator[Subject]:
    yield from (Subject.of(SubjectKind.SERVICE, service.key), Subject.of(SubjectKind.SERVER, service.key))
    if _is_own(service):
        yield Subject.of(SubjectKind.TARGET, "service")
    if service in dns_services(inventory):
        yield from (Subject.of(SubjectKind.TARGET, "cluster_dns"), Subject.of(SubjectKind.SERVER, "cluster_dns"))
    if service.key == API:
        yield Subject.of(SubjectKind.TARGET, "apiserver")
