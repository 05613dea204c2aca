"""The Services whose rules in the kernel are compared with their EndpointSlices: what every node needs. Pure.

Read by vantage/ to know what to ask the kernel, by digest/ to know which EndpointSlices nodes need, and by the rule.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice

from exporter.diagnosis.endpoints import API, is_own
from exporter.model.cluster.inventory import Inventory
from exporter.model.cluster.service import EndpointSlice, Service
from exporter.model.cluster.well_known import dns_services
from exporter.model.facts import WatchedPort
from exporter.model.family import FAMILIES, Family, family_of
from exporter.model.grouping import grouped

PROXY_NAME = "service.kubernetes.io/service-proxy-name"  # label: another proxy than kube-proxy serves it
MAX_PORTS = 16  # of all Services, over both families
MAX_ENDPOINTS = 100  # of a Service; one with more is not watched


def watched_services(inventory: Inventory) -> tuple[Service, ...]:
    """The cluster's DNS, the API server's and the exporter's own, where kube-proxy serves all endpoints alike."""
    dns = {service.key for service in dns_services(inventory)}
    return tuple(
        s
        for s in inventory.services or ()
        if (s.key in dns or s.key == API or is_own(s)) and s.cluster_ips
        if not s.local_only and PROXY_NAME not in s.labels
    )


def slices_of(inventory: Inventory, services: Iterable[Service]) -> Mapping[str, list[EndpointSlice]]:
    """The EndpointSlices of those Services that have few enough endpoints, by namespace/name of the Service."""
    keys = {service.key for service in services}
    of = grouped((s for s in inventory.endpoint_slices or () if f"{s.namespace}/{s.service}" in keys), _service)
    return {key: found for key, found in of.items() if sum(len(s.endpoints) for s in found) <= MAX_ENDPOINTS}


def _service(each: EndpointSlice) -> str:
    return f"{each.namespace}/{each.service}"


def watched_ports(inventory: Inventory) -> tuple[WatchedPort, ...]:
    """The ports that have a ready endpoint, by family."""
    services = watched_services(inventory)
    slices = slices_of(inventory, services)
    return tuple(
        islice((p for s in services for f in FAMILIES for p in _ports(s, f, slices.get(s.key, ()))), MAX_PORTS)
    )


def _ports(service: Service, family: Family, slices: Iterable[EndpointSlice]) -> Iterator[WatchedPort]:
    own = [each for each in slices if each.family is family]
    if family not in map(family_of, service.cluster_ips) or not any(e.ready for s in own for e in s.endpoints):
        return
    for port in service.ports:
        numbers = [(s, p.port) for s in own for p in s.ports if p.name == port.name]
        if numbers:
            yield WatchedPort(
                service=service.key,
                name=port.name,
                protocol=port.protocol.lower(),
                family=family,
                endpoints=frozenset((a, number) for s, number in numbers for e in s.endpoints for a in e.addresses),
            )
