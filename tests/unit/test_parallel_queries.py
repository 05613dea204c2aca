"""A and AAAA from one socket: which pairs are sent, what they show, and when that is a cause."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from exporter.diagnosis.engine.rule_input import RuleInput
from exporter.diagnosis.rules.dns import DNS_RULES
from exporter.libc.replies import answers_of
from exporter.libc.resolver import Libc, predict, suggest_fixes
from exporter.model.cause import Cause, Role
from exporter.model.cluster.inventory import NO_INVENTORY
from exporter.model.dns import Reply, ResolvConf
from exporter.model.family import FAMILIES
from exporter.model.probe import Lookup, LookupOutcome, Lost, Nameserver, Purpose, Question, Together
from exporter.model.reason import Reason
from exporter.model.report import Finding, PodView, Snapshot
from exporter.plan.answer_history import NO_HISTORY, all_told, remember
from exporter.plan.parallel import (
    CONFIRMING,
    COST,
    LEAST_TIME,
    MORE,
    asked_alone,
    missing,
    pairs,
    predicted,
    shown,
    with_losses,
)  # fmt: skip
from tests.unit.scene import pod
from tests.worlds import address

WEB = pod("web")
SERVER = Nameserver(address("192.0.2.53"), "cluster_dns")
ANSWER = Reply(answers=1, addresses=(address("192.0.2.80"),))
CONF = ResolvConf(nameservers=(SERVER.address,), timeout=3, attempts=3)


def question(name: str, qtype: str, of: Nameserver = SERVER, **more: object) -> Question:
    made = Question(vantage=WEB, server=of, name=name, qtype=qtype, label=name, purpose=Purpose.VERDICT)
    return replace(made, **more)  # type: ignore[arg-type]


def lookup(asked: Question, *, lost: bool = False) -> Lookup:
    if lost:
        return Lookup(question=asked, outcome=LookupOutcome.TIMEOUT, seconds=1.0)
    return Lookup(question=asked, outcome=LookupOutcome.ANSWER, seconds=0.001, reply=ANSWER)


def verdict_set(*names: str, of: Nameserver = SERVER) -> list[Lookup]:
    return [lookup(question(name, qtype, of)) for name in names for qtype in ("A", "AAAA", "MX")]


def chosen(lookups: Sequence[Lookup], **more: object) -> tuple[Together, ...]:
    return pairs(lookups, **{"number": 0, "allowance": None, "seconds": 9.0, **more})  # type: ignore[arg-type]


def test_each_nameserver_is_sent_one_pair_as_a_libc_sends_it() -> None:
    other = Nameserver(address("192.0.2.54"), "other")
    (one, two) = chosen([*verdict_set("a.test", "b.test"), *verdict_set("a.test", of=other)])
    assert [(q.name, q.qtype, q.edns, q.sends, q.purpose) for q in one.questions] == [
        ("a.test", "A", False, 1, Purpose.PARALLEL), ("a.test", "AAAA", False, 1, Purpose.PARALLEL),
    ]  # fmt: skip
    assert two.questions[0].server is other


def test_only_what_is_answered_one_by_one_is_sent_together() -> None:
    silent = [lookup(question("a.test", "A")), lookup(question("a.test", "AAAA"), lost=True)]
    cut = [replace(one, truncated=True) for one in verdict_set("a.test")]
    unknown = [lookup(question("x1.test", qtype, label="random")) for qtype in ("A", "AAAA")]
    assert chosen(silent) == chosen(cut) == chosen(unknown) == ()
    assert [q.name for q in chosen([*silent, *verdict_set("b.test")])[0].questions] == ["b.test", "b.test"]


def test_the_budget_makes_nameservers_take_turns() -> None:
    servers = [Nameserver(address(f"192.0.2.{n}"), "x") for n in range(3)]
    lookups = [one for server in servers for one in verdict_set("a.test", of=server)]
    turns = [chosen(lookups, number=n, allowance=COST)[0].questions[0].server for n in range(4)]
    assert turns == [*servers, servers[0]]
    assert chosen(lookups, allowance=1) == chosen(lookups, seconds=LEAST_TIME - 0.1) == ()


def test_a_prediction_asks_for_pairs_that_came_alone_and_in_turn_for_those_that_lose_one() -> None:
    """And the reply that is lost costs each libc what it costs an application."""
    asked = [question("a.test", qtype, purpose=Purpose.PREDICTION, edns=False) for qtype in ("A", "AAAA")]
    alone = tuple(map(lookup, asked))
    silent = (alone[0], lookup(asked[1], lost=True))
    cut = tuple(replace(one, truncated=True) for one in alone)
    assert predicted(silent, Lost.AT_ONCE) == predicted(cut, Lost.AT_ONCE) == ()
    (pair,) = predicted(alone, Lost.AT_ONCE)
    assert [(q.qtype, q.sends, q.purpose, pair.in_turn) for q in pair.questions] == [
        ("A", 1, Purpose.PREDICTION, False), ("AAAA", 1, Purpose.PREDICTION, False),
    ]  # fmt: skip
    assert predicted(alone, Lost.IN_TURN) == ()
    at_once = with_losses(alone, Lost.AT_ONCE, [pair.questions[1]])
    assert [one.lost for one in at_once] == [Lost.NEVER, Lost.AT_ONCE]
    assert [each.in_turn for each in predicted(at_once, Lost.IN_TURN)] == [True]
    in_turn = with_losses(at_once, Lost.IN_TURN, [pair.questions[1]])
    waits = {
        (libc, lookups[1].lost): round(made.seconds)
        for libc in (Libc.GLIBC, Libc.MUSL)
        for lookups in (alone, at_once, in_turn)
        if (made := predict(libc, "a.test", CONF, answers_of(lookups))) is not None and made.code == "OK"
    }
    assert waits == {
        (Libc.GLIBC, Lost.NEVER): 0, (Libc.GLIBC, Lost.AT_ONCE): 3, (Libc.GLIBC, Lost.IN_TURN): 6,
        (Libc.MUSL, Lost.NEVER): 0, (Libc.MUSL, Lost.AT_ONCE): 1, (Libc.MUSL, Lost.IN_TURN): 1,
    }  # fmt: skip
    cures = suggest_fixes("a.test", CONF, answers_of(in_turn))
    assert [fix.libcs for fix in cures if "single-request-reopen" in fix.change] == [("glibc",)]


Loses = Callable[[int], bool]  # whether the nth question is lost


def sent(loses: Loses) -> tuple[Lookup, ...]:
    """What a nameserver makes of the pair, of those after a suspicion, and of what is then asked alone."""
    (pair,) = chosen(verdict_set("a.test"))
    number = iter(range(100))
    made = [tuple(lookup(q, lost=loses(next(number))) for q in pair.questions)]
    alone: tuple[Lookup, ...] = ()
    if missing(made[0]) is not None:
        made += [tuple(lookup(q, lost=loses(next(number))) for q in pair.questions) for _ in range(MORE)]
        alone = tuple(lookup(q, lost=loses(100 + n)) for n, q in enumerate(asked_alone(made)))
        assert (MORE * COST) + len(alone) <= CONFIRMING
        assert all(one.question.sends == 1 for one in alone), "a second datagram would hide a loss"
    return shown(made, alone)


@pytest.mark.parametrize(
    ("loses", "lost"),
    [
        (lambda _: False, [False, False]),
        (lambda n: n < 100 and n % 2 == 1, [False, True]),  # each second of two
        (lambda n: n < 100 and n % 2 == 0, [True, False]),  # each first
        (lambda n: n in {1, 3, 4}, [False, True]),  # most pairs lose one, now this and now that
        (lambda n: n == 1, None),  # one lost packet
        (lambda n: n in {1, 3}, None),
        (lambda n: n % 2 == 1, None),  # what is asked alone is lost as well
        (lambda n: n < 2, None),  # both: the server is silent
    ],
)
def test_what_pairs_show(loses: Loses, lost: list[bool] | None) -> None:
    made = sent(loses)
    assert (None if not made else [one.reply is None for one in made]) == lost


def rounds(*of: Sequence[Lookup], singles: Sequence[Lookup] = ()) -> RuleInput:
    """Rounds 30 s apart, the last one now."""
    history, snapshots = NO_HISTORY, list[Snapshot]()
    for number, lookups in enumerate(of):
        now = 1000.0 + 30 * number
        timed = tuple(replace(one, time=now) for one in (*lookups, *singles))
        history = remember(history, timed, now=now)
        snapshots.append(
            Snapshot(
                node="ra", role=Role.NODE, started=now, finished=now, complete=True, inventory=NO_INVENTORY, host=None,
                pods=(PodView(vantage=WEB, resolv_conf=CONF),), lookups=timed, told=all_told(history),
                families=dict.fromkeys(FAMILIES, True),
            )
        )  # fmt: skip
    return RuleInput(
        now=snapshots[-1].finished, snapshot=snapshots[-1], previous=snapshots[-2] if len(snapshots) > 1 else None
    )


def found(view: RuleInput) -> Finding | None:
    said = DNS_RULES[Cause.DNS_PARALLEL_QUERIES_LOST](view)
    return None if isinstance(said, Reason) or not said else said[0]


RACE, WELL = sent(lambda n: n < 100 and n % 2 == 1), sent(lambda _: False)


def test_a_reply_lost_in_two_rounds_is_a_cause_with_the_delay_of_each_libc() -> None:
    finding = found(rounds(RACE, RACE))
    assert finding is not None
    assert finding.subjects == ("server/cluster_dns",)
    assert "the reply to AAAA was missing, for 5 of 5 such pairs one reply" in finding.evidence[0]
    assert finding.evidence[0].endswith("glibc waits 3 s longer then, musl 1 s")
    assert finding.command == "dualstack-exporter resolve a.test --pod=default/web"


def test_one_round_an_honest_one_or_one_with_chance_in_it_is_no_cause() -> None:
    assert found(rounds(RACE, WELL)) is found(rounds(WELL, RACE)) is found(rounds(WELL, WELL)) is None
    assert DNS_RULES[Cause.DNS_PARALLEL_QUERIES_LOST](rounds(RACE)) is Reason.TOO_FEW_SAMPLES


def test_the_last_two_pairs_count_whatever_their_names() -> None:
    other = tuple(replace(one, question=replace(one.question, name="b.test")) for one in RACE)
    healed = tuple(replace(one, question=replace(one.question, name="b.test")) for one in WELL)
    assert found(rounds(RACE, other)) is not None
    assert found(rounds(RACE, RACE, healed)) is None


def test_a_server_that_loses_questions_anyway_loses_pairs_by_chance() -> None:
    asked = verdict_set("a.test", "b.test")
    lossy = [*asked, lookup(question("a.test", "A", purpose=Purpose.AGAIN), lost=True)]
    assert found(rounds(RACE, RACE, singles=asked)) is not None
    assert found(rounds(RACE, RACE, singles=lossy)) is None


@pytest.mark.parametrize("share", [0.01, 0.05, 0.2, 0.5])
def test_losses_by_chance_are_not_called_lost_pairs(share: float) -> None:
    """A thousand pairs of rounds of a network that loses this share of all packets."""
    dice = random.Random(7)

    def round_() -> list[Lookup]:
        singles = [
            lookup(replace(one.question, purpose=Purpose.AGAIN), lost=dice.random() < share)
            for one in verdict_set("a.test", "b.test") * 3
        ]
        return [*sent(lambda _: dice.random() < share), *singles]

    finds = sum(found(rounds(*(round_() for _ in range(4)))) is not None for _ in range(1000))
    assert finds <= 1
