"""The few ConfigMaps that matter, CoreDNS's, Calico's, kubeadm's and kube-proxy's: from text to values. Pure.

parse_config_map keeps those and drops every other; read_config_maps reads all of them together (a Corefile imports from
a second ConfigMap).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from exporter.inventory.corefile.corefile import KEY, read_corefile
from exporter.inventory.document import InventoryDocumentError, read_documents
from exporter.inventory.parse.components import parse_cni_config, parse_kube_proxy, parse_kubeadm
from exporter.inventory.parse.dns_use import DnsUse
from exporter.inventory.parse.fields import mapping, name_of, string_map
from exporter.inventory.parse.networks import config_map_signs, is_config_of_a_cni
from exporter.model.cluster.component import CniConfig, ComponentFlags
from exporter.model.cluster.corefile import Corefile
from exporter.model.cluster.inventory import ResourceKind, Unreadable
from exporter.model.cluster.well_known import DNS_NAMESPACES, SYSTEM
from exporter.model.cni.profile import CniSign
from exporter.model.family import Net
from exporter.model.subject import Subject, SubjectKind

MAX_DATA = 1 << 20  # the API server's own limit of a ConfigMap
CUSTOM = "coredns-custom"
CNI_KEY = "cni_network_config"
CALICO_CONFIGS = frozenset({"calico-config", "canal-config", "rke2-canal-config"})
KUBEADM = "kubeadm-config"
KUBE_PROXY = "kube-proxy"
NOT_KNOWN = DnsUse()
NAMES = frozenset({CUSTOM, *CALICO_CONFIGS, KUBEADM, KUBE_PROXY})
MAX_COREFILES = 20  # read to find the node cache by its `bind` lines


@dataclass(frozen=True, slots=True)
class ConfigMap:
    namespace: str
    name: str
    data: Mapping[str, str]

    @property
    def subject(self) -> Subject:
        return Subject.of(SubjectKind.CONFIGMAP, self.namespace, self.name)


@dataclass(slots=True, kw_only=True)
class ConfigMapContents:
    """What all ConfigMaps together contain; filled by read_config_maps."""

    corefile: Corefile | None
    node_local: Corefile | None
    cni: list[CniConfig] = field(default_factory=list)
    components: list[ComponentFlags] = field(default_factory=list)
    cni_signs: list[CniSign] = field(default_factory=list)
    pod_cidrs: tuple[Net, ...] = ()
    service_cidrs: tuple[Net, ...] = ()
    unreadable: list[Unreadable] = field(default_factory=list)


def parse_config_map(source: Mapping[str, Any]) -> ConfigMap | str | None:
    """A ConfigMap of interest with its text entries; None for any other, a sentence for one that is too large."""
    metadata = mapping(source.get("metadata"))
    data = string_map(source.get("data"))
    name = name_of(metadata.get("name"))
    if name not in NAMES and KEY not in data and not is_config_of_a_cni(name):
        return None
    if sum(map(len, data.values())) > MAX_DATA:
        return "larger than 1 MiB"
    return ConfigMap(name_of(metadata.get("namespace")), name, data)


def read_config_maps(maps: Iterable[ConfigMap], dns: DnsUse = NOT_KNOWN) -> ConfigMapContents:
    """Everything that the ConfigMaps contain about the cluster. `dns`: which of several CoreDNS pods ask."""
    by_name = sorted(maps, key=lambda each: (each.namespace, each.name))
    corefile, node_local = _corefiles(by_name, dns)
    found = ConfigMapContents(corefile=corefile, node_local=node_local)
    for each in by_name:
        found.cni_signs += config_map_signs(each.name, each.data, each.subject)
        # Without that key another plugin writes the file.
        if each.name in CALICO_CONFIGS and each.data.get(CNI_KEY):
            cni = parse_cni_config(each.data[CNI_KEY], source=each.subject)
            found.cni.append(replace(cni, subject=each.subject))
        elif each.name == KUBEADM:
            document = _yaml(each, "ClusterConfiguration", found.unreadable)
            flags, found.pod_cidrs, found.service_cidrs = parse_kubeadm(document, each.subject)
            found.components += flags
        elif each.name == KUBE_PROXY:
            proxy = parse_kube_proxy(_yaml(each, "config.conf", found.unreadable), each.subject)
            found.components += [proxy] if proxy is not None else []
    return found


def _corefiles(maps: list[ConfigMap], dns: DnsUse) -> tuple[Corefile | None, Corefile | None]:
    """The Corefile of the DNS Service's pods and that of the node cache: by what mounts it, else by what it says."""
    custom = {each.namespace: each.data for each in maps if each.name == CUSTOM}
    every = [each for each in maps if KEY in each.data and each.name != CUSTOM]

    def read(each: ConfigMap, ports: Collection[str] = ()) -> Corefile:
        return read_corefile(each.namespace, each.name, each.data, custom.get(each.namespace), ports)

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


def _yaml(each: ConfigMap, key: str, problems: list[Unreadable]) -> Any:
    """The first document of an entry; a problem is noted."""
    try:
        return next(read_documents(each.data.get(key, "")), None)
    except InventoryDocumentError as error:
        problems.append(Unreadable(ResourceKind.CONFIG_MAPS, f"{each.namespace}/{each.name}", f"{key}: {error}"))
        return None
