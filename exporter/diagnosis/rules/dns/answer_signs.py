"""What one nameserver's answers to one vantage in one round show of a withheld record type, name by name. Pure.

A sign is an observation that an honest resolver does not give, or gives only for a stated innocent reason; aaaa.py
decides, over two rounds and several names, whether signs suffice. The rules here are those measured on CoreDNS, BIND,
unbound and dnsmasq.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import IPv6Network
from typing import TypeAlias

from exporter.model.dns import NOERROR, NXDOMAIN, REFUSED, SERVFAIL, BlockKind, Reply
from exporter.model.dns_name import casefold, is_within, zone
from exporter.model.family import Address, Family, family_of
from exporter.model.probe import Lookup, LookupOutcome
from exporter.plan.aaaa_questions import DNS64_NAME, RANDOM
from exporter.plan.repeats import OTHER

DNS64_PREFIX = IPv6Network("64:ff9b::/96")  # RFC 6052
FILTERED_EDE = frozenset({15, 16, 17})  # Blocked, Censored, Filtered (RFC 8914)
ERRORS: Mapping[LookupOutcome, BlockKind] = {
    LookupOutcome.REFUSED: BlockKind.REFUSED,
    LookupOutcome.RCODE: BlockKind.REFUSED,
    LookupOutcome.SERVFAIL: BlockKind.SERVFAIL,
}
ONE_FOR_ALL = "; a name is missing for all types or for none"


class AnswerSign(StrEnum):
    """What a pair of answers shows other than a kind of block."""

    MARKED = "marked"  # only an extended error reports filtering
    SERVED = "served"  # a real address
    ABSENT = "absent"  # a proper negative answer
    UNCLEAR = "unclear"


Sign: TypeAlias = BlockKind | AnswerSign


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """A sign, for which name, and why. A random name is called by its parent, so that it is the same in each round."""

    sign: Sign
    name: str
    text: str
    random: bool = False
    contradicts: bool = False  # the other type's answer denies the name altogether (RFC 8020)


@dataclass(frozen=True, slots=True)
class KnownRecords:
    """What is known of names from other sources: name -> types that it has.

    `stated` is certain (the API, or a reference resolver that agrees on the other type); `expected` is what the
    operator configured.
    """

    domain: str = ""  # the cluster's
    stated: Mapping[str, frozenset[str]] = field(default_factory=dict)
    expected: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def inside(self, name: str) -> bool:
        """Whether the name is in the cluster's domain, for which no foreign server answers."""
        return is_within(name, self.domain)


def read_signs(lookups: Iterable[Lookup], qtype: str) -> Iterator[Evidence]:
    """The signs in one server's answers to one vantage about records of `qtype` (A or AAAA)."""
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
        own, other, base = answers.get(qtype), answers.get(OTHER[qtype]), answers.get("MX")
        if own is None:
            continue
        if name == DNS64_NAME and qtype == "AAAA" and (other is None or _has_addresses(own)):
            yield Evidence(sign=_dns64_sign(own), name=name, text=f"{name}: AAAA {describe(own)}")
        elif name in random:
            sign, why = _random_sign(own, other)
            yield Evidence(
                sign=sign,
                name=f"{RANDOM}.{name.partition('.')[2]}",
                text=f"{name}: {_side_by_side(own, other)}{why}",
                random=True,
                contradicts=_is_missing(other),
            )
        else:
            sign, why = _sign(own, other, base, signed=zone(name) in signed)
            yield Evidence(sign=sign, name=name, text=f"{name}: {_side_by_side(own, other, base)}{why}")


def _dns64_sign(own: Lookup) -> Sign:
    """ipv4only.arpa has no AAAA: one that comes is synthesised, unless it is the unspecified address."""
    reply = own.reply
    if reply is not None and not reply.answers and reply.rcode == NOERROR and reply.soa_authority:
        return AnswerSign.ABSENT
    if reply is None or not reply.addresses:
        return AnswerSign.UNCLEAR
    return BlockKind.SINKHOLE if _is_unspecified(reply) else BlockKind.DNS64


def _random_sign(own: Lookup, other: Lookup | None) -> tuple[Sign, str]:
    """A name that does not exist: NXDOMAIN is about a name, not a type (RFC 8020), so both types must get it."""
    if other is None:
        return AnswerSign.UNCLEAR, ""
    if own.reply is not None and own.reply.rcode == NOERROR:
        if _is_unspecified(own.reply):
            return BlockKind.SINKHOLE, ""
        if own.reply.addresses:
            return AnswerSign.UNCLEAR, ", a wildcard's, perhaps"
        if _is_missing(other):
            return BlockKind.BLANKET_NODATA, ONE_FOR_ALL
    return _error_sign(own, other, None), ""


