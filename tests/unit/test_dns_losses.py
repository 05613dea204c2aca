"""Nameservers that answer by chance, over many rounds: what they are called, and what they are never called."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

import pytest

from exporter.config.schema import ControlName, RecordType
from exporter.diagnosis.engine.rule_input import Expectations, RuleInput
from exporter.diagnosis.rules.dns import DNS_RULES
from exporter.model.cause import Cause, Role
from exporter.model.cluster.inventory import Inventory, InventoryOrigin
from exporter.model.dns import NXDOMAIN, REFUSED, SERVFAIL, Reply
from exporter.model.family import FAMILIES, Family
from exporter.model.probe import Lookup, LookupOutcome, Nameserver, Purpose, Question
from exporter.model.reason import Reason
from exporter.model.report import Finding, Snapshot
from exporter.model.subject import Pair, Subject
from exporter.model.vantage import Vantage
from exporter.plan.answer_history import NO_HISTORY, all_told, remember
from exporter.plan.repeats import TIMES, KnownNames, asked_again, doubtful
from exporter.plan.result_history import NO_ANSWERS, keep_answers
from exporter.probes.dns_reply import judge
from tests.unit.scene import HOST, pod
from tests.worlds import address

SERVER = Nameserver(address("192.0.2.53"), "cluster_dns")
DATA = {
    "A": Reply(answers=1, addresses=(address("192.0.2.80"),)),
    "AAAA": Reply(answers=1, addresses=(address("2001:db8::80"),)),
}
ABSENT, MISSING = Reply(soa_authority=True), Reply(rcode=NXDOMAIN, soa_authority=True)
NAMES = ("shop.corp.test", "mail.lab.test")
BOTH = frozenset({"A", "AAAA"})
EXPECTED = dict.fromkeys(NAMES, BOTH)
INTERVAL = 30.0
World = Callable[[Question, int], Reply | None]  # the answer in the round of that number; None: silence
BLOCKED = (Cause.DNS_AAAA_BLOCKED, Cause.DNS_A_BLOCKED)


def honest(question: Question) -> Reply:
    if question.label == "random":
        return MISSING
    return DATA.get(question.qtype, ABSENT)


def asked(names: Iterable[str] = NAMES, vantage: Vantage = HOST) -> list[Question]:
    """A round's verdict set, and what a libc would ask."""

    def question(name: str, qtype: str, label: str, purpose: Purpose = Purpose.VERDICT) -> Question:
        return Question(
            vantage=vantage,
            server=SERVER,
            name=name,
            qtype=qtype,
            label=label,
            purpose=purpose,
            edns=purpose is Purpose.VERDICT,
        )

    made = [question(name, qtype, name) for name in names for qtype in ("A", "AAAA", "MX")]
    made += [question(f"x1.{next(iter(names))}", qtype, "random") for qtype in ("A", "AAAA")]
    return [*made, *(question(name, qtype, name, Purpose.PREDICTION) for name in names for qtype in ("A", "AAAA"))]


