"""Topics of netfilter: nftables and ipset, filtered by the kernel; and the socket and IPVS dumps.

Server side of the broker; privileged. Each topic is fetched as raw messages (linux/netfilter/nf_tables.h,
ipset/ip_set.h, linux/inet_diag.h, linux/ip_vs.h). Nothing here dumps a big chain unless it is asked for by name.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Callable, Mapping

from exporter.broker.protocol.messages import WIREGUARD_LINK, ReadTopic, Topic
from exporter.broker.server.kernel.netlink import (
    ATTRIBUTE,
    HEADER,
    Fetch,
    Visit,
    always,
    attribute,
    dump_request,
    question,
)
from exporter.broker.server.syscalls import getsockopt

_NETLINK_SOCK_DIAG = 4
_NETLINK_NETFILTER = 12
_NETLINK_GENERIC = 16
_TCPDIAG_GETSOCK = 18  # the one request of sock_diag that answers for both families at once
_TCP_LISTEN = 10
_NFT_GETTABLE, _NFT_GETCHAIN, _NFT_GETRULE, _NFT_GETSETELEM, _NFT_GETGEN = 0x0A01, 0x0A04, 0x0A07, 0x0A0D, 0x0A10
_CHAIN_ATTRIBUTES = (1, 3)  # NFTA_CHAIN_TABLE, NFTA_CHAIN_NAME
_CHAIN_HOOK = 4
_CHAIN_HAS_HOOK = frozenset({_CHAIN_HOOK, 6})  # NFTA_CHAIN_USE stands behind it
_ATTRIBUTES = (1, 2)  # the table and the name in requests of rules and of set elements
_IPSET_CMD_LIST = 0x0607
_IPSET_PROTOCOL = 6
_IP_SET_SOCKOPT = 83  # SO_IP_SET
_IP_SET_OP_GET_BYINDEX = 7
_IP_SET_NAME_LENGTH = 32
_GENL_ID_CTRL = 16
_CTRL_CMD_GETFAMILY = 3
_IPVS_CMD_GET_SERVICE = 4
_WG_CMD_GET_DEVICE = 0  # linux/wireguard.h
_WGDEVICE_IFNAME, _WGDEVICE_PEERS = 2, 8
_WG_SECRETS = (3, -1, 2)  # WGDEVICE_A_PRIVATE_KEY; none in the list of peers; WGPEER_A_PRESHARED_KEY
_CTRL_ATTR_FAMILY_ID, _CTRL_ATTR_FAMILY_NAME = 1, 2
# struct inet_diag_req of linux/inet_diag.h: family and lengths, a 48-byte socket id, states, marks
_SOCKETS = dump_request(_TCPDIAG_GETSOCK, bytes(4 + 48) + struct.pack("=II", 1 << _TCP_LISTEN, 0))


def _nfgen(family: int) -> bytes:
    if family > 0xFF:
        raise OSError(errno.EINVAL, "no such family")
    return struct.pack("=BBH", family, 0, 0)


def _named(topic: ReadTopic, kinds: tuple[int, int]) -> bytes:
    """The body of a request for "TABLE", NUL, "NAME", or for "TABLE" only."""
    table, separator, name = topic.argument.partition(b"\0")
    if not table or b"\0" in name or (separator and not name):
        raise OSError(errno.EINVAL, "not a table and a name")
    body = _nfgen(topic.number) + attribute(kinds[0], table + b"\0")
    return body + attribute(kinds[1], name + b"\0") if name else body


def _nftables(make: Callable[[int, bytes], bytes], command: int, kinds: tuple[int, int]) -> Fetch:
    """Fetches what answers one command about the table and name of the topic."""
    return lambda visit, topic: visit.fetch(_NETLINK_NETFILTER, make(command, _named(topic, kinds)))


def _nft_base_chains(visit: Visit, topic: ReadTopic) -> bytes:
    """The chains with a hook, of the thousands of others that kube-proxy makes."""
    data = visit.fetch(_NETLINK_NETFILTER, dump_request(_NFT_GETCHAIN, _nfgen(topic.number)))
    kept = []
    start = 0
    while start < len(data):
        end = start + HEADER.unpack_from(data, start)[0]
        at = start + HEADER.size + 4
        kind = 0
        length = 4
        while at < end and length >= 4 and kind not in _CHAIN_HAS_HOOK:
            length, kind = ATTRIBUTE.unpack_from(data, at)
            kind &= 0x3FFF
            at += (length + 3) & -4
        if kind == _CHAIN_HOOK:
            kept.append(data[start:end])
        start = (end + 3) & -4
    return b"".join(kept)


def _nft_set_head(visit: Visit, topic: ReadTopic) -> bytes:
    return visit.fetch_head(_NETLINK_NETFILTER, dump_request(_NFT_GETSETELEM, _named(topic, _ATTRIBUTES)))


def _ipset_name(index: int) -> bytes:
    """The name of a set (struct ip_set_req_get_set of linux/netfilter/ipset/ip_set.h)."""
    if index > 0xFFFF:
        raise OSError(errno.EINVAL, "no such index")
    request = struct.pack("=IIH", _IP_SET_OP_GET_BYINDEX, _IPSET_PROTOCOL, index)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as asked:
        answer = getsockopt(asked, (socket.IPPROTO_IP, _IP_SET_SOCKOPT), request, 8 + _IP_SET_NAME_LENGTH)
    name = answer[8:].split(b"\0", 1)[0]
    if not name:
        raise OSError(errno.ENOENT, "no ipset has this index")
    return name


def _ipset(visit: Visit, topic: ReadTopic) -> bytes:
    name = _ipset_name(topic.number)
    body = _nfgen(socket.AF_INET) + attribute(1, bytes((_IPSET_PROTOCOL,))) + attribute(2, name + b"\0")
    return visit.fetch(_NETLINK_NETFILTER, dump_request(_IPSET_CMD_LIST, body))


def _ipvs(visit: Visit, _topic: ReadTopic) -> bytes:
    """IPVS services. ENOENT without ip_vs: looking the family up would load the module, so /proc is checked first."""
    os.stat("/proc/thread-self/net/ip_vs")  # noqa: PTH116  # the broker does without pathlib
    return _generic(visit, b"IPVS", _IPVS_CMD_GET_SERVICE)


def _wireguard(visit: Visit, _topic: ReadTopic) -> bytes:
    """Asked only where the device exists, whose module is loaded then: looking the family up would load it."""
    try:
        socket.if_nametoindex(WIREGUARD_LINK)
    except OSError:
        raise OSError(errno.ENODEV, "no WireGuard device") from None
    name = attribute(_WGDEVICE_IFNAME, WIREGUARD_LINK.encode() + b"\0")
    answer = bytearray(_generic(visit, b"wireguard", _WG_CMD_GET_DEVICE, name))
    start = 0
    while start < len(answer):
        end = start + HEADER.unpack_from(answer, start)[0]
        zero_secrets(answer, start + HEADER.size + 4, end)
        start = (end + 3) & -4
    return bytes(answer)


def zero_secrets(message: bytearray, start: int, end: int, depth: int = 0) -> None:
    """Zero the private key (depth 0) and the peers' preshared keys (depth 2). EBADMSG where it cannot be walked."""
    while start < end:
        length, kind = ATTRIBUTE.unpack_from(message, start) if end - start >= 4 else (0, 0)
        stop = start + length
        if length < 4 or stop > end:
            raise OSError(errno.EBADMSG, "an attribute of impossible length")
        kind &= 0x3FFF
        if kind == _WG_SECRETS[depth]:
            message[start + 4 : stop] = bytes(length - 4)
        elif depth == 1 or (depth == 0 and kind == _WGDEVICE_PEERS):
            zero_secrets(message, start + 4, stop, depth + 1)
        start = (stop + 3) & -4


