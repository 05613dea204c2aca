"""The DNS causes over whole snapshots, with the answers of recorded servers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from ipaddress import ip_network
from typing import Any

import pytest

from exporter.config.schema import AaaaPolicy, ControlName
from exporter.diagnosis.engine.rule_input import Expectations, RuleInput
from exporter.diagnosis.rules.dns import DNS_RULES
from exporter.diagnosis.rules.dns.searchlist import predictions
from exporter.diagnosis.rules.dns.servers import aaaa_blocks
from exporter.libc.resolver import all_candidates
from exporter.model.cause import Cause, Role, Severity
from exporter.model.cluster.calico import IPPool
from exporter.model.cluster.inventory import Inventory, InventoryOrigin
from exporter.model.cluster.pod import Pod
from exporter.model.cluster.policy import Policy, PolicyKind
from exporter.model.cluster.service import Service
from exporter.model.dns import Reply, ResolvConf
from exporter.model.facts import PodFacts
from exporter.model.family import Family
from exporter.model.probe import Lookup, LookupOutcome, Nameserver, Purpose, Question
from exporter.model.reason import Reason
from exporter.model.report import Finding, PodView, Snapshot
from exporter.model.subject import Pair, Subject
from exporter.model.vantage import Vantage
from exporter.probes.dns_reply import judge
from tests.captures import capture, chosen, names, server
from tests.unit.said import remembered
from tests.unit.scene import HOST, pod
from tests.worlds import address, messages

CANARY = "web.default.svc.cluster.local"
WEB = Service(namespace="default", name="web", cluster_ips=(address("10.152.183.114"), address("fd98::e:4afa")))
INVENTORY = Inventory(source=InventoryOrigin.KUBERNETES, services=(WEB,), pods=(), policies=())
CONF = ResolvConf(
    nameservers=(address("192.0.2.53"),),
    search=("default.svc.cluster.local", "svc.cluster.local", "cluster.local", "lan"),
    ndots=5,
)
ONE, TWO = pod("one"), pod("two")
SIX = server("2001:db8::53")


def asked_by(vantage: Vantage, lookups: Iterable[Lookup], of: Nameserver | None = None) -> tuple[Lookup, ...]:
    """The lookups as made anew by that place, the canary under its label."""
    made = []
    for lookup in lookups:
        q = lookup.question
        label = "canary" if q.name == CANARY else q.label
        made.append(replace(lookup, question=replace(q, vantage=vantage, label=label, server=of or q.server)))
    return tuple(made)


def view(now: tuple[Lookup, ...], before: tuple[Lookup, ...] | None = None, **more: Any) -> RuleInput:
    rounds = [now if before is None else before, now]
    told = remembered(*(made for made in rounds if made), now=1000.0)
    values = {
        "told": told,
        "inventory": INVENTORY,
        "pods": (PodView(vantage=ONE, resolv_conf=CONF),),
        "role": Role.ALL,
        **more,
    }
    expect = values.pop("expect", Expectations())

    def snapshot(lookups: tuple[Lookup, ...], finished: float) -> Snapshot:
        return Snapshot(
            node="ra", started=finished - 1, finished=finished, complete=True, host=HOST, lookups=lookups,
            lookups_kept=lookups,
            families={Family.V4: True, Family.V6: True}, **values,
        )  # fmt: skip

    earlier = tuple(replace(lookup) for lookup in now) if before is None else before
    return RuleInput(
        now=1000.0,
        snapshot=snapshot(now, 1000.0),
        previous=snapshot(earlier, 970.0) if earlier else None,
        expect=expect,
    )


def found(cause: Cause, of: RuleInput) -> Finding | None:
    judgement = DNS_RULES[cause](of)
    assert not isinstance(judgement, Reason), judgement
    assert len(judgement) <= 1
    return judgement[0] if judgement else None


def inside(name: str) -> list[Lookup]:
    return [one for one in chosen(capture(name), CANARY) if one.question.name.endswith("cluster.local")]


def test_a_blanket_block_is_critical_and_says_what_to_ask() -> None:
    round_ = view(asked_by(ONE, inside("coredns-template-noerror")))
    finding = found(Cause.DNS_AAAA_BLOCKED, round_)
    assert finding is not None
    assert (finding.severity, finding.subjects) == (Severity.CRITICAL, ("server/cluster_dns",))
    assert finding.evidence[0].startswith("server/cluster_dns (192.0.2.53), blanket_nodata: ")
    assert finding.command.startswith("dig @192.0.2.53 zq7x1k.")
    assert "A NXDOMAIN, AAAA NOERROR without an address" in finding.evidence[0]
    assert found(Cause.DNS_A_BLOCKED, round_) is None
    assert aaaa_blocks(round_) == {"cluster_dns": "blanket_nodata"}


def test_a_block_on_purpose_is_info() -> None:
    finding = found(
        Cause.DNS_AAAA_BLOCKED,
        view(asked_by(ONE, inside("coredns-template-noerror")), expect=Expectations(aaaa=AaaaPolicy.BLOCKED)),
    )
    assert finding is not None
    assert finding.severity is Severity.INFO


def test_filtering_is_a_warning_and_one_filtered_name_is_told_by_the_metric_alone() -> None:
    both = view(asked_by(ONE, capture("bind-filter-aaaa-yes").values()))
    finding = found(Cause.DNS_AAAA_BLOCKED, both)
    assert finding is not None
    assert finding.severity is Severity.WARNING
    assert ", filtered: " in finding.evidence[0]
    one = view(asked_by(ONE, chosen(capture("bind-filter-aaaa-yes"), "both.example")))
    assert found(Cause.DNS_AAAA_BLOCKED, one) is None
    assert aaaa_blocks(one) == {"cluster_dns": "filtered"}


def referenced(name: str) -> tuple[Lookup, ...]:
    """What a trusted resolver says of both.example beside a recorded server's answers about it."""
    trusted = [
        one
        for one in chosen(capture("honest-recursive"), "both.example")
        if one.question.qtype != "MX" and one.question.label != "random"
    ]
    reference = tuple(
        replace(one, question=replace(one.question, purpose=Purpose.REFERENCE, server=server("192.0.2.1", "trusted")))
        for one in trusted
    )
    return (*asked_by(ONE, chosen(capture(name), "both.example")), *reference)


