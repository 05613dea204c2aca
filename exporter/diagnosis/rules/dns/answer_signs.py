"""What one nameserver's answers to one place in one round say about a withheld record type, name by name. Under aaaa.py; pure.

A sign is an observation that an honest resolver does not give, or gives only for a stated innocent reason; whether it
suffices is decided in aaaa.py, over two rounds and several names. The rules are those measured on CoreDNS, BIND,
unbound and dnsmasq.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import IPv6Network

from exporter.model.dns import NOERROR, NXDOMAIN, REFUSED, SERVFAIL, Reply
from exporter.model.dns_name import casefold, is_within, zone
from exporter.model.family import Address
from exporter.model.probe import Lookup, LookupOutcome

DNS64_NAME = "ipv4only.arpa"  # has A alone, by RFC 7050; its zone's servers are above doubt
DNS64_PREFIX = IPv6Network("64:ff9b::/96")  # RFC 6052
FILTERED_EDE = frozenset({15, 16, 17})  # Blocked, Censored, Filtered (RFC 8914)
RANDOM = "random"
OTHER = {"A": "AAAA", "AAAA": "A"}
ERRORS = {LookupOutcome.REFUSED: "refused", LookupOutcome.RCODE: "refused", LookupOutcome.SERVFAIL: "servfail"}


class AnswerSign(StrEnum):
    """What a pair of answers shows; the first seven are named like the kinds that they may become."""

    BLANKET_NODATA = "blanket_nodata"
    BLANKET_NXDOMAIN = "blanket_nxdomain"
    FILTERED = "filtered"
    REFUSED = "refused"
    SERVFAIL = "servfail"
    DROPPED = "dropped"
    SINKHOLE = "sinkhole"
    MARKED = "marked"  # an extended error says filtered, nothing else does
    DNS64 = "dns64"
    SERVED = "served"  # a real address
    ABSENT = "absent"  # a proper negative answer
    UNCLEAR = "unclear"


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """A sign, about which name (a random one is named by its parent, so that it stays the same when the label turns), and why."""

    sign: AnswerSign
    name: str
    text: str
    random: bool = False
    contradicts: bool = False  # the other type's answer says that there is no such name (RFC 8020)


@dataclass(frozen=True, slots=True)
class KnownRecords:
    """What is known of names from elsewhere: name -> types that it has.

    `stated` is beyond doubt (the API, or a reference resolver that agrees on the other type); `expected` is the
    operator's word.
    """

    domain: str = ""  # the cluster's
    stated: Mapping[str, frozenset[str]] = field(default_factory=dict)
    expected: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def inside(self, name: str) -> bool:
        """Whether the name lies in the cluster's domain, where no foreign server has a say."""
        return is_within(name, self.domain)


def read_signs(lookups: Iterable[Lookup], qtype: str) -> Iterator[Evidence]:
    """The signs in one place's answers from one server about records of `qtype` (A or AAAA)."""
    asked: dict[str, dict[str, Lookup]] = {}
    random, signed = set(), set()
    for lookup in lookups:
        name = casefold(lookup.question.name)
        asked.setdefault(name, {})[lookup.question.qtype] = lookup
        if lookup.question.label == RANDOM:
            random.add(name)
        if lookup.reply is not None and not lookup.reply.answers and lookup.reply.soa_authority:
            signed.add(zone(name))
    for name, answers in asked.items():
        own, other = answers.get(qtype), answers.get(OTHER[qtype])
        if own is None:
            continue
        if name == DNS64_NAME and qtype == "AAAA" and (other is None or _served(own)):
            yield _dns64(own)
        elif name in random:
            sign, why = _random_sign(own, other)
            yield Evidence(
                sign=sign,
                name=f"{RANDOM}.{name.partition('.')[2]}",
                text=f"{name}: {_pair(own, other)}{why}",
                random=True,
                contradicts=_missing(other),
            )
        else:
            base = answers.get("MX")
            sign, why = _sign(own, other, base, signed=zone(name) in signed)
            yield Evidence(sign=sign, name=name, text=f"{name}: {_pair(own, other, base)}{why}")


def _dns64(own: Lookup) -> Evidence:
    """ipv4only.arpa has no AAAA: one that comes is synthesised, unless it is the unspecified address."""
    reply = own.reply
    if reply is not None and not reply.answers and reply.rcode == NOERROR and reply.soa_authority:
        return Evidence(sign=AnswerSign.ABSENT, name=DNS64_NAME, text=f"{DNS64_NAME}: AAAA {describe(own)}")
    if reply is None or not reply.addresses:
        return Evidence(sign=AnswerSign.UNCLEAR, name=DNS64_NAME, text=f"{DNS64_NAME}: AAAA {describe(own)}")
    sign = AnswerSign.SINKHOLE if _unspecified(reply) else AnswerSign.DNS64
    return Evidence(sign=sign, name=DNS64_NAME, text=f"{DNS64_NAME}: AAAA {describe(own)}")


def _random_sign(own: Lookup, other: Lookup | None) -> tuple[AnswerSign, str]:
    """A name that exists nowhere: NXDOMAIN is a name's, not a type's (RFC 8020), so both types must say it."""
    if other is None:
        return AnswerSign.UNCLEAR, ""
    if own.reply is not None and own.reply.rcode == NOERROR:
        if own.reply.addresses:
            return (
                (AnswerSign.SINKHOLE, "")
                if _unspecified(own.reply)
                else (AnswerSign.UNCLEAR, ", a wildcard's, perhaps")
            )
        if _missing(other):
            return AnswerSign.BLANKET_NODATA, "; a name is missing for all types or for none"
    return _error(own, other, None), ""


