"""glibc's getaddrinfo as a pure function of the nameservers' answers: called by resolver.py, asks nothing itself.

Follows glibc 2.36 as Debian ships it (resolv/res_query.c and res_send.c, nss_dns/dns-host.c,
sysdeps/posix/getaddrinfo.c) with nsswitch "hosts: files dns" and nothing in the hosts file. Not modelled: `rotate` (a
random first server), HOSTALIASES, nscd, AI_ADDRCONFIG, and releases from 2.41 on (`strict-error`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import Enum

from exporter.libc.replies import QTYPES, Answer, Answers, NoReply, Result, SearchWalk, nameservers
from exporter.model.dns import NOERROR, NOTIMP, NXDOMAIN, REFUSED, SERVFAIL, Reply, ResolvConf
from exporter.model.dns_name import ESCAPED, is_encodable
from exporter.model.family import Address
from exporter.model.probe import Lost

TCP_GIVE_UP = 127  # seconds until the kernel gives up (net.ipv4.tcp_syn_retries 6); glibc itself sets no limit


HOSTNAME = re.compile(r"(?!-)[A-Za-z0-9_.-]*")  # res_hnok: other names are not asked for, nor their addresses taken


class Herrno(Enum):
    """h_errno (netdb.h)."""

    HOST_NOT_FOUND = 1
    TRY_AGAIN = 2
    NO_RECOVERY = 3
    NO_DATA = 4


class Errno(Enum):
    """The errno that the last query left; the resolver uses it in two places."""

    NONE = 0
    REFUSED = 1
    TIMEOUT = 2


STREAM_ERRNO = {NoReply.REFUSED: Errno.REFUSED, NoReply.SILENT: Errno.TIMEOUT, NoReply.CLOSED: Errno.NONE}

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
    names = [_join(name, domain) for domain in conf.search]
    if _as_is_first(name, conf):
        return (name, *names)
    return tuple(names) if name in names or not _as_is_last(name, conf) else (*names, name)


def _as_is_first(name: str, conf: ResolvConf) -> bool:
    return name.count(".") >= conf.ndots


def _as_is_last(name: str, conf: ResolvConf) -> bool:
    """Whether the name itself may be asked after the search list; with `no-tld-query` not if it has no dot."""
    return "." in name or not conf.search or "no-tld-query" not in conf.options


def _join(name: str, domain: str) -> str:
    """Name and search domain; the root domain gives the name itself."""
    domain = domain.removeprefix(".").removesuffix(".")
    return f"{name}.{domain}" if domain else name


def getaddrinfo(name: str, conf: ResolvConf, answers: Answers, request: str) -> Result:
    """What glibc returns for request any, 4 or 6 with ai_flags 0. Raises UnaskedError if it needs an unasked answer."""
    if not _is_hostname(name):
        return Result(code="EAI_NONAME", why=f"{name} is no host name: glibc asks nobody")
    walk = SearchWalk(answers, "glibc_any" if request == "any" else "glibc")
    no_aaaa = "no-aaaa" in conf.options
    call = _GlibcCall(
        transaction=Transaction(conf=conf, walk=walk),
        qtypes=("A",) if no_aaaa else QTYPES[request],
        discard=no_aaaa and request == "6",
    )
    error = call.search(name)
    hostname = _is_hostname(call.decider)
    addresses = _addresses(call.replies) if hostname else ()
    if not call.replies:
        code = call.code_of(error, request)
        why = f"{call.reason}: {MEANINGS[code]}"
    elif addresses:
        code, why = "OK", f"{call.decider} has an address"
    else:
        code = "EAI_NODATA" if request == "4" and hostname else "EAI_NONAME"
        what = "records that hold no address" if hostname else "records, but is no host name"
        why = f"{call.decider} answers with {what}: glibc stops there"
    return Result(code=code, addresses=addresses, seconds=walk.seconds, candidate=call.decider, why=why)


def _is_hostname(name: str) -> bool:
    return HOSTNAME.fullmatch(ESCAPED.sub(lambda octet: chr(int(octet[1])), name)) is not None


def _addresses(replies: list[Reply]) -> tuple[Address, ...]:
    """dns-host.c, gaih_getanswer: a broken first reply fails all; a broken second one, unless the first has some."""
    broken = [reply.broken for reply in replies]
    if any(broken) and (broken[0] or not replies[0].addresses):
        return ()
    return tuple(address for reply in replies for address in reply.addresses)


@dataclass(slots=True, kw_only=True)
class _GlibcCall:
    """One getaddrinfo on its way through the candidates."""

    transaction: Transaction
    qtypes: tuple[str, ...]
    discard: bool  # no-aaaa with AF_INET6: A is asked in place of AAAA and its records are dropped (res-noaaaa.c)
    replies: list[Reply] = field(default_factory=list)  # those that ended the search
    asked: set[str] = field(default_factory=set)
    passed: set[Herrno] = field(default_factory=set)  # errors that the search list went past, for the end of the search
    decider: str = ""
    reason: str = ""

    def search(self, name: str) -> Herrno:
        """Ask the candidates as __res_context_search does, until `replies` holds records; else the error at the end."""
        conf = self.transaction.conf
        if name.endswith("."):
            return self._query(name.removesuffix("."))
        first = self._query(name) if _as_is_first(name, conf) else None
        if self.replies:
            return Herrno.HOST_NOT_FOUND
        last = self._search_domains(name)
        if last is Herrno.TRY_AGAIN and self.transaction.errno is Errno.REFUSED:
            return last
        if not self.replies and name not in self.asked and _as_is_last(name, conf):
            last = self._query(name)
        if first is not None:
            return first
        return next((error for error in (Herrno.NO_DATA, Herrno.TRY_AGAIN) if error in self.passed), last)

    def _search_domains(self, name: str) -> Herrno:
        """The search list goes past a missing name, one without data, and a SERVFAIL; anything else ends it."""
        last = Herrno.HOST_NOT_FOUND
        for domain in self.transaction.conf.search:
            last = self._query(_join(name, domain))
            if self.replies:
                return last
            if self.transaction.errno is Errno.REFUSED:
                return Herrno.TRY_AGAIN
            if last is Herrno.NO_DATA or (last is Herrno.TRY_AGAIN and self.transaction.first_rcode == SERVFAIL):
                self.passed.add(last)
            elif last is not Herrno.HOST_NOT_FOUND:
                break
        return last

    def _query(self, candidate: str) -> Herrno:
        """res_query.c, __res_context_query: send, then judge the replies; sets `replies` if they hold records."""
        self.asked.add(candidate)
        self.decider = candidate
        error, what = self._judge(candidate)
        self.reason = f"{candidate} {what}"
        return error

    def _judge(self, candidate: str) -> tuple[Herrno, str]:
        if not is_encodable(candidate):
            self.transaction.errno = Errno.NONE  # another one, that is
            return Herrno.NO_RECOVERY, "does not fit into a query"
        replies = self.transaction.send(candidate, self.qtypes)
        if replies is None and self.discard and self.transaction.first_rcode is None:
            # res-noaaaa.c leaves the caller's length as it is if nothing came, which then reads as an empty answer.
            return Herrno.NO_DATA, "got no answer, which no-aaaa turns into one without data"
        if replies is None:
            return Herrno.TRY_AGAIN, "got no usable answer from any nameserver"
        if any(reply.rcode == NOERROR and reply.answers for reply in replies) and not self.discard:
            self.replies = replies
        rcode = next((reply.rcode for reply in replies if reply.rcode != NOERROR), NOERROR)
        return RCODES.get(rcode, (Herrno.NO_RECOVERY, f"got rcode {rcode}"))

    def code_of(self, error: Herrno, request: str) -> str:
        """h_errno as EAI code. AF_INET uses gethostbyname2_r, which drops a TRY_AGAIN unless the last query failed."""
        if error is Herrno.NO_DATA:
            return "EAI_NODATA"
        if error is Herrno.TRY_AGAIN and (request != "4" or self.transaction.errno is not Errno.NONE):
            return "EAI_AGAIN"
        return "EAI_NONAME"


@dataclass(slots=True, kw_only=True)
class Transaction:
    """The part of res_state that lasts from query to query within one call, in a fresh process."""

    conf: ResolvConf
    walk: SearchWalk
    single: bool = False  # RES_SNGLKUP or its fallback: AAAA only after A
    reopen: bool = False  # RES_SNGLKUPREOP or its fallback: and from a new socket
    heard: bool = False  # gotsomewhere
    stream_errno: Errno = Errno.TIMEOUT  # terrno
    errno: Errno = Errno.NONE
    first_rcode: int | None = None  # in the answer buffer: the first reply of the last server that replied
    servers: tuple[Address, ...] = ()

    def __post_init__(self) -> None:
        self.reopen = "single-request-reopen" in self.conf.options
        self.single = self.reopen or "single-request" in self.conf.options
        self.servers = nameservers(self.conf)

    def send(self, candidate: str, qtypes: tuple[str, ...]) -> list[Reply] | None:
        """__res_context_send: the usable replies of the first server that gives some, None after all attempts."""
        stream = "use-vc" in self.conf.options
        self.heard, self.stream_errno, self.first_rcode = False, Errno.TIMEOUT, None
        for _ in range(self.conf.attempts):
            for index in range(len(self.servers)):
                replies = None if stream else self._datagrams(candidate, qtypes, index)
                stream |= replies is not None and any(reply.tc for reply in replies)
                if stream:
                    replies = self._stream(candidate, qtypes, index)
                if replies is not None:
                    self.errno = Errno.NONE
                    return replies
            if stream:
                break  # over TCP each server is tried once
        silent = Errno.TIMEOUT if self.heard else Errno.REFUSED
        self.errno = self.stream_errno if stream else silent
        return None

    def _datagrams(self, candidate: str, qtypes: tuple[str, ...], index: int) -> list[Reply] | None:
        """send_dg: the usable replies over UDP in the order asked (a TC bit leads to TCP), None for the next server."""
        if len(qtypes) == 1 or self.single:
            return self._one_by_one(candidate, qtypes, index)
        answers = [self._answer(candidate, qtype, index) for qtype in qtypes]
        if any(answer.datagram is NoReply.REFUSED for answer in answers):
            return None
        received = [a.datagram for a in answers if isinstance(a.datagram, Reply) and a.lost is Lost.NEVER]
        usable = [reply for reply in received if not _bad(reply)]
        self._hear(received)
        if len(received) == len(qtypes) or any(reply.tc for reply in usable):
            self.walk.seconds += max(answer.seconds for answer in answers)
            return usable or None
        self._wait(index)
        if not usable:
            return None
        self.single = True
        return self._one_by_one(candidate, qtypes, index)

    def _one_by_one(self, candidate: str, qtypes: tuple[str, ...], index: int) -> list[Reply] | None:
        """send_dg with a single question, or in single-request mode, which tries once more from a new socket."""
        replies = self._in_order(candidate, qtypes, index)
        if replies is None or len(replies) == len(qtypes) or self.reopen:
            return replies
        answers = (self._answer(candidate, qtype, index) for qtype in qtypes)
        if all(isinstance(a.datagram, Reply) and a.lost is not Lost.IN_TURN for a in answers):
            return replies
        self.reopen = True
        return self._in_order(candidate, qtypes, index)

    def _in_order(self, candidate: str, qtypes: tuple[str, ...], index: int) -> list[Reply] | None:
        """Each question after the answer before it; the replies up to the first missing, bad or truncated one."""
        replies: list[Reply] = []
        for qtype in qtypes:
            answer = self._answer(candidate, qtype, index)
            if answer.datagram is NoReply.REFUSED:
                return None
            lost = bool(replies) and not self.reopen and answer.lost is Lost.IN_TURN
            if lost or not isinstance(answer.datagram, Reply):
                self._wait(index)
                break
            self.walk.seconds += answer.seconds
            if not replies:
                self._hear([answer.datagram])
            if _bad(answer.datagram):
                break
            replies.append(answer.datagram)
            if answer.datagram.tc:
                break
        return replies or None

    def _answer(self, candidate: str, qtype: str, index: int) -> Answer:
        return self.walk.answer(candidate, qtype, self.servers[index])

    def _hear(self, received: list[Reply]) -> None:
        if received:
            self.heard = True
            self.first_rcode = received[0].rcode

    def _wait(self, index: int) -> None:
        """The time send_dg gives one server: timeout doubled per position, shared among the servers, at least 1 s."""
        seconds = self.conf.timeout << index
        self.walk.seconds += max(seconds // len(self.servers) if index else seconds, 1)
        self.heard = True

    def _stream(self, candidate: str, qtypes: tuple[str, ...], index: int) -> list[Reply] | None:
        """send_vc: all replies over one TCP connection, whatever their rcode; None if one of them did not come."""
        replies: list[Reply] = []
        for qtype in qtypes:
            reply = self._answer(candidate, qtype, index).over_tcp
            if isinstance(reply, NoReply):
                self.walk.seconds += TCP_GIVE_UP if reply is NoReply.SILENT else 0
                self.stream_errno = STREAM_ERRNO[reply]
                return None
            if not replies:
                self.first_rcode = reply.rcode
            replies.append(reply)
        return replies


def _bad(reply: Reply) -> bool:
    """A UDP reply that send_dg drops: an error, or what looks like a lame referral."""
    if reply.rcode in {SERVFAIL, NOTIMP, REFUSED}:
        return True
    return reply.rcode == NOERROR and not (reply.answers or reply.aa or reply.ra or reply.additionals)
