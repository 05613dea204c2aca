"""The verdict on resolvers, against the recorded answers of real ones and against what fools such verdicts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.diagnosis.rules.dns.aaaa import AaaaVerdict, aaaa_verdict, worst
from exporter.diagnosis.rules.dns.answer_signs import KnownRecords
from exporter.model.dns import NXDOMAIN, REFUSED, SERVFAIL, BlockKind, Reply
from exporter.model.probe import Lookup, LookupOutcome, Purpose, Question
from exporter.model.vantage import Netns, Vantage
from exporter.probes.dns_reply import judge
from tests.captures import FOLDER, HOST, capture, chosen, names, server
from tests.worlds import address

DOMAIN = "cluster.local"
CANARY = f"web.default.svc.{DOMAIN}"
BOTH = frozenset({"A", "AAAA"})
TRUTH = KnownRecords(domain=DOMAIN, stated={CANARY: BOTH}, expected={"both.example": BOTH, "both.corp.test": BOTH})

# What each recorded server is, of AAAA: blockers by kind, and those that must never be called one.
BLOCKERS = {
    "bind-filter-aaaa-break-dnssec": BlockKind.FILTERED,
    "bind-filter-aaaa-yes": BlockKind.FILTERED,
    "bind-rpz": BlockKind.FILTERED,
    "coredns-acl-filter-aaaa": BlockKind.BLANKET_NODATA,
    "coredns-cache-cold-and-warm-template-noerror": BlockKind.BLANKET_NODATA,
    "coredns-rewrite-aaaa-to-a": BlockKind.FILTERED,
    "coredns-template-noerror": BlockKind.BLANKET_NODATA,
    "coredns-template-noerror-upstream-down": BlockKind.BLANKET_NODATA,
    "coredns-template-nxdomain": BlockKind.BLANKET_NXDOMAIN,
    "coredns-template-one-zone": BlockKind.BLANKET_NODATA,
    "coredns-template-refused": BlockKind.REFUSED,
    "dnsmasq-address-hash": BlockKind.SINKHOLE,
    "dnsmasq-address-null": BlockKind.SINKHOLE,
    "dnsmasq-filter-AAAA": BlockKind.FILTERED,
    "unbound-local-data-null": BlockKind.SINKHOLE,
    "unbound-local-zone-always-null": BlockKind.SINKHOLE,
    "unbound-private-address": BlockKind.FILTERED,
}
DNS64 = {
    "bind-dns64",
    "bind-dns64-exclude-all",
    "coredns-dns64-allow-ipv4",
    "coredns-dns64-translate-all",
    "unbound-dns64",
    "unbound-dns64-synthall",
}
A_BLOCKERS = {
    "dnsmasq-address-hash": BlockKind.SINKHOLE,
    "dnsmasq-filter-A": BlockKind.FILTERED,
    "unbound-local-data-null": BlockKind.SINKHOLE,
    "unbound-local-zone-always-null": BlockKind.SINKHOLE,
}
ALL = sorted(path.stem for path in FOLDER.glob("*.json"))
REWRITING = {name for name in ALL if "local-zone" in name} - set(BLOCKERS)


def twice(lookups: Iterable[Lookup], truth: KnownRecords = TRUTH, qtype: str = "AAAA") -> AaaaVerdict:
    made = list(lookups)
    return aaaa_verdict(made, made, truth, qtype=qtype)


@pytest.mark.parametrize("name", ALL)
def test_every_recorded_server_is_judged_as_what_it_is(name: str) -> None:
    verdict = twice(capture(name).values())
    if name in BLOCKERS:
        assert (verdict.kind, verdict.withholds) == (BLOCKERS[name], True)
    else:
        assert not verdict.withholds
        assert verdict.kind is (
            BlockKind.DNS64 if name in DNS64 else BlockKind.UNDECIDED if "deny" in name else BlockKind.NONE
        )
    assert verdict.evidence


@pytest.mark.parametrize("name", ALL)
def test_withheld_a_records_are_found_the_same_way(name: str) -> None:
    verdict = twice(capture(name).values(), qtype="A")
    assert verdict.withholds == (name in A_BLOCKERS)
    assert verdict.kind is A_BLOCKERS.get(name, verdict.kind)


@pytest.mark.parametrize("name", sorted(set(ALL) - set(BLOCKERS)))
def test_no_choice_of_control_names_makes_an_honest_resolver_a_blocker(name: str) -> None:
    """Even where the operator wrongly expects both types of every name."""
    found = capture(name)

    def judged(*wanted: str) -> AaaaVerdict:
        truth = KnownRecords(domain=DOMAIN, stated={CANARY: BOTH}, expected=dict.fromkeys(wanted, BOTH))
        return twice(chosen(found, *wanted), truth)

    alone = {asked: judged(asked) for asked in names(found)}
    assert not any(verdict.withholds for verdict in alone.values())
    doubtful = [asked for asked, verdict in alone.items() if verdict.kind not in {BlockKind.NONE, BlockKind.DNS64}]
    for size in (2, 3):
        for wanted in combinations(doubtful, size):
            assert not judged(*wanted).withholds, wanted


@pytest.mark.parametrize(
    "name", sorted(name for name in BLOCKERS if name.startswith("coredns") and "cache" not in name)
)
def test_a_blocker_is_found_inside_the_cluster_domain_alone(name: str) -> None:
    inside = [lookup for lookup in chosen(capture(name), CANARY) if lookup.question.name.endswith(DOMAIN)]
    if name == "coredns-template-one-zone":  # it leaves the cluster domain alone
        assert twice(inside).kind is BlockKind.NONE
    else:
        assert twice(inside, KnownRecords(domain=DOMAIN, stated={CANARY: BOTH})).withholds


@pytest.mark.parametrize("name", sorted(REWRITING))
def test_a_rewriting_local_zone_is_left_undecided(name: str) -> None:
    found = capture(name)
    verdict = twice(chosen(found, "both.example", "v4only.example"))
    honest = name in {"unbound-local-zone-typetransparent", "unbound-local-zone-transparent"}
    assert verdict.kind is (BlockKind.NONE if honest else BlockKind.UNDECIDED)


def ask(name: str, reply: Reply | None, qtype: str, label: str = "", where: Vantage = HOST) -> Lookup:
    question = Question(
        vantage=where, server=server(), name=name, qtype=qtype, label=label or name, purpose=Purpose.VERDICT
    )
    return Lookup(
        question=question, outcome=LookupOutcome.TIMEOUT if reply is None else judge(reply), seconds=0.001, reply=reply
    )


def data(text: str) -> Reply:
    return Reply(answers=1, addresses=(address(text),))


NODATA = Reply(soa_authority=True)
BARE = Reply(aa=True, ra=False)  # a template's
MISSING = Reply(rcode=NXDOMAIN, soa_authority=True)
RANDOM_INSIDE = f"x1.default.svc.{DOMAIN}"


def pair(name: str, a: Reply | None, aaaa: Reply | None, mx: Reply | None = NODATA, **more: str) -> list[Lookup]:
    """A name's answers; random names are not asked for MX."""
    made = [ask(name, a, "A", **more), ask(name, aaaa, "AAAA", **more)]  # type: ignore[arg-type]
    return made if more.get("label") == "random" else [*made, ask(name, mx, "MX", **more)]  # type: ignore[arg-type]


