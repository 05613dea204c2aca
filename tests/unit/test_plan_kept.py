"""Rotation, suspects and kept results: docs/specification.md section 4, over whole sequences of rounds."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from exporter.model.dns import Reply
from exporter.model.family import parse_address
from exporter.model.probe import Group, Lookup, LookupOutcome, Nameserver, Observation, Outcome, Purpose, Question
from exporter.model.vantage import Vantage
from exporter.plan.result_history import (
    EMPTY,
    NO_ANSWERS,
    ResultHistory,
    choose_sample,
    keep_answers,
    keep_results,
    peers_again,
    rotation,
)
from tests.unit.scene import HOST, pod, seen, target

INTERVAL = 30.0
WEB = target("web", Group.OUTSIDE)


def probe(vantage: Vantage, said: str) -> tuple[Observation, ...]:
    return tuple(seen(vantage, WEB, said))


PASS, FAIL, CUT = "tcp6=ok tcp4=ok", "tcp6=timeout tcp4=ok", "tcp6=local tcp4=local"


class World:
    """Rounds over pods that fail or pass as told."""

    def __init__(self, number: int, size: int) -> None:
        self.pods = tuple(pod(f"p{n:04d}") for n in range(number))
        self.size = size
        self.store = EMPTY
        self.now = 1000.0
        self.failing: set[str] = set()

    def run(self) -> tuple[Vantage, ...]:
        sample = choose_sample(self.pods, self.store, self.size)
        made = {v.key: probe(v, FAIL if v.name in self.failing else PASS) for v in sample}
        keep = 2 * rotation(len(self.pods), self.size, INTERVAL) + INTERVAL
        self.store = keep_results(
            self.store, made, present=[v.key for v in self.pods], now=self.now, keep=keep, remember=keep
        )
        self.now += INTERVAL
        return sample


def of(history: ResultHistory, before: int = 0) -> tuple[Observation, ...]:
    """What is kept of each vantage's last probe, or of the one before."""
    return tuple(o for dial in history.last_two()[before] for o in dial.observations)


