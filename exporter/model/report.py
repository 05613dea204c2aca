"""The result of a round: causes, findings, snapshot, report. The last values before exposition; no I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from exporter.model.dns import ResolvConf
from exporter.model.facts import HostFacts, PodFacts, ReaderStatus
from exporter.model.family import Family
from exporter.model.inventory import Inventory
from exporter.model.probe import Lookup, Observation, Told
from exporter.model.reason import Reason
from exporter.model.subject import Subject
from exporter.model.vantage import Vantage


class Scope(StrEnum):
    DNS = "dns"
    PATH = "path"
    NODE = "node"
    POD = "pod"
    CLUSTER = "cluster"


class Severity(StrEnum):
    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"

    @property
    def rank(self) -> int:
        return ("info", "warning", "critical").index(self.value)


class Role(StrEnum):
    NODE = "node"
    CLUSTER = "cluster"
    ALL = "all"


class Cause(StrEnum):
    """What a person would fix: the closed set of docs/specification.md section 7, in its order (ties go by it)."""

    DNS_AAAA_BLOCKED = "dns_aaaa_blocked"
    DNS_A_BLOCKED = "dns_a_blocked"
    DNS_UNREACHABLE = "dns_unreachable"
    DNS_ANSWERS_DIFFER = "dns_answers_differ"
    DNS_QUERIES_LOST = "dns_queries_lost"
    DNS_SEARCH_BREAKS_MUSL = "dns_search_breaks_musl"
    SERVICE_AAAA_MISSING = "service_aaaa_missing"
    IPV6_TCP_BLOCKED = "ipv6_tcp_blocked"
    IPV6_UNREACHABLE = "ipv6_unreachable"
    IPV6_MTU_BLACKHOLE = "ipv6_mtu_blackhole"
    IPV6_TLS_FAILED = "ipv6_tls_failed"
    TARGET_DOWN = "target_down"
    NODE_IPV6_DISABLED = "node_ipv6_disabled"
    NODE_NO_IPV6_ADDRESS = "node_no_ipv6_address"
    NODE_NO_IPV6_DEFAULT_ROUTE = "node_no_ipv6_default_route"
    NODE_FORWARDING_OFF = "node_forwarding_off"
    NODE_ACCEPT_RA_IGNORED = "node_accept_ra_ignored"
    NAT_CHAIN_UNHOOKED = "nat_chain_unhooked"
    NAT_MASQUERADE_MISSING = "nat_masquerade_missing"
    NAT_POOL_NOT_IN_SET = "nat_pool_not_in_set"
    NAT_KUBE_PROXY_MISSING = "nat_kube_proxy_missing"
    VXLAN_DEVICE_MISSING = "vxlan_device_missing"
    VXLAN_DEVICE_DOWN = "vxlan_device_down"
    VXLAN_MISCONFIGURED = "vxlan_misconfigured"
    VXLAN_PEER_INCOMPLETE = "vxlan_peer_incomplete"
    POD_ROUTE_MISSING = "pod_route_missing"
    POD_IPV6_DISABLED = "pod_ipv6_disabled"
    POD_IPV6_MISSING = "pod_ipv6_missing"
    POD_IPV6_ADDRESS_UNUSABLE = "pod_ipv6_address_unusable"
    POD_IP_MISMATCH = "pod_ip_mismatch"
    POD_NO_IPV6_DEFAULT_ROUTE = "pod_no_ipv6_default_route"
    POD_LISTENS_IPV4_ONLY = "pod_listens_ipv4_only"
    NODE_POD_CIDR_MISSING = "node_pod_cidr_missing"
    NODE_INTERNAL_IP_MISSING = "node_internal_ip_missing"
    CALICO_NODE_ADDRESS_MISSING = "calico_node_address_missing"
    SERVICE_IPV6_MISSING = "service_ipv6_missing"
    ENDPOINTSLICE_IPV6_MISSING = "endpointslice_ipv6_missing"
    LOADBALANCER_IPV6_MISSING = "loadbalancer_ipv6_missing"
    IPPOOL_IPV6_MISSING = "ippool_ipv6_missing"
    IPPOOL_EXHAUSTED = "ippool_exhausted"
    IPPOOL_NAT_OUTGOING_OFF = "ippool_nat_outgoing_off"
    IPPOOL_VXLAN_MODE_MISMATCH = "ippool_vxlan_mode_mismatch"
    COREDNS_TEMPLATE_BLOCKS_AAAA = "coredns_template_blocks_aaaa"
    CNI_NOT_ASSIGNING_IPV6 = "cni_not_assigning_ipv6"
    FELIX_IPV6_OFF = "felix_ipv6_off"
    CIDR_OVERLAP = "cidr_overlap"
    CIDR_UNSUITABLE = "cidr_unsuitable"
    NETWORK_POLICY_IPV6_GAP = "network_policy_ipv6_gap"
    CONTROL_PLANE_FLAGS = "control_plane_flags"


@dataclass(frozen=True, slots=True, order=True)
class Pair:
    """A vantage and a destination, both as subjects, and the family between them: what explanation goes by."""

    vantage: Subject
    destination: Subject
    family: Family


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A cause that holds in one snapshot, with what a person can check by hand. `subjects` whole; reports cut them.

    `pairs` are the failing (vantage, destination, family) of a path-like finding; empty for findings that stand by
    themselves. `command` is the first command to run.
    """

    cause: Cause
    severity: Severity
    subjects: tuple[Subject, ...]
    evidence: tuple[str, ...]
    command: str
    pairs: frozenset[Pair] = frozenset()
    kind: str = ""  # a finer kind where the cause has one (dualstack_dns_aaaa_block)
    affects_destinations: frozenset[Subject] = (
        frozenset()
    )  # destinations behind which its subjects stand, as endpoints of a Service


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A cause that may explain: found in this report, or told by the digest (`elsewhere`)."""

    cause: Cause
    severity: Severity
    subjects: tuple[Subject, ...]
    pairs: frozenset[Pair] = frozenset()
    elsewhere: bool = False
    affects_destinations: frozenset[Subject] = frozenset()  # destinations behind which its subjects stand


@dataclass(frozen=True, slots=True)
class Unchecked:
    cause: Cause
    reason: Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class PodView:
    """One pod of this node in this round: the vantage, its kernel facts and its resolv.conf, where read."""

    vantage: Vantage
    facts: PodFacts | None = None
    unread: Reason | None = None  # where the namespace could not be read
    resolv_conf: ResolvConf | None = None
    resolv_conf_unread: Reason | None = None
    libc: frozenset[str] | None = None  # of glibc, musl; None: not read


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """Everything one round observed. `kept`: each vantage's last results, this round's included."""

    node: str
    role: Role
    started: float
    finished: float
    complete: bool
    inventory: Inventory
    host: Vantage | None
    pods: tuple[PodView, ...] = ()
    observations: tuple[Observation, ...] = ()
    kept: tuple[Observation, ...] = ()
    kept_before: tuple[Observation, ...] = ()  # the probe before the kept one, of the same vantages
    # At index n the results of each vantage's dial before its last n dials of a target, at most six per target.
    history: tuple[tuple[Observation, ...], ...] = ()
    inspected: float = 0.0  # when the kernel's facts had been read
    lookups: tuple[Lookup, ...] = ()
    lookups_kept: tuple[Lookup, ...] = ()  # last answers per (vantage, server, name, type), this round's included
    lookups_before: tuple[Lookup, ...] = ()  # of each nameserver, the answers of the round before it was last asked
    told: tuple[Told, ...] = ()  # answers of the last minutes, oldest first for each question
    host_facts: HostFacts | None = None
    host_resolv_conf: ResolvConf | None = None
    readings: tuple[ReaderStatus, ...] = ()
    families: Mapping[Family, bool | None] = field(default_factory=dict)  # expected?

    @property
    def kernel(self) -> HostFacts:
        """The host's facts; where none were read, facts of which each part is None."""
        return self.host_facts or HostFacts()


@dataclass(frozen=True, slots=True, kw_only=True)
class CauseReport:
    """One finding as reported: with its age and what explains it."""

    finding: Finding
    scope: Scope
    since: float
    explained_by: Cause | None = None
    explained_elsewhere: bool = False  # by a cause of the digest


@dataclass(frozen=True, slots=True)
class FamilyReport:
    expected: bool | None
    ok: bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """What a libc would return for one name: code (OK or EAI_*), addresses, seconds an application would wait."""

    libc: str  # glibc | musl | musl_1_2_3
    name: str
    request: str  # any | 4 | 6
    code: str
    addresses: tuple[str, ...] = ()
    seconds: float = 0.0
    candidate: str = ""  # the search candidate that decided
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The verdict of a round: what every exposition reads."""

    snapshot: Snapshot
    families: Mapping[Family, FamilyReport]
    causes: tuple[CauseReport, ...] = ()
    checked: frozenset[Cause] = frozenset()  # those that this role could check
    unchecked: tuple[Unchecked, ...] = ()
    aaaa_blocks: Mapping[str, str] = field(default_factory=dict)  # server label -> kind
    predictions: Mapping[tuple[str, str, str, str], int] = field(default_factory=dict)  # libc, name, request, code
    inventory_age: float | None = None
