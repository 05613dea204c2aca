"""One pod namespace: listeners, and the whole put together as PodFacts. Pure: bytes and facts in, facts out."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TypeVar

from exporter.broker.protocol.messages import KernelState, ReadTopic
from exporter.kernel.decode import legacy
from exporter.kernel.decode.counters import parse_all_conf
from exporter.kernel.decode.interception import is_intercepted
from exporter.kernel.decode.links import parse_addresses, parse_links
from exporter.kernel.decode.netlink import AF_INET, AF_INET6, read_address, read_attributes, read_u8, split_messages
from exporter.kernel.decode.nft import make_chain, parse_chains, parse_rules
from exporter.kernel.decode.parse_error import ParseError
from exporter.kernel.decode.routes import parse_routes
from exporter.kernel.decode.rules import Chain
from exporter.kernel.read import requests
from exporter.kernel.read.answers import ReadError, VisitAnswers, gather
from exporter.model.facts import AddressFact, Inet6Conf, LinkFact, ListeningSocket, PodFacts
from exporter.model.family import Address, family_of

Part = TypeVar("Part")

_INET_DIAG = struct.Struct("=BBBB")  # family, state, timer, retransmissions; a struct inet_diag_sockid follows
_INET_DIAG_LENGTH = 72
_PORT = struct.Struct("!H")
_SOURCE_AT = 8  # behind the header and two ports
_TCP_LISTEN = 10
_SKV6ONLY = 11
_SIZES = {AF_INET: 4, AF_INET6: 16}
_REMEMBERED = 1024  # pods whose bytes are those of the round before
_SMALL = 16 * 1024  # bytes of a pod that are remembered at most; a common one has 3,000
_NOTHING = VisitAnswers(found={}, seconds=0.0)
_TYPES = frozenset({18, 20})  # TCPDIAG_GETSOCK, SOCK_DIAG_BY_FAMILY


def parse_listeners(data: bytes) -> tuple[ListeningSocket, ...]:
    """Listening TCP sockets (linux/inet_diag.h). One on ::ffff:a.b.c.d counts as IPv4, which is what it serves."""
    found = []
    for kind, start, end in split_messages(data):
        if kind not in _TYPES:
            continue
        if end - start < _INET_DIAG_LENGTH:
            raise ParseError("a socket message ends early")
        family, state, _, _ = _INET_DIAG.unpack_from(data, start)
        if family not in _SIZES or state != _TCP_LISTEN:
            continue
        port = _PORT.unpack_from(data, start + _INET_DIAG.size)[0]
        source = start + _SOURCE_AT
        address: Address = read_address(family, data[source : source + _SIZES[family]])
        if address.version == 6 and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        only = read_attributes(data, start + _INET_DIAG_LENGTH, end).get(_SKV6ONLY)
        v6only = only is not None and bool(read_u8(only, "INET_DIAG_SKV6ONLY"))
        found.append(
            ListeningSocket(
                family=family_of(address), address=address, port=port, v6only=v6only and address.version == 6
            )
        )
    return tuple(found)


def suspects_all(links: Sequence[LinkFact]) -> bool:
    """Whether net.ipv6.conf.all must be read: switching `all` off switches every link off, loopback included.

    The files of /proc/sys are dear with hundreds of namespaces (fs/proc/proc_sysctl.c compares each one's entry in
    turn).
    """
    return any(link.inet6 is not None and link.inet6.disable_ipv6 for link in links)


def is_ipv6_disabled(all_conf: Inet6Conf | None, links: Sequence[LinkFact], addresses: Iterable[AddressFact]) -> bool:
    """Whether IPv6 is off: for all links, or for one of the pod's own (those that are not loopback and carry addresses, else all).

    `all_conf` None: not read, since no link suggests it. Where no link has IPv6 at all the kernel has it off.
    """
    if all_conf is not None and all_conf.disable_ipv6:
        return True
    if all(link.inet6 is None for link in links):
        return True
    carrying = {a.link for a in addresses}
    real = [link for link in links if not link.loopback]
    own = [link for link in real if link.name in carrying] or real
    return any(link.inet6 is not None and link.inet6.disable_ipv6 for link in own)


@dataclass(frozen=True, slots=True)
class PodLook:
    """What a pod's first visit says, and what it is asked in a second one: mostly nothing.

    `facts.intercepted` is None where `more` asks for tables, or they could not be listed.
    """

    facts: PodFacts
    more: tuple[ReadTopic, ...]
    first: VisitAnswers  # empty where nothing more is asked


def look_at(state: KernelState, *, lsm: bool) -> PodLook:
    """A pod's first visit (Topic.POD). Raises Unread or Malformed where links, addresses or routes cannot be had."""
    if not state.visit_errno and state.answers and len(state.answers[0].data) <= _SMALL:
        return _look_again(state, lsm=lsm)
    return _look(state, lsm=lsm)


@lru_cache(_REMEMBERED)
def _look_again(state: KernelState, *, lsm: bool) -> PodLook:
    """The same bytes give the same facts, and most pods give the same bytes round after round."""
    return _look(state, lsm=lsm)


def _look(state: KernelState, *, lsm: bool) -> PodLook:
    first = gather(requests.POD_FIRST, state, 0.0, lsm=lsm)
    links = parse_links(first.data(requests.LINKS))
    names = {link.index: link.name for link in links}
    addresses = parse_addresses(first.data(requests.ADDRESSES), names)
    facts = PodFacts(
        links=links,
        addresses=addresses,
        routes=parse_routes(first.data(requests.DEFAULT_ROUTES), names),
        disable_ipv6=is_ipv6_disabled(None, links, addresses),
        listeners=_optional(lambda: parse_listeners(first.data(requests.SOCKETS, frozenset()))),
        intercepted=_optional(lambda: None if requests.has_tables(first) else False),
    )
    conf = (requests.ALL_CONF,) if suspects_all(links) else ()
    tables = requests.pod_filters(first) if facts.intercepted is None else ()
    more = (*conf, *tables)
    return PodLook(facts, more, first if more else _NOTHING)


def complete_pod_facts(look: PodLook, second: VisitAnswers) -> PodFacts:
    """The facts with what the second visit gave. Raises Unread or Malformed where the switch for all links cannot be had."""
    facts = look.facts
    if suspects_all(facts.links):
        conf, _ = parse_all_conf(second.data(requests.ALL_CONF))
        facts = replace(facts, disable_ipv6=is_ipv6_disabled(conf, facts.links, facts.addresses))
    if facts.intercepted is None:
        facts = replace(facts, intercepted=_optional(lambda: is_intercepted(tuple(_tables(look.first, second)))))
    return facts


def _optional(read: Callable[[], Part]) -> Part | None:
    """A part that the rest does without."""
    try:
        return read()
    except (ReadError, ParseError):
        return None


def _tables(first: VisitAnswers, second: VisitAnswers) -> Iterator[Mapping[str, Chain]]:
    """The chains of each of the pod's own tables, by name."""
    tables = requests.nft_tables_of(first)
    if tables:
        described = parse_chains(second.data(requests.NFT_CHAINS))
        for number, table in tables:
            rules = parse_rules(second.data(requests.nft_table_rules(number, table)))
            yield {c.name: make_chain(c, rules) for c in described if (c.family, c.table) == (number, table)}
    for family, names in requests.legacy_tables_of(first).items():
        for table in names:
            yield legacy.parse_chains(second.data(requests.legacy_reachable(family, table)), family)