def test_a_reference_makes_one_filtered_name_a_cause_unless_the_server_has_data_of_its_own() -> None:
    assert found(Cause.DNS_AAAA_BLOCKED, view(referenced("bind-filter-aaaa-yes"))) is not None
    assert found(Cause.DNS_AAAA_BLOCKED, view(referenced("coredns-hosts-override"))) is None
    assert "trusted" not in aaaa_blocks(view(referenced("bind-filter-aaaa-yes")))


@pytest.mark.parametrize(
    "name", ["coredns-healthy", "coredns-hosts-override", "coredns-dns64-allow-ipv4", "coredns-upstream-down"]
)
def test_healthy_and_honest_clusters_have_no_dns_cause(name: str) -> None:
    round_ = view(
        asked_by(ONE, chosen(capture(name), *names(capture(name)))),
        expect=Expectations(control_names=(ControlName(name="v4only.example"),)),
    )
    for cause in (Cause.DNS_AAAA_BLOCKED, Cause.DNS_A_BLOCKED, Cause.DNS_UNREACHABLE, Cause.SERVICE_AAAA_MISSING):
        assert found(cause, round_) is None


def test_what_was_not_asked_is_said_and_not_guessed() -> None:
    lookups = asked_by(ONE, inside("coredns-template-noerror"))
    unsent = tuple(replace(one, outcome=LookupOutcome.NOT_ALLOWED, reply=None) for one in lookups)
    for cause in (Cause.DNS_AAAA_BLOCKED, Cause.DNS_UNREACHABLE, Cause.DNS_SEARCH_BREAKS_MUSL):
        assert DNS_RULES[cause](view(unsent)) is Reason.NOT_ALLOWED
    assert DNS_RULES[Cause.DNS_AAAA_BLOCKED](view(lookups, before=())) is Reason.TOO_FEW_SAMPLES
    assert (
        DNS_RULES[Cause.SERVICE_AAAA_MISSING](view(lookups, inventory=Inventory(source=InventoryOrigin.NONE)))
        is Reason.NO_INVENTORY
    )


