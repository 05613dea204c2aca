"""Entries of the last round that are still valid because the kernel announced no change: routes, neighbours, FDB. Pure.

They are what grows with the cluster. Milliseconds of CPU for the host's facts, broker included, all read and kept
(tests.bench.kernel): 10 peers 2.1 and 1.4, 100 peers 3.1 and 1.5, 1,000 peers 16 and 1.6, 5,000 peers 73 and 1.8. What
the kernel does not announce is not kept (vantage/rtnetlink_monitor.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from exporter.kernel.decode.vxlan import tunnel_family
from exporter.model.facts import HostFacts, LinkFact, RouteFact, VxlanDevice

FULL_EVERY = 300.0  # seconds after which all is read again, whatever was announced


class Changes(Protocol):
    """The kernel's announcements about the host."""

    def is_silent(self) -> bool:
        """Whether nothing was announced since this was asked last."""
        ...

    def watch(self, links: frozenset[int]) -> None:
        """Listen for neighbours and forwarding entries of these links, by index."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class CachedEntries:
    """What need not be read this time. `read`: when it was, in monotonic seconds."""

    routes: tuple[RouteFact, ...]  # without those over the tunnel devices
    devices: Mapping[str, VxlanDevice]
    tunnels: frozenset[tuple[int, str]]
    read: float


def keep(before: HostFacts | None, now: float) -> CachedEntries | None:
    """What of the facts before may be kept while the kernel is silent.

    None: nothing, since they are too old or incomplete, or some route expires, which counts down unannounced.
    """
    if before is None or before.links is None or before.routes is None or before.vxlan is None:
        return None
    if not 0 <= now - before.entries_read < FULL_EVERY:
        return None
    devices = before.vxlan.devices
    routes = (before.routes, *(device.routes for device in devices.values()))
    if any(route.expires is not None for each in routes for route in each):
        return None
    return CachedEntries(
        routes=before.routes, devices=devices, tunnels=tunnels_of(before.links), read=before.entries_read
    )


def tunnels_of(links: tuple[LinkFact, ...]) -> frozenset[tuple[int, str]]:
    """Index and name of the tunnel devices."""
    return frozenset((link.index, link.name) for link in links if tunnel_family(link.name))
