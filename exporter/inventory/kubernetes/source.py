"""The Kubernetes API as a source of inventories: keeps every watched resource current and builds the Inventory of them.

An I/O rim. The API's failures never leave here: the last inventory stays in use and shows its age. The Inventory is
built again when something changed, at most once a second and during at most a tenth of the time.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from exporter.inventory.event_writer import EventWriter
from exporter.inventory.fetching import happens_within
from exporter.inventory.inventory_builder import build_inventory
from exporter.inventory.kubernetes.client import ApiServer
from exporter.inventory.kubernetes.resource_locator import ResourceLocator
from exporter.inventory.kubernetes.store import ObjectStore
from exporter.inventory.kubernetes.watch import Watcher, WatchTimings
from exporter.inventory.kubernetes.watch_state import WatchLogger, WatchState, answers, why_failing, why_unread
from exporter.inventory.kubernetes.watched_resources import WatchedResource, mounted_config_map
from exporter.inventory.node_files import read_arguments, read_cni
from exporter.inventory.source import InventorySource
from exporter.model.cluster.component import CniConfig, ComponentFlags
from exporter.model.cluster.inventory import Came, Inventory, InventoryOrigin, ResourceKind
from exporter.model.reason import Reason

EVERY = 1.0  # seconds between two builds, at least
SHARE = 10.0  # a build that took a second is followed by none for this many
FILES_EVERY = 60.0  # seconds until the node's files are read again when nothing else changes
MOUNTED = 8  # ConfigMaps that DNS pods mount and that are asked for, at most, beside those known by name


class KubernetesSource(InventorySource):
    """An InventorySource. `node`: whose files are read where they are mounted; empty: of none.

    `corefiles`: whatever ConfigMaps the cluster's DNS is seen to mount are read as well, where that is allowed.
    """

    def __init__(
        self,
        api: ApiServer,
        resources: Sequence[WatchedResource],
        *,
        node: str = "",
        root: Path = Path("/"),
        corefiles: bool = False,
        timings: WatchTimings | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._api = api
        self._events = EventWriter(api)
        self._clock = clock
        self._timings = timings or WatchTimings()
        self._store = ObjectStore()
        self._files = (node, root)
        self._changed = asyncio.Event()
        self._complete = asyncio.Event()
        self._logger = WatchLogger(api.host)
        self._resources = frozenset(resources)
        self._corefiles = corefiles
        self._watchers = {watched: self._watcher(watched) for watched in resources}
        self._locator = ResourceLocator(api, self._watchers, self._timings)
        self._built = (-1, 0.0)  # the store's version that the Inventory was built of, and when that was
        self._inventory = Inventory(
            source=InventoryOrigin.KUBERNETES, unread=dict.fromkeys(ResourceKind, Reason.API_UNAVAILABLE)
        )

    def current(self) -> Inventory:
        now = self._clock()
        states = self._states()
        read_at: dict[ResourceKind, float] = {}
        seconds: dict[ResourceKind, float] = {}
        moments: list[float] = []
        for watched, state in states.items():
            if state.has_data and state.last_current is not None:
                moments.append(state.current_at(now) or state.last_current)
                read_at[watched.kind] = min(state.last_current, read_at.get(watched.kind, state.last_current))
                seconds[watched.kind] = state.seconds + seconds.get(watched.kind, 0.0)
        version, built = self._built
        if version != self._store.version:
            moments.append(built)  # what came since is not in the Inventory yet
        stale = any(state.stale(now) for state in states.values())
        error = why_failing(states.values(), now)
        return replace(
            self._inventory,
            synced=min(read_at.values(), default=None),
            current_at=min(moments, default=None),
            read_at=read_at,
            read_seconds=seconds,
            stale=stale,
            came=Came.ALL if read_at else Came.NOTHING,
            problem=f"{self._api.host}: {error or 'no answer'}" if stale or not read_at else "",
        )

    async def wait_ready(self, patience: float) -> bool:
        """Wait until every resource was answered or failed, and the inventory is built; whether that came in time.

        While nothing at all is answered, the server may just be starting: wait for that as well.
        """
        return await happens_within(self._complete, patience)

    def event_writer(self) -> EventWriter:
        return self._events

    async def run(self) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._events.run())
                group.create_task(self._locator.run(group))
                group.create_task(self._build(group))
        finally:
            await self._api.close()

    def _states(self) -> dict[WatchedResource, WatchState]:
        return {watched: watcher.state for watched, watcher in self._watchers.items()}

    def _watcher(self, watched: WatchedResource) -> Watcher:
        return Watcher(
            watched=watched,
            api=self._api,
            store=self._store,
            timings=self._timings,
            clock=self._clock,
            report=self._changed.set,
        )

    def _follow_mounts(self, group: asyncio.TaskGroup) -> bool:
        """Read the ConfigMaps that DNS pods mount now, and no others. Whether there are new ones."""
        if not self._corefiles:
            return False
        known = {(each.namespace, each.name) for each in self._resources}
        mounted = [each for each in self._inventory.corefiles_mounted if each not in known][:MOUNTED]
        wanted = {mounted_config_map(*each) for each in mounted}
        followed = self._watchers.keys() - self._resources
        for watched in followed - wanted:
            self._locator.leave(watched)
            del self._watchers[watched]
            self._store.forget(watched)
        for watched in wanted - followed:
            self._watchers[watched] = self._watcher(watched)
            self._locator.follow(group, watched)
        return bool(wanted - followed)

    async def _build(self, group: asyncio.TaskGroup) -> None:
        loop = asyncio.get_running_loop()
        built: object = None
        while True:
            await happens_within(self._changed, FILES_EVERY)
            self._changed.clear()
            states = self._states()
            self._logger.log_changes(states, self._clock())
            unread = why_unread({w: s for w, s in states.items() if w in self._resources or s.first_result})
            cni, arguments = await asyncio.to_thread(self._read_files)
            complete = all(state.first_result for state in states.values()) and answers(states.values())
            wanted = (self._store.version, unread, cni, arguments)
            began = loop.time()
            if wanted != built:
                built = wanted
                version, now = self._store.version, self._clock()
                # On a thread: with 150,000 pods it takes a second, and probes are timed meanwhile.
                self._inventory = await asyncio.to_thread(
                    build_inventory,
                    self._store.objects(),
                    source=InventoryOrigin.KUBERNETES,
                    unread=unread,
                    cni=cni,
                    components=arguments,
                )
                self._built = (version, now)
            if complete and not self._follow_mounts(group):
                self._complete.set()
            took = loop.time() - began
            await asyncio.sleep(min(EVERY, self._timings.first_delay) if took < EVERY / SHARE else took * SHARE)

    def _read_files(self) -> tuple[tuple[CniConfig, ...], tuple[ComponentFlags, ...]]:
        node, root = self._files
        return (read_cni(root), read_arguments(node, root)) if node else ((), ())
