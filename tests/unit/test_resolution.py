"""Targets' names: which candidates and servers are asked, what is remembered, and the budget."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from ipaddress import ip_address
from typing import TypeAlias, cast

import pytest

from exporter.model.dns import Reply, ResolvConf
from exporter.model.family import FAMILIES, Address, Family
from exporter.model.probe import (
    Group,
    Layer,
    Lookup,
    LookupOutcome,
    Nameserver,
    Observation,
    Outcome,
    Purpose,
    Question,
    Target,
)
from exporter.plan.name_resolution import (
    LONGEST,
    LONGEST_NONE,
    ResolutionGroup,
    admitted,
    failed_hosts,
    lifetime,
)
from exporter.probes.resolution.target_resolver import (
    AT_MOST,
    EQUAL,
    PAIR,
    Resolved,
    TargetResolver,
    candidates,
    question_timeout,
)
from exporter.probes.runner import Deadline, ProbeRunner
from tests.unit.plan_scene import conf, config
from tests.unit.scene import HOST, pod

A, AAAA = ip_address("192.0.2.80"), ip_address("2001:db8::80")
V4, V6 = Family.V4, Family.V6
BOTH: dict[str, Address | None] = {"A": A, "AAAA": AAAA}
SERVERS = (Nameserver(ip_address("10.96.0.10"), "cluster_dns"), Nameserver(ip_address("192.0.2.1"), "host"))
FILE = conf(search=("corp.example", "lan"))
NEVER = cast("Deadline", None)
Says: TypeAlias = Callable[[Question], Address | tuple[Address, ...] | LookupOutcome | None]


def naming(*hosts: str, file: ResolvConf = FILE, servers: Sequence[Nameserver] = SERVERS) -> ResolutionGroup:
    """The host's naming of targets with these names."""
    listed = ", ".join(f"{{name: t{number}, host: {host}, port: 80}}" for number, host in enumerate(hosts))
    return ResolutionGroup(
        vantages=(HOST,),
        targets=config(f"targets: [{listed}]").targets,
        asked_from=HOST,
        conf=file,
        servers=tuple(servers),
    )


class Nameservers:
    """An ProbeRunner: `says(question)` gives addresses, None (no such record), or a LookupOutcome. Its SOA and its
    records live `ttl` s.
    """

    def __init__(self, says: Says) -> None:
        self.says = says
        self.ttl: int | None = 3600
        self.asked: list[Question] = []

    async def ask_all(self, questions: Sequence[Question], _: Deadline) -> tuple[Lookup, ...]:
        self.asked += questions
        await asyncio.sleep(0)  # the others come in between
        return tuple(self._lookup(q) for q in questions)

    def _lookup(self, question: Question) -> Lookup:
        said = self.says(question)
        if said is LookupOutcome.NODATA:
            return Lookup(question=question, outcome=said, reply=Reply(negative_ttl=self.ttl))
        if isinstance(said, LookupOutcome):
            return Lookup(question=question, outcome=said)
        if said is None:
            return Lookup(
                question=question, outcome=LookupOutcome.NXDOMAIN, reply=Reply(rcode=3, negative_ttl=self.ttl)
            )
        addresses = said if isinstance(said, tuple) else (said,)
        return Lookup(question=question, outcome=LookupOutcome.ANSWER, reply=Reply(addresses=addresses, ttl=self.ttl))


class World:
    def __init__(self, says: Says) -> None:
        self.now = 1000.0
        self.nameservers = Nameservers(says)
        self.resolution = TargetResolver(cast("ProbeRunner", self.nameservers), timeout=1.0, clock=lambda: self.now)

    async def resolve(
        self, name: str = "web.test", servers: Sequence[Nameserver] = SERVERS
    ) -> dict[Family, Address | None] | None:
        """The addresses; None where the name has to wait."""
        made = await self.resolution.resolve(name, HOST, FILE, servers, NEVER)
        return None if made.waits else dict(made.addresses)

    def allow(self, questions: int | None, *names: str) -> None:
        self.resolution.allow(questions, [naming(*names)])

    def due(self, *names: str, file: ResolvConf = FILE, servers: Sequence[Nameserver] = SERVERS) -> int:
        return self.resolution.due([naming(*names, file=file, servers=servers)])

    @property
    def names(self) -> list[str]:
        return [q.name for q in self.nameservers.asked if q.qtype == "A"]


