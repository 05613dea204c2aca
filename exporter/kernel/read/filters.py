"""NAT outgoing and kube-proxy's rules from the answers of the host's second and third visit. Pure: answers -> facts.

Each (family, backend) is read by itself: one that cannot be read has its reason and hides nothing of the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial

from exporter.broker.protocol.messages import ReadTopic, Topic
from exporter.kernel.decode import ParseError, legacy, nft, services
from exporter.kernel.decode.nat import NATIVE_TABLE, nat_backend, nat_chain_names, referred_sets
from exporter.kernel.decode.services import ServiceRules
from exporter.kernel.decode.sets import has_elements, parse_ipset, parse_nft_set
from exporter.kernel.read import requests
from exporter.kernel.read.visits import ReadError, VisitAnswers, attempt
from exporter.model.facts import Backend, NatBackend, NatFacts
from exporter.model.family import FAMILIES, Family, Net
from exporter.model.packet_filter import Chain
from exporter.model.reason import Reason

Slot = tuple[Family, Backend]
Members = dict[tuple[Slot, str | int], tuple[str, tuple[Net, ...] | None]]
NftTables = frozenset[tuple[int, str]] | ReadError
_NATIVE_BACKENDS = {Backend.IPTABLES_NFT: requests.IPTABLES_TABLE, Backend.NFTABLES: NATIVE_TABLE}


@dataclass(slots=True, kw_only=True)
class Filters:
    """The chains of each family and backend that were read, and why others were not."""

    chains: dict[Slot, Mapping[str, Chain]] = field(default_factory=dict)
    services: dict[Family, ServiceRules] = field(default_factory=dict)
    unread: dict[Slot, Reason] = field(default_factory=dict)
    details: list[str] = field(default_factory=list)

    def service_backend(self, family: Family) -> Backend | None:
        """The variant of iptables that has the family's service rules; None where neither or both have some."""
        slots = ((family, Backend.IPTABLES_NFT), (family, Backend.IPTABLES_LEGACY))
        having = [slot[1] for slot in slots if slot in self.chains and services.iptables_services(self.chains[slot])]
        return having[0] if len(having) == 1 else None

    def read(self, slot: Slot, fetch: Callable[[], Mapping[str, Chain]]) -> None:
        chains = attempt(fetch)
        if isinstance(chains, ReadError):
            self.unread[slot] = chains.reason
            self.details.append(f"{slot[0]} {slot[1]}: {chains.detail}")
        else:
            self.chains[slot] = chains


def read_filters(tables: NftTables, second: VisitAnswers, legacy_data: Mapping[Family, bytes | ReadError]) -> Filters:
    """The chains of every backend.

    `tables`: those of nftables that exist. `legacy_data`: legacy chains by family, b"" without a legacy nat table.
    """
    found = Filters()
    for family in FAMILIES:
        for backend, table in _NATIVE_BACKENDS.items():
            found.read((family, backend), partial(_nft_chains, family, table, tables, second))
        found.read((family, Backend.IPTABLES_LEGACY), partial(_legacy_chains, family, legacy_data[family]))
        found.services[family] = _service_rules(family, found, tables, second)
    return found


def _nft_chains(family: Family, table: str, tables: NftTables, second: VisitAnswers) -> Mapping[str, Chain]:
    """The chains of one table of nftables; none where the table, or nftables in the kernel, does not exist."""
    if isinstance(tables, ReadError):
        if tables.reason is Reason.KERNEL:
            return {}
        raise tables
    if (requests.FAMILY_NUMBERS[family], table) not in tables:
        return {}
    chains = {}
    for name in requests.read_chains(table):
        described = describe_chain(second, requests.nft_chain(family, table, name))
        if described is not None:
            rules = nft.parse_rules(second.data(requests.nft_rules(family, table, name)))
            chains[name] = nft.make_chain(described, rules)
    for name in requests.described_chains(table):
        described = describe_chain(second, requests.nft_chain(family, table, name))
        if described is not None:
            chains[name] = Chain(
                name=name, hook=None, rules=(), total=max(described.use - services.count_jumps(chains, name), 0)
            )
    return chains


