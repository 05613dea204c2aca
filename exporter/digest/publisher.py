"""Serves the cluster's digest to the nodes: the current inventory, and what the last round found (format.py writes it).

5,000 nodes fetch it, so nothing is made per request: the digest is written when something changed, compressed once per
content, and most answers are "not modified". `Age` (RFC 9111 5.1) is the age of the round, a header of its own that of
the inventory; neither is part of the content, so that an unchanged cluster keeps its ETag.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from http import HTTPStatus

from aiohttp import web

from exporter.digest.format import AGE, MEDIA, VERSION, negotiate, write_digest
from exporter.model.cluster.inventory import Inventory
from exporter.model.report import Report

LEVEL = 5
EVERY = 2.0  # seconds between two digests of a changed inventory, at least
SHARE = 20.0  # a digest that took a second to write is followed by none for this many


@dataclass(frozen=True, slots=True)
class Packed:
    """The content in both encodings, and its tag."""

    plain: bytes
    zipped: bytes
    etag: str


@dataclass(frozen=True, slots=True)
class _Origin:
    """What a digest was written of: the round, and the inventory without its age; `shown` is the moment of that."""

    report: Report
    inventory: Inventory
    shown: float


class DigestPublisher:
    """Keeps the last round of the cluster role; the digest is written when it is requested, on a thread.

    `source` returns the current inventory; without it that of the last round is served.
    """

    def __init__(self, clock: Callable[[], float] = time.time, source: Callable[[], Inventory] | None = None) -> None:
        self._clock = clock
        self._source = source
        self._report: Report | None = None
        self._packed: Packed | None = None
        self._origin: _Origin | None = None
        self._next = 0.0  # when it may be written again for a changed inventory, on the loop's clock
        self._packing = asyncio.Lock()

    def publish(self, report: Report) -> None:
        """Serve this round from now on; one without nodes leaves the one before."""
        if report.snapshot.inventory.nodes is not None:
            self._report = report

    async def answer(self, request: web.Request, *, gzipped: bool) -> web.Response:
        """200, 304, 406 for unknown formats, 503 before the first round with an inventory."""
        version = negotiate(", ".join(request.headers.getall("Accept", ())))
        if version is None:
            return web.Response(status=HTTPStatus.NOT_ACCEPTABLE, text=f"formats written here: {VERSION}\n")
        packed = await self._current()
        if packed is None or self._report is None or self._origin is None:
            return web.Response(status=HTTPStatus.SERVICE_UNAVAILABLE, text="no finished round\n")
        age = max(0, round(self._clock() - self._report.snapshot.finished))
        shown = max(0.0, self._clock() - self._origin.shown)
        headers = {"ETag": packed.etag, "Age": str(age), AGE: f"{shown:.3f}", "Vary": "Accept, Accept-Encoding"}
        if packed.etag in {each.strip() for each in request.headers.get("If-None-Match", "").split(",")}:
            return web.Response(status=HTTPStatus.NOT_MODIFIED, headers=headers)
        headers["Content-Type"] = MEDIA.format(version)
        if gzipped:
            headers["Content-Encoding"] = "gzip"
        return web.Response(body=packed.zipped if gzipped else packed.plain, headers=headers)

    async def _current(self) -> Packed | None:
        async with self._packing:
            origin = self._latest()
            if origin is not None and self._is_due(origin):
                loop = asyncio.get_running_loop()
                began = loop.time()
                self._packed = await asyncio.to_thread(_pack, origin, self._packed)
                self._next = loop.time() + max(EVERY, SHARE * (loop.time() - began))
                self._origin = origin
            return self._packed

    def _latest(self) -> _Origin | None:
        """What would be served now."""
        report = self._report
        if report is None:
            return None
        now = self._source() if self._source is not None else report.snapshot.inventory
        inventory = now if now.nodes is not None else report.snapshot.inventory
        still = replace(inventory, synced=None, current_at=None, read_at={}, read_seconds={})
        current_at = inventory.current_at
        return _Origin(report, still, report.snapshot.finished if current_at is None else current_at)

    def _is_due(self, latest: _Origin) -> bool:
        """Whether it has to be written again; an unchanged one only becomes younger."""
        origin = self._origin
        if origin is None or origin.report is not latest.report:
            return True
        if origin.inventory == latest.inventory:
            self._origin = latest
            return False
        return asyncio.get_running_loop().time() >= self._next


def _pack(origin: _Origin, before: Packed | None) -> Packed:
    plain = write_digest(origin.inventory, origin.report.causes, origin.report.snapshot.finished)
    if before is not None and before.plain == plain:
        return before
    # Weak: the two encodings are different bytes of one content.
    return Packed(plain, gzip.compress(plain, LEVEL, mtime=0), f'W/"{hashlib.sha256(plain).hexdigest()[:32]}"')