async def test_a_name_with_a_dot_is_asked_as_it_is_written_and_once_while_fresh() -> None:
    world = World(lambda q: BOTH[q.qtype])
    assert await world.resolve() == {V4: A, V6: AAAA}
    assert await world.resolve() == {V4: A, V6: AAAA}
    assert [(q.name, q.qtype, q.server.label) for q in world.nameservers.asked] == [
        ("web.test", "A", "cluster_dns"),
        ("web.test", "AAAA", "cluster_dns"),
    ]
    world.now += LONGEST
    await world.resolve()
    assert len(world.nameservers.asked) == 4


@pytest.mark.parametrize(
    ("aaaa", "ttl", "seconds"),
    [
        (AAAA, 3600, LONGEST),  # a minute at most
        (AAAA, 45, 45),
        (AAAA, 0, 0),  # asked in every round
        (LookupOutcome.NODATA, 3600, LONGEST_NONE),
        (LookupOutcome.NODATA, 5, 5),
        (LookupOutcome.NODATA, None, 0),  # without an SOA it is not kept
    ],
)
async def test_answers_are_used_no_longer_than_they_say(
    aaaa: Address | LookupOutcome, ttl: int | None, seconds: float
) -> None:
    world = World(lambda q: A if q.qtype == "A" else aaaa)
    world.nameservers.ttl = ttl
    await world.resolve()
    moved = ip_address("192.0.2.90")
    world.nameservers.says = lambda q: moved if q.qtype == "A" else AAAA
    if seconds:
        world.now += seconds - 0.1
        assert await world.resolve() == {V4: A, V6: AAAA if aaaa is AAAA else None}
        world.now += 0.1
    assert await world.resolve() == {V4: moved, V6: AAAA}


@pytest.mark.parametrize(
    ("outcome", "reply", "seconds"),
    [
        (LookupOutcome.ANSWER, Reply(addresses=(A,), ttl=20), 20),
        (LookupOutcome.ANSWER, Reply(addresses=(A,), ttl=-1), 0),
        (LookupOutcome.NODATA, Reply(negative_ttl=20), 20),
        (LookupOutcome.NODATA, Reply(negative_ttl=20, ttl=7), 7),  # at the end of a CNAME that lives 7 s
        (LookupOutcome.NODATA, Reply(ttl=20), 0),
        (LookupOutcome.NXDOMAIN, Reply(rcode=3, negative_ttl=20), 20),
        (LookupOutcome.SERVFAIL, Reply(rcode=2, negative_ttl=20), 0),
        (LookupOutcome.TIMEOUT, None, 0),
    ],
)
def test_lifetimes_of_answers(outcome: LookupOutcome, reply: Reply | None, seconds: float) -> None:
    question = Question(
        vantage=HOST, server=SERVERS[0], name="web.test", qtype="A", label="web.test", purpose=Purpose.TARGET
    )
    assert lifetime(Lookup(question=question, outcome=outcome, reply=reply)) == seconds


def dial(
    outcome: Outcome, layer: Layer = Layer.TCP, layers: tuple[Layer, ...] = (Layer.ICMP, Layer.TCP)
) -> Observation:
    target = Target(name="web", group=Group.OUTSIDE, addresses={V4: A}, port=80, layers=layers, host="web.test")
    return Observation(vantage=HOST, target=target, layer=layer, family=V4, outcome=outcome)


@pytest.mark.parametrize(
    ("observation", "doubted"),
    [
        (dial(Outcome.TIMEOUT), True),
        (dial(Outcome.REFUSED), True),
        (dial(Outcome.TLS_NAME, Layer.TLS), True),
        (dial(Outcome.OK), False),
        (dial(Outcome.LOCAL), False),
        (dial(Outcome.NOT_REACHED), False),
        (dial(Outcome.NO_ADDRESS), False),  # nothing was dialled: the SOA decides
        (dial(Outcome.TIMEOUT, Layer.ICMP), False),  # many drop echoes
        (dial(Outcome.TIMEOUT, Layer.ICMP, (Layer.ICMP,)), True),
    ],
)
def test_what_makes_an_address_doubtful(observation: Observation, doubted: bool) -> None:
    assert failed_hosts([observation]) == ({"web.test"} if doubted else set())


