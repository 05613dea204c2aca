"""Parses nftables dumps: generation, tables, chains, rules (linux/netfilter/nf_tables.h, nf_tables_compat.h). Pure.

iptables-nft writes its matches and targets as compat expressions, Calico's own tables are native; both come out as the
same Rule.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from exporter.kernel.decode import ParseError
from exporter.kernel.decode.expressions import RuleReader
from exporter.kernel.decode.netlink import Attributes, read_attributes, split_messages
from exporter.model.packet_filter import Chain, Rule

NFPROTO_INET, NFPROTO_IPV4, NFPROTO_IPV6 = 1, 2, 10

_NEWTABLE, _NEWCHAIN, _NEWRULE, _NEWGEN = 0x0A00, 0x0A03, 0x0A06, 0x0A0F
_TABLE_NAME = 1
_CHAIN_TABLE, _CHAIN_NAME, _CHAIN_HOOK, _CHAIN_USE, _CHAIN_TYPE = 1, 3, 4, 6, 7
_HOOK_HOOKNUM = 1
_RULE_TABLE, _RULE_CHAIN, _RULE_EXPRESSIONS = 1, 2, 4
_GEN_ID = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class NftChain:
    """A chain's description. `use` counts its rules and the rules that jump to it. `hook` None: no base chain.

    `kind` of a base chain: filter, nat or route.
    """

    family: int
    table: str
    name: str
    hook: int | None = None
    kind: str = ""
    use: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class NftRule:
    family: int
    table: str
    chain: str
    rule: Rule


def _split(data: bytes, wanted: int) -> Iterator[tuple[int, Attributes]]:
    """Family and attributes of each message of one type, behind its nfgenmsg."""
    for _, start, end in split_messages(data, frozenset({wanted}), 4, "an nftables"):
        yield data[start], read_attributes(data, start + 4, end)


def parse_generation(data: bytes) -> int:
    """The ruleset's generation: it changes with every transaction."""
    for _, found in _split(data, _NEWGEN):
        return found.be32(_GEN_ID, "NFTA_GEN_ID")
    raise ParseError("no generation")


def parse_tables(data: bytes) -> tuple[tuple[int, str], ...]:
    """Family and name of each table."""
    return tuple((family, found.text(_TABLE_NAME, "NFTA_TABLE_NAME")) for family, found in _split(data, _NEWTABLE))


def parse_chains(data: bytes) -> tuple[NftChain, ...]:
    """The chains of a dump, or the one of a single answer."""
    return tuple(_chain(family, found) for family, found in _split(data, _NEWCHAIN))


def _chain(family: int, found: Attributes) -> NftChain:
    return NftChain(
        family=family,
        table=found.text(_CHAIN_TABLE, "NFTA_CHAIN_TABLE"),
        name=found.text(_CHAIN_NAME, "NFTA_CHAIN_NAME"),
        hook=found.nested(_CHAIN_HOOK).be32(_HOOK_HOOKNUM, "NFTA_HOOK_HOOKNUM") if _CHAIN_HOOK in found else None,
        kind=found.text(_CHAIN_TYPE, "NFTA_CHAIN_TYPE") if _CHAIN_TYPE in found else "",
        use=found.be32(_CHAIN_USE, "NFTA_CHAIN_USE") if _CHAIN_USE in found else 0,
    )


def parse_rules(data: bytes) -> tuple[NftRule, ...]:
    """The rules of a dump, in order."""
    return tuple(
        NftRule(
            family=family,
            table=found.text(_RULE_TABLE, "NFTA_RULE_TABLE"),
            chain=found.text(_RULE_CHAIN, "NFTA_RULE_CHAIN"),
            rule=RuleReader(family).read(found.get(_RULE_EXPRESSIONS, b"")),
        )
        for family, found in _split(data, _NEWRULE)
    )


def make_chain(described: NftChain, rules: tuple[NftRule, ...]) -> Chain:
    """A chain with those of the rules that belong to it."""
    own = tuple(
        r.rule for r in rules if (r.family, r.table, r.chain) == (described.family, described.table, described.name)
    )
    return Chain(name=described.name, hook=described.hook, rules=own, total=len(own))
