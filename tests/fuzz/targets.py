"""What is fuzzed: how an input is made of random bytes, what reads it, and which outcomes are stated.

An input is built along the format's structure, so that most get past the first check. Whatever is not a stated outcome
is raised and ends the run, and so does an input that takes longer than its reader may.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from exporter.broker.protocol import wire
from exporter.broker.protocol.wire import WireError
from exporter.inventory.corefile.corefile import read_corefile
from exporter.kernel.decode import ParseError, legacy, links, nft, routes, services, sets, vxlan
from exporter.libc.messages import GlibcReader, MuslReader
from exporter.libc.resolv_conf import parse_resolv_conf
from exporter.model.family import Family
from exporter.probes.dns_reply import Query, build_query, judge, read_reply
from exporter.probes.http1 import ReplyHead
from exporter.probes.outcome import PhaseError
from tests.wire.nameserver import make_question


class Source(Protocol):
    """What atheris.FuzzedDataProvider offers of the random bytes."""

    def ConsumeBytes(self, count: int) -> bytes: ...  # noqa: N802 - their names
    def ConsumeIntInRange(self, least: int, most: int) -> int: ...  # noqa: N802
    def ConsumeBool(self) -> bool: ...  # noqa: N802
    def remaining_bytes(self) -> int: ...


@dataclass(frozen=True)
class Target:
    """`seconds`: of CPU that an input may take here, where every branch is traced. `size`: its bytes at most."""

    run: Callable[[Source], object]
    seconds: float = 0.1
    size: int = 4096


def pick(source: Source, *values: int) -> int:
    """One of them, or sometimes any number."""
    at = source.ConsumeIntInRange(0, len(values))
    return values[at] if at < len(values) else source.ConsumeIntInRange(0, 0xFFFF)


# DNS: a reply with a header, questions and records whose counts, names, types and lengths are mostly right.

NAME = "www.example.com"
ASKED = make_question(Family.V6, 53, NAME, "A")
QUERIES: tuple[Query, ...] = tuple(build_query(ASKED, edns=edns, identifier=0x1234) for edns in (False, True))
LIBCS = (
    GlibcReader(NAME, "A"),
    GlibcReader(NAME, "AAAA"),
    MuslReader("A", since_1_2_4=False),
    MuslReader("AAAA", since_1_2_4=True),
)
TYPES = (1, 28, 5, 6, 41, 2, 12, 15, 16, 33, 39, 46)


def dns_name(source: Source, size: int) -> bytes:
    """A pointer into what is there, labels, the asked name, or a few random bytes."""
    form = source.ConsumeIntInRange(0, 5)
    if form < 3:
        return struct.pack("!H", 0xC000 | (12 if form == 0 else source.ConsumeIntInRange(0, min(size, 0x3FFF))))
    if form == 3:
        return QUERIES[0].wire[12:-4]
    labels = [source.ConsumeBytes(source.ConsumeIntInRange(1, 8)) for _ in range(source.ConsumeIntInRange(0, 4))]
    ended = b"".join(bytes([len(label)]) + label for label in labels)
    return ended + (b"\0" if form == 4 else struct.pack("!H", 0xC000 | source.ConsumeIntInRange(0, min(size, 0x3FFF))))


def dns_record(source: Source, size: int) -> bytes:
    owner, kind = dns_name(source, size), pick(source, *TYPES)
    match source.ConsumeIntInRange(0, 3):
        case 0:
            data = source.ConsumeBytes({1: 4, 28: 16}.get(kind, source.ConsumeIntInRange(0, 40)))
        case 1:
            data = dns_name(source, size)
        case 2:
            data = dns_name(source, size) + dns_name(source, size) + source.ConsumeBytes(20)
        case _:
            data = source.ConsumeBytes(source.ConsumeIntInRange(0, 40))
    length = len(data) if source.ConsumeIntInRange(0, 7) else source.ConsumeIntInRange(0, 0xFFFF)
    return owner + struct.pack("!HHIH", kind, pick(source, 1, 1, 1), source.ConsumeIntInRange(0, 600), length) + data


def dns_reply(source: Source, query: Query) -> bytes:
    flags = pick(source, 0x8180, 0x8180, 0x8380, 0x8183, 0x8182)
    identifier = query.identifier if source.ConsumeIntInRange(0, 15) else source.ConsumeIntInRange(0, 0xFFFF)
    body = bytearray(query.wire[12:] if source.ConsumeIntInRange(0, 7) else b"")
    counts = [source.ConsumeIntInRange(0, 6) for _ in range(3)]
    for _ in range(sum(counts)):
        body += dns_record(source, len(body) + 12)
    said = counts if source.ConsumeIntInRange(0, 7) else [source.ConsumeIntInRange(0, 0xFFFF) for _ in range(3)]
    made = struct.pack("!HHHHHH", identifier, flags, pick(source, 1, 1, 1, 0), *said) + bytes(body)
    return made if source.ConsumeIntInRange(0, 7) else made[: source.ConsumeIntInRange(0, len(made))]


def run_dns(source: Source) -> None:
    query = QUERIES[source.ConsumeBool()]
    made = dns_reply(source, query)
    with suppress(PhaseError):
        reply = read_reply(query, made)
        if reply is not None:
            judge(reply)
    for reader in LIBCS:
        reader.datagram(made)
        reader.stream(made)


# Netlink: messages of right lengths with nested attributes.


def attributes(source: Source, depth: int = 0) -> bytes:
    made = bytearray()
    for _ in range(source.ConsumeIntInRange(0, 6)):
        kind = source.ConsumeIntInRange(0, 47)
        if depth < 4 and source.ConsumeBool():
            value = attributes(source, depth + 1)
        else:
            value = source.ConsumeBytes(pick(source, 1, 2, 4, 8, 16) & 63)
        length = 4 + len(value) if source.ConsumeIntInRange(0, 15) else source.ConsumeIntInRange(0, 200)
        made += struct.pack("=HH", length, kind | (source.ConsumeIntInRange(0, 3) << 14)) + value
        made += b"\0" * (-len(made) % 4)
    return bytes(made)


def dump(source: Source, kinds: tuple[int, ...], header: int) -> bytes:
    made = bytearray()
    for _ in range(source.ConsumeIntInRange(1, 4)):
        body = source.ConsumeBytes(header).ljust(header, b"\0") + attributes(source)
        length = 16 + len(body) if source.ConsumeIntInRange(0, 15) else source.ConsumeIntInRange(0, 400)
        made += struct.pack("=IHHII", length, pick(source, *kinds), 2, 1, 0) + body
        made += b"\0" * (-len(made) % 4)
    return bytes(made)


NAMES = {1: "lo", 2: "eth0"}
READERS: tuple[tuple[tuple[int, ...], int, Callable[[bytes], object]], ...] = (
    ((16,), 16, links.parse_links),
    ((20,), 8, partial(links.parse_addresses, names=NAMES)),
    ((20,), 72, links.parse_listeners),
    ((20,), 72, links.parse_bgp_peers),
    ((24,), 12, partial(routes.parse_routes, names=NAMES)),
    ((28,), 12, partial(vxlan.parse_neighbours, index=2)),
    ((28,), 12, partial(vxlan.parse_fdb, index=2)),
    ((0xA00,), 4, nft.parse_tables),
    ((0xA03,), 4, nft.parse_chains),
    ((0xA06,), 4, nft.parse_rules),
    ((0xA0F,), 4, nft.parse_generation),
    ((0xA0C,), 4, sets.parse_nft_set),
    ((0xA0C,), 4, sets.parse_map),
    ((0xA0C,), 4, sets.parse_branches),
    ((0x607,), 4, sets.parse_ipset),
    ((0x20,), 4, services.parse_ipvs),
)


def run_netlink(source: Source) -> None:
    kinds, header, read = READERS[source.ConsumeIntInRange(0, len(READERS) - 1)]
    with suppress(ParseError):
        read(dump(source, kinds, header))


def run_legacy(source: Source) -> None:
    """Entries of ip6tables as the broker hands them over: what stands in them is not all the kernel's."""
    with suppress(ParseError):
        legacy.parse_chains(source.ConsumeBytes(4096), Family.V6)


