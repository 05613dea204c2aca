"""Serves the cluster's digest to the nodes: written once a round, packed once per content, most answers being "not modified".

Between the cluster role's last round and the nodes (discovery/digest.py has the format). 5,000 nodes ask, so nothing is made per request.
`Age` (RFC 9111 5.1) says how old the round is; it is no part of the content, so that an unchanged cluster keeps its ETag.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus

from aiohttp import web

from exporter.discovery.digest import MEDIA, VERSION, negotiate, write_digest
from exporter.model.report import Report

LEVEL = 5


@dataclass(frozen=True, slots=True)
class Packed:
    """The content in both encodings, and its tag."""

    plain: bytes
    zipped: bytes
    etag: str


class DigestPublisher:
    """Holds the last round of the cluster role; the digest is made of it when it is first asked for, on a thread."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._report: Report | None = None
        self._packed: Packed | None = None
        self._packed_of: Report | None = None
        self._packing = asyncio.Lock()

    def publish(self, report: Report) -> None:
        """Serve this round from now on; one without nodes tells nothing and leaves the one before."""
        if report.snapshot.inventory.nodes is not None:
            self._report = report

    async def answer(self, request: web.Request, *, gzipped: bool) -> web.Response:
        """200, 304, 406 for formats that are not written here, 503 before the first round with an inventory."""
        version = negotiate(", ".join(request.headers.getall("Accept", ())))
        if version is None:
            return web.Response(status=HTTPStatus.NOT_ACCEPTABLE, text=f"formats written here: {VERSION}\n")
        packed = await self._current()
        if packed is None or self._report is None:
            return web.Response(status=HTTPStatus.SERVICE_UNAVAILABLE, text="no finished round\n")
        age = max(0, round(self._clock() - self._report.snapshot.finished))
        headers = {"ETag": packed.etag, "Age": str(age), "Vary": "Accept, Accept-Encoding"}
        if packed.etag in {each.strip() for each in request.headers.get("If-None-Match", "").split(",")}:
            return web.Response(status=HTTPStatus.NOT_MODIFIED, headers=headers)
        headers["Content-Type"] = MEDIA.format(version)
        if gzipped:
            headers["Content-Encoding"] = "gzip"
        return web.Response(body=packed.zipped if gzipped else packed.plain, headers=headers)

    async def _current(self) -> Packed | None:
        async with self._packing:
            report = self._report
            if report is not None and report is not self._packed_of:
                self._packed = await asyncio.to_thread(_pack, report, self._packed)
                self._packed_of = report
            return self._packed


def _pack(report: Report, before: Packed | None) -> Packed:
    plain = write_digest(report.snapshot.inventory, report.causes, report.snapshot.finished)
    if before is not None and before.plain == plain:
        return before
    # Weak: the two encodings are different bytes of one content.
    return Packed(plain, gzip.compress(plain, LEVEL, mtime=0), f'W/"{hashlib.sha256(plain).hexdigest()[:32]}"')
