"""Recorded replies of real servers reduced to values, and that no bytes at all bring out anything but a stated
result.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import dns.edns
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.rrset
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.model.dns import Reply
from exporter.model.family import Family
from exporter.model.probe import LookupOutcome, Outcome
from exporter.probes.dns_reply import MAX_REPLY, RECORD_LIMIT, build_query, judge, read_reply
from exporter.probes.outcome import PhaseError
from tests.unit import hostile_dns
from tests.wire.nameserver import make_question
from tests.work import calls_of

pytestmark = pytest.mark.attack

RECORDED = Path(__file__).parent.parent / "data" / "dns"
QUERY_ID = 0x2B67
OUTCOMES = {
    "NXDOMAIN": {LookupOutcome.NXDOMAIN},
    "SERVFAIL": {LookupOutcome.SERVFAIL},
    "REFUSED": {LookupOutcome.REFUSED},
    "NOERROR": {LookupOutcome.ANSWER, LookupOutcome.NODATA},
}
ASKED = {"A", "AAAA", "MX", "PTR"}


def recorded() -> Iterator[tuple[str, dict[str, Any]]]:
    for file in sorted(RECORDED.glob("*.json")):
        for exchange in json.loads(file.read_text())["exchanges"]:
            if exchange["wire_hex"] and exchange["qtype"] in ASKED:
                yield file.stem, exchange


def query_of(exchange: dict[str, Any]) -> dns.message.Message:
    query = dns.message.make_query(exchange["name"], exchange["qtype"])
    query.id = QUERY_ID
    return query


def test_every_recorded_reply_is_read_as_it_was_recorded() -> None:
    compared = 0
    for name, exchange in recorded():
        reply = read_reply(hostile_dns.as_asked(query_of(exchange)), bytes.fromhex(exchange["wire_hex"]))
        where = (name, exchange["name"], exchange["qtype"])
        assert reply is not None, where
        assert judge(reply) in OUTCOMES[exchange["rcode"]], where
        assert list(reply.ede) == [error["code"] for error in exchange.get("ede") or []], where
        compared += 1
    assert compared > 500


def test_addresses_of_recorded_replies_are_those_of_their_last_records() -> None:
    compared = 0
    for name, exchange in recorded():
        answers = [line.split() for line in exchange["answer"] if isinstance(line, str)]
        if exchange["qtype"] not in {"A", "AAAA"} or len(answers) != len(exchange["answer"]) or not answers:
            continue
        reply = read_reply(hostile_dns.as_asked(query_of(exchange)), bytes.fromhex(exchange["wire_hex"]))
        assert reply is not None
        if not reply.tc and reply.answers == len(answers):
            told = {ip_address(words[-1]) for words in answers if words[-2] == exchange["qtype"]}
            assert set(reply.addresses) == told, (name, exchange["name"], exchange["qtype"])
            compared += 1
    assert compared > 100


def test_every_recorded_reply_is_read_as_dnspython_reads_it() -> None:
    compared = 0
    for name, exchange in recorded():
        wire = bytes.fromhex(exchange["wire_hex"])
        query = query_of(exchange)
        read_by_us = read_reply(hostile_dns.as_asked(query), wire, limit=len(wire))
        assert read_by_us == hostile_dns.as_dnspython_reads(query, wire), (name, exchange["name"], exchange["qtype"])
        compared += 1
    assert compared > 500


LABELS = st.sampled_from([b"a", b"B", b"both", b"Both", b"x" * 63, b'o"d.d', b"\xff \0", b"$@;()\\"])
NAMES = st.lists(LABELS, max_size=3).map(lambda labels: dns.name.Name([*labels, b"example", b""]))
ASKED_TYPES = st.sampled_from(["A", "AAAA", "MX", "PTR"])
TTLS = st.sampled_from([0, 1, 60, 86400, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF])


@st.composite
def rrsets(draw: st.DrawFn) -> dns.rrset.RRset:
    kind = draw(st.sampled_from(["A", "AAAA", "CNAME", "CNAME", "MX", "PTR", "TXT", "SOA", "NS"]))
    target = draw(NAMES).to_text()
    data = {
        "A": [f"192.0.2.{n}" for n in draw(st.lists(st.integers(0, 4), min_size=1, max_size=4))],
        "AAAA": [f"2001:db8::{n}" for n in draw(st.lists(st.integers(0, 4), min_size=1, max_size=4))],
        "MX": [f"{n} {target}" for n in draw(st.lists(st.integers(0, 2), min_size=1, max_size=2))],
        "TXT": ['"some text"'],
        "SOA": [f"{target} {target} 1 2 3 4 5"],
    }.get(kind, [target])
    return dns.rrset.from_text(
        draw(NAMES), draw(TTLS), draw(st.sampled_from(["IN", "IN", "IN", "CH"])) if kind == "TXT" else "IN", kind, *data
    )


@st.composite
def exchanges(draw: st.DrawFn) -> tuple[dns.message.Message, dns.message.Message]:
    """A query and an honest server's reply to it: sections of all kinds, compressed, with or without EDNS."""
    query = dns.message.make_query(
        draw(NAMES), draw(ASKED_TYPES), use_edns=draw(st.sampled_from([False, 0])), id=QUERY_ID
    )
    response = dns.message.make_response(query)
    response.flags |= sum(f for f in (dns.flags.AA, dns.flags.RA, dns.flags.TC) if draw(st.booleans()))
    codes = [0, 0, 0, 1, 2, 3, 5, 9, *([23, 3841] if query.edns >= 0 else [])]
    response.set_rcode(dns.rcode.Rcode(draw(st.sampled_from(codes))))
    owner = query.question[0].name
    for _ in range(draw(st.integers(0, 4))):  # a chain, with letters of another case here and there
        target = draw(NAMES)
        response.answer.append(dns.rrset.from_text(owner, draw(TTLS), "IN", "CNAME", target.to_text()))
        owner = dns.name.Name([label.swapcase() if draw(st.booleans()) else label for label in target.labels])
    response.answer += draw(st.lists(rrsets(), max_size=3))
    wanted = query.question[0].rdtype
    response.answer += [r for r in draw(st.lists(rrsets(), max_size=2)) if r.rdtype == wanted]
    for found in response.answer[-1:]:
        found.name = owner
    response.authority = draw(st.lists(rrsets(), max_size=2))
    response.additional = draw(st.lists(rrsets(), max_size=2))
    if query.edns >= 0:
        errors = [dns.edns.EDECode(c) for c in draw(st.lists(st.integers(0, 24), max_size=10))]
        response.use_edns(0, ednsflags=response.ednsflags, options=[dns.edns.EDEOption(e, "why") for e in errors])
    if draw(st.integers(0, 9)) == 0:
        response.question = []
    return query, response


