"""Which CoreDNS pods ask, and its Corefile: from Services, pods and DaemonSets to the ConfigMaps that they mount. Pure.

Evidence is the kubelets' clusterDNS, the DNS Service's selector, the pods' volumes and arguments. Called by
inventory_builder.py once all objects are there.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from exporter.inventory.corefile.corefile import KEY, read_corefile
from exporter.inventory.parse.calico import DaemonSet
from exporter.inventory.parse.configmaps import CUSTOM, ConfigMap
from exporter.model.cluster.component import ComponentFlags
from exporter.model.cluster.corefile import Corefile
from exporter.model.cluster.inventory import ResourceKind, Unreadable
from exporter.model.cluster.pod import Pod
from exporter.model.cluster.service import Service
from exporter.model.cluster.well_known import DNS_NAMESPACES, SYSTEM, kubelet_dns, select_dns_services
from exporter.model.family import Address

MAX_COREFILES = 20  # read to find the node cache by its `bind` lines


@dataclass(frozen=True, slots=True, kw_only=True)
class DnsUse:
    """What the objects say of the CoreDNS that pods ask. ConfigMaps are (namespace, name)."""

    namespaces: frozenset[str] = frozenset()  # of the DNS Services; none where no such Service is known
    service_addresses: frozenset[Address] = frozenset()
    ports: frozenset[str] = frozenset()  # on which the DNS Services' pods are asked
    config_maps: frozenset[tuple[str, str]] = frozenset()
    node_cache_maps: frozenset[tuple[str, str]] = frozenset()
    keys: Mapping[tuple[str, str], str] = field(default_factory=dict)  # where it is not Corefile
    sources: frozenset[tuple[tuple[str, str], ...]] = frozenset()  # of each process all ConfigMaps that it mounts

    @property
    def trusted_sources(self) -> list[tuple[tuple[str, str], ...]]:
        """Those of processes in kube-system or beside the DNS Service; anybody may run a CoreDNS elsewhere."""
        return [each for each in self.sources if each[0][0] in {SYSTEM, *self.namespaces}]

    @property
    def mounted(self) -> tuple[tuple[str, str], ...]:
        """All ConfigMaps of these, sorted."""
        return tuple(sorted({name for each in self.trusted_sources for name in each}))


def dns_use(
    services: Iterable[Service], pods: Iterable[Pod], sets: Iterable[DaemonSet], flags: Iterable[ComponentFlags]
) -> DnsUse:
    found = select_dns_services(services, kubelet_dns(flags))
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
    others: list[Pod | DaemonSet] = [pod for pod in pods if pod.key not in own]
    caches = [e for e in [*others, *sets] if e.dns is not None and e.dns.node_cache]
    servers = [pod for _, pod in selected]
    return DnsUse(
        namespaces=frozenset(service.namespace for service in found),
        service_addresses=frozenset(address for service in found for address in service.cluster_ips),
        ports=frozenset({target for target in targets if target.isdigit()} | named),
        config_maps=_mounted(servers),
        node_cache_maps=_mounted(caches),
        sources=frozenset(
            tuple((e.namespace, name) for name in e.dns.config_maps)
            for e in [*caches, *servers]
            if e.dns is not None and e.dns.config_maps
        ),
        keys={(e.namespace, n): key for e in [*caches, *servers] if e.dns is not None for n, key in e.dns.keys},
    )


def _mounted(found: Iterable[Pod | DaemonSet]) -> frozenset[tuple[str, str]]:
    return frozenset((each.namespace, name) for each in found if each.dns is not None for name in each.dns.config_maps)


def read_corefiles(maps: Iterable[ConfigMap], dns: DnsUse) -> tuple[Corefile | None, Corefile | None]:
    """The Corefile of the DNS Service's pods and that of the node cache: by what mounts it, else by what it says."""
    maps = sorted(maps, key=lambda each: (each.namespace, each.name))
    custom = {each.namespace: each.data for each in maps if each.name == CUSTOM}
    every = [each for each in maps if _key(each, dns) in each.data and each.name != CUSTOM]

    def read(each: ConfigMap, ports: Collection[str] = ()) -> Corefile:
        data = {**each.data, KEY: each.data[_key(each, dns)]}
        return read_corefile(each.namespace, each.name, data, custom.get(each.namespace), ports)

    mounted = [each for each in every if (each.namespace, each.name) in dns.config_maps]
    caches = [read(each) for each in every if (each.namespace, each.name) in dns.node_cache_maps - dns.config_maps]
    rest = [each for each in every if each not in mounted and (not dns.namespaces or each.namespace in dns.namespaces)]
    if not caches:
        caches = [found for found in map(read, rest[:MAX_COREFILES]) if _is_node_cache(found, dns)]
    cached = {(each.namespace, each.name) for each in caches}
    # Pods that do not show what they mount: kube-system/coredns, or what else has a Corefile beside their Service.
    shown = mounted or ([] if dns.config_maps else [e for e in rest if (e.namespace, e.name) not in cached])
    coredns = min(shown, key=_preference, default=None)
    return None if coredns is None else read(coredns, dns.ports), next(iter(caches), None)


def unread_corefiles(maps: Iterable[ConfigMap], dns: DnsUse) -> tuple[Unreadable, ...]:
    """The ConfigMaps of processes none of whose ConfigMaps was read: whatever their Corefile says is not known."""
    read = {(each.namespace, each.name) for each in maps}
    missing = {each[0] for each in dns.trusted_sources if read.isdisjoint(each)}
    why = "the cluster's DNS or a node cache mounts it, and it was not read: deploy/components/dns-configmaps grants it"
    return tuple(Unreadable(ResourceKind.CONFIG_MAPS, "/".join(name), why) for name in sorted(missing))


def _key(each: ConfigMap, dns: DnsUse) -> str:
    return dns.keys.get((each.namespace, each.name), KEY)


def _is_node_cache(found: Corefile, dns: DnsUse) -> bool:
    """Whether all of its server blocks bind addresses that only a cache on the node has: link-local, or a Service's."""
    return bool(found.binds) and all(each.is_link_local or each in dns.service_addresses for each in found.binds)


def _preference(each: ConfigMap) -> tuple[bool, bool, bool, str]:
    """The cluster's CoreDNS is kube-system/coredns, else a name with that word in it, else OpenShift's dns-default."""
    return (
        (each.namespace, each.name) != (SYSTEM, "coredns"),
        "coredns" not in each.name,
        each.namespace not in DNS_NAMESPACES,
        each.subject,
    )
