"""dualstack_family_ok: more than half of the pods, each by one passing target of every group (section 8)."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import pytest

from exporter.diagnosis.families import family_ok, family_reports
from exporter.diagnosis.rules.path import PATH_RULES
from exporter.model.probe import Group, Layer, Observation, Target
from exporter.model.reason import Reason
from exporter.model.report import PodView, Snapshot
from exporter.model.vantage import PodState, Vantage
from tests.unit.scene import HOST, V4, V6, pod, seen, target, view

WEB, API = target("web"), target("apiserver", Group.APISERVER)
DEEP = target("deep", layers=(Layer.TCP, Layer.TLS, Layer.HTTP))
SERVICE, BABEL, CORFU = (
    target("service", Group.SERVICE),
    target("peers", Group.PEERS, peer="babel"),
    target("peers", Group.PEERS, peer="corfu"),
)
FENCED = replace(target("fenced", layers=(Layer.TCP, Layer.TLS)), expect_reachable=False)


def snapshot(kept: Iterable[Observation], pods: Iterable[Vantage]) -> Snapshot:
    return view(kept=kept, pods=[PodView(vantage=p) for p in pods]).snapshot


def works(*said: tuple[Target, str]) -> bool | None:
    """Whether a single pod that saw this works over IPv6."""
    web = pod("web")
    return family_ok(snapshot([o for to, words in said for o in seen(web, to, words)], [web]), V6)


@pytest.mark.parametrize(
    ("said", "ok"),
    [
        ([(WEB, "tcp6=ok")], True),
        ([(WEB, "icmp6=ok tcp6=timeout")], False),
        ([(WEB, "icmp6=timeout tcp6=ok")], True),  # its deepest layer counts
        ([(DEEP, "tcp6=ok tls6=ok http6=status")], False),
        ([(DEEP, "tcp6=ok tls6=tls_name http6=not_reached")], False),
        ([(WEB, "tcp6=timeout"), (target("other"), "tcp6=ok")], True),  # one of the group suffices
        ([(BABEL, "tcp6=timeout"), (CORFU, "tcp6=refused")], True),
        ([(WEB, "tcp6=ok"), (SERVICE, "tcp6=timeout")], False),  # every group
        ([(WEB, "tcp6=ok"), (API, "tcp6=timeout")], True),  # the API server is in none
        ([(WEB, "tcp6=local"), (SERVICE, "tcp6=ok")], True),  # says nothing
        ([(WEB, "tcp6=no_permission")], None),
        ([(WEB, "tcp4=ok")], None),
        ([(WEB, "tcp6=no_address")], False),
        ([], None),
    ],
)
def test_a_vantage_works_by_one_target_of_each_group(said: list[tuple[Target, str]], ok: bool | None) -> None:
    assert works(*said) is ok


def test_a_target_out_of_reach_proves_nothing_beside_one_that_is_not() -> None:
    assert works((FENCED, "tcp6=timeout tls6=not_reached"), (WEB, "tcp6=timeout")) is False
    assert works((FENCED, "tcp6=timeout tls6=not_reached")) is True
    assert works((FENCED, "tcp6=ok tls6=not_reached")) is False
    assert works((FENCED, "tcp6=ok tls6=not_reached"), (WEB, "tcp6=ok")) is True


def test_more_than_half_of_the_eligible_pods_decide() -> None:
    pods = [pod(f"p{n}") for n in range(4)]
    made = [seen(p, WEB, "tcp6=ok" if n < 2 else "tcp6=timeout") for n, p in enumerate(pods)]
    assert family_ok(snapshot([o for each in made for o in each], pods), V6) is False
    assert family_ok(snapshot([o for each in made[:3] for o in each], pods), V6) is True, "the fourth has no result yet"


def test_without_pods_the_host_decides_and_never_beside_them() -> None:
    from_host = seen(HOST, WEB, "tcp6=ok")
    assert family_ok(snapshot(from_host, []), V6) is True
    assert family_ok(snapshot(from_host, [pod("web")]), V6) is None
    meshed = pod("meshed", state=PodState.INTERCEPTED)
    assert family_ok(snapshot([*from_host, *seen(meshed, WEB, "icmp6=timeout")], [meshed]), V6) is True


def test_a_pod_under_an_egress_policy_has_no_say() -> None:
    web = pod("web")
    assert family_ok(snapshot(seen(web, WEB, "tcp6=timeout", policy=True), [web]), V6) is None


def test_a_family_that_is_not_expected_has_no_verdict() -> None:
    found = snapshot(seen(HOST, WEB, "tcp6=timeout tcp4=ok"), [])
    reports = family_reports(replace(found, families={V4: None, V6: False}))
    assert (reports[V6].expected, reports[V6].ok) == (False, None)
    assert (reports[V4].expected, reports[V4].ok) == (None, True)


def test_a_target_that_is_meant_to_be_out_of_reach_is_no_path_cause() -> None:
    web = pod("web")
    refused = seen(web, replace(WEB, expect_reachable=False), "icmp6=timeout tcp6=timeout icmp4=ok tcp4=refused")
    connected = seen(web, replace(target("leak"), expect_reachable=False), "tcp6=ok tcp4=ok")
    said = {cause: rule(view(kept=[*refused, *connected])) for cause, rule in PATH_RULES.items()}
    assert {
        cause: judgement for cause, judgement in said.items() if judgement and not isinstance(judgement, Reason)
    } == {}
