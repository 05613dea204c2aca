"""glibc's getaddrinfo as a pure function of what the nameservers said: called by resolver.py, asks nothing itself.

Follows glibc 2.36 as Debian ships it (resolv/res_query.c, nss_dns/dns-host.c, sysdeps/posix/getaddrinfo.c; res_send.c
stands in glibc_exchange.py) with nsswitch "hosts: files dns" and nothing in the hosts file. Not followed: `rotate` (a
random first server), HOSTALIASES, nscd, AI_ADDRCONFIG, and releases from 2.41 on (`strict-error`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from exporter.libc.glibc_exchange import Errno, Transaction
from exporter.libc.replies import Answers, Result, SearchWalk, encodable
from exporter.model.dns import NOERROR, NXDOMAIN, SERVFAIL, Reply, ResolvConf

MAX_NDOTS = 15  # RES_MAXNDOTS


class Herrno(Enum):
    """h_errno (netdb.h)."""

    HOST_NOT_FOUND = 1
    TRY_AGAIN = 2
    NO_RECOVERY = 3
    NO_DATA = 4


MEANINGS = {
    "EAI_NONAME": "glibc reports an unknown name",
    "EAI_NODATA": "glibc reports a name without an address",
    "EAI_AGAIN": "glibc reports a temporary failure",
}


RCODES = {
    NOERROR: (Herrno.NO_DATA, "has no address"),
    NXDOMAIN: (Herrno.HOST_NOT_FOUND, "does not exist"),
    SERVFAIL: (Herrno.TRY_AGAIN, "got SERVFAIL over TCP"),
}


def candidates(name: str, conf: ResolvConf) -> tuple[str, ...]:
    """The names asked, in order, if none of them ends the search (res_query.c, __res_context_search)."""
    if name.endswith("."):
        return (name.removesuffix("."),)
    names = [join(name, domain) for domain in conf.search]
    if as_is_first(name, conf):
        return (name, *names)
    return tuple(names) if name in names or not as_is_last(name, conf) else (*names, name)


def as_is_first(name: str, conf: ResolvConf) -> bool:
    """Whether the name itself is asked before the search list."""
    return name.count(".") >= min(conf.ndots, MAX_NDOTS)


def as_is_last(name: str, conf: ResolvConf) -> bool:
    """Whether the name itself may be asked after the search list; `options no-tld-query` spares names without a dot."""
    return "." in name or not conf.search or "no-tld-query" not in conf.options


def join(name: str, domain: str) -> str:
    """Name and search domain; the root domain gives the name itself."""
    domain = domain.removeprefix(".").removesuffix(".")
    return f"{name}.{domain}" if domain else name


def getaddrinfo(name: str, conf: ResolvConf, answers: Answers, request: str) -> Result:
    """What glibc returns for request any, 4 or 6 with ai_flags 0. Raises UnaskedError where it needs an unasked answer."""
    walk = SearchWalk(answers)
    no_aaaa = "no-aaaa" in conf.options
    qtypes = {"any": ("A",) if no_aaaa else ("A", "AAAA"), "4": ("A",), "6": ("A",) if no_aaaa else ("AAAA",)}[request]
    call = _GlibcCall(exchange=Transaction(conf=conf, walk=walk), qtypes=qtypes, discard=no_aaaa and request == "6")
    error = call.search(name)
    if not call.replies:
        code = call.code_of(error, request)
        return Result(
            code=code,
            addresses=(),
            seconds=walk.seconds,
            candidate=call.decider,
            why=f"{call.reason}: {MEANINGS[code]}",
        )
    addresses = tuple(address for reply in call.replies for address in reply.addresses)
    if addresses:
        return Result(
            code="OK",
            addresses=addresses,
            seconds=walk.seconds,
            candidate=call.decider,
            why=f"{call.decider} has an address",
        )
    code = "EAI_NODATA" if request == "4" else "EAI_NONAME"
    why = f"{call.decider} answers with records that hold no address: glibc stops there"
    return Result(code=code, addresses=(), seconds=walk.seconds, candidate=call.decider, why=why)


@dataclass(slots=True, kw_only=True)
class _GlibcCall:
    """One getaddrinfo on its way through the candidates."""

    exchange: Transaction
    qtypes: tuple[str, ...]
    discard: bool  # no-aaaa with AF_INET6: A is asked in place of AAAA and its records are dropped (res-noaaaa.c)
    replies: list[Reply] = field(default_factory=list)  # those that ended the search
    asked: set[str] = field(default_factory=set)
    passed: set[Herrno] = field(default_factory=set)  # what the search list was walked past, remembered for its end
    decider: str = ""
    reason: str = ""

    def search(self, name: str) -> Herrno:
        """Walk the candidates as __res_context_search does, until `replies` holds records; else the error left at the end."""
        conf = self.exchange.conf
        if name.endswith("."):
            return self._query(name.removesuffix("."))
        first = self._query(name) if as_is_first(name, conf) else None
        if self.replies:
            return Herrno.HOST_NOT_FOUND
        last = self._search_domains(name)
        if last is Herrno.TRY_AGAIN and self.exchange.errno is Errno.REFUSED:
            return last
        if not self.replies and name not in self.asked and as_is_last(name, conf):
            last = self._query(name)
        if first is not None:
            return first
        return next((error for error in (Herrno.NO_DATA, Herrno.TRY_AGAIN) if error in self.passed), last)

    def _search_domains(self, name: str) -> Herrno:
        """The search list: a missing name, one without data and a SERVFAIL are passed over, anything else ends it."""
        last = Herrno.HOST_NOT_FOUND
        for domain in self.exchange.conf.search:
            last = self._query(join(name, domain))
            if self.replies:
                return last
            if self.exchange.errno is Errno.REFUSED:
                return Herrno.TRY_AGAIN
            if last is Herrno.NO_DATA or (last is Herrno.TRY_AGAIN and self.exchange.first_rcode == SERVFAIL):
                self.passed.add(last)
            elif last is not Herrno.HOST_NOT_FOUND:
                break
        return last

    def _query(self, candidate: str) -> Herrno:
        """res_query.c, __res_context_query: send, then judge the one or two replies; sets `replies` where they hold records."""
        self.asked.add(candidate)
        self.decider = candidate
        error, what = self._judge(candidate)
        self.reason = f"{candidate} {what}"
        return error

    def _judge(self, candidate: str) -> tuple[Herrno, str]:
        if not encodable(candidate):
            return Herrno.NO_RECOVERY, "is no name that fits into a query"
        replies = self.exchange.send(candidate, self.qtypes)
        if replies is None and self.discard and self.exchange.first_rcode is None:
            # res-noaaaa.c leaves the caller's length untouched where nothing came, which then reads as an empty answer.
            return Herrno.NO_DATA, "got no answer, which no-aaaa turns into one without data"
        if replies is None:
            return Herrno.TRY_AGAIN, "got no usable answer from any nameserver"
        if any(reply.rcode == NOERROR and reply.answers for reply in replies) and not self.discard:
            self.replies = replies
        rcode = next((reply.rcode for reply in replies if reply.rcode != NOERROR), NOERROR)
        return RCODES.get(rcode, (Herrno.NO_RECOVERY, f"got rcode {rcode}"))

    def code_of(self, error: Herrno, request: str) -> str:
        """h_errno as EAI code. AF_INET goes through gethostbyname2_r, which forgets a TRY_AGAIN unless the last query failed."""
        if error is Herrno.NO_DATA:
            return "EAI_NODATA"
        if error is Herrno.TRY_AGAIN and (request != "4" or self.exchange.errno is not Errno.NONE):
            return "EAI_AGAIN"
        return "EAI_NONAME"
