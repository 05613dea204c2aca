"""One pass over the host in three visits: what exists, what it contains, the members of sets. Broker -> HostFacts.

What the kernel would have announced is not read again while it was silent (route_cache.py).
"""

from __future__ import annotations

import errno
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial

from exporter.broker.protocol.messages import ReadTopic
from exporter.kernel.decode import nft
from exporter.kernel.decode.services import IPVS_LINK, kube_proxy_facts, parse_ipvs
from exporter.kernel.read import filters, requests
from exporter.kernel.read import host_facts as host
from exporter.kernel.read.filters import Filters
from exporter.kernel.read.host_facts import USUAL, HostWish, ReaderStatuses
from exporter.kernel.read.postrouting import read_postrouting
from exporter.kernel.read.route_cache import Changes, keep, tunnels_of
from exporter.kernel.read.service_rules import (
    endpoint_topics,
    legacy_names,
    service_chains,
    service_routes,
    service_topics,
)
from exporter.kernel.read.visits import ReadError, VisitAnswers, Visitor, attempt, error_of
from exporter.kernel.read.wireguard import read_wireguard, wireguard_topics
from exporter.model.facts import HostFacts, KubeProxyFacts, LegacyTables, NatFacts, Reader, ReaderStatus
from exporter.model.family import FAMILIES, Family
from exporter.model.reason import Reason

LEGACY_EVERY = 60.0  # seconds between two copies of the legacy tables: the kernel hands them out whole


@dataclass(frozen=True, slots=True)
class HostPass:
    """`passing`: something failed, or changed between the visits, in a way that a second pass may clear."""

    facts: HostFacts
    readings: tuple[ReaderStatus, ...]
    passing: bool


async def pass_over_host(
    visitor: Visitor,
    previous: HostFacts | None,
    changes: Changes | None = None,
    held: HostFacts | None = None,
    wish: HostWish = USUAL,
) -> HostPass:
    """The host in three visits. Legacy tables are copied where `previous` has no copy younger than LEGACY_EVERY.

    `held`: the last facts of all, whose entries are valid while `changes` is silent.
    """
    began = visitor.clock()
    # Asked before anything is read: what is announced from now on counts next time.
    kept = keep(held, began) if changes is not None and changes.is_silent() else None
    statuses = ReaderStatuses(visitor.clock)
    entries = () if kept else host.ENTRIES
    first = await visitor.visit((*host.FIRST_VISIT, *entries, *((requests.BGP,) if wish.bgp else ())))
    links = statuses.take(Reader.LINKS, first, lambda: host.read_links(first))
    if kept is not None and (links is None or tunnels_of(links.links) != kept.tunnels):
        return await pass_over_host(visitor, previous, changes, wish=wish)  # a device came or went meanwhile
    if changes is not None and links is not None:
        changes.watch(frozenset(link.index for link in links.tunnels))  # before their entries are read
    tables = attempt(lambda: frozenset(nft.parse_tables(first.data(requests.NFT_TABLES))))
    nat_tables = {family: _has_legacy_nat(first, family) for family in FAMILIES}
    with_nat = [family for family, exists in nat_tables.items() if exists is True]
    now = visitor.clock()
    names = legacy_names(wish.ports)
    copied = _kept_legacy(previous, with_nat, names, now)
    ipvs = links is not None and links.has(IPVS_LINK)
    second = await visitor.visit(
        (
            *(host.wanted_entries(links) if links and not kept else ()),
            *(() if isinstance(tables, ReadError) else requests.host_chains(tables)),
            *(() if isinstance(tables, ReadError) else service_topics(wish.ports, tables)),
            *(() if copied else (requests.legacy_chains(family, names) for family in with_nat)),
            *((requests.IPVS,) if ipvs else ()),
            *(wireguard_topics(links.links) if links and wish.wireguard else ()),
        )
    )
    legacy = copied or LegacyTables(
        now, {f: _legacy_answer(second, requests.legacy_chains(f, names)) for f in with_nat}, names
    )
    found = filters.read_filters(tables, second, _legacy_data(nat_tables, legacy, lsm=visitor.lsm))
    proxy = _read_kube_proxy(statuses, found, second, ipvs=ipvs)
    chains = service_chains(wish.ports, proxy, found, second)
    third = await visitor.visit((*filters.wanted_sets(found), *endpoint_topics(chains), requests.NFT_GENERATION))
    before = previous.postrouting if previous else None
    way_out = None
    if wish.postrouting:
        way_out = await read_postrouting(visitor, tables, before, legacy_nat=nat_tables[Family.V6])
    facts = replace(
        host.read_network(statuses, links, first, second, kept),
        nat=_read_nat(statuses, found, second, third),
        kube_proxy=proxy and replace(proxy, routes=service_routes(chains, found, third)),
        legacy=legacy,
        postrouting=way_out,
        bgp_peers=statuses.take(Reader.BGP, first, partial(host.read_bgp, first)) if wish.bgp else None,
        wireguard=statuses.take(Reader.WIREGUARD, second, partial(read_wireguard, links.links, second))
        if links and wish.wireguard
        else None,
        entries_read=kept.read if kept else began,
    )
    if way_out is not None and way_out.unread is not None:
        statuses.fail(Reader.NAT, way_out.unread, way_out.detail)
    return HostPass(facts, statuses.all(), statuses.passing or _is_torn(first, third))


