"""Resolves the targets' host names from where the dial will start: once per distinct resolv.conf, A and AAAA apart.

Between plan/name_resolution.py and the dials. Asks absolute names first where they have a dot (the operator wrote them
whole), then the search list. An answer is used as long as plan/lifetimes.py says; a dial that failed has the name asked
anew. It keeps to the questions that the round allows it: a name whose turn has not come uses what it had, for a while.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv6Address
from typing import TypeAlias

from exporter.config.schema import Config
from exporter.model.dns import ResolvConf
from exporter.model.family import FAMILIES, Address, Family
from exporter.model.probe import Lookup, LookupOutcome, Nameserver, Purpose, Question
from exporter.model.vantage import Vantage
from exporter.plan.lifetimes import admitted, lifetime
from exporter.plan.name_resolution import Naming
from exporter.probes.runner import Deadline, ProbeRunner

WAITING = 300.0  # seconds for which an address is used at most while its name waits for its turn in the budget
SERVERS, CANDIDATES = 2, 6
OLDEST = 3600.0  # seconds after which what is known of a name is forgotten
PAIR = len(FAMILIES)  # questions about one name at least
AT_MOST = SERVERS * CANDIDATES * PAIR  # and at most
NEVER = float("-inf")
Key: TypeAlias = tuple[object, str]
LOOPBACK: Mapping[Family, Address | None] = {Family.V4: IPv4Address("127.0.0.1"), Family.V6: IPv6Address("::1")}
QTYPES: Mapping[Family, str] = {Family.V4: "A", Family.V6: "AAAA"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolved:
    """A name's addresses: None means that the answer was that there is none; a family not in it could not be learned.

    `waits`: the budget did not suffice, and nothing is known from before. `time` is when it was asked, `until` the end
    of its use, both of a clock that never steps; `doubted`: a dial by these addresses failed.
    """

    addresses: Mapping[Family, Address | None] = field(default_factory=dict)
    time: float = 0.0
    until: float = 0.0
    lookups: tuple[Lookup, ...] = ()
    waits: bool = False
    doubted: bool = False


class TargetResolver:
    """Answers by (resolv.conf, name), kept for a while."""

    def __init__(self, asker: ProbeRunner, *, timeout: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._asker = asker
        self._clock = clock
        self._timeout = timeout
        self._known: dict[Key, Resolved] = {}
        self._costs: dict[Key, int] = {}  # questions that a name took, or more where the budget ended it
        self._admitted: frozenset[Key] | None = None  # None: every name may ask
        self._left: int | None = None

    def configure(self, names: Sequence[str], timeout: float) -> None:
        """Keep only these names (after a reload), and nothing older than an hour. `timeout`: seconds for one question."""
        now = self._clock()
        self._known = {k: v for k, v in self._known.items() if k[1] in names and now - v.time < OLDEST}
        self._costs = {k: v for k, v in self._costs.items() if k[1] in names}
        self._timeout = timeout

    def allow(self, questions: int | None, named: Iterable[Naming]) -> None:
        """How many questions this round may ask about these names; None: any number. A budget too small for one pair is saved up.

        Where it does not suffice for all that are due, those asked longest ago come first.
        """
        saved = 0 if self._left is None or questions is None else self._left
        self._left = None if questions is None else min(saved + questions, max(questions, PAIR))
        due = {key: self._known[key].time if key in self._known else NEVER for key in self._due(named)}
        self._admitted = None if self._left is None else admitted(due, self._costs, PAIR, self._left)

    def due(self, named: Iterable[Naming]) -> int:
        """How many questions these names may need now; 0 for those that are fresh, or that nobody may be asked about."""
        return sum(self._costs.get(key, AT_MOST) for key in self._due(named))

    def doubt(self, naming: Naming, hosts: Iterable[str]) -> None:
        """Dials by what these names resolved to have failed: the next round asks anew."""
        for key in (_key(host, naming.conf, naming.servers) for host in hosts):
            if key in self._known:
                self._known[key] = replace(self._known[key], doubted=True)

    async def resolve(
        self, name: str, vantage: Vantage, conf: ResolvConf, servers: Sequence[Nameserver], deadline: Deadline
    ) -> Resolved:
        """The addresses of a name as asked from that vantage of those servers, from memory while fresh."""
        if is_loopback(name):
            return Resolved(addresses=LOOPBACK, time=self._clock())
        key = _key(name, conf, servers)
        known = self._known.get(key)
        if known is not None and self._is_fresh(known):
            return replace(known, lookups=())
        if servers and self._admitted is not None and key not in self._admitted:
            return self._while_waiting(known, ())
        made = await self._ask(name, vantage, conf, servers, deadline)
        if made.waits:
            self._costs[key] = min(AT_MOST, 2 * max(PAIR, self._costs.get(key, PAIR)))
            return self._while_waiting(known, made.lookups)
        self._costs[key] = max(PAIR, len(made.lookups))
        self._known[key] = self._filled(made, known)
        return self._known[key]

    def _due(self, named: Iterable[Naming]) -> tuple[Key, ...]:
        """The names that must be asked before they are dialled, each once."""
        keys = (
            _key(target.host, naming.conf, naming.servers)
            for naming in named
            for target in naming.targets
            if naming.servers and not is_loopback(target.host)
        )
        return tuple(dict.fromkeys(key for key in keys if not self._is_fresh(self._known.get(key))))

    def _is_fresh(self, known: Resolved | None) -> bool:
        return (
            known is not None
            and not known.doubted
            and self._clock() < known.until
            and len(known.addresses) == len(FAMILIES)
        )

    def _while_waiting(self, known: Resolved | None, lookups: tuple[Lookup, ...]) -> Resolved:
        """What is known from before, unless it is too old."""
        if known is None or self._clock() - known.time >= WAITING:
            return Resolved(lookups=lookups, waits=True)
        return replace(known, lookups=lookups)

    def _filled(self, made: Resolved, known: Resolved | None) -> Resolved:
        """What was answered now; of a family that was not, what was known while it is still to be used."""
        if known is None or len(made.addresses) == len(FAMILIES) or self._clock() >= known.until:
            return made
        return replace(made, addresses={**known.addresses, **made.addresses}, until=known.until, doubted=True)

    async def _ask(
        self, name: str, vantage: Vantage, conf: ResolvConf, servers: Sequence[Nameserver], deadline: Deadline
    ) -> Resolved:
        began = self._clock()
        lookups: list[Lookup] = []
        found: dict[Family, Address | None] = {}
        lifetimes: list[float] = []  # of every answer that led to what was found
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
            lifetimes += map(lifetime, pair.values())
            if any(found.values()) or len(found) < len(FAMILIES):
                break
        return Resolved(addresses=found, time=began, until=began + min(lifetimes, default=0.0), lookups=tuple(lookups))

    def _spend(self, questions: int) -> bool:
        if self._left is None:
            return True
        enough = self._left >= questions
        self._left -= questions if enough else 0
        return enough

    def _question(self, name: str, family: Family, vantage: Vantage, server: Nameserver, *, label: str) -> Question:
        """Labelled by the name as configured: candidates come from a search list, which is the pod's own."""
        return Question(
            vantage=vantage,
            server=server,
            name=name,
            qtype=QTYPES[family],
            label=label,
            purpose=Purpose.TARGET,
            timeout=self._timeout,
        )


def question_timeout(config: Config, whole: float, timeout: float) -> float:
    """Seconds for one question: two servers' silence leaves half of the round (`timeout`) for the dial."""
    return min(config.timeouts.dns, whole, timeout / (2 * SERVERS))


def _key(name: str, conf: ResolvConf, servers: Sequence[Nameserver]) -> Key:
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
