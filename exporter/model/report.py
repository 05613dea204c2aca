"""The result of a round: causes, findings, snapshot, report. The last values before exposition; no I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from exporter.model.cause import Cause, Role, Scope, Severity
from exporter.model.cluster.inventory import Inventory
from exporter.model.cni.network import UNKNOWN_NETWORK, PodNetwork
from exporter.model.dial import Dial, Dials
from exporter.model.dns import BlockKind, ResolvConf
from exporter.model.facts import HostFacts, PodFacts, ReaderStatus
from exporter.model.family import Family
from exporter.model.probe import Lookup, Observation, Told
from exporter.model.reason import Reason
from exporter.model.subject import Pair, Subject
from exporter.model.vantage import Vantage


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A cause that may explain: found in this report, or read from the digest (`elsewhere`).

    `pairs` are the failing (vantage, destination, family) of a path-like finding; empty for one that shows without
    traffic. `affects_destinations`: the Services, as they are dialled, that its subjects are endpoints of, and
    targets whose names its subjects do not resolve. `family`: the one that it breaks, where the cause may be about
    either.
    """

    cause: Cause
    severity: Severity
    subjects: tuple[Subject, ...]
    pairs: frozenset[Pair] = frozenset()
    affects_destinations: frozenset[Subject] = frozenset()
    family: Family | None = None
    elsewhere: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding(Found):
    """A cause that holds in one snapshot, with what a person can check by hand. `subjects` whole; reports cut them.

    `command` is the first command to run.
    """

    evidence: tuple[str, ...]
    command: str


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


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Snapshot:
    """Everything one round observed. `last`: each vantage's last probe, this round's included.

    A snapshot equals only itself, so that what is derived from it can be cached for it.
    """

    node: str
    role: Role
    started: float
    finished: float
    complete: bool
    inventory: Inventory
    host: Vantage | None
    pods: tuple[PodView, ...] = ()
    observations: tuple[Observation, ...] = ()
    last: tuple[Dial, ...] = ()
    before_last: tuple[Dial, ...] = ()  # the probe before that one, of the same vantages
    dials: tuple[Dials, ...] = ()  # the last ones of each vantage and target
    inspected: float = 0.0  # when the kernel's facts had been read
    lookups: tuple[Lookup, ...] = ()
    lookups_kept: tuple[Lookup, ...] = ()  # last answers per (vantage, server, name, type), this round's included
    lookups_before: tuple[Lookup, ...] = ()  # of each nameserver, the answers of the round before it was last asked
    told: tuple[Told, ...] = ()  # answers of the last minutes, oldest first for each question
    host_facts: HostFacts | None = None
    host_resolv_conf: ResolvConf | None = None
    readings: tuple[ReaderStatus, ...] = ()
    families: Mapping[Family, bool | None] = field(default_factory=dict)  # expected?
    family_evidence: Mapping[Family, tuple[str, ...]] = field(default_factory=dict)  # what names each

    @property
    def kept(self) -> tuple[Observation, ...]:
        """Each vantage's last results."""
        return tuple(o for dial in self.last for o in dial.observations)

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
    """`evidence`: why it is expected, as clauses; the first ones."""

    expected: bool | None
    ok: bool | None
    evidence: tuple[str, ...] = ()

    def because(self, family: Family) -> str:
        """In one line for a person; empty where the family is not expected or nothing is known to name it."""
        return f"{family.value} is expected because {'; '.join(self.evidence)}" if self.evidence else ""


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
    network: PodNetwork = UNKNOWN_NETWORK
    causes: tuple[CauseReport, ...] = ()
    checked: frozenset[Cause] = frozenset()  # those that this role could check
    unchecked: tuple[Unchecked, ...] = ()
    aaaa_blocks: Mapping[str, BlockKind] = field(default_factory=dict)  # server label -> kind
    predictions: Mapping[tuple[str, str, str, str], int] = field(default_factory=dict)  # libc, name, request, code
    inventory_age: float | None = None
