"""DNS questions to a real BIND and to servers that misbehave, over both loopback addresses."""

from __future__ import annotations

import asyncio
import errno
import socket
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from ipaddress import ip_address

import dns.edns
import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest

from exporter.model.dns import NOTIMP
from exporter.model.family import FAMILIES, Family
from exporter.model.probe import Lookup, LookupOutcome, Nameserver, Together
from exporter.probes.dns import MAX_DATAGRAM, MAX_STRAYS, EdnsMemory
from exporter.probes.dns_reply import MAX_REPLY
from exporter.probes.ports import LocalNetwork
from tests.unit import hostile_dns
from tests.wire.loopback import (
    DOMAIN,
    LOOPBACK,
    Answering,
    Noting,
    ask,
    ask_together,
    assert_ended_after,
    cancel,
    closed_port,
    serve,
)
from tests.wire.nameserver import Script, bind9, make_question, scripted
from tests.wire.namespaces import NamespaceNetwork, Row

pytestmark = pytest.mark.usefixtures("driver")
both_families = pytest.mark.parametrize("family", FAMILIES)
RECORDS = {"A": "192.0.2.1", "AAAA": "2001:db8::1"}


@pytest.fixture(scope="module")
def bind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with bind9(tmp_path_factory.mktemp("named")) as port:
        yield port


async def look_up(family: Family, port: int, name: str, qtype: str = "A", **options: object) -> Lookup:
    return await ask(make_question(family, port, name, qtype, **options))


def respond(query: bytes, *records: tuple[str, str, str], rcode: int = 0, flags: int = 0) -> dns.message.Message:
    """A reply to this query with (owner, type, data) records."""
    response = dns.message.make_response(dns.message.from_wire(query), recursion_available=True)
    response.set_rcode(dns.rcode.Rcode(rcode))
    response.flags |= flags
    response.answer = [dns.rrset.from_text(owner, 60, "IN", kind, data) for owner, kind, data in records]
    return response


def right(query: bytes) -> bytes:
    """The one honest answer of the scripted servers."""
    question = dns.message.from_wire(query).question[0]
    kind = question.rdtype.name
    return respond(query, (question.name.to_text(), kind, RECORDS[kind])).to_wire()


@pytest.mark.real
@both_families
@pytest.mark.parametrize("edns", [True, False])
@pytest.mark.parametrize(
    ("name", "qtype", "outcome", "addresses", "chain"),
    [
        ("both.wire.test", "A", LookupOutcome.ANSWER, ["192.0.2.10"], ()),
        ("both.wire.test", "AAAA", LookupOutcome.ANSWER, ["2001:db8::10"], ()),
        ("BOTH.wire.TEST", "AAAA", LookupOutcome.ANSWER, ["2001:db8::10"], ()),
        ("both.wire.test.", "A", LookupOutcome.ANSWER, ["192.0.2.10"], ()),
        ("v4only.wire.test", "AAAA", LookupOutcome.NODATA, [], ()),
        ("v6only.wire.test", "A", LookupOutcome.NODATA, [], ()),
        ("none.wire.test", "A", LookupOutcome.NODATA, [], ()),
        ("mapped.wire.test", "AAAA", LookupOutcome.ANSWER, ["::ffff:192.0.2.50"], ()),
        ("nowhere.wire.test", "AAAA", LookupOutcome.NXDOMAIN, [], ()),
        ("alias.wire.test", "AAAA", LookupOutcome.ANSWER, ["2001:db8::10"], ("both.wire.test",)),
        ("alias2.wire.test", "A", LookupOutcome.ANSWER, ["192.0.2.10"], ("alias.wire.test", "both.wire.test")),
        ("alias4.wire.test", "AAAA", LookupOutcome.NODATA, [], ("v4only.wire.test",)),
        ("dangling.wire.test", "A", LookupOutcome.NXDOMAIN, [], ("nowhere.wire.test",)),
        ("loop.wire.test", "A", LookupOutcome.SERVFAIL, [], ("loop2.wire.test", "loop.wire.test")),
        (
            "hop12.wire.test",
            "A",
            LookupOutcome.ANSWER,
            ["192.0.2.30"],
            tuple(f"hop{n}.wire.test" for n in range(13, 21)),
        ),
        ("both.broken.test", "A", LookupOutcome.SERVFAIL, [], ()),
        ("elsewhere.example", "A", LookupOutcome.REFUSED, [], ()),
    ],
)
async def test_what_a_real_server_answers(
    family: Family,
    edns: bool,
    name: str,
    qtype: str,
    outcome: LookupOutcome,
    addresses: list[str],
    chain: tuple[str, ...],
    bind: int,
) -> None:
    lookup = await look_up(family, bind, name, qtype, edns=edns)
    assert lookup.outcome is outcome
    assert lookup.reply is not None
    assert [str(a) for a in lookup.reply.addresses] == [str(ip_address(a)) for a in addresses]
    assert lookup.reply.chain == chain
    assert lookup.reply.additionals == (1 if edns else 0)
    assert not lookup.truncated
    assert lookup.seconds is not None
    assert 0 < lookup.seconds < 20


