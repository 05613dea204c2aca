"""DNS replies made to cost their reader time, and what dnspython makes of honest ones."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from ipaddress import ip_address

import dns.edns
import dns.flags
import dns.message
import dns.name
import dns.rdataclass
import dns.rdatatype

from exporter.model.dns import Reply
from exporter.probes.dns_reply import Query

A, CNAME, RP, TXT, MX, AAAA = 1, 5, 17, 16, 15, 28
DEEP = (
    b"".join(b"\1" + bytes([97 + i % 26]) for i in range(126)) + b"\0"
)  # a name of 126 labels, one of them the asked name's
OWNER = b"\xc0\x0c"  # a pointer to the name in the question


def record(owner: bytes, kind: int, data: bytes) -> bytes:
    return owner + struct.pack("!HHIH", kind, 1, 60, len(data)) + data


def pointer(at: int) -> bytes:
    return struct.pack("!H", 0xC000 | at)


def reply(query: bytes, answers: bytes, *, count: int, questions: int = 1) -> bytes:
    """A reply to this query, made without EDNS, with these answer records."""
    return query[:2] + struct.pack("!5H", 0x8180, questions, count, 0, 0) + query[12:] + answers


def _filled(query: bytes, size: int, make: Callable[[int, int], bytes]) -> bytes:
    """As many records as fit. `make`: one of them, by its number and where it begins."""
    answers = bytearray()
    count = 0
    while len(query) + len(answers) < size - 600:
        answers += make(count, len(query) + len(answers))
        count += 1
    return reply(query, bytes(answers), count=count)


def deep_names(query: bytes, size: int, kind: int = CNAME) -> bytes:
    """Every record's data is a name of 126 labels, by a pointer to the first one."""
    first = len(query) + 12  # behind the first record's fixed part
    prefix = b"\0\1" if kind == MX else b""
    return _filled(
        query,
        size,
        lambda n, _: record(
            OWNER, kind, prefix + (DEEP if n == 0 else pointer(first + len(prefix))) * (1 + (kind == RP))
        ),
    )


def distinct_names(query: bytes, size: int, kind: int = CNAME) -> bytes:
    """Every record's owner and data lead to another place in a name of 126 labels."""
    first = len(query)

    def make(number: int, _: int) -> bytes:
        if not number:
            return record(DEEP, kind, OWNER)
        inside = pointer(first + 2 * (number % 100))
        return record(inside, kind, b"\2" + struct.pack("!H", number) + inside)

    return _filled(query, size, make)


def growing_names(query: bytes, size: int) -> bytes:
    """Every name is one label and a pointer to the name before it; it starts anew before it would be too long."""
    last = [12]

    def make(number: int, at: int) -> bytes:
        owner = b"\1z" + pointer(12 if number % 100 == 0 else last[0])
        last[0] = at
        return record(owner, CNAME, OWNER)

    return _filled(query, size, make)


def labels_in_text(query: bytes, size: int) -> bytes:
    """A record that nobody asked for is full of labels, and the others' names lead into it."""
    begin = len(query) + 12
    blob = (b"\1a" * 120 + b"\0") * 20

    def make(number: int, _: int) -> bytes:
        if not number:
            return record(OWNER, TXT, blob)
        return record(pointer(begin + (2 * number) % 240 + 241 * (number % 20)), CNAME, OWNER)

    return _filled(query, size, make)


def odd_characters(query: bytes, size: int, kind: int = MX) -> bytes:
    """The longest names, every octet of which has to be escaped."""
    prefix = b"\0\1" if kind == MX else b""
    name = (b"\x3f" + b"\xff" * 63) * 3 + b"\x35" + b"\xff" * 53 + b"\0"
    first = len(query) + 12 + len(prefix)
    return _filled(
        query,
        size,
        lambda n, _: record(
            OWNER, kind, prefix + (name if n == 0 else b"\3\xff" + struct.pack("!H", n) + pointer(first))
        ),
    )


def alias_chain(query: bytes, size: int) -> bytes:
    """Every record is the alias of the one before, without an end."""

    def name(number: int) -> bytes:
        return b"\4" + struct.pack("!HH", number, number) + OWNER

    return _filled(query, size, lambda n, _: record(OWNER if n == 0 else name(n), CNAME, name(n + 1)))


