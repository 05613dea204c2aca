"""Where kube-proxy's rules lead for the watched ports, asked chain by chain. Pure: answers -> facts.

The second visit has each Service's chain, the third what it leads to. A port without a route was not read. Legacy
iptables gives all in the one copy of its table.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import islice

from exporter.broker.protocol.messages import ReadTopic
from exporter.kernel.decode import nft, services
from exporter.kernel.decode.sets import parse_map
from exporter.kernel.read import requests
from exporter.kernel.read.filters import Filters, describe_chain
from exporter.kernel.read.visits import VisitAnswers, attempt_optional
from exporter.model.facts import Backend, KubeProxyFacts, ServiceRoute, WatchedPort
from exporter.model.family import Address
from exporter.model.packet_filter import DNAT, Chain

Ports = tuple[WatchedPort, ...]
_TABLES = {Backend.IPTABLES_NFT: requests.IPTABLES_TABLE, Backend.NFTABLES: services.NATIVE_TABLE}
_MOST = 64  # chains and maps that are read in the third visit


@dataclass(frozen=True, slots=True)
class ServiceChain:
    """A port's chain in one backend; None where it does not exist or nothing leads to it."""

    port: WatchedPort
    backend: Backend
    chain: Chain | None

    @property
    def name(self) -> str:
        return services.service_chain(self.port, self.backend)

    @property
    def maps(self) -> tuple[str, ...]:
        return tuple(rule.map for rule in self.chain.rules if rule.map) if self.chain else ()

    @property
    def unknown(self) -> tuple[str, ...]:
        """The chains that it leads to and whose names do not tell which endpoint they are of."""
        named = services.leads(self.chain) if self.chain and self.backend is Backend.IPTABLES_NFT else ()
        return tuple(name for name in named if services.endpoint_of(self.port, name) is None)


def legacy_names(ports: Ports) -> tuple[str, ...]:
    return tuple(dict.fromkeys(services.service_chain(port, Backend.IPTABLES_LEGACY) for port in ports))


def service_topics(ports: Ports, tables: Iterable[tuple[int, str]]) -> Iterator[ReadTopic]:
    """Second visit: the chain of each port in each table that exists."""
    existing = set(tables)
    for port in ports:
        for backend, table in _TABLES.items():
            if (requests.FAMILY_NUMBERS[port.family], table) in existing:
                chain = services.service_chain(port, backend)
                yield requests.nft_chain(port.family, table, chain)
                yield requests.nft_rules(port.family, table, chain)


def service_chains(
    ports: Ports, facts: KubeProxyFacts | None, found: Filters, second: VisitAnswers
) -> tuple[ServiceChain, ...]:
    """The chains in the backend that carries the family's Services; none where that is not certain."""
    chains = (attempt_optional(partial(_service_chain, port, facts, found, second)) for port in ports)
    return tuple(each for each in chains if each is not None)


def _service_chain(
    port: WatchedPort, facts: KubeProxyFacts | None, found: Filters, second: VisitAnswers
) -> ServiceChain | None:
    if facts is None or not facts.services.get(port.family):
        return None
    backend = Backend.NFTABLES if facts.mode == "nftables" else found.service_backend(port.family)
    if backend is None or facts.mode not in {"nftables", "iptables"}:
        return None
    name = services.service_chain(port, backend)
    if backend is Backend.IPTABLES_LEGACY:
        return ServiceChain(port, backend, found.chains[port.family, backend].get(name))
    described = describe_chain(second, requests.nft_chain(port.family, _TABLES[backend], name))
    rules = nft.parse_rules(second.data(requests.nft_rules(port.family, _TABLES[backend], name)))
    used = described is not None and described.use > len(rules)  # its use counts its rules and what leads to it
    return ServiceChain(port, backend, nft.make_chain(described, rules) if described and used else None)


def endpoint_topics(chains: Iterable[ServiceChain]) -> tuple[ReadTopic, ...]:
    """Third visit: maps, and the endpoints that no EndpointSlice has."""
    return tuple(islice(dict.fromkeys(topic for each in chains for topic in _leading_topics(each)), _MOST))


def _leading_topics(each: ServiceChain) -> Iterator[ReadTopic]:
    family = each.port.family
    yield from (requests.nft_set(family, services.NATIVE_TABLE, name) for name in each.maps)
    yield from (requests.nft_rules(family, requests.IPTABLES_TABLE, name) for name in each.unknown)


def service_routes(chains: Iterable[ServiceChain], found: Filters, third: VisitAnswers) -> tuple[ServiceRoute, ...]:
    routes = (attempt_optional(partial(_route, each, found, third)) for each in chains)
    return tuple(each for each in routes if each is not None)


def _route(each: ServiceChain, found: Filters, third: VisitAnswers) -> ServiceRoute | None:
    """None where the chain has rules, and where they lead is not known. nftables mode: by chain, or by a map alone."""
    family, backend = each.port.family, each.backend
    named: list[str | Address] = [] if each.chain is None else list(services.leads(each.chain))
    for name in each.maps if backend is Backend.NFTABLES else ():
        named += parse_map(third.data(requests.nft_set(family, services.NATIVE_TABLE, name)))
    beside: Mapping[str, Chain] = found.chains[family, backend] if backend is Backend.IPTABLES_LEGACY else {}
    chains = {name for name in named if isinstance(name, str)}
    led = {services.endpoint_of(each.port, name) or _translated(each, beside, name, third) for name in chains}
    addresses = frozenset(end for end in (*named, *led) if end is not None and not isinstance(end, str))
    if each.chain is not None and each.chain.rules and not addresses:
        return None
    return ServiceRoute(port=each.port, backend=backend, chain=each.name, addresses=addresses)


def _translated(each: ServiceChain, beside: Mapping[str, Chain], name: str, third: VisitAnswers) -> Address | None:
    """The address of the DNAT in an endpoint's chain; None where it was not read or has none."""
    topic = requests.nft_rules(each.port.family, requests.IPTABLES_TABLE, name)
    if name in beside:
        rules = beside[name].rules
    else:
        rules = tuple(r.rule for r in nft.parse_rules(third.data(topic))) if topic in third.found else ()
    return next((rule.to for rule in rules if rule.verdict == DNAT and rule.to is not None), None)