@pytest.mark.real
async def test_flags_counts_and_lifetimes_of_a_real_answer(bind: int) -> None:
    answered = (await look_up(Family.V6, bind, "alias.wire.test", "AAAA")).reply
    missing = (await look_up(Family.V6, bind, "v4only.wire.test", "AAAA")).reply
    assert answered is not None
    assert missing is not None
    assert (answered.aa, answered.ra, answered.tc, answered.answers, answered.ttl) == (True, False, False, 2, 60)
    assert (missing.soa_authority, missing.soa_additional, missing.answers, missing.ttl) == (True, False, 0, None)


@pytest.mark.real
async def test_names_of_mail_and_pointer_records(bind: int) -> None:
    mail = await look_up(Family.V6, bind, "mail.wire.test", "MX")
    pointer = await look_up(Family.V6, bind, "pointer.wire.test", "PTR")
    assert mail.reply is not None
    assert pointer.reply is not None
    assert (mail.outcome, set(mail.reply.names)) == (LookupOutcome.ANSWER, {"mx.wire.test", "mx2.wire.test"})
    assert (pointer.outcome, pointer.reply.names) == (LookupOutcome.ANSWER, ("both.wire.test",))


@pytest.mark.real
@both_families
@pytest.mark.parametrize("edns", [True, False])
async def test_a_truncated_reply_is_asked_again_over_tcp(family: Family, edns: bool, bind: int) -> None:
    lookup = await look_up(family, bind, "big.wire.test", "AAAA", edns=edns)
    assert (lookup.outcome, lookup.truncated) == (LookupOutcome.ANSWER, True)
    assert lookup.reply is not None
    assert lookup.datagram is not None
    assert (len(lookup.reply.addresses), lookup.reply.answers, lookup.reply.tc) == (100, 100, False)
    assert lookup.datagram.tc
    assert lookup.datagram.answers < 100


def chained(links: int, *, loop: bool = False) -> Script:
    records = [(f"hop{n}.test.", "CNAME", f"hop{n + 1}.test.") for n in range(links)]
    end = (f"hop{links}.test.", "CNAME", "hop0.test.") if loop else (f"hop{links}.test.", "A", "192.0.2.1")
    return lambda query: [respond(query, *records, end).to_wire()]


@pytest.mark.parametrize(
    ("script", "outcome", "length"),
    [
        (chained(16), LookupOutcome.ANSWER, 16),
        (chained(17), LookupOutcome.NODATA, 16),
        (chained(0, loop=True), LookupOutcome.NODATA, 1),
        (chained(4, loop=True), LookupOutcome.NODATA, 5),
    ],
)
async def test_chains_are_followed_so_far_and_loops_end(script: Script, outcome: LookupOutcome, length: int) -> None:
    async with scripted(Family.V6, script) as port:
        lookup = await look_up(Family.V6, port, "hop0.test")
    assert lookup.reply is not None
    assert (lookup.outcome, len(lookup.reply.chain)) == (outcome, length)


