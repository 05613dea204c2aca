"""Parses Calico's tunnel devices: settings, neighbours, forwarding database (linux/if_link.h, linux/neighbour.h). Pure: bytes -> facts.

What a device should hold for each peer is judged in peers.py.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from exporter.kernel.decode.netlink import (
    AF_INET,
    AF_INET6,
    Attributes,
    read_address,
    read_attributes,
    read_be16,
    read_mac,
    read_nested,
    read_u8,
    read_u32,
    split_messages,
)
from exporter.kernel.decode.parse_error import ParseError
from exporter.model.facts import AddressFact, LinkFact, Neighbour, RouteFact, VxlanDevice
from exporter.model.family import Address, Family

DEVICES: Mapping[str, Family] = {"vxlan-v6.calico": Family.V6, "vxlan.calico": Family.V4}
BPF_LINK = "bpfin.cali"

_RTM_NEWNEIGH = 28
_NDMSG = struct.Struct("=BxHiHBB")  # family, pads, link index, state, flags, type
_AF_BRIDGE = 7
_NDA_DST, _NDA_LLADDR = 1, 2
_NUD_PERMANENT, _NUD_NOARP = 0x80, 0x40
_NUD_INCOMPLETE, _NUD_FAILED = 0x01, 0x20
_VXLAN_ID, _VXLAN_LINK, _VXLAN_LOCAL, _VXLAN_LEARNING, _VXLAN_PORT = 1, 3, 4, 7, 15
_VXLAN_LOCAL6, _VXLAN_COLLECT_METADATA = 17, 25


@dataclass(frozen=True, slots=True, kw_only=True)
class VxlanSettings:
    """IFLA_INFO_DATA of a vxlan link. `parent` is a link index, 0 without."""

    vni: int | None = None
    port: int | None = None
    local: Address | None = None
    parent: int = 0
    learning: bool | None = None
    flow_based: bool = False


def parse_settings(data: bytes) -> VxlanSettings:
    """The attributes IFLA_VXLAN_*. A flow-based device (eBPF's) has neither VNI, local nor parent of its own."""
    found = read_nested(data)
    flow_based = _VXLAN_COLLECT_METADATA in found and bool(
        read_u8(found[_VXLAN_COLLECT_METADATA], "IFLA_VXLAN_COLLECT_METADATA")
    )
    return VxlanSettings(
        vni=read_u32(found[_VXLAN_ID], "IFLA_VXLAN_ID") if _VXLAN_ID in found and not flow_based else None,
        port=read_be16(found[_VXLAN_PORT], "IFLA_VXLAN_PORT") if _VXLAN_PORT in found else None,
        local=_local(found),
        parent=read_u32(found[_VXLAN_LINK], "IFLA_VXLAN_LINK") if _VXLAN_LINK in found else 0,
        learning=bool(read_u8(found[_VXLAN_LEARNING], "IFLA_VXLAN_LEARNING")) if _VXLAN_LEARNING in found else None,
        flow_based=flow_based,
    )


def _local(found: Attributes) -> Address | None:
    if _VXLAN_LOCAL6 in found:
        address = read_address(AF_INET6, found[_VXLAN_LOCAL6])
    elif _VXLAN_LOCAL in found:
        address = read_address(AF_INET, found[_VXLAN_LOCAL])
    else:
        return None
    return None if address.is_unspecified else address


def parse_neighbours(data: bytes, index: int) -> tuple[Neighbour, ...]:
    """The neighbours of one link that have a link-layer address. Those still being resolved, or failed, are left out."""
    found = []
    for family, state, attributes in _split_neighbours(data, index):
        if family not in {AF_INET, AF_INET6} or state & (_NUD_INCOMPLETE | _NUD_FAILED | _NUD_NOARP):
            continue
        destination = attributes.get(_NDA_DST)
        if destination is None:
            raise ParseError("a neighbour without an address")
        mac = read_mac(attributes.get(_NDA_LLADDR, b""))
        if mac:
            found.append(Neighbour(read_address(family, destination), mac, bool(state & _NUD_PERMANENT)))
    return tuple(found)


def parse_fdb(data: bytes, index: int) -> Mapping[str, Address]:
    """Forwarding entries of one vxlan link by MAC; only those with a destination, and not the all-zero default entry."""
    found = {}
    for family, _, attributes in _split_neighbours(data, index):
        if family != _AF_BRIDGE or _NDA_DST not in attributes:
            continue
        mac = read_mac(attributes.get(_NDA_LLADDR, b""))
        destination = attributes[_NDA_DST]
        if mac and mac != "00:00:00:00:00:00":
            found[mac] = read_address(AF_INET6 if len(destination) == 16 else AF_INET, destination)
    return found


def _split_neighbours(data: bytes, index: int) -> Iterable[tuple[int, int, Attributes]]:
    """Family, state and attributes of each neighbour message of one link."""
    unpack = _NDMSG.unpack_from
    for kind, start, end in split_messages(data):
        if kind != _RTM_NEWNEIGH:
            continue
        if end - start < 12:
            raise ParseError("a neighbour message ends early")
        family, _, link, state, _, _ = unpack(data, start)
        if link == index:
            yield family, state, read_attributes(data, start + 12, end)


@dataclass(frozen=True, slots=True, kw_only=True)
class TunnelState:
    """What was read about one tunnel device besides the links: the parts of a VxlanDevice."""

    addresses: tuple[AddressFact, ...] = ()
    routes: tuple[RouteFact, ...] = ()
    neighbours: tuple[Neighbour, ...] = ()
    fdb: Mapping[str, Address] | None = None


def make_device(
    link: LinkFact, settings: VxlanSettings, links: Mapping[int, LinkFact], state: TunnelState
) -> VxlanDevice:
    """One tunnel device from its link, its settings, all links (for the parent) and what stands on it."""
    parent = links.get(settings.parent)
    return VxlanDevice(
        name=link.name,
        kind=link.kind,
        up=link.up,
        lower_up=link.lower_up,
        mtu=link.mtu,
        flow_based=settings.flow_based,
        vni=settings.vni,
        port=settings.port,
        local=settings.local,
        parent=parent.name if parent else "",
        parent_up=parent.up and parent.lower_up if parent else None,
        parent_mtu=parent.mtu if parent else None,
        learning=settings.learning,
        mac=link.mac,
        addresses=state.addresses,
        routes=state.routes,
        neighbours=state.neighbours,
        fdb=state.fdb or {},
    )
