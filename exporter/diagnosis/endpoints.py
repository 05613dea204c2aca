"""Which destinations a pod, a node or a Service is behind: a fault there affects them from every vantage. Pure.

Used by the rules for what they find, and by engine/ for what the digest reports.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator

from exporter.model.cluster.inventory import Inventory, InventoryOrigin
from exporter.model.cluster.service import Service
from exporter.model.cluster.well_known import OWN_SERVICE, dns_endpoints, dns_services
from exporter.model.family import Address
from exporter.model.subject import Subject, SubjectKind
from exporter.model.vantage import Vantage

API = "default/kubernetes"
OWN_TARGET = Subject.of(SubjectKind.TARGET, "service")
API_TARGET = Subject.of(SubjectKind.TARGET, "apiserver")
DNS_TARGET = Subject.of(SubjectKind.TARGET, "cluster_dns")
DNS_SERVER = Subject.of(SubjectKind.SERVER, "cluster_dns")
NODE_LOCAL_SERVER = Subject.of(SubjectKind.SERVER, "node_local")


def services_behind(inventory: Inventory, pods: Iterable[Vantage]) -> frozenset[Subject]:
    """Destinations, as subjects, of which these pods are ready endpoints."""
    addresses = {a for pod in pods for a in pod.addresses}
    if not addresses:
        return frozenset()
    return _where(inventory, lambda s: not addresses.isdisjoint(dns_endpoints(inventory, (s,))))


def services_on(inventory: Inventory, nodes: Collection[str]) -> frozenset[Subject]:
    """Destinations, as subjects, that have a ready endpoint on one of these nodes.

    A digest names no endpoint's node, so the address decides, by the node's blocks or podCIDRs. The exporter's own
    Service, whose endpoints no digest carries, has one on every node.
    """
    if not nodes:
        return frozenset()
    slices = (e for s in inventory.endpoint_slices or () for e in s.endpoints if e.node in nodes)
    pods = (pod for pod in inventory.pods or () if pod.node in nodes and not pod.host_network)
    addresses = {*(a for e in slices for a in e.addresses), *(a for pod in pods for a in pod.ips)}
    blocks = [b.cidr for b in inventory.block_affinities or () if b.node in nodes and b.confirmed and not b.deleted]
    if not inventory.block_affinities:  # those of Calico's IPAM lie anywhere in its pools, whatever podCIDRs nodes have
        blocks = [net for n in inventory.nodes or () if n.name in nodes for net in (*n.pod_cidrs, *n.subnets)]

    def is_there(address: Address) -> bool:
        return address in addresses or any(address.version == b.version and address in b for b in blocks)

    everywhere = inventory.source is InventoryOrigin.DIGEST
    return _where(
        inventory,
        lambda s: (everywhere and is_own(s)) or any(map(is_there, dns_endpoints(inventory, (s,)))),
    )


def destinations_of(inventory: Inventory, services: Collection[Subject]) -> frozenset[Subject]:
    """What these Services (service/NAMESPACE/NAME) are called where they are dialled or asked."""
    return _where(inventory, lambda s: Subject.of(SubjectKind.SERVICE, s.key) in services)


def _where(inventory: Inventory, chosen: Callable[[Service], bool]) -> frozenset[Subject]:
    """What the chosen ones of the few Services that are dialled or asked are called."""
    dns = {s.key for s in dns_services(inventory)}
    asked = (
        s
        for s in inventory.services or ()
        if s.key in dns or s.key == API or is_own(s) or any(p.port == 53 for p in s.ports)
    )
    return frozenset(name for s in asked if chosen(s) for name in _called(s, is_dns=s.key in dns))


def is_own(service: Service) -> bool:
    """Whether this is the exporter's own Service that nodes probe."""
    return service.labels.get("app.kubernetes.io/name") == OWN_SERVICE


def _called(service: Service, *, is_dns: bool) -> Iterator[Subject]:
    yield from (Subject.of(SubjectKind.SERVICE, service.key), Subject.of(SubjectKind.SERVER, service.key))
    if is_own(service):
        yield OWN_TARGET
    if is_dns:
        yield from (DNS_TARGET, DNS_SERVER)
    if service.key == API:
        yield API_TARGET
