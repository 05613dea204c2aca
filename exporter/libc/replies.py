"""What a libc would meet on the wire, per candidate name, type and nameserver: the input of glibc.py and musl.py.

Lookups become replies here, after the probe and before the prediction. A question that was not asked raises
UnaskedError where a model needs its answer; resolver.py turns that into "cannot tell". No I/O, no judgement.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import TypeAlias

from exporter.model.dns import Reply
from exporter.model.family import Address, parse_address
from exporter.model.probe import Lookup, LookupOutcome

MAX_NAMESERVERS = 3  # MAXNS of both libcs
MAX_NAME = 253  # octets of a name as text, RFC 1035 section 2.3.4
MAX_LABEL = 63


class NoReply(Enum):
    """How a question stayed without a reply."""

    SILENT = "silent"
    REFUSED = "refused"  # ICMP port unreachable, or RST
    CLOSED = "closed"  # a TCP connection that ended without the reply


Outcome: TypeAlias = Reply | NoReply


@dataclass(frozen=True, slots=True)
class Answer:
    """One question to one nameserver. `stream` is what TCP gave; None: TCP was not needed and so not tried, it would say the same.

    `seconds` is the time to the UDP reply; it decides between nameservers that musl asks at once.
    """

    datagram: Outcome
    stream: Outcome | None = None
    seconds: float = 0.0

    @property
    def over_tcp(self) -> Outcome:
        """What a libc that turns to TCP would get."""
        return self.datagram if self.stream is None else self.stream


Answers: TypeAlias = Mapping[tuple[str, str, Address], Answer]


class UnaskedError(LookupError):
    """A model needs the answer to a question that nobody asked."""


@dataclass(slots=True)
class SearchWalk:
    """What one call of getaddrinfo has met so far: the clock it spends and the way it went, for the sentence that explains it."""

    answers: Answers
    seconds: float = 0.0
    trail: list[str] = field(default_factory=list)

    def answer(self, name: str, qtype: str, server: Address) -> Answer:
        """The answer to one question; UnaskedError where there is none."""
        try:
            return self.answers[fold_case(name), qtype, server]
        except KeyError:
            raise UnaskedError(f"{qtype} of {name} at {server}") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What getaddrinfo returns: OK or the EAI_* name, addresses, seconds spent waiting, the deciding candidate, and why."""

    code: str
    addresses: tuple[Address, ...] = ()
    seconds: float = 0.0
    candidate: str = ""
    why: str = ""


def fold_case(name: str) -> str:
    """A name as key: lower case, without one final dot."""
    return name.lower().removesuffix(".")


def encodable(name: str) -> bool:
    """Whether a name fits into a query (RFC 1035 section 2.3.4); the final dot does not count."""
    bare = name.removesuffix(".")
    return len(bare) <= MAX_NAME and all(0 < len(label) <= MAX_LABEL for label in bare.split("."))


def nameservers(listed: tuple[Address, ...]) -> tuple[Address, ...]:
    """The nameservers a libc asks: the first three listed, the loopback where none is (resolv.conf(5))."""
    loopback = parse_address("127.0.0.1")
    assert loopback is not None
    return listed[:MAX_NAMESERVERS] or (loopback,)


def answers_of(lookups: Iterable[Lookup]) -> dict[tuple[str, str, Address], Answer]:
    """Lookups as answers. What was not sent gives none; a malformed reply counts as silence, which is how a libc takes it."""
    found: dict[tuple[str, str, Address], Answer] = {}
    for lookup in lookups:
        answer = _answer(lookup)
        if answer is not None:
            question = lookup.question
            found[fold_case(question.name), question.qtype, question.server.address] = answer
    return found


def _answer(lookup: Lookup) -> Answer | None:
    if lookup.outcome in {LookupOutcome.NOT_ALLOWED, LookupOutcome.NOT_ASKED}:
        return None
    seconds = lookup.seconds or 0.0
    final: Outcome
    if lookup.reply is not None:
        final = lookup.reply
    else:
        final = NoReply.REFUSED if lookup.outcome is LookupOutcome.UNREACHABLE else NoReply.SILENT
    if not lookup.truncated:
        return Answer(final, seconds=seconds)
    return Answer(lookup.datagram or Reply(tc=True), stream=final, seconds=seconds)
