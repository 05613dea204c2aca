"""The exporter's HTTP server (docs/specification.md section 6): routes and headers. The last stage of the flow.

It serves finished values from `State` and never waits for a round. admission.py decides which requests are served and
connections.py bounds connections. Errors are plain text and show nothing of the inside.
"""

from __future__ import annotations

import asyncio
import base64
import gzip
import hashlib
import logging
import re
import socket
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from typing import Any, Protocol

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from exporter.digest.publisher import DigestPublisher
from exporter.model.family import parse_address
from exporter.telemetry.logs import fields
from exporter.web.server.admission import Admission, text_response
from exporter.web.server.connections import ConnectionLimits, Connections
from exporter.web.server.exposition import Rendered, weights
from exporter.web.server.own_errors import OwnErrorProtocol
from exporter.web.server.rotation import WebSettings

_log = logging.getLogger(__name__)
_HEALTHY, _READY = ("/-/healthy", "/healthz", "/livez"), ("/-/ready", "/readyz")
_PATHS = frozenset({"/", "/api/v1/report", "/api/v1/digest", "/config", "/migration", "/-/reload"})
_MOST_HEADERS, _LONGEST_LINE = 64, 8190
_SHUTDOWN = 2.0  # seconds that responses under way have when the daemon ends
_WORTH_GZIP = 1024  # bytes
_HOST = re.compile(r"(?:([A-Za-z0-9.]+)|\[([0-9A-Fa-f:.]+)\])(?::[0-9]{1,5})?")
_GZIP_LEVEL = 4

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class State(Protocol):
    """What is served; the daemon has it. Every method but reload returns at once."""

    @property
    def ready(self) -> bool:
        """Whether a round has finished and is not older than 5 intervals."""

    def report(self) -> bytes | None:
        """The last round's report as JSON, the same object for the same report; None where there is none to show."""

    def render(self, accept: str, *, gzip: bool) -> Rendered: ...

    def page(self) -> str: ...

    def runbook(self, name: str) -> str | None:
        """The page of a cause's or an alert's runbook, that of all of them for an empty name; None without one."""

    def migration(self) -> str | None:
        """The page of the steps to dual-stack; None for a role that sees one node's objects only."""

    def config_text(self) -> str: ...

    async def reload(self) -> str:
        """Read the configuration again and start a round. Returns the problem in one line, or an empty string."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WebOptions:
    """The server's flags, and what else it serves."""

    telemetry_path: str = "/metrics"
    lifecycle: bool = False
    style: str = ""  # the text of the page's <style> element, the only style that a browser may apply
    limits: ConnectionLimits = field(default_factory=ConnectionLimits)
    digest: DigestPublisher | None = None  # None for a role without one: there is no such path then


def check_telemetry_path(path: str) -> None:
    """Raise ValueError, in one line, for a path that is invalid or taken by another route."""
    if not path.startswith("/") or set(path) & set("{}?# ") or not path.isprintable():
        raise ValueError(f"{path!r} is not a path")
    if path in _PATHS or path in (*_HEALTHY, *_READY) or path.startswith("/runbooks/"):
        raise ValueError(f"the path {path} is taken by another route")


