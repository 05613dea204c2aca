"""DNS messages to and from values: the query of a Question, the Reply in a message. Pure; dnspython makes the query.

Under probes/dns.py. Everything in a reply is foreign: only a Reply, None or Failure(PROTOCOL) comes out, and no reply
costs more than some milliseconds: dnspython would unfold every name of it, which takes half a minute for 64 KiB. RFC
1035, 6891, 8914.
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TypeAlias

import dns.exception
import dns.message
import dns.name

from exporter.model.dns import FORMERR, NOERROR, NOTIMP, NXDOMAIN, REFUSED, SERVFAIL, Reply
from exporter.model.family import Address
from exporter.model.probe import LookupOutcome, Outcome, Question
from exporter.probes.dns_wire import (
    AAAA,
    CNAME,
    IN,
    MAX_RECORDS,
    MX,
    OPT,
    PTR,
    ROOT,
    SOA,
    A,
    MalformedMessageError,
    MessageReader,
    Record,
)
from exporter.probes.outcome import PhaseError, printable

EDNS_PAYLOAD = 1232  # bytes: no fragments on any sane path (DNS flag day 2020)
MAX_REPLY = 16384  # bytes: a Service with several hundred addresses
CHAIN_LIMIT = 16
RECORD_LIMIT = 256  # addresses kept of one reply
NAME_LIMIT = 64  # names of MX or PTR records kept of one reply
EDE_LIMIT = 8
HEADER = struct.Struct("!6H")  # id, flags, and the four counts
CODE = struct.Struct("!H")  # of an extended error
QR, AA, TC, RA, OPCODE, RCODE = 0x8000, 0x0400, 0x0200, 0x0080, 0x7800, 0x000F
EDE = 15  # the option's code, RFC 8914
LENGTHS = {A: 4, AAAA: 16}
QUESTION_MAY_LACK = {FORMERR, SERVFAIL, NOTIMP, REFUSED}  # from a server that did not read the query

RCODES = {
    NXDOMAIN: LookupOutcome.NXDOMAIN,
    SERVFAIL: LookupOutcome.SERVFAIL,
    REFUSED: LookupOutcome.REFUSED,
}


def build_query(question: Question) -> dns.message.Message:
    """A query with a random id, recursion desired. Failure(LOCAL) for what is no DNS name: a long search domain makes some."""
    try:
        name = dns.name.from_text(question.name)
    except (dns.exception.DNSException, UnicodeError) as error:
        raise PhaseError(Outcome.LOCAL, f"no DNS name: {printable(question.name)} ({error})") from error
    if question.edns:
        return dns.message.make_query(name, question.qtype, use_edns=0, payload=EDNS_PAYLOAD)
    return dns.message.make_query(name, question.qtype, use_edns=False)


def read_reply(query: dns.message.Message, wire: bytes, *, limit: int = MAX_REPLY) -> Reply | None:
    """The reply in these bytes; None where they are no reply to this query, Failure(PROTOCOL) where they are a broken one.

    So is one of more than `limit` bytes.

    A truncated reply may be cut anywhere: it counts by its header alone.
    """
    if len(wire) < HEADER.size:
        return None
    header = _Header(*HEADER.unpack_from(wire))
    if header.identifier != query.id or not header.flags & QR or header.flags & OPCODE:
        return None
    if len(wire) > limit:
        raise PhaseError(Outcome.PROTOCOL, too_large(limit))
    try:
        return _read(query, wire, header)
    except MalformedMessageError as error:
        if header.flags & TC:
            return Reply(tc=True, answers=header.answers, additionals=header.additionals)
        raise PhaseError(Outcome.PROTOCOL, str(error)) from error


def too_large(limit: int) -> str:
    """The detail of a reply that is not read."""
    return f"a reply of more than {limit} bytes"


@dataclass(frozen=True, slots=True)
class _Header:
    identifier: int
    flags: int
    questions: int
    answers: int
    authorities: int
    additionals: int

    @property
    def records(self) -> int:
        return self.answers + self.authorities + self.additionals


@dataclass(slots=True)
class _Set:
    """The records of one owner and type: the shortest lifetime of them, and their data in order, each once."""

    ttl: int
    data: dict[bytes, bytes] = field(default_factory=dict)  # by what makes two of them equal


_Sets: TypeAlias = dict[tuple[bytes, int], _Set]


def _read(query: dns.message.Message, wire: bytes, header: _Header) -> Reply | None:
    if header.records > MAX_RECORDS:
        raise MalformedMessageError(f"{header.records} records, more than {MAX_RECORDS}")
    if header.questions > 1:
        raise MalformedMessageError("more than one question")
    walk = MessageReader(wire, HEADER.size)
    asked, wanted = query.question[0].name.to_digestable(), int(query.question[0].rdtype)
    if header.questions:
        name, kind, rdclass = walk.question()
        if (name.lower(), kind, rdclass) != (asked, wanted, IN):
            return None
    sets = _sets(walk, list(walk.records(header.answers)), {wanted, CNAME})
    authority = list(walk.records(header.authorities))
    additional = list(walk.records(header.additionals))
    extended, ede = _edns(walk, additional)
    rcode = header.flags & RCODE | extended
    if not header.questions and rcode not in QUESTION_MAY_LACK:
        return None
    owner, chain, lifetimes = _follow(asked, wanted, sets)
    found = sets.get((owner, wanted))
    if found is not None:
        lifetimes.append(found.ttl)
    addresses, names = _data(wanted, found) if found is not None else ((), ())
    return Reply(
        rcode=rcode,
        aa=bool(header.flags & AA),
        ra=bool(header.flags & RA),
        tc=bool(header.flags & TC),
        answers=header.answers,
        additionals=header.additionals,
        addresses=addresses,
        names=names,
        chain=chain,
        soa_authority=any(r.kind == SOA for r in authority),
        soa_additional=any(r.kind == SOA for r in additional),
        ede=ede,
        ttl=min(lifetimes, default=None),
        negative_ttl=min((walk.negative_ttl(r) for r in authority if (r.kind, r.rdclass) == (SOA, IN)), default=None),
    )


def _sets(walk: MessageReader, answer: Iterable[Record], kinds: set[int]) -> _Sets:
    """The records of these types, by owner in lower case and type. Of several CNAMEs of one owner the last counts."""
    sets: _Sets = {}
    for record in answer:
        if record.kind == OPT:
            raise MalformedMessageError("an OPT record in the answer")
        if record.rdclass != IN or record.kind not in kinds:
            continue
        key = record.owner.lower(), record.kind
        held = sets.setdefault(key, _Set(record.lifetime))
        held.ttl = min(held.ttl, record.lifetime)
        identity, value = _value(walk, record)
        if record.kind == CNAME:
            held.data.clear()
        held.data.setdefault(identity, value)
    return sets


def _value(walk: MessageReader, record: Record) -> tuple[bytes, bytes]:
    """A record's address or name, and what makes it equal to another one."""
    if record.kind in LENGTHS:
        address = walk.data(record, LENGTHS[record.kind])
        return address, address
    if record.kind not in {CNAME, MX, PTR}:
        return b"", b""
    target = walk.target(record)
    return walk.preference(record) + target.lower(), target