def describe_chain(answers: VisitAnswers, topic: ReadTopic) -> nft.NftChain | None:
    data = answers.optional(topic)
    if data is None:
        return None
    found = nft.parse_chains(data)
    if len(found) != 1:
        raise ParseError("one chain was asked for")
    return found[0]


def _legacy_chains(family: Family, data: bytes | ReadError) -> Mapping[str, Chain]:
    if isinstance(data, ReadError):
        raise data
    return legacy.parse_chains(data, family)


def _service_rules(family: Family, found: Filters, tables: NftTables, second: VisitAnswers) -> ServiceRules:
    """One family's rules of kube-proxy: of iptables in whichever backend has them, and of nftables."""
    slots = [(family, Backend.IPTABLES_NFT), (family, Backend.IPTABLES_LEGACY)]
    verdicts = [services.iptables_services(found.chains[slot]) if slot in found.chains else None for slot in slots]
    iptables = True if any(verdicts) else None if None in verdicts else False
    native = attempt(partial(_native_rules, family, tables, second))
    if isinstance(native, ReadError):
        return ServiceRules(iptables=iptables)
    return replace(native, iptables=iptables)


def _native_rules(family: Family, tables: NftTables, second: VisitAnswers) -> ServiceRules:
    chains = _nft_chains(family, services.NATIVE_TABLE, tables, second)
    filled = bool(chains) and has_elements(second.data(requests.service_map(family)))
    return ServiceRules(native=services.native_services(chains, filled=filled), native_table=bool(chains))


def wanted_sets(filters: Filters) -> tuple[ReadTopic, ...]:
    """Third visit: the sets that masquerading rules take their sources from."""
    return tuple(dict.fromkeys(topic for _, _, topic in _set_references(filters)))


def _set_references(filters: Filters) -> Iterator[tuple[Slot, str | int, ReadTopic]]:
    for (family, backend), chains in filters.chains.items():
        for reference in referred_sets(chains.get(nat_chain_names(backend)[2])):
            if isinstance(reference, int):
                topic = ReadTopic(Topic.IPSET, number=reference)
            else:
                topic = requests.nft_set(family, NATIVE_TABLE, reference)
            yield (family, backend), reference, topic


def nat_facts(filters: Filters, sets: VisitAnswers) -> tuple[NatFacts, Reason | None, str]:
    """NAT outgoing as the kernel has it, with reason and detail where some of it could not be read."""
    members: Members = {}
    reason, detail = next(iter(filters.unread.values()), None), "; ".join(filters.details)
    for slot, reference, topic in _set_references(filters):
        found = attempt(partial(_read_set, sets, reference, topic))
        if isinstance(found, ReadError):
            reason, detail = reason or found.reason, detail or f"set {reference}: {found.detail}"
        else:
            members[slot, reference] = found
    backends: list[NatBackend] = []
    for slot, chains in filters.chains.items():
        made = nat_backend(*slot, chains, partial(_member_of, members, slot))
        if made is not None:
            backends.append(made)
    return NatFacts(tuple(backends), frozenset(filters.chains), filters.unread), reason, detail


def _read_set(sets: VisitAnswers, reference: str | int, topic: ReadTopic) -> tuple[str, tuple[Net, ...] | None]:
    """Name and members; members None for a set that went away meanwhile."""
    data = sets.optional(topic)
    if data is None:
        return _set_name(reference), None
    if isinstance(reference, str):
        return reference, parse_nft_set(data)
    return parse_ipset(data)


def _member_of(members: Members, slot: Slot, reference: str | int) -> tuple[str, tuple[Net, ...] | None]:
    return members.get((slot, reference), (_set_name(reference), None))


def _set_name(reference: str | int) -> str:
    return reference if isinstance(reference, str) else f"#{reference}"