def many_edns(query: bytes, size: int) -> bytes:
    """As many OPT records as fit."""
    count = min(0xFFFF, (size - len(query)) // 11)
    head = query[:2] + struct.pack("!5H", 0x8180, 1, 0, 0, count)
    return head + query[12:] + (b"\0" + struct.pack("!HHIH", 41, 1232, 0, 0)) * count


def addresses(query: bytes, size: int, kind: int = AAAA) -> bytes:
    """An honest one: all addresses that it can hold."""
    length = {A: 4, AAAA: 16}[kind]
    return _filled(query, size, lambda n, _: record(OWNER, kind, n.to_bytes(length, "big")))


def questions_alone(query: bytes, size: int) -> bytes:
    asked = query[12:]
    count = (size - len(query)) // 8
    more = b"".join(b"\1a" + OWNER + struct.pack("!HH", 1, 1) for _ in range(count))
    return reply(query, more, count=0, questions=count + 1)[: len(query) + len(more)] if asked else b""


def many_options(query: bytes, size: int) -> bytes:
    """An OPT record of nothing but extended errors."""
    options = struct.pack("!HHH", 15, 2, 17) * ((size - len(query) - 11) // 6)
    head = query[:2] + struct.pack("!5H", 0x8180, 1, 0, 0, 1)
    return head + query[12:] + b"\0" + struct.pack("!HHIH", 41, 1232, 0, len(options)) + options


HOSTILE: dict[str, Callable[[bytes, int], bytes]] = {
    "names of CNAME": deep_names,
    "names of RP": lambda query, size: deep_names(query, size, RP),
    "names of MX": lambda query, size: deep_names(query, size, MX),
    "questions": questions_alone,
    "distinct names": distinct_names,
    "growing names": growing_names,
    "labels in text": labels_in_text,
    "odd characters": odd_characters,
    "many options": many_options,
    "alias chain": alias_chain,
    "many OPT records": many_edns,
    "addresses": addresses,
    "zeros": lambda query,
    size: query[:2] + struct.pack("!5H", 0x8180, 1, 1024, 0, 0) + query[12:] + bytes(size - len(query)),
    "pointers": lambda query,
    size: query[:2] + struct.pack("!5H", 0x8180, 1, 1024, 0, 0) + query[12:] + OWNER * ((size - len(query)) // 2),
}  # fmt: skip


def as_asked(query: dns.message.Message) -> Query:
    """A query of dnspython as one of ours."""
    (asked,) = query.question
    return Query(query.id, query.to_wire(), asked.name.to_digestable(), int(asked.rdtype), query.edns >= 0)


def as_dnspython_reads(query: dns.message.Message, wire: bytes) -> Reply | None:
    """The reply as dnspython decodes it; it raises for a broken one."""
    _, _, _, answers, _, additionals = struct.unpack_from("!6H", wire)
    message = dns.message.from_wire(wire, ignore_trailing=True)
    if not query.is_response(message):
        return None
    sets = {(r.name, r.rdtype): r for r in message.answer if r.rdclass == dns.rdataclass.IN}
    owner, wanted = query.question[0].name, query.question[0].rdtype
    chain: list[dns.name.Name] = []
    lifetimes = []
    while (owner, wanted) not in sets and (owner, dns.rdatatype.CNAME) in sets and len(chain) < 16:
        alias = sets[owner, dns.rdatatype.CNAME]
        lifetimes.append(alias.ttl)
        seen = [query.question[0].name, *chain]
        owner = alias[0].target
        chain.append(owner)
        if owner in seen:
            break
    found = sets.get((owner, wanted))
    records = list(found or ())
    lifetimes += [found.ttl] if found is not None else []
    return Reply(
        rcode=int(message.rcode()),
        aa=bool(message.flags & dns.flags.AA),
        ra=bool(message.flags & dns.flags.RA),
        tc=bool(message.flags & dns.flags.TC),
        answers=answers,
        additionals=additionals,
        addresses=tuple(ip_address(r.address) for r in records if hasattr(r, "address"))[:256],
        names=tuple(_names(records))[:64],
        chain=tuple(name.to_text(omit_final_dot=True) for name in chain),
        soa_authority=any(r.rdtype == dns.rdatatype.SOA for r in message.authority),
        soa_additional=any(r.rdtype == dns.rdatatype.SOA for r in message.additional),
        ede=tuple(int(o.code) for o in message.options if isinstance(o, dns.edns.EDEOption))[:8],
        ttl=min(lifetimes, default=None),
        negative_ttl=min(
            (min(s.ttl, s[0].minimum) for s in message.authority if s.rdtype == dns.rdatatype.SOA), default=None
        ),
    )


def _names(records: list[object]) -> Iterator[str]:
    for each in records:
        name = getattr(each, "exchange", None) or getattr(each, "target", None)
        if name is not None:
            yield name.to_text(omit_final_dot=True)