@given(number=st.integers(0, 60), size=st.integers(0, 25))
def test_without_failures_every_pod_is_probed_once_a_rotation(number: int, size: int) -> None:
    world = World(number, size)
    rounds = -(-number // size) if size else 1
    asked = Counter(v.key for _ in range(rounds) for v in world.run())
    assert len(asked) == (number if size else 0)
    assert max(asked.values(), default=0) <= 2


@given(number=st.integers(1, 60), size=st.integers(1, 25), failing=st.sets(st.integers(0, 59)))
def test_suspects_never_keep_the_others_from_their_turn(number: int, size: int, failing: set[int]) -> None:
    """However many pods fail: at most half the sample is theirs by right, and everybody's turn comes within two
    rotations.
    """
    world = World(number, size)
    world.failing = {f"p{n:04d}" for n in failing}
    seen_pods: set[str] = set()
    for _ in range(2 * -(-number // max(1, size)) + 1):
        sample = world.run()
        assert len(sample) == len({v.key for v in sample}) == min(number, size)
        seen_pods |= {v.key for v in sample}
    assert len(seen_pods) == number


def test_a_pod_that_failed_is_probed_every_round_until_it_passed_twice() -> None:
    world = World(40, 4)
    world.run()
    world.failing = {"p0004"}
    assert "p0004" in {v.name for v in world.run()}
    assert "p0004" in {v.name for v in world.run()}
    world.failing = set()
    again = ["p0004" in {v.name for v in world.run()} for _ in range(4)]
    assert again == [True, True, False, False]


def test_suspects_take_at_most_half_the_sample_and_rotate_among_themselves() -> None:
    world = World(40, 4)
    world.failing = {v.name for v in world.pods}
    first, second, third = world.run(), world.run(), world.run()
    assert len(set(second) & set(first)) == 2
    assert len(set(third) & {*first, *second}) == 2
    world = World(3, 1)
    world.failing = {"p0000"}
    assert [world.run()[0].name for _ in range(4)] == ["p0000", "p0001", "p0002", "p0000"]


def test_no_sample_is_no_sample_even_for_suspects() -> None:
    world = World(4, 4)
    world.failing = {"p0001"}
    world.run()
    world.size = 0
    assert world.run() == ()


def test_a_result_is_kept_for_two_rotations_and_no_longer() -> None:
    web = pod("web")
    store = keep_results(EMPTY, {web.key: probe(web, PASS)}, present=[web.key], now=1000.0, keep=150.0, remember=150.0)
    assert keep_results(store, {}, present=[web.key], now=1150.0, keep=150.0, remember=150.0).last_two()[0]
    assert keep_results(store, {}, present=[web.key], now=1151.0, keep=150.0, remember=150.0).last_two()[0] == ()


def test_what_vanished_is_dropped_at_once_also_when_it_was_just_probed() -> None:
    web, db = pod("web"), pod("db")
    store = keep_results(EMPTY, {web.key: probe(web, PASS)}, present=[web.key], now=1000.0, keep=150.0, remember=150.0)
    assert keep_results(store, {db.key: probe(db, PASS)}, present=[], now=1030.0, keep=150.0, remember=150.0) == EMPTY


def test_the_probe_before_stays_beside_the_last_one() -> None:
    web = pod("web")
    store = keep_results(EMPTY, {web.key: probe(web, FAIL)}, present=[web.key], now=1000.0, keep=150.0, remember=150.0)
    assert store.last_two()[1] == ()
    store = keep_results(store, {web.key: probe(web, PASS)}, present=[web.key], now=1030.0, keep=150.0, remember=150.0)
    assert {o.outcome for o in of(store, 1)} == {Outcome.TIMEOUT, Outcome.OK}
    assert {o.outcome for o in of(store)} == {Outcome.OK}


def test_a_probe_that_told_nothing_takes_its_turn_and_leaves_the_last_result() -> None:
    web = pod("web")
    store = keep_results(EMPTY, {web.key: probe(web, FAIL)}, present=[web.key], now=1000.0, keep=150.0, remember=150.0)
    cut = keep_results(store, {web.key: probe(web, CUT)}, present=[web.key], now=1030.0, keep=150.0, remember=150.0)
    kept = cut.vantages[web.key]
    assert (kept.observations, kept.time, kept.asked, kept.suspect) == (of(store), 1000.0, 1030.0, 2)
    late = keep_results(cut, {web.key: probe(web, CUT)}, present=[web.key], now=1200.0, keep=150.0, remember=150.0)
    assert {o.outcome for o in of(late)} == {Outcome.LOCAL}, "older than two rotations"


def test_an_outside_target_whose_name_waits_keeps_its_last_result_for_a_while() -> None:
    """Else a target that fails would pass for one that works in every round in which its name is asked for again."""
    web, other = pod("web"), target("other", Group.OUTSIDE)
    both = (*probe(web, FAIL), *seen(web, other, PASS))
    store = keep_results(EMPTY, {web.key: both}, present=[web.key], now=0.0, keep=90.0, remember=90.0)
    for now in (30.0, 60.0, 90.0):
        alone = tuple(replace(o, time=o.time + now) for o in seen(web, other, PASS))
        store = keep_results(store, {web.key: alone}, present=[web.key], now=now, keep=90.0, remember=90.0)
        assert {o.target.name: o.time for o in of(store)} == {"web": 100.0, "other": 100.0 + now}
    alone = tuple(replace(o, time=o.time + 120.0) for o in seen(web, other, PASS))
    store = keep_results(store, {web.key: alone}, present=[web.key], now=120.0, keep=90.0, remember=90.0)
    assert {o.target.name for o in of(store)} == {"other"}, "not for ever"


def test_a_peer_that_is_not_dialled_this_time_leaves_no_result() -> None:
    web = pod("web")
    ring = [tuple(seen(web, target("peers", Group.PEERS, peer=name), PASS)) for name in ("babel", "corfu")]
    store = keep_results(EMPTY, {web.key: ring[0]}, present=[web.key], now=0.0, keep=90.0, remember=90.0)
    store = keep_results(store, {web.key: ring[1]}, present=[web.key], now=30.0, keep=90.0, remember=90.0)
    assert {o.target.peer for o in of(store)} == {"corfu"}


def test_a_partly_cut_probe_keeps_the_last_result_of_the_cut_part_and_the_doubt() -> None:
    """Else a round that ran out of time would pass for a family that works again."""
    web = pod("web")
    store = keep_results(EMPTY, {web.key: probe(web, FAIL)}, present=[web.key], now=0.0, keep=90.0, remember=90.0)
    for now in (30.0, 60.0, 90.0):
        store = keep_results(
            store, {web.key: probe(web, "tcp6=local tcp4=ok")}, present=[web.key], now=now, keep=90.0, remember=90.0
        )
        assert [o.outcome for o in of(store)] == [Outcome.TIMEOUT, Outcome.OK]
        assert choose_sample([web, pod("db")], store, 2)[0] == web
    late = tuple(replace(o, time=o.time + 91.0) for o in probe(web, "tcp6=local tcp4=ok"))
    store = keep_results(store, {web.key: late}, present=[web.key], now=120.0, keep=90.0, remember=90.0)
    assert [o.outcome for o in of(store)] == [Outcome.LOCAL, Outcome.OK], "not for ever"


def test_the_host_is_kept_like_a_pod() -> None:
    store = keep_results(EMPTY, {HOST.key: probe(HOST, PASS)}, present=[HOST.key], now=1.0, keep=150.0, remember=150.0)
    assert len(of(store)) == 2


SERVER = parse_address("192.0.2.53")
assert SERVER is not None


def lookup(vantage: Vantage, time: float, name: str = "pypi.org") -> Lookup:
    assert SERVER is not None
    question = Question(
        vantage=vantage,
        server=Nameserver(SERVER, "cluster_dns"),
        name=name,
        qtype="AAAA",
        label=name,
        purpose=Purpose.VERDICT,
    )
    return Lookup(question=question, outcome=LookupOutcome.NODATA, seconds=0.01, reply=Reply(), time=time)


def test_two_rounds_of_a_question_are_two_rounds_whoever_asked() -> None:
    one, two = lookup(pod("one"), 1000.0), lookup(pod("two"), 1030.0)
    answers = keep_answers(NO_ANSWERS, [one], now=1000.0, keep=100.0)
    assert (list(answers.last.values()), list(answers.before.values())) == ([one], [])
    answers = keep_answers(answers, [two, lookup(pod("three"), 1030.0)], now=1031.0, keep=100.0)
    assert [o.question.vantage.name for o in answers.last.values()] == ["three"]
    assert list(answers.before.values()) == [one]


def test_answers_go_when_they_are_old_and_when_the_clock_was_set_back() -> None:
    answers = keep_answers(NO_ANSWERS, [lookup(pod("one"), 1000.0)], now=1000.0, keep=100.0)
    assert keep_answers(answers, [], now=1100.0, keep=100.0) == answers
    assert keep_answers(answers, [], now=1101.0, keep=100.0) == NO_ANSWERS
    assert keep_answers(answers, [], now=1000.0 - 3600, keep=100.0) == NO_ANSWERS


def test_rotation_is_the_time_until_everyone_had_a_turn() -> None:
    assert [rotation(n, 20, 30.0) for n in (0, 1, 20, 21, 110)] == [30.0, 30.0, 30.0, 60.0, 180.0]
    assert rotation(5, 0, 30.0) == 150.0


def test_a_store_never_outgrows_what_is_present() -> None:
    store = ResultHistory({})
    for number in range(50):
        web = replace(pod("web"), uid=f"uid-{number}")
        store = keep_results(
            store, {web.key: probe(web, PASS)}, present=[web.key], now=30.0 * number, keep=1e9, remember=1e9
        )
    assert len(store.vantages) == 1


def test_a_peer_is_dialled_again_after_its_first_failure_alone() -> None:
    to_peer = target("peers", Group.PEERS, peer="n0")
    place = pod("p0")
    said = []
    store = EMPTY
    for number, words in enumerate(
        ["icmp6=ok tcp6=refused", "icmp6=timeout tcp6=timeout", "icmp6=timeout tcp6=timeout"]
    ):
        to = target("peers", Group.PEERS, peer="n1") if number == 0 else to_peer
        made = {place.key: tuple(seen(place, to, words))}
        store = keep_results(store, made, present=[place.key], now=30.0 * number, keep=90.0, remember=90.0)
        said.append(peers_again(store))
    assert said == [{}, {place.key: to_peer.subject}, {}]
