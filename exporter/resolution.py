"""Resolves the targets' host names from where the dial will start: once per distinct resolv.conf, A and AAAA apart.

Between plan and checks. Asks absolute names first where they have a dot (the operator wrote them whole), then the search list. A
vantage whose own nameservers may not be asked dials what the host's resolver said: its path is still worth testing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from exporter.asking import Asker, Deadline
from exporter.model.dns import ResolvConf
from exporter.model.family import FAMILIES, Address, Family
from exporter.model.probe import Lookup, LookupOutcome, Purpose, Question, Server
from exporter.model.vantage import Vantage

FRESH = 300.0  # seconds that an answer is used without asking again, whatever its TTL says above that
SERVERS, CANDIDATES = 2, 6
QTYPES: Mapping[Family, str] = {Family.V4: "A", Family.V6: "AAAA"}


@dataclass(frozen=True, slots=True)
class Resolved:
    """A name's addresses: None means that the answer was that there is none; a family not in it could not be learned."""

    addresses: Mapping[Family, Address | None] = field(default_factory=dict)
    time: float = 0.0
    lookups: tuple[Lookup, ...] = ()


class Resolution:
    """Answers by (resolv.conf, name), kept for a while."""

    def __init__(self, asker: Asker, *, clock: Callable[[], float], timeout: float) -> None:
        self._asker = asker
        self._clock = clock
        self._timeout = timeout
        self._known: dict[tuple[object, str], Resolved] = {}

    async def resolve(
        self, name: str, vantage: Vantage, conf: ResolvConf, servers: Sequence[Server], deadline: Deadline
    ) -> Resolved:
        """The addresses of a name as asked from that vantage of those servers, from memory while fresh."""
        key = ((conf.nameservers, conf.search, tuple(s.address for s in servers)), name)
        known = self._known.get(key)
        if known is not None and self._clock() - known.time < FRESH and len(known.addresses) == len(FAMILIES):
            return Resolved(known.addresses, known.time)
        made = await self._ask(name, vantage, conf, servers, deadline)
        self._known[key] = made
        return made

    def forget(self, names: Sequence[str]) -> None:
        """Keep only these names (after a reload), and nothing older than an hour."""
        now = self._clock()
        self._known = {k: v for k, v in self._known.items() if k[1] in names and now - v.time < 3600}

    async def _ask(
        self, name: str, vantage: Vantage, conf: ResolvConf, servers: Sequence[Server], deadline: Deadline
    ) -> Resolved:
        lookups: list[Lookup] = []
        found: dict[Family, Address | None] = {}
        for candidate in candidates(name, conf)[:CANDIDATES]:
            pair: dict[Family, Lookup] = {}
            for server in servers[:SERVERS]:
                open_ = [f for f in FAMILIES if f not in pair or not _final(pair[f])]
                questions = [self._question(candidate, f, vantage, server) for f in open_]
                made = await self._asker.ask_all(questions, deadline)
                lookups.extend(made)
                pair.update(zip(open_, made, strict=True))
                if all(_final(lookup) for lookup in pair.values()):
                    break
            found = {f: _first(lookup) for f, lookup in pair.items() if _final(lookup)}
            if any(found.values()) or len(found) < len(FAMILIES):
                break
        return Resolved(found, self._clock(), tuple(lookups))

    def _question(self, name: str, family: Family, vantage: Vantage, server: Server) -> Question:
        return Question(vantage, server, name, QTYPES[family], name, Purpose.TARGET, timeout=self._timeout)


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
