"""The few ConfigMaps that matter, CoreDNS's, Calico's, kubeadm's and kube-proxy's: from text to values. Pure.

parse_config_map keeps those and drops every other; read_config_maps reads them, but for Corefiles, which
corefile/dns_use.py chooses from and reads.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from exporter.inventory.corefile.corefile import KEY, looks_like_corefile
from exporter.inventory.document import InventoryDocumentError, read_documents
from exporter.inventory.parse.components import parse_cni_config, parse_kube_proxy, parse_kubeadm, parse_kubelet
from exporter.inventory.parse.fields import mapping, name_of, string_map
from exporter.inventory.parse.networks import config_map_signs, is_config_of_a_cni
from exporter.model.cluster.component import CniConfig, ComponentFlags
from exporter.model.cluster.inventory import ResourceKind, Unreadable
from exporter.model.cni.profile import CniSign
from exporter.model.family import Net
from exporter.model.subject import Subject, SubjectKind

MAX_DATA = 1 << 20  # the API server's own limit of a ConfigMap
CUSTOM = "coredns-custom"
CNI_KEY = "cni_network_config"
CALICO_CONFIGS = frozenset({"calico-config", "canal-config", "rke2-canal-config"})
KUBEADM = "kubeadm-config"
KUBE_PROXY = "kube-proxy"
KUBELET = "kubelet-config"
NAMES = frozenset({CUSTOM, *CALICO_CONFIGS, KUBEADM, KUBE_PROXY, KUBELET})


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
    known = name in NAMES or KEY in data or is_config_of_a_cni(name)
    if sum(map(len, data.values())) > MAX_DATA:
        return "larger than 1 MiB" if known else None
    if not known and not any(map(looks_like_corefile, data.values())):
        return None
    return ConfigMap(name_of(metadata.get("namespace")), name, data)


def read_config_maps(maps: Iterable[ConfigMap]) -> ConfigMapContents:
    """Everything that the ConfigMaps contain about the cluster, but for Corefiles."""
    found = ConfigMapContents()
    for each in sorted(maps, key=lambda each: (each.namespace, each.name)):
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
        elif each.name == KUBELET:
            kubelet = parse_kubelet(_yaml(each, "kubelet", found.unreadable), each.subject)
            found.components += [kubelet] if kubelet is not None else []
    return found


def _yaml(each: ConfigMap, key: str, problems: list[Unreadable]) -> Any:
    """The first document of an entry; a problem is noted."""
    try:
        return next(read_documents(each.data.get(key, "")), None)
    except InventoryDocumentError as error:
        problems.append(Unreadable(ResourceKind.CONFIG_MAPS, f"{each.namespace}/{each.name}", f"{key}: {error}"))
        return None
