"""What exporters expose, through a real Prometheus and a real Alertmanager, to whoever is paged: the right alert, once,
until it is healed.

The exporters here replay sample days as the exporter itself writes them; a minute of the rules takes MINUTE seconds.
"""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from exporter.model.cause import Cause, Role, Scope, Severity
from exporter.model.family import Family
from exporter.model.report import CauseReport, FamilyReport, Finding, Report
from exporter.model.subject import Subject
from exporter.report.document import alert_name
from tests.contract.alert_rules import MAIN
from tests.e2e.alerting import Monitoring, Notification
from tests.e2e.sample_fleet import Fleet, good_day
from tests.unit.sample import bad_day

pytestmark = pytest.mark.real

MINUTE = 0.7
DNS, NAT = ("DualstackDnsAaaaBlocked", "node-a"), ("DualstackNatMasqueradeMissing", "node-a")
READER = ("DualstackExporterReaderFailing", "node-a")


def found(report: Report, cause: Cause, *subjects: str, severity: Severity = Severity.WARNING) -> Report:
    """The report with one more cause."""
    finding = Finding(
        cause=cause, severity=severity, subjects=tuple(map(Subject, subjects)), evidence=("seen",), command="true"
    )
    return replace(report, causes=(*report.causes, CauseReport(finding=finding, scope=cause.spec.scope, since=0.0)))


def told(notifications: list[Notification]) -> list[tuple[str, str]]:
    """Name and node of every alert, once for each notification that brought it."""
    return sorted(name for each in notifications for name in each.names)


def resolved(notifications: list[Notification]) -> set[tuple[str, str]]:
    return {(a["alertname"], a.get("node", "")) for each in notifications for a in each.resolved}


def test_a_bad_day_pages_once_for_each_fault_over_a_restart_and_until_it_is_healed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with Fleet() as fleet, Monitoring(fleet.targets, MINUTE) as monitoring:
        receiver = monitoring.receiver
        monitoring.let_pass(7)
        assert monitoring.unhealthy_rules() == []
        assert receiver.of("page", "ticket") == [], "nothing is wrong yet"

        node = fleet.nodes["node-a"]
        node.become(bad_day())
        # AAAA withheld, and IPv6 down for want of NAT: what is laid to it does not page beside it.
        receiver.wait(lambda: told(receiver.of("page")) == [DNS, NAT], "both pages")
        assert all(a["severity"] == "critical" for each in receiver.of("page") for a in each.firing)

        with monkeypatch.context() as restart:
            restart.setattr(node, "scrape", lambda _: (b"", "text/plain; version=0.0.4"))
            monitoring.let_pass(1.5)
        # A ticket takes 20 minutes: what cannot be read, and not beside it what cannot be checked for that.
        receiver.wait(lambda: told(receiver.of("ticket")) == [READER], "the ticket")
        assert told(receiver.of("page")) == [DNS, NAT], "a restart repeats nothing"
        assert resolved(receiver.of("page")) == set(), "and ends nothing"

        node.become(good_day())
        receiver.wait(lambda: resolved(receiver.of("page")) == {DNS, NAT}, "both are healed")
        assert told(receiver.of("page")) == [DNS, NAT]
        receiver.wait(lambda: resolved(receiver.of("ticket")) == {READER}, "and what could not be read")


def test_a_broken_tunnel_is_told_once_and_not_by_the_nodes_at_its_other_ends() -> None:
    with Fleet() as fleet, Monitoring(fleet.targets, MINUTE) as monitoring:
        receiver = monitoring.receiver
        fleet.nodes["node-a"].become(found(good_day(), Cause.VXLAN_DEVICE_MISSING, "node/node-a"))
        for name in ("node-b", "node-c"):
            fleet.nodes[name].become(found(good_day(), Cause.IPV6_UNREACHABLE, "peer/node-a"))
        tunnel = ("DualstackVxlanDeviceMissing", "node-a")
        receiver.wait(lambda: tunnel in told(receiver.of("ticket")), "the ticket")
        firing = monitoring.prometheus.instant('ALERTS{alertname="DualstackIpv6Unreachable", alertstate="firing"}')
        assert [series.labels.get("node") for series in firing] == [None], "two nodes of four are the cluster's"
        monitoring.let_pass(6)
        for exporter in fleet.nodes.values():
            exporter.become(good_day())
        receiver.wait(lambda: resolved(receiver.of("ticket")) == {tunnel}, "it is healed")
        assert told(receiver.of("page", "ticket")) == [tunnel]


def lost(report: Report) -> Report:
    """The same without IPv6."""
    return replace(report, families={**report.families, Family.V6: FamilyReport(expected=True, ok=False)})


