"""DNS messages to and from values: the query of a Question, the Reply in a message. Pure; dnspython is the codec.

Under probes/dns.py. Everything in a reply is foreign: only a Reply, None or Failure(PROTOCOL) comes out. RFC 1035, 6891, 8914.
"""

from __future__ import annotations

import ipaddress
import struct
from typing import TypeAlias

import dns.edns
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rdataclass
import dns.rdatatype
import dns.rrset

from exporter.model.dns import NOERROR, NXDOMAIN, REFUSED, SERVFAIL, Reply
from exporter.model.family import Address
from exporter.model.probe import LookupOutcome, Outcome, Question
from exporter.probes.outcome import Failure, printable

EDNS_PAYLOAD = 1232  # bytes: no fragments on any sane path (DNS flag day 2020)
CHAIN_LIMIT = 16
RECORD_LIMIT = 256  # addresses or names kept of one reply
EDE_LIMIT = 8
HEADER = struct.Struct("!6H")  # id, flags, and the four counts
QR, TC = 0x8000, 0x0200

_RRsets: TypeAlias = dict[tuple[dns.name.Name, dns.rdatatype.RdataType], dns.rrset.RRset]

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
        raise Failure(Outcome.LOCAL, f"no DNS name: {printable(question.name)} ({error})") from error
    if question.edns:
        return dns.message.make_query(name, question.qtype, use_edns=0, payload=EDNS_PAYLOAD)
    return dns.message.make_query(name, question.qtype, use_edns=False)


def read_reply(query: dns.message.Message, wire: bytes) -> Reply | None:
    """The reply in these bytes; None where they are no reply to this query, Failure(PROTOCOL) where they are a broken one.

    A truncated reply may be cut anywhere: it counts by its header alone.
    """
    if len(wire) < HEADER.size:
        return None
    identifier, flags, _, answers, _, additionals = HEADER.unpack_from(wire)
    if identifier != query.id or not flags & QR:
        return None
    try:
        message = dns.message.from_wire(wire, ignore_trailing=True)
    except dns.exception.DNSException as error:
        if flags & TC:
            return Reply(tc=True, answers=answers, additionals=additionals)
        raise Failure(Outcome.PROTOCOL, printable(str(error) or type(error).__name__)) from error
    if not query.is_response(message):
        return None
    return _reduce(query, message, answers=answers, additionals=additionals)


def _reduce(query: dns.message.Message, message: dns.message.Message, *, answers: int, additionals: int) -> Reply:
    rrsets: _RRsets = {(r.name, r.rdtype): r for r in message.answer if r.rdclass == dns.rdataclass.IN}
    owner, chain, lifetimes = _follow(query, rrsets)
    found = rrsets.get((owner, query.question[0].rdtype))
    if found is not None:
        lifetimes.append(found.ttl)
    addresses, names = _data(found) if found is not None else ((), ())
    return Reply(
        rcode=int(message.rcode()),
        aa=bool(message.flags & dns.flags.AA),
        ra=bool(message.flags & dns.flags.RA),
        tc=bool(message.flags & dns.flags.TC),
        answers=answers,
        additionals=additionals,
        addresses=addresses,
        names=names,
        chain=chain,
        soa_authority=any(r.rdtype == dns.rdatatype.SOA for r in message.authority),
        soa_additional=any(r.rdtype == dns.rdatatype.SOA for r in message.additional),
        ede=tuple(int(o.code) for o in message.options if isinstance(o, dns.edns.EDEOption))[:EDE_LIMIT],
        ttl=min(lifetimes, default=None),
        negative_ttl=_negative_ttl(message),
    )


def _negative_ttl(message: dns.message.Message) -> int | None:
    """Seconds for which the message says that there is no record, by the SOA of its authority section (RFC 2308 section 5)."""
    soas = (r for r in message.authority if r.rdtype == dns.rdatatype.SOA and r.rdclass == dns.rdataclass.IN)
    return min((min(soa.ttl, soa[0].minimum) for soa in soas), default=None)


def _follow(query: dns.message.Message, rrsets: _RRsets) -> tuple[dns.name.Name, tuple[str, ...], list[int]]:
    """The name at the end of the CNAME chain, the chain, the lifetimes on the way. A loop ends where it closes."""
    owner, wanted = query.question[0].name, query.question[0].rdtype
    seen = {owner}
    chain: list[str] = []
    lifetimes: list[int] = []
    while (owner, wanted) not in rrsets and len(chain) < CHAIN_LIMIT:
        alias = rrsets.get((owner, dns.rdatatype.CNAME))
        if alias is None:
            break
        owner = alias[0].target
        chain.append(owner.to_text(omit_final_dot=True))
        lifetimes.append(alias.ttl)
        if owner in seen:
            break
        seen.add(owner)
    return owner, tuple(chain), lifetimes


def _data(rrset: dns.rrset.RRset) -> tuple[tuple[Address, ...], tuple[str, ...]]:
    """Addresses of A and AAAA (one may be IPv4-mapped: it is shown as it came), names of MX and PTR."""
    records = list(rrset)[:RECORD_LIMIT]
    if rrset.rdtype in {dns.rdatatype.A, dns.rdatatype.AAAA}:
        return tuple(ipaddress.ip_address(r.address) for r in records), ()
    if rrset.rdtype == dns.rdatatype.MX:
        return (), tuple(r.exchange.to_text(omit_final_dot=True) for r in records)
    if rrset.rdtype == dns.rdatatype.PTR:
        return (), tuple(r.target.to_text(omit_final_dot=True) for r in records)
    return (), ()


def judge(reply: Reply) -> LookupOutcome:
    """NOERROR without a record of the asked type at the chain's end is `nodata`, whatever else it holds."""
    if reply.rcode == NOERROR:
        return LookupOutcome.ANSWER if reply.addresses or reply.names else LookupOutcome.NODATA
    return RCODES.get(reply.rcode, LookupOutcome.RCODE)
