"""Which dials a round makes, and when: vantages, meshes, peers by turn, jitter, deadlines, the API server's budget."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.model.family import FAMILIES, Family
from exporter.model.probe import Group, Layer
from exporter.model.subject import Subject, SubjectKind
from exporter.model.vantage import PodState
from exporter.plan.checks import host_checks, pod_checks
from exporter.plan.round_plan import SPREAD, Pace
from exporter.plan.targets import inside
from tests.unit.plan_scene import a_node, a_pod, cluster, round_plan
from tests.unit.scene import V4, V6, pod, target

WEB = target("web")
API = target("apiserver", Group.APISERVER, layers=(Layer.TCP,))
PEERS = [target("peers", Group.PEERS, peer=f"n{n}") for n in range(3)]


def test_the_host_dials_everything_all_peers_included() -> None:
    checks = host_checks(round_plan(), [WEB, API, *PEERS])
    assert len(checks) == 2 * 5
    assert {c.family for c in checks} == set(FAMILIES)


def test_a_pod_dials_one_peer_at_a_time_and_never_the_api_server() -> None:
    pods = [pod(f"p{n}") for n in range(2)]
    turns = [pod_checks(round_plan(number=turn), pods, [WEB, API, *PEERS]) for turn in range(3)]
    for checks in turns:
        assert "apiserver" not in {c.target.name for c in checks}
        for each in pods:
            assert len({c.target.peer for c in checks if c.vantage == each and c.target.peer}) == 1
    asked = {c.target.peer for checks in turns for c in checks if c.vantage == pods[0] and c.target.peer}
    assert asked == {"n0", "n1", "n2"}


def test_a_peer_that_just_failed_is_dialled_a_second_time_beside_the_next() -> None:
    pods = [pod(f"p{n}") for n in range(2)]
    checks = pod_checks(round_plan(again={pods[1].key: PEERS[0].subject}), pods, PEERS)
    assert {(c.vantage.name, c.target.peer) for c in checks} == {("p0", "n0"), ("p1", "n1"), ("p1", "n0")}
    gone = pod_checks(round_plan(again={pods[1].key: Subject.of(SubjectKind.PEER, "gone")}), pods, PEERS)
    assert {(c.vantage.name, c.target.peer) for c in gone} == {("p0", "n0"), ("p1", "n1")}


def test_pods_dial_a_peer_at_its_pods_and_the_host_at_its_node() -> None:
    nodes = (a_node("n0", 1), a_node("n1", 2), a_node("ra", 9))
    there = a_pod("web", node="n0", ready=True, ips=(ip_address("10.1.0.2"), ip_address("fd01::2")))
    plan = round_plan(inventory=cluster(nodes=nodes, pods=(there,)))
    peers = [t for t in inside(plan.context.inventory, plan.config, FAMILIES, 7200.0) if t.peer == "n0"]
    assert {str(c.address) for c in host_checks(plan, peers)} == {"10.42.1.1", "fd42::1:1"}
    assert {str(c.address) for c in pod_checks(plan, [pod("p0")], peers)} == {"10.1.0.2", "fd01::2"}


def test_a_pod_behind_a_mesh_is_pinged_only() -> None:
    meshed = pod("meshed", state=PodState.INTERCEPTED)
    tcp_only = target("plain", layers=(Layer.TCP,))
    checks = pod_checks(round_plan(number=0), [meshed], [WEB, tcp_only])
    assert {(c.target.name, c.target.layers) for c in checks} == {("web", (Layer.ICMP,))}


def test_a_pod_is_dialled_from_over_the_families_it_is_meant_to_have() -> None:
    checks = pod_checks(round_plan(number=0), [pod("old", families=(V4,))], [WEB])
    assert {c.family for c in checks} == {V4}


def test_a_family_without_any_address_is_no_check_and_one_that_failed_to_resolve_is() -> None:
    only_four = replace(WEB, addresses={V4: WEB.addresses[V4]})
    unresolved = replace(WEB, addresses={V4: WEB.addresses[V4], V6: None})
    assert {c.family for c in host_checks(round_plan(), [only_four])} == {V4}
    assert {c.family: c.address is None for c in host_checks(round_plan(), [unresolved])} == {
        V4: False,
        V6: True,
    }


@given(names=st.lists(st.text("abc", min_size=1), max_size=20), family=st.sampled_from(FAMILIES))
def test_starts_are_spread_and_the_same_in_every_round(names: list[str], family: Family) -> None:
    pods = [pod(name) for name in names]
    first = pod_checks(round_plan(families=(family,), number=0), pods, [WEB])
    assert first == pod_checks(round_plan(families=(family,), number=1), pods, [WEB])
    assert all(0 <= c.start < SPREAD for c in first)
    assert len({c.start for c in first}) == len({c.vantage.key for c in first})


def test_a_targets_own_timeout_shortens_the_whole_and_never_lengthens_it() -> None:
    short, long = replace(WEB, timeout=1.5), replace(WEB, timeout=60.0)
    assert [c.timeouts.whole for t in (short, long) for c in host_checks(round_plan(families=(V4,)), [t])] == [
        1.5,
        10.0,
    ]


@pytest.mark.parametrize(("interval", "every"), [(30.0, 1), (20.0, 1), (19.0, 2), (10.0, 2), (1.0, 20), (300.0, 1)])
def test_the_api_server_sees_a_tenth_of_a_connection_a_second(interval: float, every: int) -> None:
    pace = Pace(interval=interval, timeout=interval / 2)
    assert pace.rounds_between(2) == every
    assert 2 / (every * interval) <= 0.1 + 1e-9


def test_a_check_is_bound_by_no_budget() -> None:
    pace = Pace(interval=30.0, timeout=4.0, bounded=False)
    assert (pace.queries, pace.rounds_between(2)) == (None, 1)