class WebServer:
    def __init__(self, state: State, settings: WebSettings, options: WebOptions) -> None:
        check_telemetry_path(options.telemetry_path)
        self._state = state
        self._settings = settings
        self._options = options
        self._admission = Admission(settings)
        self._zipped: tuple[bytes, bytes] = (b"", b"")
        self._headers = {
            "Server": "dualstack-exporter",
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
            "X-Frame-Options": "deny",
            "Content-Security-Policy": _content_policy(options.style),
            "Referrer-Policy": "no-referrer",
            "Cross-Origin-Resource-Policy": "same-origin",
        }
        self._connections: Connections | None = None

    async def run(self, listeners: Sequence[socket.socket]) -> None:
        """Serve on these sockets, which it closes, until cancelled."""
        quiet = logging.getLogger(f"{__name__}.protocol")
        quiet.addFilter(_demote_bad_requests)
        options: dict[str, Any] = {
            "access_log": None,
            "logger": quiet,
            "keepalive_timeout": self._options.limits.idle,
            "max_line_size": _LONGEST_LINE,
            "max_field_size": _LONGEST_LINE,
            "max_headers": _MOST_HEADERS,
            "lingering_time": 1.0,
            "auto_decompress": False,
        }
        runner = web.AppRunner(self._application(), shutdown_timeout=_SHUTDOWN)
        await runner.setup()
        assert runner.server is not None
        loop = asyncio.get_running_loop()
        self._connections = Connections(
            partial(OwnErrorProtocol, runner.server, loop=loop, dress=self._dress, **options),
            context=lambda: self._settings.current().context,
            limits=self._options.limits,
        )
        try:
            await self._connections.run(listeners)
        finally:
            for listener in listeners:
                listener.close()
            await runner.cleanup()
            await self._connections.close()

    def _application(self) -> web.Application:
        application = web.Application(middlewares=[self._guard], client_max_size=1024)
        application.add_routes(
            [
                web.get("/", self._page),
                web.get("/api/v1/report", self._report),
                web.get("/config", self._config),
                web.get("/migration", self._migration),
                web.get("/runbooks/{name:[^/]*}", self._runbook),
                web.post("/-/reload", self._reload),
                web.put("/-/reload", self._reload),
                web.get(self._options.telemetry_path, self._metrics),
                *(web.get(path, self._healthy) for path in _HEALTHY),
                *(web.get(path, self._ready) for path in _READY),
            ]
        )
        if self._options.digest is not None:
            application.router.add_get("/api/v1/digest", self._digest)
        application.on_response_prepare.append(self._add_headers)
        return application

    @web.middleware
    async def _guard(self, request: web.Request, handler: _Handler) -> web.StreamResponse:
        assert self._connections is not None
        begun = time.monotonic()
        with self._connections.serving(request.protocol):
            response = await self._admit(request, handler)
        seconds, status = time.monotonic() - begun, response.status
        asked = fields(method=request.method, path=request.path, status=status, client=request.remote, seconds=seconds)
        _log.debug("request", extra=asked)
        return response

    async def _admit(self, request: web.Request, handler: _Handler) -> web.StreamResponse:
        # By handler, not by path: no spelling of a path gets around the check.
        if request.match_info.handler not in {self._healthy, self._ready}:
            refusal = await self._admission.refuse(request)
            if refusal is not None:
                return refusal
        try:
            return await handler(request)
        except web.HTTPException as error:
            # 404 and 405, as plain text; 405 lists the allowed methods (RFC 9110 15.5.6).
            allowed = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
            return text_response(error.reason.lower(), HTTPStatus(error.status), allowed)

    async def _add_headers(self, _: web.Request, response: web.StreamResponse) -> None:
        self._dress(response)

    def _dress(self, response: web.StreamResponse) -> None:
        headers = response.headers
        headers.update(self._headers)
        for name, value in self._settings.current().config.http_server_config.headers:
            headers.popall(name, None)
            if value:
                headers[name] = value

    async def _page(self, _: web.Request) -> web.Response:
        return _html(self._state.page())

    async def _runbook(self, request: web.Request) -> web.Response:
        page = self._state.runbook(request.match_info["name"].removesuffix(".md"))
        if page is None:
            raise web.HTTPNotFound
        return _html(page)

    async def _migration(self, _: web.Request) -> web.Response:
        page = self._state.migration()
        if page is None:
            raise web.HTTPNotFound
        return _html(page)

    async def _metrics(self, request: web.Request) -> web.Response:
        rendered = self._state.render(", ".join(request.headers.getall("Accept", ())), gzip=_takes_gzip(request))
        headers = {"Content-Type": rendered.content_type, "Vary": "Accept, Accept-Encoding"}
        if rendered.content_encoding:
            headers["Content-Encoding"] = rendered.content_encoding
        return web.Response(body=rendered.body, headers=headers)

    async def _report(self, request: web.Request) -> web.Response:
        body = self._state.report()
        if body is None:
            return text_response("no finished round", HTTPStatus.SERVICE_UNAVAILABLE)
        headers = {"Content-Type": "application/json", "Vary": "Accept-Encoding"}
        if len(body) >= _WORTH_GZIP and _takes_gzip(request):
            headers["Content-Encoding"] = "gzip"
            body = await self._zip(body)
        return web.Response(body=body, headers=headers)

    async def _digest(self, request: web.Request) -> web.Response:
        assert self._options.digest is not None
        return await self._options.digest.answer(request, gzipped=_takes_gzip(request))

    async def _zip(self, body: bytes) -> bytes:
        """The body gzipped, kept for the next request. On a thread: a large report would delay the probes."""
        if self._zipped[0] is not body:
            self._zipped = (body, await asyncio.to_thread(gzip.compress, body, _GZIP_LEVEL))
        return self._zipped[1]

    async def _config(self, _: web.Request) -> web.Response:
        return text_response(self._state.config_text().removesuffix("\n"))

    async def _healthy(self, _: web.Request) -> web.Response:
        return text_response("ok")

    async def _ready(self, _: web.Request) -> web.Response:
        if self._state.ready:
            return text_response("ready")
        return text_response("not ready", HTTPStatus.SERVICE_UNAVAILABLE)

    async def _reload(self, request: web.Request) -> web.Response:
        # The peer's own address; addresses that a proxy reports are ignored. A browser on this machine may be led here
        # by a foreign page, or by a foreign name for this address: none of our pages asks for a reload.
        if not self._options.lifecycle and not (_is_loopback(request.remote) and _names_loopback(request)):
            return text_response("reload needs loopback or --web.enable-lifecycle", HTTPStatus.FORBIDDEN)
        if "Origin" in request.headers or request.headers.get("Sec-Fetch-Site", "none") != "none":
            return text_response("reload is not for web pages", HTTPStatus.FORBIDDEN)
        problem = await self._state.reload()
        if not problem:
            return text_response("reloaded")
        return text_response(f"reload failed, keeping the configuration: {problem}", HTTPStatus.INTERNAL_SERVER_ERROR)


