"""What exporters expose, through a real Prometheus and a real Alertmanager, to whoever is paged: the right alert, once,
until it is healed.

The exporters here replay sample days as the exporter itself writes them; a minute of the rules takes MINUTE seconds.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from exporter.model.cause import Cause, Severity
from exporter.model.report import CauseReport, Finding, Report
from exporter.model.subject import Subject
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
