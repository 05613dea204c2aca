"""The readers of the host besides the packet filters: what each asks, and the facts made of the answers. Pure.

HOST_READERS is the table of those that are one topic each: to add one is to add a row. Links, addresses, routes and
tunnel devices depend on one another, so they are functions.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache, partial

from exporter.broker.protocol.messages import ReadTopic, Topic
from exporter.kernel.decode.counters import parse_all_conf, parse_checksum_errors, parse_conntrack
from exporter.kernel.decode.links import parse_addresses, parse_bgp_peers, split_links, without_counters
from exporter.kernel.decode.routes import parse_routes
from exporter.kernel.decode.vxlan import (
    BPF_LINK,
    VxlanSettings,
    make_device,
    parse_fdb,
    parse_neighbours,
    parse_settings,
    tunnel_family,
)
from exporter.kernel.read import requests
from exporter.kernel.read.route_cache import CachedEntries
from exporter.kernel.read.visits import ABSENT, MALFORMED, Clock, Part, ReadError, VisitAnswers, attempt
from exporter.model.facts import (
    AddressFact,
    HostFacts,
    KernelCounters,
    LinkFact,
    Reader,
    ReaderStatus,
    RouteFact,
    VxlanDevice,
    VxlanFacts,
    WatchedPort,
)
from exporter.model.family import Address
from exporter.model.reason import Reason

_NO_FAMILY = ABSENT | {errno.EAFNOSUPPORT, errno.EOPNOTSUPP}


@dataclass(frozen=True, slots=True)
class HostReader:
    """A state of the host that is one topic. `extend` adds the answer to the facts, or raises ParseError.

    What the reader shows and which capability it needs is declared with the name, in model/facts.py.
    """

    reader: Reader
    topic: ReadTopic
    extend: Callable[[HostFacts, bytes], HostFacts]


def _add_switches(facts: HostFacts, data: bytes) -> HostFacts:
    all_conf, forwarding_v4 = parse_all_conf(data)
    return replace(facts, all_conf=all_conf, forwarding_v4=forwarding_v4)


def _add_conntrack(facts: HostFacts, data: bytes) -> HostFacts:
    count, limit = parse_conntrack(data)
    return replace(facts, limits=replace(facts.limits, conntrack_count=count, conntrack_max=limit))


def _add_checksum_errors(facts: HostFacts, data: bytes) -> HostFacts:
    return replace(facts, limits=replace(facts.limits, udp6_checksum_errors=parse_checksum_errors(data)))


HOST_READERS = (
    HostReader(Reader.LINKS, requests.ALL_CONF, _add_switches),
    HostReader(Reader.CONNTRACK, ReadTopic(Topic.CONNTRACK), _add_conntrack),
    HostReader(Reader.SNMP6, ReadTopic(Topic.SNMP6), _add_checksum_errors),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class HostWish:
    """What is read of the host only where it matters.

    `ports`: of Services whose rules are read. `postrouting`: what packets of pods pass as they leave the host, in some
    visits more. `bgp`: the BGP connections over IPv6. `wireguard`: Calico's WireGuard device for IPv6.
    """

    ports: tuple[WatchedPort, ...] = ()
    postrouting: bool = False
    bgp: bool = False
    wireguard: bool = False


USUAL = HostWish()

FIRST_VISIT = (
    requests.NFT_GENERATION,
    requests.LINKS,
    requests.ADDRESSES,
    *(row.topic for row in HOST_READERS),
    requests.NFT_TABLES,
    *requests.LEGACY_TABLES.values(),
)
ENTRIES = tuple(requests.ROUTES.values())
"""Asked in the first visit too, unless they are kept because the kernel announced no change (route_cache.py)."""


class ReaderStatuses:
    """The status of each reader in one pass. `passing`: some failure that a second pass may clear."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._found: dict[Reader, ReaderStatus] = {}
        self.passing = False

    def take(self, reader: Reader, visit: VisitAnswers, read: Callable[[], Part]) -> Part | None:
        """What `read` returns, None if it could not be read. A reader may be taken twice; its first failure counts."""
        seconds = 0.0 if reader in self._found else visit.seconds
        began = self._clock()
        part = attempt(read)
        seconds += self._clock() - began
        if isinstance(part, ReadError):
            self.passing |= part.reason is Reason.READER_FAILED and part.code != MALFORMED
            self._add(reader, seconds, part.reason, part.detail)
            return None
        self._add(reader, seconds, None, "")
        return part

    def fail(self, reader: Reader, reason: Reason, detail: str) -> None:
        """A reader got a part, and some of it is missing."""
        self._add(reader, 0.0, reason, detail)

    def first_failure(self) -> tuple[Reason, str]:
        """Reason and detail of a reader that failed, for one that needs what it would have given."""
        failed = next((r for r in self._found.values() if not r.success), None)
        if failed is None or failed.reason is None:
            return Reason.READER_FAILED, ""
        return failed.reason, f"{failed.reader}: {failed.detail}"

    def _add(self, reader: Reader, seconds: float, reason: Reason | None, detail: str) -> None:
        before = self._found.get(reader)
        if before is not None:
            seconds += before.seconds
            reason, detail = (before.reason, before.detail) if before.reason else (reason, detail)
        self._found[reader] = ReaderStatus(
            reader=reader.value, success=reason is None, seconds=seconds, reason=reason, detail=detail
        )

    def all(self) -> tuple[ReaderStatus, ...]:
        return tuple(self._found.values())