BLOCKED = [*pair(CANARY, data("10.0.0.1"), BARE), *pair(RANDOM_INSIDE, MISSING, BARE, label="random")]
HONEST = [*pair(CANARY, data("10.0.0.1"), data("fd00::1")), *pair(RANDOM_INSIDE, MISSING, MISSING, label="random")]


def test_nothing_is_decided_on_one_sample() -> None:
    assert aaaa_verdict(BLOCKED, [], TRUTH).kind is BlockKind.UNDECIDED
    assert aaaa_verdict(BLOCKED, HONEST, TRUTH) == AaaaVerdict(BlockKind.UNDECIDED)
    assert aaaa_verdict(HONEST, BLOCKED, TRUTH).withholds is False
    assert aaaa_verdict(BLOCKED, BLOCKED, TRUTH).withholds is True
    assert aaaa_verdict([], [], TRUTH) == AaaaVerdict(BlockKind.UNDECIDED)


def test_the_random_label_may_turn_between_the_rounds() -> None:
    later = [*BLOCKED[:3], *pair(f"x2.default.svc.{DOMAIN}", MISSING, BARE, label="random")]
    assert aaaa_verdict(later, BLOCKED, TRUTH).kind is BlockKind.BLANKET_NODATA


def test_the_evidence_shows_both_answers_of_the_name() -> None:
    (line,) = twice(BLOCKED[3:]).evidence
    assert line.startswith(f"{RANDOM_INSIDE}: A NXDOMAIN, AAAA NOERROR without an address or SOA")


