"""What is asked of the network and the result: checks, observations, lookups. Between plan and diagnosis; no I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, StrEnum
from functools import cached_property
from typing import Self

from exporter.model.dns import Reply
from exporter.model.family import Address, Family, family_of
from exporter.model.subject import Subject, SubjectKind
from exporter.model.vantage import Vantage


class Layer(StrEnum):
    """The layers of a probe in order, each with what it does in words and its default deadline in seconds."""

    ICMP = "icmp", "echo", 1.0
    TCP = "tcp", "TCP connect", 3.0
    TLS = "tls", "TLS handshake", 5.0
    HTTP = "http", "HTTP request", 5.0

    step: str
    timeout: float

    def __new__(cls, value: str, step: str, timeout: float) -> Self:
        layer = str.__new__(cls, value)
        layer._value_, layer.step, layer.timeout = value, step, timeout
        return layer


class Outcome(StrEnum):
    """How a probe of one layer ended; closed, exported as a label."""

    OK = "ok"
    TIMEOUT = "timeout"
    REFUSED = "refused"
    RESET = "reset"
    UNREACHABLE = "unreachable"
    PROHIBITED = "prohibited"
    TOO_BIG = "too_big"
    NO_ADDRESS = "no_address"
    NOT_REACHED = "not_reached"
    NOT_ALLOWED = "not_allowed"
    TLS_NAME = "tls_name"
    TLS_CHAIN = "tls_chain"
    TLS_EXPIRED = "tls_expired"
    TLS_PROTOCOL = "tls_protocol"
    PROTOCOL = "protocol"
    STATUS = "status"
    NO_PERMISSION = "no_permission"
    VANISHED = "vanished"
    LOCAL = "local"


# Outcomes that show nothing about the path: they enter no ratio.
NEUTRAL = frozenset({Outcome.NOT_REACHED, Outcome.NOT_ALLOWED, Outcome.NO_PERMISSION, Outcome.VANISHED, Outcome.LOCAL})


class Group(StrEnum):
    """Groups of targets, all but `apiserver` needed for family_ok (docs/specification.md section 8)."""

    SERVICE = "service"
    PEERS = "peers"
    CLUSTER_DNS = "cluster_dns"
    APISERVER = "apiserver"
    OUTSIDE = "outside"


@dataclass(frozen=True, kw_only=True)
class Target:
    """Something to dial, with an address of each family that it is dialled over, and further ones of its name."""

    name: str  # the label `target`: a configured name, or service, peers, cluster_dns, apiserver
    group: Group
    addresses: Mapping[Family, Address | None]  # None: the name has no address of that family; absent: not asked
    port: int
    layers: tuple[Layer, ...] = (Layer.TCP,)
    host: str = ""
    server_name: str = ""  # what TLS must prove; empty: the host name. Without either, TLS is not asked
    path: str = "/"
    statuses: tuple[tuple[int, int], ...] = ((200, 399),)
    expect_reachable: bool = True
    ca_file: str = ""
    timeout: float | None = None
    peer: str = ""  # the node behind a peers target
    others: Mapping[Family, tuple[Address, ...]] = field(default_factory=dict)  # tried in order after `addresses`
    refused: str = ""  # why a lack of addresses shows nothing: the vantage's own nameservers may not be asked

    @cached_property
    def subject(self) -> Subject:
        return Subject.of(SubjectKind.PEER, self.peer) if self.peer else Subject.of(SubjectKind.TARGET, self.name)

    @cached_property
    def deepest(self) -> Layer:
        """The deepest configured layer: where a target passes or not. icmp is deepest only where it is the only one."""
        return next((layer for layer in reversed(Layer) if layer in self.layers), Layer.ICMP)


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds for each layer, and one deadline over all layers of a check."""

    layers: Mapping[Layer, float] = field(default_factory=lambda: {layer: layer.timeout for layer in Layer})
    whole: float = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One dial: all wanted layers of one target from one vantage over one family. icmp has a socket of its own."""

    vantage: Vantage
    target: Target
    family: Family
    timeouts: Timeouts = field(default_factory=Timeouts)
    start: float = 0.0  # jitter: seconds after the round's beginning
    at: Address | None = None  # the one of the target's addresses that is tried, where it has several

    @property
    def address(self) -> Address | None:
        return self.at or self.target.addresses.get(self.family)


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """The result of one layer of one check."""

    vantage: Vantage
    target: Target
    layer: Layer
    family: Family
    outcome: Outcome
    seconds: float | None = None  # of this layer; None where nothing was timed
    detail: str = ""  # for people (log, page, report), never a label
    time: float = 0.0  # Unix seconds
    address: Address | None = None
    full_size: Outcome | None = None  # icmp only: the result of the full-size echo
    full_size_bytes: int = 0  # of its IP packet
    expires: float | None = None  # tls only: the earliest notAfter of the chain
    policy: bool = False  # an egress policy selects the pod: kept, but in no ratio and no path cause

    @property
    def passed(self) -> bool:
        """Whether the layer did what is expected of the target; `refused` from a peer proves the path."""
        if not self.target.expect_reachable:
            return self.outcome not in NEUTRAL and self.outcome is not Outcome.OK
        if self.target.group is Group.PEERS and self.outcome is Outcome.REFUSED:
            return True
        return self.outcome is Outcome.OK

    @property
    def counted(self) -> bool:
        """Whether it enters ratios and causes."""
        return self.outcome not in NEUTRAL and not self.policy


class LookupOutcome(StrEnum):
    """How a DNS question ended; closed, exported as a label."""

    ANSWER = "answer"
    NODATA = "nodata"
    NXDOMAIN = "nxdomain"
    SERVFAIL = "servfail"
    REFUSED = "refused"
    RCODE = "rcode"
    TIMEOUT = "timeout"
    UNREACHABLE = "unreachable"
    MALFORMED = "malformed"
    NOT_ALLOWED = "not_allowed"
    NOT_ASKED = "not_asked"


class Purpose(StrEnum):
    """Why a question is asked; it decides which rule may use the answer."""

    PULSE = "pulse"  # one name's AAAA from each sampled pod
    VERDICT = "verdict"  # the AAAA verdict set
    PREDICTION = "prediction"  # as a libc asks: per search candidate, without EDNS
    REFERENCE = "reference"  # dns.names asked of dns.reference
    PARALLEL = "parallel"  # A and AAAA from one socket, as libcs send them
    AGAIN = "again"  # once more: answers of this round or the last minutes cast doubt
    TARGET = "target"  # resolving a target's host name


@dataclass(frozen=True, slots=True)
class Nameserver:
    """A nameserver as asked: its address, and the bounded label under which it appears."""

    address: Address
    label: str
    port: int = 53

    @property
    def family(self) -> Family:
        return family_of(self.address)

    @property
    def subject(self) -> Subject:
        return Subject.of(SubjectKind.SERVER, self.label)


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    vantage: Vantage
    server: Nameserver
    name: str  # absolute, without the final dot
    qtype: str  # A | AAAA | MX | PTR
    label: str  # its name in metrics: a configured name, canary or random
    purpose: Purpose
    edns: bool = True
    allowed: bool = True  # False: only the pod's own file names this server; outcome not_allowed, nothing is sent
    timeout: float = 2.0
    start: float = 0.0
    sends: int = 2  # datagrams at most: one lost is no failure, unless it is losses that are counted


@dataclass(frozen=True, slots=True)
class Together:
    """Questions of one vantage to one nameserver that leave one socket, at once or each after the reply before it."""

    questions: tuple[Question, ...]
    start: float = 0.0
    in_turn: bool = False


class Lost(Enum):
    """When the reply of A or AAAA is lost that comes if it is asked alone."""

    NEVER = "never"
    AT_ONCE = "at_once"  # if both leave one socket at once
    IN_TURN = "in_turn"  # also if the second one leaves it after the first one's reply


@dataclass(frozen=True, slots=True)
class Heard:
    """One message with the id of the query, as it came, whatever is in it."""

    seconds: float
    wire: bytes
    stream: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Lookup:
    question: Question
    outcome: LookupOutcome
    seconds: float | None = None
    reply: Reply | None = None  # None where none came
    detail: str = ""
    time: float = 0.0
    truncated: bool = False  # the UDP reply had TC set, and TCP was used
    datagram: Reply | None = None  # where truncated: the UDP reply that TCP replaced; musl 1.2.3 uses that one
    heard: tuple[Heard, ...] = ()  # of a prediction alone: what a libc would have received
    lost: Lost = Lost.NEVER  # of a prediction alone


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What a nameserver answered to one question, as far as it is kept for minutes."""

    vantage: Vantage
    server: Nameserver
    name: str  # in lower case; random.PARENT for a random one, whose label changes
    qtype: str
    edns: bool
    outcome: LookupOutcome
    real: bool  # the answer had the record, with a usable address
    alias: bool  # the record was another name's (CNAME)
    time: float
    round: float  # the same for all questions of one round
