"""Where each resource is read: finds the API version in which it is served, and starts and stops its watcher.

Between api_discovery.py, which decides, and watch.py, which reads. Calico may be served by either of two API groups,
may be installed later, and vanishes from what is served for a moment whenever an API server starts.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping
from contextlib import suppress

from exporter.inventory.kubernetes.api_discovery import ACCEPT, Served, read_resources, read_served, served_version
from exporter.inventory.kubernetes.api_error import REFUSALS, ApiError, ApiErrorKind
from exporter.inventory.kubernetes.client import ApiServer
from exporter.inventory.kubernetes.stream import read_page
from exporter.inventory.kubernetes.watch import Watcher, WatchTimings
from exporter.inventory.kubernetes.watched_resources import CALICO, CRD, IP_POOLS, WatchedResource

DISCOVER_EVERY = 42.0  # seconds, plus jitter: what is installed is read within a minute. Unchanged it costs a 304
CONFIRM_AFTER = 30.0  # seconds until the next discovery after something vanished: API servers start up in parts
JITTER = 1.3  # at most this times as long


class ResourceLocator:
    """The watchers of a source, each in the API version in which its resource is served."""

    def __init__(self, api: ApiServer, watchers: Mapping[WatchedResource, Watcher], timings: WatchTimings) -> None:
        self._api = api
        self._watchers = watchers
        self._timings = timings
        self._versions: dict[WatchedResource, str] = {}
        self._missed: set[WatchedResource] = set()  # not served at the last discovery
        self._tasks: dict[WatchedResource, asyncio.Task[None]] = {}

    async def run(self, group: asyncio.TaskGroup) -> None:
        """Find the API version of each resource, again every minute; core resources need no discovery."""
        self._start(group, {}, CRD)
        if all(watched.api_versions == ("v1",) for watched in self._watchers):
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
                delay = min(self._timings.longest_delay, self._timings.first_delay * 2.0 ** min(failures, 20))
                failures += 1
                self._guess(group, error)
            await asyncio.sleep(max(delay, 0.0) * random.uniform(1.0, JITTER))  # noqa: S311 - jitter

    def follow(self, group: asyncio.TaskGroup, watched: WatchedResource) -> None:
        """Read one more core resource, whose watcher the source has just added."""
        self._versions[watched] = "v1"
        path = watched.path("v1")
        self._tasks[watched] = group.create_task(self._watchers[watched].run(path), name=watched.label)

    def leave(self, watched: WatchedResource) -> None:
        """Read it no longer."""
        self._tasks.pop(watched).cancel()
        del self._versions[watched]

    async def _with_resources(self, served: Served) -> Served:
        """The same with the resources of the versions that were only named; None (assumed served) where that fails."""
        found = dict(served)
        versions = {version for watched in self._watchers for version in watched.api_versions}
        for version in sorted(version for version in versions if served.get(version, ()) is None):
            with suppress(ApiError):
                found[version] = read_resources((await self._api.get(f"/apis/{version}")).body)
        return found

    def _start(self, group: asyncio.TaskGroup, served: Served, calico: str) -> bool:
        """Read each resource where it is served. False if something vanished, which another discovery must confirm."""
        missed, self._missed = self._missed, set()
        for watched, watcher in self._watchers.items():
            version, before = served_version(watched, served, calico), self._versions.get(watched)
            if version is not None and version == before:
                continue
            if version is None and (not served or (before is not None and watched not in missed)):
                self._missed |= {watched} if served else set()
                continue
            if (task := self._tasks.pop(watched, None)) is not None:
                task.cancel()
            self._versions.pop(watched, None)
            if version is None:
                watcher.miss(ApiError(ApiErrorKind.NOT_FOUND, "not served"))
            else:
                self._versions[watched] = version
                self._tasks[watched] = group.create_task(watcher.run(watched.path(version)), name=watched.label)
        return not self._missed

    def _guess(self, group: asyncio.TaskGroup, error: ApiError) -> None:
        """Discovery failed: where it is refused, read everything in its first version; else wait."""
        if error.kind in REFUSALS:
            self._start(group, {version: None for watched in self._watchers for version in watched.api_versions}, CRD)
        for watched, watcher in self._watchers.items():
            if watched not in self._versions:
                watcher.miss(error)

    async def _calico(self, served: Served) -> str:
        """Of Calico's two groups the one that has the pools; the CRDs where both do, or neither."""
        if not any(watched.api_versions == CALICO for watched in self._watchers):
            return CRD
        versions = [
            version
            for version in CALICO
            if version in served and served_version(IP_POOLS, {version: served[version]}, version)
        ]
        if len(versions) < 2:
            return versions[0] if versions else CRD
        for version in versions:
            # Refused in one group, it may be allowed in the other.
            with suppress(ApiError):
                if read_page((await self._api.get(IP_POOLS.path(version), [("limit", "1")])).body).objects:
                    return version
        return CRD
