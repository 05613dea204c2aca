"""The inventory of a node with a digest: its own pods and Node from the API, everything else from the cluster role.

An I/O rim. The last digest stays in use whatever happens; the node never lists the cluster itself instead, or 5,000
nodes would do so at the very moment when the cluster role is down. The API server is only asked, and seldom, where the
cluster role listens.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
import re
import ssl
import time
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass, field, replace
from http import HTTPStatus
from urllib.parse import urlsplit

import aiohttp

from exporter.digest.format import ACCEPT, AGE, MAX_BYTES, Digest, DigestError, merge, read_digest
from exporter.digest.service_env_resolver import ServiceEnvResolver
from exporter.inventory.event_writer import EventWriter
from exporter.inventory.fetching import happens_within, read_body, trust_as_go
from exporter.inventory.kubernetes.api_error import one_line
from exporter.inventory.source import InventorySource
from exporter.model.cluster.inventory import NO_INVENTORY, Came, Inventory
from exporter.model.reason import Reason
from exporter.model.report import Found
from exporter.telemetry.logs import fields

log = logging.getLogger(__name__)

EVERY = 30.0  # seconds between two requests
FIRST = 2.0  # seconds to the second request without a whole digest, doubled with each: both roles start together
AT_MOST = 50.0  # requests a second of all nodes together: beyond 1,500 nodes each asks less often
WAIT = 15.0  # seconds for a whole answer
CONNECT = 3.0  # of them for connecting: dropped packets must leave time for another address
ASK_FIRST = frozenset({1, 2, 4, 8})  # consecutive misses after which the API is asked where the cluster role is
ASK_EVERY = 10  # and after each so many of them
FOUND_FOR = 300.0  # seconds for which found causes explain others (docs/specification.md section 7)
STALE_AFTER = 300.0  # seconds without an answer, or four missed requests
MAX_AGE = 1e7
_NUMBER = re.compile(r"[0-9]{1,11}(\.[0-9]{1,3})?")


@dataclass(eq=False)
class DigestClient:
    """Fetches the digest and keeps the last one."""

    url: str
    _: KW_ONLY
    every: float = EVERY
    at_most: float = AT_MOST
    clock: Callable[[], float] = time.time
    resolver: ServiceEnvResolver | None = None  # None: names are resolved as this host does, and the API is not asked
    digest: Digest | None = None
    # By our clock; all three are None as long as there is no digest.
    answered: float | None = None  # when the last answer came
    made: float | None = None  # when the cluster role's round of that answer ended
    current_at: float | None = None  # the moment of that answer's inventory
    tried: asyncio.Event = field(default_factory=asyncio.Event)
    _requests: int = 0
    _misses: int = 0  # consecutive
    _etag: str = ""
    _problem: str = ""

    def __post_init__(self) -> None:
        # Made while the system's authorities may still be read.
        self._trust = trust_as_go(ssl.create_default_context()) if self.url.startswith("https:") else True

    @property
    def interval(self) -> float:
        """Seconds from one request to the next."""
        inventory = self.digest.inventory if self.digest is not None else NO_INVENTORY
        usual = max(self.every, len(inventory.nodes or ()) / self.at_most)
        # At the start the cluster role may still be reading.
        whole = self.digest is not None and Reason.API_UNAVAILABLE not in inventory.unread.values()
        return usual if whole else min(usual, FIRST * 2.0 ** min(self._requests, 20))

    @property
    def problem(self) -> str:
        """Why there is no digest, for a person."""
        return f"{self.url}: {self._problem or 'no answer'}"

    async def run(self) -> None:
        """Fetch the digest again and again until cancelled."""
        # Closed after each request: the server keeps few connections at once, and there may be 5,000 nodes.
        connector = aiohttp.TCPConnector(
            limit=2, force_close=True, resolver=self.resolver, use_dns_cache=False, ssl=self._trust
        )
        timeout = aiohttp.ClientTimeout(total=WAIT, sock_connect=CONNECT)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
            while True:
                await self._fetch_or_ask(session)
                self.tried.set()
                await asyncio.sleep(self.interval * random.uniform(0.9, 1.1))  # noqa: S311 - jitter
                self._requests += 1

    @property
    def silent(self) -> bool:
        """Whether the digest is missing, or was confirmed too long ago."""
        last = -math.inf if self.answered is None else self.answered
        return self.clock() - last > max(STALE_AFTER, 4 * self.interval)

    async def _fetch_or_ask(self, session: aiohttp.ClientSession) -> None:
        """Fetch the digest, and once more at once if the API server has another address for it."""
        if await self._fetch(session):
            self._misses = 0
            return
        self._misses += 1
        ask = self.silent and (self._misses in ASK_FIRST or self._misses % ASK_EVERY == 0)
        host = urlsplit(self.url).hostname or ""
        if self.resolver is not None and await self.resolver.miss(host, ask=ask) and await self._fetch(session):
            self._misses = 0

    async def _fetch(self, session: aiohttp.ClientSession) -> bool:
        """Fetch the digest. Whether the cluster role answered, even if it has none yet."""
        headers = {"Accept": ACCEPT} | ({"If-None-Match": self._etag} if self._etag else {})
        asked = self.clock()
        try:
            async with session.get(self.url, headers=headers, allow_redirects=False) as response:
                if response.status == 200:
                    self.digest = await asyncio.to_thread(read_digest, await read_body(response, MAX_BYTES))
                    self._etag = response.headers.get("ETag", "")
                elif response.status != 304 or self.digest is None:
                    self._log_problem(f"HTTP status {response.status}")
                    return response.status == HTTPStatus.SERVICE_UNAVAILABLE
                self.answered = self.clock()
                self.made = self.answered - _seconds(response.headers.get("Age", ""))
                # An older cluster role serves the inventory of its last round.
                self.current_at = asked - _seconds(response.headers.get(AGE, response.headers.get("Age", "")))
        except (aiohttp.ClientError, DigestError, TimeoutError, OSError, ValueError) as error:
            self._log_problem(one_line(error))
            return False
        self._log_problem("")
        return True

    def _log_problem(self, problem: str) -> None:
        if problem and not self._problem:
            log.warning("no digest; the last one stays in use", extra=fields(url=self.url, problem=problem))
        elif self._problem and not problem:
            log.info("the digest comes again", extra=fields(url=self.url))
        self._problem = problem


def _seconds(text: str) -> float:
    """An age from a header; without one it counts as very old."""
    return min(float(text), MAX_AGE) if _NUMBER.fullmatch(text) else MAX_AGE


def _earliest(*moments: float | None) -> float | None:
    return min((each for each in moments if each is not None), default=None)


class DigestedSource(InventorySource):
    """The source of role node: the node's own objects merged with the digest."""

    def __init__(self, own: InventorySource, client: DigestClient, clock: Callable[[], float] = time.time) -> None:
        self._own = own
        self._client = client
        self._clock = clock
        self._merged: tuple[Inventory, Digest | None, Inventory] | None = None

    def current(self) -> Inventory:
        own, client = self._own.current(), self._client
        # Ages differ at every call; the objects seldom do.
        still = replace(own, synced=None, current_at=None, stale=False, read_at={}, read_seconds={}, problem="")
        if self._merged is None or self._merged[0] != still or self._merged[1] is not client.digest:
            self._merged = (still, client.digest, merge(still, client.digest))
        merged, silent, has_digest = self._merged[2], client.silent, client.digest is not None
        parts = {own.came, Came.ALL if has_digest else Came.NOTHING}
        return replace(
            merged,
            came=parts.pop() if len(parts) == 1 else Came.PART,
            problem=own.problem or (client.problem if silent else ""),
            synced=None if own.synced is None else _earliest(own.synced, client.made),
            current_at=_earliest(own.current_at, client.current_at),
            stale=own.stale or merged.stale or (has_digest and silent),
            read_at=own.read_at,
            read_seconds=own.read_seconds,
        )

    def remote_findings(self) -> tuple[Found, ...]:
        """The causes found in the cluster's objects, while they are not older than five minutes."""
        client = self._client
        if client.digest is None or client.made is None or self._clock() - client.made > FOUND_FOR:
            return ()
        return client.digest.found

    def event_writer(self) -> EventWriter | None:
        return self._own.event_writer()

    async def wait_ready(self, patience: float) -> bool:
        """Wait for the node's own objects and the first digest; whether both were tried in time."""
        return all(await asyncio.gather(self._own.wait_ready(patience), happens_within(self._client.tried, patience)))

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._own.run())
            group.create_task(self._client.run())
