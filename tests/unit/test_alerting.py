"""What alerts/ is derived from: inhibition says what the table of explanations says, and no more."""

from __future__ import annotations

import pytest

from alerts.derive import (
    BEGIN,
    END,
    Inhibition,
    inhibit_rules,
    inhibitions,
    observing_rule,
    with_inhibition,
)
from exporter.diagnosis.engine.explanations import DNS_SYMPTOMS, FOLLOWS, PATH_CAUSES, REACHES, SYMPTOMS
from exporter.model.cause import Cause, Role
from exporter.report.document import alert_name

RULES = """\
groups:
  - name: a
    rules:
      - record: node:x:max
        expr: x
        labels: {severity: critical}
      - alert: One
        expr: x == 1
        annotations:
          summary: One.
      - alert: Two
        expr: x == 2
        labels: {severity: warning}
        annotations: &two
          summary: Two.
      - alert: Watch
        expr: vector(1)
        labels: {severity: none}
        annotations: *two
"""


def mutes(source: Cause, target: Cause) -> list[Inhibition]:
    return [i for i in inhibitions() if alert_name(source) in i.sources and alert_name(target) in i.targets]


def test_an_alert_is_named_after_its_cause() -> None:
    assert alert_name(Cause.DNS_AAAA_BLOCKED) == "DualstackDnsAaaaBlocked"
    assert alert_name(Cause.IPPOOL_VXLAN_MODE_MISMATCH) == "DualstackIppoolVxlanModeMismatch"


@pytest.mark.parametrize("cause", sorted({c for reach in REACHES for c in reach.causes} - SYMPTOMS))
def test_what_spoils_traffic_mutes_every_path_cause(cause: Cause) -> None:
    for symptom in PATH_CAUSES:
        assert mutes(cause, symptom)


def test_nothing_mutes_a_nameserver_that_may_fail_over_ipv4() -> None:
    """A nameserver that is asked over IPv4 and dead is an outage, whatever IPv6 lacks on the same node."""
    assert [mutes(source, target) for source in Cause for target in DNS_SYMPTOMS if mutes(source, target)] == []


@pytest.mark.parametrize(("cause", "by"), [(cause, by) for cause, causes in FOLLOWS.items() for by in causes])
def test_what_something_follows_from_mutes_it(cause: Cause, by: Cause) -> None:
    assert mutes(by, cause)


@pytest.mark.parametrize("by", [by for causes in FOLLOWS.values() for by in causes if by is not Cause.DNS_AAAA_BLOCKED])
def test_a_root_mutes_the_symptoms_of_what_follows_from_it(by: Cause) -> None:
    followers = [cause for cause, causes in FOLLOWS.items() if by in causes]
    if any(mutes(cause, Cause.IPV6_UNREACHABLE) for cause in followers):
        assert mutes(by, Cause.IPV6_UNREACHABLE)


def test_a_cause_that_only_nodes_report_mutes_pages_of_its_own_node_alone() -> None:
    for each in inhibitions():
        of_nodes = [c for c in Cause if alert_name(c) in each.sources and c.spec.roles == {Role.NODE}]
        upwards = all(c.spec.roles == {Role.CLUSTER} for c in Cause if alert_name(c) in each.targets)
        if of_nodes and each.mutes_critical:
            assert "node" in each.equal or upwards, each


def test_what_concerns_the_whole_cluster_is_told_from_what_concerns_a_node() -> None:
    for each in inhibitions():
        if not each.whole_cluster and "node" not in each.equal:
            assert all(
                Role.CLUSTER not in c.spec.roles or Role.NODE in c.spec.roles
                for c in Cause
                if alert_name(c) in each.sources
            )


def test_a_milder_alert_never_mutes_a_page() -> None:
    for rule in inhibit_rules():
        if 'severity="critical"' in rule["target_matchers"]:
            assert 'severity="critical"' in rule["source_matchers"]


def test_rules_stand_between_the_marks_and_nothing_else_changes() -> None:
    text = f"inhibit_rules:\n  - own\n{BEGIN}  - old\n{END}receivers: []\n"
    once = with_inhibition(text)
    assert once.startswith(f"inhibit_rules:\n  - own\n{BEGIN}  - source_matchers: ")
    assert once.endswith(f"    equal: [cluster, node]\n{END}receivers: []\n")
    assert with_inhibition(once) == once


@pytest.mark.parametrize("broken", ["", BEGIN, END, BEGIN + BEGIN + END])
def test_a_configuration_without_both_marks_once_is_refused(broken: str) -> None:
    with pytest.raises(ValueError, match="once each"):
        with_inhibition(broken)


def test_under_observation_alerts_are_info_and_tell_what_they_would_be() -> None:
    lines = [line.strip() for line in observing_rule(RULES).splitlines() if "severity" in line]
    assert lines == [
        "labels: {severity: critical}",
        "labels: {severity: info, would_be: '{{ $labels.severity }}'}",
        "labels: {severity: info, would_be: warning}",
        "labels: {severity: none}",
    ]