def _sign(own: Lookup, other: Lookup | None, base: Lookup | None, *, signed: bool) -> tuple[AnswerSign, str]:
    reply = own.reply
    if reply is None or reply.rcode not in {NOERROR, NXDOMAIN}:
        return _error(own, other, base), ""
    if reply.addresses:
        return _positive(own, other), ""
    if other is None or other.reply is None or not _data(other.reply):
        return (
            AnswerSign.ABSENT
            if other is not None and reply.rcode == NOERROR and reply.soa_authority
            else AnswerSign.UNCLEAR
        ), ""
    if reply.rcode == NXDOMAIN:
        return AnswerSign.BLANKET_NXDOMAIN, "; a name is missing for all types or for none"
    if base is not None and base.reply is not None and not base.reply.names:
        signed = base.reply.rcode == NOERROR and base.reply.soa_authority and not base.reply.chain
    return _negative(reply, other.reply, signed=signed)


def _positive(own: Lookup, other: Lookup | None) -> AnswerSign:
    assert own.reply is not None
    if _unspecified(own.reply):
        return AnswerSign.SINKHOLE
    known = {int(a) for a in other.reply.addresses} if other is not None and other.reply is not None else set()
    if own.question.qtype == "AAAA" and all(_synthesised(a, known) for a in own.reply.addresses):
        return AnswerSign.DNS64
    return AnswerSign.SERVED


def _negative(reply: Reply, other: Reply, *, signed: bool) -> tuple[AnswerSign, str]:
    """NOERROR without an address for a name that has one of the other type; `signed`: with an SOA this server's negatives come."""
    if reply.soa_additional and not reply.soa_authority:
        return AnswerSign.FILTERED, "; the SOA of a response policy zone stands in the additional section"
    if reply.answers > len(reply.chain):
        return AnswerSign.FILTERED, "; records of another type came in its place"
    marked = FILTERED_EDE & set(reply.ede) and not FILTERED_EDE & set(other.ede)
    if reply.soa_authority:
        return (AnswerSign.MARKED, "") if marked else (AnswerSign.ABSENT, "")
    if signed:
        return AnswerSign.FILTERED, "; the SOA that this server gives with a negative answer is gone"
    return (AnswerSign.MARKED, "") if marked else (AnswerSign.UNCLEAR, "")


def _error(own: Lookup, other: Lookup | None, base: Lookup | None) -> AnswerSign:
    """No usable answer for this type alone: the other type's, and the baseline's where it was asked, must be fine."""
    if other is None or not _fine(other) or (base is not None and not _fine(base)):
        return AnswerSign.UNCLEAR
    if own.outcome is LookupOutcome.TIMEOUT and not own.truncated:
        return AnswerSign.DROPPED
    return AnswerSign(ERRORS.get(own.outcome, AnswerSign.UNCLEAR))


def _fine(lookup: Lookup) -> bool:
    """Whether this is an answer that tells something: data, NXDOMAIN, or a negative one with its SOA."""
    reply = lookup.reply
    return reply is not None and (
        reply.rcode == NXDOMAIN or (reply.rcode == NOERROR and (reply.answers > 0 or reply.soa_authority))
    )


def _missing(lookup: Lookup | None) -> bool:
    return lookup is not None and lookup.reply is not None and lookup.reply.rcode == NXDOMAIN


def _data(reply: Reply) -> bool:
    return reply.rcode == NOERROR and bool(reply.addresses) and not _unspecified(reply)


def _served(lookup: Lookup) -> bool:
    return lookup.reply is not None and bool(lookup.reply.addresses)


def _unspecified(reply: Reply) -> bool:
    return bool(reply.addresses) and all(address.is_unspecified for address in reply.addresses)


def _synthesised(address: Address, known: set[int]) -> bool:
    return address.version == 6 and address in DNS64_PREFIX and (int(address) & 0xFFFFFFFF) in known


def _pair(own: Lookup, other: Lookup | None, base: Lookup | None = None) -> str:
    """The answers side by side, A before AAAA."""
    shown = sorted(
        (one for one in (own, other, base) if one is not None), key=lambda one: (one is base, one.question.qtype)
    )
    return ", ".join(f"{one.question.qtype} {describe(one)}" for one in shown)


def describe(lookup: Lookup) -> str:
    """An answer in a few words: its addresses, or its rcode with what is telling about a negative one."""
    reply = lookup.reply
    if reply is None:
        return lookup.outcome.value
    if reply.addresses:
        return f"{reply.addresses[0]}" + (f" and {len(reply.addresses) - 1} more" if len(reply.addresses) > 1 else "")
    if reply.names:
        return "with records"
    named = {NOERROR: "NOERROR without an address", NXDOMAIN: "NXDOMAIN", SERVFAIL: "SERVFAIL", REFUSED: "REFUSED"}
    unsigned = {NOERROR: " or SOA", NXDOMAIN: " without SOA"}.get(reply.rcode, "") if not reply.soa_authority else ""
    words = [named.get(reply.rcode, f"rcode {reply.rcode}") + unsigned]
    words += [f"EDE {code}" for code in reply.ede[:2]]
    return " ".join(words)
