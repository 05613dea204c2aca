"""tcp and DNS through namespaces with a router between: what firewalls, routes and lost addresses come to, alike in
both families.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from exporter.model.family import FAMILIES, Family
from exporter.model.probe import Layer, Lookup, LookupOutcome, Nameserver, Observation, Outcome, Purpose, Question
from tests.wire.loopback import ask, make_check, outcomes, patient_but, run
from tests.wire.namespaces import CLIENT, SERVER, NamespaceNetwork, Row

pytestmark = pytest.mark.real
both_families = pytest.mark.parametrize("family", FAMILIES)
LONG, SHORT = 30.0, 0.3  # seconds for what should come, and for what should not


async def dial(row: Row, family: Family, port: int, *, seconds: float = LONG) -> Observation:
    timeouts = patient_but(Layer.TCP, seconds)
    check = make_check(family, port, address=SERVER[family], vantage=row.vantage, timeouts=timeouts)
    (observation,) = await run(check, NamespaceNetwork(row.client))
    return observation


async def look_up(row: Row, family: Family, *, seconds: float = LONG) -> Lookup:
    server = Nameserver(SERVER[family], "fake")
    question = Question(
        vantage=row.vantage,
        server=server,
        name="x.test",
        qtype="AAAA",
        label="x",
        purpose=Purpose.PULSE,
        timeout=seconds,
    )
    return await ask(question, NamespaceNetwork(row.client))


@contextmanager
def listening(row: Row, family: Family) -> Iterator[int]:
    with row.server.inside(socket.socket, socket.AF_INET6 if family is Family.V6 else socket.AF_INET) as sock:
        sock.bind((str(SERVER[family]), 0))
        sock.listen()
        yield sock.getsockname()[1]


@both_families
async def test_the_way_is_free(row: Row, family: Family) -> None:
    with listening(row, family) as port:
        assert (await dial(row, family, port)).outcome is Outcome.OK


@both_families
@pytest.mark.parametrize(
    ("rule", "tcp", "lookup"),
    [
        ("forward reject with icmpx type admin-prohibited", Outcome.PROHIBITED, LookupOutcome.UNREACHABLE),
        ("forward reject with icmpx type no-route", Outcome.UNREACHABLE, LookupOutcome.UNREACHABLE),
        ("forward reject with icmpx type host-unreachable", Outcome.UNREACHABLE, LookupOutcome.UNREACHABLE),
        ("forward reject with icmpx type port-unreachable", Outcome.REFUSED, LookupOutcome.UNREACHABLE),
    ],
)
async def test_a_firewall_that_says_so_is_heard_at_once_and_alike_over_both_families(
    row: Row, family: Family, rule: str, tcp: Outcome, lookup: LookupOutcome
) -> None:
    row.router.nft(rule)
    with listening(row, family) as port:
        dialled = await dial(row, family, port)
    looked_up = await look_up(row, family)
    assert (dialled.outcome, looked_up.outcome) == (tcp, lookup)
    for seconds, detail in ((dialled.seconds, dialled.detail), (looked_up.seconds, looked_up.detail)):
        assert seconds is not None
        assert seconds < LONG / 2
        assert "sent by " + ("10.99.1.254" if family is Family.V4 else "fd99:1::fe") in detail


@both_families
async def test_a_firewall_that_resets_refuses(row: Row, family: Family) -> None:
    row.router.nft("forward meta l4proto tcp reject with tcp reset")
    with listening(row, family) as port:
        observation = await dial(row, family, port)
    assert (observation.outcome, observation.detail) == (Outcome.REFUSED, "Connection refused")


@both_families
async def test_a_firewall_that_drops_is_a_timeout(row: Row, family: Family) -> None:
    row.router.nft("forward drop")
    with listening(row, family) as port:
        assert (await dial(row, family, port, seconds=SHORT)).outcome is Outcome.TIMEOUT
    assert (await look_up(row, family, seconds=SHORT)).outcome is LookupOutcome.TIMEOUT


@both_families
async def test_a_firewall_against_one_family_leaves_the_other_as_it_is(row: Row, family: Family) -> None:
    row.router.nft(f"forward meta nfproto {family.value.lower()} reject with icmpx type admin-prohibited")
    with listening(row, family) as port:
        assert (await dial(row, family, port)).outcome is Outcome.PROHIBITED
    with listening(row, family.other) as port:
        assert (await dial(row, family.other, port)).outcome is Outcome.OK


@both_families
async def test_the_pods_own_firewall_drops_its_query(row: Row, family: Family) -> None:
    row.client.nft("output meta l4proto udp drop")
    lookup = await look_up(row, family)
    assert (lookup.outcome, lookup.detail) == (LookupOutcome.UNREACHABLE, "Operation not permitted")


@both_families
async def test_a_pod_that_lost_its_address_reaches_nothing_over_that_family(row: Row, family: Family) -> None:
    address = f"{CLIENT[family]}/{24 if family is Family.V4 else 64}"
    check = make_check(family, 80, (Layer.ICMP, Layer.TCP), address=SERVER[family], vantage=row.vantage)
    row.client.ip(f"addr del {address} dev c0")
    try:
        observations = await run(check, NamespaceNetwork(row.client))
        lookup = await look_up(row, family)
    finally:
        row.client.ip(f"addr add {address} dev c0 nodad" if family is Family.V6 else f"addr add {address} dev c0")
        gateway = "10.99.1.254" if family is Family.V4 else "fd99:1::fe"
        row.client.ip(f"route replace default via {gateway}")
    assert set(outcomes(observations).values()) == {Outcome.UNREACHABLE}
    assert lookup.outcome is LookupOutcome.UNREACHABLE


async def test_a_pod_with_ipv6_switched_off_reaches_nothing_over_it(row: Row) -> None:
    check = make_check(Family.V6, 80, (Layer.ICMP, Layer.TCP), address=SERVER[Family.V6], vantage=row.vantage)
    row.client.set(net__ipv6__conf__c0__disable_ipv6=1)
    try:
        observations = await run(check, NamespaceNetwork(row.client))
    finally:
        row.client.set(net__ipv6__conf__c0__disable_ipv6=0)
        row.client.ip("addr replace fd99:1::1/64 dev c0 nodad", "route replace default via fd99:1::fe")
    assert set(outcomes(observations).values()) == {Outcome.UNREACHABLE}
