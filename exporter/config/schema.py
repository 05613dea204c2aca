"""The configuration as a tree of frozen values: every key with its kind, its default and its meaning, stated once.

load.py fills it, plan and discovery read it, reference.py makes the reference table of it. Durations are seconds. This
file does no I/O and decides nothing beyond what one value may be; consistency.py judges what several values say
together.
"""

# ruff: noqa: RUF009  # option() makes a dataclasses.field, which no instance shares

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from exporter.config.kinds import PORT, Choice, Count, Duration, ListOf, Maybe
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
    IpAddress,
    ReferenceServer,
)
from exporter.config.probe_kinds import Families, LabelSelector, Layers, Statuses
from exporter.config.sections import Section, option
from exporter.config.selector import Selector
from exporter.model.family import Address, Family, Net
from exporter.model.probe import Layer
from exporter.model.report import Role

DEFAULT_PORT = 10046


class SourceKind(StrEnum):
    AUTO = "auto"
    KUBERNETES = "kubernetes"
    FILE = "file"
    NONE = "none"


class Expectation(StrEnum):
    REACHABLE = "reachable"
    UNREACHABLE = "unreachable"


class VantageKind(StrEnum):
    """A kind of vantage, as targets choose them; the values are those of model.vantage.Vantage.kind."""

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
    source: SourceKind = option(
        Choice(SourceKind),
        "where the cluster's objects come from; auto: the service account where there is one, else none "
        "(a file or kubeconfig that is named implies its source)",
        default=SourceKind.AUTO,
    )
    file: str = option(FILE, "what `kubectl get ... -o yaml` prints (kind: List)", default="")
    kubeconfig: str = option(FILE, "kubeconfig for source kubernetes; empty: the service account", default="")


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundConfig:
    interval: float = option(Duration(least=1.0), "from the start of one round to the start of the next", default=30.0)
    timeout: float = option(
        Duration(least=0.1),
        "deadline of a round, shorter than the interval (with a shorter interval the default is five sixths of it)",
        default=25.0,
    )


