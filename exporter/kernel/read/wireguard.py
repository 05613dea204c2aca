"""Reads Calico's WireGuard device for IPv6: its peers by generic netlink, and the rule and routes that lead to it.

Between the broker and the host's facts. Felix (felix/wireguard/wireguard.go) marks what the device sends; a rule leads
packets without that mark to a table with one route through the device for each network of a peer. No secret key gets
here: the broker zeroes them.
"""

from __future__ import annotations

import struct
from base64 import b64encode
from collections.abc import Iterator

from exporter.broker.protocol.messages import ReadTopic, Topic
from exporter.kernel.decode import ParseError
from exporter.kernel.decode.netlink import (
    AF_INET,
    AF_INET6,
    Attributes,
    list_nested,
    read_address,
    read_attributes,
    read_nested,
    read_network,
    split_messages,
)
from exporter.kernel.read.visits import VisitAnswers
from exporter.model.cni.calico import WIREGUARD_V6
from exporter.model.facts import LinkFact, WireguardFacts, WireguardPeer
from exporter.model.family import Address, Net

_DEVICE = ReadTopic(Topic.WIREGUARD)
_RULES = ReadTopic(Topic.RULES6)
_FIXED = 16  # the types below are the protocol's own: NLMSG_ERROR, NLMSG_DONE
_RTM_NEWROUTE, _RTM_NEWRULE = frozenset({24}), frozenset({32})
_HEADER = struct.Struct("=BBBBBBBBI")  # struct rtmsg, struct fib_rule_hdr: the table, then the type of the action
_TABLE, _ACTION, _FLAGS = 4, 7, 8
_RTA_DST, _RTA_TABLE, _FRA_TABLE, _FRA_FWMARK = 1, 15, 15, 10
_FR_ACT_TO_TBL, _RTN_UNICAST, _FIB_RULE_INVERT = 1, 1, 2
# linux/wireguard.h: WGDEVICE_A_*, WGPEER_A_*, WGALLOWEDIP_A_*
_PUBLIC_KEY, _PEERS = 4, 8
_PEER_KEY, _ENDPOINT, _ALLOWED = 1, 4, 9
_FAMILY, _ADDRESS, _LENGTH = 1, 2, 3
_ENDPOINTS = {AF_INET: slice(4, 8), AF_INET6: slice(8, 24)}  # the address in a sockaddr


def wireguard_topics(links: tuple[LinkFact, ...]) -> tuple[ReadTopic, ...]:
    """What is asked for where the device exists."""
    index = next((link.index for link in links if link.name == WIREGUARD_V6), None)
    return () if index is None else (_DEVICE, _RULES, ReadTopic(Topic.LINK_ROUTES6, number=index))


def read_wireguard(links: tuple[LinkFact, ...], answers: VisitAnswers) -> WireguardFacts:
    """The device as the kernel has it. ReadError, ParseError."""
    device = next((link for link in links if link.name == WIREGUARD_V6), None)
    if device is None:
        return WireguardFacts(exists=False, up=False)
    key, peers = _parse_device(answers.data(_DEVICE))
    tables = set(_tables(answers.data(_RULES)))
    routes = _routes(answers.data(ReadTopic(Topic.LINK_ROUTES6, number=device.index)))
    return WireguardFacts(
        up=device.up, key=key, peers=peers, routed=frozenset(net for table, net in routes if table in tables)
    )


def _parse_device(data: bytes) -> tuple[str, tuple[WireguardPeer, ...]]:
    """A peer with many networks is continued in the next message, under the same key."""
    own = ""
    found: dict[str, WireguardPeer] = {}
    for _, start, end in split_messages(data, range(_FIXED, 1 << 16), 4, "a WireGuard"):
        attributes = read_attributes(data, start + 4, end)
        own = _key(attributes.get(_PUBLIC_KEY)) or own
        for _, value in list_nested(attributes.get(_PEERS, b"")):
            peer = _parse_peer(read_nested(value))
            before = found.get(peer.key, peer)
            found[peer.key] = WireguardPeer(
                key=peer.key, endpoint=peer.endpoint or before.endpoint, allowed=before.allowed | peer.allowed
            )
    return own, tuple(found.values())


def _parse_peer(attributes: Attributes) -> WireguardPeer:
    return WireguardPeer(
        key=_key(attributes.get(_PEER_KEY)),
        endpoint=_endpoint(attributes.get(_ENDPOINT)),
        allowed=frozenset(_network(read_nested(value)) for _, value in list_nested(attributes.get(_ALLOWED, b""))),
    )


def _key(value: bytes | None) -> str:
    return b64encode(value).decode() if value and any(value) else ""


def _endpoint(value: bytes | None) -> Address | None:
    """Of struct sockaddr_in or sockaddr_in6; none for a peer that was never heard of."""
    family = int.from_bytes(value[:2], "little") if value else 0
    return read_address(family, value[_ENDPOINTS[family]]) if value and family in _ENDPOINTS else None


def _network(attributes: Attributes) -> Net:
    family = attributes.u16(_FAMILY, "WGALLOWEDIP_A_FAMILY")
    if _ADDRESS not in attributes:
        raise ParseError("WGALLOWEDIP_A_IPADDR is missing")
    return read_network(family, attributes[_ADDRESS], attributes.u8(_LENGTH, "WGALLOWEDIP_A_CIDR_MASK"))


def _tables(data: bytes) -> Iterator[int]:
    """The tables to which rules lead what does not have a mark."""
    for _, start, end in split_messages(data, _RTM_NEWRULE, _HEADER.size, "a rule"):
        header, attributes = _HEADER.unpack_from(data, start), read_attributes(data, start + _HEADER.size, end)
        if header[_ACTION] == _FR_ACT_TO_TBL and header[_FLAGS] & _FIB_RULE_INVERT and _FRA_FWMARK in attributes:
            yield attributes.u32(_FRA_TABLE, "FRA_TABLE") if _FRA_TABLE in attributes else header[_TABLE]


def _routes(data: bytes) -> Iterator[tuple[int, Net]]:
    """Table and destination of each route."""
    for _, start, end in split_messages(data, _RTM_NEWROUTE, _HEADER.size, "a route"):
        header, attributes = _HEADER.unpack_from(data, start), read_attributes(data, start + _HEADER.size, end)
        if header[0] == AF_INET6 and header[_ACTION] == _RTN_UNICAST:
            destination = attributes.get(_RTA_DST, bytes(16))
            yield attributes.u32(_RTA_TABLE, "RTA_TABLE"), read_network(AF_INET6, destination, header[1])
