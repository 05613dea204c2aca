"""DNS worlds for resolver prediction: behaviour words as messages, as model answers, and drawn at random.

The words are those of tests/data/resolver/worlds.json, plus truncation. Used by the unit test of the recorded worlds
and by the wire test against the C libraries of this machine.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from exporter.libc.replies import Answer, NoReply
from exporter.libc.resolver import all_candidates
from exporter.model.dns import Reply, ResolvConf
from exporter.model.family import Address, parse_address

NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED = range(6)
DELAYS = (0.0, 0.12, 0.24)  # seconds until each nameserver answers, so that a race has one winner


@dataclass(frozen=True)
class Message:
    """A reply as the scripted server sends it."""

    rcode: int = NOERROR
    aa: bool = False
    ra: bool = True
    tc: bool = False
    soa: bool = False
    cname: str = ""
    addresses: tuple[str, ...] = ()

    def reply(self, *, edns: bool = False) -> Reply:
        return Reply(
            rcode=self.rcode,
            aa=self.aa,
            ra=self.ra,
            tc=self.tc,
            answers=bool(self.cname) + len(self.addresses),
            additionals=int(edns),
            addresses=tuple(address(text) for text in self.addresses),
            chain=(self.cname,) if self.cname else (),
            soa_authority=self.soa,
        )


def address(text: str) -> Address:
    parsed = parse_address(text)
    assert parsed is not None
    return parsed


def addresses(name: str, qtype: str, count: int) -> tuple[str, ...]:
    """The addresses that stand for a name, as the README of the recorded worlds says."""
    crc = zlib.crc32(name.lower().rstrip(".").encode())
    if qtype == "A":
        return tuple(f"192.0.{2 if crc & 1 else 3}.{1 + ((crc >> 1) % 120) * 2 + i}" for i in range(count))
    return tuple(str(address(f"2001:db8::{crc & 0xFFFF:x}:{1 + i:x}")) for i in range(count))


NEGATIVE = {
    "nodata": Message(soa=True),
    "nodata_aa": Message(aa=True, ra=False),
    "nodata_ra": Message(),
    "lame": Message(ra=False),
    "nx": Message(rcode=NXDOMAIN, soa=True),
    "nx_aa": Message(rcode=NXDOMAIN, aa=True, ra=False),
    "servfail": Message(rcode=SERVFAIL),
    "refused": Message(rcode=REFUSED),
    "notimp": Message(rcode=NOTIMP),
    "formerr": Message(rcode=FORMERR),
}
POSITIVE = ("addr", "addr2", "zero", "cname_addr")
CNAMES = ("cname", "cname_nx")
TRUNCATED = ("tc_addr", "tc_part", "tc_nodata", "tc_nx", "tc_servfail", "tc_refused", "tc_close")


def messages(word: str, name: str, qtype: str) -> tuple[Message | None, Message | None]:
    """What the word sends over UDP and over TCP; None is silence, over TCP a closed connection."""
    if word == "drop":
        return None, None
    if word.startswith("tc_"):
        part = addresses(name, qtype, 1) if word == "tc_part" else ()
        over_tcp = {"tc_addr": "addr", "tc_part": "addr2", "tc_close": "drop"}.get(word, word.removeprefix("tc_"))
        return Message(tc=True, addresses=part), messages(over_tcp, name, qtype)[1]
    found = NEGATIVE.get(word) or _with_records(word, name, qtype)
    return found, found


def _with_records(word: str, name: str, qtype: str) -> Message:
    if word == "zero":
        return Message(addresses=("0.0.0.0" if qtype == "A" else "::",))
    if word.startswith("cname"):
        target = f"c.{name}"
        held = addresses(target, qtype, 1) if word == "cname_addr" else ()
        return Message(rcode=NXDOMAIN if word == "cname_nx" else NOERROR, cname=target, addresses=held)
    return Message(addresses=addresses(name, qtype, {"addr": 1, "addr2": 2}[word]))


def answer(word: str, name: str, qtype: str, *, edns: bool = False, seconds: float = 0.0) -> Answer:
    datagram, stream = messages(word, name, qtype)
    return Answer(
        datagram.reply(edns=edns) if datagram else NoReply.SILENT,
        stream=stream.reply(edns=edns) if stream else NoReply.CLOSED,
        seconds=seconds,
    )


@dataclass(frozen=True)
class World:
    """One getaddrinfo call: the file, the question, and each nameserver's word per (name, type). A missing one is
    `nx`.
    """

    conf: ResolvConf
    name: str
    request: str
    words: dict[tuple[str, str, Address], str]
    closed: frozenset[Address] = field(default_factory=frozenset)  # nothing listens there

    def answers(self, libc: str) -> dict[tuple[str, str, Address], Answer]:
        edns = (
            libc == "glibc"
            and "edns0" in self.conf.options
            and not (self.request == "6" and "no-aaaa" in self.conf.options)
        )
        found = {}
        for name in all_candidates(self.name, self.conf):
            for qtype in ("A", "AAAA"):
                for index, server in enumerate(self.conf.nameservers):
                    word = self.words.get((name, qtype, server), "nx")
                    given = answer(word, name, qtype, edns=edns, seconds=DELAYS[index])
                    found[name, qtype, server] = (
                        Answer(NoReply.REFUSED, stream=NoReply.REFUSED) if server in self.closed else given
                    )
        return found

    def script(self) -> list[dict[str, Any]]:
        """The world's messages for the scripted server, as JSON values."""
        lines = []
        for (name, qtype, server), word in self.words.items():
            datagram, stream = messages(word, name, qtype)
            delay = DELAYS[self.conf.nameservers.index(server)]
            over = {"udp": datagram and asdict(datagram), "tcp": stream and asdict(stream)}
            lines.append({"name": name, "qtype": qtype, "server": str(server), "delay": delay, **over})
        return lines

    def resolv_conf(self) -> str:
        lines = [f"nameserver {server}" for server in self.conf.nameservers]
        if self.conf.search:
            lines.append(f"search {' '.join(self.conf.search)}")
        numbers = [f"ndots:{self.conf.ndots}", f"timeout:{self.conf.timeout}", f"attempts:{self.conf.attempts}"]
        lines.append(f"options {' '.join([*numbers, *sorted(self.conf.options)])}")
        return "\n".join(lines) + "\n"