class Rounds:
    """Rounds in which one nameserver is asked as the daemon asks it, again included."""

    def __init__(
        self, world: World, *, questions: Sequence[Question] = (), expected: Mapping[str, frozenset[str]] = EXPECTED
    ) -> None:
        self.world = world
        self.questions = list(questions) or asked(expected)
        self.expected = expected
        self.now, self.number = 1_000_000.0, 0
        self.history, self.answers = NO_HISTORY, NO_ANSWERS
        self.previous: Snapshot | None = None

    def _ask(self, questions: Iterable[Question]) -> list[Lookup]:
        made = []
        for question in questions:
            self.now += 0.001
            reply = self.world(question, self.number)
            outcome = LookupOutcome.TIMEOUT if reply is None else judge(reply)
            made.append(Lookup(question=question, outcome=outcome, seconds=0.001, reply=reply, time=self.now))
        return made

    def run(self) -> RuleInput:
        made = self._ask(self.questions)
        so_far = remember(self.history, made, now=self.now)
        doubts = doubtful(made, so_far, KnownNames("", self.expected))
        made += self._ask(asked_again(doubts, allowance=60, seconds=2.0))
        self.history = remember(self.history, made, now=self.now)
        once = [one for one in made if one.question.purpose is not Purpose.AGAIN]
        self.answers = keep_answers(self.answers, once, now=self.now, keep=150.0)
        snapshot = Snapshot(
            node="ra", role=Role.NODE, started=self.now, finished=self.now, complete=True,
            inventory=Inventory(source=InventoryOrigin.NONE), host=HOST,
            lookups=tuple(made), lookups_kept=tuple(self.answers.last.values()),
            lookups_before=tuple(self.answers.before.values()),
            told=all_told(self.history), families=dict.fromkeys(FAMILIES, True),
        )  # fmt: skip
        expect = Expectations(
            control_names=tuple(ControlName(name=n, expect=tuple(map(RecordType, t))) for n, t in self.expected.items())
        )
        view, self.previous = (
            RuleInput(now=self.now, snapshot=snapshot, previous=self.previous, expect=expect),
            snapshot,
        )
        self.now += INTERVAL
        self.number += 1
        return view


def found(cause: Cause, view: RuleInput) -> Finding | None:
    said = DNS_RULES[cause](view)
    return None if isinstance(said, Reason) or not said else said[0]


def causes(view: RuleInput) -> set[Cause]:
    of_services = {Cause.SERVICE_AAAA_MISSING, Cause.SERVICE_AAAA_WRONG}
    return {cause for cause in DNS_RULES if cause not in of_services and found(cause, view)}


def disagreeing(none: Reply, share: float, seed: int) -> World:
    """Two upstreams, of which one, asked in this share of the cases, knows none of the names."""
    dice = random.Random(seed)
    return lambda question, _: none if dice.random() < share else honest(question)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("none", [MISSING, ABSENT, Reply(rcode=REFUSED), Reply(rcode=SERVFAIL)])
def test_upstreams_that_disagree_are_named_within_two_rounds_and_never_called_blockers(none: Reply, seed: int) -> None:
    rounds = Rounds(disagreeing(none, 0.5, seed))
    views = [rounds.run() for _ in range(30)]
    assert [cause for view in views for cause in BLOCKED if found(cause, view)] == []
    assert all(found(Cause.DNS_ANSWERS_DIFFER, view) for view in views[2:])
    assert not found(Cause.DNS_QUERIES_LOST, views[-1])
    finding = found(Cause.DNS_ANSWERS_DIFFER, views[-1])
    assert finding is not None
    assert finding.subjects == ("server/cluster_dns",)
    assert "answers with data and" in finding.evidence[0]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("share", [0.1, 0.9])
def test_an_upstream_that_is_asked_seldom_is_found_in_time_and_never_a_block(share: float, seed: int) -> None:
    rounds = Rounds(disagreeing(MISSING, share, seed))
    views = [rounds.run() for _ in range(40)]
    assert [cause for view in views for cause in BLOCKED if found(cause, view)] == []
    assert all(found(Cause.DNS_ANSWERS_DIFFER, view) for view in views[20:])


def test_a_cache_in_front_that_keeps_each_answer_for_a_round_hides_it_for_some_rounds_alone() -> None:
    dice = random.Random(5)
    cached: dict[tuple[str, str, int], bool] = {}

    def world(question: Question, number: int) -> Reply:
        wrong = cached.setdefault((question.name, question.qtype, number), dice.random() < 0.5)
        return MISSING if wrong else honest(question)

    rounds = Rounds(world)
    views = [rounds.run() for _ in range(40)]
    assert [cause for view in views[5:] for cause in BLOCKED if found(cause, view)] == []
    assert all(found(Cause.DNS_ANSWERS_DIFFER, view) for view in views[15:])


