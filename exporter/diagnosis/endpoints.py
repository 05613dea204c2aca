"""Which dialled Services a pod stands behind: a broken endpoint spoils them for everybody. Pure; used by pod and node rules."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from exporter.model.family import Address
from exporter.model.inventory import Inventory
from exporter.model.vantage import Vantage
from exporter.plan.targets import OWN_SERVICE, dns_endpoints, dns_services


def services_behind(inventory: Inventory, pods: Iterable[Vantage]) -> frozenset[str]:
    """Destinations, as subjects, of which these pods are ready endpoints."""
    return _behind(inventory, {a for pod in pods for a in pod.addresses})


def services_on(inventory: Inventory, nodes: Collection[str]) -> frozenset[str]:
    """Destinations, as subjects, that have a ready endpoint on one of these nodes."""
    if not nodes:
        return frozenset()
    slices = (e for s in inventory.endpoint_slices or () for e in s.endpoints if e.node in nodes)
    pods = (pod for pod in inventory.pods or () if pod.node in nodes and not pod.host_network)
    return _behind(inventory, {*(a for e in slices for a in e.addresses), *(a for pod in pods for a in pod.ips)})


def _behind(inventory: Inventory, addresses: set[Address]) -> frozenset[str]:
    behind: set[str] = set()
    for service in inventory.services or ():
        if addresses & set(dns_endpoints(inventory, (service,))):
            behind.add(f"service/{service.key}")
            if service.labels.get("app.kubernetes.io/name") == OWN_SERVICE:
                behind.add("target/service")
            if service in dns_services(inventory):
                behind.update(("target/cluster_dns", "server/cluster_dns"))
    return frozenset(behind)
