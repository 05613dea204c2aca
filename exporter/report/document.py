"""The report as it is told to others, and as JSON (contract section 6). Between a Report and whoever reads it; reading.py has the way back.

`check` prints every report through this value, whether it was made here, by the running daemon or on another node. No
I/O.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from exporter.diagnosis.engine.causes import RUNBOOKS
from exporter.model.family import FAMILIES, Family
from exporter.model.inventory import Came
from exporter.model.probe import NEUTRAL, Group, Observation, Outcome
from exporter.model.report import Cause, CauseReport, FamilyReport, Report, Severity

VERSION = 1
SUBJECTS = 100

# What `detail` begins with where the outcome alone does not tell whether the probe failed; `ProbeEntry.failed` knows it
# again.
AS_EXPECTED = "as expected: "
UNEXPECTED = "connected, and should not: "
POLICY = "an egress policy selects the pod: "


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
    """One layer of one probe. `vantage` is host or pod, `subject` names it, `target` is the label."""

    vantage: str
    subject: str
    target: str
    layer: str
    ip_family: str
    outcome: str
    seconds: float | None
    detail: str

    @property
    def failed(self) -> bool:
        """Whether this counts as a failure: not what says nothing of the path, nor what was meant to fail."""
        if self.detail.startswith(UNEXPECTED):
            return True
        if self.outcome in {Outcome.OK, *NEUTRAL} or self.detail.startswith((AS_EXPECTED, POLICY)):
            return False
        return not (self.target == Group.PEERS and self.outcome == Outcome.REFUSED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A report as it is told to others. `time` is Unix seconds here, RFC 3339 in JSON."""

    node: str
    role: str
    time: float
    families: Mapping[Family, FamilyReport]
    causes: tuple[CauseEntry, ...] = ()
    unchecked: tuple[tuple[str, str], ...] = ()
    probes: tuple[ProbeEntry, ...] = ()
    blind: str = (
        ""  # why nothing at all of the inventory was ever read; empty where something was, or none is meant to be
    )

    @property
    def unexplained(self) -> tuple[CauseEntry, ...]:
        return tuple(c for c in self.causes if c.explained_by is None)


def runbook(cause: Cause) -> str:
    """The address of the cause's runbook; its file is named after the alert, DualstackDnsAaaaBlocked for dns_aaaa_blocked."""
    return f"{RUNBOOKS}Dualstack{''.join(word.capitalize() for word in cause.split('_'))}.md"


def document_of(report: Report) -> Document:
    """What is told of a report."""
    snapshot = report.snapshot
    inventory = snapshot.inventory
    return Document(
        node=snapshot.node,
        role=snapshot.role.value,
        time=snapshot.finished,
        families={family: report.families.get(family, FamilyReport(None, None)) for family in FAMILIES},
        causes=tuple(_cause_entry(item) for item in report.causes),
        unchecked=tuple((u.cause.value, u.reason.value) for u in report.unchecked),
        probes=tuple(_probe_entry(o) for o in snapshot.kept or snapshot.observations),
        blind=(inventory.problem or "nothing came of it") if inventory.came is Came.NOTHING else "",
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
    )


def _detail(observation: Observation) -> str:
    peer = f"peer/{observation.target.peer}" if observation.target.peer else ""
    detail = ": ".join(text for text in (peer, observation.detail) if text)
    if observation.policy and not observation.passed:
        return POLICY + detail
    if not observation.target.expect_reachable and observation.outcome not in NEUTRAL:
        return (AS_EXPECTED if observation.passed else UNEXPECTED) + detail
    return detail


def encode(document: Document) -> dict[str, Any]:
    """The JSON object of contract section 6."""
    return {
        "version": VERSION,
        "node": document.node,
        "role": document.role,
        "time": rfc3339(document.time),
        "families": {f.value: {"expected": s.expected, "ok": s.ok} for f, s in document.families.items()},
        "causes": [_encode_cause(c) for c in document.causes],
        "unchecked": [{"cause": cause, "reason": reason} for cause, reason in document.unchecked],
        "probes": [{name: getattr(p, name) for name in ProbeEntry.__slots__} for p in document.probes],
        **({"inventory": {"problem": document.blind}} if document.blind else {}),
    }


def _encode_cause(entry: CauseEntry) -> dict[str, Any]:
    return {
        "cause": entry.cause,
        "scope": entry.scope,
        "severity": entry.severity.value,
        "since": rfc3339(entry.since),
        "subjects": list(entry.subjects),
        "subjects_total": entry.subjects_total,
        "explained_by": entry.explained_by,
        "evidence": list(entry.evidence),
        "command": entry.command,
        "runbook": entry.runbook,
    }


def to_json(documents: Document | Iterable[Document]) -> str:
    """One report as an object, several as a list; indented, and ASCII alone so that no terminal and no foreign text can break it."""
    value: Any = encode(documents) if isinstance(documents, Document) else [encode(document) for document in documents]
    return json.dumps(value, indent=1)


def rfc3339(seconds: float) -> str:
    """Unix seconds as UTC, to the second."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def exit_code(documents: Iterable[Document], fail_on: Severity = Severity.WARNING) -> int:
    """What `check` exits with: 0 without an unexplained cause of this severity or above, 1 with one, 2 without a report to rely on."""
    reports = tuple(documents)
    if not reports or any(report.blind for report in reports):
        return 2
    return int(any(c.severity.rank >= fail_on.rank for report in reports for c in report.unexplained))
