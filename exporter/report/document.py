"""The report as `check` and /api/v1/report give it, and as JSON (docs/specification.md section 6). Does no I/O.

`check` prints this value, whether the report is its own, of the running daemon or of another node. reading.py is the
way back from JSON.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from exporter.model.family import FAMILIES, Family
from exporter.model.inventory import Came
from exporter.model.probe import NEUTRAL, Observation
from exporter.model.report import Cause, CauseReport, FamilyReport, Report, Severity

RUNBOOKS = "https://github.com/dualstack-exporter/dualstack-exporter/blob/main/alerts/runbooks/"
VERSION = 1
SUBJECTS = 100
UNKNOWN = FamilyReport(None, None)

_ORDER: Mapping[str, int] = {cause.value: place for place, cause in enumerate(Cause)}


@dataclass(frozen=True, slots=True, kw_only=True)
class CauseEntry:
    """One finding. `cause` and `explained_by` are text: a newer exporter may know more causes than this one."""

    cause: str
    scope: str
    severity: Severity
    since: float
    subjects: tuple[str, ...]
    subjects_total: int
    explained_by: str | None
    evidence: tuple[str, ...]
    command: str
    runbook: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeEntry:
    """One layer of one probe. `vantage` is host or pod, `subject` names it, `target` is the label.

    `failed`: it counts and the layer did not do what is expected of the target; the outcome does not show that.
    """

    vantage: str
    subject: str
    target: str
    layer: str
    ip_family: str
    outcome: str
    seconds: float | None
    detail: str
    failed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A report for its readers. `time` is Unix seconds here, RFC 3339 in JSON.

    `blind` is why nothing of the inventory was ever read; empty where something was, or none is configured.
    """

    node: str
    role: str
    time: float
    families: Mapping[Family, FamilyReport]
    causes: tuple[CauseEntry, ...] = ()
    unchecked: tuple[tuple[str, str], ...] = ()
    probes: tuple[ProbeEntry, ...] = ()
    blind: str = ""

    @property
    def unexplained(self) -> tuple[CauseEntry, ...]:
        return tuple(c for c in self.causes if c.explained_by is None)


def runbook(cause: Cause) -> str:
    """The address of the cause's runbook, a file named after the alert: DualstackDnsAaaaBlocked.md."""
    return f"{RUNBOOKS}Dualstack{''.join(word.capitalize() for word in cause.split('_'))}.md"


def place_of(cause: str) -> int:
    """The cause's place in the table; one that is not known comes last."""
    return _ORDER.get(cause, len(_ORDER))


def document_of(report: Report) -> Document:
    """The report for its readers."""
    snapshot = report.snapshot
    inventory = snapshot.inventory
    return Document(
        node=snapshot.node,
        role=snapshot.role.value,
        time=snapshot.finished,
        families={family: report.families.get(family, UNKNOWN) for family in FAMILIES},
        causes=tuple(_cause_entry(item) for item in report.causes),
        unchecked=tuple((u.cause.value, u.reason.value) for u in report.unchecked),
        probes=tuple(_probe_entry(o) for o in snapshot.kept or snapshot.observations),
        blind=(inventory.problem or "no data was received") if inventory.came is Came.NOTHING else "",
    )


def _cause_entry(item: CauseReport) -> CauseEntry:
    finding = item.finding
    return CauseEntry(
        cause=finding.cause.value,
        scope=item.scope.value,
        severity=finding.severity,
        since=item.since,
        subjects=finding.subjects[:SUBJECTS],
        subjects_total=len(finding.subjects),
        explained_by=item.explained_by.value if item.explained_by is not None else None,
        evidence=finding.evidence,
        command=finding.command,
        runbook=runbook(finding.cause),
    )


def _probe_entry(observation: Observation) -> ProbeEntry:
    return ProbeEntry(
        vantage=observation.vantage.kind,
        subject=observation.vantage.subject,
        target=observation.target.name,
        layer=observation.layer.value,
        ip_family=observation.family.value,
        outcome=observation.outcome.value,
        seconds=None if observation.seconds is None else round(observation.seconds, 6),
        detail=_detail(observation),
        failed=observation.counted and not observation.passed,
    )


def _detail(observation: Observation) -> str:
    """The observation's own detail, after the peer and what makes its outcome misleading."""
    peer = f"peer/{observation.target.peer}" if observation.target.peer else ""
    expected = ""
    if observation.policy and not observation.passed:
        expected = "an egress policy selects the pod"
    elif not observation.target.expect_reachable and observation.outcome not in NEUTRAL:
        expected = "as expected" if observation.passed else "connected, and should not"
    return ": ".join(text for text in (expected, peer, observation.detail) if text)


def encode(document: Document) -> dict[str, Any]:
    """The JSON object of docs/specification.md section 6."""
    return {
        "version": VERSION,
        "node": document.node,
        "role": document.role,
        "time": rfc3339(document.time),
        "families": {family.value: _members(state) for family, state in document.families.items()},
        "causes": [{**_members(cause), "since": rfc3339(cause.since)} for cause in document.causes],
        "unchecked": [{"cause": cause, "reason": reason} for cause, reason in document.unchecked],
        "probes": [_members(probe) for probe in document.probes],
        **({"inventory": {"problem": document.blind}} if document.blind else {}),
    }


def _members(entry: CauseEntry | FamilyReport | ProbeEntry) -> dict[str, Any]:
    return {name: getattr(entry, name) for name in entry.__slots__}


def to_json(documents: Document | Iterable[Document]) -> str:
    """One report as an object, several as a list; indented, and ASCII only, so that no terminal can be harmed by it."""
    value: Any = encode(documents) if isinstance(documents, Document) else [encode(document) for document in documents]
    return json.dumps(value, indent=1)


def rfc3339(seconds: float) -> str:
    """Unix seconds as UTC, to the second."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def few(names: Sequence[str], most: int, total: int = 0) -> str:
    """The first names, and how many more there are: of these, or of a larger `total`."""
    more = max(total, len(names)) - min(len(names), most)
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")


def age(seconds: float) -> str:
    """A duration in one unit: small numbers of the smaller unit, then the larger one."""
    for unit, length in (("days", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{int(seconds // length)} {unit}"
    return f"{max(0, int(seconds))} s"


def exit_code(documents: Iterable[Document], fail_on: Severity = Severity.WARNING) -> int:
    """The exit status of `check`: 1 with an unexplained cause of this severity or above, 2 without a usable report."""
    reports = tuple(documents)
    if not reports or any(report.blind for report in reports):
        return 2
    return int(any(c.severity.rank >= fail_on.rank for report in reports for c in report.unexplained))