def test_a_kept_answer_is_no_second_sample_and_the_last_two_askings_are() -> None:
    lookups = asked_by(ONE, inside("coredns-template-noerror"))
    quiet = view((), before=())
    kept = replace(quiet.snapshot, lookups_kept=lookups)
    idle = RuleInput(now=1000.0, snapshot=kept, previous=replace(kept, finished=970.0))
    assert DNS_RULES[Cause.DNS_AAAA_BLOCKED](idle) is Reason.TOO_FEW_SAMPLES
    told = remembered(lookups, lookups, now=1000.0)
    before = replace(kept, lookups_before=tuple(replace(one) for one in lookups), told=told)
    assert (
        found(Cause.DNS_AAAA_BLOCKED, RuleInput(now=1000.0, snapshot=before, previous=replace(kept, finished=970.0)))
        is not None
    )


def silent(
    vantage: Vantage,
    count: int,
    of: Nameserver | None = None,
    outcome: LookupOutcome = LookupOutcome.TIMEOUT,
    domain: str = "default.svc.cluster.local",
) -> tuple[Lookup, ...]:
    names = (f"n{i}.{domain}" for i in range(count))
    questions = (
        Question(vantage=vantage, server=of or server(), name=name, qtype="A", label="canary", purpose=Purpose.VERDICT)
        for name in names
    )
    return tuple(Lookup(question=question, outcome=outcome) for question in questions)


def test_a_silent_nameserver_is_critical_once_two_places_see_it() -> None:
    finding = found(Cause.DNS_UNREACHABLE, view(silent(ONE, 3)))
    assert finding is not None
    assert (finding.severity, finding.subjects) == (Severity.WARNING, ("server/cluster_dns",))
    assert finding.pairs == {Pair(Subject("pod/default/one"), Subject("server/cluster_dns"), server().family)}
    finding = found(Cause.DNS_UNREACHABLE, view((*silent(ONE, 3), *silent(TWO, 1))))
    assert finding is not None
    assert finding.severity is Severity.CRITICAL


def test_a_nameserver_is_unreachable_only_from_where_three_questions_were_lost() -> None:
    healthy = asked_by(ONE, inside("coredns-healthy"))
    finding = found(Cause.DNS_UNREACHABLE, view((*healthy, *silent(TWO, 3))))
    assert finding is not None
    assert finding.pairs == {Pair(Subject("pod/default/two"), Subject("server/cluster_dns"), server().family)}
    assert found(Cause.DNS_UNREACHABLE, view((*healthy, *silent(TWO, 1)))) is None
    assert found(Cause.DNS_UNREACHABLE, view((*healthy, *silent(ONE, 9)))) is None


@pytest.mark.parametrize("vantage", [ONE, TWO])
def test_names_outside_the_clusters_domain_that_alone_time_out_are_their_own_servers_fault(vantage: Vantage) -> None:
    """Contract section 7. A place that asks nothing else, such as a pod that resolves a target, proves nothing."""
    healthy = asked_by(ONE, inside("coredns-healthy"))
    assert found(Cause.DNS_UNREACHABLE, view((*healthy, *silent(vantage, 9, domain="example.test")))) is None


def test_where_no_cluster_domain_is_known_every_name_counts() -> None:
    assert found(Cause.DNS_UNREACHABLE, view(silent(ONE, 3, domain="example.test"))) is not None


def test_of_two_nameservers_under_one_label_the_silent_one_is_shown_and_to_be_asked() -> None:
    answering = asked_by(ONE, inside("coredns-healthy"))
    finding = found(Cause.DNS_UNREACHABLE, view((*answering, *silent(ONE, 3, SIX))))
    assert finding is not None
    assert finding.evidence == (
        "pod/default/one got no answer from server/cluster_dns (2001:db8::53) to 3 questions: timeout",
    )
    assert finding.command.startswith("dig @2001:db8::53 ")


