"""Recorded kernel bytes, damaged: every parser gives facts or Malformed, every reader facts or a reason, and nothing
else comes out.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from exporter.broker.protocol.messages import ReadTopic, Topic, TopicAnswer
from exporter.kernel.decode import ParseError, legacy, nft, sets
from exporter.kernel.decode.counters import parse_all_conf, parse_checksum_errors, parse_conntrack
from exporter.kernel.decode.links import (
    parse_addresses,
    parse_bgp_peers,
    parse_listeners,
    split_links,
    without_counters,
)
from exporter.kernel.decode.routes import parse_routes
from exporter.kernel.decode.services import parse_ipvs
from exporter.kernel.decode.vxlan import parse_fdb, parse_neighbours, parse_settings
from exporter.kernel.read.readers import read_host
from exporter.model.family import Family
from exporter.model.reason import Reason
from tests.unit.kernel_recordings import BACKENDS, Replay, read_pod, recorded

REASONS = {*Reason, None}
Parser = Callable[[bytes], object]


def links_and_settings(data: bytes) -> object:
    return [parse_settings(info) for _, info in split_links(data)]


def legacy_of(family: Family) -> Parser:
    return lambda data: legacy.parse_chains(data, family)


PARSERS: dict[Topic, Parser] = {
    Topic.LINKS: links_and_settings,
    Topic.ADDRESSES: lambda data: parse_addresses(data, {2: "eth0"}),
    Topic.ROUTES4: lambda data: parse_routes(data, {2: "eth0"}),
    Topic.ROUTES6: lambda data: parse_routes(data, {}),
    Topic.NEIGHBOURS: lambda data: parse_neighbours(data, 3),
    Topic.FDB: lambda data: parse_fdb(data, 3),
    Topic.NFT_GENERATION: nft.parse_generation,
    Topic.NFT_TABLES: nft.parse_tables,
    Topic.NFT_CHAIN: nft.parse_chains,
    Topic.NFT_CHAINS: nft.parse_chains,
    Topic.NFT_RULES: nft.parse_rules,
    Topic.NFT_SET: sets.parse_nft_set,
    Topic.NFT_SET_HEAD: sets.has_elements,
    Topic.IPSET: sets.parse_ipset,
    Topic.ALL_CONF: parse_all_conf,
    Topic.CONNTRACK: parse_conntrack,
    Topic.SNMP6: parse_checksum_errors,
}


MORE: tuple[Parser, ...] = (
    parse_listeners, parse_bgp_peers, parse_ipvs, sets.parse_map, sets.parse_branches, without_counters,
)  # fmt: skip


def cases() -> Iterator[tuple[str, Parser, bytes]]:
    for backend in BACKENDS:
        for place, topic, answer in [(p, *item) for p in ("host", "pod") for item in recorded(backend, p).items()]:
            name = f"{backend} {place} {topic.topic.name} {topic.argument.decode()[:30]!r} {topic.number}"
            if topic.topic is Topic.LEGACY_CHAINS:
                yield name, legacy_of(Family.V6 if topic.number == 10 else Family.V4), answer.data
            elif topic.topic in PARSERS and answer.data:
                yield name, PARSERS[topic.topic], answer.data


CASES = {name: (parser, data) for name, parser, data in cases()}


@pytest.mark.parametrize("data", [data for parser, data in CASES.values() if parser is links_and_settings])
def test_links_without_their_counters_are_the_same_links(data: bytes) -> None:
    bare = without_counters(data)
    assert bare != data
    assert list(split_links(bare)) == list(split_links(data))
    assert without_counters(bare) == bare


def damage(data: bytes, chance: random.Random) -> bytes:
    """Flip, set, cut, drop, repeat or insert bytes: once or a few times."""
    found = bytearray(data)
    for _ in range(chance.choice((1, 1, 1, 2, 5))):
        at = chance.randrange(len(found)) if found else 0
        length = chance.choice((1, 1, 2, 4, 16))
        match chance.randrange(6):
            case 0 if found:
                found[at] ^= 1 << chance.randrange(8)
            case 1 if found:
                found[at : at + length] = chance.choice((b"\0", b"\xff", b"\x7f")) * length
            case 2:
                del found[at:]
            case 3:
                del found[at : at + length]
            case 4:
                found[at:at] = found[at : at + length]
            case _:
                found[at:at] = chance.randbytes(length)
    return bytes(found)


@pytest.mark.parametrize("name", CASES)
def test_damaged_bytes_give_a_value_or_malformed(name: str) -> None:
    parser, data = CASES[name]
    parser(data)
    chance = random.Random(name)
    failed = 0
    for _ in range(150):
        try:
            parser(damage(data, chance))
        except ParseError:
            failed += 1
    with suppress(ParseError):
        parser(data[: len(data) // 2])
    assert failed or len(data) < 200 or "SNMP6" in name, "no damage was noticed"


def test_listeners_and_ipvs_bear_any_bytes() -> None:
    chance = random.Random(7)
    data = b"".join(answer.data for answer in recorded("iptables-nft", "pod").values())
    for _ in range(300):
        piece = damage(data[60:400], chance)
        for parser in (*PARSERS.values(), *MORE):
            with suppress(ParseError):
                parser(piece)


@pytest.mark.parametrize("backend", BACKENDS)
async def test_damaged_answers_give_facts_and_stated_reasons(backend: str) -> None:
    chance = random.Random(backend)

    def spoil(topic: ReadTopic, answer: TopicAnswer) -> TopicAnswer:
        return answer._replace(data=damage(answer.data, chance)) if chance.random() < 0.2 else answer

    failures = 0
    for _ in range(60):
        _, readings = await read_host(Replay(recorded(backend, "host"), spoil), settle=0)
        assert {r.reason for r in readings} <= REASONS
        failures += sum(not r.success for r in readings)
        _, reading = await read_pod(Replay(recorded(backend, "pod"), spoil))
        assert reading.reason in REASONS
    assert failures