@both_families
async def test_an_answer_of_another_type_is_no_answer(family: Family) -> None:
    async with scripted(family, lambda q: [respond(q, ("x.test.", "A", "192.0.2.1")).to_wire()]) as port:
        lookup = await look_up(family, port, "x.test", "AAAA")
    assert lookup.outcome is LookupOutcome.NODATA
    assert lookup.reply is not None
    assert (lookup.reply.answers, lookup.reply.addresses) == (1, ())


async def test_an_answer_about_another_name_is_no_answer() -> None:
    async with scripted(Family.V6, lambda q: [respond(q, ("y.test.", "A", "192.0.2.1")).to_wire()]) as port:
        lookup = await look_up(Family.V6, port, "x.test", "A")
    assert lookup.outcome is LookupOutcome.NODATA


@both_families
async def test_the_query_is_what_was_asked_for(family: Family) -> None:
    queries: list[dns.message.Message] = []

    def note(query: bytes) -> list[bytes]:
        queries.append(dns.message.from_wire(query))
        return [right(query)]

    async with scripted(family, note) as port:
        for edns in (True, False):
            await look_up(family, port, "x.test", "AAAA", edns=edns)
    assert [str(q.question[0]) for q in queries] == ["x.test. IN AAAA"] * 2
    assert [(q.edns, q.payload) for q in queries] == [(0, 1232), (-1, 0)]
    assert all(q.flags == dns.flags.RD for q in queries)


async def test_ids_and_source_ports_differ_from_question_to_question() -> None:
    ids, sources = set(), set()
    network, loop = LocalNetwork(), asyncio.get_running_loop()
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as server:
        server.bind(("::1", 0))
        server.settimeout(0)
        for _ in range(30):
            task = asyncio.create_task(ask(make_question(Family.V6, server.getsockname()[1], "x.test"), network))
            query, client = await loop.sock_recvfrom(server, 512)
            ids.add(query[:2])
            sources.add(client[1])
            server.sendto(right(query), client)
            await task
    assert len(sources) == 30
    assert len(ids) >= 29  # of 65,536: two equal ones happen once in 150 runs


def other_id(reply: bytes) -> bytes:
    return bytes([reply[0] ^ 1]) + reply[1:]


def other_question(query: bytes) -> bytes:
    wrong = dns.message.make_query("evil.test", "A")
    wrong.id = dns.message.from_wire(query).id
    return respond(wrong.to_wire(), ("x.test.", "A", "203.0.113.66")).to_wire()


WRONG = {
    "wrong id": lambda q: other_id(right(q)),
    "wrong question": other_question,
    "the query itself": lambda q: q,
    "short": lambda q: q[:11],
    "nothing": lambda _: b"",
}


@both_families
@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG.keys())
async def test_what_is_no_reply_to_the_question_is_passed_over(family: Family, wrong: Callable[[bytes], bytes]) -> None:
    async with (
        scripted(family, lambda q: [wrong(q)] * 50) as alone,
        scripted(family, lambda q: [*[wrong(q)] * 50, right(q)]) as before,
    ):
        nothing = await look_up(family, alone, "x.test", timeout=0.3)
        found = await look_up(family, before, "x.test")
    assert nothing.outcome is LookupOutcome.TIMEOUT
    assert found.outcome is LookupOutcome.ANSWER


@both_families
async def test_a_reply_from_another_port_is_not_taken(family: Family) -> None:
    with (
        socket.socket(DOMAIN[family], socket.SOCK_DGRAM) as server,
        socket.socket(DOMAIN[family], socket.SOCK_DGRAM) as forger,
    ):
        server.bind((str(LOOPBACK[family]), 0))
        server.settimeout(0)
        task = asyncio.create_task(look_up(family, server.getsockname()[1], "x.test", timeout=0.5))
        query, client = await asyncio.get_running_loop().sock_recvfrom(server, 512)
        forger.sendto(right(query), client)
        assert (await task).outcome is LookupOutcome.TIMEOUT


