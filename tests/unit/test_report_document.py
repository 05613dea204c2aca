"""The report as JSON (docs/specification.md section 6), there and back, and what `check` exits with."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.model.cause import Cause, Scope, Severity
from exporter.model.cluster.inventory import Came, Inventory, InventoryOrigin
from exporter.model.dial import dials_of
from exporter.model.family import Family
from exporter.model.probe import NEUTRAL, Layer, Outcome
from exporter.model.report import CauseReport, FamilyReport, Finding, Report
from exporter.model.subject import Subject
from exporter.report.document import (
    Document,
    ProbeEntry,
    ReportFormatError,
    alert_name,
    document_of,
    encode,
    exit_code,
    parse,
    runbook,
    to_json,
)
from tests.unit import sample_probes
from tests.unit.sample import bad_day, blind, migration_day, quiet_day
from tests.unit.sample_probes import NOW


def with_cause(severity: Severity, by: Cause | None = None, subjects: int = 1) -> Document:
    finding = Finding(
        cause=Cause.POD_IPV6_MISSING,
        severity=severity,
        subjects=tuple(Subject(f"pod/a/{n}") for n in range(subjects)),
        evidence=(),
        command="",
    )
    return document_of(
        replace(quiet_day(), causes=(CauseReport(finding=finding, scope=Scope.POD, since=NOW, explained_by=by),))
    )


def test_the_object_has_exactly_the_promised_members() -> None:
    data = json.loads(to_json(document_of(bad_day())))
    assert list(data) == ["version", "node", "role", "time", "families", "causes", "unchecked", "probes"]
    assert data["version"] == 1
    assert data["time"] == "2026-11-20T10:10:30Z"
    assert data["families"] == {"IPv4": {"expected": True, "ok": True}, "IPv6": {"expected": True, "ok": False}}
    assert all(
        list(cause)
        == [
            "cause",
            "scope",
            "severity",
            "since",
            "subjects",
            "subjects_total",
            "explained_by",
            "evidence",
            "command",
            "runbook",
        ]
        for cause in data["causes"]
    )
    assert all(list(item) == ["cause", "reason"] for item in data["unchecked"])
    assert all(
        list(probe) == ["vantage", "subject", "target", "layer", "ip_family", "outcome", "seconds", "detail", "failed"]
        for probe in data["probes"]
    )
    assert {c["cause"]: c["explained_by"] for c in data["causes"]}["ipv6_unreachable"] == "nat_masquerade_missing"


@pytest.mark.parametrize(
    "report", [bad_day(), quiet_day(), blind(), migration_day()], ids=["bad", "quiet", "blind", "migration"]
)
def test_what_is_written_is_read_back_equal(report: Any) -> None:
    document = document_of(report)
    assert parse(to_json(document).encode()) == document


def test_several_reports_are_a_list() -> None:
    data = json.loads(to_json([document_of(bad_day()), document_of(quiet_day())]))
    assert [item["version"] for item in data] == [1, 1]


def test_foreign_text_that_no_encoding_holds_is_written_all_the_same() -> None:
    document = replace(with_cause(Severity.INFO), node="a\ud800✓")
    assert to_json(document).isascii()
    assert parse(to_json(document).encode()) == document


def test_subjects_are_cut_at_a_hundred_and_counted_whole() -> None:
    (entry,) = encode(with_cause(Severity.WARNING, subjects=130))["causes"]
    assert len(entry["subjects"]) == 100
    assert entry["subjects_total"] == 130


def test_a_runbook_is_named_after_the_alert() -> None:
    assert runbook(Cause.DNS_AAAA_BLOCKED).endswith("/runbooks/DualstackDnsAaaaBlocked.md")


@pytest.mark.parametrize("base", ["https://wiki.test/runbooks", "https://wiki.test/runbooks/"])
def test_links_to_runbooks_begin_as_configured(base: str) -> None:
    (entry, *_) = document_of(bad_day(), base).causes
    assert entry.runbook == f"https://wiki.test/runbooks/{alert_name(Cause(entry.cause))}.md"


def failed(outcome: Outcome, *, target: Any = sample_probes.PYPI, policy: bool = False) -> bool:
    observation = replace(sample_probes.seen(sample_probes.WEB, target, Layer.TCP, Family.V4, outcome), policy=policy)
    report = bad_day()
    document = document_of(replace(report, snapshot=replace(report.snapshot, last=dials_of((observation,)))))
    (probe,) = parse(to_json(document).encode()).probes
    assert probe.failed is bool(observation.counted and not observation.passed)
    return probe.failed


@pytest.mark.parametrize("outcome", Outcome)
def test_a_reader_of_the_json_can_tell_failures_as_this_process_can(outcome: Outcome) -> None:
    for target in (sample_probes.PYPI, sample_probes.PEER_B, sample_probes.BLOCKED):
        for policy in (False, True):
            failed(outcome, target=target, policy=policy)
    assert failed(Outcome.TIMEOUT)
    assert not failed(Outcome.REFUSED, target=sample_probes.PEER_B)
    assert not failed(Outcome.TIMEOUT, target=sample_probes.BLOCKED)
    assert failed(Outcome.OK, target=sample_probes.BLOCKED)
    assert not failed(Outcome.TIMEOUT, policy=True)


def test_a_peer_is_named_in_the_detail() -> None:
    details = [p.detail for p in document_of(bad_day()).probes if p.target == "peers" and p.failed]
    assert details == ["peer/node-c: no answer to SYN within 3 s"]


# Exit codes.


@pytest.mark.parametrize(
    ("severity", "fail_on", "code"),
    [
        (Severity.INFO, Severity.WARNING, 0),
        (Severity.WARNING, Severity.WARNING, 1),
        (Severity.CRITICAL, Severity.WARNING, 1),
        (Severity.INFO, Severity.INFO, 1),
        (Severity.WARNING, Severity.CRITICAL, 0),
    ],
)
def test_an_unexplained_cause_of_enough_severity_fails_a_check(
    severity: Severity, fail_on: Severity, code: int
) -> None:
    assert exit_code([with_cause(severity)], fail_on) == code


@pytest.mark.parametrize(("expected", "ok", "code"), [(True, False, 1), (True, None, 0), (None, False, 0)])
def test_an_expected_family_that_does_not_work_fails_a_check(expected: bool | None, ok: bool | None, code: int) -> None:
    families = {**quiet_day().families, Family.V6: FamilyReport(expected=expected, ok=ok)}
    assert exit_code([document_of(replace(quiet_day(), families=families))], Severity.CRITICAL) == code


def test_why_a_family_is_expected_is_in_the_report_and_survives_it() -> None:
    named = FamilyReport(expected=True, ok=True, evidence=("node/a has the podCIDR fd01::/64",))
    document = document_of(replace(quiet_day(), families={**quiet_day().families, Family.V6: named}))
    assert json.loads(to_json(document))["families"]["IPv6"]["evidence"] == ["node/a has the podCIDR fd01::/64"]
    assert parse(to_json(document).encode()) == document


def test_an_explained_cause_fails_no_check() -> None:
    assert exit_code([with_cause(Severity.CRITICAL, by=Cause.IPPOOL_EXHAUSTED)]) == 0


def test_a_report_without_any_inventory_is_none_to_rely_on() -> None:
    never = without_inventory(quiet_day())
    assert exit_code([never]) == exit_code([document_of(bad_day()), never]) == 2
    assert parse(to_json(never).encode()) == never
    assert json.loads(to_json(never))["inventory"] == {"problem": "https://10.0.0.1:443: no answer"}
    part = replace(quiet_day().snapshot.inventory, came=Came.PART, problem="no digest")
    partly = document_of(replace(quiet_day(), snapshot=replace(quiet_day().snapshot, inventory=part)))
    assert exit_code([partly]) == 0
    assert "inventory" not in json.loads(to_json(partly))


def without_inventory(report: Report) -> Document:
    inventory = Inventory(
        source=InventoryOrigin.KUBERNETES, came=Came.NOTHING, problem="https://10.0.0.1:443: no answer"
    )
    return document_of(replace(report, snapshot=replace(report.snapshot, inventory=inventory)))


def test_one_bad_report_among_many_fails_and_none_at_all_is_an_error() -> None:
    assert exit_code([document_of(quiet_day())]) == 0
    assert exit_code([document_of(quiet_day()), document_of(bad_day())]) == 1
    assert exit_code([]) == 2


# Reports from elsewhere.


def decode(data: object) -> Document:
    return parse(json.dumps(data).encode())


def changed(change: Callable[[dict[str, Any]], object]) -> object:
    data = json.loads(to_json(document_of(bad_day())))
    change(data)
    return data


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.update(version=2), "another version"),
        (lambda d: d.update(version=True), "report.version is not a number"),
        (lambda d: d.pop("node"), "report.node is missing"),
        (lambda d: d.update(node=7), "report.node is not a string"),
        (lambda d: d.update(role="king"), "report.role is unknown"),
        (lambda d: d.update(time="yesterday"), "report.time is not a time"),
        (lambda d: d.update(time="9999-99-99T00:00:00Z"), "report.time is not a time"),
        (lambda d: d.update(families=[]), "families is not an object"),
        (lambda d: d["families"].pop("IPv6"), "families.IPv6 is missing"),
        (lambda d: d["families"]["IPv6"].update(ok=1), r"families\[\].ok is neither"),
        (lambda d: d.update(causes={}), "report.causes is not a list"),
        (lambda d: d["causes"][0].update(severity="dire"), r"causes\[\].severity is unknown"),
        (lambda d: d["causes"][0].update(subjects=[1]), r"causes\[\].subjects has an item that is not a string"),
        (lambda d: d["causes"][0].update(subjects_total=float("nan")), r"causes\[\].subjects_total is not a number"),
        (lambda d: d["causes"][0].update(subjects_total=10**400), r"causes\[\].subjects_total is not a number"),
        (lambda d: d["probes"][0].update(seconds="1"), r"probes\[\].seconds is not a number"),
        (lambda d: d["probes"][0].update(failed="no"), r"probes\[\].failed is neither"),
        (lambda d: d["unchecked"].append("x"), r"unchecked\[\] is not an object"),
    ],
)
def test_what_is_no_report_is_refused_by_place(change: Callable[[dict[str, Any]], object], message: str) -> None:
    with pytest.raises(ReportFormatError, match=message):
        decode(changed(change))


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[" * 100_000, b'"\\ud800"', b"null", b"[]", b"NaN"])
def test_what_is_no_json_object_is_refused(body: bytes) -> None:
    with pytest.raises(ReportFormatError):
        parse(body)


def test_a_newer_exporters_members_and_causes_are_no_obstacle() -> None:
    document = decode(changed(lambda d: (d.update(extra=1), d["causes"][0].update(cause="from_the_future"))))
    assert document.causes[0].cause == "from_the_future"


def test_a_report_of_an_exporter_that_sends_no_member_failed_is_read_by_the_outcomes() -> None:
    document = decode(changed(lambda d: [probe.pop("failed") for probe in d["probes"]]))
    assert {probe.outcome for probe in document.probes if probe.failed} >= {Outcome.TIMEOUT, Outcome.UNREACHABLE}
    assert not any(probe.failed for probe in document.probes if probe.outcome in {Outcome.OK, *NEUTRAL})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["version", "node", "families", "IPv4", "causes", "x"]), inner, max_size=4)
    ),
    max_leaves=12,
)


@settings(max_examples=100)
@given(
    value=JSON, place=st.sampled_from(["version", "node", "role", "time", "families", "causes", "unchecked", "probes"])
)
def test_nothing_but_a_document_or_its_error_comes_out(value: object, place: str) -> None:
    data = {**encode(document_of(blind())), place: value}
    for candidate in (value, data):
        with contextlib.suppress(ReportFormatError):
            assert isinstance(decode(candidate), Document)


def test_families_that_the_report_lacks_are_unknown() -> None:
    document = document_of(replace(bad_day(), families={}))
    assert document.families == {Family.V4: FamilyReport(None, None), Family.V6: FamilyReport(None, None)}


def test_the_members_of_a_probe_are_those_of_the_json() -> None:
    assert ProbeEntry.__slots__ == (
        "vantage",
        "subject",
        "target",
        "layer",
        "ip_family",
        "outcome",
        "seconds",
        "detail",
        "failed",
    )