def test_few_lost_questions_one_bad_round_and_references_make_no_unreachable_nameserver() -> None:
    assert found(Cause.DNS_UNREACHABLE, view(silent(ONE, 1))) is None
    assert found(Cause.DNS_UNREACHABLE, view(silent(ONE, 3), before=asked_by(ONE, inside("coredns-healthy")))) is None
    reference = tuple(replace(one, question=replace(one.question, purpose=Purpose.REFERENCE)) for one in silent(ONE, 9))
    assert DNS_RULES[Cause.DNS_UNREACHABLE](view(reference)) is Reason.NO_TARGET


def test_few_questions_lost_by_a_nameserver_that_answers_this_place_at_times_may_be_chance() -> None:
    """Contract section 7: a nameserver that loses questions is not a dead one."""
    answered = asked_by(ONE, inside("coredns-healthy"))[:1]
    mixed = remembered((*answered, *silent(ONE, 3)), now=900.0)
    lossy, dead = view(silent(ONE, 3), told=mixed), view(silent(ONE, 6), told=mixed)
    assert found(Cause.DNS_UNREACHABLE, lossy) is None
    assert found(Cause.DNS_UNREACHABLE, dead) is not None
    assert found(Cause.DNS_UNREACHABLE, view(silent(ONE, 3), told=remembered(answered, now=900.0))) is not None


def test_a_nameserver_that_waited_for_its_turn_is_judged_by_the_last_two_askings() -> None:
    """Contract section 7: two rounds of that server, whichever vantage asked."""
    earlier, idle = silent(TWO, 3), asked_by(ONE, inside("coredns-healthy"))
    other = tuple(replace(one, question=replace(one.question, server=server("192.0.2.54"))) for one in idle)
    round_ = view(silent(ONE, 3), before=other)
    kept = replace(round_.snapshot, lookups_before=earlier)
    assert found(Cause.DNS_UNREACHABLE, replace(round_, snapshot=kept)) is not None
    answered = tuple(replace(one, outcome=LookupOutcome.NXDOMAIN) for one in earlier)
    kept = replace(round_.snapshot, lookups_before=answered)
    assert found(Cause.DNS_UNREACHABLE, replace(round_, snapshot=kept)) is None


def test_a_namespace_without_default_route_blames_no_nameserver_unless_it_is_a_pod() -> None:
    alone = (PodView(vantage=ONE, facts=PodFacts(), resolv_conf=CONF),)
    host = view(silent(ONE, 3), inventory=Inventory(source=InventoryOrigin.NONE), pods=alone)
    assert DNS_RULES[Cause.DNS_UNREACHABLE](host) is Reason.NO_TARGET
    assert found(Cause.DNS_UNREACHABLE, view(silent(ONE, 3), pods=alone)) is not None


KNOWN = Pod(namespace="default", name="one", uid="uid-one", node="ra", created=100.0, ips=(address("10.1.13.2"),))
POOL = IPPool(name="v6", cidr=ip_network("fd01::/48"), created=200.0)


@pytest.mark.parametrize(
    ("vantage", "more"),
    [
        (ONE, {"inventory": replace(INVENTORY, pods=(KNOWN,), pools=(POOL,))}),  # older than IPv6 on its node
        (ONE, {"inventory": replace(INVENTORY, pods=(replace(KNOWN, address_choice=True),))}),
        (replace(ONE, families=(Family.V4,)), {}),  # opted out
    ],
)
def test_a_pod_that_is_not_meant_to_have_the_family_blames_no_nameserver_of_it(vantage: Vantage, more: Any) -> None:
    assert DNS_RULES[Cause.DNS_UNREACHABLE](view(silent(vantage, 9, SIX), **more)) is Reason.NO_TARGET
    whole = view((*silent(vantage, 9, SIX), *silent(TWO, 3, SIX)), **more)
    finding = found(Cause.DNS_UNREACHABLE, whole)
    assert finding is not None
    assert {pair.vantage for pair in finding.pairs} == {TWO.subject}


def test_a_nameserver_of_a_family_that_is_not_expected_is_no_cause() -> None:
    seen = view(silent(ONE, 9, SIX))
    alone = replace(seen.snapshot, families={Family.V4: True, Family.V6: False})
    assert DNS_RULES[Cause.DNS_UNREACHABLE](replace(seen, snapshot=alone)) is Reason.NO_TARGET


