"""What healed in the last day: known since the exporter's start, and bounded."""

from __future__ import annotations

import pickle
from dataclasses import replace

import pytest

from exporter.model.cause import Cause, Scope, Severity
from exporter.model.family import Family
from exporter.model.report import CauseReport, FamilyReport, Finding, Report
from exporter.model.subject import Subject
from exporter.report.healed import DAY, ENTRIES, HealedDay
from tests.unit.sample import quiet_day
from tests.unit.sample_probes import NOW

MASQUERADE, ROUTE = Cause.NAT_MASQUERADE_MISSING, Cause.NODE_NO_IPV6_DEFAULT_ROUTE
WORKS, BROKEN, UNKNOWN = (FamilyReport(expected=True, ok=ok) for ok in (True, False, None))


def found(cause: Cause, *, since: float = NOW - 60, by: Cause | None = None, text: str = "seen") -> CauseReport:
    finding = Finding(
        cause=cause, severity=Severity.WARNING, subjects=(Subject("node/a"),), evidence=(text,), command="true"
    )
    return CauseReport(finding=finding, scope=Scope.NODE, since=since, explained_by=by)


def at(
    seconds: float,
    *causes: CauseReport,
    checked: frozenset[Cause] = frozenset(Cause),
    six: FamilyReport = WORKS,
) -> Report:
    day = quiet_day()
    snapshot = replace(day.snapshot, finished=NOW + seconds)
    return replace(day, snapshot=snapshot, causes=causes, checked=checked, families={Family.V6: six})


def after(*rounds: Report) -> HealedDay:
    day, before = HealedDay(since=NOW), None
    for now in rounds:
        day, before = day.after(before, now), now
    return day


def test_a_cause_that_is_no_longer_found_is_kept_with_its_time_and_evidence() -> None:
    (entry,) = after(at(0, found(MASQUERADE)), at(30)).entries
    assert (entry.what, entry.began, entry.ended) == (MASQUERADE, NOW - 60, NOW + 30)
    assert (entry.subjects, entry.evidence) == ("node/a", "seen")


@pytest.mark.parametrize(
    "rounds",
    [
        (at(0, found(MASQUERADE)), at(30, checked=frozenset())),
        (at(0, found(MASQUERADE, by=ROUTE)), at(30)),
        (at(0, found(MASQUERADE)), at(30, found(MASQUERADE, by=ROUTE))),
        (at(0), at(30)),
    ],
    ids=["is no longer checked", "was a consequence", "became a consequence", "nothing was found"],
)
def test_what_did_not_heal_by_itself_is_not_kept(rounds: tuple[Report, ...]) -> None:
    assert after(*rounds).entries == ()


def test_a_family_heals_when_it_is_seen_to_work_and_not_when_it_is_unknown_for_a_while() -> None:
    assert after(at(0), at(30, six=BROKEN), at(60, six=UNKNOWN)).entries == ()
    (entry,) = after(at(0), at(30, six=BROKEN), at(60, six=UNKNOWN), at(90), at(120)).entries
    assert (entry.what, entry.began, entry.ended) == (Family.V6, NOW + 30, NOW + 90)
    unexpected = FamilyReport(expected=False, ok=None)
    assert after(at(30, six=BROKEN), at(60, six=unexpected), at(90)).entries == ()


def test_entries_are_those_of_one_day_the_newest_first() -> None:
    both = (at(0, found(MASQUERADE)), at(30), at(600, found(ROUTE, since=NOW + 500)), at(630))
    assert [entry.what for entry in after(*both).entries] == [ROUTE, MASQUERADE]
    assert [entry.what for entry in after(*both).at(NOW + 31 + DAY)] == [ROUTE]
    assert [entry.what for entry in after(*both, at(31 + DAY)).entries] == [ROUTE]


def test_a_cause_that_comes_and_goes_all_day_with_long_evidence_stays_small() -> None:
    rounds = [at(n * 30, *(() if n % 2 else (found(MASQUERADE, since=NOW, text="x" * 9_000),))) for n in range(600)]
    day = after(*rounds)
    assert (len(day.entries), day.dropped) == (ENTRIES, 300 - ENTRIES)
    assert day.entries[0].ended == NOW + 599 * 30
    assert len(pickle.dumps(day)) < 64_000
    later = day.after(rounds[-1], at(600 * 30 + DAY))
    assert (later.entries, later.dropped) == ((), 0)
