"""Report -> rows: what each metric says of the bad day, of a quiet one and of a blind exporter."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from exporter.catalogue import CATALOGUE, EXPORTER, ROUND
from exporter.catalogue.exporter import ExporterState
from exporter.catalogue.metric import Type
from exporter.catalogue.probes import FAILING_ROWS
from exporter.catalogue.verdict import SUBJECTS_PER_CAUSE
from exporter.model.cause import Cause, Role, Scope, Severity
from exporter.model.cluster.inventory import Came, Inventory, InventoryOrigin
from exporter.model.dial import dials_of
from exporter.model.family import Family
from exporter.model.probe import Layer, Outcome
from exporter.model.reason import Reason
from exporter.model.report import CauseReport, FamilyReport, Finding, Report, Unchecked
from exporter.model.subject import Subject
from tests.unit import sample_probes
from tests.unit.sample import bad_day, blind, migration_day, own, quiet_day, round_of, routed
from tests.unit.sample_probes import NOW

V4, V6 = Family.V4, Family.V6


def rows(report: Report, name: str) -> dict[tuple[str, ...], Any]:
    metric = next(m for m in ROUND if m.name == f"dualstack_{name}")
    return dict(metric.exposed(round_of(report)))


def found(
    cause: Cause, severity: Severity, *, by: Cause | None = None, subjects: tuple[str, ...] = ("node/a",)
) -> CauseReport:
    return CauseReport(
        finding=Finding(
            cause=cause, severity=severity, subjects=tuple(map(Subject, subjects)), evidence=(), command=""
        ),
        scope=Scope.NODE,
        since=NOW,
        explained_by=by,
    )


def with_causes(
    *causes: CauseReport, checked: frozenset[Cause] = frozenset(), unchecked: tuple[Unchecked, ...] = ()
) -> Report:
    return replace(bad_day(), causes=causes, checked=checked, unchecked=unchecked)


# The declarations.


def test_names_are_unique_prefixed_and_end_in_total_only_for_counters() -> None:
    names = [m.name for m in CATALOGUE]
    assert len(names) == len(set(names))
    assert all(re.fullmatch(r"dualstack_[a-z0-9_]+", name) for name in names)
    assert all(m.name.endswith("_total") == (m.type is Type.COUNTER) for m in CATALOGUE)


def test_help_is_a_sentence_and_label_names_are_legal_and_few() -> None:
    for metric in CATALOGUE:
        assert re.fullmatch(r"[A-Z][^\n]+\.", metric.help), metric.name
        assert len(metric.labels) == len(set(metric.labels)) <= 6, metric.name
        assert all(re.fullmatch(r"[a-z][a-z_]*", label) for label in metric.labels), metric.name


@pytest.mark.parametrize(
    "report", [bad_day(), quiet_day(), blind(), migration_day()], ids=["bad", "quiet", "blind", "migration"]
)
def test_every_row_has_the_declared_labels_and_is_unique(report: Report) -> None:
    for metric in ROUND:
        made = list(metric.rows(round_of(report)))
        assert all(len(names) == len(metric.labels) for names, _ in made), metric.name
        assert len({names for names, _ in made}) == len(made), metric.name


def test_the_sample_days_hold_a_row_of_every_metric() -> None:
    days = [round_of(bad_day()), round_of(migration_day()), round_of(routed(bad_day()))]
    assert [m.name for m in ROUND if not any(m.exposed(day) for day in days)] == []
    assert all(m.exposed(own()) for m in EXPORTER)


def test_no_label_holds_an_address_or_an_error_text() -> None:
    addresses = re.compile(r"\d+\.\d+\.\d+\.\d+|[0-9a-f]*:[0-9a-f:]{2,}")
    details = {o.detail for o in bad_day().snapshot.observations if o.detail}
    for metric in ROUND:
        for names, _ in metric.exposed(round_of(bad_day())):
            assert not any(addresses.search(name) or name in details for name in names), (metric.name, names)


def test_the_same_pod_listed_twice_gives_no_row_twice() -> None:
    report = bad_day()
    twice = replace(
        report,
        snapshot=replace(
            report.snapshot,
            pods=report.snapshot.pods * 2,
            last=dials_of(report.snapshot.kept * 2),
            readings=report.snapshot.readings * 2,
        ),
    )
    for metric in ROUND:
        made = [names for names, _ in metric.rows(round_of(twice))]
        assert len(made) == len(set(made)), metric.name


# Families.


@pytest.mark.parametrize(
    ("state", "expected", "ok"),
    [
        (FamilyReport(expected=True, ok=True), 1.0, 1.0),
        (FamilyReport(expected=True, ok=False), 1.0, 0.0),
        (FamilyReport(expected=True, ok=None), 1.0, None),
        (FamilyReport(expected=False, ok=False), 0.0, None),
        (FamilyReport(expected=None, ok=True), None, 1.0),
    ],
)
def test_a_family_is_ok_only_where_it_was_asked_of_and_is_not_unexpected(
    state: FamilyReport, expected: float | None, ok: float | None
) -> None:
    report = replace(bad_day(), families={V6: state})
    assert rows(report, "family_expected").get(("IPv6",)) == expected
    assert rows(report, "family_ok").get(("IPv6",)) == ok


# Causes.


def test_every_checked_cause_has_one_series_with_its_usual_severity() -> None:
    checked = frozenset({Cause.NODE_IPV6_DISABLED, Cause.TARGET_DOWN, Cause.DNS_AAAA_BLOCKED})
    assert rows(with_causes(checked=checked), "cause") == {
        ("node_ipv6_disabled", "node", "warning"): 0.0,
        ("target_down", "path", "info"): 0.0,
        ("dns_aaaa_blocked", "dns", "critical"): 0.0,
    }


def test_a_found_cause_carries_the_severity_of_its_finding() -> None:
    report = with_causes(found(Cause.DNS_AAAA_BLOCKED, Severity.INFO), checked=frozenset({Cause.DNS_AAAA_BLOCKED}))
    assert rows(report, "cause") == {("dns_aaaa_blocked", "dns", "info"): 1.0}


def test_several_findings_of_one_cause_are_one_series_of_the_highest_unexplained_severity() -> None:
    report = with_causes(
        found(Cause.POD_IPV6_MISSING, Severity.INFO, subjects=("pod/a/1",)),
        found(Cause.POD_IPV6_MISSING, Severity.WARNING, subjects=("pod/a/2",)),
        found(Cause.POD_IPV6_MISSING, Severity.CRITICAL, subjects=("pod/a/3",), by=Cause.IPPOOL_EXHAUSTED),
    )
    assert rows(report, "cause") == {("pod_ipv6_missing", "pod", "warning"): 1.0}
    assert rows(report, "cause_subjects") == {("pod_ipv6_missing",): 2.0}
    assert rows(report, "cause_explained") == {}


def test_an_explained_cause_is_zero_and_names_what_explains_it() -> None:
    report = bad_day()
    assert rows(report, "cause")["ipv6_unreachable", "path", "warning"] == 0.0
    assert rows(report, "cause_explained") == {
        ("dns_search_breaks_musl", "dns_aaaa_blocked"): 1.0,
        ("ipv6_unreachable", "nat_masquerade_missing"): 1.0,
    }


def test_an_unchecked_cause_has_a_reason_and_no_value() -> None:
    report = bad_day()
    assert rows(report, "cause_unchecked")["ipv6_mtu_blackhole", "too_few_samples"] == 1.0
    assert not [names for names in rows(report, "cause") if names[0] == "ipv6_mtu_blackhole"]


def test_a_cause_that_keeps_its_value_is_not_unchecked_yet() -> None:
    kept = Cause.NAT_CHAIN_UNHOOKED
    report = with_causes(checked=frozenset({kept}), unchecked=(Unchecked(kept, Reason.READER_FAILED),))
    assert rows(report, "cause") == {("nat_chain_unhooked", "node", "warning"): 0.0}
    assert rows(report, "cause_unchecked") == {}


def test_subjects_are_named_for_twenty_of_each_cause_and_the_rest_is_counted() -> None:
    many = tuple(f"pod/shop/web-{n:02d}" for n in range(25))
    report = with_causes(
        found(Cause.POD_IPV6_MISSING, Severity.WARNING, subjects=many),
        found(Cause.NODE_FORWARDING_OFF, Severity.WARNING, subjects=("node/a",)),
    )
    named = rows(report, "cause_subject_info")
    assert len(named) == SUBJECTS_PER_CAUSE + 1
    assert ("pod_ipv6_missing", "pod", "shop", "web-00") in named
    assert rows(report, "cause_subjects")["pod_ipv6_missing",] == 25.0
    assert rows(report, "series_truncated")["dualstack_cause_subject_info",] == 5.0


@pytest.mark.parametrize(
    ("subject", "parts"),
    [
        ("node/a", ("node", "", "a")),
        ("pod/shop/web", ("pod", "shop", "web")),
        ("pod/red", ("pod", "", "red")),
        ("server/kube-system/kube-dns", ("server", "", "kube-system/kube-dns")),
        ("policy/global", ("policy", "", "global")),
        ("configmap/kube-system/coredns", ("configmap", "kube-system", "coredns")),
        ("pool/default-ipv6-ippool", ("pool", "", "default-ipv6-ippool")),
    ],
)
def test_a_subject_is_split_into_kind_namespace_and_name(subject: str, parts: tuple[str, str, str]) -> None:
    split = Subject(subject)
    assert (split.kind, split.namespace, split.name) == parts


# Probes.


def test_a_ratio_counts_what_says_something_of_the_path_alone() -> None:
    ratios = rows(bad_day(), "probe_success_ratio")
    assert ratios["pod", "pypi", "tcp", "IPv6"] == 0.0
    assert ratios["pod", "pypi", "http", "IPv4"] == pytest.approx(5 / 6)
    assert ratios["host", "peers", "tcp", "IPv6"] == 0.5  # refused by one peer is arrival, the other timed out
    assert ("pod", "pypi", "tls", "IPv6") not in ratios  # not reached: behind the failure
    assert ratios["host", "metadata", "tcp", "IPv4"] == 1.0  # expect: unreachable


def test_failures_are_counted_by_outcome_and_policy_is_no_failure() -> None:
    failures = rows(bad_day(), "probe_failures")
    assert failures["pod", "pypi", "tcp", "IPv6", "timeout"] == 5.0
    assert failures["pod", "pypi", "tcp", "IPv6", "unreachable"] == 1.0
    assert ("pod", "pypi", "tcp", "IPv6", "prohibited") not in failures
    assert ("pod", "pypi", "tls", "IPv6", "not_reached") not in failures


def test_failing_pods_and_peers_are_named_once_for_each_way_in_which_they_fail() -> None:
    assert rows(bad_day(), "pod_failing")["tools", "before-ipv6-0", "IPv6", "tcp", "unreachable"] == 1.0
    assert rows(bad_day(), "peer_failing") == {("node-c", "host", "IPv6", "tcp", "timeout"): 1.0}


def test_failing_pods_are_capped_and_the_cap_is_told() -> None:
    report = bad_day()
    pods = tuple(sample_probes.pod(n, "many", f"pod-{n:03d}") for n in range(250))
    broken = tuple(sample_probes.seen(p, sample_probes.SERVICE, Layer.TCP, V6, Outcome.TIMEOUT) for p in pods)
    report = replace(report, snapshot=replace(report.snapshot, last=dials_of(broken)))
    assert len(rows(report, "pod_failing")) == FAILING_ROWS
    assert rows(report, "series_truncated")["dualstack_pod_failing",] == 50.0


def test_the_earliest_end_of_a_chain_is_told() -> None:
    report = bad_day()
    early = sample_probes.seen(sample_probes.WEB, sample_probes.PYPI, Layer.TLS, V4, expires=NOW + 5)
    report = replace(report, snapshot=replace(report.snapshot, last=dials_of((*report.snapshot.kept, early))))
    assert rows(report, "tls_certificate_expiry_timestamp_seconds")["pypi", "IPv4"] == NOW + 5


def test_coverage_tells_from_how_many_places_a_target_was_tested() -> None:
    coverage = rows(bad_day(), "target_vantages")
    assert coverage["service", "IPv6"] == 7.0
    assert coverage["apiserver", "IPv4"] == 1.0
    assert ("apiserver", "IPv6") not in coverage
    assert rows(bad_day(), "pods_probed") == {(): 6.0}


# The exporter itself.


def test_what_has_not_happened_yet_is_absent_and_counters_begin_at_zero() -> None:
    exposed = {m.name: dict(m.exposed(ExporterState(node="a", role="node"))) for m in EXPORTER}
    assert exposed["dualstack_exporter_last_round_timestamp_seconds"] == {}
    assert exposed["dualstack_exporter_config_last_reload_successful"] == {}
    assert exposed["dualstack_exporter_rounds_total"] == {(): 0.0}
    assert exposed["dualstack_exporter_info"] == {("a", "node"): 1.0}


def test_an_inventory_that_does_not_exist_is_neither_stale_nor_old() -> None:
    assert rows(blind(), "inventory_stale") == {}
    assert rows(blind(), "inventory_age_seconds") == {}
    assert rows(bad_day(), "inventory_stale") == {(): 0.0}


@pytest.mark.parametrize("came", [Came.PART, Came.NOTHING])
def test_an_inventory_that_never_came_is_told_as_a_stale_one_is_and_has_no_age(came: Came) -> None:
    day = bad_day()
    never = replace(
        day,
        snapshot=replace(day.snapshot, inventory=Inventory(source=InventoryOrigin.KUBERNETES, came=came)),
        inventory_age=None,
    )
    assert rows(never, "inventory_stale") == {(): 1.0}
    assert rows(never, "inventory_age_seconds") == {}


# The cluster on its way.


def test_objects_are_counted_by_family_and_by_namespace_where_they_lack_one() -> None:
    report = migration_day()
    assert rows(report, "objects_with_family")["pods", "IPv6"] == 12.0
    assert rows(report, "objects_without_family") == {
        ("nodes", "IPv4"): 0.0,
        ("nodes", "IPv6"): 0.0,
        ("pods", "IPv4"): 0.0,
        ("pods", "IPv6"): 6.0,
        ("services", "IPv4"): 0.0,
        ("services", "IPv6"): 1.0,
    }
    assert rows(report, "namespace_objects_without_family") == {
        ("pods", "shop", "IPv6"): 5.0,
        ("pods", "tools", "IPv6"): 1.0,
        ("services", "shop", "IPv6"): 1.0,
    }
    assert rows(report, "migration_ratio") == {("nodes",): 1.0, ("pods",): pytest.approx(2 / 3), ("services",): 0.5}


def test_lacking_a_family_that_is_not_expected_is_no_lack() -> None:
    report = replace(migration_day(), families={V6: FamilyReport(expected=False, ok=None)})
    assert {family for _, family in rows(report, "objects_without_family")} == {"IPv4"}
    assert rows(report, "namespace_objects_without_family") == {}


def test_one_nodes_pods_are_no_census_of_the_cluster() -> None:
    report = migration_day()
    assert rows(replace(report, snapshot=replace(report.snapshot, role=Role.NODE)), "objects_with_family") == {}


def test_namespaces_beyond_the_cap_of_the_census_are_told() -> None:
    report = migration_day()
    many = tuple(replace((report.snapshot.inventory.pods or ())[0], namespace=f"ns-{n:03d}") for n in range(130))
    inventory = replace(report.snapshot.inventory, pods=many, services=())
    report = replace(report, snapshot=replace(report.snapshot, inventory=inventory))
    assert len(rows(report, "namespace_objects_without_family")) == 100
    assert rows(report, "series_truncated")["dualstack_namespace_objects_without_family",] == 30.0
