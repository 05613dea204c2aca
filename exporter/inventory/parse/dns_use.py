"""Which CoreDNS pods ask: from Services, pods and DaemonSets to the ConfigMaps that those pods mount. Pure.

Evidence is the DNS Service's selector, the pods' volumes and arguments; for configmaps.py, which reads the Corefiles.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from exporter.inventory.parse.calico import DaemonSet
from exporter.model.cluster.pod import Pod
from exporter.model.cluster.service import Service
from exporter.model.cluster.well_known import select_dns_services
from exporter.model.family import Address


@dataclass(frozen=True, slots=True, kw_only=True)
class DnsUse:
    """What the objects say of the CoreDNS that pods ask. ConfigMaps are (namespace, name)."""

    namespaces: frozenset[str] = frozenset()  # of the DNS Services; none where no such Service is known
    service_addresses: frozenset[Address] = frozenset()
    ports: frozenset[str] = frozenset()  # on which the DNS Services' pods are asked
    config_maps: frozenset[tuple[str, str]] = frozenset()
    node_cache_maps: frozenset[tuple[str, str]] = frozenset()


def dns_use(services: Iterable[Service], pods: Iterable[Pod], sets: Iterable[DaemonSet]) -> DnsUse:
    found = select_dns_services(services)
    pods = [pod for pod in pods if not pod.deleting]
    selected = [
        (service, pod)
        for service in found
        if service.selector
        for pod in pods
        if pod.namespace == service.namespace and service.selector.items() <= pod.labels.items()
    ]
    targets = {port.target or "53" for service in found for port in service.ports if port.port == 53}
    named = {str(port.port) for _, pod in selected for port in pod.ports if port.name in targets}
    own = {pod.key for _, pod in selected}
    # A node cache that the DNS Service selects as well is one of its servers, whatever its image.
    caches: list[Pod | DaemonSet] = [pod for pod in pods if pod.key not in own]
    return DnsUse(
        namespaces=frozenset(service.namespace for service in found),
        service_addresses=frozenset(address for service in found for address in service.cluster_ips),
        ports=frozenset({target for target in targets if target.isdigit()} | named),
        config_maps=_mounted(pod for _, pod in selected),
        node_cache_maps=_mounted(e for e in [*caches, *sets] if e.dns is not None and e.dns.node_cache),
    )


def _mounted(found: Iterable[Pod | DaemonSet]) -> frozenset[tuple[str, str]]:
    return frozenset((each.namespace, name) for each in found if each.dns is not None for name in each.dns.config_maps)
