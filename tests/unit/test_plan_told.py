"""What is remembered of nameservers' answers: for ten minutes, bounded, whichever place asked."""

from __future__ import annotations

from exporter.model.dns import NXDOMAIN, Reply
from exporter.model.probe import Lookup, LookupOutcome, Nameserver, Purpose, Question
from exporter.plan.answer_history import AT_MOST, NO_HISTORY, REMEMBERED, all_told, by_question, remember
from exporter.probes.dns_reply import judge
from tests.unit.scene import HOST
from tests.worlds import address

SERVER = Nameserver(address("192.0.2.53"), "cluster_dns")
DATA, ZERO = (Reply(answers=1, addresses=(address(text),)) for text in ("192.0.2.80", "0.0.0.0"))
MISSING = Reply(rcode=NXDOMAIN, soa_authority=True)


def lookup(
    time: float, reply: Reply | None = DATA, *, name: str = "pypi.org", label: str = "", **more: object
) -> Lookup:
    purpose = more.get("purpose", Purpose.VERDICT)
    assert isinstance(purpose, Purpose)
    question = Question(vantage=HOST, server=SERVER, name=name, qtype="A", label=label or name, purpose=purpose)
    return Lookup(
        question=question,
        outcome=judge(reply) if reply else LookupOutcome.TIMEOUT,
        seconds=0.01,
        reply=reply,
        time=time,
    )


def test_answers_of_all_rounds_and_places_stand_under_their_question_oldest_first() -> None:
    history = remember(NO_HISTORY, [lookup(1000.0), lookup(999.0, MISSING, name="PyPI.org.")], now=1000.0)
    history = remember(history, [lookup(1030.0, None)], now=1030.0)
    (answers,) = history.values()
    assert [(one.outcome.value, one.real, one.round) for one in answers] == [
        ("nxdomain", False, 1000.0),
        ("answer", True, 1000.0),
        ("timeout", False, 1030.0),
    ]
    assert by_question(all_told(history)) == history


def test_what_is_older_than_that_or_from_the_future_goes() -> None:
    history = remember(NO_HISTORY, [lookup(1000.0)], now=1000.0)
    assert remember(history, [], now=1000.0 + REMEMBERED) == history
    assert remember(history, [], now=1001.0 + REMEMBERED) == NO_HISTORY
    assert remember(history, [], now=999.0 - REMEMBERED) == NO_HISTORY


def test_it_is_bounded_for_each_question() -> None:
    history = remember(NO_HISTORY, [lookup(1000.0 + n / 1000) for n in range(3 * AT_MOST)], now=1001.0)
    (answers,) = history.values()
    assert len(answers) == AT_MOST
    assert answers[-1].time == 1000.0 + (3 * AT_MOST - 1) / 1000


def test_random_names_are_one_question_and_references_are_not_remembered() -> None:
    turned = [lookup(1.0, MISSING, name=f"{label}.corp.test", label="random") for label in ("x1", "x2")]
    history = remember(NO_HISTORY, [*turned, lookup(1.0, purpose=Purpose.REFERENCE)], now=1.0)
    assert {key[1]: len(answers) for key, answers in history.items()} == {"random.corp.test": 2}


def test_the_unspecified_address_is_no_record() -> None:
    (answers,) = remember(NO_HISTORY, [lookup(1.0, ZERO)], now=1.0).values()
    assert [(one.outcome, one.real) for one in answers] == [(LookupOutcome.ANSWER, False)]
