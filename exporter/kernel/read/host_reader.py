"""One pass over the host in three visits: what is there, what it holds, what the sets hold. Between the broker and HostFacts.

What the kernel would have announced is not read again while it was silent (kept.py).
"""

from __future__ import annotations

import errno
from collections.abc import Mapping
from dataclasses import dataclass, replace

from exporter.kernel.decode import nft
from exporter.kernel.decode.parse_error import ParseError
from exporter.kernel.decode.services import IPVS_LINK, kube_proxy_facts, parse_ipvs
from exporter.kernel.read import filters, requests
from exporter.kernel.read import host_facts as host
from exporter.kernel.read.answers import ReadError, VisitAnswers
from exporter.kernel.read.filters import Filters
from exporter.kernel.read.reader_run import Readings
from exporter.kernel.read.route_cache import Changes, keep, tunnels_of
from exporter.kernel.read.visitor import Visitor
from exporter.model.facts import HostFacts, KubeProxyFacts, LegacyTables, NatFacts, Reader, ReaderStatus
from exporter.model.family import FAMILIES, Family
from exporter.model.reason import Reason

LEGACY_EVERY = 60.0  # seconds between two copies of the legacy tables: the kernel hands them out whole

NftTables = frozenset[tuple[int, str]] | ReadError
Copied = Mapping[Family, tuple[int, bytes] | ReadError]


@dataclass(frozen=True, slots=True)
class Survey:
    """`passing`: something failed, or changed between the visits, in a way that a second pass may heal."""

    facts: HostFacts
    readings: tuple[ReaderStatus, ...]
    passing: bool


async def survey_host(
    visitor: Visitor, previous: HostFacts | None, changes: Changes | None = None, held: HostFacts | None = None
) -> Survey:
    """The host as three visits show it. Legacy tables are copied where `previous` has no copy younger than LEGACY_EVERY.

    `held`: the last facts of all, whose entries hold where `changes` is silent.
    """
    began = visitor.clock()
    # Asked before anything is read: what is announced from now on counts next time.
    kept = keep(held, began) if changes is not None and changes.is_silent() else None
    readings = Readings(visitor.clock)
    first = await visitor.visit(requests.HOST_ALWAYS if kept else requests.HOST)
    links = readings.take(Reader.LINKS, first.seconds, lambda: host.read_links(first))
    if kept is not None and (links is None or tunnels_of(links.links) != kept.tunnels):
        return await survey_host(visitor, previous, changes)  # a device came or went meanwhile
    if changes is not None and links is not None:
        changes.watch(frozenset(link.index for link in links.tunnels))  # before their entries are read
    tables = _nft_tables(first)
    now = visitor.clock()
    names = {family: _legacy_names(first, family) for family in FAMILIES}
    copied = _kept_legacy(previous.legacy if previous else None, names, now)
    ipvs = links is not None and links.has(IPVS_LINK)
    second = await visitor.visit(
        (
            *(host.wanted_entries(links) if links and not kept else ()),
            *(() if isinstance(tables, ReadError) else requests.host_chains(tables)),
            *(() if copied else (requests.LEGACY_CHAINS[f] for f in FAMILIES if _has_nat(names[f]))),
            *((requests.IPVS,) if ipvs else ()),
        )
    )
    legacy = copied or LegacyTables(now, {f: _legacy_answer(second, f) for f in FAMILIES if _has_nat(names[f])})
    found = filters.read_filters(tables, second, _copied(names, legacy))
    third = await visitor.visit((*filters.wanted_sets(found), requests.NFT_GENERATION))
    facts = replace(
        host.read_network(readings, links, first, second, kept),
        nat=_read_nat(readings, found, third, second.seconds + third.seconds),
        kube_proxy=_read_kube_proxy(readings, found, second, ipvs=ipvs),
        legacy=legacy,
        entries_read=kept.read if kept else began,
    )
    return Survey(facts, readings.all(), readings.passing or _is_torn(first, third))


def _nft_tables(first: VisitAnswers) -> NftTables:
    try:
        return frozenset(nft.parse_tables(first.data(requests.NFT_TABLES)))
    except ReadError as error:
        return error
    except ParseError as error:
        return ReadError(Reason.READER_FAILED, f"malformed: {error}")


def _legacy_names(first: VisitAnswers, family: Family) -> frozenset[bytes] | ReadError:
    try:
        return frozenset(first.data(requests.LEGACY_TABLES[family]).split())
    except ReadError as error:
        return error


def _has_nat(names: frozenset[bytes] | ReadError) -> bool:
    return not isinstance(names, ReadError) and requests.IPTABLES_TABLE.encode() in names


def _kept_legacy(
    before: LegacyTables | None, names: Mapping[Family, frozenset[bytes] | ReadError], now: float
) -> LegacyTables | None:
    """The last copy, while it is young and has every family that now has a nat table."""
    if before is None or not 0 <= now - before.copied < LEGACY_EVERY:
        return None
    return before if all(f in before.answers for f in FAMILIES if _has_nat(names[f])) else None


def _legacy_answer(second: VisitAnswers, family: Family) -> tuple[int, bytes]:
    answer = second.found.get(requests.LEGACY_CHAINS[family])
    if second.visit_errno or answer is None:
        return second.visit_errno or errno.EIO, b""
    return answer.errno, answer.data


def _copied(names: Mapping[Family, frozenset[bytes] | ReadError], legacy: LegacyTables) -> Copied:
    """Each family's legacy chains; no bytes where it has no nat table."""
    found: dict[Family, tuple[int, bytes] | ReadError] = {}
    for family, tables in names.items():
        if isinstance(tables, ReadError):
            found[family] = tables
        else:
            found[family] = legacy.answers.get(family, (0, b"")) if _has_nat(tables) else (0, b"")
    return found


def _read_nat(readings: Readings, found: Filters, third: VisitAnswers, seconds: float) -> NatFacts | None:
    nat = readings.take(Reader.NAT, seconds, lambda: filters.nat_facts(found, third))
    if nat is None:
        return None
    facts, reason, detail = nat
    if reason:
        readings.fail(Reader.NAT, reason, detail)
    return facts if facts.read else None


def _read_kube_proxy(readings: Readings, found: Filters, second: VisitAnswers, *, ipvs: bool) -> KubeProxyFacts | None:
    """None where no family's rules could be read."""
    counted = readings.take(
        Reader.KUBE_PROXY, second.seconds, lambda: parse_ipvs(second.data(requests.IPVS)) if ipvs else {}
    )
    facts = kube_proxy_facts(found.services, counted, ipvs_link=ipvs)
    if any(verdict is None for verdict in facts.services.values()):
        reason = next(iter(found.unread.values()), Reason.READER_FAILED)
        readings.fail(Reader.KUBE_PROXY, reason, "; ".join(found.details))
    return None if all(verdict is None for verdict in facts.services.values()) else facts


def _is_torn(first: VisitAnswers, third: VisitAnswers) -> bool:
    """Whether a transaction changed the rules between the first visit and the last."""
    try:
        before = nft.parse_generation(first.data(requests.NFT_GENERATION))
        return before != nft.parse_generation(third.data(requests.NFT_GENERATION))
    except (ReadError, ParseError):
        return False  # its readers say so
