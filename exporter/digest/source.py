"""A node's source where the cluster role tells the rest: its own pods and Node from the API, everything else from the digest.

The rim beside kubernetes.py. The last digest stays in use whatever happens; the node never lists the cluster itself
instead, or 5,000 nodes would do so at the very moment when the cluster role is down. Only where the cluster role
listens is asked of the API, and seldom.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
import re
import time
from collections.abc import Callable
from dataclasses import replace
from http import HTTPStatus
from urllib.parse import urlsplit

import aiohttp

from exporter.digest.format import AGE, MAX_BYTES, Digest, DigestError, accept_header, merge, read_digest
from exporter.digest.service_env_resolver import ServiceEnvResolver
from exporter.inventory.fetching import happens_within, read_body
from exporter.inventory.kubernetes.api_error import one_line
from exporter.inventory.kubernetes.trust import cluster_context
from exporter.inventory.source import InventorySource
from exporter.model.inventory import Came, Inventory
from exporter.model.reason import Reason
from exporter.model.report import Found
from exporter.telemetry.logs import fields

log = logging.getLogger(__name__)

EVERY = 30.0  # seconds between two looks
FIRST = 2.0  # seconds to the second look without a whole digest, doubled with each: both roles start at one moment
AT_MOST = 50.0  # looks a second that all nodes together may make: beyond 1,500 nodes each looks less often
WAIT = 15.0  # seconds for a whole answer
CONNECT = 3.0  # of them for connecting: packets that are dropped somewhere must leave time for another address
ASK_FIRST = frozenset({1, 2, 4, 8})  # misses running after which the API is asked where the cluster role is
ASK_EVERY = 10  # and after each so many of them
FOUND_FOR = 300.0  # seconds for which found causes explain (contract section 7)
STALE_AFTER = 300.0  # seconds without an answer, or four missed looks
MAX_AGE = 1e7
_NUMBER = re.compile(r"[0-9]{1,11}(\.[0-9]{1,3})?")


class DigestClient:
    """Fetches the digest and keeps the last one."""

    def __init__(
        self,
        url: str,
        *,
        every: float = EVERY,
        at_most: float = AT_MOST,
        clock: Callable[[], float] = time.time,
        resolver: ServiceEnvResolver | None = None,
    ) -> None:
        self._url = url
        self._every = every
        self._at_most = at_most
        self._clock = clock
        self._resolver = resolver  # None: names are resolved as this host does, and nobody else is asked
        self._trust = cluster_context() if url.startswith("https:") else None  # made while files may still be read
        self._looks = 0
        self._misses = 0  # running
        self._etag = ""
        self._problem = ""
        self.digest: Digest | None = None
        self.made: float | None = None  # when the cluster's round ended that the last answer told of, by our clock
        self.answered: float | None = None  # when the last answer came
        self.current_at: float | None = None  # the moment that the inventory of the last answer shows, by our clock
        self.tried = asyncio.Event()

    @property
    def interval(self) -> float:
        """Seconds from one look to the next."""
        if self.digest is None:
            usual = self._every
        else:
            usual = max(self._every, len(self.digest.inventory.nodes or ()) / self._at_most)
        # At the start the cluster role may still be reading.
        whole = self.digest is not None and Reason.API_UNAVAILABLE not in self.digest.inventory.unread.values()
        return usual if whole else min(usual, FIRST * 2.0 ** min(self._looks, 20))

    @property
    def problem(self) -> str:
        """What keeps the digest from coming, for a person."""
        return f"{self._url}: {self._problem or 'no answer'}"

    async def run(self) -> None:
        """Look again and again until cancelled."""
        # Closed after each look: the server holds few connections at once, and there may be 5,000 nodes.
        connector = aiohttp.TCPConnector(
            limit=2, force_close=True, resolver=self._resolver, use_dns_cache=False, ssl=self._trust or True
        )
        timeout = aiohttp.ClientTimeout(total=WAIT, sock_connect=CONNECT)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
            while True:
                await self._turn(session)
                self.tried.set()
                await asyncio.sleep(self.interval * random.uniform(0.9, 1.1))  # noqa: S311 - jitter
                self._looks += 1

    @property
    def silent(self) -> bool:
        """Whether the digest is missing, or was confirmed too long ago."""
        last = -math.inf if self.answered is None else self.answered
        return self._clock() - last > max(STALE_AFTER, 4 * self.interval)

    async def _turn(self, session: aiohttp.ClientSession) -> None:
        """Look, and once more at once where the API tells of another way."""
        if await self._look(session):
            self._misses = 0
            return
        self._misses += 1
        ask = self.silent and (self._misses in ASK_FIRST or self._misses % ASK_EVERY == 0)
        host = urlsplit(self._url).hostname or ""
        if self._resolver is not None and await self._resolver.miss(host, ask=ask) and await self._look(session):
            self._misses = 0

    async def _look(self, session: aiohttp.ClientSession) -> bool:
        """Ask for the digest. Whether the cluster role answered, be it that it has none yet."""
        headers = {"Accept": accept_header()} | ({"If-None-Match": self._etag} if self._etag else {})
        asked = self._clock()
        try:
            async with session.get(self._url, headers=headers, allow_redirects=False) as response:
                if response.status == 200:
                    body = await _bounded(response)
                    self.digest = await asyncio.to_thread(read_digest, body)
                    self._etag = response.headers.get("ETag", "")
                elif response.status != 304 or self.digest is None:
                    self._tell(f"HTTP status {response.status}")
                    return response.status == HTTPStatus.SERVICE_UNAVAILABLE
                self.answered = self._clock()
                self.made = self.answered - _seconds(response.headers.get("Age", ""))
                # One that does not say so shows its last round.
                self.current_at = asked - _seconds(response.headers.get(AGE, response.headers.get("Age", "")))
        except (aiohttp.ClientError, DigestError, TimeoutError, OSError, ValueError) as error:
            self._tell(one_line(error))
            return False
        self._tell("")
        return True

    def _tell(self, problem: str) -> None:
        if problem and not self._problem:
            log.warning("no digest; the last one stays in use", extra=fields(url=self._url, problem=problem))
        elif self._problem and not problem:
            log.info("the digest comes again", extra=fields(url=self._url))
        self._problem = problem


async def _bounded(response: aiohttp.ClientResponse) -> bytes:
    body = await read_body(response, MAX_BYTES)
    if body is None:
        raise DigestError(f"larger than {MAX_BYTES} bytes")
    return body


def _seconds(text: str) -> float:
    """An age as a header gives it; without one nothing is known of it, and it counts as very old."""
    return min(float(text), MAX_AGE) if _NUMBER.fullmatch(text) else MAX_AGE


class DigestedSource:
    """A source (discovery.sources.Source) of role node: the node's own objects united with the digest."""

    def __init__(self, own: InventorySource, client: DigestClient, clock: Callable[[], float] = time.time) -> None:
        self._own = own
        self._client = client
        self._clock = clock
        self._united: tuple[Inventory, Digest | None, Inventory] | None = None

    def current(self) -> Inventory:
        """The last inventory, with its age as of now."""
        own, client = self._own.current(), self._client
        # Ages differ at every call; what they are the ages of does not.
        still = replace(own, synced=None, current_at=None, stale=False, read_at={}, read_seconds={}, problem="")
        if self._united is None or self._united[0] != still or self._united[1] is not client.digest:
            self._united = (still, client.digest, merge(still, client.digest))
        united = self._united[2]
        if client.digest is None or client.answered is None:
            came = Came.NOTHING if own.came is Came.NOTHING else Came.PART
            united = replace(united, came=came, problem=own.problem or client.problem)
            return replace(
                united,
                synced=own.synced,
                current_at=own.current_at,
                stale=own.stale,
                read_at=own.read_at,
                read_seconds=own.read_seconds,
            )
        silent = client.silent
        synced = None if own.synced is None else min(own.synced, client.made or client.answered)
        moments = [at for at in (own.current_at, client.current_at) if at is not None]
        return replace(
            united,
            came=Came.ALL if own.came is Came.ALL else Came.PART,
            problem=own.problem or (client.problem if silent else ""),
            synced=synced,
            current_at=min(moments, default=None),
            stale=own.stale or united.stale or silent,
            read_at=own.read_at,
            read_seconds=own.read_seconds,
        )

    def remote_findings(self) -> tuple[Found, ...]:
        """The causes found in the cluster's objects, while they are not older than five minutes."""
        client = self._client
        if client.digest is None or client.made is None or self._clock() - client.made > FOUND_FOR:
            return ()
        return client.digest.found

    async def wait_ready(self, patience: float) -> bool:
        """Wait for the node's own objects and the first digest; whether both were tried in time."""
        own, tried = await asyncio.gather(self._own.wait_ready(patience), happens_within(self._client.tried, patience))
        return own and tried

    async def run(self) -> None:
        """Keep both current until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._own.run())
            group.create_task(self._client.run())
