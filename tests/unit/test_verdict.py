"""Memory over rounds, gates of families, and explanation by pairs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from exporter.diagnosis.endpoints import destinations_of
from exporter.diagnosis.engine.explain import escalated, explain
from exporter.diagnosis.engine.explanations import FOLLOWS, PATH_CAUSES
from exporter.diagnosis.engine.rule_input import Judgement, Rule
from exporter.diagnosis.engine.verdict import INAPPLICABLE, Memory, Verdict, judge
from exporter.diagnosis.rules.judging import found as found_of
from exporter.diagnosis.rules.path import PATH_RULES
from exporter.model.cause import Cause, Role, Severity
from exporter.model.cluster.service import Service
from exporter.model.family import Family
from exporter.model.probe import Layer, Observation
from exporter.model.reason import Reason
from exporter.model.report import Finding, Found, PodView
from exporter.model.subject import Pair, Subject
from exporter.model.vantage import PodState
from tests.unit.cluster_scene import changed, service
from tests.unit.scene import V4, V6, dials, pod, seen, target, view

NOTHING: Mapping[Cause, Rule] = {cause: lambda _: () for cause in Cause}


def rules(**said: Judgement) -> dict[Cause, Rule]:
    def always(judgement: Judgement) -> Rule:
        return lambda _: judgement

    return {**NOTHING, **{Cause(name): always(judgement) for name, judgement in said.items()}}


def a_finding(cause: Cause, *subjects: str, pairs: tuple[Pair, ...] = (), severity: Severity | None = None) -> Finding:
    (finding,) = found_of(
        cause,
        map(Subject, subjects or ("node/ra",)),
        evidence=("seen",),
        command="look",
        pairs=pairs,
        severity=severity,
    )
    return finding


def run(*judgements: Judgement, cause: Cause = Cause.NODE_FORWARDING_OFF, step: float = 30.0) -> list[Verdict]:
    """One verdict per round, 30 s apart."""
    memory, verdicts = Memory(), []
    for number, judgement in enumerate(judgements):
        verdict, memory = judge(view(now=1000.0 + number * step), memory, rules=rules(**{cause.value: judgement}))
        verdicts.append(verdict)
    return verdicts


def found(verdict: Verdict) -> set[Cause]:
    return {item.finding.cause for item in verdict.causes}


def test_a_cause_is_written_as_its_name_and_found_by_it() -> None:
    assert [cause.value for cause in Cause] == [cause.name.lower() for cause in Cause]
    assert all(Cause(cause.value) is cause for cause in Cause)


def test_a_finding_stands_at_once_and_goes_after_two_rounds_not_holding() -> None:
    held = (a_finding(Cause.NODE_FORWARDING_OFF),)
    assert [found(v) for v in run(held, held, (), ())] == [{Cause.NODE_FORWARDING_OFF}] * 3 + [set()]


def test_one_round_without_it_does_not_restart_its_age() -> None:
    held = (a_finding(Cause.NODE_FORWARDING_OFF),)
    assert {v.causes[0].since for v in run(held, (), held)} == {1000.0}


def test_the_severity_of_a_cause_that_stands_only_rises() -> None:
    """Within ten minutes, for the subjects that it was seen of."""
    said: list[set[tuple[str, Severity]]] = []
    memory = Memory()
    seen_as = [Severity.WARNING, Severity.CRITICAL] * 3 + [Severity.WARNING] * 21
    for number, severity in enumerate(seen_as):
        findings = (
            a_finding(Cause.DNS_UNREACHABLE, "server/one", severity=severity),
            a_finding(Cause.DNS_UNREACHABLE, "server/two", severity=Severity.WARNING),
        )
        verdict, memory = judge(view(now=1000.0 + 30.0 * number), memory, rules=rules(dns_unreachable=findings))
        said.append({(s, c.finding.severity) for c in verdict.causes for s in c.finding.subjects})
    worse, better = (
        {("server/one", s), ("server/two", Severity.WARNING)} for s in (Severity.CRITICAL, Severity.WARNING)
    )
    assert said == [better, *[worse] * 25, better]


def test_what_cannot_be_checked_keeps_its_value_five_minutes_and_is_then_absent() -> None:
    held = (a_finding(Cause.NODE_FORWARDING_OFF),)
    first, kept, gone = run(held, Reason.NO_PERMISSION, Reason.NO_PERMISSION, step=200.0)
    assert found(first) == found(kept) == {Cause.NODE_FORWARDING_OFF}
    assert Cause.NODE_FORWARDING_OFF not in gone.checked
    assert (Cause.NODE_FORWARDING_OFF, Reason.NO_PERMISSION) in {(u.cause, u.reason) for u in gone.unchecked}


HERE, GONE = pod("here"), pod("gone")


@pytest.mark.parametrize("later", [Reason.NO_PODS, ()], ids=["unchecked", "one round not holding"])
def test_what_is_only_remembered_says_nothing_about_pods_that_have_gone(later: Judgement) -> None:
    """Its series go with the pod; a finding about nothing else is over, one about a living pod stays."""
    causes = {
        Cause.POD_IPV6_MISSING: (a_finding(Cause.POD_IPV6_MISSING, GONE.subject),),
        Cause.POD_IPV6_DISABLED: (a_finding(Cause.POD_IPV6_DISABLED, HERE.subject, GONE.subject),),
        Cause.IPV6_UNREACHABLE: (
            a_finding(
                Cause.IPV6_UNREACHABLE,
                GONE.subject,
                Subject("target/a"),
                pairs=(Pair(GONE.subject, Subject("target/a"), V6),),
            ),
        ),
    }
    both, one = (
        (PodView(vantage=HERE), PodView(vantage=GONE)),
        (PodView(vantage=HERE), PodView(vantage=replace(GONE, state=PodState.TERMINATING))),
    )
    memory = Memory()
    for now in (970.0, 1000.0):
        _, memory = judge(view(pods=both, now=now), memory, rules=rules(**{c.value: f for c, f in causes.items()}))
    verdict, _ = judge(view(pods=one, now=1030.0), memory, rules=rules(**{cause.value: later for cause in causes}))
    assert {c.finding.cause: c.finding.subjects for c in verdict.causes} == {Cause.POD_IPV6_DISABLED: (HERE.subject,)}
    assert verdict.checked >= causes.keys()


@pytest.mark.parametrize("cause", [Cause.NODE_FORWARDING_OFF, Cause.DNS_A_BLOCKED])
@pytest.mark.parametrize(("expected", "reason"), [(False, Reason.SINGLE_STACK), (None, Reason.NO_INVENTORY)])
def test_no_cause_about_a_family_that_is_not_expected(cause: Cause, expected: bool | None, reason: Reason) -> None:
    family = cause.spec.family
    assert family is not None
    seen = view()
    seen = replace(seen, snapshot=replace(seen.snapshot, families={V4: True, V6: True, family: expected}))
    verdict, _ = judge(seen, Memory(), rules=rules(**{cause.value: (a_finding(cause),)}))
    assert found(verdict) == set()
    assert (cause, reason) in {(u.cause, u.reason) for u in verdict.unchecked}


def test_a_family_that_is_expected_no_more_takes_its_causes_with_it_after_two_rounds() -> None:
    """Nothing is kept of it for five minutes: the operator has just said that it is not meant to be."""
    held = rules(node_forwarding_off=(a_finding(Cause.NODE_FORWARDING_OFF),))
    _, memory = judge(view(), Memory(), rules=held)
    verdicts = []
    for now in (1030.0, 1060.0):
        later = view(now=now)
        later = replace(later, snapshot=replace(later.snapshot, families={V4: True, V6: False}))
        verdict, memory = judge(later, memory, rules=held)
        verdicts.append(verdict)
    assert [found(v) for v in verdicts] == [{Cause.NODE_FORWARDING_OFF}, set()]
    assert (Cause.NODE_FORWARDING_OFF, Reason.SINGLE_STACK) in {(u.cause, u.reason) for u in verdicts[1].unchecked}


@pytest.mark.parametrize("reason", sorted(INAPPLICABLE))
def test_a_cause_that_does_not_apply_any_more_goes_after_two_rounds(reason: Reason) -> None:
    """A pool that went from VXLAN to none asks for no tunnel: the missing one is not remembered for five minutes."""
    held = (a_finding(Cause.NODE_FORWARDING_OFF),)
    first, once, twice = run(held, reason, reason)
    assert found(first) == found(once) == {Cause.NODE_FORWARDING_OFF}
    assert Cause.NODE_FORWARDING_OFF not in twice.checked
    assert (Cause.NODE_FORWARDING_OFF, reason) in {(u.cause, u.reason) for u in twice.unchecked}
    assert [found(v) for v in run(held, (), reason)][-1] == found(run(held, reason, ())[-1]) == set()


COMPARING = Cause.VXLAN_DEVICE_MISSING


def compared(*rounds: tuple[float | None, bool]) -> list[bool]:
    """Whether it is found, round by round 30 s apart from 1000 on, by (the moment the inventory shows, whether the
    kernel contradicts).
    """
    memory, said = Memory(), []
    for number, (moment, contradicts) in enumerate(rounds):
        now = 1000.0 + number * 30.0
        seen = view(now=now, inventory=changed(current_at=moment))
        seen = replace(seen, snapshot=replace(seen.snapshot, inspected=now - 2.0))
        judgement = (a_finding(COMPARING),) if contradicts else ()
        verdict, memory = judge(seen, memory, rules=rules(**{COMPARING.value: judgement}))
        said.append(COMPARING in found(verdict))
        assert COMPARING in verdict.checked
    return said


def test_a_contradiction_counts_in_the_second_round_with_an_inventory_of_its_own() -> None:
    assert compared((999.0, True), (1029.0, True), (1029.0, True)) == [False, True, True]


def test_a_change_made_through_the_api_is_no_fault_while_it_spreads() -> None:
    """The kernel follows at once; the inventory that contradicts it is older, and the newer one does not."""
    assert compared((900.0, True), (990.0, True), (1050.0, False), (1080.0, False)) == [False] * 4
    assert compared((900.0, True), (990.0, True), (1050.0, True)) == [False, False, True]


def test_a_contradiction_counts_in_two_rounds_running() -> None:
    assert compared((999.0, True), (1029.0, False), (1059.0, True), (1089.0, True)) == [False, False, False, True]


def test_each_subject_waits_for_an_inventory_of_its_own() -> None:
    """A node that was added is no fault of the tunnel because another peer of it is broken."""
    memory, said = Memory(), []
    for now, moment, peers in (
        (1000.0, 999.0, ("peer/old",)),
        (1030.0, 1029.0, ("peer/old",)),
        (1060.0, 1059.0, ("peer/old", "peer/new")),
        (1090.0, 1050.0, ("peer/old", "peer/new")),  # an inventory from before the new one was seen
        (1120.0, 1119.0, ("peer/old",)),
        (1150.0, 1149.0, ("peer/old", "peer/new")),
        (1180.0, 1179.0, ("peer/old", "peer/new")),
    ):
        seen = view(now=now, inventory=changed(current_at=moment))
        seen = replace(seen, snapshot=replace(seen.snapshot, inspected=now - 2.0))
        finding = replace(
            a_finding(Cause.VXLAN_PEER_INCOMPLETE, *peers), evidence=tuple(f"{peer} has no route" for peer in peers)
        )
        verdict, memory = judge(seen, memory, rules=rules(vxlan_peer_incomplete=(finding,)))
        said.append([(c.finding.subjects, len(c.finding.evidence)) for c in verdict.causes])
    old, both = [(("peer/old",), 1)], [(("peer/new", "peer/old"), 2)]
    assert said == [[], old, old, old, old, old, both]


def test_another_contradiction_than_that_of_the_round_before_waits_as_well() -> None:
    memory = Memory()
    for now, pool in ((1000.0, "pool/one"), (1030.0, "pool/two")):
        seen = view(now=now, inventory=changed(current_at=now - 1.0))
        seen = replace(seen, snapshot=replace(seen.snapshot, inspected=now - 2.0))
        finding = (a_finding(Cause.NAT_MASQUERADE_MISSING, pool),)
        verdict, memory = judge(seen, memory, rules=rules(nat_masquerade_missing=finding))
        assert found(verdict) == set()


def test_an_inventory_of_no_moment_is_as_it_was_given() -> None:
    assert compared((None, True), (None, True)) == [False, True]


@pytest.mark.parametrize("cause", [cause for cause in Cause if not cause.spec.compares])
def test_what_compares_nothing_is_found_at_once(cause: Cause) -> None:
    seen = view(inventory=changed(current_at=0.0), role=Role.ALL)
    verdict, _ = judge(seen, Memory(), rules=rules(**{cause.value: (a_finding(cause),)}))
    assert cause in found(verdict)


POD_OUT = Pair(Subject("pod/default/web"), Subject("target/pypi"), V6)
HOST_OUT = Pair(Subject("node/ra"), Subject("target/pypi"), V6)
POD_PEER = Pair(Subject("pod/default/web"), Subject("peer/babel"), V6)


@pytest.mark.parametrize(
    ("root", "subjects", "pair", "explains"),
    [
        (Cause.NAT_MASQUERADE_MISSING, ("pool/v6",), POD_OUT, True),
        (Cause.NAT_MASQUERADE_MISSING, ("pool/v6",), HOST_OUT, False),
        (Cause.NAT_MASQUERADE_MISSING, ("pool/v6",), POD_PEER, False),
        (Cause.NODE_NO_IPV6_DEFAULT_ROUTE, ("node/ra",), HOST_OUT, True),
        (Cause.VXLAN_DEVICE_MISSING, ("node/ra",), POD_PEER, True),
        (Cause.VXLAN_DEVICE_MISSING, ("node/ra",), POD_OUT, False),
        (Cause.VXLAN_PEER_INCOMPLETE, ("peer/babel",), POD_PEER, True),
        (Cause.VXLAN_PEER_INCOMPLETE, ("peer/other",), POD_PEER, False),
        (Cause.POD_NO_IPV6_DEFAULT_ROUTE, ("pod/default/web",), POD_OUT, True),
        (Cause.POD_NO_IPV6_DEFAULT_ROUTE, ("pod/default/db",), POD_OUT, False),
        (Cause.NODE_FORWARDING_OFF, ("node/ra",), POD_PEER, True),
        (Cause.NODE_FORWARDING_OFF, (Subject("node/ra"),), Pair(Subject("node/ra"), Subject("peer/babel"), V6), False),
        (
            Cause.NODE_IPV6_DISABLED,
            (Subject("node/ra"),),
            Pair(Subject("node/ra"), Subject("target/apiserver"), V6),
            True,
        ),
        (
            Cause.NAT_KUBE_PROXY_MISSING,
            (Subject("node/ra"),),
            Pair(Subject("node/ra"), Subject("target/service"), V6),
            True,
        ),
        (
            Cause.NAT_KUBE_PROXY_MISSING,
            (Subject("node/ra"),),
            Pair(Subject("pod/default/web"), Subject("server/dns/bind"), V6),
            True,
        ),
        (
            Cause.NAT_MASQUERADE_MISSING,
            (Subject("pool/v6"),),
            Pair(Subject("pod/default/web"), Subject("server/dns/bind"), V6),
            False,
        ),
        (
            Cause.NAT_MASQUERADE_MISSING,
            (Subject("pool/v6"),),
            Pair(Subject("pod/default/web"), Subject("server/node_local"), V6),
            False,
        ),
        (
            Cause.NAT_MASQUERADE_MISSING,
            (Subject("pool/v6"),),
            Pair(Subject("pod/default/web"), Subject("server/corp"), V6),
            True,
        ),
        (
            Cause.VXLAN_DEVICE_MISSING,
            (Subject("node/ra"),),
            Pair(Subject("pod/default/web"), Subject("server/dns/bind"), V6),
            True,
        ),
    ],
)
def test_a_root_explains_the_pairs_in_its_reach(
    root: Cause, subjects: tuple[str, ...], pair: Pair, explains: bool
) -> None:
    symptom = a_finding(Cause.IPV6_UNREACHABLE, pair.vantage, pair.destination, pairs=(pair,))
    said = explain((a_finding(root, *subjects), symptom))
    assert said[1].by == (root if explains else None)


def test_what_no_root_covers_stays_with_the_uncovered_pairs_as_subjects() -> None:
    symptom = a_finding(Cause.IPV6_UNREACHABLE, "pod/default/web", "node/ra", "target/pypi", pairs=(POD_OUT, HOST_OUT))
    said = explain((a_finding(Cause.NAT_MASQUERADE_MISSING, "pool/v6"), symptom))
    assert said[1].by is None
    assert said[1].finding.subjects == ("node/ra", "target/pypi")


def test_two_roots_explain_together_and_the_first_in_the_table_is_named() -> None:
    symptom = a_finding(Cause.IPV6_UNREACHABLE, pairs=(POD_OUT, POD_PEER))
    said = explain((a_finding(Cause.NAT_MASQUERADE_MISSING), a_finding(Cause.VXLAN_DEVICE_MISSING), symptom))
    assert [item.by for item in said] == [None, None, Cause.NAT_MASQUERADE_MISSING]


def test_an_explaining_cause_takes_the_higher_severity() -> None:
    blocked = a_finding(Cause.DNS_AAAA_BLOCKED, "server/cluster_dns", severity=Severity.CRITICAL)
    corefile = a_finding(Cause.COREDNS_TEMPLATE_BLOCKS_AAAA, "configmap/kube-system/coredns", severity=Severity.WARNING)
    said = escalated(explain((blocked, corefile)))
    assert said[0].by is Cause.COREDNS_TEMPLATE_BLOCKS_AAAA
    assert said[1].finding.severity is Severity.CRITICAL


def test_a_cause_of_the_digest_explains_only_what_is_not_more_severe() -> None:
    blocked = a_finding(Cause.DNS_AAAA_BLOCKED, "server/cluster_dns", severity=Severity.CRITICAL)
    for severity, by in ((Severity.WARNING, None), (Severity.CRITICAL, Cause.COREDNS_TEMPLATE_BLOCKS_AAAA)):
        told = Found(
            cause=Cause.COREDNS_TEMPLATE_BLOCKS_AAAA,
            severity=severity,
            subjects=(Subject("configmap/kube-system/coredns"),),
            elsewhere=True,
        )
        assert explain((blocked,), (told,))[0].by is by


def test_an_info_explains_nothing() -> None:
    symptom = a_finding(Cause.IPV6_UNREACHABLE, pairs=(POD_OUT,))
    verdict, _ = judge(
        view(), Memory(),
        rules=rules(ipv6_unreachable=(symptom,),
            ippool_nat_outgoing_off=(a_finding(Cause.IPPOOL_NAT_OUTGOING_OFF, severity=Severity.INFO),)),
    )  # fmt: skip
    assert {item.finding.cause: item.explained_by for item in verdict.causes}[Cause.IPV6_UNREACHABLE] is None


@pytest.mark.parametrize("cause", [Cause.DNS_UNREACHABLE, Cause.DNS_QUERIES_LOST])
def test_a_nameserver_that_is_silent_or_loses_questions_follows_from_the_path_to_it(cause: Cause) -> None:
    path = a_finding(
        Cause.IPV6_UNREACHABLE, pairs=(Pair(Subject("pod/default/web"), Subject("target/cluster_dns"), V6),)
    )
    dns = a_finding(
        cause,
        Subject("server/cluster_dns"),
        pairs=(Pair(Subject("pod/default/web"), Subject("server/cluster_dns"), V6),),
    )
    assert explain((dns, path))[0].by is Cause.IPV6_UNREACHABLE


@pytest.mark.parametrize("root", [c for c in Cause if c.spec.family is V6 and c.spec.severity is not Severity.INFO])
def test_a_nameserver_that_is_silent_over_ipv4_is_explained_by_nothing_about_ipv6(root: Cause) -> None:
    """A host without a global IPv6 address and one dead IPv4 nameserver: the outage stays, with its own severity."""
    lost = Pair(Subject("node/ra"), Subject("server/corp"), V4)
    dns = a_finding(Cause.DNS_UNREACHABLE, "server/corp", pairs=(lost,))
    pairs = (Pair(Subject("node/ra"), Subject("target/corp"), V6), Pair(Subject("node/ra"), Subject("server/corp"), V6))
    said = explain((dns, a_finding(root, "node/ra", "server/corp", pairs=pairs if root in PATH_CAUSES else ())))
    assert said[0].by is None
    assert said[0].finding == dns
    over_ipv6 = replace(lost, family=V6)
    both = explain((replace(dns, pairs=frozenset({lost, over_ipv6})), a_finding(Cause.NODE_IPV6_DISABLED, "node/ra")))
    assert both[0].by is None
    assert both[0].finding.pairs == {lost}


@pytest.mark.parametrize(("family", "explained"), [(Family.V6, True), (Family.V4, False)])
def test_a_target_that_is_down_follows_from_the_way_to_it(family: Family, explained: bool) -> None:
    """Where it was dialled over IPv6 alone. One that fails over IPv4 as well is down."""
    pairs = {Pair(Subject("node/ra"), Subject("target/pypi"), each) for each in (Family.V6, family)}
    down = a_finding(Cause.TARGET_DOWN, "target/pypi", pairs=tuple(pairs), severity=Severity.INFO)
    root = a_finding(Cause.NODE_NO_IPV6_DEFAULT_ROUTE, "node/ra")
    path = a_finding(Cause.IPV6_UNREACHABLE, "node/ra", "target/pypi",
        pairs=(Pair(Subject("node/ra"), Subject("target/pypi"), Family.V6),))  # fmt: skip
    assert (explain((root, down))[1].by is Cause.NODE_NO_IPV6_DEFAULT_ROUTE) is explained
    assert (explain((path, down))[1].by is Cause.IPV6_UNREACHABLE) is explained


def test_a_refusal_follows_from_a_pod_that_listens_on_ipv4_alone_which_is_then_a_warning() -> None:
    behind = frozenset({Subject("target/service")})
    pair = (Pair(Subject("node/ra"), Subject("target/service"), Family.V6),)
    deaf = replace(a_finding(Cause.POD_LISTENS_IPV4_ONLY, "pod/default/web", severity=Severity.INFO),
        affects_destinations=behind)  # fmt: skip
    refusal = a_finding(Cause.TARGET_REFUSES_IPV6, "node/ra", "target/service", pairs=pair)
    silence = a_finding(Cause.IPV6_UNREACHABLE, "node/ra", "target/service", pairs=pair)
    listening, refused = escalated(explain((deaf, refusal)))
    assert (refused.by, listening.finding.severity) == (Cause.POD_LISTENS_IPV4_ONLY, Severity.WARNING)
    assert escalated(explain((deaf, silence)))[1].by is None
    forwarding = a_finding(Cause.NODE_IPV6_DISABLED, "node/ra")
    assert explain((forwarding, refusal))[1].by is None


def test_a_cause_that_is_explained_hands_over_its_root() -> None:
    lost = a_finding(Cause.NODE_NO_IPV6_DEFAULT_ROUTE, "node/ra")
    ignored = a_finding(Cause.NODE_ACCEPT_RA_IGNORED, "node/ra")
    symptom = a_finding(Cause.IPV6_UNREACHABLE, pairs=(POD_OUT, HOST_OUT))
    assert [item.by for item in explain((symptom, lost, ignored))] == [Cause.NODE_ACCEPT_RA_IGNORED] * 2 + [None]


def test_the_root_of_the_digest_is_handed_over_to_what_is_not_more_severe() -> None:
    missing = a_finding(Cause.POD_IPV6_MISSING, "pod/default/web")
    told = Found(
        cause=Cause.IPPOOL_EXHAUSTED, severity=Severity.WARNING, subjects=(Subject("pool/v6"),), elsewhere=True
    )
    for severity, by in ((Severity.WARNING, Cause.IPPOOL_EXHAUSTED), (Severity.CRITICAL, None)):
        symptom = a_finding(Cause.IPV6_UNREACHABLE, pairs=(POD_OUT,), severity=severity)
        said = explain((symptom, missing), (told,))
        assert (said[0].by, said[1].by) == (by, Cause.IPPOOL_EXHAUSTED)
        assert said[0].elsewhere is (by is not None)


def test_what_is_explained_of_a_path_explains_no_silent_nameserver_in_its_place() -> None:
    """The path to the nameserver is lost with the tunnel; the same cause's other pair, to the outside, stays open."""
    server = Pair(Subject("pod/default/web"), Subject("target/cluster_dns"), V6)
    path = a_finding(Cause.IPV6_UNREACHABLE, pairs=(server, HOST_OUT))
    dns = a_finding(
        Cause.DNS_UNREACHABLE,
        Subject("server/cluster_dns"),
        pairs=(Pair(Subject("pod/default/web"), Subject("server/cluster_dns"), V6),),
    )
    said = explain((dns, path, a_finding(Cause.VXLAN_DEVICE_MISSING)))
    assert [item.by for item in said] == [Cause.VXLAN_DEVICE_MISSING, None, None]
    assert said[1].finding.pairs == {HOST_OUT}


