"""Services, their endpoints, and the ranges of their addresses. Values of the inventory; no I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from exporter.model import EMPTY
from exporter.model.family import Address, Family, Net
from exporter.model.subject import Subject, SubjectKind


@dataclass(frozen=True, slots=True, kw_only=True)
class ServicePort:
    name: str
    port: int
    target: str = ""  # targetPort: a number or a container port's name, as text
    protocol: str = "TCP"


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    namespace: str
    name: str
    uid: str = ""
    created: float | None = None
    type: str = "ClusterIP"
    cluster_ips: tuple[Address, ...] = ()  # none of a headless one or ExternalName
    families: tuple[Family, ...] = ()
    family_policy: str = ""  # SingleStack | PreferDualStack | RequireDualStack | "" (ExternalName)
    ports: tuple[ServicePort, ...] = ()
    selector: Mapping[str, str] = field(default_factory=lambda: EMPTY)
    labels: Mapping[str, str] = field(default_factory=lambda: EMPTY)
    ingress_ips: tuple[Address, ...] = ()  # status.loadBalancer
    ingress_hostnames: tuple[str, ...] = ()
    local_only: bool = False  # internalTrafficPolicy Local: each node serves its own endpoints

    @property
    def key(self) -> str:
        return f"{self.namespace}/{self.name}"

    @property
    def subject(self) -> Subject:
        return Subject.of(SubjectKind.SERVICE, self.key)


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    addresses: tuple[Address, ...]
    ready: bool  # conditions.ready, None counts as ready
    node: str = ""
    pod: str = ""  # namespace/name of targetRef, if it is a Pod


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointSlice:
    namespace: str
    name: str
    service: str  # label kubernetes.io/service-name
    family: Family | None  # None: addressType FQDN
    endpoints: tuple[Endpoint, ...] = ()
    ports: tuple[ServicePort, ...] = ()
    changed: float | None = None  # last watch event after the first list


@dataclass(frozen=True, slots=True)
class ServiceCIDR:
    name: str
    cidrs: tuple[Net, ...]
    ready: bool = True  # False: its condition says so


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryPoint:
    """An Ingress or a Gateway, with the addresses that its controller wrote into its status."""

    kind: str  # ingress | gateway
    namespace: str
    name: str
    addresses: tuple[Address, ...] = ()

    @property
    def key(self) -> str:
        return f"{self.kind}/{self.namespace}/{self.name}"