@both_families
async def test_silence_is_a_timeout_after_one_retransmission_with_the_same_id(family: Family) -> None:
    queries: list[bytes] = []

    def note(query: bytes) -> list[bytes]:
        queries.append(query)
        return []

    async with scripted(family, note) as port:
        lookup = await look_up(family, port, "x.test", timeout=0.3)
    assert lookup.outcome is LookupOutcome.TIMEOUT
    assert lookup.reply is None
    assert_ended_after(0.3, lookup.seconds)
    first, second = map(dns.message.from_wire, queries)
    assert (first.id, first.question) == (second.id, second.question)
    assert (first.edns, second.edns) == (0, -1), "a server without EDNS may be silent to an OPT record"


@both_families
@pytest.mark.parametrize("rcode", [dns.rcode.FORMERR, dns.rcode.NOTIMP, None])
async def test_a_server_without_edns_is_asked_without_it_and_that_is_remembered(
    family: Family, rcode: dns.rcode.Rcode | None
) -> None:
    seen: list[int] = []

    def old(query: bytes) -> list[bytes]:
        seen.append(dns.message.from_wire(query).edns)
        if seen[-1] < 0:
            return [right(query)]
        if rcode is None:
            return []
        refusal = respond(query, rcode=rcode)
        refusal.use_edns(-1)
        return [refusal.to_wire()]

    memory = EdnsMemory()
    async with scripted(family, old) as port:
        question = make_question(family, port, "x.test", timeout=4)
        other = replace(question, vantage=replace(question.vantage, kind="pod", uid="other"))
        for each in (question, question, replace(question, sends=1)):
            assert (await ask(each, memory=memory)).outcome is LookupOutcome.ANSWER
    # Silence may be a lost datagram: only the second time it shows the server.
    assert seen == ([0, -1, 0, -1, -1] if rcode is None else [0, -1, -1, -1])
    assert (memory.knows(question), memory.knows(other)) == (False, None), "each vantage learns by itself"


async def test_a_lost_datagram_of_a_server_with_edns_is_sent_again_with_it() -> None:
    seen: list[int] = []

    def losing(query: bytes) -> list[bytes]:
        seen.append(dns.message.from_wire(query).edns)
        return [right(query)] if len(seen) % 2 else []

    memory = EdnsMemory()
    async with scripted(Family.V6, losing) as port:
        for _ in range(2):
            question = make_question(Family.V6, port, "x.test", timeout=4)
            assert (await ask(question, memory=memory)).outcome is LookupOutcome.ANSWER
    assert seen == [0, 0, 0]


async def test_what_fails_with_and_without_edns_is_told_as_it_is() -> None:
    async with scripted(Family.V6, lambda q: [respond(q, rcode=dns.rcode.NOTIMP).to_wire()]) as port:
        lookup = await look_up(Family.V6, port, "x.test", timeout=4)
    assert lookup.reply is not None
    assert (lookup.outcome, lookup.reply.rcode) == (LookupOutcome.RCODE, NOTIMP)


@both_families
async def test_one_lost_datagram_is_no_failure(family: Family) -> None:
    seen: list[bytes] = []

    def deaf_at_first(query: bytes) -> list[bytes]:
        seen.append(query)
        return [right(query)] if len(seen) > 1 else []

    async with scripted(family, deaf_at_first) as port:
        lookup = await look_up(family, port, "x.test", timeout=8)
    assert lookup.outcome is LookupOutcome.ANSWER
    assert lookup.seconds is not None
    assert 3.9 < lookup.seconds < 8, "half of the time, and then an answer"


async def test_a_slow_answer_to_the_first_datagram_is_taken_after_the_second() -> None:
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as server:
        server.bind(("::1", 0))
        server.settimeout(0)
        task = asyncio.create_task(look_up(Family.V6, server.getsockname()[1], "x.test", timeout=4))
        query, client = await loop.sock_recvfrom(server, 512)
        await loop.sock_recvfrom(server, 512)
        await loop.sock_sendto(server, right(query), client)
        assert (await task).outcome is LookupOutcome.ANSWER


