"""Reads kernel topics in the namespace that the broker is visiting: raw netlink messages and small files of /proc, as bytes.

Broker side of the flow (broker -> kernel/ parsers -> facts); privileged. Each topic is fetched on a socket made here
and closed here. Nothing is interpreted beyond what keeps answers small. It must not change the kernel's state, and
looking must not either: tables of legacy iptables and IPVS are read only where /proc lists them, because asking would
create or load them.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Callable, Mapping
from types import MappingProxyType

from exporter.broker.protocol.messages import POD_TOPICS, ReadTopic, Topic, TopicAnswer
from exporter.broker.server.kernel import legacy, nfnetlink, rtnetlink
from exporter.broker.server.kernel.visit import HOME_BOUNDS, Bounds, Visit

MAX_ARGUMENT = 1024
_MAX_FILE = 1 << 16
_POD_HEADS = struct.Struct("<" + "HBI" * len(POD_TOPICS))
_ALL_CONF = (
    ("ipv6.forwarding", "/proc/sys/net/ipv6/conf/all/forwarding"),
    ("ipv6.accept_ra", "/proc/sys/net/ipv6/conf/all/accept_ra"),
    ("ipv6.disable_ipv6", "/proc/sys/net/ipv6/conf/all/disable_ipv6"),
    ("ipv4.forwarding", "/proc/sys/net/ipv4/ip_forward"),
)
_CONNTRACK = (
    ("count", "/proc/sys/net/netfilter/nf_conntrack_count"),
    ("max", "/proc/sys/net/netfilter/nf_conntrack_max"),
)


def read_topics(topics: tuple[ReadTopic, ...], bounds: Bounds = HOME_BOUNDS) -> tuple[TopicAnswer, ...]:
    """Read each topic in the current namespace, in order. A topic that fails is an Answer with its errno; never raises OSError.

    Beyond a bound the errno is EFBIG. An argument or number that is out of range gives EINVAL.
    """
    answers: list[TopicAnswer] = []
    total = 0
    visit = Visit(bounds)
    try:
        for topic in topics:
            answer = _read_topic(visit, topic)
            if total + len(answer.data) > bounds.visit:
                answer = TopicAnswer(errno.EFBIG)
            total += len(answer.data)
            answers.append(answer)
    finally:
        visit.close()
    return tuple(answers)


def _read_topic(visit: Visit, topic: ReadTopic) -> TopicAnswer:
    fetch = _FETCH.get(topic.topic)
    if fetch is None or len(topic.argument) > MAX_ARGUMENT or not 0 <= topic.number < 1 << 31:
        return TopicAnswer(errno.EINVAL)
    visit.interrupted = False
    try:
        data = fetch(visit, topic)
    except OSError as error:
        return TopicAnswer(error.errno or errno.EIO)
    return TopicAnswer(0, data, visit.interrupted)


def _pod(visit: Visit, _topic: ReadTopic) -> bytes:
    heads: list[int] = []
    parts: list[bytes] = []
    left = visit.bounds.visit - _POD_HEADS.size
    for topic, fetch in _POD_FETCH:
        visit.interrupted = False
        code, data = 0, b""
        try:
            data = fetch(visit, topic)
        except OSError as error:
            code = error.errno or errno.EIO
        if len(data) > left:
            code, data = errno.EFBIG, b""
        left -= len(data)
        heads += (code, visit.interrupted, len(data))
        parts.append(data)
    visit.interrupted = False  # it stands in the heads
    return b"".join((_POD_HEADS.pack(*heads), *parts))


def _legacy_family(topic: ReadTopic) -> int:
    if topic.number not in {socket.AF_INET, socket.AF_INET6}:
        raise OSError(errno.EINVAL, "no such family")
    return topic.number


def _legacy_tables(_visit: Visit, topic: ReadTopic) -> bytes:
    return legacy.table_names(_legacy_family(topic))


def _legacy_chains(visit: Visit, topic: ReadTopic) -> bytes:
    chains = tuple(topic.argument.split(b"\0"))
    return legacy.read_chains(_legacy_family(topic), b"nat", chains, visit.bounds.table)


def _legacy_reachable(visit: Visit, topic: ReadTopic) -> bytes:
    table, *chains = topic.argument.split(b"\0")
    return legacy.read_reachable(_legacy_family(topic), table, tuple(chains), visit.bounds.table)


def _read_file(path: str) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(descriptor, _MAX_FILE)
    finally:
        os.close(descriptor)


def _read_values(files: tuple[tuple[str, str], ...]) -> bytes:
    """Lines of "name value". A file that does not exist is left out (IPv6 or conntrack may not be loaded)."""
    lines = []
    for name, path in files:
        try:
            lines.append(name.encode() + b" " + _read_file(path).strip() + b"\n")
        except FileNotFoundError:
            continue
    return b"".join(lines)


def _all_conf(_visit: Visit, _topic: ReadTopic) -> bytes:
    return _read_values(_ALL_CONF)


def _conntrack(_visit: Visit, _topic: ReadTopic) -> bytes:
    return _read_values(_CONNTRACK)


def _snmp6(_visit: Visit, _topic: ReadTopic) -> bytes:
    return _read_file("/proc/thread-self/net/snmp6")


_Fetch = Callable[[Visit, ReadTopic], bytes]
_FETCH: Mapping[Topic, _Fetch] = MappingProxyType(
    {
        Topic.LINKS: rtnetlink.fetch_links,
        Topic.ADDRESSES: rtnetlink.fetch_addresses,
        Topic.ROUTES4: rtnetlink.fetch_routes4,
        Topic.ROUTES6: rtnetlink.fetch_routes6,
        Topic.DEFAULT_ROUTES: rtnetlink.fetch_default_routes,
        Topic.NEIGHBOURS: rtnetlink.fetch_neighbours,
        Topic.FDB: rtnetlink.fetch_fdb,
        Topic.NFT_GENERATION: nfnetlink.fetch_nft_generation,
        Topic.NFT_TABLES: nfnetlink.fetch_nft_tables,
        Topic.NFT_CHAIN: nfnetlink.fetch_nft_chain,
        Topic.NFT_CHAINS: nfnetlink.fetch_nft_chains,
        Topic.NFT_RULES: nfnetlink.fetch_nft_rules,
        Topic.NFT_SET: nfnetlink.fetch_nft_set,
        Topic.NFT_SET_HEAD: nfnetlink.fetch_nft_set_head,
        Topic.LEGACY_TABLES: _legacy_tables,
        Topic.LEGACY_CHAINS: _legacy_chains,
        Topic.LEGACY_REACHABLE: _legacy_reachable,
        Topic.IPSET_NAME: nfnetlink.fetch_ipset_name,
        Topic.IPSET: nfnetlink.fetch_ipset,
        Topic.SOCKETS: nfnetlink.fetch_sockets,
        Topic.ALL_CONF: _all_conf,
        Topic.CONNTRACK: _conntrack,
        Topic.SNMP6: _snmp6,
        Topic.IPVS: nfnetlink.fetch_ipvs,
        Topic.POD: _pod,
    }
)
_POD_FETCH: tuple[tuple[ReadTopic, _Fetch], ...] = tuple((topic, _FETCH[topic.topic]) for topic in POD_TOPICS)
