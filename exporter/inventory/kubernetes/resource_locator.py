"""Where each reading is made: learns what the server serves, starts a watcher at its place, stops it when the place moves.

Between served.py, which judges, and watching.py, which reads. Calico may be served by either of two API groups, may be
installed later, and vanishes from what is served for a moment whenever an API server starts.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from contextlib import suppress

from exporter.inventory.kubernetes.api_discovery import ACCEPT, Served, place_of, read_resources, read_served
from exporter.inventory.kubernetes.api_error import ApiError, ApiErrorKind
from exporter.inventory.kubernetes.client import ApiServer
from exporter.inventory.kubernetes.stream import read_page
from exporter.inventory.kubernetes.watch import Watcher, WatchTimings
from exporter.inventory.kubernetes.watched_resources import CALICO, CRD, IP_POOLS, WatchedResource

DISCOVER_EVERY = 300.0  # seconds
CONFIRM_AFTER = 30.0  # seconds until what vanished is looked for once more: API servers start up in parts


class ResourceLocator:
    """The watchers of a source, each at the place where its resource is served."""

    def __init__(self, api: ApiServer, watchers: Mapping[WatchedResource, Watcher], tempo: WatchTimings) -> None:
        self._api = api
        self._watchers = watchers
        self._tempo = tempo
        self._places: dict[WatchedResource, str] = {}
        self._missed: set[WatchedResource] = set()  # not found in the last look at what is served
        self._tasks: dict[WatchedResource, asyncio.Task[None]] = {}

    async def run(self, group: asyncio.TaskGroup) -> None:
        """Find the place of each reading, again every few minutes; core resources need no finding."""
        self._start(group, {}, CRD)
        if all(reading.places == ("v1",) for reading in self._watchers):
            return
        etag, served, failures = "", None, 0
        while True:
            try:
                answer = await self._api.get("/apis", accept=ACCEPT, etag=etag)
                if answer.status != 304 or served is None:
                    served, etag = await self._with_resources(read_served(answer.body)), answer.etag
                failures = 0
                delay = DISCOVER_EVERY if self._start(group, served, await self._calico(served)) else CONFIRM_AFTER
            except ApiError as error:
                etag = ""
                delay = min(self._tempo.longest_delay, self._tempo.first_delay * 2.0 ** min(failures, 20))
                failures += 1
                self._guess(group, error)
            await asyncio.sleep(max(delay, 0.0) * random.uniform(1.0, 1.3))  # noqa: S311 - jitter

    async def _with_resources(self, served: Served) -> Served:
        """The same with the resources of the versions that were only named; what cannot be learnt is taken to be there."""
        wanted = {place for reading in self._watchers for place in reading.places if served.get(place, ()) is None}
        found = dict(served)
        for place in sorted(wanted):
            with suppress(ApiError):
                found[place] = read_resources((await self._api.get(f"/apis/{place}")).body)
        return found

    def _start(self, group: asyncio.TaskGroup, served: Served, calico: str) -> bool:
        """Read each reading where it is served. False where something vanished and is to be looked for once more first."""
        missed, self._missed = self._missed, set()
        for reading, watcher in self._watchers.items():
            place, before = place_of(reading, served, calico), self._places.get(reading)
            if place is not None and place == before:
                continue
            if place is None and (not served or (before is not None and reading not in missed)):
                self._missed |= {reading} if served else set()
                continue
            if (task := self._tasks.pop(reading, None)) is not None:
                task.cancel()
            self._places.pop(reading, None)
            if place is None:
                watcher.miss(ApiError(ApiErrorKind.NOT_FOUND, "not served"))
            else:
                self._places[reading] = place
                self._tasks[reading] = group.create_task(watcher.run(reading.path(place)), name=reading.label)
        return not self._missed

    def _guess(self, group: asyncio.TaskGroup, error: ApiError) -> None:
        """What is served could not be learnt: where that is refused, ask for everything at its first place; else wait."""
        if error.kind in {ApiErrorKind.FORBIDDEN, ApiErrorKind.NOT_FOUND}:
            self._start(group, {place: None for reading in self._watchers for place in reading.places}, CRD)
        for reading, watcher in self._watchers.items():
            if reading not in self._places:
                watcher.miss(error)

    async def _calico(self, served: Served) -> str:
        """Of Calico's two groups the one that holds the pools; the CRDs where both do, or neither."""
        if not any(reading.places == CALICO for reading in self._watchers):
            return CRD
        places = [
            place for place in CALICO if place_of(IP_POOLS, {place: served[place]} if place in served else {}, place)
        ]
        if len(places) < 2:
            return places[0] if places else CRD
        for place in places:
            try:
                if read_page((await self._api.get(IP_POOLS.path(place), [("limit", "1")])).body).objects:
                    return place
            except ApiError:
                continue  # refused here; it may be allowed there
        return CRD
