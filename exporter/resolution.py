"""Resolves the targets' host names from where the dial will start: once per distinct resolv.conf, A and AAAA apart.

Between plan/naming.py and the dials. Asks absolute names first where they have a dot (the operator wrote them whole), then the search
list. It keeps to the questions that the round allows it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv6Address

from exporter.asking import Asker, Deadline
from exporter.config.schema import Config
from exporter.model.dns import ResolvConf
from exporter.model.family import FAMILIES, Address, Family
from exporter.model.probe import Lookup, LookupOutcome, Purpose, Question, Server
from exporter.model.vantage import Vantage

FRESH = 300.0  # seconds that an answer is used without asking again, whatever its TTL says above that
SERVERS, CANDIDATES = 2, 6
OLDEST = 3600.0  # seconds after which what is known of a name is forgotten
AT_MOST = SERVERS * CANDIDATES * 2  # questions about one name
LOOPBACK: Mapping[Family, Address | None] = {Family.V4: IPv4Address("127.0.0.1"), Family.V6: IPv6Address("::1")}
QTYPES: Mapping[Family, str] = {Family.V4: "A", Family.V6: "AAAA"}


@dataclass(frozen=True, slots=True)
class Resolved:
    """A name's addresses: None means that the answer was that there is none; a family not in it could not be learned.

    `waits`: the budget did not suffice, and nothing is known from before. `time` is of a clock that never steps.
    """

    addresses: Mapping[Family, Address | None] = field(default_factory=dict)
    time: float = 0.0
    lookups: tuple[Lookup, ...] = ()
    waits: bool = False


class Resolution:
    """Answers by (resolv.conf, name), kept for a while."""

    def __init__(self, asker: Asker, *, timeout: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._asker = asker
        self._clock = clock
        self._timeout = timeout
        self._known: dict[tuple[object, str], Resolved] = {}
        self._left: int | None = None

    def configure(self, names: Sequence[str], timeout: float) -> None:
        """Keep only these names (after a reload), and nothing older than an hour. `timeout`: seconds for one question."""
        now = self._clock()
        self._known = {k: v for k, v in self._known.items() if k[1] in names and now - v.time < OLDEST}
        self._timeout = timeout

    def allow(self, questions: int | None) -> None:
        """How many questions this round may ask; None: any number. A budget too small for one name's pair is saved up."""
        saved = 0 if self._left is None or questions is None else self._left
        self._left = None if questions is None else min(saved + questions, max(questions, len(FAMILIES)))

    def due(self, names: Iterable[str], conf: ResolvConf, servers: Sequence[Server]) -> int:
        """How many questions these names may need now; 0 for those that are fresh, or that nobody may be asked about."""
        return sum(
            AT_MOST
            for name in names
            if servers and not is_loopback(name) and not self._is_fresh(self._known.get(_key(name, conf, servers)))
        )

    async def resolve(
        self, name: str, vantage: Vantage, conf: ResolvConf, servers: Sequence[Server], deadline: Deadline
    ) -> Resolved:
        """The addresses of a name as asked from that vantage of those servers, from memory while fresh."""
        if is_loopback(name):
            return Resolved(LOOPBACK, self._clock())
        key = _key(name, conf, servers)
        known = self._known.get(key)
        if known is not None and self._is_fresh(known):
            return Resolved(known.addresses, known.time)
        made = await self._ask(name, vantage, conf, servers, deadline)
        if made.waits:
            return replace(made, waits=True) if known is None else replace(known, lookups=made.lookups)
        self._known[key] = made
        return made

    def _is_fresh(self, known: Resolved | None) -> bool:
        return known is not None and self._clock() - known.time < FRESH and len(known.addresses) == len(FAMILIES)

    async def _ask(
        self, name: str, vantage: Vantage, conf: ResolvConf, servers: Sequence[Server], deadline: Deadline
    ) -> Resolved:
        lookups: list[Lookup] = []
        found: dict[Family, Address | None] = {}
        for candidate in candidates(name, conf)[:CANDIDATES]:
            pair: dict[Family, Lookup] = {}
            for server in servers[:SERVERS]:
                open_ = [f for f in FAMILIES if f not in pair or not _final(pair[f])]
                questions = [self._question(candidate, f, vantage, server, label=name) for f in open_]
                if not self._spend(len(questions)):
                    return Resolved(lookups=tuple(lookups), waits=True)
                made = await self._asker.ask_all(questions, deadline)
                lookups.extend(made)
                pair.update(zip(open_, made, strict=True))
                if all(_final(lookup) for lookup in pair.values()):
                    break
            found = {f: _first(lookup) for f, lookup in pair.items() if _final(lookup)}
            if any(found.values()) or len(found) < len(FAMILIES):
                break
        return Resolved(found, self._clock(), tuple(lookups))

    def _spend(self, questions: int) -> bool:
        if self._left is None:
            return True
        enough = self._left >= questions
        self._left -= questions if enough else 0
        return enough

    def _question(self, name: str, family: Family, vantage: Vantage, server: Server, *, label: str) -> Question:
        """Labelled by the name as configured: candidates come from a search list, which is the pod's own."""
        return Question(vantage, server, name, QTYPES[family], label, Purpose.TARGET, timeout=self._timeout)


def question_timeout(config: Config, whole: float, timeout: float) -> float:
    """Seconds for one question: two servers' silence leaves half of the round (`timeout`) for the dial."""
    return min(config.timeouts.dns, whole, timeout / (2 * SERVERS))


def _key(name: str, conf: ResolvConf, servers: Sequence[Server]) -> tuple[object, str]:
    return (conf.nameservers, conf.search, tuple(s.address for s in servers)), name


def is_loopback(name: str) -> bool:
    """Whether the name is localhost or below it, which is never asked of a nameserver (RFC 6761 6.3)."""
    bare = name.lower().removesuffix(".")
    return bare == "localhost" or bare.endswith(".localhost")


def candidates(name: str, conf: ResolvConf) -> tuple[str, ...]:
    """Absolute names to try, without final dots."""
    bare = name.rstrip(".")
    if name.endswith("."):
        return (bare,)
    searched = tuple(f"{bare}.{domain.rstrip('.')}" for domain in conf.search if domain.rstrip("."))
    return (bare, *searched) if "." in bare else (*searched, bare)


def _final(lookup: Lookup) -> bool:
    return lookup.outcome in {LookupOutcome.ANSWER, LookupOutcome.NODATA, LookupOutcome.NXDOMAIN}


def _first(lookup: Lookup) -> Address | None:
    return lookup.reply.addresses[0] if lookup.reply is not None and lookup.reply.addresses else None