_NO_LONGER = "deadline of one {}; none is longer than round.timeout"


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeoutsConfig:
    icmp: float = option(Duration(), _NO_LONGER.format("echo"), default=1.0)
    dns: float = option(Duration(), _NO_LONGER.format("DNS question"), default=2.0)
    tcp: float = option(Duration(), _NO_LONGER.format("TCP connect"), default=3.0)
    tls: float = option(Duration(), _NO_LONGER.format("TLS handshake"), default=5.0)
    http: float = option(Duration(), _NO_LONGER.format("HTTP request"), default=5.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class PodNamespaces:
    include: tuple[str, ...] = option(ListOf(GLOB), "namespaces whose pods are looked from; empty: all", default=())
    exclude: tuple[str, ...] = option(ListOf(GLOB), "namespaces left out, also where include names them", default=())


@dataclass(frozen=True, slots=True, kw_only=True)
class Pods:
    sample: int = option(
        Count(0, 1000), "pods probed per round, in rotation; every pod is inspected locally", default=20
    )
    grace: float = option(
        Duration(least=0.0), "age below which a pod counts as starting and is not probed", default=60.0
    )
    namespaces: PodNamespaces = option(Section(PodNamespaces), "which namespaces' pods", default=PodNamespaces())
    selector: Selector = option(LabelSelector(), "which pods, by label; empty: all", default=Selector())
    runtime_classes: tuple[str, ...] = option(
        ListOf(NAME), "runtimeClassNames whose pods share the host's kernel and may be looked from", default=()
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedNamespaces:
    directory: str = option(DIRECTORY, "where `ip netns` keeps named network namespaces", default="/run/netns")
    include: tuple[str, ...] = option(
        ListOf(GLOB), "names looked from as pods; only where there is no inventory", default=("*",)
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetConfig:
    """Something that the operator wants dialled, over each family, never falling back to the other."""

    name: str = option(NAME, "label `target` in metrics")
    host: str = option(
        HOST,
        "name that is resolved, and that TLS must prove; an address, where there is no TLS",
        default="",
        default_text="the first of addresses",
    )
    addresses: tuple[Address, ...] = option(
        ListOf(IpAddress()), "dialled instead of resolving the host, at most one of each family", default=()
    )
    port: int | None = option(Maybe(PORT), "required unless icmp is the only layer", default=None, default_text="none")
    layers: tuple[Layer, ...] = option(
        Layers(),
        "what is probed; tls and http are phases of the tcp connection, http without tls is plain",
        default=(Layer.TCP,),
    )
    path: str = option(URL_PATH, "path of the HTTP request", default="/")
    status: tuple[tuple[int, int], ...] = option(Statuses(), "HTTP status codes that pass", default=((200, 399),))
    expect: Expectation = option(
        Choice(Expectation), "unreachable: passes when no connection is made", default=Expectation.REACHABLE
    )
    families: tuple[Family, ...] | None = option(Families(), "families dialled; auto: those the name has", default=None)
    vantages: tuple[VantageKind, ...] = option(
        ListOf(Choice(VantageKind), least=1), "from where it is dialled", default=(VantageKind.HOST, VantageKind.POD)
    )
    ca_file: str = option(FILE, "PEM file of the authorities trusted for it; empty: the system's", default="")
    timeout: float | None = option(
        Maybe(Duration()), "deadline of the whole connection", default=None, default_text="the layers' own"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Peers:
    count: int = option(Count(0, 100), "other nodes that this node dials, by a ring over the ready ones", default=5)
    port: int = option(PORT, "port dialled at a peer; `refused` proves the path as well", default=DEFAULT_PORT)
    layers: tuple[Layer, ...] = option(
        Layers(allowed=(Layer.ICMP, Layer.TCP), least=0), "what is probed at a peer", default=(Layer.ICMP, Layer.TCP)
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlName:
    name: str = option(DOMAIN_NAME, "a name that is asked of every server")
    expect: tuple[RecordType, ...] = option(
        ListOf(Choice(RecordType)),
        "which addresses it has in truth; empty: none",
        default=(RecordType.A, RecordType.AAAA),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Dns:
    names: tuple[ControlName, ...] | None = option(
        Maybe(ListOf(Section(ControlName), unique=False)),
        "control names and what is true of them",
        default=None,
        default_text="none; on a host without Kubernetes ipv4only.arpa",
    )
    servers: tuple[DnsServer, ...] = option(
        ListOf(AskedServer()), "nameservers asked; pod: those of the pod's own resolv.conf", default=(POD_SERVERS,)
    )
    allow: tuple[Net, ...] = option(
        ListOf(Cidr()), "further networks whose nameservers a pod may name and be asked", default=()
    )
    reference: tuple[DnsServer, ...] = option(
        ListOf(ReferenceServer(), unique=False),
        "resolvers trusted to tell what exists; asked about dns.names alone",
        default=(),
    )
    aaaa: AaaaPolicy = option(
        Choice(AaaaPolicy),
        "blocked: AAAA is withheld on purpose, dns_aaaa_blocked is then info",
        default=AaaaPolicy.SERVED,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceExpectation:
    namespaces: tuple[str, ...] = option(ListOf(GLOB, least=1), "namespaces it speaks of", default=("*",))
    policy: ServicePolicy = option(
        Choice(ServicePolicy), "prefer_dual_stack: a SingleStack Service there is a cause", default=ServicePolicy.ANY
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Expect:
    services: tuple[ServiceExpectation, ...] = option(
        ListOf(Section(ServiceExpectation), unique=False),
        "what Services are meant to be",
        default=(ServiceExpectation(),),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class DigestConfig:
    url: str = option(URL, "the cluster role's digest; empty: each node lists what it needs itself", default="")


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """The whole configuration. `node_name` is never empty once loaded; `dns.names` None means that the key was absent."""

    role: Role = option(
        Choice(Role),
        "node: a DaemonSet's member; cluster: one replica, cluster-wide causes; all: one process for the whole cluster",
        default=Role.NODE,
    )
    node_name: str = option(
        NODE_NAME, "the Node that this is", default="", default_text="$NODE_NAME, then the host name"
    )
    families: tuple[Family, ...] | None = option(
        Families(), "what pods of this cluster are meant to have; auto: what the cluster's objects say", default=None
    )
    inventory: InventoryConfig = option(Section(InventoryConfig), "the cluster's objects", default=InventoryConfig())
    round: RoundConfig = option(Section(RoundConfig), "pace", default=RoundConfig())
    timeouts: TimeoutsConfig = option(Section(TimeoutsConfig), "deadlines of single probes", default=TimeoutsConfig())
    pods: Pods = option(Section(Pods), "which pods are looked from", default=Pods())
    netns: NamedNamespaces = option(
        Section(NamedNamespaces), "named network namespaces, where there is no inventory", default=NamedNamespaces()
    )
    targets: tuple[TargetConfig, ...] = option(
        ListOf(Section(TargetConfig), unique=False), "what is dialled besides the cluster's own", default=()
    )
    peers: Peers = option(Section(Peers), "other nodes", default=Peers())
    dns: Dns = option(Section(Dns), "what is asked of nameservers", default=Dns())
    expect: Expect = option(Section(Expect), "what the cluster is meant to be", default=Expect())
    digest: DigestConfig = option(
        Section(DigestConfig), "what nodes learn from the cluster role", default=DigestConfig()
    )