@pytest.mark.parametrize("none", [MISSING, ABSENT, Reply(rcode=SERVFAIL), None])
def test_one_change_one_outage_and_a_rotation_of_addresses_are_no_difference(none: Reply | None) -> None:
    changed = Rounds(lambda question, number: none if number >= 5 else honest(question))
    outage = Rounds(lambda question, number: none if 5 <= number < 8 else honest(question))
    blip = Rounds(lambda question, number: none if number == 5 else honest(question))
    turning = Rounds(
        lambda question, number: (
            replace(DATA["A"], addresses=(address(f"192.0.2.{number}"),)) if question.qtype == "A" else honest(question)
        )
    )
    for rounds in (changed, outage, blip, turning):
        assert not any(found(Cause.DNS_ANSWERS_DIFFER, rounds.run()) for _ in range(25))


def lossy(share: float, seed: int) -> World:
    dice = random.Random(seed)
    return lambda question, _: None if dice.random() < share else honest(question)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("share", [0.3, 0.5, 0.7])
def test_a_server_that_loses_questions_is_named_and_nothing_else_is(share: float, seed: int) -> None:
    rounds = Rounds(lossy(share, seed))
    views = [rounds.run() for _ in range(25)]
    assert {cause for view in views for cause in causes(view)} == {Cause.DNS_QUERIES_LOST}
    assert all(found(Cause.DNS_QUERIES_LOST, view) for view in views[10 if share < 0.5 else 2 :])
    finding = found(Cause.DNS_QUERIES_LOST, views[-1])
    assert finding is not None
    assert finding.pairs == {Pair(Subject("node/ra"), Subject("server/cluster_dns"), Family.V4)}


def test_few_losses_are_none_and_those_that_ended_are_over_in_two_rounds() -> None:
    few = Rounds(lossy(0.02, 1))
    assert not any(causes(few.run()) for _ in range(40))
    dice = random.Random(2)
    ending = Rounds(lambda question, number: None if number < 10 and dice.random() < 0.5 else honest(question))
    views = [ending.run() for _ in range(14)]
    assert [bool(found(Cause.DNS_QUERIES_LOST, view)) for view in views[8:]] == [True, True, True, False, False, False]


@pytest.mark.parametrize(
    "world",
    [
        lambda question, number: None if number >= 5 else honest(question),  # dead
        lambda question, number: None if 5 <= number < 9 else honest(question),  # dead for a while
        lambda question, number: None if number >= 5 and question.qtype == "AAAA" else honest(question),  # a block
        lambda question, _: None if question.name.endswith("lab.test") else honest(question),  # a dead zone
        lambda question, number: None if number >= 5 and question.name.endswith("lab.test") else honest(question),
    ],
)
def test_silence_of_a_whole_server_a_type_or_a_zone_is_no_loss(world: World) -> None:
    rounds = Rounds(world)
    assert not any(found(Cause.DNS_QUERIES_LOST, rounds.run()) for _ in range(20))


def test_one_place_that_gets_no_answer_at_all_is_no_loss() -> None:
    cut_off = pod("cut")
    rounds = Rounds(
        lambda question, _: None if question.vantage == cut_off else honest(question),
        questions=[*asked(), *asked(vantage=cut_off)],
    )
    assert not any(found(Cause.DNS_QUERIES_LOST, rounds.run()) for _ in range(5))


def test_losses_outside_the_clusters_domain_alone_are_not_the_nameservers() -> None:
    dice = random.Random(3)
    inside = "web.default.svc.cluster.local"
    questions = [replace(q, label="canary") if q.name == inside else q for q in asked((inside, *NAMES))]

    def world(question: Question, _: int) -> Reply | None:
        return None if question.name.endswith(".test") and dice.random() < 0.6 else honest(question)

    rounds = Rounds(world, questions=questions)
    assert not any(found(Cause.DNS_QUERIES_LOST, rounds.run()) for _ in range(20))


KINDS = {
    "blanket_nodata": Reply(aa=True),
    "blanket_nxdomain": Reply(rcode=NXDOMAIN),
    "refused": Reply(rcode=REFUSED),
    "servfail": Reply(rcode=SERVFAIL),
    "dropped": None,
}


