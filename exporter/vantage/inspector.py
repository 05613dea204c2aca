"""One look at this machine: its namespaces and whose they are, the host's facts, every pod's. What rounds call.

A namespace that vanishes in the middle is an outcome: its pod is left out of this round.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace

from exporter.broker.client.requests import BrokerClient
from exporter.broker.protocol.messages import NamespaceRef
from exporter.broker.protocol.wire import MAX_PLACES
from exporter.config.schema import Config
from exporter.kernel.read.readers import read_addresses, read_host
from exporter.model.dns import ResolvConf
from exporter.model.facts import HostFacts, ReaderStatus
from exporter.model.family import Address
from exporter.model.inventory import Inventory
from exporter.model.report import PodView
from exporter.model.vantage import Netns, Vantage
from exporter.telemetry.logs import fields
from exporter.vantage.pod_namespaces import Listing, locate, processes_of_pods, unmatched
from exporter.vantage.pods import InspectionContext, look_at_pods
from exporter.vantage.reader_status import is_confined, reading_of_listing, readings_of_files, readings_of_pods, shorten
from exporter.vantage.resolv_conf_files import read_own_resolv_conf
from exporter.vantage.roots import Libraries
from exporter.vantage.rtnetlink_monitor import RtnetlinkMonitor

log = logging.getLogger(__name__)

# Looks at a namespace that belongs to nobody and has no address yet: a runtime makes it before the network is set up.
LOOKS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """What one look at this machine gave."""

    host: Vantage
    pods: tuple[PodView, ...]
    host_facts: HostFacts | None
    host_resolv_conf: ResolvConf | None
    readings: tuple[ReaderStatus, ...]


@dataclass(frozen=True, slots=True)
class UnmatchedNetns:
    """What is known of a namespace that no cgroup ties to a pod: its addresses, and how often they were asked for."""

    addresses: tuple[Address, ...] = ()
    looks: int = 0


class Inspector:
    """Looks at this machine once a round; remembers the addresses of namespaces that no cgroup ties to a pod."""

    def __init__(self, config: Config, broker: BrokerClient, *, clock: Callable[[], float]) -> None:
        self._config = config
        self._broker = broker
        self._clock = clock
        self._facts: HostFacts | None = None
        self._changes = RtnetlinkMonitor() if broker.shares_namespace else None
        self._strangers: dict[Netns, UnmatchedNetns] = {}
        self._libraries = Libraries()
        self._silent: frozenset[str] = frozenset()

    def configure(self, config: Config) -> None:
        """Use this configuration from the next look on."""
        self._config = config

    async def inspect(self, inventory: Inventory) -> Inspection:
        """One look: the host's facts, every pod's facts and files."""
        host = Vantage(kind="host", namespace="", name=self._config.node_name, netns=None)
        began = self._clock()
        listing = await self._listing(inventory)
        vantages = locate(listing, inventory, self._config, began)
        found = reading_of_listing(listing.refused, vantages, self._broker.welcome, self._clock() - began)
        lsm = is_confined(self._broker.welcome.lsm)
        self._facts, readings = await read_host(self._broker, previous=self._facts, changes=self._changes, lsm=lsm)
        own = read_own_resolv_conf()
        processes = processes_of_pods(listing, vantages, inventory, self._config.node_name)
        looking = InspectionContext(
            broker=self._broker, own=own, clock=self._clock, processes=processes, libraries=self._libraries
        )
        seen = await look_at_pods(looking, vantages)
        self._tell_of_silent(frozenset(seen.silent))
        files = readings_of_files(seen.views, seen.file_seconds, silent=seen.silent, unasked=seen.unasked)
        fared = (*readings_of_pods(seen.readings), *files)
        return Inspection(
            host=host,
            pods=seen.views,
            host_facts=self._facts,
            host_resolv_conf=own,
            readings=(found, *readings, *fared),
        )

    def _tell_of_silent(self, silent: frozenset[str]) -> None:
        """One line when pods' file systems cease to answer: their resolv.conf and libraries stay unknown meanwhile."""
        fresh, self._silent = silent - self._silent, silent
        if fresh:
            log.warning("the file system of a pod does not answer", extra=fields(pods=shorten(sorted(fresh))))

    async def _listing(self, inventory: Inventory) -> Listing:
        directory = self._config.netns.directory
        processes, named = await asyncio.gather(self._broker.namespaces(), self._broker.named(directory))
        welcome = self._broker.welcome
        listing = Listing(
            found=processes.found,
            named=named.found,
            home=(welcome.device, welcome.inode),
            refused=processes.refused,
            directory=directory,
        )
        self._strangers = await self._visit_strangers(unmatched(listing, inventory, self._config.node_name))
        return replace(listing, addresses={place.key: known.addresses for place, known in self._strangers.items()})

    async def _visit_strangers(self, places: tuple[Netns, ...]) -> dict[Netns, UnmatchedNetns]:
        """The addresses of each, read once; again in the next rounds while it has none."""
        strangers = {netns: self._strangers.get(netns, UnmatchedNetns()) for netns in places}
        due = [n for n, known in strangers.items() if not known.addresses and known.looks < LOOKS]
        for start in range(0, len(due), MAX_PLACES):
            batch = due[start : start + MAX_PLACES]
            asked = tuple(
                NamespaceRef(device=n.device, inode=n.inode, pid=n.pid, started=n.started, path=n.path) for n in batch
            )
            for netns, addresses in zip(batch, await read_addresses(self._broker, asked), strict=True):
                strangers[netns] = UnmatchedNetns(addresses, strangers[netns].looks + 1)
        return strangers
