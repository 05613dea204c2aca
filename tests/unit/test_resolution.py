"""Targets' names: which candidates and servers are asked, what is remembered, and the budget."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from ipaddress import ip_address
from typing import cast

import pytest

from exporter.asking import Asker, Deadline
from exporter.model.dns import Reply, ResolvConf
from exporter.model.family import FAMILIES, Address, Family
from exporter.model.probe import Lookup, LookupOutcome, Question, Server
from exporter.resolution import AT_MOST, FRESH, Resolution, candidates, question_timeout
from tests.unit.plan_scene import conf, config
from tests.unit.scene import HOST

A, AAAA = ip_address("192.0.2.80"), ip_address("2001:db8::80")
V4, V6 = Family.V4, Family.V6
BOTH: dict[str, Address | None] = {"A": A, "AAAA": AAAA}
SERVERS = (Server(ip_address("10.96.0.10"), "cluster_dns"), Server(ip_address("192.0.2.1"), "host"))
FILE = conf(search=("corp.example", "lan"))
NEVER = cast("Deadline", None)


class Nameservers:
    """An Asker: `says(question)` gives an address, None (no such record), or a LookupOutcome."""

    def __init__(self, says: Callable[[Question], Address | LookupOutcome | None]) -> None:
        self.says = says
        self.asked: list[Question] = []

    async def ask_all(self, questions: Sequence[Question], _: Deadline) -> tuple[Lookup, ...]:
        self.asked += questions
        return tuple(self._lookup(q) for q in questions)

    def _lookup(self, question: Question) -> Lookup:
        said = self.says(question)
        if isinstance(said, LookupOutcome):
            return Lookup(question, said)
        if said is None:
            return Lookup(question, LookupOutcome.NXDOMAIN, reply=Reply(rcode=3))
        return Lookup(question, LookupOutcome.ANSWER, reply=Reply(addresses=(said,)))


class World:
    def __init__(self, says: Callable[[Question], Address | LookupOutcome | None]) -> None:
        self.now = 1000.0
        self.nameservers = Nameservers(says)
        self.resolution = Resolution(cast("Asker", self.nameservers), timeout=1.0, clock=lambda: self.now)

    async def resolve(
        self, name: str = "web.test", servers: Sequence[Server] = SERVERS
    ) -> dict[Family, Address | None] | None:
        """The addresses; None where the name has to wait."""
        made = await self.resolution.resolve(name, HOST, FILE, servers, NEVER)
        return None if made.waits else dict(made.addresses)

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
    world.now += FRESH
    await world.resolve()
    assert len(world.nameservers.asked) == 4


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
    assert world.resolution.due(["web.test"], FILE, ()) == 0


async def test_a_name_waits_when_the_budget_is_used_up_and_keeps_what_was_known() -> None:
    world = World(lambda q: BOTH[q.qtype])
    world.resolution.allow(2)
    assert await world.resolve("one.test") == {V4: A, V6: AAAA}
    assert await world.resolve("two.test") is None
    assert len(world.nameservers.asked) == 2
    world.now += FRESH
    world.resolution.allow(0)
    assert await world.resolve("one.test") == {V4: A, V6: AAAA}, "old, but better than nothing"
    assert len(world.nameservers.asked) == 2


async def test_a_budget_too_small_for_a_pair_is_saved_up_for_one_and_no_more() -> None:
    world = World(lambda q: BOTH[q.qtype])
    asked: list[int] = []
    for _ in range(6):
        world.resolution.allow(1)
        await world.resolve(f"{len(asked)}.test")
        asked.append(len(world.nameservers.asked))
    assert asked == [0, 2, 2, 4, 4, 6]
    for _ in range(10):
        world.resolution.allow(1)
    for name in ("x.test", "y.test"):
        await world.resolve(name)
    assert len(world.nameservers.asked) == 8


async def test_what_is_due_is_counted_and_what_is_fresh_is_not() -> None:
    world = World(lambda q: BOTH[q.qtype])
    assert world.resolution.due(["web.test", "db.test"], FILE, SERVERS) == 2 * AT_MOST
    await world.resolve()
    assert world.resolution.due(["web.test", "db.test"], FILE, SERVERS) == AT_MOST
    assert world.resolution.due(["web.test"], ResolvConf(), SERVERS) == AT_MOST, "another file is another answer"


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
    assert world.resolution.due([name], FILE, SERVERS) == 0
    assert world.nameservers.asked == []


def test_two_silent_servers_leave_half_the_round_for_the_dial() -> None:
    assert question_timeout(config(), 10.0, 25.0) == 2.0
    assert question_timeout(config(), 3.0, 4.0) == 1.0
    assert question_timeout(config("timeouts: {dns: 500ms}"), 3.0, 4.0) == 0.5
    assert len(FAMILIES) == 2