def _has_legacy_nat(first: VisitAnswers, family: Family) -> bool | ReadError:
    names = attempt(lambda: first.data(requests.LEGACY_TABLES[family]))
    return names if isinstance(names, ReadError) else requests.IPTABLES_TABLE.encode() in names.split()


def _kept_legacy(
    previous: HostFacts | None, with_nat: list[Family], names: tuple[str, ...], now: float
) -> LegacyTables | None:
    """The last copy, while it is young and has every family that now has a nat table, and these Services' chains."""
    before = previous.legacy if previous else None
    if before is None or before.services != names or not 0 <= now - before.copied < LEGACY_EVERY:
        return None
    return before if all(family in before.answers for family in with_nat) else None


def _legacy_answer(second: VisitAnswers, topic: ReadTopic) -> tuple[int, bytes]:
    answer = second.found.get(topic)
    if second.visit_errno or answer is None:
        return second.visit_errno or errno.EIO, b""
    return answer.errno, answer.data


def _legacy_data(
    nat_tables: Mapping[Family, bool | ReadError], legacy: LegacyTables, *, lsm: bool
) -> Mapping[Family, bytes | ReadError]:
    """Each family's legacy chains; no bytes where it has no nat table."""
    found: dict[Family, bytes | ReadError] = {}
    for family, exists in nat_tables.items():
        code, data = legacy.answers.get(family, (0, b"")) if exists is True else (0, b"")
        found[family] = exists if isinstance(exists, ReadError) else error_of(code, lsm=lsm) if code else data
    return found


def _read_nat(statuses: ReaderStatuses, found: Filters, second: VisitAnswers, third: VisitAnswers) -> NatFacts | None:
    visits = replace(third, seconds=second.seconds + third.seconds)
    nat = statuses.take(Reader.NAT, visits, lambda: filters.nat_facts(found, third))
    if nat is None:
        return None
    facts, reason, detail = nat
    if reason:
        statuses.fail(Reader.NAT, reason, detail)
    return facts if facts.read else None


def _read_kube_proxy(
    statuses: ReaderStatuses, found: Filters, second: VisitAnswers, *, ipvs: bool
) -> KubeProxyFacts | None:
    """None where no family's rules could be read."""
    counted = statuses.take(Reader.KUBE_PROXY, second, lambda: parse_ipvs(second.data(requests.IPVS)) if ipvs else {})
    facts = kube_proxy_facts(found.services, counted, ipvs_link=ipvs)
    if any(verdict is None for verdict in facts.services.values()):
        reason = next(iter(found.unread.values()), Reason.READER_FAILED)
        statuses.fail(Reader.KUBE_PROXY, reason, "; ".join(found.details))
    return None if all(verdict is None for verdict in facts.services.values()) else facts


def _is_torn(first: VisitAnswers, third: VisitAnswers) -> bool:
    """Whether a transaction changed the rules between the first visit and the last."""

    def generation(answers: VisitAnswers) -> int:
        return nft.parse_generation(answers.data(requests.NFT_GENERATION))

    before, after = (attempt(partial(generation, answers)) for answers in (first, third))
    return not isinstance(before, ReadError) and not isinstance(after, ReadError) and before != after