KUBERNETES = ("default.svc.cluster.local", "svc.cluster.local", "cluster.local")
LONG = tuple(f"{letter * 60}.{letter * 20}.test" for letter in "abc")  # a search line that musl ignores
SEARCHES = ((), KUBERNETES, (*KUBERNETES, "lan"), (*KUBERNETES, "."), ("corp.test", "lan"), ("lan",), LONG)
OPTIONS = ((), (), (), ("single-request",), ("single-request-reopen",), ("no-aaaa",), ("edns0",), ("use-vc",))
SUFFIXES = ("", ".x", ".a.b", ".a.b.c.d.e", ".example.test", ".example.test.")
LONGEST_LINE = 255


def draw(rng: random.Random, index: int, servers: Iterable[Address], closed: frozenset[Address]) -> World:
    """One random world; `servers` can be asked, `closed` are addresses where nothing listens."""
    chosen = tuple(rng.sample((*servers, *closed), rng.choice((1, 1, 2, 2, 3))))
    search = rng.choice(SEARCHES)
    short = len(f"search {' '.join(search)}\n") <= LONGEST_LINE
    conf = ResolvConf(
        nameservers=chosen,
        search=search,
        ndots=rng.choice((0, 1, 2, 5, 5, 5)),
        timeout=1,
        attempts=rng.choice((1, 1, 1, 2)),
        options=frozenset(rng.choice(OPTIONS)),
    )
    conf = conf if short else replace(conf, musl=replace(conf, search=()))
    name = f"r{index:04d}{rng.choice(SUFFIXES)}"
    words = {}
    for candidate in all_candidates(name, conf):
        own = candidate == name.removesuffix(".")
        for server in chosen:
            for qtype in ("A", "AAAA"):
                words[candidate, qtype, server] = _word(rng, own=own)
    return World(conf, name, rng.choice(("any", "any", "any", "4", "6")), words, closed)


def _word(rng: random.Random, *, own: bool) -> str:
    roll = rng.random()
    if roll < 0.04:
        return "drop"
    if roll < 0.16:
        return rng.choice(TRUNCATED)
    if own and roll < 0.6:
        return rng.choice(POSITIVE)
    if not own and roll < 0.55:
        return "nx"
    return rng.choice((*NEGATIVE, *CNAMES, *POSITIVE))
