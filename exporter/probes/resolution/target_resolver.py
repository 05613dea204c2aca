"""Resolves the targets' host names for the vantages that dial them.

Between plan/name_resolution.py and the dials. No pod's answers are used for another pod unless the host, which asks the
same nameservers, was given the same addresses. A name with a dot is asked as it is first, because the operator wrote it
whole, then with the search list. An answer is used for as long as plan/name_resolution.py allows; after a failed dial
the name is asked again. The round's budget limits the questions: a name that may not be asked yet uses its last answer
for a while.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv6Address
from math import inf
from typing import TypeAlias

from exporter.config.schema import Config
from exporter.model.dns import ResolvConf
from exporter.model.dns_name import is_within
from exporter.model.family import FAMILIES, Address, Family, is_destination
from exporter.model.probe import Lookup, LookupOutcome, Nameserver, Purpose, Question
from exporter.model.vantage import Vantage
from exporter.plan.name_resolution import LONGEST, ResolutionGroup, admitted, lifetime
from exporter.probes.runner import Deadline, ProbeRunner

SERVERS, CANDIDATES = 2, 6
OLDEST = 600.0  # seconds after which an answer is forgotten
EQUAL = 600.0  # seconds for which a pod that is told the same as the host is believed to be
SHARED = ""  # in place of a vantage's key: the host's answers, for every vantage with this resolv.conf
PAIR = len(FAMILIES)  # questions about one name at least
AT_MOST = SERVERS * CANDIDATES * PAIR  # and at most
Key: TypeAlias = tuple[object, str]  # resolv.conf and servers, name
LOCALHOST = "localhost"  # it and names below it are never asked of a nameserver (RFC 6761 6.3)
LOOPBACK: Mapping[Family, tuple[Address, ...]] = {
    Family.V4: (IPv4Address("127.0.0.1"),),
    Family.V6: (IPv6Address("::1"),),
}
QTYPES: Mapping[Family, str] = {Family.V4: "A", Family.V6: "AAAA"}
FINAL = frozenset({LookupOutcome.ANSWER, LookupOutcome.NODATA, LookupOutcome.NXDOMAIN})


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolved:
    """A name's addresses: none if the answer has none that can be dialled; without a family if nothing answered it."""

    found: Mapping[Family, tuple[Address, ...]] = field(default_factory=dict)
    time: float = 0.0  # when it was asked, of a monotonic clock
    until: float = 0.0  # the end of its use
    lookups: tuple[Lookup, ...] = ()
    waits: bool = False  # the budget did not allow it to be asked, and there is no earlier answer
    doubted: bool = False  # a dial to these addresses failed

    @property
    def addresses(self) -> Mapping[Family, Address | None]:
        """The first one of each family, None where there is none."""
        return {family: next(iter(each), None) for family, each in self.found.items()}

    @property
    def others(self) -> Mapping[Family, tuple[Address, ...]]:
        """Those after the first one."""
        return {family: each[1:] for family, each in self.found.items()}

    @property
    def complete(self) -> bool:
        return len(self.found) == len(FAMILIES)