NODE_C = (Subject("node/chi"),)


@pytest.mark.parametrize(
    ("root", "symptom", "explained"),
    [
        # About this node, or about no node in particular.
        (Found(cause=Cause.FELIX_IPV6_OFF, severity=Severity.WARNING, subjects=(Subject("node/ra"),)),
            a_finding(Cause.NAT_MASQUERADE_MISSING, Subject("pool/v6")), True),
        (Found(cause=Cause.IPPOOL_EXHAUSTED, severity=Severity.WARNING, subjects=(Subject("pool/v6"),)),
            a_finding(Cause.POD_IPV6_MISSING, Subject("pod/default/web")), True),
        # About another node: its pods, its rules and its tunnel are not these.
        (Found(cause=Cause.FELIX_IPV6_OFF, severity=Severity.WARNING, subjects=NODE_C),
            a_finding(Cause.NAT_MASQUERADE_MISSING, Subject("pool/v6")), False),
        (Found(cause=Cause.FELIX_IPV6_OFF, severity=Severity.WARNING, subjects=NODE_C),
            a_finding(Cause.POD_ROUTE_MISSING, Subject("pod/default/web")), False),
        (Found(cause=Cause.FELIX_IPV6_OFF, severity=Severity.WARNING, subjects=NODE_C),
            a_finding(Cause.VXLAN_DEVICE_MISSING, Subject("node/ra")), False),
        (Found(cause=Cause.IPPOOL_IPV6_MISSING, severity=Severity.WARNING, subjects=NODE_C),
            a_finding(Cause.POD_IPV6_MISSING, Subject("pod/default/web")), False),
        (Found(cause=Cause.CALICO_NODE_ADDRESS_MISSING, severity=Severity.WARNING, subjects=NODE_C),
            a_finding(Cause.VXLAN_DEVICE_MISSING, Subject("node/ra")), False),
        # But the way to it is shared.
        (Found(cause=Cause.CALICO_NODE_ADDRESS_MISSING, severity=Severity.WARNING, subjects=NODE_C),
            a_finding(Cause.VXLAN_PEER_INCOMPLETE, Subject("peer/chi")), True),
        (Found(cause=Cause.CALICO_NODE_ADDRESS_MISSING, severity=Severity.WARNING, subjects=NODE_C),
            a_finding(Cause.VXLAN_PEER_INCOMPLETE, Subject("peer/babel")), False),
        # CoreDNS answers for the cluster's nameservers, not for others.
        (Found(cause=Cause.COREDNS_TEMPLATE_BLOCKS_AAAA, severity=Severity.CRITICAL,
            subjects=(Subject("configmap/a/b"),)), a_finding(Cause.DNS_AAAA_BLOCKED, Subject("server/node_local")),
            True),
        (Found(cause=Cause.COREDNS_TEMPLATE_BLOCKS_AAAA, severity=Severity.CRITICAL,
            subjects=(Subject("configmap/a/b"),)), a_finding(Cause.DNS_AAAA_BLOCKED, Subject("server/corp")), False),
        (Found(cause=Cause.DNS_AAAA_BLOCKED, severity=Severity.CRITICAL, subjects=(Subject("server/corp"),)),
            a_finding(Cause.SERVICE_AAAA_MISSING, Subject("service/default/web")), False),
    ],
)  # fmt: skip
def test_what_holds_of_one_place_explains_nothing_of_another(root: Found, symptom: Finding, explained: bool) -> None:
    said = explain((symptom,), (replace(root, elsewhere=True),), node="ra")
    assert (said[0].by is root.cause) is explained
    own = explain((symptom, a_finding(root.cause, *root.subjects, severity=root.severity)), node="ra")
    assert (own[0].by is root.cause) is explained