@pytest.mark.parametrize("after", [0, 2, 3, 20])
@pytest.mark.parametrize("kind", KINDS)
def test_a_block_is_found_in_its_second_round_or_once_no_answer_of_ten_minutes_had_the_record(
    kind: str, after: int
) -> None:
    """An empty answer for a name that exists nowhere withholds no record that was ever served, and counts at once."""
    rounds = Rounds(
        lambda question, number: KINDS[kind] if number >= after and question.qtype == "AAAA" else honest(question)
    )
    first = after + 1 if not after or kind == "blanket_nodata" else after + 19
    views = [rounds.run() for _ in range(after + 25)]
    said = [found(Cause.DNS_AAAA_BLOCKED, view) for view in views]
    assert [bool(finding) for finding in said] == [number >= first for number in range(len(views))]
    assert all(f", {kind}: " in finding.evidence[0] for finding in said if finding)
    assert not any(found(cause, view) for view in views for cause in (Cause.DNS_A_BLOCKED, Cause.DNS_ANSWERS_DIFFER))


def test_a_single_record_in_ten_minutes_speaks_against_a_block_and_then_no_more() -> None:
    rounds = Rounds(
        lambda question, number: Reply(rcode=REFUSED) if question.qtype == "AAAA" and number != 10 else honest(question)
    )
    said = [bool(found(Cause.DNS_AAAA_BLOCKED, rounds.run())) for _ in range(35)]
    assert said == [False, *[True] * 9, *[False] * 20, *[True] * 5]


LOAD_BALANCERS = {"www.shop.example": frozenset({"A"}), "api.bank.test": frozenset({"A"})}


@pytest.mark.parametrize("bad", [Reply(rcode=NXDOMAIN), Reply(rcode=SERVFAIL), Reply(rcode=REFUSED), None])
def test_load_balancers_that_answer_aaaa_badly_are_no_fault_of_the_resolver(bad: Reply | None) -> None:
    def world(question: Question, _: int) -> Reply | None:
        return bad if question.qtype == "AAAA" and question.name in LOAD_BALANCERS else honest(question)

    rounds = Rounds(world, expected={NAMES[0]: BOTH, **LOAD_BALANCERS})
    assert {cause for _ in range(25) for cause in causes(rounds.run())} == set()


def test_a_name_that_leads_to_one_of_two_places_of_which_one_has_no_ipv6_is_no_difference() -> None:
    """Two networks that deliver the same site in turn: the alias says which, and what it leads to has A alone or
    both.
    """
    turns = itertools.count()

    def world(question: Question, _: int) -> Reply:
        if question.qtype != "AAAA" or question.label == "random":
            return honest(question)
        return DATA["AAAA"] if next(turns) % 2 else Reply(answers=1, chain=("four.cdn.test",), soa_authority=True)

    rounds = Rounds(world)
    assert {cause for _ in range(10) for cause in causes(rounds.run())} == set()


def test_nothing_is_concluded_from_a_round_that_asked_once() -> None:
    rounds = Rounds(lambda question, _: Reply(rcode=REFUSED) if question.qtype == "AAAA" else honest(question))
    first, second = rounds.run(), rounds.run()
    assert found(Cause.DNS_AAAA_BLOCKED, second)
    again = [one for one in second.snapshot.told if one.qtype == "AAAA" and one.name == NAMES[0]]
    assert len(again) == 2 * (2 + TIMES)
    asked_once = replace(second.snapshot, told=tuple(one for one in again if one.edns)[:2])
    assert not found(Cause.DNS_AAAA_BLOCKED, replace(second, snapshot=asked_once))
    assert DNS_RULES[Cause.DNS_ANSWERS_DIFFER](first) is Reason.TOO_FEW_SAMPLES
    assert DNS_RULES[Cause.DNS_QUERIES_LOST](first) is Reason.TOO_FEW_SAMPLES
