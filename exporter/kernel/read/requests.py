"""What the broker is asked, visit by visit. Pure: the lists follow from what an earlier visit found.

The host takes three visits: what is there; what chains, neighbours and forwarding entries hold; what the sets hold. A
pod takes one, and a second where it has packet filter tables of its own. Big chains are never asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from exporter.broker.protocol.messages import POD_TOPICS, ReadTopic, Topic
from exporter.kernel.decode import services
from exporter.kernel.decode.nat import NATIVE_TABLE, nat_chain_names
from exporter.kernel.decode.nft import NFPROTO_IPV4, NFPROTO_IPV6, parse_tables
from exporter.kernel.decode.parse_error import ParseError
from exporter.kernel.read.answers import POD, ReadError, VisitAnswers
from exporter.model.facts import Backend
from exporter.model.family import FAMILIES, Family
from exporter.model.reason import Reason

FAMILY_NUMBERS: Mapping[Family, int] = {Family.V4: NFPROTO_IPV4, Family.V6: NFPROTO_IPV6}
IPTABLES_TABLE = "nat"

# The very objects of POD_TOPICS: answers are looked up by them hundreds of times a round.
ADDRESSES, LINKS, DEFAULT_ROUTES, SOCKETS, NFT_TABLES, _LEGACY4, _LEGACY6 = POD_TOPICS
ROUTES4 = ReadTopic(Topic.ROUTES4)
ROUTES6 = ReadTopic(Topic.ROUTES6)
ALL_CONF = ReadTopic(Topic.ALL_CONF)
CONNTRACK = ReadTopic(Topic.CONNTRACK)
SNMP6 = ReadTopic(Topic.SNMP6)
IPVS = ReadTopic(Topic.IPVS)
NFT_GENERATION = ReadTopic(Topic.NFT_GENERATION)
NFT_CHAINS = ReadTopic(Topic.NFT_CHAINS)
LEGACY_TABLES = {Family.V4: _LEGACY4, Family.V6: _LEGACY6}

HOST_ENTRIES = (ROUTES4, ROUTES6)  # what may be kept while the kernel announces no change (kept.py)
HOST_ALWAYS = (NFT_GENERATION, LINKS, ADDRESSES, ALL_CONF, CONNTRACK, SNMP6, NFT_TABLES, *LEGACY_TABLES.values())
HOST = (*HOST_ALWAYS, *HOST_ENTRIES)
POD_FIRST = (POD,)

_LEGACY_HOST_CHAINS = ("POSTROUTING", *services.HOOKS, "cali-POSTROUTING", "cali-nat-outgoing", services.SERVICES)
LEGACY_CHAINS = {
    f: ReadTopic(Topic.LEGACY_CHAINS, "\0".join(_LEGACY_HOST_CHAINS).encode(), FAMILY_NUMBERS[f]) for f in FAMILIES
}
_MAX_TABLES = 32  # of nftables in one pod: with the longest names a request is not larger than it may be
_INTERCEPTING = {"nat": ("OUTPUT",), "mangle": ("OUTPUT", "PREROUTING")}


def neighbours(index: int) -> ReadTopic:
    return ReadTopic(Topic.NEIGHBOURS, number=index)


def fdb(index: int) -> ReadTopic:
    return ReadTopic(Topic.FDB, number=index)


def nft_chain(family: Family, table: str, chain: str) -> ReadTopic:
    return ReadTopic(Topic.NFT_CHAIN, f"{table}\0{chain}".encode(), FAMILY_NUMBERS[family])


def nft_rules(family: Family, table: str, chain: str) -> ReadTopic:
    return ReadTopic(Topic.NFT_RULES, f"{table}\0{chain}".encode(), FAMILY_NUMBERS[family])


def nft_set(family: Family, table: str, name: str) -> ReadTopic:
    return ReadTopic(Topic.NFT_SET, f"{table}\0{name}".encode(), FAMILY_NUMBERS[family])


def ipset(index: int) -> ReadTopic:
    return ReadTopic(Topic.IPSET, number=index)


def service_map(family: Family) -> ReadTopic:
    name = f"{services.NATIVE_TABLE}\0{services.NATIVE_MAP}"
    return ReadTopic(Topic.NFT_SET_HEAD, name.encode(), FAMILY_NUMBERS[family])


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


HOST_TABLES = (IPTABLES_TABLE, NATIVE_TABLE, services.NATIVE_TABLE)


def host_chains(tables: Iterable[tuple[int, str]]) -> tuple[ReadTopic, ...]:
    """Second visit: chains of those tables that exist and concern us."""
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


def nft_tables_of(first: VisitAnswers) -> tuple[tuple[int, str], ...]:
    """The tables of nftables in a pod; none on a kernel without nftables."""
    try:
        data = first.data(NFT_TABLES)
        return tuple(dict.fromkeys(parse_tables(data))) if data else ()
    except ReadError as error:
        if error.reason is Reason.KERNEL:
            return ()
        raise


def legacy_tables_of(first: VisitAnswers) -> Mapping[Family, tuple[str, ...]]:
    """The legacy tables in a pod that can intercept."""
    return {
        family: tuple(t for t in _INTERCEPTING if t.encode() in first.data(topic).split())
        for family, topic in LEGACY_TABLES.items()
    }


def has_tables(first: VisitAnswers) -> bool:
    """Whether a pod has packet filter tables that can intercept. Raises Unread where they could not be listed."""
    return bool(nft_tables_of(first)) or any(
        first.data(t) and legacy_tables_of(first)[f] for f, t in LEGACY_TABLES.items()
    )


def pod_filters(first: VisitAnswers) -> tuple[ReadTopic, ...]:
    """What a pod's tables are asked in a second visit: all chains of nftables, and what the hooks of legacy tables lead to.

    Where the tables could not be listed, or a pod has more of them than anybody needs, nothing is asked: interception
    then stays unknown.
    """
    try:
        tables, legacy = nft_tables_of(first), legacy_tables_of(first)
    except (ReadError, ParseError):
        return ()
    if len(tables) > _MAX_TABLES:
        return ()
    return (
        *((NFT_CHAINS,) if tables else ()),
        *(nft_table_rules(family, table) for family, table in tables),
        *(legacy_reachable(family, table) for family, names in legacy.items() for table in names),
    )


def nft_table_rules(family: int, table: str) -> ReadTopic:
    return ReadTopic(Topic.NFT_RULES, table.encode(), family)


def legacy_reachable(family: Family, table: str) -> ReadTopic:
    argument = "\0".join((table, *_INTERCEPTING[table])).encode()
    return ReadTopic(Topic.LEGACY_REACHABLE, argument, FAMILY_NUMBERS[family])
