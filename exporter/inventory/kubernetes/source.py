"""The Kubernetes API as a source of inventories: keeps every reading current and builds the Inventory of them.

The rim of the first stage of the flow. The API's failures never leave here: the last inventory stays in use and says
how old it is. The Inventory is built anew when something changed, at most once a second, and so that building takes no
more than a tenth of the time.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from exporter.inventory.fetching import happens_within
from exporter.inventory.inventory_builder import build_inventory
from exporter.inventory.kubernetes.client import ApiServer
from exporter.inventory.kubernetes.resource_locator import ResourceLocator
from exporter.inventory.kubernetes.store import ObjectStore, Value
from exporter.inventory.kubernetes.watch import Watcher, WatchTimings
from exporter.inventory.kubernetes.watch_state import WatchLogger, WatchState, answers, why_failing, why_unread
from exporter.inventory.kubernetes.watched_resources import WatchedResource
from exporter.inventory.node_files import read_arguments, read_cni
from exporter.model.component import CniConfig, ComponentFlags
from exporter.model.inventory import Came, Inventory, ResourceKind
from exporter.model.reason import Reason
from exporter.model.report import Found

EVERY = 1.0  # seconds between two builds, at least
SHARE = 10.0  # a build that took a second is followed by none for this many
LOOK_EVERY = 60.0  # seconds between looks at the node's files when nothing else changes


class KubernetesSource:
    """A source (discovery.sources.Source). `node`: whose files are read where they are mounted; empty: of none."""

    def __init__(
        self,
        api: ApiServer,
        read: Sequence[WatchedResource],
        *,
        node: str = "",
        root: Path = Path("/"),
        tempo: WatchTimings | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._api = api
        self._clock = clock
        self._tempo = tempo or WatchTimings()
        self._store = ObjectStore()
        self._files = (node, root)
        self._changed = asyncio.Event()
        self._complete = asyncio.Event()
        self._herald = WatchLogger(api.host)
        self._watchers = {
            reading: Watcher(
                reading, api=api, store=self._store, tempo=self._tempo, clock=clock, report=self._changed.set
            )
            for reading in read
        }
        self._inventory = Inventory(source="kubernetes", unread=dict.fromkeys(ResourceKind, Reason.API_UNAVAILABLE))

    def current(self) -> Inventory:
        """The last inventory, with its age as of now."""
        now = self._clock()
        states = self._standings()
        read_at: dict[ResourceKind, float] = {}
        seconds: dict[ResourceKind, float] = {}
        moments: list[float] = []
        for reading, state in states.items():
            if state.has_data and state.last_current is not None:
                moments.append(state.current_at(now) or state.last_current)
                read_at[reading.kind] = min(state.last_current, read_at.get(reading.kind, state.last_current))
                seconds[reading.kind] = state.seconds + seconds.get(reading.kind, 0.0)
        stale = any(state.stale(now) for state in states.values())
        trouble = why_failing(states.values(), now)
        return replace(
            self._inventory,
            synced=min(read_at.values(), default=None),
            current_at=min(moments, default=None),
            read_at=read_at,
            read_seconds=seconds,
            stale=stale,
            came=Came.ALL if read_at else Came.NOTHING,
            problem=f"{self._api.host}: {trouble or 'no answer'}" if stale or not read_at else "",
        )

    def remote_findings(self) -> tuple[Found, ...]:
        """No digest, nothing found elsewhere."""
        return ()

    async def wait_ready(self, patience: float) -> bool:
        """Wait until every reading was answered or failed, and the inventory built of them; whether that came in time.

        While nothing at all is answered, the server may just be starting: that is waited for as well.
        """
        return await happens_within(self._complete, patience)

    async def run(self) -> None:
        """Keep the inventory current until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(ResourceLocator(self._api, self._watchers, self._tempo).run(group))
                group.create_task(self._build())
        finally:
            await self._api.close()

    def _standings(self) -> dict[WatchedResource, WatchState]:
        return {reading: watcher.state for reading, watcher in self._watchers.items()}

    # The inventory

    async def _build(self) -> None:
        loop = asyncio.get_running_loop()
        built: object = None
        while True:
            await happens_within(self._changed, LOOK_EVERY)
            self._changed.clear()
            states = self._standings()
            self._herald.tell(states, self._clock())
            unread = why_unread(states)
            cni, arguments = await asyncio.to_thread(self._look)
            complete = all(state.first_result for state in states.values()) and answers(states.values())
            wanted = (self._store.version, unread, cni, arguments)
            began = loop.time()
            if wanted != built:
                built = wanted
                objects = self._store.objects()
                # On a thread: with 150,000 pods it takes a second, and probes are timed meanwhile.
                self._inventory = await asyncio.to_thread(_assemble, objects, unread, cni, arguments)
            if complete:
                self._complete.set()
            took = loop.time() - began
            await asyncio.sleep(min(EVERY, self._tempo.first_delay) if took < EVERY / SHARE else took * SHARE)

    def _look(self) -> tuple[tuple[CniConfig, ...], tuple[ComponentFlags, ...]]:
        node, root = self._files
        return (read_cni(root), read_arguments(node, root)) if node else ((), ())


def _assemble(
    objects: Mapping[ResourceKind, Sequence[Value]],
    unread: Mapping[ResourceKind, Reason],
    cni: Sequence[CniConfig],
    arguments: Sequence[ComponentFlags],
) -> Inventory:
    return build_inventory(objects, source="kubernetes", unread=unread, cni=cni, components=arguments)
