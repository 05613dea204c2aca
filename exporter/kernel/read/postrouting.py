"""What IPv6 packets of pods pass as they leave the host: chains of type nat at hook postrouting. Broker -> Postrouting.

Chains are asked for by name, level by level of the jumps to them, so that kube-proxy's big ones are never dumped. What
is beyond a bound is left out, which whoever walks the chains takes for not known.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial

from exporter.broker.protocol.messages import ReadTopic, Topic, TopicAnswer
from exporter.kernel.decode import legacy, nft
from exporter.kernel.decode.nft import NFPROTO_INET, NFPROTO_IPV6
from exporter.kernel.decode.sets import parse_branches, parse_ipset, parse_nft_set
from exporter.kernel.read.filters import NftTables
from exporter.kernel.read.visits import ABSENT, ReadError, VisitAnswers, Visitor, attempt
from exporter.model.family import Family, Net
from exporter.model.packet_filter import GOTO, JUMP, Branches, Chain, Fixed, InSet, NatTable, Postrouting, Rule
from exporter.model.reason import Reason

EVERY = 60.0  # seconds between two looks for base chains, and two copies of the legacy table: both are slow
_HOOK = "POSTROUTING"
_POSTROUTING = 4  # linux/netfilter.h NF_INET_POST_ROUTING
_LEVELS = 8  # of jumps
_CHAINS = 256  # of nftables, maps included
_SETS = 64
_BYTES = 256 << 10  # of one chain, set or map
_TABLES = {NFPROTO_IPV6: "ip6", NFPROTO_INET: "inet"}
_BASES = {family: ReadTopic(Topic.NFT_BASE_CHAINS, number=family) for family in _TABLES}
_LEGACY = ReadTopic(Topic.LEGACY_REACHABLE, f"nat\0{_HOOK}".encode(), NFPROTO_IPV6)
_NO_FAMILY = ABSENT | {errno.EAFNOSUPPORT, errno.EOPNOTSUPP}


@dataclass(slots=True, kw_only=True)
class _Table:
    """A table that is being read. `family`: NFPROTO_*."""

    family: int
    name: str
    words: str
    chains: dict[str, Chain] = field(default_factory=dict)
    sets: dict[str | int, tuple[Net, ...] | None] = field(default_factory=dict)
    maps: dict[str, Branches] = field(default_factory=dict)

    def topic(self, topic: Topic, name: str) -> ReadTopic:
        return ReadTopic(topic, f"{self.name}\0{name}".encode(), self.family)

    def rules(self) -> Iterator[Rule]:
        """Those that take IPv6 at all."""
        for chain in self.chains.values():
            for rule in chain.rules:
                if not any(isinstance(each, Fixed) and each.holds is False for each in rule.conditions):
                    yield rule

    def wanted(self) -> Iterator[tuple[Topic, str]]:
        """The chains and maps that the rules lead to."""
        for rule in self.rules():
            if rule.branches:
                yield Topic.NFT_SET, rule.map
            if rule.verdict in {JUMP, GOTO}:
                yield Topic.NFT_RULES, rule.chain
        for branches in self.maps.values():
            yield from ((Topic.NFT_RULES, chain) for verdict, chain in branches if verdict in {JUMP, GOTO})

    def references(self) -> Iterator[str | int]:
        """The sets that the rules ask for."""
        for rule in self.rules():
            if rule.source_set is not None:
                yield rule.source_set
            yield from (each.reference for each in rule.conditions if isinstance(each, InSet))

    def take(self, kind: Topic, name: str, data: bytes) -> None:
        if kind is Topic.NFT_SET:
            self.maps[name] = parse_branches(data)
        else:
            described = nft.NftChain(family=self.family, table=self.name, name=name)
            self.chains[name] = nft.make_chain(described, nft.parse_rules(data))


async def read_postrouting(
    visitor: Visitor, tables: NftTables, before: Postrouting | None, *, legacy_nat: bool | ReadError
) -> Postrouting:
    """`tables`: those of nftables that exist. `legacy_nat`: whether legacy ip6tables has a table nat."""
    copied = visitor.clock()
    errors = [each for each in (tables, legacy_nat) if isinstance(each, ReadError) and each.reason is not Reason.KERNEL]
    families = () if isinstance(tables, ReadError) else tuple(f for f in _TABLES if any(f == t for t, _ in tables))
    named = frozenset[tuple[int, str]]() if isinstance(tables, ReadError) else tables
    wanted = (*(_BASES[f] for f in families), *((_LEGACY,) if legacy_nat is True else ()))
    if before and 0 <= copied - before.copied < EVERY and (before.named, tuple(before.heads)) == (named, wanted):
        copied = before.copied
        kept = {topic: TopicAnswer(*before.heads[topic]) for topic in wanted}
        first = VisitAnswers(found=kept, seconds=0.0, lsm=visitor.lsm)
    else:
        first = await visitor.visit(wanted)
    found: list[_Table] = []
    for family in families:
        _keep(attempt(partial(_base_chains, first, family)), found, errors)
    await _follow(visitor, found)
    if legacy_nat is True:
        _keep(attempt(partial(_legacy_table, first)), found, errors)
    await _read_sets(visitor, found)
    return Postrouting(
        copied=copied,
        tables=tuple(NatTable(name=t.words, chains=t.chains, sets=t.sets, maps=t.maps) for t in found if t.chains),
        unread=errors[0].reason if errors else None,
        detail="; ".join(error.detail for error in errors),
        named=named,
        heads={} if errors else {topic: first.found[topic] for topic in wanted if topic in first.found},
    )


def _keep(made: list[_Table] | ReadError, found: list[_Table], errors: list[ReadError]) -> None:
    if isinstance(made, ReadError):
        errors.append(made)
    else:
        found += made


def _base_chains(first: VisitAnswers, family: int) -> list[_Table]:
    """The tables of a family with such a chain, which has no rules yet."""
    found: dict[str, _Table] = {}
    for chain in nft.parse_chains(first.data(_BASES[family], _NO_FAMILY)):
        if (chain.family, chain.hook, chain.kind) == (family, _POSTROUTING, "nat"):
            words = f"{_TABLES[family]} {chain.table}"
            table = found.setdefault(chain.table, _Table(family=family, name=chain.table, words=words))
            table.chains[chain.name] = Chain(name=chain.name, hook=chain.hook, total=chain.use)
    return list(found.values())


def _legacy_table(first: VisitAnswers) -> list[_Table]:
    chains = dict(legacy.parse_chains(first.data(_LEGACY), Family.V6))
    return [_Table(family=NFPROTO_IPV6, name="nat", words="ip6tables-legacy nat", chains=chains)]


async def _follow(visitor: Visitor, tables: Iterable[_Table]) -> None:
    """Read the rules of each table's base chains, and of what they lead to."""
    waiting = [(table, Topic.NFT_RULES, name) for table in tables for name in table.chains]
    seen: set[ReadTopic] = set()
    for _ in range(_LEVELS):
        if not waiting:
            return
        asked = {table.topic(kind, name): (table, kind, name) for table, kind, name in waiting}
        seen |= asked.keys()
        answers = await visitor.visit(tuple(asked))
        for topic, (table, kind, name) in asked.items():
            hook = table.chains[name].hook if kind is Topic.NFT_RULES and name in table.chains else None
            data = attempt(partial(answers.optional, topic))
            if isinstance(data, bytes) and len(data) <= _BYTES:
                attempt(partial(table.take, kind, name, data))
            if hook is not None and name in table.chains:
                known = table.chains[name]
                table.chains[name] = Chain(name=name, hook=hook, rules=known.rules, total=known.total)
        waiting = [(t, kind, name) for t in tables for kind, name in t.wanted() if t.topic(kind, name) not in seen]
        waiting = waiting[: max(_CHAINS - len(seen), 0)]


async def _read_sets(visitor: Visitor, tables: Iterable[_Table]) -> None:
    wanted = [(table, reference) for table in tables for reference in dict.fromkeys(table.references())][:_SETS]
    answers = await visitor.visit(tuple(dict.fromkeys(_set_topic(*each) for each in wanted)))
    for table, reference in wanted:
        data = attempt(partial(answers.optional, _set_topic(table, reference)))
        if isinstance(data, bytes) and len(data) <= _BYTES:
            members = attempt(partial(_members, reference, data))
            table.sets[reference] = None if isinstance(members, ReadError) else members


def _set_topic(table: _Table, reference: str | int) -> ReadTopic:
    if isinstance(reference, int):
        return ReadTopic(Topic.IPSET, number=reference)
    return table.topic(Topic.NFT_SET, reference)


def _members(reference: str | int, data: bytes) -> tuple[Net, ...] | None:
    return parse_nft_set(data) if isinstance(reference, str) else parse_ipset(data, first=True)[1]