PEER_C, PEER_B = Pair(Subject("node/ra"), Subject("peer/chi"), V6), Pair(Subject("node/ra"), Subject("peer/babel"), V6)


def test_the_way_to_another_node_that_lacks_something_is_explained_and_to_no_third_one() -> None:
    told = Found(cause=Cause.CALICO_NODE_ADDRESS_MISSING, severity=Severity.WARNING, subjects=NODE_C, elsewhere=True)
    both = a_finding(Cause.IPV6_UNREACHABLE, "node/ra", "peer/babel", "peer/chi", pairs=(PEER_C, PEER_B))
    (left,) = explain((both,), (told,), node="ra")
    assert left.by is None
    assert left.finding.subjects == ("node/ra", "peer/babel")
    (here,) = explain((both,), (replace(told, subjects=(Subject("node/ra"),)),), node="ra")
    assert here.by is Cause.CALICO_NODE_ADDRESS_MISSING


def test_a_nameserver_that_the_corefile_does_not_explain_keeps_its_own_evidence() -> None:
    blocked = replace(
        a_finding(Cause.DNS_AAAA_BLOCKED, "server/cluster_dns", "server/corp", severity=Severity.CRITICAL),
        evidence=("server/cluster_dns (fd98::10), blanket_nodata: x", "server/corp (192.0.2.53), refused: y"),
    )
    corefile = a_finding(
        Cause.COREDNS_TEMPLATE_BLOCKS_AAAA, "configmap/kube-system/coredns", severity=Severity.CRITICAL
    )
    left = explain((blocked, corefile))[0]
    assert left.by is None
    assert left.finding.subjects == ("server/corp",)
    assert left.finding.evidence == ("server/corp (192.0.2.53), refused: y",)


