"""What the log tells of a round: what began, changed or ended since the round before, and nothing of what stayed."""

from __future__ import annotations

from dataclasses import replace

from exporter.model.cause import Cause, Severity
from exporter.model.family import Family
from exporter.model.reason import Reason
from exporter.model.report import FamilyReport, Report, Unchecked
from exporter.report.changes import Notice, changes
from tests.unit.sample import bad_day, quiet_day


def told(before: Report | None, now: Report) -> dict[str, list[Notice]]:
    lines: dict[str, list[Notice]] = {}
    for change in changes(before, now):
        lines.setdefault(change.message, []).append(change)
    return lines


def test_the_first_round_tells_everything() -> None:
    lines = told(None, bad_day())
    assert list(lines) == ["first round finished", "family verdict", "cause begins"]
    assert [c.fields["verdict"] for c in lines["family verdict"]] == ["works", "does not work"]
    assert {c.fields["cause"] for c in lines["cause begins"]} == {i.finding.cause.value for i in bad_day().causes}
    assert lines["first round finished"][0].fields["probes"] == len(bad_day().snapshot.observations)


def test_what_stays_is_not_told_again() -> None:
    assert told(bad_day(), bad_day()) == {}
    assert told(quiet_day(), quiet_day()) == {}


def test_a_cause_tells_its_subjects_and_evidence_and_a_consequence_is_not_urgent() -> None:
    begun = {c.fields["cause"]: c for c in told(quiet_day(), bad_day())["cause begins"]}
    nat = begun["nat_masquerade_missing"]
    assert nat.urgent
    assert nat.fields["subjects"] == "pool/default-ipv6-ippool"
    assert str(nat.fields["evidence"]).startswith("ip6tables-nft, chain cali-nat-outgoing: 0 rules")
    assert "explained_by" not in nat.fields
    consequence = begun["ipv6_unreachable"]
    assert not consequence.urgent
    assert consequence.fields["explained_by"] == "nat_masquerade_missing"


def test_a_cause_that_ends_tells_how_long_it_lasted() -> None:
    ended = {c.fields["cause"]: c for c in told(bad_day(), quiet_day())["cause ends"]}
    assert set(ended) == {item.finding.cause.value for item in bad_day().causes}
    assert ended["nat_masquerade_missing"].fields["lasted"] == "60 min"
    assert not any(c.urgent for c in ended.values())


def test_a_cause_that_can_no_longer_be_checked_has_not_ended() -> None:
    (item, *_) = bad_day().causes
    blind = replace(quiet_day(), unchecked=(Unchecked(item.finding.cause, Reason.API_UNAVAILABLE),))
    lines = told(bad_day(), blind)
    (line,) = lines["cause is no longer checked"]
    assert (line.fields["cause"], line.fields["reason"]) == (item.finding.cause.value, "api_unavailable")
    assert item.finding.cause.value not in {c.fields["cause"] for c in lines["cause ends"]}


def test_a_change_of_severity_or_explanation_is_told_and_one_of_subjects_is_not() -> None:
    before, (first, *rest) = bad_day(), bad_day().causes
    worse = replace(first, finding=replace(first.finding, severity=Severity.CRITICAL), explained_by=None)
    lines = told(replace(before, causes=(replace(worse, explained_by=Cause.NODE_IPV6_DISABLED), *rest)), before)
    assert [c.fields["cause"] for c in lines["cause changes"]] == [first.finding.cause.value]
    moved = replace(first, finding=replace(first.finding, subjects=first.finding.subjects[:0]))
    assert told(before, replace(before, causes=(moved, *rest))) == {}


def test_a_family_verdict_is_told_when_it_changes() -> None:
    before = bad_day()
    healed = replace(before, families={**before.families, Family.V6: FamilyReport(expected=True, ok=True)})
    (line,) = told(before, healed)["family verdict"]
    assert (line.fields["ip_family"], line.fields["verdict"], line.urgent) == ("IPv6", "works", False)
    single = replace(before, families={**before.families, Family.V6: FamilyReport(expected=False, ok=None)})
    assert [c.fields["verdict"] for c in told(before, single)["family verdict"]] == ["not expected"]
