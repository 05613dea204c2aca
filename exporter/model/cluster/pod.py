"""Pods and their namespaces. Values of the inventory; no I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from exporter.model import EMPTY
from exporter.model.cluster.component import ComponentFlags
from exporter.model.cluster.corefile import DnsProcess
from exporter.model.cni.profile import CniSign
from exporter.model.family import Address, Family
from exporter.model.subject import Subject, SubjectKind


@dataclass(frozen=True, slots=True)
class ContainerPort:
    name: str
    port: int
    protocol: str = "TCP"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    namespace: str
    name: str
    uid: str = ""
    node: str = ""
    phase: str = ""
    ready: bool = False
    host_network: bool = False
    deleting: bool = False
    created: float | None = None
    started: float | None = None
    ips: tuple[Address, ...] = ()  # status.podIPs, else podIP; unmapped
    annotated_ips: tuple[Address, ...] = ()  # that its CNI noted on it
    runtime_class: str = ""
    labels: Mapping[str, str] = field(default_factory=lambda: EMPTY)
    ports: tuple[ContainerPort, ...] = ()
    dns_servers: tuple[Address, ...] = ()  # spec.dnsConfig.nameservers
    families: tuple[Family, ...] | None = None  # annotation dualstack-exporter/families
    address_choice: bool = False  # pools or ipFamilies chosen by annotation on the pod
    disables_ipv6: bool = False  # the sysctls of its spec, or of the tuning plugin in its networks, switch IPv6 off
    static_uid: str = ""  # annotation kubernetes.io/config.hash: the uid in a static pod's cgroup
    service_account: str = ""
    owner: str = ""  # KIND/NAME in lower case of what makes it anew; a Deployment for those of its ReplicaSet
    cni_sign: CniSign | None = None  # where it is an agent of a CNI
    dns: DnsProcess | None = None  # where it runs CoreDNS
    component: ComponentFlags | None = None  # the flags it shows, where it runs a Kubernetes component

    @property
    def key(self) -> str:
        return f"{self.namespace}/{self.name}"

    @property
    def subject(self) -> Subject:
        return Subject.of(SubjectKind.POD, self.key)


@dataclass(frozen=True, slots=True, kw_only=True)
class Namespace:
    name: str
    uid: str = ""
    labels: Mapping[str, str] = field(default_factory=lambda: EMPTY)
    families: tuple[Family, ...] | None = None
    address_choice: bool = False
