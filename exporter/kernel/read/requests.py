"""What the broker is asked. Pure: topics that are always the same, topics made of names, and the chains of the host.

Big chains are never asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial

from exporter.broker.protocol.messages import ReadTopic, Topic
from exporter.kernel.decode import services
from exporter.kernel.decode.nat import NATIVE_TABLE, nat_chain_names
from exporter.kernel.decode.nft import NFPROTO_IPV4, NFPROTO_IPV6
from exporter.model.facts import Backend
from exporter.model.family import FAMILIES, Family

FAMILY_NUMBERS: Mapping[Family, int] = {Family.V4: NFPROTO_IPV4, Family.V6: NFPROTO_IPV6}
IPTABLES_TABLE = "nat"
HOST_TABLES = (IPTABLES_TABLE, NATIVE_TABLE, services.NATIVE_TABLE)

ADDRESSES = ReadTopic(Topic.ADDRESSES)
LINKS = ReadTopic(Topic.LINKS)
ROUTES = {Family.V4: ReadTopic(Topic.ROUTES4), Family.V6: ReadTopic(Topic.ROUTES6)}
DEFAULT_ROUTES = ReadTopic(Topic.DEFAULT_ROUTES)
SOCKETS = ReadTopic(Topic.SOCKETS)
BGP = ReadTopic(Topic.BGP)
ALL_CONF = ReadTopic(Topic.ALL_CONF)
IPVS = ReadTopic(Topic.IPVS)
NFT_GENERATION = ReadTopic(Topic.NFT_GENERATION)
NFT_TABLES = ReadTopic(Topic.NFT_TABLES)
NFT_CHAINS = ReadTopic(Topic.NFT_CHAINS)
LEGACY_TABLES = {family: ReadTopic(Topic.LEGACY_TABLES, number=number) for family, number in FAMILY_NUMBERS.items()}

_LEGACY_HOST_CHAINS = ("POSTROUTING", *services.HOOKS, "cali-POSTROUTING", "cali-nat-outgoing", services.SERVICES)


def legacy_chains(family: Family, followed: tuple[str, ...] = ()) -> ReadTopic:
    """The chains of the host, and the followed ones with all that they lead to: one copy of the table."""
    names = (*_LEGACY_HOST_CHAINS, *(("", *followed) if followed else ()))
    return ReadTopic(Topic.LEGACY_CHAINS, "\0".join(names).encode(), FAMILY_NUMBERS[family])


LEGACY_CHAINS = {family: legacy_chains(family) for family in FAMILIES}


def neighbours(index: int) -> ReadTopic:
    return ReadTopic(Topic.NEIGHBOURS, number=index)


def forwarding(index: int) -> ReadTopic:
    return ReadTopic(Topic.FDB, number=index)


def _nft(topic: Topic, family: Family, table: str, name: str) -> ReadTopic:
    return ReadTopic(topic, f"{table}\0{name}".encode(), FAMILY_NUMBERS[family])


nft_chain = partial(_nft, Topic.NFT_CHAIN)
nft_rules = partial(_nft, Topic.NFT_RULES)
nft_set = partial(_nft, Topic.NFT_SET)


def service_map(family: Family) -> ReadTopic:
    return _nft(Topic.NFT_SET_HEAD, family, services.NATIVE_TABLE, services.NATIVE_MAP)


def read_chains(table: str) -> tuple[str, ...]:
    """The chains of a host's table whose rules are read. Those of KUBE-SERVICES are not: only its description is."""
    if table == IPTABLES_TABLE:
        return (*nat_chain_names(Backend.IPTABLES_NFT), *services.HOOKS)
    if table == NATIVE_TABLE:
        return nat_chain_names(Backend.NFTABLES)
    return services.NATIVE_HOOKS


def described_chains(table: str) -> tuple[str, ...]:
    """The chains of a host's table that are only described."""
    return (services.SERVICES,) if table == IPTABLES_TABLE else ()


def host_chains(tables: Iterable[tuple[int, str]]) -> tuple[ReadTopic, ...]:
    """The chains of those tables that exist and are of interest."""
    found: list[ReadTopic] = []
    existing = set(tables)
    for family, number in FAMILY_NUMBERS.items():
        for table in HOST_TABLES:
            if (number, table) not in existing:
                continue
            for chain in read_chains(table):
                found += (nft_chain(family, table, chain), nft_rules(family, table, chain))
            found += (nft_chain(family, table, chain) for chain in described_chains(table))
            if table == services.NATIVE_TABLE:
                found.append(service_map(family))
    return tuple(found)