def _generic(visit: Visit, family: bytes, command: int, body: bytes = b"") -> bytes:
    """A dump of a generic netlink family, found by its name."""
    lookup = struct.pack("=BBH", _CTRL_CMD_GETFAMILY, 1, 0) + attribute(_CTRL_ATTR_FAMILY_NAME, family + b"\0")
    number = _first_u16(visit.fetch(_NETLINK_GENERIC, question(_GENL_ID_CTRL, lookup)), _CTRL_ATTR_FAMILY_ID)
    return visit.fetch(_NETLINK_GENERIC, dump_request(number, struct.pack("=BBH", command, 1, 0) + body))


def _first_u16(answer: bytes, kind: int) -> int:
    """A u16 attribute of a generic netlink message; ENOENT without it."""
    offset = HEADER.size + 4
    while offset + 4 <= len(answer):
        length, found = ATTRIBUTE.unpack_from(answer, offset)
        if length < 4:
            break
        if found == kind and length == 6 and offset + 6 <= len(answer):
            value: int = struct.unpack_from("=H", answer, offset + 4)[0]
            return value
        offset += (length + 3) & ~3
    raise OSError(errno.ENOENT, "no such generic netlink family")


TOPICS: Mapping[Topic, Fetch] = {
    Topic.NFT_GENERATION: always(_NETLINK_NETFILTER, question(_NFT_GETGEN, _nfgen(0))),
    Topic.NFT_TABLES: always(_NETLINK_NETFILTER, dump_request(_NFT_GETTABLE, _nfgen(0))),
    Topic.NFT_CHAINS: always(_NETLINK_NETFILTER, dump_request(_NFT_GETCHAIN, _nfgen(0))),
    Topic.NFT_BASE_CHAINS: _nft_base_chains,
    Topic.NFT_CHAIN: _nftables(question, _NFT_GETCHAIN, _CHAIN_ATTRIBUTES),
    Topic.NFT_RULES: _nftables(dump_request, _NFT_GETRULE, _ATTRIBUTES),
    Topic.NFT_SET: _nftables(dump_request, _NFT_GETSETELEM, _ATTRIBUTES),
    Topic.NFT_SET_HEAD: _nft_set_head,
    Topic.IPSET: _ipset,
    Topic.SOCKETS: always(_NETLINK_SOCK_DIAG, _SOCKETS),
    Topic.IPVS: _ipvs,
    Topic.WIREGUARD: _wireguard,
}