class TargetResolver:
    """Asks, and keeps the answers by (resolv.conf, name) for a while."""

    def __init__(self, runner: ProbeRunner, *, timeout: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._runner = runner
        self._clock = clock
        self._timeout = timeout
        self._known: dict[tuple[Key, str], Resolved] = {}  # by name and vantage, or SHARED
        self._proved: dict[Key, float] = {}  # when a pod was last told the same as the host
        self._costs: dict[Key, int] = {}  # questions that a name took, or more if the budget stopped it
        self._admitted: frozenset[Key] | None = None  # None: every name may be asked
        self._left = inf  # questions in the round's budget

    def configure(self, names: Sequence[str], timeout: float) -> None:
        """After a reload: keep only these names, and nothing that is too old. `timeout`: seconds for a question."""
        now = self._clock()
        self._known = {k: v for k, v in self._known.items() if k[0][1] in names and now - v.time < OLDEST}
        self._costs = {k: v for k, v in self._costs.items() if k[1] in names}
        self._timeout = timeout

    def allow(self, questions: int | None, groups: Iterable[ResolutionGroup]) -> None:
        """How many questions this round may ask (None: any number). A budget too small for one pair is saved up."""
        if questions is None:
            self._left, self._admitted = inf, None
            return
        saved = 0 if self._left == inf else self._left
        self._left = min(saved + questions, max(questions, PAIR))
        now = self._clock()
        self._known = {k: v for k, v in self._known.items() if now - v.time < OLDEST}
        self._proved = {k: at for k, at in self._proved.items() if now - at < EQUAL}
        groups = tuple(groups)
        costs = {**self._costs, **{key: max(2 * PAIR, self._costs.get(key, 0)) for key in self._unproved(groups)}}
        self._admitted = admitted(self._due(groups), costs, PAIR, self._left)

    def due(self, groups: Iterable[ResolutionGroup]) -> int:
        """How many questions these names may need now; 0 for fresh answers, and if no server may be asked."""
        return sum(self._costs.get(key, AT_MOST) for key in self._due(groups))

    def doubt(self, group: ResolutionGroup, hosts: Iterable[str]) -> None:
        """Dials to the addresses of these names failed: the next round asks for them again."""
        for key in (_key(host, group.conf, group.servers) for host in hosts):
            for owner in (SHARED, *(v.key for v in group.vantages)):
                if (key, owner) in self._known:
                    self._known[key, owner] = replace(self._known[key, owner], doubted=True)

    async def resolve_for(
        self, name: str, group: ResolutionGroup, deadline: Deadline
    ) -> tuple[Mapping[str, Resolved], tuple[Lookup, ...]]:
        """The addresses for each vantage of the group, by its key, and the lookups made for them."""
        key = _key(name, group.conf, group.servers)
        shared = self._known.get((key, SHARED))
        fresh = shared is not None and self._is_fresh(shared)
        if group.asked_from.kind == "host" or fresh or is_within(name, LOCALHOST):
            made = await self.resolve(name, group.asked_from, group.conf, group.servers, deadline)
            return {v.key: made for v in group.vantages}, made.lookups
        own = {v.key: self._known.get((key, v.key)) for v in group.vantages}
        known = {k: max((each for each in (one, shared) if each), key=lambda e: e.time, default=None)
                 for k, one in own.items()}  # fmt: skip
        if self._admitted is not None and key not in self._admitted:
            return {owner: self._while_waiting(each, ()) for owner, each in known.items()}, ()
        lookups: tuple[Lookup, ...] = ()
        missing = not all(each is not None and self._is_fresh(each) for each in known.values())
        if missing and group.witness is not None and len(group.vantages) > 1 and self._left >= 2 * PAIR:
            common, lookups = await self._ask_both(name, key, group, deadline)
            if common is not None:
                self._costs[key] = max(PAIR, len(lookups))
                return {v.key: common for v in group.vantages}, lookups
        longest_ago = sorted(group.vantages, key=lambda v: -inf if (k := known[v.key]) is None else k.time)
        owned = {v.key: self._ask_as(v, name, key, group, deadline) for v in longest_ago}
        found = dict(zip(owned, await asyncio.gather(*owned.values()), strict=True))
        lookups += tuple(lookup for each in found.values() for lookup in each.lookups)
        self._costs[key] = max(PAIR, len(lookups))
        return found, lookups

    async def _ask_both(
        self, name: str, key: Key, group: ResolutionGroup, deadline: Deadline
    ) -> tuple[Resolved | None, tuple[Lookup, ...]]:
        """What the host was told, if one of the pods is told the same; that is asked anew after EQUAL seconds.

        None where the two disagree, or either has no answer; the pod's own answers are kept for it.
        """
        assert group.witness is not None
        vantages = [group.witness]
        if not self._is_proved(key):
            vantages.append(group.asked_from)
        made = await asyncio.gather(*(self._ask(name, v, group.conf, group.servers, deadline) for v in vantages))
        lookups = tuple(lookup for each in made for lookup in each.lookups)
        if len(made) > 1:
            self._keep(key, made[1], group.asked_from.key)
        common = agreed(made[0], made[-1])
        if common is None:
            self._proved.pop(key, None)
        else:
            if len(made) > 1:
                self._proved[key] = self._clock()
            self._known[key, SHARED] = common
        return common, lookups

    async def _ask_as(
        self, vantage: Vantage, name: str, key: Key, group: ResolutionGroup, deadline: Deadline
    ) -> Resolved:
        """A vantage's own answers."""
        known = self._known.get((key, vantage.key))
        if known is not None and self._is_fresh(known):
            return replace(known, lookups=())
        return self._keep(key, await self._ask(name, vantage, group.conf, group.servers, deadline), vantage.key)

    async def resolve(
        self, name: str, vantage: Vantage, conf: ResolvConf, servers: Sequence[Nameserver], deadline: Deadline
    ) -> Resolved:
        """The addresses of a name: the kept ones while fresh, else asked of these servers from that vantage."""
        if is_within(name, LOCALHOST):
            return Resolved(found=LOOPBACK, time=self._clock())
        key = _key(name, conf, servers)
        known = self._known.get((key, SHARED))
        if known is not None and self._is_fresh(known):
            return replace(known, lookups=())
        if servers and self._admitted is not None and key not in self._admitted:
            return self._while_waiting(known, ())
        made = self._keep(key, await self._ask(name, vantage, conf, servers, deadline), SHARED)
        if not made.waits:
            self._costs[key] = max(PAIR, len(made.lookups))
        return made

    def _keep(self, key: Key, made: Resolved, owner: str) -> Resolved:
        """What may be used now, after this was asked."""
        known = self._known.get((key, owner))
        if made.waits:
            self._costs[key] = min(AT_MOST, 2 * max(PAIR, self._costs.get(key, PAIR)))
            return self._while_waiting(known, made.lookups)
        if known is not None and not made.complete and self._clock() < known.until:
            # A family without an answer keeps its last one while that may be used.
            made = replace(made, found={**known.found, **made.found}, until=known.until, doubted=True)
        self._known[key, owner] = made
        return made

    def _due(self, groups: Iterable[ResolutionGroup]) -> Mapping[Key, float]:
        """The names that must be asked before they are dialled, each with when it was asked last."""
        due: dict[Key, float] = {}
        for group in groups:
            for target in group.targets:
                key = _key(target.host, group.conf, group.servers)
                if not group.servers or is_within(target.host, LOCALHOST):
                    continue
                own = [self._known.get((key, v.key)) for v in group.vantages]
                known = [shared] if (shared := self._known.get((key, SHARED))) is not None else own
                if not any(all(e is not None and self._is_fresh(e) for e in each) for each in (known, own)):
                    due.setdefault(key, min(-inf if e is None else e.time for e in known))
        return due

    def _unproved(self, groups: Iterable[ResolutionGroup]) -> Iterator[Key]:
        """The names of which a pod is asked as well as the host."""
        for group in groups:
            if group.witness is not None and len(group.vantages) > 1:
                keys = (_key(target.host, group.conf, group.servers) for target in group.targets)
                yield from (key for key in keys if not self._is_proved(key))

    def _is_proved(self, key: Key) -> bool:
        return self._clock() - self._proved.get(key, -inf) < EQUAL

    def _is_fresh(self, known: Resolved) -> bool:
        return not known.doubted and self._clock() < known.until and known.complete

    def _while_waiting(self, known: Resolved | None, lookups: tuple[Lookup, ...]) -> Resolved:
        """The last answer, unless it is too old: for a minute at most, although its TTL may be less."""
        if known is None or self._clock() - known.time > LONGEST:
            return Resolved(lookups=lookups, waits=True)
        return replace(known, lookups=lookups)

    async def _ask(
        self, name: str, vantage: Vantage, conf: ResolvConf, servers: Sequence[Nameserver], deadline: Deadline
    ) -> Resolved:
        began = self._clock()
        lookups: list[Lookup] = []
        found: dict[Family, tuple[Address, ...]] = {}
        lifetimes: list[float] = []  # of every answer that led to what was found

        def question(candidate: str, family: Family, server: Nameserver) -> Question:
            return Question(
                vantage=vantage,
                server=server,
                name=candidate,
                qtype=QTYPES[family],
                label=name,  # not the candidate: that comes from a search list, which the pod controls
                purpose=Purpose.TARGET,
                timeout=self._timeout,
            )

        for candidate in candidates(name, conf)[:CANDIDATES]:
            pair: dict[Family, Lookup] = {}
            for server in servers[:SERVERS]:
                missing = [f for f in FAMILIES if f not in pair or pair[f].outcome not in FINAL]
                questions = [question(candidate, f, server) for f in missing]
                if len(questions) > self._left:
                    return Resolved(lookups=tuple(lookups), waits=True)
                self._left -= len(questions)
                made = await self._runner.ask_all(questions, deadline)
                lookups.extend(made)
                pair.update(zip(missing, made, strict=True))
                if all(lookup.outcome in FINAL for lookup in pair.values()):
                    break
            found = {
                f: tuple(filter(is_destination, lookup.reply.addresses)) if lookup.reply is not None else ()
                for f, lookup in pair.items()
                if lookup.outcome in FINAL
            }
            lifetimes += map(lifetime, pair.values())
            answered = any(lookup.outcome is LookupOutcome.ANSWER for lookup in pair.values())
            if answered or len(found) < len(FAMILIES):
                break
        return Resolved(found=found, time=began, until=began + min(lifetimes, default=0.0), lookups=tuple(lookups))


def agreed(one: Resolved, other: Resolved) -> Resolved | None:
    """The addresses that both have, or none where neither has any; None where they disagree, or do not know."""
    if one.waits or other.waits or not (one.complete and other.complete):
        return None
    found = {f: tuple(a for a in each if a in other.found[f]) for f, each in one.found.items()}
    if any(not found[f] and (one.found[f] or other.found[f]) for f in found):
        return None
    return Resolved(found=found, time=min(one.time, other.time), until=min(one.until, other.until))


def question_timeout(config: Config, whole: float, timeout: float) -> float:
    """Seconds for one question: two silent servers leave half of the round (`timeout`) for the dial."""
    return min(config.timeouts["dns"], whole, timeout / (2 * SERVERS))


def _key(name: str, conf: ResolvConf, servers: Sequence[Nameserver]) -> Key:
    return (conf.nameservers, conf.search, tuple(s.address for s in servers)), name


def candidates(name: str, conf: ResolvConf) -> tuple[str, ...]:
    """Absolute names to try, without final dots."""
    bare = name.rstrip(".")
    if name.endswith("."):
        return (bare,)
    searched = tuple(f"{bare}.{domain.rstrip('.')}" for domain in conf.search if domain.rstrip("."))
    return (bare, *searched) if "." in bare else (*searched, bare)
