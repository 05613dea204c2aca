"""Recorded replies of real servers reduced to values, and that no bytes at all bring out anything but a stated result."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import dns.message
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.model.dns import Reply
from exporter.model.probe import LookupOutcome, Outcome
from exporter.probes.dns_reply import RECORD_LIMIT, judge, read_reply
from exporter.probes.outcome import Failure

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
        reply = read_reply(query_of(exchange), bytes.fromhex(exchange["wire_hex"]))
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
        reply = read_reply(query_of(exchange), bytes.fromhex(exchange["wire_hex"]))
        assert reply is not None
        if not reply.tc and reply.answers == len(answers):
            told = {ip_address(words[-1]) for words in answers if words[-2] == exchange["qtype"]}
            assert set(reply.addresses) == told, (name, exchange["name"], exchange["qtype"])
            compared += 1
    assert compared > 100


def read(query: dns.message.Message, wire: bytes) -> Reply | Outcome | None:
    try:
        return read_reply(query, wire)
    except Failure as failure:
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