def compressed(query: bytes, pointer: int) -> bytes:
    """A reply whose answer's owner is a compression pointer to there."""
    head = query[:2] + struct.pack("!5H", 0x8180, 1, 1, 0, 0)
    question = query[12 : 12 + len(b"\1x\4test\0") + 4]
    return head + question + struct.pack("!HHHIH", 0xC000 | pointer, 1, 1, 60, 4) + b"\xc0\0\2\1"


MALFORMED: dict[str, Script] = {
    "loop of compression": lambda q: [compressed(q, 24)],
    "pointer forward": lambda q: [compressed(q, 30)],
    "pointer outside": lambda q: [compressed(q, 0x3FFF)],
    "records missing": lambda q: [right(q)[:-4]],
    "counts too high": lambda q: [right(q)[:6] + b"\xff\xff" + right(q)[8:]],
    "header alone": lambda q: [q[:2] + struct.pack("!5H", 0x8180, 1, 0, 0, 0)],
    "rdata too short": lambda q: [right(q).replace(b"\0\4\xc0\0\2\1", b"\0\3\xc0\0\2")],
}


@both_families
@pytest.mark.parametrize("script", MALFORMED.values(), ids=MALFORMED.keys())
async def test_a_broken_reply_is_malformed_at_once(family: Family, script: Script) -> None:
    async with scripted(family, script) as port:
        lookup = await look_up(family, port, "x.test", edns=False)
    assert lookup.outcome is LookupOutcome.MALFORMED
    assert lookup.detail
    assert lookup.reply is None


async def test_other_response_codes_with_or_without_the_question() -> None:
    def bare(query: bytes) -> list[bytes]:
        return [query[:2] + struct.pack("!5H", 0x8180 | NOTIMP, 0, 0, 0, 0)]

    async with (
        scripted(Family.V6, bare) as short,
        scripted(Family.V6, lambda q: [respond(q, rcode=9).to_wire()]) as full,
    ):
        assert (await look_up(Family.V6, short, "x.test")).outcome is LookupOutcome.RCODE
        lookup = await look_up(Family.V6, full, "x.test")
    assert lookup.outcome is LookupOutcome.RCODE
    assert lookup.reply is not None
    assert lookup.reply.rcode == 9


async def test_extended_errors_are_kept() -> None:
    def filtered(query: bytes) -> list[bytes]:
        response = respond(query)
        response.use_edns(
            0,
            options=[
                dns.edns.EDEOption(dns.edns.EDECode.FILTERED, "filtered"),
                dns.edns.EDEOption(dns.edns.EDECode.BLOCKED),
            ],
        )
        return [response.to_wire()]

    async with scripted(Family.V6, filtered) as port:
        lookup = await look_up(Family.V6, port, "x.test", "AAAA")
    assert lookup.reply is not None
    assert (lookup.outcome, lookup.reply.ede) == (LookupOutcome.NODATA, (17, 15))


@both_families
async def test_a_port_where_nobody_listens_is_unreachable_at_once(family: Family) -> None:
    with closed_port(family) as port:
        lookup = await look_up(family, port, "x.test")
    assert lookup.outcome is LookupOutcome.UNREACHABLE
    assert "port unreachable" in lookup.detail


async def test_a_server_that_may_not_be_asked_is_not_asked() -> None:
    network = Answering(errno.EIO)
    lookup = await ask(make_question(Family.V6, 53, "x.test", allowed=False), network)
    assert (lookup.outcome, lookup.seconds, lookup.reply) == (LookupOutcome.NOT_ALLOWED, None, None)
    assert not network.asked


@pytest.mark.parametrize("name", ["x" * 64 + ".test", "a.." + "test", ".".join(["label"] * 60), "\\999.test"])
async def test_a_name_that_is_none_is_not_asked(name: str) -> None:
    network = Answering(errno.EIO)
    lookup = await ask(make_question(Family.V6, 53, name), network)
    assert lookup.outcome is LookupOutcome.NOT_ASKED
    assert "no DNS name" in lookup.detail
    assert not network.asked


