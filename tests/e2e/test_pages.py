"""Who is paged for what: faults of the lab, through everything that stands between them and a pager (pages.py).

Faults that have nothing to do with each other are made at once, on different nodes; each must send its own page, and
nothing else may come.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import pytest

from tests.e2e.pages import Page, Stack, last_pod
from tests.lab.faults import FAULTS

pytestmark = pytest.mark.real
Act = Callable[[Stack], object]


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    with Stack() as running:
        running.wait_quiet()
        yield running


@dataclass(frozen=True)
class Broken:
    """Faults made together: the pages that must come, and what must fire and be muted as a consequence of them."""

    name: str
    acts: tuple[Act, ...]
    pages: tuple[Page, ...]
    muted: tuple[tuple[str, str], ...] = ()
    restart: bool = False
    failing: frozenset[tuple[str, str]] = frozenset()  # pods that dualstack_pod_failing names, and their nodes


def on(node: int, fault: str, *, other_pod: bool = False) -> Act:
    """A fault of the lab on that node, or on its last pod."""

    def act(stack: Stack) -> None:
        chosen = stack.cluster.lab.nodes[node]
        stack.cluster.lab.fault(fault, last_pod(chosen) if other_pod else chosen)

    return act


def of_matrix(name: str) -> Act:
    """A fault of the matrix that concerns the cluster."""
    return lambda stack: FAULTS[name].act(stack.cluster)


def page(alert: str, node: str = "") -> Page:
    return Page("page", f"Dualstack{alert}", node)


def ticket(alert: str, node: str = "") -> Page:
    return Page("ticket", f"Dualstack{alert}", node)


def failing_pods(stack: Stack) -> set[tuple[str, str]]:
    """Names and nodes of failing pods, as found by way of kube-state-metrics: the labels of the two must be those of
    the pod.
    """
    owned = "dualstack_pod_failing * on (namespace, pod) group_left (created_by_kind, created_by_name) kube_pod_info"
    found = stack.prometheus.instant(owned)
    assert {each.labels["created_by_name"] for each in found} <= {"web-7d4b9c6f5"}
    return {(each.labels["pod"], each.labels["node"]) for each in found}


BROKEN = (
    Broken(
        "on the nodes, in a pod, and in the cluster's objects",
        (
            on(0, "masquerade_rule_removed"), on(1, "default_route_removed"),
            on(2, "pod_ipv6_disabled", other_pod=True),
            of_matrix("ranges_overlap"), of_matrix("assign_ipv6_off"), of_matrix("feature_gate_removed"),
        ),
        (
            page("NatMasqueradeMissing", "node-a"), page("NodeNoIpv6DefaultRoute", "node-b"),
            page("PodIpv6Disabled", "node-c"),
            ticket("CidrOverlap"), ticket("CniNotAssigningIpv6"), ticket("ControlPlaneFlags"),
        ),
        restart=True,
        failing=frozenset({("web-a-0", "node-a"), ("web-a-1", "node-a"), ("web-b-0", "node-b"), ("web-b-1", "node-b"),
            ("web-c-1", "node-c")}),
    ),
    Broken(
        "in the Corefile, on the way outside, to a pod and to Services, in a tunnel, of an exporter's configuration",
        (
            of_matrix("template_blocks_aaaa"), of_matrix("outside_tcp6_blocked"),
            on(0, "pod_route_removed", other_pod=True), on(1, "services_removed"), on(2, "vxlan_mtu_small"),
            lambda stack: stack.spoil_config(stack.cluster.lab.nodes[1]),
        ),
        (
            page("CorednsTemplateBlocksAaaa"), page("Ipv6TcpBlocked"), page("PodRouteMissing", "node-a"),
            page("NatKubeProxyMissing", "node-b"), ticket("VxlanMisconfigured", "node-c"),
            ticket("ExporterReloadFailed", "node-b"),
        ),
        muted=(("DualstackDnsAaaaBlocked", ""),),
    ),
    Broken(
        "of the nameserver, of a tunnel that other nodes miss, and of the cluster role",
        (of_matrix("nameserver_silent"), on(2, "vxlan_deleted"), lambda stack: stack.stop_exporter(None)),
        (page("DnsUnreachable"), page("VxlanDeviceMissing", "node-c"), ticket("ExporterAbsent")),
        muted=(("DualstackIpv6Unreachable", ""),),
    ),
)  # fmt: skip


def test_a_healthy_cluster_sends_nothing_but_the_watchdog(stack: Stack) -> None:
    beats = stack.beats
    stack.wait_rounds(3)
    stack.wait(lambda: stack.beats > beats + 1, "the dead man's switch")
    assert stack.pages == []
    assert stack.alerts("active") == []


def test_neither_a_restart_nor_a_rollout_sends_anything(stack: Stack) -> None:
    for node in (*stack.cluster.lab.nodes, None):
        stack.restart_exporter(node)
    stack.wait_quiet()
    assert not stack.prometheus.instant(
        'max_over_time(ALERTS{alertstate="firing", alertname!="DualstackWatchdog"}[5m])'
    )
    assert stack.pages == []


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: broken.name)
def test_each_fault_sends_its_page_once_and_takes_it_back(stack: Stack, broken: Broken) -> None:
    before = len(stack.pages)

    def came() -> list[Page]:
        return sorted(stack.pages[before:], key=str)

    expected = sorted(broken.pages, key=str)
    places = sorted((each.alert, each.node) for each in expected)
    try:
        for act in broken.acts:
            act(stack)
        stack.wait(lambda: set(expected) <= set(came()), "the pages")
        if broken.restart:
            stack.restart_exporter(stack.cluster.node)
        stack.wait(lambda: not stack.pending(), "nothing is about to fire")
        if broken.failing:
            stack.wait(lambda: failing_pods(stack) == broken.failing, f"the failing pods {failing_pods(stack)}")
        stack.wait(lambda: set(broken.muted) <= set(stack.alerts("suppressed")), "what follows is muted")
        assert stack.alerts("active") == places
        assert came() == expected
    finally:
        stack.heal()
        stack.wait_quiet()
        stack.wait(lambda: sum(each.status == "firing" for each in came()) * 2 <= len(came()), "all is taken back")
    resolved = [replace(each, status="resolved") for each in expected]
    stack.wait(lambda: set(resolved) <= set(came()), "the pages are taken back")
    assert came() == sorted([*expected, *resolved], key=str)