@settings(max_examples=400, deadline=None)
@given(exchanges())
def test_honest_replies_are_read_as_dnspython_reads_them(
    exchange: tuple[dns.message.Message, dns.message.Message],
) -> None:
    query, response = exchange
    wire = response.to_wire(max_size=65535)
    assert read_reply(hostile_dns.as_asked(query), wire) == hostile_dns.as_dnspython_reads(query, wire)


@pytest.mark.parametrize("kind", ["A", "AAAA"])
def test_a_reply_of_16_kib_of_addresses_is_read(kind: str) -> None:
    query = dns.message.make_query("many.example", kind, use_edns=False)
    wire = hostile_dns.addresses(query.to_wire(), MAX_REPLY + 570, int(query.question[0].rdtype))
    assert MAX_REPLY - 40 < len(wire) <= MAX_REPLY
    assert read_reply(hostile_dns.as_asked(query), wire) == hostile_dns.as_dnspython_reads(query, wire)


@pytest.mark.parametrize("kind", ["A", "MX", "PTR", "CNAME"])
@pytest.mark.parametrize("shape", hostile_dns.HOSTILE)
@pytest.mark.parametrize("size", [4096, MAX_REPLY, 65535])
def test_no_reply_costs_much(kind: str, shape: str, size: int) -> None:
    """At most 5 ms of the event loop; dnspython took 31 s for one of them."""
    query = dns.message.make_query("both.example", kind, use_edns=False)
    wire = hostile_dns.HOSTILE[shape](query.to_wire(), size)
    assert len(wire) > size - 900
    assert calls_of(lambda: read(query, wire)) < 20_000  # the first time: what was read is kept
    examine(query, wire)


def read(query: dns.message.Message, wire: bytes) -> Reply | Outcome | None:
    try:
        return read_reply(hostile_dns.as_asked(query), wire)
    except PhaseError as failure:
        return failure.outcome


def examine(query: dns.message.Message, wire: bytes) -> None:
    """Only None, a bounded Reply or Failure(PROTOCOL) may come out."""
    came = read(query, wire)
    if isinstance(came, Reply):
        assert isinstance(judge(came), LookupOutcome)
        assert len(came.addresses) <= RECORD_LIMIT
        assert len(came.chain) <= 16
    else:
        assert came in {None, Outcome.PROTOCOL}


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=600))
def test_any_bytes_behind_a_right_header(body: bytes) -> None:
    query = dns.message.make_query("both.example", "AAAA")
    examine(query, query.to_wire()[:2] + b"\x81\x80" + body)


@pytest.mark.parametrize("seed", range(4))
def test_mutated_real_replies(seed: int) -> None:
    draw = random.Random(seed)
    exchanges = [exchange for _, exchange in recorded()]
    for _ in range(500):
        exchange = draw.choice(exchanges)
        wire = bytearray.fromhex(exchange["wire_hex"])
        for _ in range(draw.randint(1, 6)):
            place = draw.randrange(2, len(wire))
            match draw.randrange(4):
                case 0:
                    wire[place] ^= 1 << draw.randrange(8)
                case 1:
                    wire[place] = draw.choice((0, 0xC0, 0xFF, draw.randrange(256)))
                case 2:
                    del wire[place : place + draw.randint(1, 8)]
                case _:
                    wire[place:place] = draw.randbytes(draw.randint(1, 8))
            if len(wire) < 4:
                break
        examine(query_of(exchange), bytes(wire))


@pytest.mark.parametrize(
    "name", ["x.test", "Many.Labels.example", "a" * 63 + ".example", "b\\.c.example", "münchen.example"]
)
@pytest.mark.parametrize("qtype", ["A", "AAAA", "MX", "PTR"])
@pytest.mark.parametrize("edns", [True, False])
def test_a_query_is_the_one_that_dnspython_makes(name: str, qtype: str, edns: bool) -> None:
    query = build_query(make_question(Family.V6, 53, name, qtype), edns=edns)
    same = dns.message.make_query(name, qtype, use_edns=edns, payload=1232, id=query.identifier)
    assert query == hostile_dns.as_asked(same)


def test_ids_are_drawn_for_each_query() -> None:
    question = make_question(Family.V6, 53, "x.test", "A")
    ids = {build_query(question, edns=True).identifier for _ in range(64)}
    assert len(ids) > 60
    assert build_query(question, edns=False, identifier=0).wire[:2] == bytes(2)