def _is_loopback(text: str | None) -> bool:
    address = parse_address(text)
    return address is not None and address.is_loopback


def _names_loopback(request: web.Request) -> bool:
    """Whether Host is a loopback address or localhost; without one it was no browser."""
    hosts = request.headers.getall("Host", ())
    match = _HOST.fullmatch(hosts[0]) if len(hosts) == 1 else None
    return not hosts or (match is not None and (match[1] == "localhost" or _is_loopback(match[1] or match[2])))


def _html(page: str) -> web.Response:
    return web.Response(text=page, content_type="text/html", charset="utf-8")


def _content_policy(style: str) -> str:
    """What a browser may do with our pages: only apply this style (CSP level 3)."""
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    allowed = f" style-src 'sha256-{digest}';" if style else ""
    return f"default-src 'none';{allowed} base-uri 'none'; form-action 'none'; frame-ancestors 'none'"


def _takes_gzip(request: web.Request) -> bool:
    """Whether Accept-Encoding names gzip with a weight above 0; `*` is not enough, plain is always right."""
    return weights(",".join(request.headers.getall("Accept-Encoding", ()))).get("gzip", 0.0) > 0


def _demote_bad_requests(record: logging.LogRecord) -> bool:
    """Requests that are not HTTP are the client's fault: logged at debug level only."""
    if record.exc_info and isinstance(record.exc_info[1], HttpProcessingError):
        record.levelno, record.levelname, record.exc_info = logging.DEBUG, "DEBUG", None
        return _log.isEnabledFor(logging.DEBUG)
    return True