def test_a_pod_that_a_policy_restricts_says_nothing_of_the_nameserver() -> None:
    policy = Policy(
        kind=PolicyKind.KUBERNETES,
        namespace="default",
        name="deny",
        selected=frozenset({"default/one"}),
        restricts_egress=frozenset({Family.V4}),
    )
    under = replace(INVENTORY, policies=(policy,))
    assert DNS_RULES[Cause.DNS_UNREACHABLE](view(silent(ONE, 3), inventory=under)) is Reason.POLICY
    assert found(Cause.DNS_UNREACHABLE, view((*silent(ONE, 3), *silent(TWO, 3)), inventory=under)) is not None


def test_two_servers_under_one_label_are_told_apart() -> None:
    other = server("192.0.2.54")
    healthy = asked_by(ONE, inside("coredns-healthy"))
    finding = found(Cause.DNS_UNREACHABLE, view((*healthy, *silent(ONE, 3, other))))
    assert finding is not None
    assert "192.0.2.54" in finding.evidence[0]
    blocked = asked_by(ONE, inside("coredns-template-nxdomain"), other)
    assert aaaa_blocks(view((*healthy, *blocked))) == {"cluster_dns": "blanket_nxdomain"}


def predicted(words: dict[str, tuple[str, str]], vantage: Vantage = ONE) -> tuple[Lookup, ...]:
    """The prediction lookups of the canary's neighbour pypi.example, and the verdict question that names it."""
    name = "pypi.example"
    named = Question(vantage=vantage, server=server(), name=name, qtype="MX", label=name, purpose=Purpose.VERDICT)
    made = [Lookup(question=named, outcome=LookupOutcome.NODATA)]
    for candidate in all_candidates(name, CONF):
        for qtype, word in zip(("A", "AAAA"), words.get(candidate, ("nx", "nx")), strict=True):
            question = Question(
                vantage=vantage,
                server=server(),
                name=candidate,
                qtype=qtype,
                label=name,
                purpose=Purpose.PREDICTION,
                edns=False,
            )
            message = messages(word, candidate, qtype)[0]
            reply = message.reply() if message else None
            made.append(
                Lookup(
                    question=question,
                    outcome=judge(reply) if reply else LookupOutcome.TIMEOUT,
                    seconds=0.001,
                    reply=reply,
                )
            )
    return tuple(made)


TRAP = {"pypi.example.lan": ("nodata", "nodata"), "pypi.example": ("addr", "addr")}


def test_a_search_domain_that_breaks_musl_names_the_pods_that_hold_a_musl_loader() -> None:
    pods = (
        PodView(vantage=ONE, resolv_conf=CONF, libc=frozenset({"musl"})),
        PodView(vantage=TWO, resolv_conf=CONF, libc=frozenset({"glibc"})),
    )
    round_ = view(predicted(TRAP), pods=pods)
    finding = found(Cause.DNS_SEARCH_BREAKS_MUSL, round_)
    assert finding is not None
    assert (finding.subjects, finding.severity) == (("pod/default/one",), Severity.WARNING)
    assert finding.command == "dualstack-exporter resolve pypi.example --pod=default/one"
    assert "musl EAI_NODATA" in finding.evidence[0]
    assert "a cure: write the name with a final dot" in finding.evidence[0]
    counts = predictions(round_)
    assert counts["glibc", "pypi.example", "any", "OK"] == 2
    assert counts["musl", "pypi.example", "any", "EAI_NODATA"] == 2
    assert counts["musl_1_2_3", "pypi.example", "6", "EAI_NONAME"] == 2


def test_without_a_musl_loader_it_is_info_and_a_broken_name_itself_is_another_matter() -> None:
    finding = found(Cause.DNS_SEARCH_BREAKS_MUSL, view(predicted(TRAP)))
    assert finding is not None
    assert finding.severity is Severity.INFO
    assert found(Cause.DNS_SEARCH_BREAKS_MUSL, view(predicted({"pypi.example": ("addr", "nx")}))) is None
    assert (
        found(Cause.DNS_SEARCH_BREAKS_MUSL, view(predicted(TRAP), before=predicted({"pypi.example": ("addr", "addr")})))
        is None
    )
    assert DNS_RULES[Cause.DNS_SEARCH_BREAKS_MUSL](view(predicted(TRAP), before=())) is Reason.TOO_FEW_SAMPLES


