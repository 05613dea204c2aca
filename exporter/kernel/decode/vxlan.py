"""Parses tunnel devices: settings, neighbours, forwarding database (linux/if_link.h, linux/neighbour.h). Pure.

What a device should have for each peer is judged in tunnel_peers.py and diagnosis/vxlan_peers.py.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from exporter.kernel.decode import ParseError
from exporter.kernel.decode.netlink import (
    AF_INET,
    AF_INET6,
    Attributes,
    read_address,
    read_attributes,
    read_mac,
    read_nested,
    split_messages,
)
from exporter.model.facts import LinkFact, Neighbour, VxlanDevice
from exporter.model.family import Address, Family

_NAMES = re.compile(r"vxlan(-v6)?\.calico|flannel(-v6)?\.[0-9]{1,8}")  # flannel's end in their VNI
BPF_LINK = "bpfin.cali"

_RTM_NEWNEIGH = frozenset({28})
_NDMSG = struct.Struct("=BxHiHBB")  # family, pads, link index, state, flags, type
_AF_BRIDGE = 7
_NDA_DST, _NDA_LLADDR = 1, 2
_FAMILIES = frozenset({AF_INET, AF_INET6})
_NUD_PERMANENT = 0x80
_NUD_UNUSED = 0x01 | 0x20 | 0x40  # NUD_INCOMPLETE, NUD_FAILED, NUD_NOARP
_VXLAN_ID, _VXLAN_LINK, _VXLAN_LOCAL, _VXLAN_LEARNING, _VXLAN_PORT = 1, 3, 4, 7, 15
_VXLAN_LOCAL6, _VXLAN_COLLECT_METADATA = 17, 25


@lru_cache(maxsize=4096)  # asked for the link of every route
def tunnel_family(link: str) -> Family | None:
    """The family that a tunnel device of this name carries; None for other links."""
    found = _NAMES.fullmatch(link)
    return None if found is None else Family.V6 if any(found.groups()) else Family.V4


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
        found.u8(_VXLAN_COLLECT_METADATA, "IFLA_VXLAN_COLLECT_METADATA")
    )
    return VxlanSettings(
        vni=found.u32(_VXLAN_ID, "IFLA_VXLAN_ID") if _VXLAN_ID in found and not flow_based else None,
        port=found.be16(_VXLAN_PORT, "IFLA_VXLAN_PORT") if _VXLAN_PORT in found else None,
        local=_local(found),
        parent=found.u32(_VXLAN_LINK, "IFLA_VXLAN_LINK") if _VXLAN_LINK in found else 0,
        learning=bool(found.u8(_VXLAN_LEARNING, "IFLA_VXLAN_LEARNING")) if _VXLAN_LEARNING in found else None,
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
    """The neighbours of one link that have a link-layer address, without those being resolved or failed."""
    found = []
    for family, state, attributes in _split_neighbours(data, index):
        if family not in _FAMILIES or state & _NUD_UNUSED:
            continue
        destination = attributes.get(_NDA_DST)
        if destination is None:
            raise ParseError("a neighbour without an address")
        mac = read_mac(attributes.get(_NDA_LLADDR, b""))
        if mac:
            found.append(Neighbour(read_address(family, destination), mac, bool(state & _NUD_PERMANENT)))
    return tuple(found)


def parse_fdb(data: bytes, index: int) -> Mapping[str, Address]:
    """Forwarding entries of one vxlan link by MAC; only those with a destination, without the all-zero default."""
    found = {}
    for family, _, attributes in _split_neighbours(data, index):
        destination = attributes.get(_NDA_DST)
        if family != _AF_BRIDGE or destination is None:
            continue
        mac = read_mac(attributes.get(_NDA_LLADDR, b""))
        if mac and mac != "00:00:00:00:00:00":
            found[mac] = read_address(AF_INET6 if len(destination) == 16 else AF_INET, destination)
    return found


def _split_neighbours(data: bytes, index: int) -> Iterable[tuple[int, int, Attributes]]:
    """Family, state and attributes of each neighbour message of one link."""
    unpack = _NDMSG.unpack_from
    for _, start, end in split_messages(data, _RTM_NEWNEIGH, 12, "a neighbour"):
        family, _, link, state, _, _ = unpack(data, start)
        if link == index:
            yield family, state, read_attributes(data, start + 12, end)


def make_device(link: LinkFact, settings: VxlanSettings, parent: LinkFact | None) -> VxlanDevice:
    """One tunnel device, without its addresses and entries."""
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
        parent_mtu=parent.mtu if parent else None,
        learning=settings.learning,
        mac=link.mac,
    )
