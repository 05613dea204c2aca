"""Each path cause by its own evidence, and what is not one."""

from __future__ import annotations

from dataclasses import replace

import pytest

from exporter.diagnosis.rules.path import PATH_RULES
from exporter.model.cause import Cause
from exporter.model.family import Family
from exporter.model.probe import Group, Layer, Observation, Outcome, Target
from exporter.model.reason import Reason
from exporter.model.subject import Pair
from exporter.model.vantage import PodState, Vantage
from tests.unit.cluster_scene import HEALTHY, changed, endpoints, service
from tests.unit.cluster_scene import pod as cluster_pod
from tests.unit.scene import HOST, dials, pod, seen, target, view

WEB, DB = pod("web"), pod("db")
BABEL = target("peers", Group.PEERS, peer="babel")
PYPI, CRATES = target("pypi"), target("crates")
SERVICE = target("service", Group.SERVICE, layers=(Layer.TCP,))


def found(kept: list[Observation], before: list[Observation] | None = None) -> dict[Cause, frozenset[Pair]]:
    """The causes that hold, with their pairs."""
    seen_by = view(kept=kept, before=before)
    judged = {cause: rule(seen_by) for cause, rule in PATH_RULES.items()}
    return {cause: said[0].pairs for cause, said in judged.items() if isinstance(said, tuple) and said}


FINE = "icmp6=ok tcp6=ok tcp4=ok"


@pytest.mark.parametrize(
    ("said", "cause"),
    [
        (FINE, None),
        ("icmp6=ok tcp6=refused tcp4=refused", Cause.TARGET_DOWN),
        ("icmp6=timeout tcp6=ok tcp4=ok", None),  # many networks drop echo
        ("icmp6=ok tcp6=timeout tcp4=ok", Cause.IPV6_TCP_BLOCKED),
        ("icmp6=ok tcp6=prohibited tcp4=refused", Cause.IPV6_TCP_BLOCKED),
        ("icmp6=timeout tcp6=timeout tcp4=ok", Cause.IPV6_UNREACHABLE),
        ("icmp6=unreachable tcp6=unreachable tcp4=ok", Cause.IPV6_UNREACHABLE),
        ("tcp6=timeout tcp4=ok", Cause.IPV6_UNREACHABLE),
        ("tcp6=refused tcp4=ok", Cause.TARGET_REFUSES_IPV6),
        ("tcp6=reset tcp4=ok", None),
        ("icmp6=timeout tcp6=timeout tcp4=timeout", Cause.TARGET_DOWN),
        ("icmp6=timeout tcp6=timeout", Cause.TARGET_DOWN),  # a target that has IPv6 alone
        ("icmp6=vanished tcp6=vanished tcp4=ok", None),
        ("tcp6=ok tls6=tls_name tcp4=ok tls4=ok", Cause.IPV6_TLS_FAILED),
        ("tcp6=ok tls6=tls_chain tcp4=ok tls4=tls_chain", None),
    ],
)
def test_one_destination_from_one_pod(said: str, cause: Cause | None) -> None:
    causes = found(seen(WEB, PYPI, said))
    expected = set() if cause is None else {cause}
    assert set(causes) - ({Cause.TARGET_DOWN} if cause is not Cause.TARGET_DOWN else set()) == expected


def test_nothing_is_decided_on_one_sample() -> None:
    assert found(seen(WEB, PYPI, "icmp6=timeout tcp6=timeout tcp4=ok"), before=seen(WEB, PYPI, FINE)) == {}


ECHO_LOST = "icmp6=ok tcp6=ok tcp4=ok"
NPM = target("npm")


def lost_echoes(*to: Target) -> list[Observation]:
    return [
        o
        for each in (PYPI, CRATES, NPM)
        for o in seen(WEB, each, ECHO_LOST, full_size=Outcome.TIMEOUT if each in to else Outcome.OK)
    ]


def told_apart(said: str, *to: Target) -> list[Observation]:
    """What is said of these targets, while the others are well; four, so that one of them is less than half."""
    targets = (PYPI, CRATES, NPM, target("go"))
    return [o for each in targets for o in seen(WEB, each, said if each in to else FINE)]


