"""Puts the host's links, addresses, routes and tunnels together from answers. Pure: answers -> parts of HostFacts."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from dataclasses import dataclass

from exporter.broker.protocol.messages import ReadTopic
from exporter.kernel.decode.counters import parse_all_conf, parse_checksum_errors, parse_conntrack
from exporter.kernel.decode.links import parse_addresses, split_links
from exporter.kernel.decode.routes import parse_routes
from exporter.kernel.decode.vxlan import (
    BPF_LINK,
    DEVICES,
    TunnelState,
    VxlanSettings,
    make_device,
    parse_fdb,
    parse_neighbours,
    parse_settings,
)
from exporter.kernel.read import requests
from exporter.kernel.read.answers import ABSENT, VisitAnswers
from exporter.kernel.read.reader_run import Readings
from exporter.kernel.read.route_cache import CachedEntries
from exporter.model.facts import (
    AddressFact,
    HostFacts,
    KernelCounters,
    LinkFact,
    Reader,
    RouteFact,
    VxlanDevice,
    VxlanFacts,
)

_NO_FAMILY = ABSENT | {errno.EAFNOSUPPORT, errno.EOPNOTSUPP}


@dataclass(frozen=True, slots=True)
class Links:
    """The links, and the settings of those that are Calico's tunnel devices."""

    links: tuple[LinkFact, ...]
    settings: Mapping[str, VxlanSettings]

    @property
    def names(self) -> Mapping[int, str]:
        return {link.index: link.name for link in self.links}

    @property
    def tunnels(self) -> tuple[LinkFact, ...]:
        return tuple(link for link in self.links if link.name in DEVICES)

    def has(self, name: str) -> bool:
        return any(link.name == name for link in self.links)


def read_links(answers: VisitAnswers) -> Links:
    links = []
    settings = {}
    for link, info in split_links(answers.data(requests.LINKS)):
        links.append(link)
        if link.name in DEVICES and link.kind == "vxlan":
            settings[link.name] = parse_settings(info)
    return Links(tuple(links), settings)


def read_addresses(answers: VisitAnswers, names: Mapping[int, str]) -> tuple[AddressFact, ...]:
    return parse_addresses(answers.data(requests.ADDRESSES), names)


def read_routes(answers: VisitAnswers, names: Mapping[int, str]) -> tuple[RouteFact, ...]:
    """The main table of both families. A family that the kernel lacks, or a table not yet made, has no routes.

    Asked for a family that it lacks, the kernel may answer with all others: each answer counts for its own family
    alone.
    """
    return tuple(
        route
        for topic, version in ((requests.ROUTES4, 4), (requests.ROUTES6, 6))
        for route in parse_routes(answers.data(topic, _NO_FAMILY), names)
        if route.destination.version == version
    )


def wanted_entries(links: Links) -> tuple[ReadTopic, ...]:
    """Second visit, unless they are kept: neighbours and forwarding entries of the tunnel devices."""
    return tuple(topic(link.index) for link in links.tunnels for topic in (requests.neighbours, requests.fdb))


def read_vxlan(
    links: Links,
    addresses: tuple[AddressFact, ...],
    routes: tuple[RouteFact, ...],
    second: VisitAnswers,
    kept: CachedEntries | None = None,
) -> VxlanFacts:
    """Calico's tunnel devices, as far as they exist. `routes`: the main table, where it was read."""
    by_index = {link.index: link for link in links.links}
    devices = {}
    for link in links.tunnels:
        on_it = tuple(a for a in addresses if a.link == link.name)
        state = _kept_state(on_it, kept.devices[link.name]) if kept else _read_state(link, on_it, routes, second)
        devices[link.name] = make_device(link, links.settings.get(link.name, VxlanSettings()), by_index, state)
    return VxlanFacts(devices, bpf=links.has(BPF_LINK))


def _kept_state(addresses: tuple[AddressFact, ...], device: VxlanDevice) -> TunnelState:
    return TunnelState(addresses=addresses, routes=device.routes, neighbours=device.neighbours, fdb=device.fdb)


def _read_state(
    link: LinkFact, addresses: tuple[AddressFact, ...], routes: tuple[RouteFact, ...], second: VisitAnswers
) -> TunnelState:
    return TunnelState(
        addresses=addresses,
        routes=tuple(r for r in routes if r.link == link.name),
        neighbours=parse_neighbours(second.data(requests.neighbours(link.index)), link.index),
        fdb=parse_fdb(second.data(requests.fdb(link.index)), link.index) if link.kind == "vxlan" else {},
    )


def read_network(
    readings: Readings,
    links: Links | None,
    first: VisitAnswers,
    second: VisitAnswers,
    kept: CachedEntries | None = None,
) -> HostFacts:
    """Everything but the packet filters. `kept`: the entries of the last round that still hold, and so were not read."""
    names = links.names if links else {}
    addresses = readings.take(Reader.ADDRESSES, first.seconds, lambda: read_addresses(first, names))
    routes = readings.take(Reader.ROUTES, first.seconds, lambda: kept.routes if kept else read_routes(first, names))
    conf = readings.take(Reader.LINKS, 0.0, lambda: parse_all_conf(first.data(requests.ALL_CONF)))
    conntrack = readings.take(Reader.CONNTRACK, first.seconds, lambda: parse_conntrack(first.data(requests.CONNTRACK)))
    errors = readings.take(Reader.SNMP6, first.seconds, lambda: parse_checksum_errors(first.data(requests.SNMP6)))
    vxlan = None
    if links is not None and addresses is not None and routes is not None:
        vxlan = readings.take(Reader.VXLAN, second.seconds, lambda: read_vxlan(links, addresses, routes, second, kept))
    else:
        readings.fail(Reader.VXLAN, *readings.first_failure())
    count, limit = conntrack or (None, None)
    all_conf, forwarding_v4 = conf or (None, None)
    return HostFacts(
        links=links.links if links else None,
        addresses=addresses,
        routes=routes if kept or routes is None else tuple(r for r in routes if r.link not in DEVICES),
        all_conf=all_conf,
        forwarding_v4=forwarding_v4,
        vxlan=vxlan,
        limits=KernelCounters(
            conntrack_count=count, conntrack_max=limit, udp6_checksum_errors=errors, kernel_release=os.uname().release
        ),
    )
