"""icmp through namespaces with a router between: path MTU faults, firewalls, lying responders. Over raw and ping
sockets.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from exporter.broker.protocol.messages import NUMBERS
from exporter.model.family import FAMILIES, Address, Family
from exporter.model.probe import Check, Layer, Observation, Outcome, Timeouts
from exporter.probes.icmp import checksum_of
from exporter.probes.ports import make_socket
from tests.wire.loopback import PATIENT, Answering, Noting, assert_ended_after, cancel, make_check, patient_but, run
from tests.wire.namespaces import CLIENT, NOWHERE, SECOND, SERVER, NamespaceNetwork, Row

pytestmark = [pytest.mark.real, pytest.mark.usefixtures("driver")]
both_families = pytest.mark.parametrize("family", FAMILIES)
both_sockets = pytest.mark.parametrize("ping", [False, True], ids=["raw", "ping"])

DROP_TOO_BIG = (
    "output meta l4proto icmp icmp type destination-unreachable drop",
    "output meta l4proto ipv6-icmp icmpv6 type packet-too-big drop",
)
IGNORE_ECHO = {"net__ipv4__icmp_echo_ignore_all": 1, "net__ipv6__icmp__echo_ignore_all": 1}
HEED_ECHO = dict.fromkeys(IGNORE_ECHO, 0)


LONG, SHORT = 20.0, 0.2  # seconds for what should come, and for what should not


def check_of(row: Row, family: Family, address: Address | None = None, *, seconds: float = LONG) -> Check:
    timeouts = patient_but(Layer.ICMP, seconds)
    return make_check(
        family, 7, (Layer.ICMP,), address=address or SERVER[family], timeouts=timeouts, vantage=row.vantage
    )


async def probe(
    row: Row, family: Family, address: Address | None = None, *, ping: bool = False, seconds: float = LONG
) -> Observation:
    network = NamespaceNetwork(row.client, ping=ping)
    (observation,) = await run(check_of(row, family, address, seconds=seconds), network)
    return observation


@both_families
@both_sockets
async def test_an_echo_and_a_full_size_one(row: Row, family: Family, ping: bool) -> None:
    observation = await probe(row, family, ping=ping)
    assert (observation.outcome, observation.detail) == (Outcome.OK, "")
    assert (observation.full_size, observation.full_size_bytes) == (Outcome.OK, 1500)
    assert observation.seconds is not None
    assert 0 < observation.seconds < LONG


@both_families
async def test_loopback_answers_to_the_hosts_own_address(family: Family) -> None:
    (observation,) = await run(make_check(family, 7, (Layer.ICMP,)))
    assert (observation.outcome, observation.full_size, observation.full_size_bytes) == (Outcome.OK, Outcome.OK, 65535)


@both_families
@both_sockets
async def test_a_smaller_mtu_that_is_told_is_kept_to(row: Row, family: Family, ping: bool) -> None:
    row.narrow(1400)
    observation = await probe(row, family, ping=ping)
    assert (observation.outcome, observation.full_size, observation.full_size_bytes) == (Outcome.OK, Outcome.OK, 1400)


@both_families
@both_sockets
async def test_a_smaller_mtu_in_silence_is_a_full_size_timeout_and_the_outcome_stays_ok(
    row: Row, family: Family, ping: bool
) -> None:
    row.narrow(1400)
    row.router.nft(*DROP_TOO_BIG)
    observation = await probe(row, family, ping=ping, seconds=2.0)
    assert observation.outcome is Outcome.OK
    assert (observation.full_size, observation.full_size_bytes) == (Outcome.TIMEOUT, 1500)
    assert observation.detail == "no reply to 1500 bytes within 2 s"


@both_families
async def test_silence_at_the_told_size_is_a_full_size_timeout_too(row: Row, family: Family) -> None:
    row.narrow(1400)
    row.router.nft("forward meta length > 1350 drop")
    observation = await probe(row, family, seconds=2.0)
    assert observation.outcome is Outcome.OK
    assert observation.full_size is Outcome.TIMEOUT


@both_families
async def test_a_deadline_that_cuts_the_full_size_echo_short_leaves_it_unjudged(row: Row, family: Family) -> None:
    check = check_of(row, family)
    check = replace(check, timeouts=Timeouts({Layer.ICMP: 40.0}, whole=20.0))
    (observation,) = await run(check, NamespaceNetwork(row.client))
    assert (observation.outcome, observation.full_size, observation.full_size_bytes) == (Outcome.OK, None, 0)


@both_families
async def test_the_routes_own_mtu_is_the_full_size(row: Row, family: Family) -> None:
    gateway = "10.99.1.254" if family is Family.V4 else "fd99:1::fe"
    prefix = f"{SERVER[family]}/{32 if family is Family.V4 else 128}"
    row.client.ip(f"route add {prefix} via {gateway} mtu 1300")
    try:
        observation = await probe(row, family)
    finally:
        row.client.ip(f"route del {prefix} via {gateway} mtu 1300")
    assert (observation.full_size, observation.full_size_bytes) == (Outcome.OK, 1300)


@both_families
@both_sockets
async def test_silence_is_a_timeout_and_nothing_full_size_is_sent(row: Row, family: Family, ping: bool) -> None:
    row.server.nft("input drop")
    observation = await probe(row, family, ping=ping, seconds=SHORT)
    assert observation.outcome is Outcome.TIMEOUT
    assert_ended_after(SHORT, observation.seconds)
    assert (observation.full_size, observation.full_size_bytes) == (None, 0)


@both_families
@both_sockets
@pytest.mark.parametrize(
    ("rule", "outcome", "words"),
    [
        ("forward reject with icmpx type admin-prohibited", Outcome.PROHIBITED, "administratively prohibited, sent by"),
        ("forward reject with icmpx type port-unreachable", Outcome.PROHIBITED, "port unreachable, sent by"),
        ("forward reject with icmpx type no-route", Outcome.UNREACHABLE, "sent by"),
        ("forward reject with icmpx type host-unreachable", Outcome.UNREACHABLE, "sent by"),
    ],
)
async def test_a_firewall_on_the_way_that_says_so(
    row: Row, family: Family, ping: bool, rule: str, outcome: Outcome, words: str
) -> None:
    row.router.nft(rule)
    observation = await probe(row, family, ping=ping)
    assert observation.outcome is outcome
    assert words in observation.detail
    assert ("10.99.1.254" if family is Family.V4 else "fd99:1::fe") in observation.detail


@both_families
async def test_a_router_without_a_route(row: Row, family: Family) -> None:
    assert (await probe(row, family, NOWHERE[family])).outcome is Outcome.UNREACHABLE


@both_families
@pytest.mark.parametrize(
    ("kind", "outcome"),
    [
        ("unreachable", Outcome.UNREACHABLE),
        ("prohibit", Outcome.PROHIBITED),
        ("blackhole", Outcome.UNREACHABLE),
    ],
)
async def test_routes_of_its_own_that_lead_nowhere(row: Row, family: Family, kind: str, outcome: Outcome) -> None:
    route = f"{kind} {NOWHERE[family]}"
    row.client.ip(f"route add {route}")
    try:
        icmp = await probe(row, family, NOWHERE[family])
        check = make_check(family, 80, address=NOWHERE[family], vantage=row.vantage)
        (tcp,) = await run(check, NamespaceNetwork(row.client))
    finally:
        row.client.ip(f"route del {route}")
    assert (icmp.outcome, tcp.outcome) == (outcome, outcome)


@both_families
async def test_the_pods_own_firewall_prohibits(row: Row, family: Family) -> None:
    row.client.nft("output meta l4proto { icmp, ipv6-icmp } drop")
    assert (await probe(row, family)).outcome is Outcome.PROHIBITED


@both_families
async def test_one_lost_packet_is_no_failure(row: Row, family: Family) -> None:
    row.server.nft("input meta length 84 numgen inc mod 2 0 drop", "input meta length 104 numgen inc mod 2 0 drop")
    observation = await probe(row, family)
    assert observation.outcome is Outcome.OK
    assert observation.seconds is not None
    assert observation.seconds < LONG / 4  # of the echo that was answered, not since the first


Mangle = Callable[[bytes], bytes]
IDENTIFIER, SEQUENCE, PAYLOAD = 4, 6, 8  # bytes into the ICMP message


def flipped(place: int) -> Mangle:
    return lambda reply: reply[:place] + bytes([reply[place] ^ 0x55]) + reply[place + 1 :]


def unchanged(reply: bytes) -> bytes:
    return reply


LIES: dict[str, Mangle] = {
    "another identifier": flipped(IDENTIFIER),
    "another sequence": flipped(SEQUENCE),
    "another token": flipped(PAYLOAD + 3),
    "another padding": flipped(PAYLOAD + 50),
    "shorter": lambda reply: reply[:-1],
    "longer": lambda reply: reply + b"\0",
    "header cut": lambda reply: reply[:6],
    "code": flipped(1),
}


def raw_socket(family: Family) -> socket.socket:
    """Without the filter of the exporter's own sockets: it hears echo requests."""
    if family is Family.V4:
        return socket.socket(socket.AF_INET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.IPPROTO_ICMP)
    return socket.socket(socket.AF_INET6, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.IPPROTO_ICMPV6)


