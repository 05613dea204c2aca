"""One resource kept current: list, then watch, then whatever the server's answer requires. One task per resource.

A watch is resumed from the last version seen. The resource is listed again only after an answer that makes the version
worthless (410 in all its forms, a version that the server does not know) and after an outage. A watch in which nothing
arrived until the server ended it is ordinary: bookmarks may not come for minutes. But a watch from a version of the
future (etcd was restored from a backup) looks the same, so the server is asked whether it has that version, in the
cheapest way. Whatever fails is retried with growing, jittered delays, for ever.
"""

from __future__ import annotations

import asyncio
import gc
import random
from collections.abc import Callable, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass, field

from exporter.inventory.kubernetes.api_error import REFUSALS, ApiError, ApiErrorKind
from exporter.inventory.kubernetes.client import JSON, METADATA, METADATA_LIST, ApiServer, Query
from exporter.inventory.kubernetes.store import Key, ObjectStore, Value, parse_all
from exporter.inventory.kubernetes.stream import Change, Event, reaches, read_event, read_page
from exporter.inventory.kubernetes.watch_state import WatchState
from exporter.inventory.kubernetes.watched_resources import WatchedResource

PAGE = 500
MAX_PAGES = 4_000  # two million objects: more than etcd can store
SLICE = 100  # objects parsed before other tasks run


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchTimings:
    """Seconds of everything that waits. Tests shorten them."""

    watch: float = 300.0  # timeoutSeconds of a watch, within a fifth
    slack: float = 30.0  # beyond that, before a stream that the server did not end counts as dead
    first_delay: float = 1.0
    longest_delay: float = 30.0
    first_refused: float = 10.0
    longest_refused: float = 300.0
    grace: float = 60.0  # a refusal of what was read before: API servers refuse while they start up


