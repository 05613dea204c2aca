"""Inspects this machine: its namespaces and their pods, the host's facts, every pod's. Called by rounds."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace

from exporter.broker.client.requests import BrokerClient
from exporter.broker.protocol.messages import NamespaceRef
from exporter.config.schema import Config
from exporter.diagnosis.bgp import may_speak_bgp
from exporter.diagnosis.engine.preconditions import listed
from exporter.diagnosis.felix import uses_wireguard
from exporter.diagnosis.rules.node.masquerade import has_other_ipam
from exporter.diagnosis.watched_services import watched_ports
from exporter.kernel.read.host_facts import HostWish
from exporter.kernel.read.readers import read_addresses, read_host
from exporter.model.cluster.inventory import Inventory
from exporter.model.dns import ResolvConf
from exporter.model.facts import HostFacts, ReaderStatus
from exporter.model.family import Address
from exporter.model.report import PodView
from exporter.model.vantage import Netns, Vantage
from exporter.telemetry.logs import fields
from exporter.vantage.pod_files import Libraries, read_own_resolv_conf
from exporter.vantage.pod_namespaces import Listing, locate, processes_of_pods, unmatched
from exporter.vantage.pods import InspectionContext, batches, inspect_pods
from exporter.vantage.reader_status import NAMED, is_confined, status_of_files, status_of_listing, status_of_pods
from exporter.vantage.rtnetlink_monitor import RtnetlinkMonitor

log = logging.getLogger(__name__)

# How often the addresses of a namespace without any are read: a runtime makes it before the network is set up.
READS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """The result of one inspection of this machine."""

    host: Vantage
    pods: tuple[PodView, ...]
    host_facts: HostFacts | None
    host_resolv_conf: ResolvConf | None
    readings: tuple[ReaderStatus, ...]


@dataclass(frozen=True, slots=True)
class UnmatchedNetns:
    """A namespace that no cgroup ties to a pod: its addresses, and how often they were read."""

    addresses: tuple[Address, ...] = ()
    reads: int = 0


class Inspector:
    """Inspects this machine once a round; remembers the addresses of namespaces that no cgroup ties to a pod."""

    def __init__(self, config: Config, broker: BrokerClient, *, clock: Callable[[], float]) -> None:
        self._config = config
        self._broker = broker
        self._clock = clock
        self._facts: HostFacts | None = None
        self._monitor = RtnetlinkMonitor() if broker.shares_namespace else None
        self._unmatched: dict[Netns, UnmatchedNetns] = {}
        self._libraries = Libraries()
        self._silent: frozenset[str] = frozenset()

    def configure(self, config: Config) -> None:
        """Use this configuration from the next inspection on."""
        self._config = config

    async def inspect(self, inventory: Inventory, *, anew: bool = False) -> Inspection:
        """The host's facts, every pod's facts and files. `anew`: no copy of an earlier round will do."""
        began = self._clock()
        listing = await self._listing(inventory)
        vantages = locate(listing, inventory, self._config, began)
        listed = status_of_listing(listing.refused, vantages, self._broker.welcome, self._clock() - began)
        lsm = is_confined(self._broker.welcome.lsm)
        previous = replace(self._facts, legacy=None, postrouting=None) if anew and self._facts else self._facts
        self._facts, readings = await read_host(
            self._broker,
            previous=previous,
            changes=self._monitor,
            wish=HostWish(
                ports=watched_ports(inventory),
                postrouting=has_other_ipam(inventory),
                bgp=may_speak_bgp(inventory),
                wireguard=uses_wireguard(inventory, self._config.node_name),
            ),
            lsm=lsm,
        )
        context = InspectionContext(
            broker=self._broker,
            own=read_own_resolv_conf(),
            clock=self._clock,
            processes=processes_of_pods(listing, vantages, inventory, self._config.node_name),
            libraries=self._libraries,
        )
        inspected = await inspect_pods(context, vantages)
        self._log_silent(frozenset(inspected.silent))
        pods = tuple(inspected.views.values())
        files = status_of_files(pods, inspected.file_seconds, silent=inspected.silent, unasked=inspected.unasked)
        return Inspection(
            host=Vantage(kind="host", namespace="", name=self._config.node_name, netns=None),
            pods=pods,
            host_facts=self._facts,
            host_resolv_conf=context.own,
            readings=(listed, *readings, *status_of_pods(inspected.statuses), *files),
        )

    def _log_silent(self, silent: frozenset[str]) -> None:
        """One line when pods' file systems stop answering: their resolv.conf and libraries are unknown meanwhile."""
        fresh, self._silent = silent - self._silent, silent
        if fresh:
            log.warning("the file system of a pod does not answer", extra=fields(pods=listed(sorted(fresh), NAMED)))

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
        self._unmatched = await self._read_unmatched(unmatched(listing, inventory, self._config.node_name))
        return replace(listing, addresses={netns.key: known.addresses for netns, known in self._unmatched.items()})

    async def _read_unmatched(self, places: tuple[Netns, ...]) -> dict[Netns, UnmatchedNetns]:
        """The addresses of each, read once; again in the next rounds while it has none."""
        known = {netns: self._unmatched.get(netns, UnmatchedNetns()) for netns in places}
        due = [netns for netns, each in known.items() if not each.addresses and each.reads < READS]
        for batch in batches(due):
            asked = tuple(
                NamespaceRef(device=n.device, inode=n.inode, pid=n.pid, started=n.started, path=n.path) for n in batch
            )
            for netns, addresses in zip(batch, await read_addresses(self._broker, asked), strict=True):
                known[netns] = UnmatchedNetns(addresses, known[netns].reads + 1)
        return known
