"""The exporter's HTTP surface (contract section 6): routes, headers, and nothing that waits for a round. Last stage of the flow.

It serves what State hands over: finished values, already rendered. Who may ask is admission.py's, how connections are
bounded is connections.py's. Errors are plain text and tell nothing of the inside.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import ipaddress
import logging
import socket
import time
import zlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Protocol

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from exporter.digest.publisher import DigestPublisher
from exporter.telemetry.logs import fields
from exporter.web.server.admission import Admission
from exporter.web.server.connections import ConnectionLimits, Connections
from exporter.web.server.rotation import WebSettings

_log = logging.getLogger(__name__)
_HEALTHY, _READY = ("/-/healthy", "/healthz", "/livez"), ("/-/ready", "/readyz")
_PATHS = frozenset({"/", "/api/v1/report", "/api/v1/digest", "/config", "/-/reload"})
_MOST_HEADERS, _LONGEST_LINE = 64, 8190
_SHUTDOWN = 2.0  # seconds that responses under way have when the daemon ends
_GZIP = 16 + zlib.MAX_WBITS
_WORTH_GZIP = 1024  # bytes

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class RenderedScrape(Protocol):
    """A scrape's answer."""

    @property
    def body(self) -> bytes: ...
    @property
    def content_type(self) -> str: ...
    @property
    def content_encoding(self) -> str: ...


class State(Protocol):
    """What is served. Every method but reload answers at once."""

    @property
    def ready(self) -> bool:
        """Whether a round has finished and is not older than 5 intervals."""

    def render(self, accept: str, *, gzip: bool) -> RenderedScrape:
        """The answer to a scrape with this Accept header."""

    def report(self) -> bytes | None:
        """The last round's report as JSON; None where there is none to show. The same object as long as it is the same report."""

    def page(self) -> str:
        """The status page."""

    def config_text(self) -> str:
        """The effective configuration as YAML, secrets masked."""

    async def reload(self) -> str:
        """Read the configuration again and start a round; the problem in one line, empty when there was none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WebOptions:
    """What flags say of the server. `style` is the text inside the page's one <style> element: the only style a browser may apply.

    `digest`: what the nodes are told, where the role tells them anything; else there is no such path.
    """

    telemetry_path: str = "/metrics"
    lifecycle: bool = False
    style: str = ""
    limits: ConnectionLimits = field(default_factory=ConnectionLimits)
    digest: DigestPublisher | None = None


def check_telemetry_path(path: str) -> None:
    """Raise ValueError, in one line, for what is no path or the path of something else."""
    if not path.startswith("/") or set(path) & set("{}?# ") or not path.isprintable():
        raise ValueError(f"{path!r} is not a path")
    if path in _PATHS or path in (*_HEALTHY, *_READY):
        raise ValueError(f"{path} is the path of something else")


class WebServer:
    """Serves until cancelled."""

    def __init__(self, state: State, settings: WebSettings, options: WebOptions) -> None:
        """Raises ValueError for a telemetry path that is none or is taken by another route."""
        self._state = state
        self._settings = settings
        self._options = options
        self._admission = Admission(settings)
        self._zipped: tuple[bytes, bytes] = (b"", b"")
        self._policy = _content_policy(options.style)
        self._connections: Connections | None = None
        self._routes = self._list_routes()

    async def run(self, listeners: Sequence[socket.socket]) -> None:
        """Serve on these sockets, which it closes, until cancelled."""
        quiet = logging.getLogger(f"{__name__}.protocol")
        quiet.addFilter(_demote_bad_requests)
        runner = web.AppRunner(
            self._application(),
            access_log=None,
            logger=quiet,
            shutdown_timeout=_SHUTDOWN,
            keepalive_timeout=self._options.limits.idle,
            max_line_size=_LONGEST_LINE,
            max_field_size=_LONGEST_LINE,
            max_headers=_MOST_HEADERS,
            lingering_time=1.0,
            auto_decompress=False,
        )
        await runner.setup()
        assert runner.server is not None
        self._connections = Connections(
            runner.server, context=lambda: self._settings.current().context, limits=self._options.limits
        )
        try:
            await self._connections.run(listeners)
        finally:
            for listener in listeners:
                listener.close()
            await runner.cleanup()
            await self._connections.close()

    def _list_routes(self) -> list[web.RouteDef]:
        routes = [
            web.get("/", self._page),
            web.get("/api/v1/report", self._report),
            web.get("/config", self._config),
            web.post("/-/reload", self._reload),
            web.put("/-/reload", self._reload),
            *(web.get(path, self._healthy) for path in _HEALTHY),
            *(web.get(path, self._ready) for path in _READY),
        ]
        check_telemetry_path(self._options.telemetry_path)
        if self._options.digest is not None:
            routes.append(web.get("/api/v1/digest", self._digest))
        return [*routes, web.get(self._options.telemetry_path, self._metrics)]

    def _application(self) -> web.Application:
        application = web.Application(middlewares=[self._guard], client_max_size=1024)
        application.add_routes(self._routes)
        application.on_response_prepare.append(self._add_headers)
        return application

    @web.middleware
    async def _guard(self, request: web.Request, handler: _Handler) -> web.StreamResponse:
        assert self._connections is not None
        begun = time.monotonic()
        with self._connections.serving(request.protocol):
            response = await self._admit(request, handler)
        asked = fields(
            method=request.method,
            path=request.path,
            status=response.status,
            client=request.remote,
            seconds=time.monotonic() - begun,
        )
        _log.debug("request", extra=asked)
        return response

    async def _admit(self, request: web.Request, handler: _Handler) -> web.StreamResponse:
        # By handler, not by path: however a path is spelt, what is routed to anything else is guarded.
        if request.match_info.handler not in {self._healthy, self._ready}:
            refusal = await self._admission.refuse(request)
            if refusal is not None:
                return _text(refusal.text, refusal.status, refusal.headers)
        try:
            return await handler(request)
        except web.HTTPException as error:
            # 404 and 405, as plain text; 405 says what is allowed (RFC 9110 15.5.6).
            allowed = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
            return _text(error.reason.lower(), HTTPStatus(error.status), allowed)

    async def _add_headers(self, _: web.Request, response: web.StreamResponse) -> None:
        headers = response.headers
        headers["Server"] = "dualstack-exporter"
        headers["Cache-Control"] = "no-store"
        headers["X-Content-Type-Options"] = "nosniff"
        headers["X-Frame-Options"] = "deny"
        headers["Content-Security-Policy"] = self._policy
        headers["Referrer-Policy"] = "no-referrer"
        headers["Cross-Origin-Resource-Policy"] = "same-origin"
        for name, value in self._settings.current().config.http_server_config.headers:
            headers.popall(name, None)
            if value:
                headers[name] = value

    async def _page(self, _: web.Request) -> web.Response:
        return web.Response(text=self._state.page(), content_type="text/html", charset="utf-8")

    async def _metrics(self, request: web.Request) -> web.Response:
        rendered = self._state.render(", ".join(request.headers.getall("Accept", ())), gzip=_takes_gzip(request))
        headers = {"Content-Type": rendered.content_type, "Vary": "Accept, Accept-Encoding"}
        if rendered.content_encoding:
            headers["Content-Encoding"] = rendered.content_encoding
        return web.Response(body=rendered.body, headers=headers)

    async def _report(self, request: web.Request) -> web.Response:
        body = self._state.report()
        if body is None:
            return _text("no finished round", HTTPStatus.SERVICE_UNAVAILABLE)
        headers = {"Content-Type": "application/json", "Vary": "Accept-Encoding"}
        if len(body) >= _WORTH_GZIP and _takes_gzip(request):
            headers["Content-Encoding"] = "gzip"
            body = await self._zip(body)
        return web.Response(body=body, headers=headers)

    async def _digest(self, request: web.Request) -> web.Response:
        assert self._options.digest is not None
        return await self._options.digest.answer(request, gzipped=_takes_gzip(request))

    async def _zip(self, body: bytes) -> bytes:
        """The body gzipped; kept as long as it is asked for. On a thread: a large report would hold up the probes' timing."""
        if self._zipped[0] is not body:
            self._zipped = (body, await asyncio.to_thread(_compress, body))
        return self._zipped[1]

    async def _config(self, _: web.Request) -> web.Response:
        return _text(self._state.config_text().removesuffix("\n"))

    async def _healthy(self, _: web.Request) -> web.Response:
        return _text("ok")

    async def _ready(self, _: web.Request) -> web.Response:
        return _text("ready") if self._state.ready else _text("not ready", HTTPStatus.SERVICE_UNAVAILABLE)

    async def _reload(self, request: web.Request) -> web.Response:
        if not self._options.lifecycle and not _is_loopback(request.remote):
            return _text("reload is for loopback, or for --web.enable-lifecycle", HTTPStatus.FORBIDDEN)
        problem = await self._state.reload()
        if problem:
            return _text(f"the configuration stays as it was: {problem}", HTTPStatus.INTERNAL_SERVER_ERROR)
        return _text("reloaded")