@dataclass(frozen=True, slots=True)
class Links:
    """The links, and the settings of those that are tunnel devices of Calico and flannel."""

    links: tuple[LinkFact, ...]
    settings: Mapping[str, VxlanSettings]

    @property
    def names(self) -> Mapping[int, str]:
        return {link.index: link.name for link in self.links}

    @property
    def tunnels(self) -> tuple[LinkFact, ...]:
        return tuple(link for link in self.links if tunnel_family(link.name))

    def has(self, name: str) -> bool:
        return any(link.name == name for link in self.links)


def read_links(answers: VisitAnswers) -> Links:
    return _links_in(without_counters(answers.data(requests.LINKS)))


@lru_cache(maxsize=1)
def _links_in(data: bytes) -> Links:
    """Remembered: in most rounds only the counters differ."""
    links = []
    settings = {}
    for link, info in split_links(data):
        links.append(link)
        if tunnel_family(link.name) and link.kind == "vxlan":
            settings[link.name] = parse_settings(info)
    return Links(tuple(links), settings)


def read_addresses(answers: VisitAnswers, names: Mapping[int, str]) -> tuple[AddressFact, ...]:
    return _addresses_in(answers.data(requests.ADDRESSES), tuple(names.items()))


@lru_cache(maxsize=1)
def _addresses_in(data: bytes, names: tuple[tuple[int, str], ...]) -> tuple[AddressFact, ...]:
    """Remembered: in most rounds they are the same."""
    return parse_addresses(data, dict(names))


def read_routes(answers: VisitAnswers, names: Mapping[int, str]) -> tuple[RouteFact, ...]:
    """The main table of both families. A family that the kernel lacks, or a table not yet made, has no routes.

    Asked for a family that it lacks, the kernel may answer with all others: each answer counts for its own family only.
    """
    return tuple(
        route
        for family, topic in requests.ROUTES.items()
        for route in parse_routes(answers.data(topic, _NO_FAMILY), names)
        if route.family is family
    )


def read_bgp(answers: VisitAnswers) -> frozenset[Address]:
    return parse_bgp_peers(answers.data(requests.BGP))


def wanted_entries(links: Links) -> tuple[ReadTopic, ...]:
    """Second visit, unless they are kept: neighbours and forwarding entries of the tunnel devices."""
    return tuple(topic(link.index) for link in links.tunnels for topic in (requests.neighbours, requests.forwarding))


def read_vxlan(
    links: Links,
    addresses: tuple[AddressFact, ...],
    routes: tuple[RouteFact, ...],
    second: VisitAnswers,
    kept: CachedEntries | None = None,
) -> VxlanFacts:
    """The tunnel devices of Calico and flannel, as far as they exist. `routes`: the main table, where it was read."""
    by_index = {link.index: link for link in links.links}
    devices = {}
    for link in links.tunnels:
        settings = links.settings.get(link.name, VxlanSettings())
        device = replace(
            make_device(link, settings, by_index.get(settings.parent)),
            addresses=tuple(a for a in addresses if a.link == link.name),
        )
        devices[link.name] = _keep_entries(device, kept) if kept else _read_entries(device, link.index, routes, second)
    return VxlanFacts(devices, bpf=links.has(BPF_LINK))


def _keep_entries(device: VxlanDevice, kept: CachedEntries) -> VxlanDevice:
    before = kept.devices[device.name]
    return replace(device, routes=before.routes, neighbours=before.neighbours, fdb=before.fdb)


def _read_entries(device: VxlanDevice, index: int, routes: tuple[RouteFact, ...], second: VisitAnswers) -> VxlanDevice:
    forwards = device.kind == "vxlan"
    return replace(
        device,
        routes=tuple(r for r in routes if r.link == device.name),
        neighbours=parse_neighbours(second.data(requests.neighbours(index)), index),
        fdb=parse_fdb(second.data(requests.forwarding(index)), index) if forwards else {},
    )


def _extend(row: HostReader, facts: HostFacts, first: VisitAnswers) -> HostFacts:
    return row.extend(facts, first.data(row.topic))


def read_network(
    statuses: ReaderStatuses,
    links: Links | None,
    first: VisitAnswers,
    second: VisitAnswers,
    kept: CachedEntries | None = None,
) -> HostFacts:
    """Everything but the packet filters. `kept`: entries of the last round that are still valid, so were not read."""
    names = links.names if links else {}
    addresses = statuses.take(Reader.ADDRESSES, first, lambda: read_addresses(first, names))
    routes = statuses.take(Reader.ROUTES, first, lambda: kept.routes if kept else read_routes(first, names))
    facts = HostFacts(
        links=links.links if links else None,
        addresses=addresses,
        routes=routes if kept or routes is None else tuple(r for r in routes if not tunnel_family(r.link)),
        limits=KernelCounters(kernel_release=os.uname().release),
    )
    for row in HOST_READERS:
        facts = statuses.take(row.reader, first, partial(_extend, row, facts, first)) or facts
    if links is None or addresses is None or routes is None:
        statuses.fail(Reader.VXLAN, *statuses.first_failure())
        return facts
    vxlan = statuses.take(Reader.VXLAN, second, lambda: read_vxlan(links, addresses, routes, second, kept))
    return replace(facts, vxlan=vxlan)
