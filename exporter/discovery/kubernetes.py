"""The Kubernetes API as a source of inventories: keeps every reading current and builds the Inventory of them.

The rim of the first stage of the flow. The API's failures never leave here: the last inventory stays in use and says how old it is. The
Inventory is built anew when something changed, at most once a second, and so that building takes no more than a tenth of the time.
"""

from __future__ import annotations

import asyncio
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from exporter.config.schema import Config
from exporter.discovery.assembly import build_inventory
from exporter.discovery.client import ApiServer
from exporter.discovery.credentials import AccessError, Loader, load_kubeconfig, load_service_account
from exporter.discovery.digest_source import DigestClient, DigestedSource
from exporter.discovery.file import InventoryError
from exporter.discovery.nodefiles import read_arguments, read_cni
from exporter.discovery.own_endpoints import list_endpoints
from exporter.discovery.own_services import OwnServices
from exporter.discovery.places import Places
from exporter.discovery.readings import Reading, readings
from exporter.discovery.standing import Herald, Standing, answers, why_failing, why_unread
from exporter.discovery.store import Store, Value
from exporter.discovery.watching import Tempo, Watcher
from exporter.model.component import CniConfig, ComponentFlags
from exporter.model.inventory import Came, Inventory, Kind
from exporter.model.report import Found, Reason, Role

EVERY = 1.0  # seconds between two builds, at least
SHARE = 10.0  # a build that took a second is followed by none for this many
LOOK_EVERY = 60.0  # seconds between looks at the node's files when nothing else changes


class KubernetesSource:
    """A source (discovery.sources.Source). `node`: whose files are read where they are mounted; empty: of none."""

    def __init__(
        self,
        api: ApiServer,
        read: Sequence[Reading],
        *,
        node: str = "",
        root: Path = Path("/"),
        tempo: Tempo | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._api = api
        self._clock = clock
        self._tempo = tempo or Tempo()
        self._store = Store()
        self._files = (node, root)
        self._changed = asyncio.Event()
        self._complete = asyncio.Event()
        self._herald = Herald(api.host)
        self._watchers = {
            reading: Watcher(
                reading, api=api, store=self._store, tempo=self._tempo, clock=clock, report=self._changed.set
            )
            for reading in read
        }
        self._inventory = Inventory(source="kubernetes", unread=dict.fromkeys(Kind, str(Reason.API_UNAVAILABLE)))

    def current(self) -> Inventory:
        """The last inventory, with its age as of now."""
        now = self._clock()
        standings = self._standings()
        read_at: dict[Kind, float] = {}
        seconds: dict[Kind, float] = {}
        moments: list[float] = []
        for reading, standing in standings.items():
            if standing.held and standing.seen is not None:
                moments.append(standing.current_at(now) or standing.seen)
                read_at[reading.kind] = min(standing.seen, read_at.get(reading.kind, standing.seen))
                seconds[reading.kind] = standing.seconds + seconds.get(reading.kind, 0.0)
        stale = any(standing.stale(now) for standing in standings.values())
        trouble = why_failing(standings.values(), now)
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

    def elsewhere(self) -> tuple[Found, ...]:
        """No digest, nothing found elsewhere."""
        return ()

    async def first(self, patience: float) -> bool:
        """Wait until every reading was answered or failed, and the inventory built of them; whether that came in time.

        While nothing at all is answered, the server may just be starting: that is waited for as well.
        """
        try:
            async with asyncio.timeout(patience):
                await self._complete.wait()
        except TimeoutError:
            return False
        return True

    async def run(self) -> None:
        """Keep the inventory current until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(Places(self._api, self._watchers, self._tempo).run(group))
                group.create_task(self._build())
        finally:
            await self._api.close()

    def _standings(self) -> dict[Reading, Standing]:
        return {reading: watcher.standing for reading, watcher in self._watchers.items()}

    # The inventory

    async def _build(self) -> None:
        loop = asyncio.get_running_loop()
        built: object = None
        while True:
            await _within(self._changed, LOOK_EVERY)
            self._changed.clear()
            standings = self._standings()
            self._herald.tell(standings, self._clock())
            unread = why_unread(standings)
            cni, arguments = await asyncio.to_thread(self._look)
            complete = all(standing.settled for standing in standings.values()) and answers(standings.values())
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
    objects: Mapping[Kind, Sequence[Value]],
    unread: Mapping[Kind, str],
    cni: Sequence[CniConfig],
    arguments: Sequence[ComponentFlags],
) -> Inventory:
    return build_inventory(objects, source="kubernetes", unread=unread, cni=cni, components=arguments)


async def _within(event: asyncio.Event, seconds: float) -> None:
    """Wait for the event, at most so long."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        return


def open_kubernetes(config: Config, *, once: bool = False) -> KubernetesSource | DigestedSource:
    """The source that the configuration names, its credentials loaded: this is called while root's files may still be read.

    `once`: for a command that ends within seconds, so that the digest is asked for every second.

    Raises:
        InventoryError: there is no usable service account or kubeconfig.
    """
    path = config.inventory.kubeconfig
    loader: Loader = partial(load_kubeconfig, path) if path else load_service_account
    try:
        client = asyncio.run(_load(loader))
    except AccessError as error:
        raise InventoryError(str(error)) from None
    digested = config.role is Role.NODE and bool(config.digest.url)
    read = readings(config.role, config.node_name, digest=digested)
    node = "" if config.role is Role.CLUSTER else config.node_name
    api = ApiServer(client, loader)
    own = KubernetesSource(api, read, node=node)
    if not digested:
        return own
    resolver = OwnServices(os.environ, endpoints=partial(list_endpoints, api))
    if once:
        return DigestedSource(own, DigestClient(config.digest.url, every=EVERY, at_most=math.inf, resolver=resolver))
    return DigestedSource(own, DigestClient(config.digest.url, resolver=resolver))


async def _load(loader: Loader) -> Any:
    return await loader()
