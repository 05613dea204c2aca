"""DNS messages to and from values: the query of a Question, the Reply in a message. Pure; dnspython reads the name.

Under probes/dns.py. Everything in a reply is foreign: the result is a Reply, None or PhaseError(PROTOCOL), and no reply
costs more than some milliseconds. dnspython would expand every name in it, which takes half a minute for 64 KiB. RFC
1035, 6891, 8914.
"""

from __future__ import annotations

import ipaddress
import secrets
import struct
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from itertools import islice
from typing import NamedTuple, TypeAlias

import dns.exception
import dns.name
import dns.rdatatype
from dns import flags
from dns.edns import EDE

from exporter.model.dns import FORMERR, NOERROR, NOTIMP, NXDOMAIN, REFUSED, SERVFAIL, Reply
from exporter.model.family import Address
from exporter.model.probe import LookupOutcome, Outcome, Question
from exporter.probes.dns_wire import MAX_RECORDS, ROOT, MalformedMessageError, MessageReader, Record
from exporter.probes.outcome import PhaseError, printable

EDNS_PAYLOAD = 1232  # bytes: no fragments on any sane path (DNS flag day 2020)
MAX_REPLY = 16384  # bytes: a Service with several hundred addresses
CHAIN_LIMIT = 16
RECORD_LIMIT = 256  # addresses kept of one reply
NAME_LIMIT = 64  # MX or PTR records read of one reply
EDE_LIMIT = 8
HEADER = struct.Struct("!6H")  # id, flags, and the four counts
# As plain numbers: dnspython's enumerations are slow to compare and to hash.
AA, QR, RA, RD, TC = map(int, (flags.AA, flags.QR, flags.RA, flags.RD, flags.TC))
A, AAAA, CNAME, DNAME, MX, OPT, PTR, RRSIG, SOA = (
    int(dns.rdatatype.from_text(each)) for each in ["A", "AAAA", "CNAME", "DNAME", "MX", "OPT", "PTR", "RRSIG", "SOA"]
)
IN = 1
OPT_RECORD = struct.pack("!BHHIH", 0, OPT, EDNS_PAYLOAD, 0, 0)
OPCODE, RCODE = 0x7800, 0x000F  # bits of the flags
CHARACTERS = {octet: dns.name.Name([bytes([octet])]).to_text() for octet in range(256)}  # with what dnspython escapes
LENGTHS: Mapping[int, int] = {A: 4, AAAA: 16}
QUESTION_MAY_LACK = {FORMERR, SERVFAIL, NOTIMP, REFUSED}  # from a server that did not read the query

RCODES = {NXDOMAIN: LookupOutcome.NXDOMAIN, SERVFAIL: LookupOutcome.SERVFAIL, REFUSED: LookupOutcome.REFUSED}


class Query(NamedTuple):
    """A query as it is sent, and what a reply must repeat of it: the id, the name in lower case, the type."""

    identifier: int
    wire: bytes
    name: bytes
    kind: int
    edns: bool


def build_query(question: Question, *, edns: bool, identifier: int | None = None) -> Query:
    """A query with a random id, recursion desired. PhaseError(LOCAL) if a long search domain makes the name invalid."""
    if identifier is None:
        identifier = int.from_bytes(secrets.token_bytes(2), "big")
    rest, name, kind = _query_but_id(question.name, question.qtype, edns)
    return Query(identifier, identifier.to_bytes(2, "big") + rest, name, kind, edns)


@lru_cache(1024)
def _query_but_id(text: str, qtype: str, edns: bool) -> tuple[bytes, bytes, int]:
    try:
        name = dns.name.from_text(text)
    except (dns.exception.DNSException, UnicodeError) as error:
        raise PhaseError(Outcome.LOCAL, f"no DNS name: {printable(text)} ({error})") from error
    kind = int(dns.rdatatype.from_text(qtype))
    wire = HEADER.pack(0, RD, 1, 0, 0, edns) + (name.to_wire() or b"") + struct.pack("!HH", kind, IN)
    return (wire + OPT_RECORD * edns)[2:], name.to_digestable(), kind


def read_reply(query: Query, wire: bytes, *, limit: int = MAX_REPLY) -> Reply | None:
    """The reply in these bytes; None if they are no reply to this query, PhaseError if it is malformed or too large."""
    if len(wire) < HEADER.size:
        return None
    header = _Header(*HEADER.unpack_from(wire))
    if header.identifier != query.identifier or not header.flags & QR or header.flags & OPCODE:
        return None
    if len(wire) > limit:
        raise PhaseError(Outcome.PROTOCOL, f"a reply of more than {limit} bytes")
    try:
        return _read(query.name, query.kind, wire[2:])
    except MalformedMessageError as error:
        if header.flags & TC:  # a truncated reply may be cut anywhere: only its header counts
            return Reply(tc=True, answers=header.answers, additionals=header.additionals)
        raise PhaseError(Outcome.PROTOCOL, str(error)) from error


class _Header(NamedTuple):
    identifier: int
    flags: int
    questions: int
    answers: int
    authorities: int
    additionals: int


_Sets: TypeAlias = dict[tuple[bytes, int], list[Record]]  # by owner, in lower case, and type


