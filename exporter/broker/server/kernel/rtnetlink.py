"""Topics of NETLINK_ROUTE: links, addresses, routes, neighbours, forwarding database. linux/rtnetlink.h, strict requests.

Broker side of the flow; privileged. Each function fetches raw messages, filtered by the kernel where it can; raises
OSError.
"""

from __future__ import annotations

import errno
import socket
import struct

from exporter.broker.protocol.messages import ReadTopic
from exporter.broker.server.kernel.netlink import HEADER, attribute, dump_request
from exporter.broker.server.kernel.visit import Visit

_RTM_GETLINK, _RTM_GETADDR, _RTM_GETROUTE, _RTM_GETNEIGH = 18, 22, 26, 30
_RT_TABLE_MAIN = 254
_RTA_OIF = 4
_IFLA_EXT_MASK = 29
_RTEXT_FILTER_SKIP_STATS = 8
_NDA_IFINDEX = 8
_AF_BRIDGE = 7
_LENGTH = struct.Struct("=I")
_RTM_DST_LEN = HEADER.size + 1  # from the message's beginning


_LINKS = dump_request(_RTM_GETLINK, bytes(16) + attribute(_IFLA_EXT_MASK, struct.pack("=I", _RTEXT_FILTER_SKIP_STATS)))
_ADDRESSES = dump_request(_RTM_GETADDR, bytes(8))


def _routes(family: int, oif: int = 0) -> bytes:
    body = struct.pack("=BBBBBBBBI", family, 0, 0, 0, _RT_TABLE_MAIN, 0, 0, 0, 0)
    if oif:
        body += attribute(_RTA_OIF, struct.pack("=I", oif))
    return dump_request(_RTM_GETROUTE, body)


_ROUTES4, _ROUTES6, _ROUTES = _routes(socket.AF_INET), _routes(socket.AF_INET6), _routes(socket.AF_UNSPEC)


def fetch_links(visit: Visit, _topic: ReadTopic) -> bytes:
    return visit.fetch(socket.NETLINK_ROUTE, _LINKS)


def fetch_addresses(visit: Visit, _topic: ReadTopic) -> bytes:
    return visit.fetch(socket.NETLINK_ROUTE, _ADDRESSES)


def fetch_routes4(visit: Visit, topic: ReadTopic) -> bytes:
    return visit.fetch(socket.NETLINK_ROUTE, _routes(socket.AF_INET, topic.number))


def fetch_routes6(visit: Visit, topic: ReadTopic) -> bytes:
    return visit.fetch(socket.NETLINK_ROUTE, _routes(socket.AF_INET6, topic.number))


def fetch_default_routes(visit: Visit, _topic: ReadTopic) -> bytes:
    """Default routes of both families, from one dump."""
    try:
        data = visit.fetch(socket.NETLINK_ROUTE, _ROUTES)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        data = _fetch_families(visit)
    kept = []
    offset = 0
    while offset < len(data):
        (length,) = _LENGTH.unpack_from(data, offset)
        if data[offset + _RTM_DST_LEN] == 0:
            kept.append(data[offset : offset + length])
        offset += (length + 3) & -4
    return b"".join(kept)


def _fetch_families(visit: Visit) -> bytes:
    """One dump per family: MPLS, where it is loaded, takes part in a dump of all and refuses the table."""
    found = []
    for request in (_ROUTES4, _ROUTES6):
        try:
            found.append(visit.fetch(socket.NETLINK_ROUTE, request))
        except OSError as error:
            if error.errno != errno.ENOENT:  # a main table that does not exist yet is empty
                raise
    return b"".join(found)


def fetch_neighbours(visit: Visit, topic: ReadTopic) -> bytes:
    only = attribute(_NDA_IFINDEX, struct.pack("=I", topic.number))
    return b"".join(
        visit.fetch(
            socket.NETLINK_ROUTE,
            dump_request(_RTM_GETNEIGH, struct.pack("=BBHiHBB", family, 0, 0, 0, 0, 0, 0) + only),
        )
        for family in (socket.AF_INET, socket.AF_INET6)
    )


def fetch_fdb(visit: Visit, topic: ReadTopic) -> bytes:
    body = struct.pack("=BBHiHBB", _AF_BRIDGE, 0, 0, topic.number, 0, 0, 0)
    return visit.fetch(socket.NETLINK_ROUTE, dump_request(_RTM_GETNEIGH, body))
