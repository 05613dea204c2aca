"""The configuration as a tree of frozen values: every key with its kind, its default and its meaning.

load.py fills it, all other layers read it, reference.py makes the reference table of it. Durations are seconds. No I/O,
and nothing here compares values: consistency.py does.
"""

# ruff: noqa: RUF009  # option() makes a dataclasses.field, which no instance shares

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from exporter.config.kinds import (
    PORT,
    Choice,
    Count,
    Duration,
    Flag,
    ListOf,
    Maybe,
    Option,
    Section,
    choice,
    option,
    section,
)
from exporter.config.network_kinds import (
    DIRECTORY,
    DOMAIN_NAME,
    FILE,
    GLOB,
    HOST,
    NAME,
    NODE_NAME,
    POD_SERVERS,
    URL,
    URL_PATH,
    AskedServer,
    Cidr,
    DnsServer,
    Families,
    IpAddress,
    LabelSelector,
    Layers,
    ReferenceServer,
    Statuses,
)
from exporter.config.selector import Selector
from exporter.model.cause import Role
from exporter.model.family import Address, Family, Net
from exporter.model.probe import Layer

DEFAULT_PORT = 10046
RUNBOOKS = "http://dualstack-exporter.dualstack-exporter.svc:10046/runbooks/"  # the exporter's own Service


class SourceKind(StrEnum):
    AUTO = "auto"
    KUBERNETES = "kubernetes"
    FILE = "file"
    NONE = "none"


class Expectation(StrEnum):
    REACHABLE = "reachable"
    UNREACHABLE = "unreachable"


class VantageKind(StrEnum):
    """A kind of vantage, as in model.vantage.Vantage.kind."""

    HOST = "host"
    POD = "pod"


class RecordType(StrEnum):
    A = "A"
    AAAA = "AAAA"


class AaaaPolicy(StrEnum):
    SERVED = "served"
    BLOCKED = "blocked"


class ServicePolicy(StrEnum):
    ANY = "any"
    PREFER_DUAL_STACK = "prefer_dual_stack"


@dataclass(frozen=True, slots=True, kw_only=True)
class InventoryConfig:
    source: SourceKind = choice(
        SourceKind.AUTO,
        "where the cluster's objects come from; auto: the service account where there is one, else none "
        "(a file or kubeconfig that is named implies its source)",
    )
    file: str = option(FILE, "output of `kubectl get ... -o yaml` (kind: List)", default="")
    kubeconfig: str = option(FILE, "kubeconfig for source kubernetes; empty: the service account", default="")


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundConfig:
    interval: float = option(Duration(least=1.0), "from the start of one round to the start of the next", default=30.0)
    timeout: float = option(
        Duration(least=0.1),
        "deadline of a round, shorter than the interval (with a shorter interval the default is five sixths of it)",
        default=25.0,
    )


