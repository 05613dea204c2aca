"""musl's getaddrinfo as a pure function of what the nameservers said: called by resolver.py, asks nothing itself.

Follows musl 1.2.5 and, with `since_1_2_4` off, 1.2.3 (src/network/lookup_name.c, res_msend.c, resolvconf.c). All
nameservers are asked at once and the first NOERROR or NXDOMAIN per type counts. resolv.conf options other than ndots,
timeout and attempts are not known to it. Not followed: the hosts file, AI_ADDRCONFIG, and 1.2.3 taking records of
another type for addresses.
"""

from __future__ import annotations

from dataclasses import dataclass

from exporter.libc.replies import (
    Answer,
    Answers,
    NoReply,
    Outcome,
    Result,
    SearchWalk,
    UnaskedError,
    encodable,
    nameservers,
)
from exporter.model.dns import NOERROR, NXDOMAIN, Reply, ResolvConf
from exporter.model.family import Address

MAX_NDOTS, MAX_TIMEOUT = 15, 60
MAX_TEXT = 255  # name, dot and search domain, in lookup_name.c's buffer
NEVER = float("inf")


def candidates(name: str, conf: ResolvConf) -> tuple[str, ...]:
    """The names asked, in order, if none of them ends the search (lookup_name.c, name_from_dns_search).

    The root domain gives `name..`: 1.2.3 sends it as it is, malformed; later releases skip it.
    """
    bare = name.removesuffix(".")
    if not bare or bare.endswith("."):
        return ()
    if name.endswith(".") or name.count(".") >= min(conf.ndots, MAX_NDOTS):
        return (bare,)
    fitting = [domain for domain in conf.musl_search if len(name) + 1 + len(domain) <= MAX_TEXT]
    return (*(f"{name}.{domain if domain == '.' else domain.removesuffix('.')}" for domain in fitting), name)


def getaddrinfo(name: str, conf: ResolvConf, answers: Answers, request: str, *, since_1_2_4: bool) -> Result:
    """What musl returns for request any, 4 or 6 with ai_flags 0. Raises UnaskedError where it needs an unasked answer."""
    call = _MuslCall(conf=conf, walk=SearchWalk(answers), since_1_2_4=since_1_2_4)
    qtypes = {"any": ("A", "AAAA"), "4": ("A",), "6": ("AAAA",)}[request]
    why = "the name is empty or ends in two dots"
    candidate = ""
    for candidate in candidates(name, conf):
        step = call.ask(candidate, qtypes)
        if step.code:
            return Result(
                code=step.code, addresses=step.addresses, seconds=call.walk.seconds, candidate=candidate, why=step.why
            )
        why = step.why
    return Result(code="EAI_NONAME", addresses=(), seconds=call.walk.seconds, candidate=candidate, why=why)


@dataclass(frozen=True, slots=True)
class _Step:
    """What one candidate came to; an empty code goes on to the next."""

    code: str
    why: str
    addresses: tuple[Address, ...] = ()


@dataclass(frozen=True, slots=True)
class _Arrival:
    """When one type's final reply stands (seconds; NEVER), and which; `breaks`: its TCP attempt ended all waiting then."""

    at: float = NEVER
    reply: Reply | None = None
    breaks: bool = False


@dataclass(slots=True)
class _MuslCall:
    conf: ResolvConf
    walk: SearchWalk
    since_1_2_4: bool

    @property
    def timeout(self) -> float:
        return float(min(self.conf.timeout, MAX_TIMEOUT))

    def ask(self, candidate: str, qtypes: tuple[str, ...]) -> _Step:
        """name_from_dns: the types in order A, AAAA; no answer ends the search, NXDOMAIN of either goes on."""
        if not encodable(candidate):
            return self._unencodable(candidate)
        replies = self._send(candidate, qtypes)
        for qtype, reply in zip(qtypes, replies, strict=True):
            if reply is None:
                return _Step("EAI_AGAIN", f"{candidate} got no usable {qtype} answer: musl waits and gives up there")
            if reply.rcode == NXDOMAIN:
                return _Step("", f"no candidate exists; the last, {candidate}, got NXDOMAIN for {qtype}")
        addresses = tuple(address for reply in replies if reply is not None for address in reply.addresses)
        if addresses:
            return _Step("OK", f"{candidate} has an address", addresses)
        said = " and ".join(f"{qtype} NOERROR without an address" for qtype in qtypes)
        code = "EAI_NODATA" if self.since_1_2_4 else "EAI_NONAME"
        return _Step(code, f"{candidate} says {said}: musl takes the name for existing and stops there")

    def _unencodable(self, candidate: str) -> _Step:
        if self.since_1_2_4:
            return _Step("", f"{candidate} is no name that fits into a query")
        if candidate.endswith(".."):
            self.walk.seconds += self.timeout
            return _Step("EAI_AGAIN", f"{candidate} makes a malformed query that no nameserver answers")
        return _Step("EAI_NONAME", f"{candidate} is no name that fits into a query")

    def _send(self, candidate: str, qtypes: tuple[str, ...]) -> list[Reply | None]:
        """res_msend.c: the reply per type, None where none came within the timeout; adds the time that passes."""
        arrivals = [self._race(candidate, qtype) for qtype in qtypes]
        broken = min((arrival.at for arrival in arrivals if arrival.breaks), default=NEVER)
        self.walk.seconds += min(max(arrival.at for arrival in arrivals), broken, self.timeout)
        return [arrival.reply if arrival.at < self.timeout and arrival.at <= broken else None for arrival in arrivals]

    def _race(self, candidate: str, qtype: str) -> _Arrival:
        """The first good reply of all nameservers. A nameserver that was not asked counts as the slowest."""
        answers: list[Answer] = []
        unasked: UnaskedError | None = None
        for server in nameservers(self.conf.musl_nameservers or self.conf.nameservers):
            try:
                answers.append(self.walk.answer(candidate, qtype, server))
            except UnaskedError as missing:
                unasked = missing
        good = [answer for answer in answers if _taken(answer.datagram)]
        if not good:
            if unasked is not None:
                raise unasked
            return _Arrival()
        first = min(good, key=lambda answer: answer.seconds)
        return self._arrival(first)

    def _arrival(self, first: Answer) -> _Arrival:
        assert isinstance(first.datagram, Reply)
        if not (first.datagram.tc and self.since_1_2_4):
            return _Arrival(first.seconds, first.datagram)
        stream = first.over_tcp
        if _taken(stream):
            assert isinstance(stream, Reply)
            return _Arrival(first.seconds, stream)
        return _Arrival() if stream is NoReply.SILENT else _Arrival(first.seconds, breaks=True)


def _taken(outcome: Outcome) -> bool:
    """Whether musl accepts it: positive or NXDOMAIN, every other rcode is ignored."""
    return isinstance(outcome, Reply) and outcome.rcode in {NOERROR, NXDOMAIN}