@pytest.mark.parametrize(
    ("kept", "before"),
    [
        # Two destinations lose full-size echoes in either round, and not the same two: one alone proves nothing.
        (lost_echoes(PYPI, CRATES), lost_echoes(PYPI, NPM)),
        # Half of the destinations is blocked in either round, and one alone in both.
        (told_apart("icmp6=ok tcp6=timeout tcp4=ok", PYPI, CRATES),
            told_apart("icmp6=ok tcp6=timeout tcp4=ok", PYPI, NPM)),
        # A target that has IPv6 alone has another one to share its fate in each round, and none in both.
        (
            [*seen(WEB, PYPI, "icmp6=timeout tcp6=timeout"), *seen(WEB, CRATES, "icmp6=timeout tcp6=timeout"),
                *seen(WEB, NPM, "tcp6=ok")],
            [*seen(WEB, PYPI, "icmp6=timeout tcp6=timeout"), *seen(WEB, NPM, "icmp6=timeout tcp6=timeout"),
                *seen(WEB, CRATES, "tcp6=ok")],
        ),
    ],
    ids=["full-size echoes", "half of the destinations", "companions"],
)  # fmt: skip
def test_how_many_there_are_is_not_decided_on_one_sample_either(
    kept: list[Observation], before: list[Observation]
) -> None:
    assert set(found(kept, before)) <= {Cause.TARGET_DOWN}


def test_the_first_round_says_too_few_samples() -> None:
    first = view(kept=seen(WEB, PYPI, "icmp6=timeout tcp6=timeout tcp4=ok"), before=[])
    assert PATH_RULES[Cause.IPV6_UNREACHABLE](first) is Reason.TOO_FEW_SAMPLES


def test_two_targets_that_have_ipv6_alone_and_fail_together_are_unreachable() -> None:
    said = "icmp6=timeout tcp6=timeout"
    causes = found([*seen(WEB, PYPI, said), *seen(WEB, CRATES, said), *seen(WEB, SERVICE, "tcp6=ok tcp4=ok")])
    assert len(causes[Cause.IPV6_UNREACHABLE]) == 2


def test_a_target_is_down_only_where_every_family_was_tried_and_failed() -> None:
    down = "icmp6=timeout tcp6=timeout tcp4=timeout"
    assert set(found(seen(WEB, PYPI, down))) == {Cause.TARGET_DOWN}
    assert set(found([*seen(WEB, PYPI, down), *seen(HOST, PYPI, "tcp4=ok")])) == set()
    for untold in ("tcp6=timeout tcp4=no_permission", "tcp6=timeout tcp4=vanished"):
        assert set(found(seen(WEB, PYPI, untold))) == set()
    policed = [*seen(WEB, PYPI, "tcp6=timeout", policy=True), *seen(WEB, PYPI, "tcp4=timeout")]
    assert set(found(policed)) == set()


SIX, OTHER_SIX = (pod(name, families=(Family.V6,)) for name in ("six", "other-six"))
SILENT6, FINE6 = "icmp6=timeout tcp6=timeout", "icmp6=ok tcp6=ok"
ANUBIS, DIS = (target("peers", Group.PEERS, peer=name) for name in ("anubis", "dis"))


@pytest.mark.parametrize(
    ("made", "fails"),
    [
        # One dead target is no fault of IPv6, alone in its group or not.
        ([(SIX, PYPI, SILENT6), (SIX, SERVICE, "tcp6=ok")], set()),
        ([(SIX, PYPI, SILENT6), (SIX, CRATES, FINE6)], set()),
        ([(SIX, PYPI, SILENT6), (OTHER_SIX, PYPI, SILENT6), (SIX, SERVICE, "tcp6=ok")], set()),
        # Two of a group are; of peers, which may be down, all.
        ([(SIX, PYPI, SILENT6), (SIX, CRATES, SILENT6), (SIX, SERVICE, "tcp6=ok")], {"target/pypi", "target/crates"}),
        ([(SIX, BABEL, SILENT6), (SIX, ANUBIS, SILENT6), (SIX, SERVICE, "tcp6=ok")], {"peer/babel", "peer/anubis"}),
        ([(SIX, BABEL, SILENT6), (SIX, ANUBIS, SILENT6), (SIX, DIS, FINE6)], set()),
        # Nor is a target dead that answers another vantage, and not all are where nothing arrives.
        ([(SIX, PYPI, SILENT6), (OTHER_SIX, PYPI, FINE6), (SIX, SERVICE, "tcp6=ok")], {"target/pypi"}),
        ([(SIX, PYPI, SILENT6), (SIX, SERVICE, "tcp6=timeout")], {"target/pypi", "target/service"}),
    ],
)  # fmt: skip
def test_where_ipv4_is_not_meant_to_be_a_dead_target_is_no_fault_of_ipv6(
    made: list[tuple[Vantage, Target, str]], fails: set[str]
) -> None:
    causes = found([o for place, to, said in made for o in seen(place, to, said)])
    assert {p.destination for p in causes.get(Cause.IPV6_UNREACHABLE, ())} == fails


def test_a_peer_that_pods_dial_in_turn_is_down_while_the_others_answer() -> None:
    """A pod dials another peer each time; the one that answered was dialled once."""
    kept, before = seen(SIX, BABEL, SILENT6), seen(SIX, ANUBIS, FINE6)
    seen_by = view(kept=kept, before=before)
    history = ((*kept, *before), tuple(kept))
    seen_by = replace(seen_by, snapshot=replace(seen_by.snapshot, dials=dials(history)))
    assert PATH_RULES[Cause.IPV6_UNREACHABLE](seen_by) == ()