def test_an_upstream_that_fails_while_a_is_still_cached_is_no_block() -> None:
    fail = Reply(rcode=SERVFAIL)
    cached = [
        *pair("both.example", data("192.0.2.1"), fail, fail),
        *pair("both.corp.test", data("192.0.2.2"), fail, fail),
    ]
    assert twice(cached).kind is BlockKind.UNDECIDED


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (Reply(rcode=SERVFAIL), BlockKind.SERVFAIL),
        (Reply(rcode=REFUSED), BlockKind.REFUSED),
        (Reply(rcode=4), BlockKind.REFUSED),
        (None, BlockKind.DROPPED),
    ],
)
def test_an_error_for_aaaa_alone_needs_two_names_and_not_of_one_foreign_zone(
    reply: Reply | None, kind: BlockKind
) -> None:
    canary = pair(CANARY, data("10.0.0.1"), reply)
    random = pair(RANDOM_INSIDE, MISSING, reply, label="random")
    assert (twice(canary + random).kind, twice(canary + random).withholds) == (kind, True)
    assert twice(canary).kind is BlockKind.UNDECIDED  # one lost answer, twice
    broken_zone = [
        *pair("www.pypi.example", data("192.0.2.1"), reply),
        *pair("x1.pypi.example", MISSING, reply, label="random"),
    ]
    assert twice(broken_zone).kind is BlockKind.UNDECIDED
    assert twice([*broken_zone, *pair("other.test", data("192.0.2.2"), reply)]).kind is kind


def test_a_foreign_server_that_denies_names_by_type_is_not_the_resolvers_fault() -> None:
    zone = [*pair("lb.example", data("192.0.2.1"), NODATA), *pair("x1.lb.example", MISSING, BARE, label="random")]
    assert twice([*HONEST, *zone], KnownRecords(domain=DOMAIN)).kind is BlockKind.UNDECIDED
    other = pair("lb.example", data("192.0.2.1"), Reply(rcode=NXDOMAIN))
    assert twice([*HONEST, *other], KnownRecords(domain=DOMAIN)).kind is BlockKind.UNDECIDED
    served = [*pair("lb.example", data("192.0.2.1"), data("2001:db8::1")), *zone[3:]]
    assert not twice([*HONEST, *served], KnownRecords(domain=DOMAIN, expected={"lb.example": BOTH})).withholds


LACKING = {name: frozenset({"A"}) for name in ("www.shop.example", "api.bank.test")}
FOREIGN_FAULTS = [Reply(rcode=NXDOMAIN), Reply(rcode=SERVFAIL), Reply(rcode=REFUSED), None]


def load_balancers(reply: Reply | None) -> list[Lookup]:
    """Two names with A alone, whose own servers answer AAAA badly."""
    return [one for name in LACKING for one in pair(name, data("192.0.2.1"), reply)]


@pytest.mark.parametrize("reply", FOREIGN_FAULTS)
@pytest.mark.parametrize(
    ("elsewhere", "truth"),
    [
        (pair("good.net.test", data("192.0.2.2"), data("2001:db8::2")), KnownRecords(expected=LACKING)),
        ([ask("ipv4only.arpa", NODATA, "AAAA", "canary")], KnownRecords(expected=LACKING)),
        (HONEST, KnownRecords(domain=DOMAIN, expected=LACKING)),
        (
            pair("good.net.test", data("192.0.2.2"), data("2001:db8::2")),
            KnownRecords(stated=LACKING),
        ),  # a reference says it
    ],
)
def test_names_that_have_a_alone_show_nothing_of_a_resolver_that_serves_others(
    reply: Reply | None, elsewhere: list[Lookup], truth: KnownRecords
) -> None:
    assert not twice([*load_balancers(reply), *elsewhere], truth).withholds