C_SLICE = Cause.ENDPOINTSLICE_IPV6_MISSING
SHOP = service("shop")
OWN = service("dualstack-exporter", labels={"app.kubernetes.io/name": "dualstack-exporter"})


@pytest.mark.parametrize(("named", "explained"), [(OWN, True), (SHOP, False)])
@pytest.mark.parametrize("told", [True, False], ids=["by the digest", "in this report"])
def test_a_service_without_ipv6_endpoints_spoils_itself_and_no_other(
    named: Service, explained: bool, told: bool
) -> None:
    subject = Subject(f"service/{named.key}")
    pair = Pair(Subject("node/ra"), Subject("target/service"), V6)
    inventory = changed(services=(OWN, SHOP))
    path = a_finding(Cause.IPV6_UNREACHABLE, "node/ra", "target/service", pairs=(pair,))
    root = replace(a_finding(C_SLICE, subject), affects_destinations=destinations_of(inventory, {subject}))
    elsewhere = (Found(cause=C_SLICE, severity=Severity.WARNING, subjects=(subject,), elsewhere=True),) if told else ()
    verdict, _ = judge(
        view(inventory=inventory, role=Role.NODE if told else Role.ALL), Memory(), elsewhere=elsewhere,
        rules=rules(ipv6_unreachable=(path,), **({} if told else {C_SLICE.value: (root,)})),
    )  # fmt: skip
    by = {c.finding.cause: c.explained_by for c in verdict.causes}[Cause.IPV6_UNREACHABLE]
    assert by is (C_SLICE if explained else None)