async def test_a_name_is_asked_anew_after_a_dial_by_it_failed() -> None:
    world = World(lambda q: BOTH[q.qtype])
    await world.resolve()
    world.resolution.doubt(naming("web.test"), ["web.test", "never-asked.test"])
    world.nameservers.says = lambda q: ip_address("192.0.2.90") if q.qtype == "A" else AAAA
    assert world.due("web.test") == PAIR
    assert await world.resolve() == {V4: ip_address("192.0.2.90"), V6: AAAA}
    assert await world.resolve() == {V4: ip_address("192.0.2.90"), V6: AAAA}
    assert len(world.nameservers.asked) == 4, "once, until the next dial fails"


async def test_what_the_nameservers_leave_open_is_dialled_as_before_until_its_end() -> None:
    """A dial and the nameserver fail together when the way out is gone: the target must not turn into one without
    address.
    """
    world = World(lambda q: BOTH[q.qtype])
    await world.resolve()
    world.resolution.doubt(naming("web.test"), ["web.test"])
    world.now += 30
    world.nameservers.says = lambda q: LookupOutcome.TIMEOUT if q.qtype == "AAAA" else ip_address("192.0.2.90")
    assert await world.resolve() == {V4: ip_address("192.0.2.90"), V6: AAAA}
    assert world.due("web.test"), "it is asked again"
    world.now += 30
    assert await world.resolve() == {V4: ip_address("192.0.2.90")}, "after its TTL nothing is known of IPv6"


@pytest.mark.parametrize("bogus", ["::ffff:192.0.2.80", "::", "::1", "ff02::1", "fe80::1"])
async def test_what_is_no_destination_over_ipv6_is_not_dialled_and_hides_nothing(bogus: str) -> None:
    behind: tuple[Address, ...] = (AAAA, ip_address("2001:db8::81"))
    world = World(lambda q: A if q.qtype == "A" else (ip_address(bogus), *behind))
    made = await world.resolution.resolve("web.test", HOST, FILE, SERVERS, NEVER)
    assert made.found == {V4: (A,), V6: behind}
    only = World(lambda q: A if q.qtype == "A" else ip_address(bogus))
    assert await only.resolve() == {V4: A, V6: None}
    assert set(only.names) == {"web.test"}, "the name was answered: the search list is not gone through"


PODS = tuple(pod(name) for name in ("a", "b", "c"))
LIE = ip_address("203.0.113.9")


def of_pods(number: int = 0, *, witness: bool = True) -> ResolutionGroup:
    """Three pods with one resolv.conf; the first that is asked changes from round to round."""
    asked = PODS[number % len(PODS)]
    return replace(naming("web.test"), vantages=PODS, asked_from=asked, witness=HOST if witness else None)


async def resolved_for(world: World, group: ResolutionGroup) -> tuple[dict[str, Resolved], tuple[Lookup, ...]]:
    """By the pod's name."""
    found, lookups = await world.resolution.resolve_for("web.test", group, NEVER)
    return {vantage.name: found[vantage.key] for vantage in PODS}, lookups


def lying(question: Question) -> Address:
    """Pod b answers for the nameserver's address on its own loopback."""
    if question.vantage.name == "b" and question.qtype == "A":
        return LIE
    return A if question.qtype == "A" else AAAA


@pytest.mark.parametrize("witness", [True, False])
@pytest.mark.parametrize("ttl", [0, 3600])
async def test_no_pods_answers_lead_another_pods_dials(witness: bool, ttl: int) -> None:
    world = World(lying)
    world.nameservers.ttl = ttl
    for number in range(6):
        found, _ = await resolved_for(world, of_pods(number, witness=witness))
        assert found["a"].addresses == found["c"].addresses == {V4: A, V6: AAAA}
        assert found["b"].addresses[V4] in {A, LIE}
        world.now += 30


async def test_pods_that_are_told_the_same_as_the_host_are_not_asked_each() -> None:
    world = World(lambda q: BOTH[q.qtype])
    world.nameservers.ttl = 0
    for number in range(6):
        found, lookups = await resolved_for(world, of_pods(number))
        assert [each.addresses for each in found.values()] == [{V4: A, V6: AAAA}] * 3
        assert {one.question.vantage.kind for one in lookups} == ({"host"} if number else {"host", "pod"})
        world.now += 30
    world.now += EQUAL
    _, lookups = await resolved_for(world, of_pods())
    assert {one.question.vantage.kind for one in lookups} == {"host", "pod"}, "that is not believed for ever"


