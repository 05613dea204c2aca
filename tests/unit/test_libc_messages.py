"""Malformed, mis-owned, oversized and header-only messages as each libc reads them."""

from __future__ import annotations

import random
import struct

import pytest

from exporter.libc.messages import GlibcReader, MuslReader
from exporter.libc.replies import answers_of
from exporter.libc.resolver import Libc, predict
from exporter.model.dns import NXDOMAIN, REFUSED, ResolvConf
from exporter.model.family import parse_address
from exporter.model.probe import Heard, Lookup, LookupOutcome, Nameserver, Purpose, Question
from exporter.model.vantage import Vantage
from exporter.probes.dns_reply import MAX_REPLY
from tests.damaged_worlds import encoded
from tests.unit.hostile_dns import record
from tests.work import calls_of

NAME = "app.test"
FOUR = bytes([192, 0, 2, 1])
SIX = bytes.fromhex("20010db8") + bytes(11) + b"\1"
HERE = b"\xc0\x0c"
A, CNAME, AAAA = 1, 5, 28
SERVER = Nameserver(parse_address("127.0.0.2"), "host")  # type: ignore[arg-type]
CONF = ResolvConf(nameservers=(SERVER.address,), timeout=1, attempts=1)


def message(*records: bytes, kind: int = A, rcode: int = 0, question: bool = True) -> bytes:
    header = struct.pack("!6H", 1, 0x8180 | rcode, question, len(records), 0, 0)
    return header + (encoded(NAME) + struct.pack("!HH", kind, 1) if question else b"") + b"".join(records)


def readings(wire: bytes, qtype: str) -> tuple[object, ...]:
    """The addresses by glibc, musl and musl 1.2.3; None where the datagram is dropped."""
    readers = (GlibcReader(NAME, qtype), MuslReader(qtype, since_1_2_4=True), MuslReader(qtype, since_1_2_4=False))
    made = [reader.datagram(wire) for reader in readers]
    return tuple(None if reply is None else tuple(map(str, reply.addresses)) for reply in made)


FOUND = ("192.0.2.1",)


@pytest.mark.parametrize(
    ("wire", "qtype", "read"),
    [
        (message(record(HERE, A, FOUR)), "A", (FOUND, FOUND, FOUND)),
        (message(record(encoded("other.test"), A, FOUR)), "A", ((), FOUND, FOUND)),
        (message(record(HERE, CNAME, encoded("x.test")), record(encoded("x.test"), A, FOUR)), "A", (FOUND,) * 3),
        (message(record(encoded("x.test"), A, FOUR), record(HERE, CNAME, encoded("x.test"))), "A", ((), FOUND, FOUND)),
        (message(record(HERE, A, FOUR), kind=AAAA), "AAAA", ((), (), FOUND)),
        (message(record(HERE, AAAA, FOUR), kind=AAAA), "AAAA", ((), (), ())),
        (message(record(HERE, A, FOUR), record(HERE, A, FOUR)[:-13]), "A", (FOUND, FOUND, FOUND)),
        (message(question=False), "A", (None, (), ())),
        (message(rcode=NXDOMAIN, question=False), "A", (None, (), ())),
        (message(rcode=REFUSED, question=False), "A", ((), (), ())),
        (message()[:11], "A", (None, (), ())),
        (message()[:3], "A", (None, None, None)),
    ],
)
def test_each_libc_reads_a_message_in_its_own_way(wire: bytes, qtype: str, read: tuple[object, ...]) -> None:
    assert readings(wire, qtype) == read


def test_musl_1_2_3_reads_512_octets_and_at_most_64_questions_and_answers() -> None:
    thirty = message(*[record(HERE, A, FOUR)] * 40)
    assert [len(found) for found in readings(thirty, "A")] == [40, 40, 30]  # type: ignore[arg-type]
    many = message(*[record(HERE, A, FOUR)] * 64)
    assert [len(found) for found in readings(many, "A")] == [64, 64, 0]  # type: ignore[arg-type]


