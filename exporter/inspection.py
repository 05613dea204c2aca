"""The local half of a round: finds the namespaces, ties them to pods, reads kernel facts and resolv.conf files. No traffic leaves.

Between inventory and plan. Asks the broker and parses; the tying is discovery/pods.py's, the facts are kernel/'s. A namespace that
vanishes in the middle is an outcome: its pod is left out of this round.
"""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from exporter.broker.client import BrokerClient
from exporter.broker.messages import Libc, Place, PodFiles, Welcome
from exporter.broker.privilege import missing_capabilities
from exporter.config.schema import Config
from exporter.discovery.pods import Listing, locate, unmatched
from exporter.errors import Errors
from exporter.kernel.readers import read_addresses, read_host, read_pod
from exporter.model.dns import ResolvConf
from exporter.model.facts import HostFacts, Reader, Reading
from exporter.model.family import Address
from exporter.model.inventory import Inventory
from exporter.model.report import PodView, Reason
from exporter.model.vantage import Netns, PodState, Vantage
from exporter.network import place_of
from exporter.resolvconf import parse_resolv_conf

LOOKS = (
    5  # at a namespace that belongs to nobody and has no address yet: a runtime makes it before the network is set up
)
AT_ONCE = 16  # visits asked of the broker before waiting for an answer
RESOLV_CONF_LIMIT = 65536
LIBCS = {Libc.GLIBC: "glibc", Libc.MUSL: "musl"}


@dataclass(frozen=True, slots=True)
class Inspection:
    """What one look at this machine gave."""

    host: Vantage
    pods: tuple[PodView, ...]
    host_facts: HostFacts | None
    host_resolv_conf: ResolvConf | None
    readings: tuple[Reading, ...]


@dataclass(frozen=True, slots=True)
class Stranger:
    """What is known of a namespace that no cgroup ties to a pod: its addresses, and how often they were asked for."""

    addresses: tuple[Address, ...] = ()
    looks: int = 0


class Inspector:
    """Looks at this machine once a round; remembers the addresses of namespaces that no cgroup ties to a pod."""

    def __init__(self, config: Config, broker: BrokerClient, errors: Errors, *, clock: Callable[[], float]) -> None:
        self._config = config
        self._broker = broker
        self._errors = errors
        self._clock = clock
        self._facts: HostFacts | None = None
        self._strangers: dict[Netns, Stranger] = {}
        self._file_seconds = 0.0

    def configure(self, config: Config) -> None:
        """Use this configuration from the next look on."""
        self._config = config

    async def inspect(self, inventory: Inventory) -> Inspection:
        """One look: the host's facts, every pod's facts and files."""
        host = Vantage("host", "", self._config.node_name, None)
        began = self._clock()
        listing = await self._listing(inventory)
        vantages = locate(listing, inventory, self._config, began)
        found = _listed(listing, vantages, self._broker.welcome, self._clock() - began)
        facts, readings = await read_host(self._broker, previous=self._facts, lsm=_confined(self._broker.welcome.lsm))
        self._facts = facts
        own = read_own_resolv_conf()
        slots, self._file_seconds = asyncio.Semaphore(AT_ONCE), 0.0
        views = await asyncio.gather(*(self._view(v, own, slots) for v in vantages))
        pods = tuple(view for view, _ in views if view is not None)
        summary = _summary([r for _, r in views if r is not None])
        return Inspection(host, pods, facts, own, (found, *readings, *summary, *_of_files(pods, self._file_seconds)))

    async def _listing(self, inventory: Inventory) -> Listing:
        directory = self._config.netns.directory
        processes, named = await asyncio.gather(self._broker.namespaces(), self._broker.named(directory))
        welcome = self._broker.welcome
        listing = Listing(processes.found, named.found, (welcome.device, welcome.inode), processes.refused, directory)
        self._strangers = {
            place: await self._visit(place) for place in unmatched(listing, inventory, self._config.node_name)
        }
        return replace(listing, addresses={place.key: known.addresses for place, known in self._strangers.items()})

    async def _visit(self, netns: Netns) -> Stranger:
        """Its addresses, read once; again in the next rounds while it has none."""
        known = self._strangers.get(netns, Stranger())
        if known.addresses or known.looks == LOOKS:
            return known
        place = Place(netns.device, netns.inode, netns.pid, netns.started, netns.path)
        return Stranger(await read_addresses(self._broker, place), known.looks + 1)

    async def _view(
        self, vantage: Vantage, own: ResolvConf | None, slots: asyncio.Semaphore
    ) -> tuple[PodView | None, Reading | None]:
        """One pod: inspected if it may be. None when its namespace vanished meanwhile."""
        place = place_of(vantage)
        if vantage.state is not PodState.ELIGIBLE or place is None:
            return PodView(vantage), None
        async with slots:
            facts, reading = await read_pod(self._broker, place, lsm=_confined(self._broker.welcome.lsm))
            if facts is None:
                if reading.reason == "vanished":
                    return None, None
                return PodView(replace(vantage, state=PodState.UNREADABLE), unread=reading.reason), reading
            if facts.intercepted:
                vantage = replace(vantage, state=PodState.INTERCEPTED)
            return await self._with_files(PodView(vantage, facts), own), reading

    async def _with_files(self, view: PodView, own: ResolvConf | None) -> PodView:
        place = place_of(view.vantage)
        if place is None or not place.pid:
            name = place.path.rsplit(os.sep, 1)[-1] if place is not None else view.vantage.name
            conf = read_named_resolv_conf(name) or own
            return replace(view, resolv_conf=conf, resolv_conf_unread="" if conf else Reason.READER_FAILED)
        began = self._clock()
        files: PodFiles = await self._broker.read_pod_files(place)
        self._file_seconds += max(0.0, self._clock() - began)
        libc = frozenset(LIBCS[c] for c in files.libcs) if not files.libc_errno else None
        if files.resolv_errno:
            return replace(view, resolv_conf_unread=_reason(files.resolv_errno, self._broker.welcome.lsm), libc=libc)
        return replace(view, resolv_conf=parse_resolv_conf(files.resolv_conf), libc=libc)