class Responder:
    """Answers echo requests in the server's stead, from a given address of it, and takes large ones for too big if told
    so.
    """

    def __init__(self, row: Row, family: Family, mangle: Mangle = unchanged, source: Address | None = None) -> None:
        self.four = family is Family.V4
        self.mangle = mangle
        self.too_big: Callable[[int], int] | None = None  # size of a packet -> MTU to name
        self.hearing, self.saying = (row.server.inside(raw_socket, family) for _ in "io")
        self.saying.bind((str(source or SERVER[family]), 0))
        self.client = CLIENT[family]
        self.server = SERVER[family]

    def answer(self) -> None:
        packet, sender = self.hearing.recvfrom(65536)
        if not self.four:  # a raw IPv6 socket keeps the header for itself
            head = struct.pack("!IHBB", 6 << 28, len(packet), socket.IPPROTO_ICMPV6, 63)
            packet = head + self.client.packed + self.server.packed + packet
        message = packet[20 if self.four else 40 :]
        if message[0] != (8 if self.four else 128):
            return
        if self.too_big and len(packet) > 200:
            mtu = self.too_big(len(packet))
            head = struct.pack("!BBHHH", 3, 4, 0, 0, mtu) if self.four else struct.pack("!BBHI", 2, 0, 0, mtu)
            reply = head + packet[:200]
        else:
            reply = self.mangle(bytes([0 if self.four else 129]) + message[1:])
        if self.four:
            reply = reply[:2] + b"\0\0" + reply[4:]
            reply = reply[:2] + struct.pack("!H", checksum_of(reply)) + reply[4:]
        self.saying.sendto(reply, sender)


