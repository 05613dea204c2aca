"""Which dialled Services a pod stands behind: a broken endpoint spoils them for everybody. Pure; used by pod and node rules."""

from __future__ import annotations

from collections.abc import Iterable

from exporter.model.inventory import Inventory
from exporter.model.vantage import Vantage
from exporter.plan.targets import OWN_SERVICE, dns_endpoints, dns_services


def services_behind(inventory: Inventory, pods: Iterable[Vantage]) -> frozenset[str]:
    """Destinations, as subjects, of which these pods are ready endpoints."""
    addresses = {a for pod in pods for a in pod.addresses}
    behind: set[str] = set()
    for service in inventory.services or ():
        if addresses & set(dns_endpoints(inventory, (service,))):
            behind.add(f"service/{service.key}")
            if service.labels.get("app.kubernetes.io/name") == OWN_SERVICE:
                behind.add("target/service")
            if service in dns_services(inventory):
                behind.update(("target/cluster_dns", "server/cluster_dns"))
    return frozenset(behind)
