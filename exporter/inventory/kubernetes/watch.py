"""One reading kept current: list, then watch, then whatever the server's answer to that asks for. One task per reading.

A watch is resumed from the last version seen. Listed again is only after an answer that makes the version worthless
(410 in all its forms, a version that the server does not know) and after an outage. A watch in which nothing came until
the server ended it is ordinary: bookmarks may not come for minutes. But one from a version of the future (etcd was
restored from a backup) looks the same, so the server is asked whether it has that version, in the cheapest way.
Whatever fails is retried with growing, jittered delays, for ever.
"""

from __future__ import annotations

import asyncio
import gc
import random
from collections.abc import Callable, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass

from exporter.inventory.kubernetes.api_error import REFUSALS, ApiError, ApiErrorKind
from exporter.inventory.kubernetes.client import JSON, METADATA, METADATA_LIST, ApiServer, Query
from exporter.inventory.kubernetes.store import Key, ObjectStore, Value, parse_all
from exporter.inventory.kubernetes.stream import Change, Event, reaches, read_event, read_page
from exporter.inventory.kubernetes.watch_state import WatchState
from exporter.inventory.kubernetes.watched_resources import WatchedResource

PAGE = 500
MAX_PAGES = 4_000  # two million objects: more than etcd holds
SLICE = 100  # objects parsed before other tasks have their turn


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
    """No search for garbage meanwhile: it would walk the half-built page again and again, which takes longer than building it."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


class Watcher:
    """Keeps one reading of the store current; `state` tells how it is. `report` is called after every change of either."""

    def __init__(
        self,
        reading: WatchedResource,
        *,
        api: ApiServer,
        store: ObjectStore,
        tempo: WatchTimings,
        clock: Callable[[], float],
        report: Callable[[], None],
    ) -> None:
        self.reading = reading
        self.state = WatchState()
        self._api = api
        self._store = store
        self._tempo = tempo
        self._clock = clock
        self._report = report
        self._path = ""
        self._version = ""  # to watch from; empty: list first
        self._reached = ""  # the newest version known, which a list from the cache must not be older than
        self._failures = 0
        self._expired = 0  # times that the version was refused since the last event

    async def run(self, path: str) -> None:
        """Read from this path until cancelled."""
        self._path = path
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            delay = self._tempo.first_delay
            try:
                if not self._version or self.state.long_lost(self._clock()):
                    await self._list()
                await self._watch()
                # A server that ends watches at once is asked once a second, not in a loop.
                delay = max(0.0, began + self._tempo.first_delay - loop.time())
            except ApiError as error:
                delay = self._fail(error)
            await asyncio.sleep(delay)

    def miss(self, error: ApiError) -> None:
        """It cannot be asked for: served nowhere (what was read of it is gone), or what is served could not be learnt."""
        if error.kind is ApiErrorKind.NOT_FOUND:
            self._forget(error)
        else:
            self.state.first_result, self.state.trouble = True, error
        self._report()

    # Lists

    async def _list(self) -> None:
        """Read everything. A list that had to go on at a newer version than it began with is made once more, to be exact."""
        began = asyncio.get_running_loop().time()
        found, version, exact = await self._read_pages()
        if not exact:
            self._take(found, version)
            found, version, _ = await self._read_pages()
        self._take(found, version)
        self.state.seconds = asyncio.get_running_loop().time() - began

    async def _read_pages(self) -> tuple[dict[Key, Value], str, bool]:
        found: dict[Key, Value] = {}
        more, exact = "", True
        for _ in range(MAX_PAGES):
            try:
                body = await self._ask_page(more)
            except ApiError as error:
                if not (more and error.resume):
                    raise
                more, exact = error.resume, False  # the page expired: the server offers to go on at a newer version
                continue
            with _without_collector():
                page = read_page(body)
                for start in range(0, len(page.objects), SLICE):
                    found.update(parse_all(self.reading, page.objects[start : start + SLICE]))
                    await asyncio.sleep(0)
                more, version = page.more, page.version
                del page
            if not more:
                return found, version, exact
        raise ApiError(ApiErrorKind.MALFORMED, f"more than {MAX_PAGES} pages")

    async def _ask_page(self, more: str) -> bytes:
        query = self._selectors()
        if self.reading.paged:
            query.append(("limit", str(PAGE)))
            if more:
                query.append(("continue", more))
        else:
            # From the server's cache, but never back in time; limit would be ignored.
            query.append(("resourceVersion", self._reached or "0"))
        accept = f"{METADATA_LIST},{JSON}" if self.reading.metadata_only else JSON
        try:
            return (await self._api.get(self._path, query, accept=accept)).body
        except ApiError as error:
            if error.kind in {ApiErrorKind.EXPIRED, ApiErrorKind.VERSION_AHEAD, ApiErrorKind.REJECTED}:
                self._reached = ""
            raise

    def _take(self, found: dict[Key, Value], version: str) -> None:
        self._store.fill(self.reading, found, self._clock())
        self._version = self._reached = version
        self._current()

    # Watches

    async def _watch(self) -> None:
        timeout = max(1, round(self._tempo.watch * random.uniform(0.8, 1.2)))  # noqa: S311 - so that they do not all end at once
        query: Query = [
            *self._selectors(),
            ("watch", "true"),
            ("allowWatchBookmarks", "true"),
            ("resourceVersion", self._version),
            ("timeoutSeconds", str(timeout)),
        ]
        accept = f"{METADATA},{JSON}" if self.reading.metadata_only else JSON
        loop = asyncio.get_running_loop()
        anything = False
        longest = timeout + self._tempo.slack
        async with self._api.stream(self._path, query, accept=accept, longest=longest) as lines:
            began = loop.time()
            self.state.open(self._clock())
            self._report()
            async with aclosing(lines):
                async for line in lines:
                    event = read_event(line)
                    if event is not None:
                        anything = True
                        self._apply(event)
        self.state.close(self._clock())
        self._report()
        if loop.time() - began < timeout * 0.9:
            return  # a server that shuts down: nothing is known of what came after
        if anything:
            self._current()
        else:
            await self._confirm()

    async def _confirm(self) -> None:
        """Look whether the server has the version that a quiet watch began at; list anew where it has not.

        Of what may be long, one object is asked for, which tells how far the server is. It cannot be asked for that
        version itself: a cache that etcd sends no progress to (seen with etcd 3.4) takes it for one of the future. The
        rest is listed anew from the server's cache.
        """
        if not self.reading.paged or not reaches(await self._server_version(), self._version):
            await self._list()
            return
        self._current()

    async def _server_version(self) -> str:
        accept = f"{METADATA_LIST},{JSON}" if self.reading.metadata_only else JSON
        return read_page(
            (await self._api.get(self._path, [*self._selectors(), ("limit", "1")], accept=accept)).body
        ).version

    def _apply(self, event: Event) -> None:
        if event.change is Change.SET:
            self._store.set(self.reading, event.source, self._clock())
        elif event.change is Change.GONE:
            self._store.remove(self.reading, event.source)
        if event.version:
            self._version = self._reached = event.version
        self._expired = 0
        self._current()

    def _selectors(self) -> list[tuple[str, str]]:
        chosen = (("fieldSelector", self.reading.field_selector), ("labelSelector", self.reading.labels))
        return [(name, value) for name, value in chosen if value]

    # How it stands

    def _current(self) -> None:
        self._failures = 0
        self.state.see(self._clock())
        self._report()

    def _fail(self, error: ApiError) -> float:
        """Take note of a failure; the seconds to wait."""
        if not self._keeps_version(error):
            self._version = ""
        self.state.close(self._clock())
        self.state.trouble, self.state.first_result = error, True
        if (
            error.kind in REFUSALS
            and self.state.has_data
            and self._clock() - (self.state.outage_since or 0) >= self._tempo.grace
        ):
            self._forget(error)
        self._report()
        return self._delay(error)

    def _keeps_version(self, error: ApiError) -> bool:
        """Whether a watch may go on from the last version: what failed was the connection or the server, not the version."""
        if error.kind in {ApiErrorKind.UNREACHABLE, ApiErrorKind.THROTTLED, ApiErrorKind.UNAUTHORIZED, *REFUSALS}:
            return True
        # A version that is no number is a 500; one 500 alone may be anything. Inside a watch it is about this watch.
        return error.kind is ApiErrorKind.SERVER and self.state.opened is None and not self._failures

    def _forget(self, error: ApiError) -> None:
        self._version = self._reached = ""
        self.state = WatchState(first_result=True, trouble=error)
        self._store.forget(self.reading)

    def _delay(self, error: ApiError) -> float:
        tempo = self._tempo
        if error.kind is ApiErrorKind.EXPIRED:
            # Nothing is wrong with the server; but all nodes are told so at the same moment, when it was restarted.
            self._expired += 1
            longest = min(tempo.longest_delay, tempo.first_delay * 3.0 * 2.0 ** min(self._expired - 1, 20))
            return longest * random.uniform(0.0, 1.0)  # noqa: S311 - jitter
        failures, self._failures = self._failures, self._failures + 1
        first, longest = tempo.first_delay, tempo.longest_delay
        if error.kind in REFUSALS and not self.state.has_data:
            first, longest = tempo.first_refused, tempo.longest_refused
        delay: float = min(longest, first * 2.0 ** min(failures, 20))
        return max(delay, error.retry_after or 0.0) * random.uniform(1.0, 1.3)  # noqa: S311 - jitter