def lookup(qtype: str, wire: bytes) -> Lookup:
    question = Question(
        vantage=Vantage(kind="host", namespace="", name="node", netns=None),
        server=SERVER,
        name=NAME,
        qtype=qtype,
        label=NAME,
        purpose=Purpose.PREDICTION,
    )
    return Lookup(question=question, outcome=LookupOutcome.MALFORMED, seconds=2.0, heard=(Heard(0.0, wire),))


def test_musl_returns_48_addresses_and_since_1_2_4_ipv6_first() -> None:
    four = [record(HERE, A, bytes([10, 1, 0, n])) for n in range(1, 41)]
    six = [record(HERE, AAAA, SIX[:-1] + bytes([n])) for n in range(1, 41)]
    answers = answers_of([lookup("A", message(*four)), lookup("AAAA", message(*six, kind=AAAA))])
    made = {libc: predict(libc, NAME, CONF, answers) for libc in Libc}
    counts = {libc: sum(":" in text for text in found.addresses) for libc, found in made.items() if found is not None}
    assert counts == {Libc.GLIBC: 40, Libc.MUSL: 40, Libc.MUSL_1_2_3: 17}
    assert [len(found.addresses) for found in made.values() if found is not None] == [80, 48, 47]


def test_a_reply_without_a_question_is_silence_for_glibc_and_an_answer_for_musl() -> None:
    aaaa = message(rcode=NXDOMAIN, question=False)
    answers = answers_of([lookup("A", message(record(HERE, A, FOUR))), lookup("AAAA", aaaa)])
    made = {libc: predict(libc, NAME, CONF, answers) for libc in Libc}
    codes = [(found.code, round(found.seconds)) for found in made.values() if found is not None]
    assert codes == [("OK", 3), ("EAI_NONAME", 0), ("EAI_NONAME", 0)]


def costly(size: int) -> list[bytes]:
    """As much work as a message of this size can ask for: names of 127 labels, questions alone, endless pointers."""
    labels = b"\1a" * 126 + b"\0"
    alias = record(b"\xc0\x0c", CNAME, b"\xc0\x0c")
    filled = labels + alias * ((size - 12 - len(labels)) // len(alias))
    questions = (b"\xc0\x0c" + bytes(4)) * ((size - 12) // 6)
    return [
        struct.pack("!6H", 1, 0x8180, 0, 0xFFFF, 0, 0) + filled,
        struct.pack("!6H", 1, 0x8180, 0xFFFF, 0, 0, 0) + questions,
        struct.pack("!6H", 1, 0x8180, 1, 0xFFFF, 0, 0) + labels + bytes(4) + filled[len(labels) :],
        struct.pack("!6H", 1, 0x8180, 1, 0xFFFF, 0, 0) + b"\x01" * (size - 12),
    ]


# Measured: 27,000 calls of it take 2.6 ms. More than MAX_REPLY is never taken from a nameserver.
@pytest.mark.parametrize(("size", "bound"), [(MAX_REPLY, 20_000), (65535, 30_000)])
@pytest.mark.parametrize("shape", range(4), ids=["aliases", "questions", "question and aliases", "labels"])
def test_no_message_costs_more_than_milliseconds(size: int, bound: int, shape: int) -> None:
    wire = costly(size)[shape]

    def read() -> None:
        for any_class in (False, True):
            GlibcReader(NAME, "A", any_class=any_class).stream(wire)
        for since in (False, True):
            MuslReader("A", since_1_2_4=since).stream(wire)

    assert calls_of(read) < bound


def test_any_damage_to_a_message_still_gives_a_reading() -> None:
    rng = random.Random(1302)
    whole = message(record(HERE, CNAME, encoded("x.test")), record(encoded("x.test"), A, FOUR), record(HERE, A, FOUR))
    for _ in range(3000):
        damaged = bytearray(whole[: rng.randrange(len(whole) + 1)] if rng.random() < 0.3 else whole)
        for _ in range(rng.randrange(4) if damaged else 0):
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        assert len(readings(bytes(damaged), "A")) == 3