@pytest.mark.parametrize(
    ("number", "outcome"),
    [
        (errno.ESTALE, LookupOutcome.NOT_ASKED),
        (errno.EPERM, LookupOutcome.NOT_ASKED),
        (errno.EAFNOSUPPORT, LookupOutcome.UNREACHABLE),
        (None, LookupOutcome.NOT_ASKED),
    ],
)
async def test_no_socket_in_that_namespace(number: int | None, outcome: LookupOutcome) -> None:
    lookup = await ask(make_question(Family.V6, 53, "x.test", timeout=0.1), Answering(number))
    assert (lookup.outcome, lookup.seconds) == (outcome, None)


def truncated(query: bytes) -> list[bytes]:
    return [respond(query, flags=dns.flags.TC).to_wire()]


def cut_short(query: bytes) -> list[bytes]:
    """As some servers do: TC, and the last record cut in the middle."""
    return [respond(query, ("x.test.", "A", "192.0.2.1"), flags=dns.flags.TC).to_wire()[:-3]]


def over_tcp(wire: bytes) -> bytes:
    return len(wire).to_bytes(2, "big") + wire


@both_families
@pytest.mark.parametrize("script", [truncated, cut_short])
async def test_tcp_to_the_same_server_after_truncation(family: Family, script: Script) -> None:
    async def stream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        query = await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))
        for byte in over_tcp(right(query)):
            writer.write(bytes([byte]))
            await writer.drain()
        await reader.read()

    async with serve(family, stream) as port, scripted(family, script, port):
        lookup = await look_up(family, port, "x.test", edns=False)
    assert (lookup.outcome, lookup.truncated) == (LookupOutcome.ANSWER, True)
    assert lookup.datagram is not None
    assert lookup.datagram.tc


async def test_a_reply_of_very_many_addresses_is_bounded() -> None:
    async def stream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        query = await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))
        response = respond(query)
        response.answer = [dns.rrset.from_text("x.test.", 60, "IN", "AAAA", *[f"2001:db8::{n:x}" for n in range(400)])]
        writer.write(over_tcp(response.to_wire(max_size=65535)))

    async with serve(Family.V6, stream) as port, scripted(Family.V6, truncated, port):
        lookup = await look_up(Family.V6, port, "x.test", "AAAA")
    assert lookup.reply is not None
    assert (len(lookup.reply.addresses), lookup.reply.answers) == (256, 400)


async def test_a_service_of_several_hundred_addresses_is_answered_over_tcp() -> None:
    async def stream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        query = await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))
        wire = hostile_dns.addresses(query, MAX_REPLY)
        assert len(wire) > 15_000
        writer.write(over_tcp(wire))

    async with serve(Family.V6, stream) as port, scripted(Family.V6, truncated, port):
        lookup = await look_up(Family.V6, port, "x.test", "AAAA", edns=False)
    assert lookup.outcome is LookupOutcome.ANSWER
    assert lookup.reply is not None
    assert lookup.reply.answers > 500


class Pulse:
    """How much CPU anything on the event loop took at a time, as a task of it sees."""

    def __init__(self) -> None:
        self.longest = 0.0
        self.turns = 0

    async def beat(self) -> None:
        last = time.thread_time()
        while True:
            await asyncio.sleep(0)
            now = time.thread_time()
            self.longest, self.turns, last = max(self.longest, now - last), self.turns + 1, now


# seconds of CPU: a turn of the loop that reads a reply takes some milliseconds of them, dnspython took 31 seconds
HELD = 0.2


