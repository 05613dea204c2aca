"""Worlds of a resolv.conf as people, programs and accidents write it; drawn at random.

Every nameserver gives every name an address that tells which of them was asked for what, or denies it. So the outcome
shows which nameservers, search domains and numbers a libc took from the file.
"""

from __future__ import annotations

import random
import zlib
from dataclasses import dataclass
from typing import Any

from exporter.libc.replies import Answer, NoReply
from exporter.libc.resolv_conf import parse_resolv_conf
from exporter.libc.resolver import all_candidates, all_nameservers
from exporter.model.dns import NOERROR, NXDOMAIN, Reply, ResolvConf
from exporter.model.family import Address
from tests.worlds import address

SERVERS = ("127.0.53.1", "127.0.53.2", "fd00:53::1", "127.0.0.1")  # the last is asked where none is listed
WRITTEN = (
    *("127.0.53.1", "127.0.53.1", "127.0.53.2", "127.0.53.2", "fd00:53::1", "fd00:53::1"),
    *("127.0.53.9", "127.0.53.9"),  # nothing listens there
    *("127.000.065.001", "0x7f.0.53.2", "127.53.1", "127.0.13569", "2130719489", "0177.0.53.1", "127.0.053.1"),
    *("127.0.53.08", "127.0.53.256", "127.0.53.1.", "127.0.53", "127.0.53.1:53", "[fd00:53::1]", "fd00:53::1%lo"),
    *("fd00:53::1%1", "fd00:53::1%", "fd00:53::1%lo0x", "::ffff:127.0.53.1", "::ffff:7f00:3502", "fd00:53::1/64"),
    *("dns.test", "+127.0.53.1", "0x", "fd00:53:::1", "fd00:53:0:0:0:0:0:1", "FD00:0053::0001", "127.0.53.2\xa0"),
)
BEHIND = ("", "", "", "", "", " ", "\t", "\r", "#here", ";here", " # here", " 127.0.53.2", "\v", "\f", "\0", "\0 x")
BETWEEN = (" ", " ", " ", " ", "\t", "  ", " \t ", "\v", "\r", " \v", "\xa0", "")
NO_BREAK = "\xa0"  # from such octets on musl reads nothing of a reply, which is damaged_worlds.py's
DOMAINS = ("a.test", "b.test", "c.a.test", "a.test.", ".b.test", ".", "A.Test", "b.test\r", "#", "x" * 64)
LONG = ("d" * 60 + ".test", "e" * 60 + ".test", "f" * 60 + ".test", "g" * 60 + ".test")
OPTIONS = (
    *("ndots:0", "ndots:1", "ndots:2", "ndots:5", "ndots:15", "ndots:16", "ndots:99", "ndots:", "ndots: 3", "ndots:2x"),
    *(
        "ndots:x",
        "ndots:+2",
        "ndots:4294967298",
        "ndots:99999999999999999999",
        "xndots:2",
        "ndots:\v2",
        "ndots",
        "NDOTS:2",
    ),
    *("attempts:1", "attempts:2", "attempts:", "attempts:x", "attempts:-1", "attempts:+1", "attempts:1\r"),
    *("timeout:1", "timeout:0", "timeout:x", "timeout:.5", "timeout:-1", "timeout:1\r"),
    *("no-aaaa", "no-aaaax", "single-request", "single-request-reopenx", "use-vc", "use-vcs", "rotat", "edns0", "#"),
    *("no_tld_query", "no-tld-query", "inet6", "debug"),
)
ENDS = ("\n", "\n", "\n", "\n", "\r\n", "\n\n", " \n", "\0\n")
NOISE = (
    "# nameserver 127.0.53.2",
    "; options ndots:5",
    "\ufeff".encode().decode("latin-1"),
    "lookup file bind",
)
NUMERIC = (
    *(
        "1234",
        "10.1",
        "0x7f.1",
        "127.000.000.001",
        "192.0.2.7",
        "0377.1",
        "4294967295",
        "4294967296",
        "08",
        "0x",
        "1e3",
    ),
    *("1.2.3.256", "1.2.3.4.5", "1.65536", "1.2.65536", "256.1", "1.2.3.4.", "1..2", "0X10.0x20", "2001:db8::7", "::"),
    *("::ffff:192.0.2.1", "::192.0.2.1", "::1%lo", "::1%1", "::1%", "fe80::1%lo", "fe80::1%99", "fe80::1%4294967296"),
    *("fe80::1%", "ff01::1%lo", "ff02::1%lo", "ff05::1%lo", "2001:db8:::1", "::ffff:192.0.2.01", "::1.2.3"),
)
NO_HOSTNAMES = ("[::1]", "a!b", "-a", "-a.c")  # which glibc asks nobody for
SUFFIXES = ("", "", "", ".x", ".x.y", ".x.y.z.u.v")


