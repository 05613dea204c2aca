"""What a libc would get on the wire, per candidate name, type and nameserver: the input of glibc.py and musl.py.

Lookups become replies here, between the probes and the prediction. A question that was not asked raises UnaskedError
where a model needs its answer; resolver.py turns that into "no prediction". No I/O, no judgement.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from ipaddress import IPv4Address
from typing import TypeAlias

from exporter.libc.messages import GlibcReader, MuslReader
from exporter.model.dns import Reply, ResolvConf
from exporter.model.dns_name import casefold
from exporter.model.family import Address
from exporter.model.probe import Lookup, LookupOutcome, Lost

MAX_NAMESERVERS = 3  # MAXNS of both libcs
LOOPBACK = IPv4Address("127.0.0.1")
QTYPES: Mapping[str, tuple[str, ...]] = {"any": ("A", "AAAA"), "4": ("A",), "6": ("AAAA",)}  # by request


class NoReply(Enum):
    """How a question ended without a reply."""

    SILENT = "silent"
    REFUSED = "refused"  # ICMP port unreachable, or RST
    CLOSED = "closed"  # a TCP connection that ended without the reply


Response: TypeAlias = Reply | NoReply


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """How one question to one nameserver ended."""

    datagram: Response = field(kw_only=False)
    stream: Response | None = None  # the reply over TCP; None: TCP was not needed and would give the same
    seconds: float = 0.0  # to the UDP reply; they decide between nameservers that musl asks at once
    lost: Lost = Lost.NEVER
    views: tuple[tuple[str, Answer], ...] = ()  # as each libc reads it, where they may differ; by libc

    def seen_by(self, libc: str) -> Answer:
        return next((answer for name, answer in self.views if name == libc), self)

    @property
    def over_tcp(self) -> Response:
        """What a libc that turns to TCP would get."""
        return self.datagram if self.stream is None else self.stream


Answers: TypeAlias = Mapping[tuple[str, str, Address], Answer]  # by casefolded name, type, server


class UnaskedError(LookupError):
    """A model needs the answer to a question that was not asked."""


@dataclass(slots=True)
class SearchWalk:
    """One call of getaddrinfo on its way: the answers that it gets, and the seconds that it has waited."""

    answers: Answers
    libc: str
    seconds: float = 0.0

    def answer(self, name: str, qtype: str, server: Address) -> Answer:
        try:
            return self.answers[casefold(name), qtype, server].seen_by(self.libc)
        except KeyError:
            raise UnaskedError(f"{qtype} of {name} at {server}") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What getaddrinfo returns: OK or EAI_*, addresses, seconds spent waiting, the deciding candidate, and why."""

    code: str
    addresses: tuple[Address, ...] = ()
    seconds: float = 0.0
    candidate: str = ""
    why: str = ""


def nameservers(conf: ResolvConf) -> tuple[Address, ...]:
    """The nameservers a libc asks: the first three listed, the loopback if there is none (resolv.conf(5))."""
    return conf.nameservers[:MAX_NAMESERVERS] or (LOOPBACK,)


def answers_of(lookups: Iterable[Lookup]) -> dict[tuple[str, str, Address], Answer]:
    """Lookups as answers. What was not sent gives none; a malformed reply counts as silence, as it does for a libc."""
    return {
        (casefold(one.question.name), one.question.qtype, one.question.server.address): _answer(one)
        for one in lookups
        if one.outcome not in {LookupOutcome.NOT_ALLOWED, LookupOutcome.NOT_ASKED}
    }


def _answer(lookup: Lookup) -> Answer:
    answer = _decoded(lookup)
    if not lookup.heard:
        return answer
    name, qtype = lookup.question.name, lookup.question.qtype
    readers: tuple[tuple[str, GlibcReader | MuslReader], ...] = (
        ("glibc", GlibcReader(name, qtype)),
        ("glibc_any", GlibcReader(name, qtype, any_class=True)),
        ("musl", MuslReader(qtype, since_1_2_4=True)),
        ("musl_1_2_3", MuslReader(qtype, since_1_2_4=False)),
    )
    return replace(answer, views=tuple((libc, _as_read(lookup, reader, answer)) for libc, reader in readers))


def _as_read(lookup: Lookup, reader: GlibcReader | MuslReader, answer: Answer) -> Answer:
    """The first datagram that this libc accepts, and what it then gets over TCP."""
    given = ((one.seconds, reader.datagram(one.wire)) for one in lookup.heard if not one.stream)
    accepted = ((seconds, reply) for seconds, reply in given if reply is not None and reader.accepts(reply))
    seconds, datagram = next(accepted, (answer.seconds, None))
    streams = (reader.stream(one.wire) for one in lookup.heard if one.stream)
    stream = next(streams, None) or (answer.stream if isinstance(answer.stream, NoReply) else None)
    if datagram is None and any(reader.gives_up(one.wire) for one in lookup.heard):
        return Answer(NoReply.REFUSED, stream=stream, seconds=seconds)
    return Answer(datagram or NoReply.SILENT, stream=stream, seconds=seconds, lost=answer.lost)


def _decoded(lookup: Lookup) -> Answer:
    seconds = lookup.seconds or 0.0
    no_reply = NoReply.REFUSED if lookup.outcome is LookupOutcome.UNREACHABLE else NoReply.SILENT
    final = lookup.reply if lookup.reply is not None else no_reply
    if not lookup.truncated:
        return Answer(final, seconds=seconds, lost=lookup.lost)
    return Answer(lookup.datagram or Reply(tc=True), stream=final, seconds=seconds)