def test_with_ipv4_meant_to_be_a_target_that_has_ipv6_alone_shows_nothing_by_itself() -> None:
    causes = found([*seen(WEB, PYPI, SILENT6), *seen(WEB, SERVICE, "tcp6=ok tcp4=ok")])
    assert Cause.IPV6_UNREACHABLE not in causes


def test_a_peer_that_fails_over_both_families_is_down_and_no_path_cause() -> None:
    causes = found(
        [*seen(HOST, BABEL, "icmp6=timeout tcp6=timeout icmp4=timeout tcp4=timeout"), *seen(HOST, PYPI, FINE)]
    )
    assert set(causes) == {Cause.TARGET_DOWN}


LOST = "icmp6=timeout tcp6=timeout icmp4=timeout tcp4=timeout"
V6_LOST = "tcp6=timeout tcp4=ok"


@pytest.mark.parametrize(("peer", "doubtful"), [(LOST, True), ("icmp6=timeout tcp6=timeout icmp4=ok tcp4=ok", False)])
def test_a_service_with_endpoints_on_a_lost_node_fails_by_chance(peer: str, doubtful: bool) -> None:
    inventory = changed(
        nodes=HEALTHY.nodes,
        services=(service("dualstack-exporter", labels={"app.kubernetes.io/name": "dualstack-exporter"}),),
        endpoint_slices=(
            endpoints("dualstack-exporter", "10.1.12.2"),
            endpoints("dualstack-exporter", "fd01:0:0:12::2"),
        ),
        pods=(cluster_pod("dualstack-exporter", "babel", "10.1.12.2", "fd01:0:0:12::2"),),
    )
    kept = [*seen(HOST, BABEL, peer), *seen(WEB, SERVICE, V6_LOST), *seen(WEB, PYPI, V6_LOST)]
    said = PATH_RULES[Cause.IPV6_UNREACHABLE](view(kept=kept, inventory=inventory))
    assert isinstance(said, tuple)
    assert ("target/service" in said[0].subjects) is not doubtful
    assert "target/pypi" in said[0].subjects


REFUSED, ANSWERED = "tcp6=refused tcp4=ok", "tcp6=ok tcp4=ok"


@pytest.mark.parametrize(
    ("rounds", "refuses"),
    [
        ([REFUSED] * 2, True),
        ([REFUSED, ANSWERED], False),  # a process that restarts refuses for a moment
        ([REFUSED, REFUSED, "tcp6=ok tcp4=refused"], False),  # over either family
        ([REFUSED, ANSWERED, REFUSED, ANSWERED, ANSWERED, ANSWERED], False),
    ],
)
def test_a_target_that_refuses_ipv6_does_so_in_two_rounds(rounds: list[str], refuses: bool) -> None:
    history = tuple(tuple(seen(WEB, SERVICE, said)) for said in rounds)
    seen_by = view(kept=history[0], before=history[1])
    seen_by = replace(seen_by, snapshot=replace(seen_by.snapshot, dials=dials(history)))
    said = PATH_RULES[Cause.TARGET_REFUSES_IPV6](seen_by)
    expected = {Pair(WEB.subject, SERVICE.subject, Family.V6)} if refuses else None
    assert (said[0].pairs if isinstance(said, tuple) and said else None) == expected


def test_some_of_several_endpoints_that_refuse_ipv6_are_seen_by_how_often_they_do() -> None:
    places = [pod(f"p{n}") for n in range(3)]
    kept = [o for place in places for o in seen(place, SERVICE, REFUSED)]
    fine = [o for place in places for o in seen(place, SERVICE, ANSWERED)]
    seen_by = view(kept=kept, before=fine)
    for history, found_too in (((kept, fine, fine), False), ((kept, fine, kept, fine), True)):
        some = replace(seen_by, snapshot=replace(seen_by.snapshot, dials=dials(history)))
        assert bool(PATH_RULES[Cause.TARGET_REFUSES_IPV6](some)) is found_too


def test_a_peer_that_refuses_proves_the_path() -> None:
    assert found(seen(WEB, BABEL, "icmp6=ok tcp6=refused tcp4=ok")) == {}


def test_fewer_than_half_blocked_are_no_cause_unless_all_of_one_vantage() -> None:
    blocked, fine = "icmp6=ok tcp6=timeout tcp4=ok", FINE
    others = [o for n in range(3) for o in seen(pod(f"p{n}"), PYPI, fine)]
    assert set(found([*seen(WEB, PYPI, blocked), *seen(WEB, CRATES, fine), *others])) == set()
    causes = found(
        [
            *seen(WEB, PYPI, blocked),
            *seen(WEB, CRATES, blocked),
            *others,
            *[o for n in range(3) for o in seen(pod(f"p{n}"), CRATES, fine)],
        ]
    )
    assert {p.vantage for p in causes[Cause.IPV6_TCP_BLOCKED]} == {"pod/default/web"}