# The broker's wire: whoever speaks to it may send anything, and so may a broker that was taken over.


def run_wire(source: Source) -> None:
    """What was read is written, and read alike."""
    data = bytes([source.ConsumeIntInRange(0, 8)]) + source.ConsumeBytes(4096)
    with suppress(WireError):
        request = wire.decode_request(data)
        assert wire.decode_request(wire.encode_request(request)) == request
    with suppress(WireError):
        reply = wire.decode_reply(data)
        assert wire.decode_reply(wire.encode_reply(reply)) == reply


# Text


WORDS = (
    *(
        "{",
        "}",
        "\n",
        '"',
        "#",
        ":53",
        ".:53",
        "cluster.local",
        "template",
        "IN",
        "ANY",
        "AAAA",
        "A",
        "match",
        "answer",
    ),
    *(
        "rcode",
        "NXDOMAIN",
        "fallthrough",
        "rewrite",
        "name",
        "regex",
        "(.*)",
        "stop",
        "continue",
        "type",
        "AAAA",
        "HTTPS",
    ),
    *("forward", ".", "/etc/resolv.conf", "import", "*.override", "acl", "block", "filter", "allow", "net", "dns64"),
    *(
        "view",
        "expr",
        "hosts",
        "kubernetes",
        "in-addr.arpa",
        "{$ENV}",
        "(snippet)",
        "\\",
        " ",
        "metadata",
        "cache",
        "30",
    ),
)
KEYS = ("Corefile", "a.override", "b.server", "Snippets")


