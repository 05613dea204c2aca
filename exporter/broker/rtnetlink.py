"""Topics of NETLINK_ROUTE: links, addresses, routes, neighbours, forwarding database. linux/rtnetlink.h, strict requests.

Broker side of the flow; privileged. Each function fetches raw messages, filtered by the kernel where it can; raises OSError.
"""

from __future__ import annotations

import errno
import socket
import struct

from exporter.broker.messages import ReadTopic
from exporter.broker.netlink import HEADER, attribute
from exporter.broker.visit import Visit

_RTM_GETLINK, _RTM_GETADDR, _RTM_GETROUTE, _RTM_GETNEIGH = 18, 22, 26, 30
_RT_TABLE_MAIN = 254
_RTA_OIF = 4
_IFLA_EXT_MASK = 29
_RTEXT_FILTER_SKIP_STATS = 8
_NDA_IFINDEX = 8
_AF_BRIDGE = 7


def fetch_links(visit: Visit, _topic: ReadTopic) -> bytes:
    mask = attribute(_IFLA_EXT_MASK, struct.pack("=I", _RTEXT_FILTER_SKIP_STATS))
    return visit.dump(socket.NETLINK_ROUTE, _RTM_GETLINK, bytes(16) + mask)


def fetch_addresses(visit: Visit, _topic: ReadTopic) -> bytes:
    return visit.dump(socket.NETLINK_ROUTE, _RTM_GETADDR, bytes(8))


def _routes(visit: Visit, family: int, oif: int) -> bytes:
    body = struct.pack("=BBBBBBBBI", family, 0, 0, 0, _RT_TABLE_MAIN, 0, 0, 0, 0)
    if oif:
        body += attribute(_RTA_OIF, struct.pack("=I", oif))
    return visit.dump(socket.NETLINK_ROUTE, _RTM_GETROUTE, body)


def fetch_routes4(visit: Visit, topic: ReadTopic) -> bytes:
    return _routes(visit, socket.AF_INET, topic.number)


def fetch_routes6(visit: Visit, topic: ReadTopic) -> bytes:
    return _routes(visit, socket.AF_INET6, topic.number)


def fetch_default_routes(visit: Visit, _topic: ReadTopic) -> bytes:
    """Both families; a main table that does not exist (yet) is empty."""
    kept = []
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            data = _routes(visit, family, 0)
        except OSError as error:
            if error.errno != errno.ENOENT:
                raise
            continue
        offset = 0
        while offset < len(data):
            (length,) = struct.unpack_from("=I", data, offset)
            if data[offset + HEADER.size + 1] == 0:  # rtm_dst_len
                kept.append(data[offset : offset + length])
            offset += (length + 3) & ~3
    return b"".join(kept)


def fetch_neighbours(visit: Visit, topic: ReadTopic) -> bytes:
    only = attribute(_NDA_IFINDEX, struct.pack("=I", topic.number))
    return b"".join(
        visit.dump(socket.NETLINK_ROUTE, _RTM_GETNEIGH, struct.pack("=BBHiHBB", family, 0, 0, 0, 0, 0, 0) + only)
        for family in (socket.AF_INET, socket.AF_INET6)
    )


def fetch_fdb(visit: Visit, topic: ReadTopic) -> bytes:
    return visit.dump(
        socket.NETLINK_ROUTE, _RTM_GETNEIGH, struct.pack("=BBHiHBB", _AF_BRIDGE, 0, 0, topic.number, 0, 0, 0)
    )
