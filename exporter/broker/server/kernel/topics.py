"""Reads kernel topics in the namespace that is being visited: raw netlink messages and small files of /proc.

Server side of the broker; privileged. kernel/decode makes facts of the bytes. It must not change the kernel's state,
and reading must not either: tables of legacy iptables and IPVS are read only where /proc lists them, because asking
would create or load them.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Mapping

from exporter.broker.protocol.messages import DUMPS, FILES, VALUES, ReadTopic, Topic, TopicAnswer
from exporter.broker.server.kernel import legacy, nfnetlink, rtnetlink
from exporter.broker.server.kernel.netlink import HOME_BOUNDS, Bounds, Fetch, Visit, always, dump_request
from exporter.broker.server.syscalls import read_file

MAX_ARGUMENT = 1024
_MAX_FILE = 1 << 16


def read_topics(topics: tuple[ReadTopic, ...], bounds: Bounds = HOME_BOUNDS) -> tuple[TopicAnswer, ...]:
    """Read each topic in the current namespace, in order. One that fails has its errno; never raises OSError.

    Beyond a bound the errno is EFBIG. An argument or number that is out of range gives EINVAL.
    """
    answers: list[TopicAnswer] = []
    total = 0
    visit = Visit(bounds)
    try:
        for topic in topics:
            answer = _read_topic(visit, topic)
            size = len(answer.data)
            if total + size > bounds.visit:
                answer, size = TopicAnswer(errno.EFBIG), 0
            total += size
            answers.append(answer)
    finally:
        visit.close()
    return tuple(answers)


def _read_topic(visit: Visit, topic: ReadTopic) -> TopicAnswer:
    kind, argument, number = topic
    fetch = _FETCH.get(kind)
    if fetch is None or len(argument) > MAX_ARGUMENT or not 0 <= number < 1 << 31:
        return TopicAnswer(errno.EINVAL)
    visit.interrupted = False
    try:
        data = fetch(visit, topic)
    except OSError as error:
        return TopicAnswer(error.errno or errno.EIO)
    return TopicAnswer(0, data, visit.interrupted)


def _family(topic: ReadTopic) -> int:
    if topic.number not in {socket.AF_INET, socket.AF_INET6}:
        raise OSError(errno.EINVAL, "no such family")
    return topic.number


def _legacy_chains(visit: Visit, topic: ReadTopic) -> bytes:
    alone, _, followed = (part.split(b"\0") for part in topic.argument.partition(b"\0\0"))
    return legacy.read_table(
        _family(topic),
        b"nat",
        visit.bounds.table,
        lambda table: table.encode_chains(alone) + table.encode_reachable(followed),
    )


def _legacy_reachable(visit: Visit, topic: ReadTopic) -> bytes:
    name, *hooks = topic.argument.split(b"\0")
    return legacy.read_table(_family(topic), name, visit.bounds.table, lambda table: table.encode_reachable(hooks))


def _file(path: str) -> Fetch:
    return lambda _visit, _topic: read_file(path, limit=_MAX_FILE)


def _values(files: Mapping[str, str]) -> Fetch:
    """Lines of "name value". A file that does not exist is left out (IPv6 or conntrack may not be loaded)."""

    def fetch(_visit: Visit, _topic: ReadTopic) -> bytes:
        lines = []
        for name, path in files.items():
            try:
                lines.append(name.encode() + b" " + read_file(path, limit=_MAX_FILE).strip() + b"\n")
            except FileNotFoundError:
                continue
        return b"".join(lines)

    return fetch


_FETCH: Mapping[Topic, Fetch] = {
    **rtnetlink.TOPICS,
    **nfnetlink.TOPICS,
    Topic.LEGACY_TABLES: lambda _visit, topic: legacy.table_names(_family(topic)),
    Topic.LEGACY_CHAINS: _legacy_chains,
    Topic.LEGACY_REACHABLE: _legacy_reachable,
    **{topic: always(protocol, dump_request(kind, body)) for topic, (protocol, kind, body) in DUMPS.items()},
    **{topic: _file(path) for topic, path in FILES.items()},
    **{topic: _values(files) for topic, files in VALUES.items()},
}