def read_own_resolv_conf(path: str = "/etc/resolv.conf") -> ResolvConf | None:
    """The host's resolv.conf: the exporter's own file (its pod has dnsPolicy Default). None where there is none."""
    try:
        with Path(path).open("rb") as file:
            return parse_resolv_conf(file.read(RESOLV_CONF_LIMIT))
    except OSError:
        return None


def read_named_resolv_conf(name: str) -> ResolvConf | None:
    """/etc/netns/NAME/resolv.conf, as `ip netns exec` would mount it (ip-netns(8)); None where there is none."""
    return None if os.sep in name or name.startswith(".") else read_own_resolv_conf(f"/etc/netns/{name}/resolv.conf")


def _listed(listing: Listing, vantages: Sequence[Vantage], welcome: Welcome, seconds: float) -> Reading:
    """A failure where refusals hide something: pods whose namespace was not found, or everything for want of a capability.

    A single process of a foreign user namespace may refuse (the init of a sandbox does), and hides no pod.
    """
    powerless = "SYS_PTRACE" in missing_capabilities(welcome.capabilities)
    hidden = [v for v in vantages if v.state is PodState.UNREADABLE]
    if not listing.refused or not (powerless or hidden):
        return Reading(Reader.NAMESPACES, success=True, seconds=seconds)
    reason = Reason.NO_PERMISSION if powerless else Reason(_reason(errno.EACCES, welcome.lsm))
    detail = f"{listing.refused} processes' namespaces could not be read" + (
        " (SYS_PTRACE is missing)" if powerless else ""
    )
    return Reading(Reader.NAMESPACES, success=False, seconds=seconds, reason=reason, detail=detail)


def _reason(number: int, lsm: str) -> str:
    if number in {errno.EACCES, errno.EPERM}:
        return Reason.LSM if _confined(lsm) else Reason.NO_PERMISSION
    return Reason.READER_FAILED


def _summary(readings: Sequence[Reading]) -> tuple[Reading, ...]:
    """One reading for all pods: failed if any failed, with the first reason; the seconds add up."""
    if not readings:
        return ()
    failed = next((r for r in readings if not r.success), None)
    seconds = sum(r.seconds for r in readings)
    if failed is None:
        return (Reading(Reader.PODS, success=True, seconds=seconds),)
    return (Reading(Reader.PODS, success=False, seconds=seconds, reason=failed.reason, detail=failed.detail),)


def _of_files(pods: Sequence[PodView], seconds: float) -> tuple[Reading, ...]:
    """How the pods' resolv.conf files were read. One that is missing, too large or no file at all is the pod's own doing."""
    seen = [p for p in pods if p.resolv_conf is not None or p.resolv_conf_unread]
    if not seen:
        return ()
    refused = [p for p in seen if p.resolv_conf_unread in {Reason.NO_PERMISSION, Reason.LSM}]
    if not refused:
        return (Reading(Reader.RESOLV_CONF, success=True, seconds=seconds),)
    detail = f"that of {len(refused)} pods could not be read"
    return (
        Reading(
            Reader.RESOLV_CONF, success=False, seconds=seconds, reason=refused[0].resolv_conf_unread, detail=detail
        ),
    )


def _confined(label: str) -> bool:
    """Whether a security module's label of the broker names a profile."""
    return label not in {"", "unconfined"} and not label.endswith("unconfined_t:s0")
