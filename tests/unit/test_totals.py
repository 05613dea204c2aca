from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from exporter.catalogue.totals import BOUNDS, Histogram, Totals, add_round
from exporter.model.facts import Backend, HostFacts, NatBackend, NatFacts
from exporter.model.family import Family
from exporter.model.report import Report
from tests.unit.sample import bad_day


def with_packets(packets: int | None) -> Report:
    report = bad_day()
    backend = NatBackend(family=Family.V6, backend=Backend.NFTABLES, chain=True, hooked=True, packets=packets or 0)
    nat = None if packets is None else NatFacts(backends=(backend,))
    return replace(report, snapshot=replace(report.snapshot, host_facts=HostFacts(nat=nat)))


def packets_after(*readings: int | None) -> int:
    totals = Totals()
    for reading in readings:
        totals = add_round(totals, with_packets(reading))
    return totals.nat_packets[Family.V6, Backend.NFTABLES]


def test_a_round_is_added_to_what_was_counted_before() -> None:
    once = add_round(Totals(), bad_day())
    twice = add_round(once, bad_day())
    assert once.probes
    assert twice.probes == {key: 2 * count for key, count in once.probes.items()}
    assert twice.lookups == {key: 2 * count for key, count in once.lookups.items()}
    assert all(twice.durations[key].count == 2 * made.count for key, made in once.durations.items())


def test_a_fold_leaves_the_previous_totals_as_they_were() -> None:
    before = add_round(Totals(), bad_day())
    copy = replace(before, probes=dict(before.probes), durations=dict(before.durations))
    add_round(before, bad_day())
    assert before == copy


def test_kept_results_of_earlier_rounds_are_not_counted_again() -> None:
    report = bad_day()
    assert report.snapshot.kept
    quiet = replace(report, snapshot=replace(report.snapshot, observations=(), lookups=()))
    assert add_round(Totals(), quiet).probes == {}
    assert add_round(Totals(), quiet).lookups == {}


def test_durations_are_those_of_successful_probes_alone() -> None:
    totals = add_round(Totals(), bad_day())
    assert ("pod", "pypi", "tcp", "IPv6") not in totals.durations
    assert totals.durations["pod", "pypi", "tcp", "IPv4"].count == 6
    assert (
        totals.durations["host", "peers", "tcp", "IPv6"].count == 1
    )  # refused by a peer proves the path, the other timed out


def test_a_kernel_counter_that_grows_adds_its_growth() -> None:
    assert packets_after(100, 130, 130) == 130


def test_a_kernel_counter_that_began_anew_adds_what_it_holds() -> None:
    assert packets_after(100, 20, 25) == 125


def test_a_round_that_could_not_read_nat_changes_no_count() -> None:
    assert packets_after(100, None, 130) == 130


@given(st.lists(st.floats(min_value=0, max_value=100)))
def test_a_bucket_holds_exactly_what_is_at_most_its_bound(values: list[float]) -> None:
    histogram = Histogram()
    for value in values:
        histogram = histogram.with_value(value)
    expected = [sum(v <= bound for v in values) for bound in BOUNDS] + [len(values)]
    assert list(histogram.cumulative) == expected
    assert histogram.count == len(values)


def test_there_are_at_most_six_buckets() -> None:
    assert len(BOUNDS) + 1 <= 6