@dataclass(frozen=True)
class ConfWorld:
    """One getaddrinfo call with this file. `silent`: the nameserver never answers for that name."""

    text: str
    name: str
    request: str
    seed: int

    @property
    def conf(self) -> ResolvConf:
        return parse_resolv_conf(self.text.encode("latin-1"))

    def resolv_conf(self) -> str:
        return self.text

    def _has(self, candidate: str, server: str) -> bool:
        """The names that have addresses there, most of them; the others do not exist."""
        return zlib.crc32(f"{self.seed} {candidate} {server}".encode()) % 3 > 0

    def answers(self, libc: str) -> dict[tuple[str, str, Address], Answer]:
        del libc
        found = {}
        for name in all_candidates(self.name, self.conf):
            for server in all_nameservers(self.conf):
                for qtype in ("A", "AAAA"):
                    found[name, qtype, server] = self._answer(name, qtype, server)
        return found

    def _answer(self, name: str, qtype: str, server: Address) -> Answer:
        if str(server) not in SERVERS:
            return Answer(NoReply.REFUSED, stream=NoReply.REFUSED)
        has = self._has(name, str(server))
        found = (address(_address(name, qtype, str(server))),) if has else ()
        reply = Reply(rcode=NOERROR if has else NXDOMAIN, answers=int(has), addresses=found)
        return Answer(reply, stream=reply, seconds=DELAY * SERVERS.index(str(server)))

    def script(self) -> list[dict[str, Any]]:
        """Answers for what the models ask; whatever else is asked gets an address that no model expects."""
        lines = []
        for server in SERVERS:
            for qtype in ("A", "AAAA"):
                for name in all_candidates(self.name, self.conf):
                    has = self._has(name, server)
                    found = [_address(name, qtype, server)] if has else []
                    lines.append(_line(name, qtype, server, NOERROR if has else NXDOMAIN, found))
                unexpected = ["192.0.2.255" if qtype == "A" else "2001:db8::ffff"]
                lines.append(_line(f"{self.name.partition('.')[0]}.*", qtype, server, NOERROR, unexpected))
        return lines


DELAY = 0.1  # seconds between the nameservers' answers, so that a race has one winner


def _address(name: str, qtype: str, server: str) -> str:
    crc = zlib.crc32(f"{name} {server}".encode())
    return f"198.18.{crc >> 8 & 255}.{crc & 255}" if qtype == "A" else str(address(f"2001:db8:1::{crc & 0xFFFF:x}"))


def _line(name: str, qtype: str, server: str, rcode: int, found: list[str]) -> dict[str, Any]:
    message = {"rcode": rcode, "aa": False, "ra": True, "tc": False, "soa": False, "cname": "", "addresses": found}
    delay = DELAY * SERVERS.index(server)
    return {"name": name, "qtype": qtype, "server": server, "delay": delay, "udp": message, "tcp": message}


def draw_conf(rng: random.Random, index: int) -> ConfWorld:
    lines = [_nameserver(rng) for _ in range(rng.choice((0, 1, 1, 2, 3, 4)))]
    lines += [_search(rng) for _ in range(rng.choice((0, 1, 1, 1, 2)))]
    lines += [_options(rng) for _ in range(rng.choice((0, 1, 1, 2)))]
    lines += rng.sample(NOISE, rng.choice((0, 0, 1)))
    if rng.random() < 0.5:
        rng.shuffle(lines)
    text = "".join(line + rng.choice(ENDS) for line in ["options timeout:1 attempts:1", *lines])
    if rng.random() < 0.1:
        text = text.rstrip("\n")
    name = f"f{index}{rng.choice(SUFFIXES)}"
    if rng.random() < 0.15:
        return ConfWorld(text, rng.choice((*NUMERIC, *NO_HOSTNAMES)), rng.choice(("any", "any", "4", "6")), 0)
    return ConfWorld(text, name, rng.choice(("any", "any", "4", "6")), rng.randrange(2**16))


def _keyword(rng: random.Random, word: str) -> str:
    return rng.choice((*[""] * 14, " ", "#")) + (word if rng.random() < 0.96 else word.upper()) + rng.choice(BETWEEN)


def _nameserver(rng: random.Random) -> str:
    return _keyword(rng, "nameserver") + rng.choice(WRITTEN) + rng.choice(BEHIND)


def _search(rng: random.Random) -> str:
    """Long lines have blanks alone between their words: glibc aborts at a domain of more than 255 octets."""
    words = rng.sample(DOMAINS, rng.choice((0, 1, 1, 2, 2, 3)))
    joined = "".join(f"{word}{rng.choice(BETWEEN).strip(NO_BREAK) or ' '}" for word in words)
    joined = joined if rng.random() < 0.2 else joined.rstrip()
    joined += f" {' '.join(LONG)}" if rng.random() < 0.06 else ""
    return _keyword(rng, rng.choice(("search", "search", "domain"))) + joined


def _options(rng: random.Random) -> str:
    return _keyword(rng, "options") + " ".join(rng.sample(OPTIONS, rng.choice((1, 1, 2, 3))))