@lru_cache(128)
def _read(asked: bytes, wanted: int, wire_but_id: bytes) -> Reply | None:
    """Kept for a while: many pods are told the same."""
    wire = bytes(2) + wire_but_id
    header = _Header(*HEADER.unpack_from(wire))
    records = header.answers + header.authorities + header.additionals
    if records > MAX_RECORDS:
        raise MalformedMessageError(f"{records} records, more than {MAX_RECORDS}")
    if header.questions > 1:
        raise MalformedMessageError("more than one question")
    reader = MessageReader(wire, HEADER.size)
    if header.questions:
        name, kind, rdclass = reader.question()
        if (name.lower(), kind, rdclass) != (asked, wanted, IN):
            return None
    answer = list(reader.records(header.answers))
    sets = _sets(answer, {wanted, CNAME})
    authority = list(reader.records(header.authorities))
    additional = list(reader.records(header.additionals))
    extended, ede = _edns(reader, additional)
    rcode = header.flags & RCODE | extended
    if not header.questions and rcode not in QUESTION_MAY_LACK:
        return None
    owner, chain, lifetimes = _follow(reader, asked, wanted, sets)
    found = sets.get((owner, wanted), [])
    lifetimes += [record.lifetime for record in found]
    addresses, names = _data(reader, wanted, found)
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
        extras=sum(r.kind in {DNAME, RRSIG} for r in answer),
        soa_authority=any(r.kind == SOA for r in authority),
        soa_additional=any(r.kind == SOA for r in additional),
        ede=ede,
        ttl=min(lifetimes, default=None),
        negative_ttl=min((reader.negative_ttl(r) for r in authority if (r.kind, r.rdclass) == (SOA, IN)), default=None),
    )


def _sets(answer: Iterable[Record], kinds: set[int]) -> _Sets:
    sets: _Sets = {}
    for record in answer:
        if record.kind == OPT:
            raise MalformedMessageError("an OPT record in the answer")
        if record.kind in kinds and record.rdclass == IN:
            sets.setdefault((record.owner.lower(), record.kind), []).append(record)
    return sets


def _edns(reader: MessageReader, additional: Iterable[Record]) -> tuple[int, tuple[int, ...]]:
    """The upper bits of the response code, and the extended errors."""
    found = [record for record in additional if record.kind == OPT]
    if not found:
        return 0, ()
    if len(found) > 1 or found[0].owner != ROOT:
        raise MalformedMessageError("more than one OPT record, or one with a name")
    codes: list[int] = []
    for code, data in reader.options(found[0]):
        if code == EDE:
            if len(data) < 2:
                raise MalformedMessageError("an extended error without a code")
            codes.append(int.from_bytes(data[:2], "big"))
    return found[0].ttl >> 24 << 4, tuple(codes[:EDE_LIMIT])


def _follow(reader: MessageReader, asked: bytes, wanted: int, sets: _Sets) -> tuple[bytes, tuple[str, ...], list[int]]:
    """The name at the end of the CNAME chain, the chain, and its lifetimes. A loop ends where it closes.

    Of several CNAMEs of one owner the last one counts.
    """
    owner = asked
    seen = {owner}
    chain: list[str] = []
    lifetimes: list[int] = []
    while (owner, wanted) not in sets and len(chain) < CHAIN_LIMIT:
        aliases = sets.get((owner, CNAME))
        if not aliases:
            break
        target, _ = reader.target(aliases[-1])
        owner = target.lower()
        chain.append(_text(target))
        lifetimes.append(min(alias.lifetime for alias in aliases))
        if owner in seen:
            break
        seen.add(owner)
    return owner, tuple(chain), lifetimes


_address = lru_cache(4096)(ipaddress.ip_address)  # the same names are asked again and again


def _data(reader: MessageReader, wanted: int, found: Sequence[Record]) -> tuple[tuple[Address, ...], tuple[str, ...]]:
    """Addresses of A and AAAA (an IPv4-mapped one as it came), names of MX and PTR, in order and each once."""
    if wanted in LENGTHS:
        addresses = dict.fromkeys(reader.data(record, LENGTHS[wanted]) for record in found)
        return tuple(map(_address, islice(addresses, RECORD_LIMIT))), ()
    if wanted not in {MX, PTR}:
        return (), ()
    names: dict[bytes, bytes] = {}  # by what makes two records equal
    for record in found[:NAME_LIMIT]:
        target, preference = reader.target(record)
        names.setdefault(preference + target.lower(), target)
    return (), tuple(map(_text, names.values()))


def _text(name: bytes) -> str:
    """A name's presentation (RFC 1035 section 5.1), without the final dot unless it is the root."""
    labels, at = [], 0
    while length := name[at]:
        labels.append(name[at + 1 : at + 1 + length].decode("latin-1").translate(CHARACTERS))
        at += 1 + length
    return ".".join(labels) or "."


def judge(reply: Reply) -> LookupOutcome:
    """NOERROR without a record of the asked type at the chain's end is `nodata`, whatever else it contains."""
    if reply.rcode == NOERROR:
        return LookupOutcome.ANSWER if reply.addresses or reply.names else LookupOutcome.NODATA
    return RCODES.get(reply.rcode, LookupOutcome.RCODE)
