"""What a round asks again: what is doubtful, several times, within what is left of its budget; and nothing of an honest
server.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pytest

from exporter.model.dns import NXDOMAIN, REFUSED, Reply
from exporter.model.probe import Lookup, LookupOutcome, Nameserver, Purpose, Question
from exporter.plan.answer_history import NO_HISTORY, AnswerHistory, remember
from exporter.plan.repeats import MOST, SPREAD, TIMES, KnownNames, asked_again, doubtful, set_aside
from exporter.probes.dns_reply import judge
from tests.unit.scene import HOST
from tests.worlds import address

SERVER, SECOND = Nameserver(address("192.0.2.53"), "cluster_dns"), Nameserver(address("192.0.2.54"), "host")
DATA = {
    "A": Reply(answers=1, addresses=(address("192.0.2.80"),)),
    "AAAA": Reply(answers=1, addresses=(address("2001:db8::80"),)),
}
ABSENT, BARE = Reply(soa_authority=True), Reply(aa=True)
MISSING, DENIED = Reply(rcode=NXDOMAIN, soa_authority=True), Reply(rcode=REFUSED)
KNOWN = KnownNames("cluster.local", {"both.test": frozenset({"A", "AAAA"}), "four.example": frozenset({"A"})})


def said(name: str, qtype: str, reply: Reply | None, *, label: str = "", of: Nameserver = SERVER) -> Lookup:
    question = Question(vantage=HOST, server=of, name=name, qtype=qtype, label=label or name, purpose=Purpose.VERDICT)
    return Lookup(
        question=question, outcome=judge(reply) if reply else LookupOutcome.TIMEOUT, seconds=0.01, reply=reply, time=1.0
    )


def pair(name: str, a: Reply | None, aaaa: Reply | None, **more: str) -> list[Lookup]:
    return [said(name, "A", a, **more), said(name, "AAAA", aaaa, **more)]  # type: ignore[arg-type]


def again(
    lookups: Sequence[Lookup], before: AnswerHistory = NO_HISTORY, *, allowance: int | None = None, seconds: float = 2.0
) -> tuple[Question, ...]:
    history = remember(before, lookups, now=2.0)
    return asked_again(doubtful(lookups, history, KNOWN), allowance=allowance, seconds=seconds)


def counted(questions: Sequence[Question]) -> dict[tuple[str, str], int]:
    return dict(Counter((q.name, q.qtype) for q in questions))


GOOD = pair("both.test", DATA["A"], DATA["AAAA"])


@pytest.mark.parametrize(
    "honest",
    [
        GOOD,
        pair("web.test", DATA["A"], ABSENT),  # has A alone
        pair("x1.test", MISSING, MISSING, label="random"),
        pair("web.test.default.svc.cluster.local", MISSING, MISSING),  # a search candidate
        [*GOOD, *pair("four.example", DATA["A"], DENIED)],  # the operator says that it has no AAAA
        [*GOOD, *pair("four.example", DATA["A"], None)],
        pair("both.test", None, None),  # a server that answers nothing
    ],
)
def test_nothing_is_asked_again_without_a_doubt(honest: list[Lookup]) -> None:
    assert again(honest) == ()


@pytest.mark.parametrize(
    ("answers", "asked"),
    [
        ([*GOOD, *pair("web.test", DATA["A"], None)], {("web.test", "AAAA"): TIMES}),
        ([*GOOD, said("web.test", "MX", None)], {("web.test", "MX"): TIMES}),
        (pair("web.test", DATA["A"], DENIED), {("web.test", "AAAA"): TIMES}),
        (pair("web.test", DATA["A"], BARE), {("web.test", "AAAA"): TIMES}),
        (pair("web.test", MISSING, DATA["AAAA"]), {("web.test", "A"): TIMES}),
        (pair("x1.test", MISSING, BARE, label="random"), {("x1.test", "AAAA"): TIMES}),
        (pair("four.example", DATA["A"], DENIED), {("four.example", "AAAA"): TIMES}),  # nothing else is served
        (pair("both.test", MISSING, MISSING), {("both.test", "A"): TIMES, ("both.test", "AAAA"): TIMES}),
    ],
)
def test_what_is_lost_refused_or_lacks_a_record_is_asked_again(
    answers: list[Lookup], asked: dict[tuple[str, str], int]
) -> None:
    made = again(answers)
    assert counted(made) == asked
    assert {(q.purpose, q.sends) for q in made} == {(Purpose.AGAIN, 1)}
    assert [q.start for q in made] == sorted(q.start for q in made)
    assert all(q.start < SPREAD for q in made)


def test_what_was_answered_otherwise_before_is_asked_again_for_both_types() -> None:
    lost_its_record = pair("web.test", MISSING, MISSING)
    before = remember(NO_HISTORY, pair("web.test", DATA["A"], DATA["AAAA"]), now=1.0)
    assert again(lost_its_record) == ()
    assert counted(again(lost_its_record, before)) == {("web.test", "A"): TIMES, ("web.test", "AAAA"): TIMES}


def test_each_nameserver_is_asked_about_its_own_answers() -> None:
    made = again([*GOOD, *(said(one.question.name, one.question.qtype, BARE, of=SECOND) for one in GOOD)])
    assert {q.server for q in made} == {SECOND}


def test_it_keeps_to_the_budget_and_begins_with_what_was_asked_least() -> None:
    answers = [one for name in ("a.test", "b.test", "c.test") for one in pair(name, DATA["A"], BARE)]
    before = remember(NO_HISTORY, [said("a.test", "AAAA", BARE)] * 5, now=1.0)
    assert counted(again(answers, before, allowance=2 * TIMES + 1)) == {
        ("b.test", "AAAA"): TIMES,
        ("c.test", "AAAA"): TIMES,
    }
    assert again(answers, allowance=TIMES - 1) == again(answers, seconds=0.1) == ()
    many = [one for n in range(2 * MOST) for one in pair(f"n{n}.test", DATA["A"], BARE)]
    assert len(again(many)) == MOST * TIMES
    assert {q.timeout for q in again(answers, seconds=0.7)} == {0.7}


def test_of_the_next_rounds_budget_as_much_is_set_aside_as_was_wanted_up_to_a_third() -> None:
    assert [set_aside(doubts, 60) for doubts in (0, 4, 30)] == [0, 12, 20]
    assert set_aside(4, None) == 0
    assert set_aside(4, 2) == 0
