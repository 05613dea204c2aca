"""The connection to the API server: requests by the kubernetes package's asyncio client, raw bodies out. An I/O rim.

No model or API class of that package is used: decoding to them costs seven times the CPU, and loading them 18 MiB.
Every failure leaves here as ApiError. The package reads service account tokens again every minute; after a refused
credential or certificate everything is loaded again.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import aiohttp

from exporter import __version__
from exporter.inventory.fetching import read_body
from exporter.inventory.kubernetes.api_error import ApiError, ApiErrorKind, error_of_answer, one_line
from exporter.inventory.kubernetes.credentials import AccessError, Loader
from exporter.inventory.kubernetes.package import ConfigException, RESTClientObject
from exporter.telemetry.logs import fields

log = logging.getLogger(__name__)

JSON = "application/json"
METADATA_LIST = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
METADATA = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
CONNECT = 10.0  # seconds for a connection, TLS included
ANSWER = 60.0  # seconds for a whole answer that is no watch; a page of 500 pods has 2 to 5 MB
RELOAD_EVERY = 60.0
MAX_BODY = 256 << 20
MAX_LINE = 16 << 20  # etcd's limit of one object is 1.5 MB
MAX_ERROR = 64 << 10
MAX_CONNECTIONS = 64
USER_AGENT = f"dualstack-exporter/{__version__}"

# A watch may rightly be silent for minutes. TCP keepalive finds a peer that vanished within 50 s.
KEEPALIVE = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 20),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 50_000),
)

Query = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class ApiResponse:
    """A successful answer; status 304 has no body."""

    status: int
    body: bytes
    etag: str


class ApiServer:
    """Requests to one API server. `loader` is used again when credentials or certificates are no longer accepted."""

    def __init__(self, client: RESTClientObject, loader: Loader) -> None:
        self._client = client
        self._loader = loader
        self._loaded = time.monotonic()
        self._connector: aiohttp.TCPConnector | None = None
        self._reload_failed = ""

    @property
    def host(self) -> str:
        """Where it is, for the log."""
        return str(self._client.configuration.host)

    async def get(
        self, path: str, query: Query = (), *, accept: str = JSON, etag: str = "", longest: float | None = None
    ) -> ApiResponse:
        """One whole answer. ApiError: none came within `longest` seconds, it is too large, or its status is >= 400."""
        headers = {"Accept": accept} | ({"If-None-Match": etag} if etag else {})
        longest = ANSWER if longest is None else longest
        try:
            async with asyncio.timeout(longest), self._request(path, query, headers) as response:
                return ApiResponse(response.status, await _body(response, MAX_BODY), response.headers.get("Etag", ""))
        except TimeoutError:
            raise ApiError(ApiErrorKind.STREAM_IDLE, f"no answer within {longest:g} s") from None

    async def post(self, path: str, body: dict[str, Any], *, longest: float) -> None:
        """Create an object. ApiError as with `get`."""
        try:
            async with asyncio.timeout(longest), self._request(path, (), {"Accept": JSON}, body) as response:
                await _body(response, MAX_BODY)
        except TimeoutError:
            raise ApiError(ApiErrorKind.STREAM_IDLE, f"no answer within {longest:g} s") from None

    @asynccontextmanager
    async def stream(
        self, path: str, query: Query, *, accept: str, longest: float
    ) -> AsyncIterator[AsyncGenerator[bytes, None]]:
        """The lines of an answer as they arrive, each without its end; a last line that was cut off is left out.

        Raises ApiError, also while lines are read: STREAM_IDLE if the server does not end it within `longest` seconds.
        """
        try:
            async with asyncio.timeout(CONNECT + ANSWER) as patience:
                async with self._request(path, query, {"Accept": accept}) as response:
                    patience.reschedule(None)
                    yield _lines(response, longest)
        except TimeoutError:
            raise ApiError(ApiErrorKind.STREAM_IDLE, "no answer to a watch") from None

    @asynccontextmanager
    async def _request(
        self, path: str, query: Query, headers: dict[str, str], body: dict[str, Any] | None = None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """The response, status below 400; closed in the end. A `body` is posted."""
        try:
            response = await self._send(path, query, headers, body)
            try:
                if response.status >= 400:
                    raise error_of_answer(response.status, response.headers, await _body(response, MAX_ERROR))
                yield response
            finally:
                response.close()
        except ApiError as error:
            if error.kind is ApiErrorKind.UNAUTHORIZED:
                await self._reload()
            raise
        except aiohttp.ClientConnectorCertificateError as error:
            await self._reload()
            raise ApiError(ApiErrorKind.UNREACHABLE, f"its certificate is not trusted: {one_line(error)}") from None
        except TimeoutError:
            raise
        except (aiohttp.ClientError, ConfigException, OSError, ValueError) as error:
            raise ApiError(ApiErrorKind.UNREACHABLE, one_line(error)) from None

    async def _send(
        self, path: str, query: Query, headers: dict[str, str], body: dict[str, Any] | None
    ) -> aiohttp.ClientResponse:
        client = self._client
        if self._connector is None or self._connector.closed:
            self._connector = aiohttp.TCPConnector(
                limit=MAX_CONNECTIONS, ssl=client.ssl_context, socket_factory=_socket
            )
            client.configuration.client_session_kwargs = {
                "connector": self._connector,
                "cookie_jar": aiohttp.DummyCookieJar(),
                "trace_configs": [_redirects_refused()],
            }
        url = f"{client.configuration.host}{path}"
        if query:
            url += "?" + "&".join(f"{name}={quote(value)}" for name, value in query)
        token = await client.configuration.get_api_key_with_prefix("BearerToken", alias="authorization")
        headers = headers | {"User-Agent": USER_AGENT} | ({"authorization": token} if token else {})
        timeout = aiohttp.ClientTimeout(total=None, connect=CONNECT)
        method = "GET" if body is None else "POST"
        found = await client.request(method, url, headers, body, _request_timeout=timeout)
        response: aiohttp.ClientResponse = found.response
        return response

    async def _reload(self) -> None:
        """Load everything again, at most once a minute. If that fails, the old client stays in use."""
        now = time.monotonic()
        if now - self._loaded < RELOAD_EVERY:
            return
        self._loaded = now
        try:
            client = await self._loader()
        except AccessError as error:
            if str(error) != self._reload_failed:
                log.warning("credentials could not be loaded again", extra=fields(problem=str(error)))
            self._reload_failed = str(error)
            return
        self._reload_failed = ""
        old, self._client = self._client, client
        await self._end(old)

    async def close(self) -> None:
        """End every connection; the next request opens a new one."""
        await self._end(self._client)

    async def _end(self, client: RESTClientObject) -> None:
        connector, self._connector = self._connector, None
        sessions, client.pool_manager = client.pool_manager, None
        if sessions is not None:
            await sessions.close()
        if connector is not None:
            await connector.close()


def _redirects_refused() -> aiohttp.TraceConfig:
    """An API server does not redirect: what does is something else, such as a captive portal or a wrong proxy."""

    async def refuse(
        _session: aiohttp.ClientSession, _context: Any, params: aiohttp.TraceRequestRedirectParams
    ) -> None:
        params.response.close()
        raise ApiError(ApiErrorKind.UNREACHABLE, f"status {params.response.status} leads elsewhere")

    trace = aiohttp.TraceConfig()
    trace.on_request_redirect.append(refuse)
    return trace


def _socket(info: Any) -> socket.socket:
    family, kind, protocol, *_ = info
    made = socket.socket(family, kind, protocol)
    try:
        for level, option, value in KEEPALIVE:
            made.setsockopt(level, option, value)
    except OSError:
        made.close()
        raise
    return made


async def _body(response: aiohttp.ClientResponse, limit: int) -> bytes:
    body = await read_body(response, limit)
    if len(body) > limit:
        raise ApiError(ApiErrorKind.MALFORMED, f"an answer of more than {limit} bytes")
    return body


async def _lines(response: aiohttp.ClientResponse, longest: float) -> AsyncGenerator[bytes, None]:
    end = asyncio.get_running_loop().time() + longest
    rest = b""  # a line whose end has not arrived
    try:
        while True:
            async with asyncio.timeout_at(end):
                part = await response.content.readany()
            if not part:
                return
            *lines, rest = (rest + part).split(b"\n")
            if len(rest) > MAX_LINE:
                raise ApiError(ApiErrorKind.MALFORMED, f"a watch line of more than {MAX_LINE} bytes")
            for line in filter(bytes.strip, lines):
                yield line
    except TimeoutError:
        detail = f"a watch that should have ended within {longest:g} s goes on"
        raise ApiError(ApiErrorKind.STREAM_IDLE, detail) from None
    except (aiohttp.ClientError, OSError) as error:
        raise ApiError(ApiErrorKind.UNREACHABLE, one_line(error)) from None
