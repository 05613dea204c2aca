"""Reads the JSON report of another exporter, or of the running daemon, back into a Document for `check`. Does no I/O.

The input is not trusted: it is validated and bounded, and `parse` raises ReportFormatError and nothing else.
"""

from __future__ import annotations

import json
import math
from datetime import datetime
from typing import cast

from exporter.model.family import FAMILIES
from exporter.model.probe import NEUTRAL, Outcome
from exporter.model.report import FamilyReport, Role, Severity
from exporter.report.document import VERSION, CauseEntry, Document, ProbeEntry

LARGEST = 64 * 1024 * 1024  # bytes of a document


class ReportFormatError(ValueError):
    """The input is no report of this version; the message is one line."""


def parse(body: bytes) -> Document:
    """The report that this JSON is.

    Raises:
        ReportFormatError: it is none, or of another version.
    """
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
        blind=fields.member("inventory").text("problem") if "inventory" in fields else "",
    )


def _parse_family(fields: _Fields) -> FamilyReport:
    return FamilyReport(expected=fields.flag("expected"), ok=fields.flag("ok"))


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
        if isinstance(value, bool) or not isinstance(value, int | float) or not _plausible(value):
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


def _plausible(number: float) -> bool:
    """Whether it can be a count or a duration: json also reads NaN, Infinity and integers of any length."""
    return abs(number) < 2**53 and math.isfinite(number)