@contextmanager
def responding(row: Row, responder: Responder) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    row.server.set(**IGNORE_ECHO)
    loop.add_reader(responder.hearing, responder.answer)
    try:
        yield
    finally:
        loop.remove_reader(responder.hearing)
        row.server.set(**HEED_ECHO)
        responder.hearing.close()
        responder.saying.close()


@both_families
async def test_the_responder_is_believed_when_it_does_not_lie(row: Row, family: Family) -> None:
    with responding(row, Responder(row, family)):
        observation = await probe(row, family)
    assert (observation.outcome, observation.full_size) == (Outcome.OK, Outcome.OK)


@both_families
@both_sockets
@pytest.mark.parametrize("lie", LIES.values(), ids=LIES.keys())
async def test_a_reply_that_is_not_ours_is_passed_over(row: Row, family: Family, ping: bool, lie: Mangle) -> None:
    with responding(row, Responder(row, family, lie)):
        assert (await probe(row, family, ping=ping, seconds=SHORT)).outcome is Outcome.TIMEOUT


@both_families
@both_sockets
async def test_a_reply_from_another_address_is_passed_over(row: Row, family: Family, ping: bool) -> None:
    with responding(row, Responder(row, family, source=SECOND[family])):
        assert (await probe(row, family, ping=ping, seconds=SHORT)).outcome is Outcome.TIMEOUT


@both_families
@pytest.mark.parametrize(
    ("mtu", "size"),
    [
        (lambda size: size - 20, 1480),  # told again that it is too big: once is repeated, no more
        (lambda size: size, 1500),
        (lambda _: 60, 1500),  # less than any link may have
        (lambda _: 9000, 1500),
    ],
)
async def test_a_path_that_goes_on_saying_too_big_is_too_big(
    row: Row, family: Family, mtu: Callable[[int], int], size: int
) -> None:
    responder = Responder(row, family)
    responder.too_big = mtu
    with responding(row, responder):
        observation = await probe(row, family)
    assert observation.outcome is Outcome.OK
    assert (observation.full_size, observation.full_size_bytes) == (Outcome.TOO_BIG, size)


@both_families
async def test_each_probe_has_an_identifier_of_its_own(row: Row, family: Family) -> None:
    seen: list[int] = []

    def note(reply: bytes) -> bytes:
        seen.append(int.from_bytes(reply[IDENTIFIER : IDENTIFIER + 2], "big"))
        return reply

    network = NamespaceNetwork(row.client)
    with responding(row, Responder(row, family, note)):
        for _ in range(10):
            await run(check_of(row, family), network)
    assert len(seen) == 20  # a small and a full-size echo each
    assert len(set(seen)) == 10
    assert set(seen) <= set(NUMBERS)


@both_families
async def test_many_probes_at_once_each_take_their_own_replies(row: Row, family: Family) -> None:
    network = NamespaceNetwork(row.client)
    results = await asyncio.gather(*[run(check_of(row, family), network) for _ in range(20)])
    assert {observation.outcome for (observation,) in results} == {Outcome.OK}


@both_families
async def test_an_error_about_anothers_echo_is_passed_over(row: Row, family: Family) -> None:
    """Two probes to one address at once; the firewall rejects the larger echoes of both, so each meets the other's
    errors.
    """
    row.router.nft("forward meta length > 1000 reject with icmpx type admin-prohibited")
    network = NamespaceNetwork(row.client)
    results = await asyncio.gather(*[run(check_of(row, family), network) for _ in range(10)])
    assert {observation.outcome for (observation,) in results} == {Outcome.OK}
    assert {observation.full_size for (observation,) in results} == {Outcome.PROHIBITED}


@both_families
async def test_an_address_that_is_not_there_opens_no_socket(family: Family) -> None:
    network = Answering(5)
    (observation,) = await run(make_check(family, 7, (Layer.ICMP,), addresses={family: None}), network)
    assert observation.outcome is Outcome.NO_ADDRESS
    assert not network.asked


@both_families
async def test_cancelling_leaves_no_socket_open(row: Row, family: Family) -> None:
    row.server.nft("input drop")
    check = replace(check_of(row, family), timeouts=PATIENT)
    network = Noting(lambda kind, number: row.client.inside(make_socket, kind, number))
    task = asyncio.create_task(run(check, network))
    await asyncio.wait_for(network.made_one.wait(), 60)
    await cancel(task)
    network.assert_all_closed()
