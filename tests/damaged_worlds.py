"""Worlds of one nameserver whose replies are malformed, mis-owned, cut, too long or a header alone; drawn at random."""

from __future__ import annotations

import random
import struct
from dataclasses import dataclass
from typing import Any

from exporter.libc.messages import MuslReader
from exporter.libc.replies import Answer, answers_of
from exporter.model.dns import ResolvConf
from exporter.model.family import Address
from exporter.model.probe import Heard, Lookup, LookupOutcome, Nameserver, Purpose, Question
from exporter.model.vantage import Vantage

NUMBERS = {"A": 1, "AAAA": 28, "CNAME": 5, "DNAME": 39, "TXT": 16}
RCODES = (0,) * 12 + (3, 3, 2, 1, 5)
HERE = b"\xc0\x0c"


def encoded(name: str) -> bytes:
    return b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\0"


def _record(rng: random.Random, owner: bytes, kind: str, data: bytes) -> bytes:
    rdclass = 1 if rng.random() < 0.95 else 3
    return owner + struct.pack("!HHIH", NUMBERS[kind], rdclass, 60, len(data)) + data


def _address(rng: random.Random, kind: str) -> bytes:
    tail = bytes([rng.randrange(1, 250)])
    whole = b"\xc0\0\2" + tail if kind == "A" else bytes.fromhex("20010db8") + bytes(11) + tail
    return whole if rng.random() < 0.93 else whole[: rng.randrange(len(whole))]


def _records(rng: random.Random, name: str, qtype: str) -> list[bytes]:
    target = encoded(f"x.{name}")
    owners = [HERE, HERE, HERE, encoded(name.upper()), target, encoded("other.test")]
    other = {"A": "AAAA", "AAAA": "A"}[qtype]
    made = []
    for _ in range(rng.choice((0, 1, 1, 2, 2, 3, 5, 40, 70))):
        owner, kind = rng.choice(owners), rng.choice((qtype, qtype, qtype, other, "CNAME", "DNAME", "TXT"))
        data = {"CNAME": target, "DNAME": target, "TXT": b"\1x"}.get(kind) or _address(rng, kind)
        made.append(_record(rng, owner, kind, data))
    if rng.random() < 0.3:
        chain = [_record(rng, HERE, "CNAME", target), _record(rng, target, qtype, _address(rng, qtype))]
        made += chain if rng.random() < 0.6 else chain[::-1]
    return made


def draw_message(rng: random.Random, name: str, qtype: str) -> bytes:
    """A reply without its id. It is never marked as truncated: TCP has worlds of its own."""
    records = _records(rng, name, qtype)
    question = rng.random() < 0.9
    flags = 0x8100 | (0x80 if rng.random() < 0.8 else 0) | (0x400 if rng.random() < 0.3 else 0) | rng.choice(RCODES)
    asked = qtype if rng.random() < 0.95 else "TXT"
    count = len(records) if rng.random() < 0.93 else max(0, len(records) + rng.choice((-1, 1, 2)))
    wire = struct.pack("!5H", flags, question, count, 0, 0)
    wire += encoded(name) + struct.pack("!HH", NUMBERS[asked], 1) if question else b""
    wire += b"".join(records)
    if rng.random() < 0.1:
        # Never within the question: glibc would then read what its buffer had before.
        least = 10 + (len(encoded(name)) + 4 if question else 0)
        wire = wire[: rng.randrange(least, len(wire) + 1) if rng.random() < 0.7 else rng.randrange(3, 9)]
    if rng.random() < 0.15 and len(wire) > 11:
        damaged = bytearray(wire)
        damaged[rng.randrange(10, len(wire))] = rng.randrange(256)
        wire = bytes(damaged)
    return wire if _is_defined(wire, name, qtype) else draw_message(rng, name, qtype)


def _is_defined(wire: bytes, name: str, qtype: str) -> bool:
    """Whether no libc reads memory behind the message, which nothing can predict.

    musl 1.2.3 can take an address from there, and glibc follows a pointer in the question as far as its buffer goes.
    """
    if wire[3:4] == b"\1" and any(octet >= 0xC0 for octet in wire[10 : 10 + len(encoded(name))]):
        return False
    reply = MuslReader(qtype, since_1_2_4=False).datagram(b"\0\1" + wire)
    return reply is None or all(address.packed in wire and not address.is_unspecified for address in reply.addresses)


@dataclass(frozen=True)
class DamagedWorld:
    """One getaddrinfo call of an absolute name at one nameserver that replies with these octets."""

    name: str
    request: str
    server: Address
    wires: dict[str, bytes]

    @property
    def conf(self) -> ResolvConf:
        servers = (self.server,)
        return ResolvConf(nameservers=servers, timeout=1, attempts=1)

    def resolv_conf(self) -> str:
        return f"nameserver {self.server}\noptions timeout:1 attempts:1\n"

    def answers(self, libc: str) -> dict[tuple[str, str, Address], Answer]:
        del libc  # each reads the same octets
        return answers_of(self._lookup(qtype, wire) for qtype, wire in self.wires.items())

    def _lookup(self, qtype: str, wire: bytes) -> Lookup:
        question = Question(
            vantage=Vantage(kind="host", namespace="", name="node", netns=None),
            server=Nameserver(self.server, "host"),
            name=self.name,
            qtype=qtype,
            label=self.name,
            purpose=Purpose.PREDICTION,
        )
        heard = (Heard(0.0, b"\0\1" + wire),)
        return Lookup(question=question, outcome=LookupOutcome.MALFORMED, seconds=0.0, heard=heard)

    def script(self) -> list[dict[str, Any]]:
        return [
            {
                "name": self.name,
                "qtype": qtype,
                "server": str(self.server),
                "delay": 0.0,
                "udp": {"raw": wire.hex()},
                "tcp": None,
            }
            for qtype, wire in self.wires.items()
        ]


def draw_damaged(rng: random.Random, index: int, server: Address) -> DamagedWorld:
    name = f"d{index}.test"
    wires = {qtype: draw_message(rng, name, qtype) for qtype in ("A", "AAAA")}
    return DamagedWorld(name, rng.choice(("any", "any", "4", "6")), server, wires)