def _edns(walk: MessageReader, additional: Iterable[Record]) -> tuple[int, tuple[int, ...]]:
    """The upper bits of the response code, and the extended errors."""
    found = [record for record in additional if record.kind == OPT]
    if not found:
        return 0, ()
    if len(found) > 1 or found[0].owner != ROOT:
        raise MalformedMessageError("an OPT record that is not as it should be")
    codes: list[int] = []
    for code, data in walk.options(found[0]):
        if code == EDE:
            if len(data) < CODE.size:
                raise MalformedMessageError("an extended error without a code")
            codes.append(CODE.unpack_from(data)[0])
    return found[0].ttl >> 24 << 4, tuple(codes[:EDE_LIMIT])


def _follow(asked: bytes, wanted: int, sets: _Sets) -> tuple[bytes, tuple[str, ...], list[int]]:
    """The name at the end of the CNAME chain, the chain, the lifetimes on the way. A loop ends where it closes."""
    owner = asked
    seen = {owner}
    chain: list[str] = []
    lifetimes: list[int] = []
    while (owner, wanted) not in sets and len(chain) < CHAIN_LIMIT:
        alias = sets.get((owner, CNAME))
        if alias is None:
            break
        (target,) = alias.data.values()
        owner = target.lower()
        chain.append(_text(target))
        lifetimes.append(alias.ttl)
        if owner in seen:
            break
        seen.add(owner)
    return owner, tuple(chain), lifetimes


def _data(wanted: int, found: _Set) -> tuple[tuple[Address, ...], tuple[str, ...]]:
    """Addresses of A and AAAA (one may be IPv4-mapped: it is shown as it came), names of MX and PTR."""
    records = list(found.data.values())
    if wanted in LENGTHS:
        return tuple(map(ipaddress.ip_address, records[:RECORD_LIMIT])), ()
    return (), tuple(map(_text, records[:NAME_LIMIT])) if wanted in {MX, PTR} else ()


def _text(name: bytes) -> str:
    """A name's presentation (RFC 1035 section 5.1), without the final dot unless it is the root."""
    labels: list[str] = []
    at = 0
    while length := name[at]:
        labels.append(name[at + 1 : at + 1 + length].decode("latin-1").translate(_ESCAPED))
        at += 1 + length
    return ".".join(labels) or "."


_ESCAPED = {
    c: f"\\{chr(c)}" if chr(c) in '"().;\\@$' else f"\\{c:03d}"
    for c in range(256)
    if chr(c) in '"().;\\@$' or not 0x20 < c < 0x7F
}


def judge(reply: Reply) -> LookupOutcome:
    """NOERROR without a record of the asked type at the chain's end is `nodata`, whatever else it holds."""
    if reply.rcode == NOERROR:
        return LookupOutcome.ANSWER if reply.addresses or reply.names else LookupOutcome.NODATA
    return RCODES.get(reply.rcode, LookupOutcome.RCODE)