def _sign(own: Lookup, other: Lookup | None, base: Lookup | None, *, signed: bool) -> tuple[Sign, str]:
    reply = own.reply
    if reply is None or reply.rcode not in {NOERROR, NXDOMAIN}:
        return _error_sign(own, other, base), ""
    if reply.addresses:
        return _positive_sign(reply, own.question.qtype, other), ""
    if other is None or other.reply is None or not _has_data(other.reply):
        proper = other is not None and reply.rcode == NOERROR and reply.soa_authority
        return AnswerSign.ABSENT if proper else AnswerSign.UNCLEAR, ""
    if reply.rcode == NXDOMAIN:
        return BlockKind.BLANKET_NXDOMAIN, ONE_FOR_ALL
    if base is not None and base.reply is not None and not base.reply.names:
        signed = base.reply.rcode == NOERROR and base.reply.soa_authority and not base.reply.chain
    return _negative_sign(reply, other.reply, signed=signed)


def _positive_sign(reply: Reply, qtype: str, other: Lookup | None) -> Sign:
    if _is_unspecified(reply):
        return BlockKind.SINKHOLE
    known = {int(a) for a in other.reply.addresses} if other is not None and other.reply is not None else set()
    synthesised = qtype == "AAAA" and all(_is_synthesised(a, known) for a in reply.addresses)
    return BlockKind.DNS64 if synthesised else AnswerSign.SERVED


def _negative_sign(reply: Reply, other: Reply, *, signed: bool) -> tuple[Sign, str]:
    """NOERROR without an address for a name that has one of the other type.

    `signed`: this server's negative answers carry an SOA.
    """
    if reply.soa_additional and not reply.soa_authority:
        return BlockKind.FILTERED, "; the SOA of a response policy zone is in the additional section"
    if reply.answers - reply.extras > len(reply.chain):
        return BlockKind.FILTERED, "; records of another type came in its place"
    marked = FILTERED_EDE & set(reply.ede) and not FILTERED_EDE & set(other.ede)
    if signed and not reply.soa_authority:
        return BlockKind.FILTERED, "; the SOA that this server gives with a negative answer is gone"
    if marked:
        return AnswerSign.MARKED, ""
    return AnswerSign.ABSENT if reply.soa_authority else AnswerSign.UNCLEAR, ""


def _error_sign(own: Lookup, other: Lookup | None, base: Lookup | None) -> Sign:
    """No usable answer for this type only: the other type's, and the baseline's where it was asked, must be fine."""
    if other is None or not _is_fine(other) or (base is not None and not _is_fine(base)):
        return AnswerSign.UNCLEAR
    if own.outcome is LookupOutcome.TIMEOUT and not own.truncated:
        return BlockKind.DROPPED
    return ERRORS.get(own.outcome, AnswerSign.UNCLEAR)


def _is_fine(lookup: Lookup) -> bool:
    """Whether an answer is informative: data, NXDOMAIN, or a negative one with its SOA."""
    reply = lookup.reply
    if reply is None or reply.rcode not in {NOERROR, NXDOMAIN}:
        return False
    return reply.rcode == NXDOMAIN or reply.answers > 0 or reply.soa_authority


def _is_missing(lookup: Lookup | None) -> bool:
    return lookup is not None and lookup.reply is not None and lookup.reply.rcode == NXDOMAIN


def _has_data(reply: Reply) -> bool:
    return reply.rcode == NOERROR and bool(reply.addresses) and not _is_unspecified(reply)


def _has_addresses(lookup: Lookup) -> bool:
    return lookup.reply is not None and bool(lookup.reply.addresses)


def _is_unspecified(reply: Reply) -> bool:
    return bool(reply.addresses) and all(address.is_unspecified for address in reply.addresses)


def _is_synthesised(address: Address, known: set[int]) -> bool:
    return family_of(address) is Family.V6 and address in DNS64_PREFIX and (int(address) & 0xFFFFFFFF) in known


def _side_by_side(own: Lookup, other: Lookup | None, base: Lookup | None = None) -> str:
    """The answers, A before AAAA, the baseline last."""
    pair = sorted((one for one in (own, other) if one is not None), key=lambda one: one.question.qtype)
    return ", ".join(f"{one.question.qtype} {describe(one)}" for one in (*pair, base) if one is not None)


def describe(lookup: Lookup) -> str:
    """An answer in a few words: its addresses, or its rcode with what characterises a negative one."""
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