def test_felix_without_ipv6_writes_no_nat() -> None:
    said = explain((a_finding(Cause.NAT_MASQUERADE_MISSING, "pool/v6"), a_finding(Cause.FELIX_IPV6_OFF, "node/ra")))
    assert said[0].by is Cause.FELIX_IPV6_OFF


def test_explanation_never_runs_in_a_circle() -> None:
    assert not {c for c in FOLLOWS if c in {r for roots in FOLLOWS.values() for r in roots} and c in FOLLOWS.get(c, ())}
    everything = tuple(a_finding(cause, pairs=(POD_OUT, POD_PEER)) for cause in Cause)
    by = {item.finding.cause: item.by for item in explain(everything)}
    assert all(by[root] is None for root in by.values() if root is not None)


def walk(rounds: int, *, healed: int, root: bool = True) -> list[set[Cause]]:
    """What stands unexplained, round by round: a pod's dials outside fail until round `healed`; until the round before
    a root is found.
    """
    web = pod("web")
    memory, said = Memory(), []
    made: list[tuple[Observation, ...]] = []
    for number in range(rounds):
        now = 1000.0 + 30.0 * number
        words = "tcp6=ok tcp4=ok" if number >= healed else "tcp6=timeout tcp4=ok"
        to = target("pypi", layers=(Layer.TCP,))
        made.insert(0, tuple(replace(o, time=now - 1.0) for o in seen(web, to, words)))
        seen_now = view(kept=made[0], before=made[1] if len(made) > 1 else (), now=now, pods=(PodView(vantage=web),))
        seen_now = replace(seen_now, snapshot=replace(seen_now.snapshot, dials=dials(made[:6])))
        nat = (a_finding(Cause.NAT_MASQUERADE_MISSING, "pool/v6"),) if root and number < healed else ()
        said_now, memory = judge(
            seen_now, memory,
            rules={**rules(nat_masquerade_missing=nat), Cause.IPV6_UNREACHABLE: PATH_RULES[Cause.IPV6_UNREACHABLE]},
        )  # fmt: skip
        said.append({c.finding.cause for c in said_now.causes if c.explained_by is None})
    return said


def test_a_path_that_failed_for_no_known_reason_goes_after_six_dials_that_passed() -> None:
    said = walk(16, healed=5, root=False)
    assert [bool(each) for each in said] == [False] + [True] * (4 + 6) + [False] * 5


def test_failures_that_followed_from_a_cause_that_is_over_are_accounted_for() -> None:
    """Once the rule is back, its pods' paths are not unexplained for as long as their failures are remembered."""
    said = walk(14, healed=5)
    assert said[1:6] == [{Cause.NAT_MASQUERADE_MISSING}] * 5
    assert said[6:] == [set()] * 8
