"""A fake Kubernetes API server that speaks real HTTP and behaves as the recorded one (tests/data/kubernetes).

Lists in pages whose tokens expire, watches with bookmarks, 410 in all its forms, refusals by RBAC before routing,
absent groups as plain text, PartialObjectMetadata, aggregated discovery. What it should do wrong is scripted: an answer
to the next request that matches, a stream cut within a line, silence. Runs inside a test's loop (`serving`) or as a
process of its own (`python -m tests.wire.kubernetes_api`).
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import copy
import json
import re
import ssl
import zlib
from bisect import bisect_right
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

from aiohttp import web

from tests.wire.kubernetes_answers import expired_page, expired_watch, forbidden, not_found, status, token_of, too_new
from tests.wire.kubernetes_events import problems
from tests.wire.kubernetes_objects import Collection, Stored, selector, shown, terms, version_of

PARTIAL = "as=PartialObjectMetadata"
AGGREGATED = "apidiscovery.k8s.io"
VERBS = ["delete", "deletecollection", "get", "list", "patch", "create", "update", "watch"]
EMPTY_BOOKMARKS: dict[str, dict[str, Any]] = {
    "pods": {"spec": {"containers": None}, "status": {}},
    "nodes": {
        "spec": {},
        "status": {"daemonEndpoints": {"kubeletEndpoint": {"Port": 0}}, "nodeInfo": {"machineID": ""}},
    },
}
SINGULAR = {"networkpolicies": "NetworkPolicy", "namespaces": "Namespace"}
_PATH = re.compile(
    r"/(?:api/(?P<core>v1)|apis/(?P<place>[^/]+/[^/]+))(?:/namespaces/(?P<namespace>[^/]+))?/(?P<resource>[a-z]+)$"
)


@dataclass(frozen=True)
class Asked:
    """One request, as the server saw it."""

    path: str
    query: Mapping[str, str]
    accept: str
    token: str

    @property
    def watch(self) -> bool:
        return self.query.get("watch") == "true"


Reply = Callable[[web.BaseRequest], Any]


class KubernetesApi:
    """The server's state and its faults. `allowed`: (group, resource, name, verb, namespace) that the token may; None:
    everything.

    Bookmarks are those of a real server: due every minute (here `bookmark_every`), and sent only where the server's
    cache of that resource has passed the version that the watch began at. A cache moves with the events of its own
    resource. Where nothing happens to it, it moves with etcd's progress notifications alone (`progress`), which come
    every ten minutes by default and in some distributions never. A list with a resourceVersion comes from that cache,
    and one of a version that the cache has not reached is refused.
    """

    def __init__(self, *, bookmark_every: float = 0.2, progress: bool = False) -> None:
        self.version = 1000
        self.oldest = 1000
        self.collections: dict[tuple[str, str], Collection] = {}
        self.requests: list[Asked] = []
        self.events: list[dict[str, Any]] = []  # that were created
        self.sent = 0
        self.unchanged = 0  # discoveries answered by 304
        self.bookmark_every = bookmark_every
        self.progress = progress
        self.allowed: Callable[[str, str, str, str, str], bool] | None = None
        self.tokens: set[str] | None = None
        self.scripted: list[tuple[Callable[[Asked], bool], Reply]] = []
        self.arrived = asyncio.Event()
        self.aggregated = True
        self._running = asyncio.Event()
        self._running.set()
        self._streams: set[asyncio.Task[Any]] = set()

    # Its objects

    def add_kind(self, place: str, resource: str, kind: str = "") -> Collection:
        """Serve a resource, empty at first. `place` is GROUP/VERSION, v1 for the core group."""
        kind = kind or SINGULAR.get(resource, resource.removesuffix("s").title())
        return self.collections.setdefault((place, resource), Collection(kind))

    def put(self, place: str, resource: str, source: dict[str, Any]) -> None:
        """Create or change an object; its resourceVersion is set."""
        collection = self.add_kind(place, resource, source.get("kind", ""))
        self.version += 1
        metadata = source.setdefault("metadata", {})
        metadata["resourceVersion"] = str(self.version)
        stored = Stored(
            namespace=metadata.get("namespace", ""),
            name=metadata["name"],
            version=self.version,
            raw=json.dumps(source, separators=(",", ":")).encode(),
            node=(source.get("spec") or {}).get("nodeName", ""),
            labels=metadata.get("labels") or {},
            typed="kind" in source,
        )
        change = "MODIFIED" if stored.key in collection.objects else "ADDED"
        collection.order = collection.order if change == "MODIFIED" else []
        collection.objects[stored.key] = stored
        self._happened(collection, change, stored)

    def delete(self, place: str, resource: str, key: str) -> None:
        collection = self.collections[place, resource]
        gone = collection.objects.pop(key)
        collection.order = []
        self.version += 1
        source = json.loads(gone.raw)
        source["metadata"]["resourceVersion"] = str(self.version)
        raw = json.dumps(source, separators=(",", ":")).encode()
        self._happened(collection, "DELETED", replace(gone, version=self.version, raw=raw))

    @staticmethod
    def _happened(collection: Collection, change: str, stored: Stored) -> None:
        collection.events.append((stored.version, change, stored))
        collection.reached = stored.version
        collection.changed.set()
        collection.changed = asyncio.Event()

    def compact(self) -> None:
        """Forget what happened up to now, as etcd's compaction and every restart of the API server do."""
        self.version += 1
        self.oldest = self.version
        for collection in self.collections.values():
            collection.events.clear()
            collection.reached = self.version  # caches are read anew

    # Its faults

    def answer_next(self, matches: Callable[[Asked], bool], *replies: Reply) -> None:
        """Give these answers, one each, to the next requests that match."""
        self.scripted += [(matches, reply) for reply in replies]

    def stall(self) -> None:
        """Stop doing anything: connections stay open, nothing is answered or sent."""
        self._running.clear()

    def go_on(self) -> None:
        self._running.set()

    def cut_streams(self) -> None:
        """Break every open watch."""
        for task in self._streams:
            task.cancel()

    @property
    def watching(self) -> int:
        """How many watches are open."""
        return len(self._streams)

    # HTTP

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        asked = Asked(
            request.path,
            dict(request.query),
            request.headers.get("Accept", ""),
            request.headers.get("Authorization", "").partition(" ")[2],
        )
        self.requests.append(asked)
        self.arrived.set()
        self.arrived = asyncio.Event()
        await self._running.wait()
        for index, (matches, reply) in enumerate(self.scripted):
            if matches(asked):
                del self.scripted[index]
                response: web.StreamResponse = await reply(request)
                return response
        if self.tokens is not None and asked.token not in self.tokens:
            return status(401, "Unauthorized", "Unauthorized")
        if request.method == "POST":
            return await self._create(request, asked)
        if asked.path == "/apis":
            return self._groups(request, asked)
        if asked.path == "/version":
            return web.json_response({"major": "1", "minor": "36", "gitVersion": "v1.36.2"})
        return await self._resource(request, asked)

    def _groups(self, request: web.BaseRequest, asked: Asked) -> web.Response:
        groups: dict[str, dict[str, list[str]]] = {}
        for place, resource in self.collections:
            if place != "v1":
                group, _, version = place.rpartition("/")
                groups.setdefault(group, {}).setdefault(version, []).append(resource)
        if not self.aggregated or AGGREGATED not in asked.accept:
            listed = [
                {"name": g, "versions": [{"groupVersion": f"{g}/{v}", "version": v} for v in versions]}
                for g, versions in groups.items()
            ]
            return web.json_response({"kind": "APIGroupList", "apiVersion": "v1", "groups": listed})
        found = [
            {
                "metadata": {"name": g},
                "versions": [
                    {
                        "version": v,
                        "freshness": "Current",
                        "resources": [{"resource": r, "verbs": VERBS} for r in resources],
                    }
                    for v, resources in versions.items()
                ],
            }
            for g, versions in groups.items()
        ]
        body = {"kind": "APIGroupDiscoveryList", "apiVersion": "apidiscovery.k8s.io/v2", "metadata": {}, "items": found}
        etag = f'"{zlib.crc32(json.dumps(body).encode()):08X}"'  # of what is served, as a real server makes it
        if request.headers.get("If-None-Match") == etag:
            self.unchanged += 1
            return web.Response(status=304, headers={"Etag": etag})
        return web.json_response(body, headers={"Etag": etag})

    async def _create(self, request: web.BaseRequest, asked: Asked) -> web.Response:
        """An Event, with the checks of a real server."""
        match = _PATH.fullmatch(asked.path)
        if match is None or (match["place"], match["resource"]) != ("events.k8s.io/v1", "events"):
            return not_found()
        namespace = match["namespace"] or ""
        if self.allowed is not None and not self.allowed("events.k8s.io", "events", "", "create", namespace):
            return forbidden("create", "events", "events.k8s.io")
        if request.content_type != "application/json":
            return status(415, "UnsupportedMediaType", request.content_type)
        event = await request.json()
        wrong = [*problems(event, namespace)]
        if wrong:
            return status(422, "Invalid", f"Event is invalid: {wrong}")
        if any(each["metadata"]["name"] == event["metadata"]["name"] for each in self.events):
            return status(409, "AlreadyExists", f"events {event['metadata']['name']!r} already exists")
        self.events.append(event)
        self.put("events.k8s.io/v1", "events", copy.deepcopy(event))
        return web.json_response(event, status=201)

    async def _resource(self, request: web.BaseRequest, asked: Asked) -> web.StreamResponse:
        match = _PATH.fullmatch(asked.path)
        if match is None:
            named = [resource for place, resource in self.collections if asked.path == f"/apis/{place}"]
            listed = [{"name": resource, "verbs": VERBS} for resource in named]
            return web.json_response({"kind": "APIResourceList", "resources": listed}) if named else not_found()
        place, resource = match["core"] or match["place"], match["resource"]
        namespace = match["namespace"] or ""
        selects = selector(asked.query, namespace)
        if self.allowed is not None:
            name = dict(terms(asked.query.get("fieldSelector", ""))).get("metadata.name", "")
            group, verb = place.rpartition("/")[0], "watch" if asked.watch else "list"
            if not self.allowed(group, resource, name, verb, namespace):
                return forbidden(verb, resource, group)
        collection = self.collections.get((place, resource))
        if collection is None:
            return not_found()
        if asked.watch:
            return await self._watch(request, collection, selects, resource)
        return await self._list(asked, collection, selects)

    async def _list(self, asked: Asked, collection: Collection, selects: Callable[[Stored], bool]) -> web.Response:
        query = asked.query
        at_least, limit, start, version = query.get("resourceVersion", ""), 0, "", self.version
        if at_least:
            version = self._reached(collection)
            if int(at_least) > version:
                return too_new(int(at_least), version)
        if not at_least:  # with a resourceVersion, limit is ignored
            limit = int(query.get("limit", 0))
        if "continue" in query:
            try:
                token = json.loads(base64.urlsafe_b64decode(query["continue"]))
            except (binascii.Error, ValueError):
                return status(400, "BadRequest", "invalid continue token: continue key is not valid")
            start = token["start"]
            if 0 <= token["rv"] < self.oldest:
                return expired_page(token_of(-1, start))
            version = token["rv"] if token["rv"] >= 0 else self.version
        keys = collection.keys(start, selects, limit)
        more = limit and len(keys) > limit
        keys = keys[:limit] if limit else keys
        metadata: dict[str, Any] = {"resourceVersion": str(version)}
        if more:
            metadata |= {"continue": token_of(version, keys[-1])}
        partial = PARTIAL in asked.accept
        raws = [shown(collection.objects[k], partial=partial) for k in keys]
        kind = "PartialObjectMetadataList" if partial else f"{collection.kind}List"
        head = json.dumps({"kind": kind, "apiVersion": "v1", "metadata": metadata})[:-1].encode()
        body = b'%s,"items":[%s]}' % (head, b",".join(raws))
        self.sent += len(body)
        response = web.Response(body=body, content_type="application/json")
        if len(body) > 128 << 10:  # as the API server does
            response.enable_compression()
        return response

    def _reached(self, collection: Collection) -> int:
        """The version of the cache of that resource."""
        return self.version if self.progress else max(collection.reached, self.oldest)

    async def _watch(
        self, request: web.BaseRequest, collection: Collection, selects: Callable[[Stored], bool], resource: str
    ) -> web.StreamResponse:
        text = request.query.get("resourceVersion", "")
        if text and not text.isdigit():
            return status(
                500,
                "",
                f'resourceVersion: Invalid value: "{text}": strconv.ParseUint: parsing "{text}": invalid syntax',
            )
        since = int(text or 0)
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        response.enable_chunked_encoding()
        task = asyncio.current_task()
        assert task is not None
        self._streams.add(task)
        try:
            await response.prepare(request)
            if since < self.oldest:
                await self._send(response, expired_watch(since, self.oldest))
            else:
                await self._follow(request, response, collection, selects, resource, since)
            await response.write_eof()
        except ConnectionError:
            pass  # the client left
        except asyncio.CancelledError:
            if request.transport is not None:
                request.transport.abort()
            raise
        finally:
            self._streams.discard(task)
        return response

    async def _follow(
        self,
        request: web.BaseRequest,
        response: web.StreamResponse,
        collection: Collection,
        selects: Callable[[Stored], bool],
        resource: str,
        since: int,
    ) -> None:
        loop = asyncio.get_running_loop()
        partial = PARTIAL in request.headers.get("Accept", "")
        end = loop.time() + float(request.query.get("timeoutSeconds", 1800))
        bookmark = loop.time() + self.bookmark_every
        bookmarks = request.query.get("allowWatchBookmarks") == "true"
        first = since
        while loop.time() < end:
            changed = collection.changed
            for version, change, stored in collection.events[bisect_right(collection.events, since, key=version_of) :]:
                since = version
                if selects(stored):
                    raw = shown(stored, partial=partial, kind=collection.kind)
                    await self._send(response, b'{"type":"%s","object":%s}\n' % (change.encode(), raw))
            if bookmarks and loop.time() >= bookmark:
                bookmark = loop.time() + self.bookmark_every
                reached = self._reached(collection)
                if reached <= first:
                    continue
                empty = {
                    "kind": collection.kind,
                    "apiVersion": "v1",
                    "metadata": {"resourceVersion": str(reached)},
                }
                line = json.dumps({"type": "BOOKMARK", "object": empty | EMPTY_BOOKMARKS.get(resource, {})})
                await self._send(response, line.encode() + b"\n")
            try:
                async with asyncio.timeout(max(0.0, min(end, bookmark if bookmarks else end) - loop.time())):
                    await changed.wait()
            except TimeoutError:
                continue

    async def _send(self, response: web.StreamResponse, line: bytes) -> None:
        await self._running.wait()
        self.sent += len(line)
        await response.write(line)


@asynccontextmanager
async def serving(api: KubernetesApi, *, port: int = 0, context: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """The port on 127.0.0.1 where the server answers; leaving breaks all its connections."""
    # A watch ends with its client, as at a real server, though nothing is sent that would show that it left.
    server = web.Server(api.handle, handler_cancellation=True)
    runner = web.ServerRunner(server, handle_signals=False, shutdown_timeout=0.0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port, ssl_context=context, reuse_address=True)
    await site.start()
    try:
        yield int(runner.addresses[0][1])
    finally:
        api.cut_streams()
        await runner.cleanup()