@pytest.mark.parametrize("said", [LookupOutcome.NODATA, LookupOutcome.TIMEOUT, None])
async def test_what_the_host_is_not_told_is_asked_by_each_pod(said: LookupOutcome | None) -> None:
    """A view for pods alone, or a nameserver that the host does not reach."""
    world = World(lambda q: BOTH[q.qtype] if q.vantage.kind == "pod" else said)
    found, lookups = await resolved_for(world, of_pods())
    assert [each.addresses for each in found.values()] == [{V4: A, V6: AAAA}] * 3
    assert {one.question.vantage.name for one in lookups} >= {"a", "b", "c"}


async def test_pods_that_disagree_with_the_host_take_turns_within_the_budget() -> None:
    world = World(lying)
    world.nameservers.ttl = 0
    resolved: set[str] = set()
    for number in range(12):
        group, before = of_pods(1), len(world.nameservers.asked)
        world.resolution.allow(6, [group])
        found, _ = await resolved_for(world, group)
        assert len(world.nameservers.asked) - before <= 6
        assert all(each.addresses[V4] == A for name, each in found.items() if name != "b" and not each.waits)
        resolved |= {name for name, each in found.items() if not each.waits} if number else set()
        world.now += 30
    assert resolved == {"a", "b", "c"}


async def test_a_missing_family_is_told_from_one_that_nobody_answered() -> None:
    a_only = World(lambda q: A if q.qtype == "A" else None if q.name != "web.test" else LookupOutcome.NODATA)
    assert await a_only.resolve() == {V4: A, V6: None}
    silent = World(lambda q: A if q.qtype == "A" else LookupOutcome.TIMEOUT)
    assert await silent.resolve() == {V4: A}
    assert [(q.qtype, q.server.label) for q in silent.nameservers.asked] == [
        ("A", "cluster_dns"),
        ("AAAA", "cluster_dns"),
        ("AAAA", "host"),  # the second server is asked for what the first left open
    ]


async def test_what_was_not_learned_is_asked_again_in_the_next_round() -> None:
    world = World(lambda _: LookupOutcome.SERVFAIL)
    assert await world.resolve() == {}
    first = len(world.nameservers.asked)
    world.nameservers.says = lambda q: BOTH[q.qtype]
    assert await world.resolve() == {V4: A, V6: AAAA}
    assert len(world.nameservers.asked) == first + 2


async def test_the_search_list_is_gone_through_and_an_error_ends_it() -> None:
    world = World(lambda q: BOTH[q.qtype] if q.name == "web.lan" else None)
    assert await world.resolve("web") == {V4: A, V6: AAAA}
    assert world.names == ["web.corp.example", "web.lan"]
    assert {q.label for q in world.nameservers.asked} == {"web"}, "a pod's search list fills no label"
    broken = World(lambda q: LookupOutcome.SERVFAIL if q.name.endswith("example") else A)
    assert await broken.resolve("web") == {}
    assert set(broken.names) == {"web.corp.example"}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("web", ("web.corp.example", "web.lan", "web")),
        ("web.test", ("web.test", "web.test.corp.example", "web.test.lan")),
        ("web.test.", ("web.test",)),
    ],
)
def test_candidates_in_order(name: str, expected: tuple[str, ...]) -> None:
    assert candidates(name, FILE) == expected


async def test_without_a_nameserver_nothing_is_asked_and_nothing_known() -> None:
    world = World(lambda _: A)
    assert await world.resolve(servers=()) == {}
    assert world.nameservers.asked == []
    assert world.due("web.test", servers=()) == 0
    world.resolution.allow(0, [naming("web.test", servers=())])
    assert await world.resolve(servers=()) == {}, "no budget is what it waits for"


async def test_a_name_waits_when_the_budget_is_used_up_and_keeps_what_was_known() -> None:
    world = World(lambda q: BOTH[q.qtype])
    world.allow(2, "one.test", "two.test")
    assert await world.resolve("one.test") == {V4: A, V6: AAAA}
    assert await world.resolve("two.test") is None
    assert len(world.nameservers.asked) == 2
    world.now += LONGEST
    world.allow(0, "one.test", "two.test")
    assert await world.resolve("one.test") == {V4: A, V6: AAAA}, "old, but better than nothing"
    world.now += 0.1
    world.allow(0, "one.test", "two.test")
    assert await world.resolve("one.test") is None, "too old"
    assert len(world.nameservers.asked) == 2


