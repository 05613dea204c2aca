"""Topics of NETLINK_ROUTE: links, addresses, routes, neighbours, forwarding database (linux/rtnetlink.h).

Server side of the broker; privileged. Each topic is fetched as raw messages, filtered by the kernel where it can.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Mapping

from exporter.broker.protocol.messages import DUMPS, ReadTopic, Topic
from exporter.broker.server.kernel.netlink import HEADER, Fetch, Visit, attribute, dump_request

_RTM_GETROUTE, _RTM_GETNEIGH = 26, 30
_RT_TABLE_MAIN = 254
_NDA_IFINDEX, _RTA_OIF = 8, 4
_AF_BRIDGE = 7
_LENGTH = struct.Struct("=I")
_NDMSG = struct.Struct("=BBHiHBB")
_RTM_DST_LEN = HEADER.size + 1  # from the message's beginning

_ROUTES4, _ROUTES6 = (dump_request(*DUMPS[topic][1:]) for topic in (Topic.ROUTES4, Topic.ROUTES6))
_ROUTES = dump_request(_RTM_GETROUTE, struct.pack("=BBBBBBBBI", 0, 0, 0, 0, _RT_TABLE_MAIN, 0, 0, 0, 0))


def _default_routes(visit: Visit, _topic: ReadTopic) -> bytes:
    """Default routes of both families, from one dump."""
    try:
        data = visit.fetch(socket.NETLINK_ROUTE, _ROUTES)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        data = _each_family(visit)
    kept = []
    offset = 0
    while offset < len(data):
        (length,) = _LENGTH.unpack_from(data, offset)
        if data[offset + _RTM_DST_LEN] == 0:
            kept.append(data[offset : offset + length])
        offset += (length + 3) & -4
    return b"".join(kept)


def _each_family(visit: Visit) -> bytes:
    """One dump per family: MPLS, where it is loaded, takes part in a dump of all and refuses the table."""
    found = []
    for request in (_ROUTES4, _ROUTES6):
        try:
            found.append(visit.fetch(socket.NETLINK_ROUTE, request))
        except OSError as error:
            if error.errno != errno.ENOENT:  # a main table that does not exist yet is empty
                raise
    return b"".join(found)


def _neighbours(visit: Visit, topic: ReadTopic) -> bytes:
    only = attribute(_NDA_IFINDEX, struct.pack("=I", topic.number))
    bodies = (_NDMSG.pack(family, 0, 0, 0, 0, 0, 0) + only for family in (socket.AF_INET, socket.AF_INET6))
    return b"".join(visit.fetch(socket.NETLINK_ROUTE, dump_request(_RTM_GETNEIGH, body)) for body in bodies)


def _forwarding(visit: Visit, topic: ReadTopic) -> bytes:
    body = _NDMSG.pack(_AF_BRIDGE, 0, 0, topic.number, 0, 0, 0)
    return visit.fetch(socket.NETLINK_ROUTE, dump_request(_RTM_GETNEIGH, body))


def _link_routes6(visit: Visit, topic: ReadTopic) -> bytes:
    body = struct.pack("=BBBBBBBBI", socket.AF_INET6, 0, 0, 0, 0, 0, 0, 0, 0)
    body += attribute(_RTA_OIF, struct.pack("=I", topic.number))
    return visit.fetch(socket.NETLINK_ROUTE, dump_request(_RTM_GETROUTE, body))


TOPICS: Mapping[Topic, Fetch] = {
    Topic.DEFAULT_ROUTES: _default_routes,
    Topic.NEIGHBOURS: _neighbours,
    Topic.FDB: _forwarding,
    Topic.LINK_ROUTES6: _link_routes6,
}
