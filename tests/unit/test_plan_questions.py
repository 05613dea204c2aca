"""The DNS questions of a round: who asks what, nothing outside by default, and the budget."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.model.cluster.corefile import Corefile
from exporter.model.cluster.inventory import Inventory, InventoryOrigin
from exporter.model.cluster.service import Service
from exporter.model.dns import ResolvConf
from exporter.model.dns_name import is_within
from exporter.model.probe import Purpose, Question
from exporter.model.report import PodView
from exporter.model.vantage import PodState
from exporter.plan.aaaa_questions import canary, cluster_domain, random_label, verdict_set
from exporter.plan.questions import node_questions, service_questions, service_rotation
from exporter.plan.round_plan import RoundPlan, pace_of
from exporter.plan.servers import known_servers
from tests.unit.plan_scene import API, KUBE_DNS, OWN, a_node, cluster, conf, config, round_plan, view
from tests.unit.scene import HOST, pod

HOST_CONF = conf("192.0.2.1", search=("corp.example",))
NODE_SEARCH = ("default.svc.cluster.local", "svc.cluster.local", "cluster.local", "corp.example")


def asking(text: str = "", inventory: Inventory | None = None, *, number: int = 0) -> RoundPlan:
    inventory = cluster() if inventory is None else inventory
    cfg = config(text)
    known = known_servers(inventory, cfg, HOST_CONF)
    return round_plan(cfg, inventory, host=view(HOST, HOST_CONF), known=known, number=number)


def plan(sample: list[PodView], of: RoundPlan, *, budget: int | None = None) -> tuple[Question, ...]:
    sampled = replace(of.context, pods=tuple(sample), sample=tuple(pod.vantage for pod in sample))
    return node_questions(replace(of, context=sampled), budget)


def sample_of(*files: ResolvConf) -> list[PodView]:
    return [view(pod(f"p{n}"), file) for n, file in enumerate(files)]


def test_by_default_no_name_outside_the_clusters_domain_is_asked() -> None:
    made = plan(
        sample_of(conf(), conf(search=NODE_SEARCH), conf(search=("svc.evil.example", "evil.example"))), asking()
    )
    assert made
    assert {q.name for q in made if not is_within(q.name, "cluster.local")} == set()


@pytest.mark.parametrize(
    "text", ["dns: {names: [{name: pypi.org}]}", "targets: [{name: web, host: web.test, port: 443}]"]
)
def test_with_something_outside_named_the_libcs_candidates_are_asked_as_they_are(text: str) -> None:
    made = plan(sample_of(conf(search=NODE_SEARCH)), asking(text))
    assert "dualstack-exporter.dualstack.svc.cluster.local.corp.example" in {q.name for q in made}


def test_a_control_name_inside_the_domain_leads_nowhere_outside() -> None:
    made = plan(sample_of(conf(search=NODE_SEARCH)), asking("dns: {names: [{name: web.default.svc.cluster.local}]}"))
    assert {q.name for q in made if not is_within(q.name, "cluster.local")} == set()
    assert "web.default.svc.cluster.local" in {q.label for q in made}


def test_one_pod_per_file_asks_the_verdict_set_and_the_others_one_aaaa() -> None:
    made = plan(sample_of(conf(), conf(), conf(search=("x.svc.cluster.local",))), asking())
    by_pod = {name: [q for q in made if q.vantage.name == name] for name in ("p0", "p1", "p2")}
    assert (
        {q.purpose for q in by_pod["p0"]} == {q.purpose for q in by_pod["p2"]} == {Purpose.VERDICT, Purpose.PREDICTION}
    )
    assert [(q.purpose, q.qtype, q.label) for q in by_pod["p1"]] == [(Purpose.PULSE, "AAAA", "canary")]


def test_labels_are_a_configured_name_canary_or_random() -> None:
    made = plan(sample_of(conf()), asking("dns: {names: [{name: pypi.org}, {name: ipv4only.arpa, expect: [A]}]}"))
    assert {q.label for q in made} == {"pypi.org", "ipv4only.arpa", "canary", "random"}
    assert {q.label for q in plan(sample_of(conf()), asking())} == {"canary", "random"}


def test_a_configured_server_is_asked_by_one_pod_and_without_pods_by_the_host() -> None:
    text = "dns: {servers: [{name: corp, address: 192.0.2.53}], names: [{name: pypi.org}]}"
    made = plan(sample_of(conf(), conf()), asking(text))
    assert {(q.server.label, q.vantage.name) for q in made} == {("corp", "p0")}
    assert {q.vantage.name for q in plan(sample_of(conf(), conf()), asking(text, number=1))} == {"p1"}
    assert {q.vantage for q in plan([], asking(text))} == {HOST}


def test_no_servers_means_that_nobody_is_asked() -> None:
    assert plan(sample_of(conf()), asking("dns: {servers: []}")) == ()


def test_what_only_the_pods_file_names_is_said_once_and_never_asked() -> None:
    made = plan(sample_of(conf("169.254.169.254", "127.0.0.1", "10.96.0.10")), asking())
    refused = [q for q in made if not q.allowed]
    assert sorted(str(q.server.address) for q in refused) == ["127.0.0.1", "169.254.169.254"]
    assert {str(q.server.address) for q in made if q.allowed} == {"10.96.0.10"}


def test_a_pod_behind_a_mesh_is_asked_nothing_and_the_host_stands_in() -> None:
    meshed = view(pod("meshed", state=PodState.INTERCEPTED), conf())
    assert {q.vantage for q in plan([meshed], asking("dns: {names: [{name: pypi.org}]}"))} == {HOST}


def test_references_are_asked_about_the_control_names_alone() -> None:
    text = "dns: {names: [{name: pypi.org}], reference: [192.0.2.77]}"
    made = [q for q in plan(sample_of(conf()), asking(text)) if q.purpose is Purpose.REFERENCE]
    assert sorted((q.name, q.qtype, str(q.server.address)) for q in made) == [
        ("pypi.org", "A", "192.0.2.77"),
        ("pypi.org", "AAAA", "192.0.2.77"),
    ]


def test_a_host_without_kubernetes_asks_for_ipv4only_arpa_by_default() -> None:
    bare = Inventory(source=InventoryOrigin.NONE)
    asked = {q.name for q in plan([], asking("", bare)) if q.purpose is Purpose.VERDICT}
    assert "ipv4only.arpa" in asked
    assert plan([], asking("dns: {names: []}", bare)) == ()
    assert not any("arpa" in q.name for q in plan(sample_of(conf()), asking("", cluster())))


FILES = st.lists(st.sampled_from([f"n{n}.svc.cluster.local" for n in range(12)]), min_size=1, max_size=20)


@settings(max_examples=25, deadline=None)
@given(files=FILES, budget=st.integers(5, 80))
def test_the_budget_holds_and_every_question_comes_round(files: list[str], budget: int) -> None:
    sample = sample_of(*(conf(search=(name, "svc.cluster.local", "cluster.local")) for name in files))
    text = "dns: {names: [{name: pypi.org}], reference: [192.0.2.77]}"
    everything = {(q.vantage.key, q.server.address, q.name, q.qtype, q.purpose) for q in plan(sample, asking(text))}
    asked = set()
    for number in range(-(-len(everything) // budget)):
        made = plan(sample, asking(text, number=number), budget=budget)
        assert len([q for q in made if q.allowed]) <= budget
        asked |= {(q.vantage.key, q.server.address, q.name, q.qtype, q.purpose) for q in made}
    assert asked == everything


@pytest.mark.parametrize(("nodes", "rate"), [(1, 2.0), (500, 1000.0), (501, 1000.0), (5000, 1000.0)])
def test_a_large_cluster_sees_at_most_a_thousand_queries_and_fifty_connects_a_second(nodes: int, rate: float) -> None:
    pace = pace_of(config(), nodes)
    assert pace.queries is not None
    assert nodes * pace.queries / pace.interval <= rate + 1e-6
    assert nodes * 2 / (pace.rounds_between(2) * pace.interval) <= rate / 20 + 1e-6
    assert pace.interval == 30.0 * max(1.0, nodes / 500)


def services(number: int) -> tuple[Service, ...]:
    return tuple(
        Service(
            namespace="team", name=f"s{n}", cluster_ips=(ip_address(f"10.97.0.{n + 1}"), ip_address(f"fd00:97::{n:x}"))
        )
        for n in range(number)
    )


@given(number=st.integers(0, 60), budget=st.one_of(st.none(), st.integers(1, 100)))
def test_services_are_asked_about_in_rotation_within_the_budget(number: int, budget: int | None) -> None:
    inventory = cluster(
        services=(KUBE_DNS, *services(number)),
        corefile=Corefile(namespace="kube-system", name="coredns", cluster_domains=("cluster.local",)),
    )
    rounds = service_rotation(inventory, budget)
    asked: set[tuple[str, str]] = set()
    for turn in range(rounds):
        made = service_questions(asking("", inventory, number=turn), budget)
        assert len(made) <= (45 if budget is None else min(45, budget))
        asked |= {(q.name, q.qtype) for q in made}
    assert len(asked) == 3 * (number + 1), "kube-dns has IPv6 as well"


def test_random_labels_are_equal_on_all_nodes_and_change_with_the_hour() -> None:
    with_uid, by_nodes = cluster(), cluster(uid="", nodes=(a_node("b"), a_node("a")))
    assert random_label(with_uid, "ra", 7200.0) == random_label(with_uid, "rb", 10799.0)
    assert random_label(with_uid, "ra", 7200.0) != random_label(with_uid, "ra", 10800.0)
    turned = replace(by_nodes, nodes=tuple(reversed(by_nodes.nodes or ())))
    assert random_label(by_nodes, "ra", 0.0) == random_label(turned, "rb", 0.0) != random_label(with_uid, "ra", 0.0)
    bare = Inventory(source=InventoryOrigin.NONE)
    assert random_label(bare, "ra", 0.0) != random_label(bare, "rb", 0.0)
    assert random_label(bare, "ra", 0.0).isalnum()


def test_the_domain_is_the_corefiles_else_what_most_search_lists_say() -> None:
    evil, fine = conf(search=("svc.evil.example",)), conf()
    assert cluster_domain(cluster(), [evil, fine, conf(search=("svc.cluster.local",))]) == "cluster.local"
    written = cluster(corefile=Corefile(namespace="kube-system", name="coredns", cluster_domains=("Corp.Internal.",)))
    assert cluster_domain(written, [fine]) == "corp.internal"
    assert cluster_domain(cluster(), []) == cluster_domain(cluster(), [HOST_CONF]) == ""


def test_the_canary_is_the_own_service_else_a_dual_stack_one_never_kubernetes() -> None:
    assert canary(cluster()) == OWN
    assert canary(cluster(services=(API, *services(1), KUBE_DNS))) == services(1)[0]
    assert canary(cluster(services=(API,))) is None
    assert canary(cluster(services=())) is None


def test_the_set_is_complete_and_without_repeats() -> None:
    made = verdict_set(
        canary="s.n.svc.cluster.local", domain="cluster.local", names=["pypi.org", "pypi.org"], random="xq"
    )
    assert len(made) == len(set(made))
    assert {(w.name, w.qtype) for w in made} == {
        *(("s.n.svc.cluster.local", q) for q in ("A", "AAAA", "MX")),
        *(("xq.n.svc.cluster.local", q) for q in ("A", "AAAA")),
        *(("pypi.org", q) for q in ("A", "AAAA", "MX")),
        *(("xq.pypi.org", q) for q in ("A", "AAAA")),
        ("ipv4only.arpa", "AAAA"),
        ("ipv4only.arpa", "A"),  # where one zone outside is known
    }
    two = verdict_set(canary="", domain="", names=["pypi.org", "debian.test"], random="xq")
    assert [w.qtype for w in two if w.name == "ipv4only.arpa"] == ["AAAA"]
