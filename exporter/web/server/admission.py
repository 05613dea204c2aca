"""Decides which requests are served, by rate limit, client certificate, user and password; health endpoints are exempt.

Passwords are computed on threads, few at a time and fewer per client: guessing delays the client that guesses, not the
exporter's rounds, and a scraper whose password is remembered does not wait. Half of the places to wait are
held for clients that have none yet and did not guess wrong, so that a new scraper finds one. An IPv6 client is its /64,
of which it may use any address.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Mapping
from http import HTTPStatus
from ipaddress import IPv6Address

from aiohttp import web

from exporter.model.family import parse_address
from exporter.web.server.passwords import Passwords, parse_credentials
from exporter.web.server.rotation import WebSettings
from exporter.web.server.settings import RateLimit
from exporter.web.server.tls import has_allowed_name

_AT_ONCE = 2  # threads that compute bcrypt
_WAITING = 16  # attempts that may wait for them, of all clients
_WAITING_KNOWN = 8  # attempts beyond which only new clients get a place
_WAITING_PER_CLIENT = 2
_MOST_FAILED = 4096  # clients that are remembered as such
_CHALLENGE = {"WWW-Authenticate": 'Basic realm="dualstack-exporter", charset="UTF-8"'}  # RFC 7617 section 2.1


class TokenBucket:
    """One token per interval, at most `burst` of them saved."""

    def __init__(self, limit: RateLimit, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.limit = limit
        self._clock = clock
        self._tokens = float(limit.burst)
        self._filled = clock()

    def take(self) -> bool:
        """Whether there was a token; without an interval there always is one."""
        if not self.limit.interval:
            return True
        now = self._clock()
        self._tokens = min(self.limit.burst, self._tokens + (now - self._filled) / self.limit.interval)
        self._filled = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


class Admission:
    def __init__(self, settings: WebSettings) -> None:
        self._settings = settings
        self._bucket = TokenBucket(settings.current().config.rate_limit)
        self._threads = asyncio.Semaphore(_AT_ONCE)
        self._waiting: Counter[str] = Counter()
        self._failed: dict[str, None] = {}  # clients, the longest known first

    async def refuse(self, request: web.BaseRequest) -> web.Response | None:
        """The answer to a request that is not served; None where it is."""
        current = self._settings.current()
        if current.config.rate_limit != self._bucket.limit:
            self._bucket = TokenBucket(current.config.rate_limit)
        if not self._bucket.take():
            return _too_many("too many requests")
        tls = current.config.tls_server_config
        certificate = request.get_extra_info("peercert")
        if tls.client_required and not has_allowed_name(certificate, tls.client_allowed_sans):
            return text_response("a client certificate is needed", HTTPStatus.FORBIDDEN)
        if current.passwords is None:
            return None
        return await self._check_user(current.passwords, request)

    async def _check_user(self, passwords: Passwords, request: web.BaseRequest) -> web.Response | None:
        credentials = parse_credentials(request.headers.get("Authorization", ""))
        verdict = passwords.recall(*credentials) if credentials is not None else False
        if credentials is not None and verdict is None:
            client = _client_of(request.remote)
            if not self._has_place(client):
                return _too_many("too many attempts at once")
            verdict = await self._compute(passwords, client, credentials)
        return None if verdict else text_response("user and password are needed", HTTPStatus.UNAUTHORIZED, _CHALLENGE)

    def _has_place(self, client: str) -> bool:
        mine, total = self._waiting[client], self._waiting.total()
        known = mine > 0 or client in self._failed
        return mine < _WAITING_PER_CLIENT and total < (_WAITING_KNOWN if known else _WAITING)

    async def _compute(self, passwords: Passwords, client: str, credentials: tuple[str, str]) -> bool:
        self._waiting[client] += 1
        try:
            async with self._threads:
                right = await asyncio.to_thread(passwords.check_password, *credentials)
            self._failed.pop(client, None)
            if not right:
                self._failed[client] = None
                if len(self._failed) > _MOST_FAILED:
                    del self._failed[next(iter(self._failed))]
            return right
        finally:
            self._waiting[client] -= 1
            if not self._waiting[client]:
                del self._waiting[client]


def _client_of(remote: str | None) -> str:
    address = parse_address(remote)
    return f"{int(address) >> 64:x}" if isinstance(address, IPv6Address) else str(remote)


def text_response(
    text: str, status: HTTPStatus = HTTPStatus.OK, headers: Mapping[str, str] | None = None
) -> web.Response:
    """One line of plain text. For errors it shows nothing of the inside."""
    return web.Response(text=f"{text}\n", status=status, headers=headers)


def _too_many(text: str) -> web.Response:
    return text_response(text, HTTPStatus.TOO_MANY_REQUESTS, {"Retry-After": "1"})