def corefile(source: Source) -> str:
    words = []
    for _ in range(source.ConsumeIntInRange(0, 200)):
        at = source.ConsumeIntInRange(0, len(WORDS))
        words.append(WORDS[at] if at < len(WORDS) else source.ConsumeBytes(6).decode("latin-1"))
    return " ".join(words)


def run_corefile(source: Source) -> None:
    data = {key: corefile(source) for key in KEYS if source.ConsumeBool()}
    read_corefile("kube-system", "coredns", data, {"c.override": corefile(source)} if source.ConsumeBool() else {})


RESOLV = (
    *(b"nameserver", b"search", b"domain", b"options", b"sortlist", b" ", b"\t", b"\n", b"\r", b"#", b";", b"\0"),
    *(b"ndots:", b"attempts:", b"timeout:", b"edns0", b"use-vc", b"10.96.0.10", b"fd00::10", b"fe80::1%eth0", b"127.1"),
)


def run_resolv_conf(source: Source) -> None:
    def pieces() -> Iterator[bytes]:
        for _ in range(source.ConsumeIntInRange(0, 60)):
            at = source.ConsumeIntInRange(0, len(RESOLV))
            yield RESOLV[at] if at < len(RESOLV) else source.ConsumeBytes(8)

    parse_resolv_conf(b"".join(pieces()))


def run_http(source: Source) -> None:
    """A status line and headers, in pieces of any size."""
    head = ReplyHead()
    with suppress(PhaseError):
        if source.ConsumeBool():
            head.feed(b"HTTP/1.1 ")
        while source.remaining_bytes():
            if (
                head.feed(source.ConsumeBytes(source.ConsumeIntInRange(1, 80)) + b"\r\n" * source.ConsumeBool())
                is not None
            ):
                break


TARGETS: Mapping[str, Target] = {
    "dns": Target(run_dns),
    "netlink": Target(run_netlink),
    "legacy": Target(run_legacy),
    "wire": Target(run_wire),
    "corefile": Target(run_corefile, seconds=0.5),
    "resolv.conf": Target(run_resolv_conf),
    "http": Target(run_http),
}
