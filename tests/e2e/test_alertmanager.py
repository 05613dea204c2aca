"""alerts/alertmanager.yaml in a real Alertmanager: what goes where, and what mutes what."""

from __future__ import annotations

import select
import subprocess
import time
from collections.abc import Iterator, Mapping

import pytest

from alerts.derive import inhibitions
from exporter.model.cause import Cause
from exporter.report.document import alert_name
from tests.e2e.alerting import ALERTS, PATIENCE, Alertmanager

pytestmark = pytest.mark.real

CONFIGURATION = ALERTS / "alertmanager.yaml"


def amtool(*arguments: str) -> str:
    done = subprocess.run(["amtool", *arguments], capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


def test_amtool_accepts_the_configuration() -> None:
    assert "SUCCESS" in amtool("check-config", str(CONFIGURATION))


@pytest.mark.parametrize(
    ("alert", "severity", "receiver"),
    [
        ("DualstackNatMasqueradeMissing", "critical", "page"),
        ("DualstackIpv6Down", "critical", "page"),
        ("DualstackNatMasqueradeMissing", "warning", "ticket"),
        ("DualstackExporterAbsent", "warning", "ticket"),
        ("DualstackNatMasqueradeMissing", "info", "nowhere"),
        ("DualstackWatchdog", "none", "dead-mans-switch"),
        ("SomebodyElses", "critical", "nowhere"),
    ],
)
def test_alerts_go_where_their_severity_says(alert: str, severity: str, receiver: str) -> None:
    routed = amtool(
        "config", "routes", "test", f"--config.file={CONFIGURATION}", f"alertname={alert}", f"severity={severity}"
    )
    assert routed == receiver


@pytest.fixture(scope="module")
def alertmanager() -> Iterator[Alertmanager]:
    with Alertmanager(minute=60.0) as running:
        yield running


class Cases:
    """Alerts of many small worlds at once: each in a cluster of its own, so that none mutes another's."""

    def __init__(self, world: str) -> None:
        self._world = world
        self._alerts: list[dict[str, str]] = []
        self._expected: dict[str, tuple[Mapping[str, str], bool]] = {}

    def add(self, source: Mapping[str, str], target: Mapping[str, str], *, muted: bool, elsewhere: str = "") -> None:
        cluster = f"{self._world}-{len(self._expected)}"
        self._alerts.append({**source, "cluster": elsewhere or cluster})
        self._alerts.append({**target, "cluster": cluster})
        self._expected[cluster] = ({**target, "cluster": cluster}, muted)

    def hold(self, alertmanager: Alertmanager) -> None:
        """Every target is muted or not as expected; inhibition follows the posting within moments."""
        alertmanager.post(self._alerts)
        end = time.monotonic() + PATIENCE
        while wrong := self._wrong(alertmanager):
            assert time.monotonic() < end, wrong[:5]
            select.select([], [], [], 0.2)

    def _wrong(self, alertmanager: Alertmanager) -> list[tuple[Mapping[str, str], bool]]:
        muted = {
            tuple(sorted(alert["labels"].items())): bool(alert["status"]["inhibitedBy"])
            for alert in alertmanager.alerts()
        }
        return [
            (labels, wanted)
            for labels, wanted in self._expected.values()
            if muted.get(tuple(sorted(labels.items()))) is not wanted
        ]


def alert(name: str, severity: str, node: str = "") -> dict[str, str]:
    return {"alertname": name, "severity": severity, **({"node": node} if node else {})}


def test_every_explanation_of_the_table_mutes_what_it_explains(alertmanager: Alertmanager) -> None:
    cases = Cases("table")
    for each in inhibitions():
        same_node = "node" in each.equal
        for source in each.sources:
            node = "" if each.whole_cluster else "ra"
            for target in each.targets:
                there = "ra" if same_node else "rb"
                cases.add(alert(source, "warning", node), alert(target, "warning", there), muted=True)
                cases.add(alert(source, "critical", node), alert(target, "critical", there), muted=each.mutes_critical)
    cases.hold(alertmanager)


def test_nothing_is_muted_by_what_is_milder_elsewhere_or_unrelated(alertmanager: Alertmanager) -> None:
    cases = Cases("unrelated")
    nat, path, down = "DualstackNatMasqueradeMissing", "DualstackIpv6Unreachable", "DualstackIpv6Down"
    felix, vxlan, pod = "DualstackFelixIpv6Off", "DualstackVxlanDeviceMissing", "DualstackPodIpv6Missing"
    cases.add(alert(nat, "warning", "ra"), alert(path, "critical", "ra"), muted=False)
    cases.add(alert(nat, "critical", "ra"), alert(path, "warning", "rb"), muted=False)
    cases.add(alert(nat, "critical", "ra"), alert(path, "warning", "ra"), muted=False, elsewhere="another")
    cases.add(alert(vxlan, "critical", "ra"), alert(path, "critical", "rb"), muted=False)
    cases.add(alert(path, "critical", "ra"), alert(nat, "warning", "ra"), muted=False)
    cases.add(alert(felix, "warning", "ra"), alert(path, "warning", "rb"), muted=False)
    cases.add(alert(nat, "critical", "ra"), alert("DualstackDnsAaaaBlocked", "warning", "ra"), muted=False)
    # What nothing explains is muted by nothing, and mutes only tickets of its own node.
    cases.add(alert(nat, "critical", "ra"), alert(down, "critical", "ra"), muted=False)
    cases.add(alert(down, "critical", "ra"), alert(pod, "warning", "ra"), muted=True)
    cases.add(alert(down, "critical", "ra"), alert(pod, "warning", "rb"), muted=False)
    cases.add(alert(down, "critical", "ra"), alert(pod, "critical", "ra"), muted=False)
    cases.hold(alertmanager)


def test_one_alert_is_told_once_as_severely_and_as_widely_as_it_is(alertmanager: Alertmanager) -> None:
    cases = Cases("once")
    name = alert_name(Cause.DNS_UNREACHABLE)
    cases.add(alert(name, "critical", "ra"), alert(name, "warning", "ra"), muted=True)
    cases.add(alert(name, "critical", "ra"), alert(name, "warning", "rb"), muted=False)
    cases.add(alert(name, "warning"), alert(name, "warning", "ra"), muted=True)
    cases.add(alert(name, "critical"), alert(name, "critical", "ra"), muted=True)
    cases.add(alert(name, "warning"), alert(name, "critical", "ra"), muted=False)
    cases.add(alert(name, "warning", "ra"), alert(name, "warning"), muted=False)
    cases.hold(alertmanager)


def test_long_rounds_need_no_ticket_where_something_pages(alertmanager: Alertmanager) -> None:
    cases = Cases("long-rounds")
    nat, long = "DualstackNatMasqueradeMissing", "DualstackExporterRoundIncomplete"
    cases.add(alert(nat, "critical", "ra"), alert(long, "warning", "ra"), muted=True)
    cases.add(alert(nat, "critical"), alert(long, "warning", "ra"), muted=True)
    cases.add(alert(nat, "critical", "ra"), alert(long, "warning", "rb"), muted=False)
    cases.add(alert(nat, "warning", "ra"), alert(long, "warning", "ra"), muted=False)
    cases.hold(alertmanager)


def test_nothing_mutes_itself_in_a_circle() -> None:
    """Alertmanager would mute both ends."""
    follows: dict[str, set[str]] = {}
    for each in inhibitions():
        for source in each.sources:
            follows.setdefault(source, set()).update(each.targets)
    seen: dict[str, bool] = {}

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, path
        if name not in seen:
            seen[name] = True
            for target in follows.get(name, ()):
                visit(target, (*path, name))

    for name in follows:
        visit(name, ())