_STEPS = (*((layer.value, layer.step, layer.timeout) for layer in Layer), ("dns", "DNS question", 2.0))
_TIMEOUTS = {
    name: Option(kind=Duration(), meaning=f"deadline of one {step}; none is longer than round.timeout", default=seconds)
    for name, step, seconds in _STEPS
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PodNamespaces:
    include: tuple[str, ...] = option(
        ListOf(GLOB), "namespaces whose pods are probed from; empty means all", default=()
    )
    exclude: tuple[str, ...] = option(ListOf(GLOB), "namespaces left out, also where include names them", default=())


@dataclass(frozen=True, slots=True, kw_only=True)
class Pods:
    sample: int = option(
        Count(0, 1000), "pods probed per round, in rotation; every pod is inspected locally", default=20
    )
    grace: float = option(
        Duration(least=0.0), "age below which a pod counts as starting and is not probed", default=60.0
    )
    namespaces: PodNamespaces = section(PodNamespaces)
    selector: Selector = option(LabelSelector(), "which pods, by label; empty: all", default=Selector())
    runtime_classes: tuple[str, ...] = option(
        ListOf(NAME), "runtimeClassNames whose pods share the host's kernel and may be probed from", default=()
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedNamespaces:
    directory: str = option(
        DIRECTORY,
        "where `ip netns` keeps named network namespaces; a named broker needs it, too",
        default="/run/netns",
    )
    include: tuple[str, ...] = option(
        ListOf(GLOB), "named network namespaces that are treated as pods (only used without Kubernetes)", default=("*",)
    )
    containers: bool = option(
        Flag(),
        "whether network namespaces of containers (Docker, podman) are treated as pods (only used without Kubernetes)",
        default=True,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetConfig:
    """A destination that the operator wants probed over each family, without falling back to the other."""

    name: str = option(NAME, "label `target` in metrics")
    host: str = option(
        HOST,
        "name to resolve, which the TLS certificate must match; without TLS also an address",
        default="",
        default_text="the first of addresses",
    )
    addresses: tuple[Address, ...] = option(
        ListOf(IpAddress()), "probed instead of resolving the host, at most one of each family", default=()
    )
    port: int | None = option(Maybe(PORT), "required unless icmp is the only layer", default=None, default_text="none")
    layers: tuple[Layer, ...] = option(
        Layers(),
        "what is probed; tls and http are phases of the tcp connection, http without tls is plain",
        default=(Layer.TCP,),
    )
    path: str = option(URL_PATH, "path of the HTTP request", default="/")
    status: tuple[tuple[int, int], ...] = option(Statuses(), "HTTP status codes that pass", default=((200, 399),))
    expect: Expectation = choice(Expectation.REACHABLE, "unreachable: passes when no connection is made")
    families: tuple[Family, ...] | None = option(
        Families(), "families probed; auto: those that the name has", default=None
    )
    vantages: tuple[VantageKind, ...] = option(
        ListOf(Choice(VantageKind), least=1), "where it is probed from", default=(VantageKind.HOST, VantageKind.POD)
    )
    ca_file: str = option(FILE, "PEM file of the authorities trusted for it; empty: the system's", default="")
    timeout: float | None = option(
        Maybe(Duration()), "deadline of the whole connection", default=None, default_text="the layers' own"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Peers:
    count: int = option(Count(0, 100), "other nodes that this node probes, by a ring over the ready ones", default=5)
    port: int = option(PORT, "port probed at a peer; `refused` proves the path as well", default=DEFAULT_PORT)
    layers: tuple[Layer, ...] = option(
        Layers(allowed=(Layer.ICMP, Layer.TCP), least=0), "what is probed at a peer", default=(Layer.ICMP, Layer.TCP)
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlName:
    name: str = option(DOMAIN_NAME, "a name that every server is asked for")
    expect: tuple[RecordType, ...] = option(
        ListOf(Choice(RecordType)),
        "record types that really exist for it; empty: none",
        default=(RecordType.A, RecordType.AAAA),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Dns:
    names: tuple[ControlName, ...] | None = option(
        Maybe(ListOf(Section(ControlName), unique=False)),
        "control names and the records that they really have",
        default=None,
        default_text="none; on a host without Kubernetes ipv4only.arpa",
    )
    servers: tuple[DnsServer, ...] = option(
        ListOf(AskedServer()), "nameservers asked; pod: those of the pod's own resolv.conf", default=(POD_SERVERS,)
    )
    allow: tuple[Net, ...] = option(
        ListOf(Cidr()), "networks of further nameservers in a pod's resolv.conf that may be asked", default=()
    )
    reference: tuple[DnsServer, ...] = option(
        ListOf(ReferenceServer(), unique=False),
        "resolvers trusted to know what exists; only asked for dns.names",
        default=(),
    )
    aaaa: AaaaPolicy = choice(AaaaPolicy.SERVED, "blocked: AAAA is withheld on purpose, dns_aaaa_blocked is then info")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceExpectation:
    namespaces: tuple[str, ...] = option(ListOf(GLOB, least=1), "namespaces that it applies to", default=("*",))
    policy: ServicePolicy = choice(ServicePolicy.ANY, "prefer_dual_stack: a SingleStack Service there is a cause")


@dataclass(frozen=True, slots=True, kw_only=True)
class Expect:
    services: tuple[ServiceExpectation, ...] = option(
        ListOf(Section(ServiceExpectation), unique=False),
        "what is expected of Services",
        default=(ServiceExpectation(),),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class DigestConfig:
    url: str = option(URL, "URL of the cluster role's digest; empty: each node lists what it needs itself", default="")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunbooksConfig:
    url: str = option(
        URL,
        "where links to runbooks begin; NAME.md is appended. `make alerts` writes it into the rules",
        default=RUNBOOKS,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """The whole configuration. Once loaded `node_name` is never empty; `dns.names` is None where the key is absent."""

    role: Role = choice(
        Role.NODE,
        "node: a DaemonSet's member; cluster: one replica, cluster-wide causes; all: one process for the whole cluster",
    )
    node_name: str = option(
        NODE_NAME, "the Node that this is", default="", default_text="$NODE_NAME, then the host name"
    )
    families: tuple[Family, ...] | None = option(
        Families(), "families that pods are expected to have; auto: as the cluster's objects show", default=None
    )
    inventory: InventoryConfig = section(InventoryConfig)
    round: RoundConfig = section(RoundConfig)
    timeouts: Mapping[str, float] = option(
        Section(dict, _TIMEOUTS),
        "deadlines of the probes of each Layer, and of DNS questions",
        default={name: timeout.default for name, timeout in _TIMEOUTS.items()},
    )
    pods: Pods = section(Pods)
    netns: NamedNamespaces = section(NamedNamespaces)
    targets: tuple[TargetConfig, ...] = option(
        ListOf(Section(TargetConfig), unique=False), "destinations besides the cluster's own", default=()
    )
    peers: Peers = section(Peers)
    dns: Dns = section(Dns)
    expect: Expect = section(Expect)
    digest: DigestConfig = section(DigestConfig)
    events: bool = option(
        Flag(),
        "whether causes that begin and end become Events of Nodes and Pods (with inventory kubernetes)",
        default=False,
    )
    runbooks: RunbooksConfig = section(RunbooksConfig)
