"""The report as `check` and /api/v1/report give it, to JSON and back (docs/specification.md section 6). Does no I/O.

`check` prints this value, whether the report is its own, of the running daemon or of another node. JSON of another
exporter is not trusted: `parse` validates and bounds it, and raises ReportFormatError and nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, cast

from exporter.config.schema import RUNBOOKS
from exporter.model.cause import Cause, Role, Severity
from exporter.model.cluster.inventory import Came
from exporter.model.family import FAMILIES, Family
from exporter.model.probe import NEUTRAL, Observation, Outcome
from exporter.model.report import CauseReport, FamilyReport, Report

VERSION = 1
LARGEST = 64 * 1024 * 1024  # bytes of a document
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
    """One layer of one probe. `vantage` is host or pod, `subject` names it, `target` is the label."""

    vantage: str
    subject: str
    target: str
    layer: str
    ip_family: str
    outcome: str
    seconds: float | None
    detail: str
    failed: bool  # it counts, and the layer did not do what is expected of the target; the outcome does not show that


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A report for its readers. `time` is Unix seconds here, RFC 3339 in JSON."""

    node: str
    role: str
    time: float
    families: Mapping[Family, FamilyReport]
    causes: tuple[CauseEntry, ...] = ()
    unchecked: tuple[tuple[str, str], ...] = ()
    probes: tuple[ProbeEntry, ...] = ()
    network: str = ""  # the pod network, and by what it is known; empty where it is not
    blind: str = ""  # why nothing of the inventory was ever read; empty where something was, or none is configured

    @property
    def unexplained(self) -> tuple[CauseEntry, ...]:
        return tuple(c for c in self.causes if c.explained_by is None)


def alert_name(cause: Cause) -> str:
    """The alert of a cause, which is also its runbook's name: DualstackDnsAaaaBlocked for dns_aaaa_blocked."""
    return f"Dualstack{''.join(word.capitalize() for word in cause.split('_'))}"


def runbook(cause: Cause, base: str = RUNBOOKS) -> str:
    """The address of the cause's runbook; `base` is `runbooks.url` of the configuration."""
    return f"{(base or RUNBOOKS).rstrip('/')}/{alert_name(cause)}.md"


def place_of(cause: str) -> int:
    """The cause's place in the table; one that is not known comes last."""
    return _ORDER.get(cause, len(_ORDER))


def document_of(report: Report, runbooks: str = RUNBOOKS) -> Document:
    snapshot = report.snapshot
    inventory = snapshot.inventory
    return Document(
        node=snapshot.node,
        role=snapshot.role.value,
        time=snapshot.finished,
        families={family: report.families.get(family, UNKNOWN) for family in FAMILIES},
        causes=tuple(_cause_entry(item, runbooks) for item in report.causes),
        unchecked=tuple((u.cause.value, u.reason.value) for u in report.unchecked),
        probes=tuple(_probe_entry(o) for o in snapshot.kept or snapshot.observations),
        network=report.network.described,
        blind=(inventory.problem or "no data was received") if inventory.came is Came.NOTHING else "",
    )


def _cause_entry(item: CauseReport, runbooks: str) -> CauseEntry:
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
        runbook=runbook(finding.cause, runbooks),
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
        "families": {family.value: _family(state) for family, state in document.families.items()},
        "causes": [{**_members(cause), "since": rfc3339(cause.since)} for cause in document.causes],
        "unchecked": [{"cause": cause, "reason": reason} for cause, reason in document.unchecked],
        "probes": [_members(probe) for probe in document.probes],
        **({"network": document.network} if document.network else {}),
        **({"inventory": {"problem": document.blind}} if document.blind else {}),
    }


def _family(state: FamilyReport) -> dict[str, Any]:
    """Without evidence, no member for it."""
    return {name: value for name, value in _members(state).items() if name != "evidence" or value}


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
    """The exit status of `check`: 2 without a usable report, 1 with a fault.

    A fault is an unexplained cause of this severity or above, or an expected family that does not work.
    """
    reports = tuple(documents)
    if not reports or any(report.blind for report in reports):
        return 2
    broken = any(state.expected and state.ok is False for report in reports for state in report.families.values())
    return int(broken or any(c.severity.rank >= fail_on.rank for report in reports for c in report.unexplained))


class ReportFormatError(ValueError):
    """The input is no report of this version; the message is one line."""