@pytest.mark.parametrize("shape", hostile_dns.HOSTILE)
@pytest.mark.parametrize("size", [4096, MAX_REPLY, 65000])
async def test_no_reply_over_udp_or_tcp_holds_up_the_event_loop(shape: str, size: int) -> None:
    make = hostile_dns.HOSTILE[shape]

    async def stream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        query = await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))
        writer.write(over_tcp(make(query, size)))

    pulse = Pulse()
    beating = asyncio.create_task(pulse.beat())
    try:
        async with (
            scripted(Family.V6, lambda query: [make(query, size)]) as datagrams,
            serve(Family.V6, stream) as port,
            scripted(Family.V6, truncated, port),
        ):
            over_udp = await look_up(Family.V6, datagrams, "x.test", "AAAA", edns=False)
            there = await look_up(Family.V6, port, "x.test", "AAAA", edns=False)
    finally:
        await cancel(beating)
    for lookup, limit in ((over_udp, MAX_DATAGRAM), (there, MAX_REPLY)):
        assert lookup.outcome is not LookupOutcome.TIMEOUT
        if size > limit:
            assert lookup.outcome is LookupOutcome.MALFORMED
            assert f"more than {limit} bytes" in lookup.detail
    assert pulse.turns > 10
    assert pulse.longest < HELD


async def test_datagrams_without_end_that_answer_nothing_are_an_answer() -> None:
    async with scripted(Family.V6, lambda q: [other_question(q)] * (MAX_STRAYS + 1)) as port:
        lookup = await look_up(Family.V6, port, "x.test", timeout=20)
    assert lookup.outcome is LookupOutcome.MALFORMED
    assert f"more than {MAX_STRAYS} datagrams" in lookup.detail


@both_families
async def test_truncation_without_tcp_is_unreachable_and_says_so(family: Family) -> None:
    with closed_port(family) as port:
        async with scripted(family, truncated, port):
            lookup = await look_up(family, port, "x.test")
    assert (lookup.outcome, lookup.truncated, lookup.reply) == (LookupOutcome.UNREACHABLE, True, None)
    assert lookup.detail == "over TCP, after a truncated reply: Connection refused"


@pytest.mark.parametrize(
    ("make", "outcome"),
    [
        (lambda q: over_tcp(other_id(right(q))), LookupOutcome.MALFORMED),
        (lambda q: over_tcp(right(q))[:-1], LookupOutcome.MALFORMED),
        (lambda _: b"\0\0", LookupOutcome.MALFORMED),
        (lambda _: b"", LookupOutcome.MALFORMED),
        (lambda q: over_tcp(respond(q, flags=dns.flags.TC).to_wire()), LookupOutcome.NODATA),
    ],
    ids=["wrong id", "cut", "empty", "closed", "truncated again"],
)
async def test_odd_replies_over_tcp(make: Callable[[bytes], bytes], outcome: LookupOutcome) -> None:
    async def stream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        query = await reader.readexactly(int.from_bytes(await reader.readexactly(2), "big"))
        writer.write(make(query))
        await writer.drain()

    async with serve(Family.V6, stream) as port, scripted(Family.V6, truncated, port):
        lookup = await look_up(Family.V6, port, "x.test")
    assert (lookup.outcome, lookup.truncated) == (outcome, True)


