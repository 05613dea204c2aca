"""Answers that aiohttp would give by itself: they show nothing of the request here, and have the usual headers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from aiohttp import web

from exporter.web.server.admission import text_response

Dress = Callable[[web.StreamResponse], None]
"""Puts the headers of every answer on one."""


class OwnErrorProtocol(web.RequestHandler):
    """aiohttp's connection. A request that is none, one that expects too much, and a bug of ours get a plain line."""

    def __init__(self, server: web.Server, *, loop: asyncio.AbstractEventLoop, dress: Dress, **options: Any) -> None:
        super().__init__(server, loop=loop, **options)
        self._dress = dress

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002 - it quotes the request
    ) -> web.StreamResponse:
        super().handle_error(request, status, exc, "")  # logs
        answer = self._plain(status)
        answer.force_close()
        return answer

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        if isinstance(resp, web.HTTPException):  # 417, with the unknown expectation
            resp = self._plain(resp.status)
        return await super().finish_response(request, resp, start_time)

    def _plain(self, status: int) -> web.Response:
        known = HTTPStatus(status)
        answer = text_response(known.phrase.lower(), known)
        self._dress(answer)
        return answer