def _text(text: str, status: HTTPStatus = HTTPStatus.OK, headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(text=f"{text}\n", status=status, headers=headers)


def _content_policy(style: str) -> str:
    """What a browser may do with a page of ours: nothing but apply this style (CSP level 3)."""
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    allowed = f" style-src 'sha256-{digest}';" if style else ""
    return f"default-src 'none';{allowed} base-uri 'none'; form-action 'none'; frame-ancestors 'none'"


def _takes_gzip(request: web.Request) -> bool:
    """Whether Accept-Encoding names gzip with a weight above 0 (RFC 9110 12.5.3); `*` is not enough, plain is always right."""
    for item in ",".join(request.headers.getall("Accept-Encoding", ())).split(","):
        coding, *parameters = (part.strip().lower() for part in item.split(";"))
        if coding == "gzip":
            return not any(
                parameter.replace(" ", "").rstrip("0").rstrip(".") in {"q=", "q=0"} for parameter in parameters
            )
    return False


def _is_loopback(remote: str | None) -> bool:
    """Whether a peer's address is of this host's loopback; an address that a proxy tells of is not looked at."""
    try:
        address = ipaddress.ip_address((remote or "").partition("%")[0])
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return (mapped or address).is_loopback


def _compress(body: bytes) -> bytes:
    stream = zlib.compressobj(4, zlib.DEFLATED, _GZIP)
    return stream.compress(body) + stream.flush()


def _demote_bad_requests(record: logging.LogRecord) -> bool:
    """Requests that are not HTTP are the client's fault and any scanner's habit: said at debug only."""
    if record.exc_info and isinstance(record.exc_info[1], HttpProcessingError):
        record.levelno, record.levelname, record.exc_info = logging.DEBUG, "DEBUG", None
        return _log.isEnabledFor(logging.DEBUG)
    return True