def parse(body: bytes) -> Document:
    if len(body) > LARGEST:
        raise ReportFormatError(f"the report is larger than {LARGEST} bytes")
    try:
        data = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise ReportFormatError(f"the report is not JSON: {str(error)[:100]}") from error
    fields = _Fields(data, "report")
    if fields.number("version") != VERSION:
        raise ReportFormatError("the report is of another version")
    role = fields.text("role")
    if role not in set(Role):
        raise ReportFormatError("report.role is unknown")
    families = fields.member("families")
    return Document(
        node=fields.text("node"),
        role=role,
        time=fields.time("time"),
        families={family: _parse_family(_Fields(families.value(family.value), "families[]")) for family in FAMILIES},
        causes=tuple(_parse_cause(item) for item in fields.members("causes")),
        unchecked=tuple((item.text("cause"), item.text("reason")) for item in fields.members("unchecked")),
        probes=tuple(_parse_probe(item) for item in fields.members("probes")),
        network=fields.text("network") if "network" in fields else "",
        blind=fields.member("inventory").text("problem") if "inventory" in fields else "",
    )


def _parse_family(fields: _Fields) -> FamilyReport:
    # Exporters up to version 0.1.1 do not send the evidence.
    evidence = fields.texts("evidence") if "evidence" in fields else ()
    return FamilyReport(expected=fields.flag("expected"), ok=fields.flag("ok"), evidence=evidence)


def _parse_cause(fields: _Fields) -> CauseEntry:
    severity = fields.text("severity")
    if severity not in set(Severity):
        raise ReportFormatError("causes[].severity is unknown")
    return CauseEntry(
        cause=fields.text("cause"),
        scope=fields.text("scope"),
        severity=Severity(severity),
        since=fields.time("since"),
        subjects=fields.texts("subjects"),
        subjects_total=int(fields.number("subjects_total")),
        explained_by=None if fields.value("explained_by") is None else fields.text("explained_by"),
        evidence=fields.texts("evidence"),
        command=fields.text("command"),
        runbook=fields.text("runbook"),
    )


def _parse_probe(fields: _Fields) -> ProbeEntry:
    outcome = fields.text("outcome")
    return ProbeEntry(
        vantage=fields.text("vantage"),
        subject=fields.text("subject"),
        target=fields.text("target"),
        layer=fields.text("layer"),
        ip_family=fields.text("ip_family"),
        outcome=outcome,
        seconds=None if fields.value("seconds") is None else fields.number("seconds"),
        detail=fields.text("detail"),
        # Exporters up to version 0.1.1 do not send it.
        failed=bool(fields.flag("failed")) if "failed" in fields else outcome not in {Outcome.OK, *NEUTRAL},
    )


class _Fields:
    """A JSON object whose members are read by type; one of another type is a ReportFormatError that names its place."""

    def __init__(self, data: object, place: str) -> None:
        if not isinstance(data, dict):
            raise ReportFormatError(f"{place} is not an object")
        self._data = cast("dict[str, object]", data)
        self._place = place

    def __contains__(self, name: str) -> bool:
        return name in self._data

    def value(self, name: str) -> object:
        if name not in self._data:
            raise ReportFormatError(f"{self._place}.{name} is missing")
        return self._data[name]

    def text(self, name: str) -> str:
        value = self.value(name)
        if not isinstance(value, str):
            raise ReportFormatError(f"{self._place}.{name} is not a string")
        return value

    def number(self, name: str) -> float:
        value = self.value(name)
        # json also reads NaN, Infinity and integers of any length: none of them is a count or a duration.
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 2**53:
            raise ReportFormatError(f"{self._place}.{name} is not a number")
        return float(value)

    def flag(self, name: str) -> bool | None:
        value = self.value(name)
        if value is not None and not isinstance(value, bool):
            raise ReportFormatError(f"{self._place}.{name} is neither true, false nor null")
        return value

    def member(self, name: str) -> _Fields:
        return _Fields(self.value(name), name)

    def members(self, name: str) -> list[_Fields]:
        return [_Fields(item, f"{name}[]") for item in self.items(name)]

    def items(self, name: str) -> list[object]:
        value = self.value(name)
        if not isinstance(value, list):
            raise ReportFormatError(f"{self._place}.{name} is not a list")
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        items = self.items(name)
        if not all(isinstance(item, str) for item in items):
            raise ReportFormatError(f"{self._place}.{name} has an item that is not a string")
        return tuple(cast("list[str]", items))

    def time(self, name: str) -> float:
        try:
            return datetime.strptime(self.text(name), "%Y-%m-%dT%H:%M:%S%z").timestamp()
        except (ValueError, OverflowError) as error:
            raise ReportFormatError(f"{self._place}.{name} is not a time in RFC 3339 format") from error
