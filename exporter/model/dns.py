"""DNS replies and resolv.conf files as plain values, for resolver prediction and the AAAA verdict. No I/O."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from exporter.model.family import Address


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """One DNS message, reduced. RFC 1035 section 4 for the counts and flags, RFC 8914 for `ede`.

    `addresses` are those of the asked type at the end of the CNAME chain that starts at the question's name; an answer
    of another type is none. `answers` is ANCOUNT, `additionals` ARCOUNT (an OPT record counts). `ttl` is the least of
    the chain and of the records at its end, None without any; `negative_ttl` is for how long there are known to be none
    (RFC 2308 section 5: the lesser of the SOA's TTL and its MINIMUM), None where the authority section has no SOA.
    """

    rcode: int = 0
    aa: bool = False
    ra: bool = True
    tc: bool = False
    answers: int = 0
    extras: int = 0  # of these, DNAME and RRSIG records, which only accompany others (RFC 6672, RFC 4035)
    additionals: int = 0
    addresses: tuple[Address, ...] = ()
    names: tuple[str, ...] = ()  # of MX or PTR records, where those were asked
    chain: tuple[str, ...] = ()  # CNAME targets in order
    soa_authority: bool = False
    soa_additional: bool = False
    ede: tuple[int, ...] = ()
    ttl: int | None = None
    negative_ttl: int | None = None
    broken: bool = False  # as a libc reads it: its answers end in the middle


NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED = 0, 1, 2, 3, 4, 5


class BlockKind(StrEnum):
    """How a resolver withholds AAAA: the state set of dualstack_dns_aaaa_block, in the order of its documentation."""

    NONE = "none"
    BLANKET_NODATA = "blanket_nodata"
    BLANKET_NXDOMAIN = "blanket_nxdomain"
    FILTERED = "filtered"
    REFUSED = "refused"
    SERVFAIL = "servfail"
    DROPPED = "dropped"
    SINKHOLE = "sinkhole"
    DNS64 = "dns64"
    UNDECIDED = "undecided"


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolvConf:
    """A resolv.conf as a libc reads it (resolv.conf(5))."""

    nameservers: tuple[Address, ...] = ()
    search: tuple[str, ...] = ()
    ndots: int = 1
    timeout: int = 5
    attempts: int = 2
    options: frozenset[str] = frozenset()  # single-request, no-aaaa, edns0, use-vc, trust-ad, rotate ...
    musl: ResolvConf | None = None  # as musl reads it, where that differs; the rest is as glibc reads it

    @property
    def for_musl(self) -> ResolvConf:
        return self.musl or self