@pytest.mark.parametrize(
    ("before", "breaks"), [(("drop", "nx"), False), (("nx", "drop"), False), (("addr", "drop"), True)]
)
def test_answers_that_get_lost_by_chance_break_no_search(before: tuple[str, str], breaks: bool) -> None:
    """Each round loses an answer about a search candidate; only where it is the same one does that tell something."""
    name = {"pypi.example": ("addr", "addr")}
    now = predicted({**name, "pypi.example.lan": ("addr", "drop")})
    earlier = predicted({**name, "pypi.example.lan": before})
    assert (found(Cause.DNS_SEARCH_BREAKS_MUSL, view(now, before=earlier)) is not None) is breaks


@pytest.mark.parametrize(("before", "breaks"), [("nx", False), ("drop", True)])
def test_an_answer_that_is_lost_now_and_came_at_another_time_breaks_no_search(before: str, breaks: bool) -> None:
    """Lost in both of the last rounds, and answered in the minutes before: a libc may get either."""
    name = {"pypi.example": ("addr", "addr")}
    lost = predicted({**name, "pypi.example.lan": ("addr", "drop")})
    told = remembered(predicted({**name, "pypi.example.lan": ("addr", before)}), lost, lost, now=1000.0)
    assert (found(Cause.DNS_SEARCH_BREAKS_MUSL, view(lost, told=told)) is not None) is breaks


def test_files_whose_nameservers_were_not_asked_are_not_predicted() -> None:
    elsewhere = replace(CONF, nameservers=(address("192.0.2.99"),))
    round_ = view(predicted(TRAP), pods=(PodView(vantage=ONE, resolv_conf=elsewhere, libc=frozenset({"musl"})),))
    assert found(Cause.DNS_SEARCH_BREAKS_MUSL, round_) is None
    assert predictions(round_) == {}


def test_a_pod_that_does_not_use_the_clusters_dns_need_not_resolve_the_canary() -> None:
    """dnsPolicy Default: the node's own nameservers, which rightly do not know the cluster's names."""
    nodes_own = ResolvConf(nameservers=(address("198.51.100.53"),), search=("lan",))
    upstream = Nameserver(nodes_own.nameservers[0], "host")
    made = []
    for asker, conf, of, word in ((ONE, CONF, server(), "addr"), (TWO, nodes_own, upstream, "nx")):
        for purpose, qtype, name in (
            (Purpose.VERDICT, "MX", CANARY),
            *((Purpose.PREDICTION, qtype, name) for name in all_candidates(CANARY, conf) for qtype in ("A", "AAAA")),
        ):
            question = Question(vantage=asker, server=of, name=name, qtype=qtype, label="canary", purpose=purpose)
            message = messages(word, name, qtype)[0]
            assert message is not None
            made.append(Lookup(question=question, outcome=judge(message.reply()), seconds=0.001, reply=message.reply()))
    pods = tuple(PodView(vantage=v, resolv_conf=c) for v, c in ((ONE, CONF), (TWO, nodes_own)))
    counts = predictions(view(tuple(made), pods=pods))
    assert {result: pods for (_, _, request, result), pods in counts.items() if request == "any"} == {"OK": 1}
    alone = predictions(view(tuple(made), pods=pods[1:]))
    assert alone == {}


def test_without_pods_the_host_stands_in() -> None:
    round_ = view(predicted(TRAP, HOST), pods=(), host_resolv_conf=CONF)
    assert predictions(round_)["musl", "pypi.example", "any", "EAI_NODATA"] == 1