@contextmanager
def _without_collector() -> Iterator[None]:
    """Turns garbage collection off: it would walk the half-built page again and again, for longer than building it."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@dataclass(slots=True, kw_only=True, eq=False)
class Watcher:
    """Keeps one resource of the store current. `report` is called after every change of the store or of `state`."""

    watched: WatchedResource
    api: ApiServer
    store: ObjectStore
    timings: WatchTimings
    clock: Callable[[], float]
    report: Callable[[], None]
    state: WatchState = field(default_factory=WatchState)
    _path: str = ""
    _version: str = ""  # to watch from; empty: list first
    _reached: str = ""  # the newest version known: a list from the cache must not be older
    _failures: int = 0
    _expired: int = 0  # times that the version was refused since the last event

    async def run(self, path: str) -> None:
        """Read from this path until cancelled."""
        self._path = path
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            try:
                if not self._version or self.state.long_lost(self.clock()):
                    await self._list()
                await self._watch()
                # A server that ends watches at once is asked once a second, not in a loop.
                delay = max(0.0, began + self.timings.first_delay - loop.time())
            except ApiError as error:
                delay = self._fail(error)
            await asyncio.sleep(delay)

    def miss(self, error: ApiError) -> None:
        """It cannot be read: it is not served (what was read is dropped), or what is served is not known."""
        if error.kind is ApiErrorKind.NOT_FOUND:
            self._forget(error)
        else:
            self.state.first_result, self.state.error = True, error
        self.report()

    # Lists

    async def _list(self) -> None:
        """Read everything. A list that had to continue at a newer version is repeated, to be exact."""
        began = asyncio.get_running_loop().time()
        if not await self._read_pages():
            await self._read_pages()
        self.state.seconds = asyncio.get_running_loop().time() - began

    async def _read_pages(self) -> bool:
        """Store a whole list. False where some page was of a newer version than the first."""
        found: dict[Key, Value] = {}
        more, exact = "", True
        for _ in range(MAX_PAGES):
            try:
                body = await self._get_page(more)
            except ApiError as error:
                if not (more and error.resume):
                    raise
                more, exact = error.resume, False  # the page expired: the server offers to continue at a newer version
                continue
            with _without_collector():
                page = read_page(body)
                for start in range(0, len(page.objects), SLICE):
                    found.update(parse_all(self.watched, page.objects[start : start + SLICE]))
                    await asyncio.sleep(0)
                more, version = page.more, page.version
                del page
            if not more:
                self.store.fill(self.watched, found, self.clock())
                self._version = self._reached = version
                self._mark_current()
                return exact
        raise ApiError(ApiErrorKind.MALFORMED, f"more than {MAX_PAGES} pages")

    async def _get_page(self, more: str) -> bytes:
        if self.watched.paged:
            query = [("limit", str(PAGE)), *([("continue", more)] if more else [])]
        else:
            # From the server's cache, but never back in time; limit would be ignored.
            query = [("resourceVersion", self._reached or "0")]
        try:
            return await self._get(query)
        except ApiError as error:
            if error.kind in {ApiErrorKind.EXPIRED, ApiErrorKind.VERSION_AHEAD, ApiErrorKind.REJECTED}:
                self._reached = ""
            raise

    async def _get(self, query: Query) -> bytes:
        accept = f"{METADATA_LIST},{JSON}" if self.watched.metadata_only else JSON
        return (await self.api.get(self._path, [*self._selectors(), *query], accept=accept)).body

    def _selectors(self) -> Query:
        chosen = (("fieldSelector", self.watched.field_selector), ("labelSelector", self.watched.labels))
        return [(name, value) for name, value in chosen if value]

    # Watches

    async def _watch(self) -> None:
        # Jitter, so that they do not all end at once.
        timeout = max(1, round(self.timings.watch * random.uniform(0.8, 1.2)))  # noqa: S311
        query: Query = [
            *self._selectors(),
            ("watch", "true"),
            ("allowWatchBookmarks", "true"),
            ("resourceVersion", self._version),
            ("timeoutSeconds", str(timeout)),
        ]
        accept = f"{METADATA},{JSON}" if self.watched.metadata_only else JSON
        loop = asyncio.get_running_loop()
        anything = False
        longest = timeout + self.timings.slack
        async with self.api.stream(self._path, query, accept=accept, longest=longest) as lines:
            began = loop.time()
            self.state.open(self.clock())
            self.report()
            async with aclosing(lines):
                async for line in lines:
                    event = read_event(line)
                    if event is not None:
                        anything = True
                        self._apply(event)
        self.state.close(self.clock())
        self.report()
        if loop.time() - began < timeout * 0.9:
            return  # a server that shuts down: what came after is not known
        if anything or await self._has_version():
            self._mark_current()
        else:
            await self._list()

    async def _has_version(self) -> bool:
        """Whether the server is known to have the version that a quiet watch began at.

        Of what may be long, one object is read, which shows the server's own version. It cannot be asked for the
        version itself: a cache that etcd sends no progress to (seen with etcd 3.4) takes it for one of the future. The
        rest is cheaply listed again from the server's cache.
        """
        return self.watched.paged and reaches(read_page(await self._get([("limit", "1")])).version, self._version)

    def _apply(self, event: Event) -> None:
        if event.change is Change.SET:
            self.store.set(self.watched, event.source, self.clock())
        elif event.change is Change.GONE:
            self.store.remove(self.watched, event.source)
        if event.version:
            self._version = self._reached = event.version
        self._expired = 0
        self._mark_current()

    # State

    def _mark_current(self) -> None:
        self._failures = 0
        self.state.mark_current(self.clock())
        self.report()

    def _fail(self, error: ApiError) -> float:
        """Record a failure; the seconds to wait."""
        if not self._keeps_version(error):
            self._version = ""
        now = self.clock()
        self.state.close(now)
        self.state.error, self.state.first_result = error, True
        refused = error.kind in REFUSALS and self.state.has_data
        if refused and now - (self.state.outage_since or 0) >= self.timings.grace:
            self._forget(error)
        self.report()
        return self._delay(error)

    def _keeps_version(self, error: ApiError) -> bool:
        """Whether a watch may resume from the last version: the connection or the server failed, not the version."""
        if error.kind in {ApiErrorKind.UNREACHABLE, ApiErrorKind.THROTTLED, ApiErrorKind.UNAUTHORIZED, *REFUSALS}:
            return True
        # A version that is no number is a 500; a single 500 may be anything. Inside a watch it is about this watch.
        return error.kind is ApiErrorKind.SERVER and self.state.opened is None and not self._failures

    def _forget(self, error: ApiError) -> None:
        self._version = self._reached = ""
        self.state = WatchState(first_result=True, error=error)
        self.store.forget(self.watched)

    def _delay(self, error: ApiError) -> float:
        timings = self.timings
        if error.kind is ApiErrorKind.EXPIRED:
            # Nothing is wrong with the server; but all nodes get this answer at the same moment, when it was restarted.
            self._expired += 1
            longest = min(timings.longest_delay, timings.first_delay * 3.0 * 2.0 ** min(self._expired - 1, 20))
            return longest * random.uniform(0.0, 1.0)  # noqa: S311 - jitter
        failures, self._failures = self._failures, self._failures + 1
        first, longest = timings.first_delay, timings.longest_delay
        if error.kind in REFUSALS and not self.state.has_data:
            first, longest = timings.first_refused, timings.longest_refused
        delay: float = min(longest, first * 2.0 ** min(failures, 20))
        return max(delay, error.retry_after or 0.0) * random.uniform(1.0, 1.3)  # noqa: S311 - jitter