async def test_twenty_names_with_ttl_0_take_turns_within_the_budget() -> None:
    """Of two questions a second, half are other questions': 30 a round. Every name is asked anew in every second
    round.
    """
    names = [f"n{number}.test" for number in range(20)]
    world = World(lambda q: BOTH[q.qtype])
    world.nameservers.ttl = 0
    rounds: list[set[str]] = []
    for number in range(12):
        before = len(world.nameservers.asked)
        order = names[number % 20 :] + names[: number % 20]  # as the plan turns them
        world.allow(30, *order)
        for name in order:
            assert await world.resolve(name) or not number, "only the first round may leave some out"
        asked = [q.name for q in world.nameservers.asked[before:]]
        assert len(asked) <= 30
        rounds.append(set(asked))
        world.now += 30
    assert all(one | two == set(names) for one, two in itertools.pairwise(rounds))


async def test_names_whose_first_server_is_silent_are_all_learnt_within_the_budget() -> None:
    """Each takes twice the questions: that fewer of them fit into a round must not mean that none is ever finished."""
    names = [f"n{number}.test" for number in range(20)]
    world = World(lambda q: LookupOutcome.TIMEOUT if q.server.label == "cluster_dns" else BOTH[q.qtype])
    learnt: set[str] = set()
    for _ in range(6):
        world.allow(30, *names)
        before = len(world.nameservers.asked)
        made = await asyncio.gather(*map(world.resolve, names))
        assert len(world.nameservers.asked) - before <= 30
        learnt |= {name for name, found in zip(names, made, strict=True) if found}
        world.now += 30
    assert learnt == set(names)


def test_those_asked_longest_ago_come_first_and_one_in_any_case() -> None:
    due = {"new": float("-inf"), "old": 10.0, "older": 5.0}
    assert admitted(due, {}, 2, 4) == {"new", "older"}
    assert admitted(due, {"new": 24}, 2, 4) == {"new"}
    assert admitted(due, {}, 2, 0) == {"new"}
    assert admitted({}, {}, 2, 4) == set()


async def test_a_budget_too_small_for_a_pair_is_saved_up_for_one_and_no_more() -> None:
    world = World(lambda q: BOTH[q.qtype])
    asked: list[int] = []
    for _ in range(6):
        world.allow(1, f"{len(asked)}.test")
        await world.resolve(f"{len(asked)}.test")
        asked.append(len(world.nameservers.asked))
    assert asked == [0, 2, 2, 4, 4, 6]
    for _ in range(10):
        world.allow(1, "x.test", "y.test")
    for name in ("x.test", "y.test"):
        await world.resolve(name)
    assert len(world.nameservers.asked) == 8


async def test_what_is_due_is_counted_and_what_is_fresh_is_not() -> None:
    world = World(lambda q: BOTH[q.qtype])
    assert world.due("web.test", "db.test") == 2 * AT_MOST
    await world.resolve()
    assert world.due("web.test", "db.test") == AT_MOST
    assert world.due("web.test", file=ResolvConf()) == AT_MOST, "another file is another answer"
    world.now += LONGEST
    assert world.due("web.test", "web.test") == PAIR, "what it took the last time, and once for two targets of one name"


async def test_a_reload_forgets_names_that_are_no_more_and_takes_the_new_timeout() -> None:
    world = World(lambda q: BOTH[q.qtype])
    await world.resolve()
    world.resolution.configure(["db.test"], 0.5)
    await world.resolve()
    assert [q.timeout for q in world.nameservers.asked] == [1.0, 1.0, 0.5, 0.5]


@pytest.mark.parametrize("name", ["localhost", "LOCALHOST.", "a.localhost"])
async def test_localhost_is_this_place_itself_and_asked_of_nobody(name: str) -> None:
    world = World(lambda _: A)
    assert await world.resolve(name, servers=()) == {V4: ip_address("127.0.0.1"), V6: ip_address("::1")}
    assert world.due(name) == 0
    assert world.nameservers.asked == []


def test_two_silent_servers_leave_half_the_round_for_the_dial() -> None:
    assert question_timeout(config(), 10.0, 25.0) == 2.0
    assert question_timeout(config(), 3.0, 4.0) == 1.0
    assert question_timeout(config("timeouts: {dns: 500ms}"), 3.0, 4.0) == 0.5
    assert len(FAMILIES) == 2