def service_answers(aaaa: str, a: str = "addr", of: Nameserver | None = None) -> tuple[Lookup, ...]:
    made = []
    for qtype, word in (("A", a), ("AAAA", aaaa)):
        message = messages(word, CANARY, qtype)[0]
        assert message is not None
        question = Question(
            vantage=HOST, server=of or server(), name=CANARY, qtype=qtype, label="canary", purpose=Purpose.VERDICT
        )
        made.append(Lookup(question=question, outcome=judge(message.reply()), seconds=0.001, reply=message.reply()))
    return tuple(made)


def test_a_service_without_its_aaaa_is_named_with_address_and_answer() -> None:
    pointer = Reply(answers=1, names=("web.default.svc.cluster.local",))
    asked = Question(
        vantage=HOST,
        server=server(),
        name=address("fd98::e:4afa").reverse_pointer,
        qtype="PTR",
        label="canary",
        purpose=Purpose.VERDICT,
    )
    finding = found(
        Cause.SERVICE_AAAA_MISSING,
        view(
            (
                *service_answers("nodata"),
                Lookup(question=asked, outcome=LookupOutcome.ANSWER, seconds=0.1, reply=pointer),
            )
        ),
    )
    assert finding is not None
    assert finding.subjects == ("service/default/web",)
    assert "fd98::e:4afa" in finding.evidence[0]
    assert finding.evidence[0].endswith("PTR of fd98::e:4afa: web.default.svc.cluster.local")


def test_aaaa_withheld_on_purpose_makes_a_missing_one_information() -> None:
    finding = found(
        Cause.SERVICE_AAAA_MISSING, view(service_answers("nodata"), expect=Expectations(aaaa=AaaaPolicy.BLOCKED))
    )
    assert finding is not None
    assert finding.severity is Severity.INFO


def test_services_that_are_new_unknown_to_dns_or_asked_elsewhere_are_not_missing_an_aaaa() -> None:
    assert found(Cause.SERVICE_AAAA_MISSING, view(service_answers("addr"))) is None
    assert found(Cause.SERVICE_AAAA_MISSING, view(service_answers("nx", "nx"))) is None
    corporate = server("192.0.2.54", "corp")
    assert (
        found(Cause.SERVICE_AAAA_MISSING, view((*service_answers("addr"), *service_answers("nx", "nx", corporate))))
        is None
    )
    fresh = replace(INVENTORY, services=(replace(WEB, created=950.0),))
    assert DNS_RULES[Cause.SERVICE_AAAA_MISSING](view(service_answers("nodata"), inventory=fresh)) is Reason.NO_TARGET
    assert found(Cause.SERVICE_AAAA_MISSING, view(service_answers("nodata"), before=service_answers("addr"))) is None


def test_an_aaaa_that_is_not_the_clusterip_is_wrong_and_says_what_it_is_made_of() -> None:
    def given(*addresses: str) -> RuleInput:
        made = service_answers("addr")
        reply = Reply(answers=len(addresses), addresses=tuple(map(address, addresses)))
        return view((made[0], replace(made[1], reply=reply)))

    (four, six) = WEB.cluster_ips
    synthesised = "64:ff9b::a98:b772"
    assert int(four) == int(address(synthesised)) & 0xFFFFFFFF
    finding = found(Cause.SERVICE_AAAA_WRONG, given(synthesised))
    assert finding is not None
    assert (finding.severity, finding.subjects) == (Severity.WARNING, ("service/default/web",))
    assert finding.evidence[0].endswith(f"says AAAA {synthesised}, made of its IPv4 ClusterIP (dns64)")
    assert found(Cause.SERVICE_AAAA_WRONG, given(str(six), "2001:db8::1")) is not None
    assert found(Cause.SERVICE_AAAA_WRONG, given(str(six))) is None
    assert found(Cause.SERVICE_AAAA_WRONG, given("::")) is None, "a sinkhole is dns_aaaa_blocked"
    assert found(Cause.SERVICE_AAAA_WRONG, view(service_answers("nodata"))) is None
    fresh = replace(INVENTORY, services=(replace(WEB, created=950.0),))
    assert DNS_RULES[Cause.SERVICE_AAAA_WRONG](replace(given(synthesised), snapshot=replace(
        given(synthesised).snapshot, inventory=fresh))) is Reason.NO_TARGET  # fmt: skip