async def test_the_deadline_covers_tcp_too() -> None:
    async def say_nothing(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read()

    async with serve(Family.V6, say_nothing) as port, scripted(Family.V6, truncated, port):
        lookup = await look_up(Family.V6, port, "x.test", timeout=1)
    assert (lookup.outcome, lookup.truncated) == (LookupOutcome.TIMEOUT, True)
    assert_ended_after(1.0, lookup.seconds)


@both_families
async def test_cancelling_over_udp_and_over_tcp_leaves_no_socket_open(family: Family) -> None:
    network, arrived = Noting(), asyncio.Event()

    async def say_nothing(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read(1)
        arrived.set()
        await reader.read()

    def note(_: bytes) -> list[bytes]:
        arrived.set()
        return []

    async with serve(family, say_nothing) as port, scripted(family, truncated, port), scripted(family, note) as silent:
        for there in (silent, port):
            arrived.clear()
            task = asyncio.create_task(ask(make_question(family, there, "x.test"), network))
            await asyncio.wait_for(arrived.wait(), 60)
            await cancel(task)
            network.assert_all_closed()


async def test_records_that_only_accompany_others_are_told_apart() -> None:
    records = (
        ("old.test.", "DNAME", "new.test."), ("x.old.test.", "CNAME", "x.new.test."),
        ("x.new.test.", "AAAA", RECORDS["AAAA"]),
    )  # fmt: skip
    async with scripted(Family.V6, lambda q: [respond(q, *records).to_wire()]) as port:
        reply = (await look_up(Family.V6, port, "x.old.test", "AAAA")).reply
    assert reply is not None
    assert (reply.answers, reply.extras, reply.chain) == (3, 1, ("x.new.test",))
    assert list(map(str, reply.addresses)) == [RECORDS["AAAA"]]


@both_families
async def test_questions_sent_together_leave_one_socket_and_each_gets_its_own_reply(family: Family) -> None:
    """In whatever order they come, with another reply in between; and what does not come is missing alone."""
    held: list[bytes] = []

    def backwards(query: bytes) -> list[bytes]:
        held.append(query)
        return [] if len(held) % 2 else [other_question(query), right(held[-1]), right(held[-2])]

    def first_alone(query: bytes) -> list[bytes]:
        held.append(query)
        return [right(query)] if len(held) % 2 else []

    async with scripted(family, backwards) as whole, scripted(family, first_alone) as half:
        for port, lost in ((whole, [False, False]), (half, [False, True])):
            # The missing reply is waited for; the others come as late as a busy machine lets them.
            limit = 1.5 if any(lost) else 8
            asked = Together(tuple(make_question(family, port, "x.test", t, timeout=limit) for t in ("A", "AAAA")))
            network = Noting()
            made = await ask_together(asked, network)
            assert len(network.made) == 1
            network.assert_all_closed()
            assert [one.question for one in made] == list(asked.questions)
            assert [one.outcome is LookupOutcome.TIMEOUT for one in made] == lost
            assert [one.reply is None for one in made] == lost
            assert len({dns.message.from_wire(q).id for q in held[-2:]}) == 2


async def test_of_questions_in_turn_each_leaves_the_same_socket_after_the_reply_before_it() -> None:
    seen: list[str] = []

    def noting(query: bytes) -> list[bytes]:
        seen.append("query")
        loop = asyncio.get_running_loop()
        loop.call_soon(seen.append, "reply")
        return [right(query)]

    async with scripted(Family.V4, noting) as port:
        pair = tuple(make_question(Family.V4, port, "x.test", qtype, timeout=8) for qtype in ("A", "AAAA"))
        network = Noting()
        made = await ask_together(Together(pair, in_turn=True), network)
    assert [one.outcome for one in made] == [LookupOutcome.ANSWER] * 2
    assert len(network.made) == 1
    assert seen == ["query", "reply", "query", "reply"]


async def test_a_link_local_nameserver_is_asked_through_the_link_of_the_vantage(row: Row) -> None:
    """By name and by number, which only the vantage's namespace knows; without a link it is unreachable."""
    address = "fe80::53"
    row.router.ip(f"addr add {address}/64 dev r0 nodad")
    index = row.client.inside(socket.if_nametoindex, "c0")

    def bound() -> socket.socket:
        sock = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        sock.bind((address, 0, 0, socket.if_nametoindex("r0")))
        return sock

    async def serve_one(server: socket.socket) -> None:
        query, client = await asyncio.get_running_loop().sock_recvfrom(server, 512)
        await asyncio.get_running_loop().sock_sendto(server, right(query), client)

    outcomes = {}
    try:
        with row.router.inside(bound) as server:
            for link in ("%c0", f"%{index}", "%gone", ""):
                name = Nameserver(ip_address(f"{address}{link}"), "fake", server.getsockname()[1])
                question = make_question(Family.V6, 0, "x.test", vantage=row.vantage, server=name, timeout=8)
                task = asyncio.create_task(serve_one(server))
                outcomes[link] = (await ask(question, NamespaceNetwork(row.client))).outcome
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
    finally:
        row.router.ip(f"addr del {address}/64 dev r0")
    assert list(outcomes.values()) == [LookupOutcome.ANSWER] * 2 + [LookupOutcome.UNREACHABLE] * 2