def test_a_path_that_fails_in_part_and_now_and_then_pages_once() -> None:
    """Whether the family works changes with each round, and with it the severity; another node sees it at times."""
    with Fleet() as fleet, Monitoring(fleet.targets, MINUTE) as monitoring:
        receiver = monitoring.receiver
        path = found(good_day(), Cause.IPV6_UNREACHABLE, "peer/node-b")

        def live(minutes: float) -> None:
            for number in range(round(2 * minutes)):
                fleet.nodes["node-a"].become(path if number % 3 else lost(path))
                fleet.nodes["node-b"].become(path if number % 7 == 3 else good_day())
                monitoring.let_pass(0.5)

        for name in ("node-a", "node-b"):
            fleet.nodes[name].become(path)
        place = 'place:dualstack_fault:subjects{fault="ipv6_unreachable", node=""}'
        monitoring.prometheus.wait(lambda: bool(monitoring.prometheus.instant(place)), "two nodes of four")
        live(7)
        receiver.wait(lambda: bool(receiver.of("page")), "the page")
        live(7)
        assert told(receiver.of("page")) == [("DualstackIpv6Unreachable", "")], "once, while it changes"
        assert resolved(receiver.of("page")) == set(), "and it does not end meanwhile"
        for exporter in fleet.nodes.values():
            exporter.become(good_day())
        receiver.wait(lambda: bool(resolved(receiver.of("page"))), "it is healed")
        assert len(told(receiver.of("page"))) == 1


def test_a_reboot_a_rollout_and_a_changed_pool_send_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    with Fleet() as fleet, Monitoring(fleet.targets, MINUTE) as monitoring:
        node = fleet.nodes["node-a"]
        with monkeypatch.context() as away:  # the node is off
            away.setattr(node, "scrape", lambda _: (b"", "text/plain; version=0.0.4"))
            monitoring.let_pass(4)
        node.become(lost(found(good_day(), Cause.VXLAN_DEVICE_MISSING, "node/node-a")))  # and back, without its overlay
        monitoring.let_pass(2)
        node.become(good_day())
        for each in fleet.nodes.values():
            with monkeypatch.context() as replaced:
                replaced.setattr(each, "scrape", lambda _: (b"", "text/plain; version=0.0.4"))
                monitoring.let_pass(1)
        for each in fleet.nodes.values():  # what the kernel has is not what the pool says, until it spreads
            each.become(found(good_day(), Cause.VXLAN_DEVICE_MISSING, f"node/{each.name}"))
        monitoring.let_pass(1.5)
        for each in fleet.nodes.values():
            each.become(good_day())
        monitoring.let_pass(6)
        assert monitoring.receiver.of("page", "ticket") == []
        assert monitoring.unhealthy_rules() == []


# These need a past, or an exporter that does not answer.
UNTOLD = {"DualstackFamilyNoLongerExpected", "DualstackExporterAbsent", "DualstackExporterErrors"}


def everything(role: Role) -> tuple[str, set[str]]:
    """What an exporter exposes if everything is wrong with it, and the alerts that fire then."""
    lines = [
        f'dualstack_exporter_info{{node="node-a",role="{role}"}} 1', 'dualstack_reader_success{reader="nat"} 0',
        "dualstack_exporter_round_complete 0", "dualstack_exporter_config_last_reload_successful 0",
        "dualstack_inventory_stale 1", 'dualstack_cause_unchecked{cause="target_down",reason="lsm"} 1',
    ]  # fmt: skip
    alerts = {r.name for r in MAIN if r.is_alert and r.name.startswith("DualstackExporter")} - UNTOLD
    for family in ("IPv4", "IPv6") if role is Role.NODE else ():
        lines += [
            f'dualstack_family_expected{{ip_family="{family}"}} 1',
            f'dualstack_family_ok{{ip_family="{family}"}} 0',
        ]
        alerts.add(f"Dualstack{family.capitalize()}Down")
    # A path cause would be the reason of the lost IPv6, which shall be named as well.
    causes = [c for c in Cause if role in c.spec.roles and c.spec.scope is not Scope.PATH]
    for cause in causes:
        lines.append(f'dualstack_cause{{cause="{cause}",scope="{cause.spec.scope}",severity="warning"}} 1')
        labels = f'cause="{cause}",kind="thing",namespace="shop",name="web-0"'
        lines.append(f"dualstack_cause_subject_info{{{labels}}} 1")
    known = {rule.name for rule in MAIN if rule.is_alert}
    return "".join(f"{line}\n" for line in lines), alerts | {name for c in causes if (name := alert_name(c)) in known}


@pytest.mark.parametrize("role", [Role.NODE, Role.CLUSTER])
def test_every_description_names_what_is_affected_and_commands_to_paste(
    role: Role, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a real Prometheus renders it."""
    text, expected = everything(role)
    with Fleet() as fleet:
        exporter = fleet.nodes["node-a"] if role is Role.NODE else fleet.cluster
        monkeypatch.setattr(exporter, "scrape", lambda _: (text.encode(), "text/plain; version=0.0.4"))
        with Monitoring([(exporter.address, exporter.labels)], MINUTE) as monitoring:
            monitoring.prometheus.wait(lambda: set(monitoring.descriptions()) >= expected, "every alert")
            told = monitoring.descriptions()
    for name in expected:
        said = re.sub(r"custom-columns=\S+", "", told[name])  # which have names in capitals
        assert not re.search(r"no value|<error|%!|{{|NAMESPACE|\bNAME\b|\bPOD\b|\bNODE\b|\bSERVER\b", said), said
        assert said.endswith(f" Runbook: `dualstack-exporter explain {name}`.")
        if name in {alert_name(cause) for cause in Cause}:
            assert " Affected: thing/shop/web-0. First: " in said
        elif role is Role.NODE:
            assert " Affected: " in said