def test_each_group_of_targets_is_judged_for_itself() -> None:
    peers = [
        o
        for n in range(4)
        for o in seen(HOST, target("peers", Group.PEERS, peer=f"node-{n}"), "icmp6=ok tcp6=refused tcp4=refused")
    ]
    blocked = [*seen(HOST, PYPI, "icmp6=ok tcp6=timeout tcp4=ok"), *seen(WEB, PYPI, "icmp6=ok tcp6=timeout tcp4=ok")]
    causes = found([*peers, *blocked])
    assert {p.destination for p in causes[Cause.IPV6_TCP_BLOCKED]} == {"target/pypi"}


def test_destinations_dialled_by_tcp_alone_follow_a_blocked_vantage() -> None:
    causes = found([*seen(WEB, PYPI, "icmp6=ok tcp6=timeout tcp4=ok"), *seen(WEB, SERVICE, "tcp6=timeout tcp4=ok")])
    assert Cause.IPV6_UNREACHABLE not in causes
    assert {p.destination for p in causes[Cause.IPV6_TCP_BLOCKED]} == {"target/pypi", "target/service"}


def test_a_pod_that_dials_another_peer_each_time_shows_that_its_tcp_is_blocked_all_the_same() -> None:
    blocked = "icmp6=ok tcp6=timeout tcp4=refused"
    service = seen(WEB, SERVICE, "tcp6=timeout tcp4=ok")
    now = [*service, *seen(WEB, BABEL, blocked)]
    before = [*service, *seen(WEB, target("peers", Group.PEERS, peer="anubis"), blocked)]
    assert {p.destination for p in found(now, before)[Cause.IPV6_TCP_BLOCKED]} == {"target/service"}
    well = [*service, *seen(WEB, target("peers", Group.PEERS, peer="anubis"), FINE)]
    assert set(found(now, well)) == {Cause.IPV6_UNREACHABLE}


def test_a_full_size_echo_lost_to_one_outside_host_alone_proves_nothing() -> None:
    lost = seen(WEB, PYPI, FINE, full_size=Outcome.TIMEOUT)
    assert found(lost) == {}
    assert set(found([*lost, *seen(WEB, CRATES, FINE, full_size=Outcome.TIMEOUT)])) == {Cause.IPV6_MTU_BLACKHOLE}
    assert set(found(seen(WEB, BABEL, FINE, full_size=Outcome.TIMEOUT))) == {Cause.IPV6_MTU_BLACKHOLE}


def test_packet_too_big_is_path_mtu_discovery_at_work() -> None:
    assert found(seen(WEB, BABEL, FINE, full_size=Outcome.TOO_BIG)) == {}


def test_a_pod_behind_a_mesh_blames_no_tls() -> None:
    meshed = pod("meshed", state=PodState.INTERCEPTED)
    assert found(seen(meshed, PYPI, "tcp6=ok tls6=tls_name tcp4=ok tls4=ok")) == {}


def test_what_a_policy_may_stop_is_unchecked_not_blamed() -> None:
    policed = seen(WEB, PYPI, "icmp6=timeout tcp6=timeout tcp4=ok", policy=True)
    assert PATH_RULES[Cause.IPV6_UNREACHABLE](view(kept=policed)) is Reason.POLICY


def test_the_evidence_and_the_command_name_the_place() -> None:
    said = PATH_RULES[Cause.IPV6_UNREACHABLE](view(kept=seen(WEB, PYPI, "icmp6=timeout tcp6=timeout tcp4=ok")))
    assert isinstance(said, tuple)
    assert said[0].subjects == ("pod/default/web", "target/pypi")
    assert "pod/default/web to target/pypi (2001:db8::80)" in said[0].evidence[0]
    assert said[0].command == "dualstack-exporter probe [2001:db8::80]:443 --pod=default/web"


def test_vantages_without_any_network_do_not_hide_that_one_lacks_ipv6() -> None:
    """They never reach the only target over IPv4 either, which is not the chance of a dead endpoint."""
    cut_off = [seen(pod(f"cut-{n}"), PYPI, "icmp6=unreachable tcp6=unreachable tcp4=unreachable") for n in range(9)]
    dials = [*seen(WEB, PYPI, "icmp6=unreachable tcp6=unreachable tcp4=ok"), *(o for made in cut_off for o in made)]
    shown = found(dials)
    assert shown[Cause.IPV6_UNREACHABLE] == {Pair(WEB.subject, PYPI.subject, Family.V6)}
