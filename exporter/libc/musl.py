"""musl's getaddrinfo as a pure function of the nameservers' answers: called by resolver.py, asks nothing itself.

Follows musl 1.2.5 and, with `since_1_2_4` off, 1.2.3 (src/network/lookup_name.c, res_msend.c, resolvconf.c). All
nameservers are asked at once and the first NOERROR or NXDOMAIN per type counts. It knows no options in resolv.conf but
ndots, timeout and attempts. Not modelled: the hosts file and AI_ADDRCONFIG.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from exporter.libc.replies import QTYPES, Answers, NoReply, Result, SearchWalk, UnaskedError, nameservers
from exporter.model.dns import NOERROR, NXDOMAIN, Reply, ResolvConf
from exporter.model.dns_name import casefold, is_encodable
from exporter.model.probe import Lost

MAX_ADDRESSES = 48  # MAXADDRS of lookup.h; since 1.2.4 AAAA is read before A
MAX_TEXT = 255  # name, dot and search domain, in lookup_name.c's buffer
NEVER = float("inf")


def candidates(name: str, conf: ResolvConf) -> tuple[str, ...]:
    """The names asked, in order, if none ends the search (name_from_dns_search); a root domain gives `name..`."""
    bare = name.removesuffix(".")
    if not bare or bare.endswith("."):
        return ()
    if name.endswith(".") or name.count(".") >= conf.ndots:
        return (bare,)
    fitting = [domain for domain in conf.search if len(name) + 1 + len(domain) <= MAX_TEXT]
    return (*(f"{name}.{domain if domain == '.' else domain.removesuffix('.')}" for domain in fitting), name)


def getaddrinfo(name: str, conf: ResolvConf, answers: Answers, request: str, *, since_1_2_4: bool) -> Result:
    """What musl returns for request any, 4 or 6 with ai_flags 0. Raises UnaskedError if it needs an unasked answer."""
    call = _MuslCall(
        conf=conf, walk=SearchWalk(answers, "musl" if since_1_2_4 else "musl_1_2_3"), since_1_2_4=since_1_2_4
    )
    made, candidate = Result(code="", why="the name is empty or ends in two dots"), ""
    for candidate in candidates(name, conf):
        made = call.ask(candidate, QTYPES[request])
        if made.code:
            break
    return replace(made, code=made.code or "EAI_NONAME", seconds=call.walk.seconds, candidate=candidate)


@dataclass(frozen=True, slots=True)
class _Arrival:
    """When one type's final reply is there (seconds; NEVER), and which; `breaks`: its TCP attempt ended all waiting."""

    at: float = NEVER
    reply: Reply | None = None
    breaks: bool = False


@dataclass(slots=True)
class _MuslCall:
    conf: ResolvConf
    walk: SearchWalk
    since_1_2_4: bool

    def ask(self, candidate: str, qtypes: tuple[str, ...]) -> Result:
        """name_from_dns: the types in order A, AAAA; no answer ends the search, NXDOMAIN for either gives no code."""
        if not is_encodable(candidate):
            return self._unencodable(candidate)
        replies = self._send(candidate, qtypes)
        for qtype, reply in zip(qtypes, replies, strict=True):
            if reply is None:
                why = f"{candidate} got no usable {qtype} answer: musl waits and gives up there"
                return Result(code="EAI_AGAIN", why=why)
            if reply.rcode == NXDOMAIN:
                why = f"no candidate exists; the last, {candidate}, got NXDOMAIN for {qtype}"
                return Result(code="", why=why)
        ordered = reversed(replies) if self.since_1_2_4 else replies
        addresses = tuple(address for reply in ordered if reply is not None for address in reply.addresses)
        if addresses:
            return Result(code="OK", why=f"{candidate} has an address", addresses=addresses[:MAX_ADDRESSES])
        shown = " and ".join(f"{qtype} NOERROR without an address" for qtype in qtypes)
        why = f"{candidate} gets {shown}: for musl the name exists, and it stops there"
        return Result(code="EAI_NODATA" if self.since_1_2_4 else "EAI_NONAME", why=why)

    def _unencodable(self, candidate: str) -> Result:
        code, why = "" if self.since_1_2_4 else "EAI_NONAME", f"{candidate} does not fit into a query"
        if not self.since_1_2_4 and candidate.endswith(".."):
            self.walk.seconds += self.conf.timeout
            code, why = "EAI_AGAIN", f"{candidate} makes a malformed query that no nameserver answers"
        return Result(code=code, why=why)

    def _send(self, candidate: str, qtypes: tuple[str, ...]) -> list[Reply | None]:
        """res_msend.c: the reply per type, None if none came within the timeout; adds the time that passes."""
        if not self.conf.attempts:
            raise UnaskedError("it divides by attempts, which ends the process on some processors")
        arrivals = [self._race(candidate, qtype, paired=len(qtypes) > 1) for qtype in qtypes]
        broken = min((arrival.at for arrival in arrivals if arrival.breaks), default=NEVER)
        self.walk.seconds += min(max(arrival.at for arrival in arrivals), broken, self.conf.timeout)
        timeout = self.conf.timeout
        return [each.reply if each.at < timeout and each.at <= broken else None for each in arrivals]

    def _race(self, candidate: str, qtype: str, *, paired: bool) -> _Arrival:
        """The first usable reply of all nameservers. A nameserver that was not asked counts as the slowest.

        A reply that is lost beside the other type's comes once that question is sent again, alone.
        """
        again = self.conf.timeout / self.conf.attempts
        servers = nameservers(self.conf)
        found = (self.walk.answers.get((casefold(candidate), qtype, server)) for server in servers)
        known = [answer.seen_by(self.walk.libc) for answer in found if answer is not None]
        known = [replace(a, seconds=a.seconds + again) if paired and a.lost is not Lost.NEVER else a for a in known]
        usable = [(a.seconds, reply, a) for a in known if (reply := _usable(a.datagram)) is not None]
        if not usable:
            if len(known) < len(servers):
                raise UnaskedError(f"{qtype} of {candidate}")
            return _Arrival()
        seconds, reply, answer = min(usable, key=lambda each: each[0])
        if not (reply.tc and self.since_1_2_4):
            return _Arrival(seconds, reply)
        final = _usable(answer.over_tcp)
        if final is not None:
            return _Arrival(seconds, final)
        return _Arrival() if answer.over_tcp is NoReply.SILENT else _Arrival(seconds, breaks=True)


def _usable(response: Reply | NoReply) -> Reply | None:
    """The reply if musl accepts it: positive or NXDOMAIN, every other rcode is ignored."""
    return response if isinstance(response, Reply) and response.rcode in {NOERROR, NXDOMAIN} else None
