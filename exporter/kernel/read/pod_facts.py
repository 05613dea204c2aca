"""One pod's namespace: what is asked of it, and the answers put together as PodFacts. Pure.

A pod takes one visit, and a second one where it has packet filter tables that can intercept, or where a link suggests
that IPv6 is switched off for all.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from exporter.broker.protocol.messages import KernelState, NamespaceRef, ReadTopic, Topic
from exporter.kernel.decode import legacy, nft
from exporter.kernel.decode.counters import parse_all_conf
from exporter.kernel.decode.links import parse_addresses, parse_links, parse_listeners, without_counters
from exporter.kernel.decode.routes import parse_routes
from exporter.kernel.decode.rules import is_intercepted
from exporter.kernel.read import requests
from exporter.kernel.read.visits import ReadError, VisitAnswers, attempt, attempt_optional, gather
from exporter.model.facts import AddressFact, Inet6Conf, LinkFact, PodFacts
from exporter.model.family import Family
from exporter.model.packet_filter import Chain
from exporter.model.reason import Reason

FIRST_VISIT = (
    requests.ADDRESSES,
    requests.LINKS,
    requests.DEFAULT_ROUTES,
    requests.SOCKETS,
    requests.NFT_TABLES,
    *requests.LEGACY_TABLES.values(),
)
_REMEMBERED = 1024  # pods whose last visit is kept
_SMALL = 16 * 1024  # bytes of a pod that are remembered at most; a common one has 3,000
_MAX_TABLES = 32  # of nftables in one pod: with the longest names a request is not larger than it may be
_INTERCEPTING = {"nat": ("OUTPUT",), "mangle": ("OUTPUT", "PREROUTING")}


def suspects_all(links: Sequence[LinkFact]) -> bool:
    """Whether net.ipv6.conf.all must be read: switching `all` off switches every link off, loopback included.

    The files of /proc/sys are expensive with hundreds of namespaces (fs/proc/proc_sysctl.c compares each one's entry in
    turn).
    """
    return any(link.inet6 is not None and link.inet6.disable_ipv6 for link in links)


def is_ipv6_disabled(all_conf: Inet6Conf | None, links: Sequence[LinkFact], addresses: Iterable[AddressFact]) -> bool:
    """Whether IPv6 is off for all links, or for one of the pod's own: not loopback, with addresses, else all of them.

    `all_conf` None: not read, since no link suggests it. Where no link has IPv6 at all the kernel has it off.
    """
    if all_conf is not None and all_conf.disable_ipv6:
        return True
    if all(link.inet6 is None for link in links):
        return True
    carrying = {a.link for a in addresses}
    real = [link for link in links if not link.loopback]
    own = [link for link in real if link.name in carrying] or real
    return any(link.inet6 is not None and link.inet6.disable_ipv6 for link in own)


@dataclass(frozen=True, slots=True)
class PodTables:
    """The packet filter tables of a pod that can intercept."""

    nft: tuple[tuple[int, str], ...]
    legacy: tuple[tuple[Family, str], ...]

    @property
    def topics(self) -> tuple[ReadTopic, ...]:
        """What is asked of them: all chains of nftables, and what the hooks of legacy tables lead to."""
        return (
            *((requests.NFT_CHAINS,) if self.nft else ()),
            *(_rules_of(family, table) for family, table in self.nft),
            *(_reachable(family, table) for family, table in self.legacy),
        )


def _rules_of(family: int, table: str) -> ReadTopic:
    return ReadTopic(Topic.NFT_RULES, table.encode(), family)


def _reachable(family: Family, table: str) -> ReadTopic:
    argument = "\0".join((table, *_INTERCEPTING[table])).encode()
    return ReadTopic(Topic.LEGACY_REACHABLE, argument, requests.FAMILY_NUMBERS[family])


def _list_tables(first: VisitAnswers) -> PodTables:
    tables = attempt(lambda: tuple(dict.fromkeys(nft.parse_tables(first.data(requests.NFT_TABLES)))))
    if isinstance(tables, ReadError):
        if tables.reason is not Reason.KERNEL:
            raise tables
        tables = ()  # a kernel without nftables
    listed = {family: first.data(topic).split() for family, topic in requests.LEGACY_TABLES.items()}
    return PodTables(tables, tuple((f, t) for f, names in listed.items() for t in _INTERCEPTING if t.encode() in names))


@dataclass(frozen=True, slots=True)
class PodDraft:
    """The facts of a pod's first visit, and what it is asked in a second one: mostly nothing.

    `facts.intercepted` is None until the tables are read. It stays None where they could not be listed, or a pod has
    more of them than are read: `tables` is None then.
    """

    facts: PodFacts
    more: tuple[ReadTopic, ...]
    tables: PodTables | None


def draft_pod_facts(state: KernelState, place: NamespaceRef, *, lsm: bool) -> PodDraft:
    """A pod's first visit. Raises ReadError or ParseError where links, addresses or routes could not be read.

    The same bytes give the same facts, and many pods give the same bytes round after round, but for counters. Of these
    only a hash is kept: 64 bits of a keyed one, which no pod can aim at.
    """
    state = _without_counters(state)
    held, key = _held(place, lsm), hash(state)
    if held and held[0][0] == key:
        return held[0][1]
    held.clear()
    draft = _draft(state, lsm=lsm)
    if not state.visit_errno and sum([len(answer.data) for answer in state.answers]) <= _SMALL:
        held.append((key, draft))
    return draft


def _without_counters(state: KernelState) -> KernelState:
    answers = (
        answer._replace(data=without_counters(answer.data)) if topic == requests.LINKS else answer
        for topic, answer in zip(FIRST_VISIT, state.answers, strict=False)
    )
    return replace(state, answers=tuple(answers))


@lru_cache(_REMEMBERED)
def _held(_place: NamespaceRef, _lsm: bool) -> list[tuple[int, PodDraft]]:
    """Where the last visit of a namespace is kept, and no earlier one."""
    return []


def _draft(state: KernelState, *, lsm: bool) -> PodDraft:
    first = gather(FIRST_VISIT, state, 0.0, lsm=lsm)
    links = parse_links(first.data(requests.LINKS))
    names = {link.index: link.name for link in links}
    addresses = parse_addresses(first.data(requests.ADDRESSES), names)
    tables = attempt_optional(lambda: _list_tables(first))
    facts = PodFacts(
        links=links,
        addresses=addresses,
        routes=parse_routes(first.data(requests.DEFAULT_ROUTES), names),
        disable_ipv6=is_ipv6_disabled(None, links, addresses),
        listeners=attempt_optional(lambda: parse_listeners(first.data(requests.SOCKETS, frozenset()))),
        intercepted=False if tables and not tables.topics else None,
    )
    if tables and len(tables.nft) > _MAX_TABLES:
        tables = None
    conf = (requests.ALL_CONF,) if suspects_all(links) else ()
    return PodDraft(facts, (*conf, *(tables.topics if tables else ())), tables)


def complete_pod_facts(draft: PodDraft, second: VisitAnswers) -> PodFacts:
    """The facts with the second visit's answers. Raises as draft_pod_facts if the switch for all could not be read."""
    facts, tables = draft.facts, draft.tables
    if suspects_all(facts.links):
        conf, _ = parse_all_conf(second.data(requests.ALL_CONF))
        facts = replace(facts, disable_ipv6=is_ipv6_disabled(conf, facts.links, facts.addresses))
    if facts.intercepted is None and tables is not None:
        intercepted = attempt_optional(lambda: is_intercepted(tuple(_read_tables(tables, second))))
        facts = replace(facts, intercepted=intercepted)
    return facts


def _read_tables(tables: PodTables, second: VisitAnswers) -> Iterator[Mapping[str, Chain]]:
    """The chains of each table, by name."""
    described = nft.parse_chains(second.data(requests.NFT_CHAINS)) if tables.nft else ()
    for number, table in tables.nft:
        rules = nft.parse_rules(second.data(_rules_of(number, table)))
        yield {c.name: nft.make_chain(c, rules) for c in described if (c.family, c.table) == (number, table)}
    for family, table in tables.legacy:
        yield legacy.parse_chains(second.data(_reachable(family, table)), family)