@pytest.mark.parametrize("reply", FOREIGN_FAULTS)
def test_a_resolver_that_serves_no_such_record_at_all_is_a_blocker_whatever_names_it_is_asked(
    reply: Reply | None,
) -> None:
    refused = [*load_balancers(reply), ask("ipv4only.arpa", reply, "AAAA", "canary")]
    assert twice(refused, KnownRecords(expected=LACKING)).withholds


@pytest.mark.parametrize("reply", FOREIGN_FAULTS)
def test_one_zone_without_the_record_is_its_servers_fault_and_two_are_the_resolvers(
    reply: Reply | None,
) -> None:
    good = pair("good.net.test", data("192.0.2.2"), data("2001:db8::2"))
    one, two = (load_balancers(reply)[:3], load_balancers(reply))
    both = KnownRecords(expected=dict.fromkeys(LACKING, BOTH))
    assert not twice([*one, *good], both).withholds
    assert twice([*two, *good], both).withholds


def test_filtered_needs_two_names_or_knowledge_from_elsewhere() -> None:
    removed = pair("both.example", data("192.0.2.1"), Reply(), NODATA)
    alone = twice(removed)
    assert (alone.kind, alone.withholds) == (BlockKind.FILTERED, False)  # the operator's word is no reference
    assert twice([*removed, *pair("mail.example", data("192.0.2.2"), Reply(), NODATA)]).withholds
    assert twice(removed, replace(TRUTH, stated={"both.example": BOTH})).withholds
    assert twice(
        [*HONEST[:0], *pair(CANARY, data("10.0.0.1"), Reply(), NODATA)]
    ).withholds  # the API has an IPv6 ClusterIP


def test_an_extended_error_on_one_name_proves_nothing() -> None:
    marked = pair("v4only.example", data("192.0.2.1"), Reply(ede=(17,)), Reply())
    assert twice(marked).kind is BlockKind.UNDECIDED
    two = [*marked, *pair("v4only.corp.test", data("192.0.2.2"), Reply(ede=(15,)), Reply())]
    assert (twice(two).kind, twice(two).withholds) == (BlockKind.FILTERED, True)
    everything = pair("ads.example", Reply(ede=(15,)), Reply(ede=(15,)), Reply(ede=(15,)))
    assert not twice([*everything, *pair("ads.corp.test", *[Reply(ede=(15,))] * 3)]).withholds


def test_a_hosts_entry_is_not_called_filtered() -> None:
    entries = [
        *pair("both.example", data("192.0.2.9"), Reply(), Reply()),
        *pair("both.corp.test", data("192.0.2.8"), Reply(), Reply()),
    ]
    assert twice(entries).kind is BlockKind.UNDECIDED
    assert twice([*HONEST, *entries]).kind is BlockKind.NONE


def test_one_zone_that_publishes_the_unspecified_address_is_no_sinkhole() -> None:
    published = pair("off.example", data("192.0.2.1"), data("::"))
    assert twice([*HONEST, *published]).kind is BlockKind.UNDECIDED
    assert twice([*published, *pair("x1.example", MISSING, data("::"), label="random")]).kind is BlockKind.SINKHOLE
    wildcard = [*published, *pair("x1.example", NODATA, data("::"), label="random")]
    assert twice(wildcard).kind is BlockKind.UNDECIDED
    assert twice([*wildcard, *pair("off.other", data("192.0.2.1"), data("::"))]).kind is BlockKind.SINKHOLE


def test_what_the_operator_says_has_no_such_record_was_not_removed() -> None:
    """Two names of an old load balancer that forgets the SOA of AAAA alone."""
    forgotten = [one for name in ("a.lb.example", "b.lb.example") for one in pair(name, data("192.0.2.1"), BARE)]
    assert twice(forgotten, replace(TRUTH, expected={"a.lb.example": BOTH})).withholds
    lacking = {name: frozenset({"A"}) for name in ("a.lb.example", "b.lb.example")}
    assert not twice(forgotten, replace(TRUTH, expected=lacking)).withholds


def test_dns64_is_known_by_the_name_that_has_no_aaaa() -> None:
    made = ask("ipv4only.arpa", data("2001:db8:64::c000:aa"), "AAAA", "canary")
    assert twice([*HONEST, made]).kind is BlockKind.DNS64
    assert twice([*HONEST, ask("ipv4only.arpa", NODATA, "AAAA", "canary")]).kind is BlockKind.NONE
    assert twice(pair("ipv4only.arpa", data("192.0.0.170"), NODATA)).kind is BlockKind.NONE


def test_a_host_without_a_cluster_finds_a_blanket_block_by_that_name() -> None:
    asked = [
        *pair("ipv4only.arpa", data("192.0.0.170"), BARE),
        *pair("x1.ipv4only.arpa", MISSING, BARE, label="random"),
    ]
    assert twice(asked, KnownRecords()).kind is BlockKind.BLANKET_NODATA
    denied = pair("ipv4only.arpa", data("192.0.0.170"), Reply(rcode=NXDOMAIN))
    assert twice(denied, KnownRecords()).kind is BlockKind.BLANKET_NXDOMAIN


def test_a_server_that_blocks_some_clients_only_is_found_and_places_are_not_mixed() -> None:
    one, two = (
        Vantage(kind="pod", namespace="default", name=name, netns=Netns(device=4, inode=inode), uid=name)
        for name, inode in (("one", 1), ("two", 2))
    )

    def of(where: Vantage, lookups: list[Lookup]) -> list[Lookup]:
        return [replace(lookup, question=replace(lookup.question, vantage=where)) for lookup in lookups]

    assert twice([*of(one, HONEST), *of(two, BLOCKED)]).kind is BlockKind.BLANKET_NODATA
    half = [
        *of(one, pair(RANDOM_INSIDE, MISSING, BARE, label="random")[:1]),
        *of(two, pair(RANDOM_INSIDE, MISSING, BARE, label="random")[1:]),
    ]
    assert not twice(half).withholds


def test_the_worst_server_stands_for_its_label_and_a_cause_before_none() -> None:
    filtered, none = AaaaVerdict(BlockKind.FILTERED), AaaaVerdict(BlockKind.NONE)
    sinkhole, undecided = AaaaVerdict(BlockKind.SINKHOLE, withholds=True), AaaaVerdict(BlockKind.UNDECIDED)
    assert worst([none, undecided]) is undecided
    assert worst([none, filtered, sinkhole]) is sinkhole
    assert worst([]) is None


foreign = st.none() | st.builds(
    Reply,
    rcode=st.integers(0, 15),
    aa=st.booleans(),
    tc=st.booleans(),
    answers=st.integers(0, 2),
    addresses=st.sampled_from([(), (address("192.0.2.1"),), (address("::"),), (address("64:ff9b::c000:201"),)]),
    chain=st.sampled_from([(), ("c.test",)]),
    soa_authority=st.booleans(),
    soa_additional=st.booleans(),
    ede=st.sampled_from([(), (15,), (22, 17)]),
)


@given(replies=st.lists(foreign, min_size=5, max_size=5), qtype=st.sampled_from(["A", "AAAA"]))
def test_whatever_a_server_says_is_judged_and_a_served_record_is_never_called_withheld(
    replies: list[Reply | None], qtype: str
) -> None:
    a, aaaa, mx, random_a, random_aaaa = replies
    verdict = twice(
        [*pair(CANARY, a, aaaa, mx), *pair(RANDOM_INSIDE, random_a, random_aaaa, label="random")], qtype=qtype
    )
    assert verdict.kind in BlockKind
    assert not verdict.withholds or verdict.evidence
    served = [
        *pair(CANARY, data("10.0.0.1"), data("fd00::1"), mx),
        *pair(RANDOM_INSIDE, MISSING, MISSING, label="random"),
    ]
    assert not twice(served, qtype=qtype).withholds
