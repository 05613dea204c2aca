"""An API server, or what stands in its place, that is hostile or broken: bounded work, no other place is asked, and the
truth afterwards.
"""

from __future__ import annotations

import asyncio
import copy
import gzip
import json
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from aiohttp import web

from exporter.inventory.kubernetes import client
from exporter.inventory.kubernetes import watch as watching
from exporter.inventory.kubernetes.api_error import ApiError, ApiErrorKind
from exporter.inventory.kubernetes.client import ApiServer
from exporter.inventory.kubernetes.credentials import load_kubeconfig
from exporter.inventory.kubernetes.watched_resources import NODES, PODS
from tests.unit import recorded
from tests.wire.kubernetes_api import serving
from tests.wire.kubernetes_lab import (
    PATIENCE,
    following,
    lists,
    recorded_api,
    until,
    watches,
    write_kubeconfig,
)
from tests.wire.test_kubernetes_faults import NODE_NAMES, move_on, names

pytestmark = pytest.mark.attack

Reply = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


def answering(body: bytes, status: int = 200, **headers: str) -> Reply:
    async def reply(request: web.BaseRequest) -> web.StreamResponse:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return web.Response(status=status, body=body, headers={"Content-Type": "application/json"} | named)

    return reply


async def asked_once(directory: Path, port: int) -> ApiError:
    """The trouble that one request ends with."""
    path = str(write_kubeconfig(directory, f"http://127.0.0.1:{port}"))
    server = ApiServer(await load_kubeconfig(path), lambda: load_kubeconfig(path))
    try:
        with pytest.raises(ApiError) as failed:
            await server.get("/api/v1/nodes")
    finally:
        await server.close()
    return failed.value


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_nobody_is_led_elsewhere(tmp_path: Path, status: int) -> None:
    other, api = recorded_api(), recorded_api()
    async with serving(other) as there, serving(api) as port:
        lead = answering(b"", status, Location=f"http://127.0.0.1:{there}/api/v1/nodes")
        api.answer_next(lists("nodes"), lead, lead)
        api.answer_next(watches("nodes"), lead)
        async with following(tmp_path, port, [NODES]) as source:
            await until(lambda: names(source) == NODE_NAMES and not api.scripted)
            later = move_on(api)
            await until(lambda: later in names(source))
        api.answer_next(lists("nodes"), lead)
        assert (await asked_once(tmp_path, port)).kind is ApiErrorKind.UNREACHABLE
    assert other.requests == []


BOMB = gzip.compress(b" " * (64 << 20))  # a thousand to one


@pytest.mark.parametrize(("status", "kind"), [(200, ApiErrorKind.MALFORMED), (500, ApiErrorKind.MALFORMED)])
async def test_an_answer_that_unpacks_to_more_than_it_may_be_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int, kind: ApiErrorKind
) -> None:
    monkeypatch.setattr(client, "MAX_BODY", 4 << 20)
    api = recorded_api()
    api.answer_next(lists("nodes"), answering(BOMB, status, Content_Encoding="gzip"))
    async with serving(api) as port:
        assert (await asked_once(tmp_path, port)).kind is kind


@pytest.mark.parametrize("packed", [True, False])
async def test_a_watch_line_without_an_end_is_left_and_the_inventory_is_exact_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, packed: bool
) -> None:
    monkeypatch.setattr(client, "MAX_LINE", 1 << 20)
    api = recorded_api()
    line = b'{"type":"ADDED","object":{"metadata":{"name":"' + b"x" * (4 << 20)
    headers = {"Content_Encoding": "gzip" if packed else "identity"}
    async with serving(api) as port, following(tmp_path, port, [NODES]) as source:
        api.answer_next(watches("nodes"), answering(gzip.compress(line) if packed else line, 200, **headers))
        api.cut_streams()
        await until(lambda: not api.scripted)
        later = move_on(api)
        await until(lambda: names(source) == NODE_NAMES | {later})


async def test_a_long_line_is_put_together_from_its_parts(tmp_path: Path) -> None:
    """Longer than any buffer of the client's: an object may have 1.5 MB."""
    api = recorded_api()
    async with serving(api) as port, following(tmp_path, port, [NODES]) as source:
        node = copy.deepcopy(recorded.listed("nodes")[0])
        node["metadata"] |= {"name": "heavy", "uid": "heavy"}
        node["metadata"]["annotations"] = {"big": "x" * (3 << 20)}
        api.put("v1", "nodes", node)
        later = move_on(api)
        await until(lambda: names(source) == NODE_NAMES | {"heavy", later})


async def test_an_answer_that_trickles_for_ever_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "ANSWER", 2.0)
    api = recorded_api()
    ended = asyncio.Event()

    async def trickle(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        try:
            while True:
                await response.write(b" ")
                await asyncio.sleep(0.05)
        except ConnectionError:
            return response
        finally:
            ended.set()

    api.answer_next(lists("nodes"), trickle)
    async with serving(api) as port:
        assert (await asked_once(tmp_path, port)).kind is ApiErrorKind.STREAM_IDLE
        async with asyncio.timeout(PATIENCE):
            await ended.wait()


async def test_pages_without_an_end_are_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "MAX_PAGES", 5)
    api = recorded_api()
    page = json.dumps({"metadata": {"resourceVersion": "1001", "continue": "more"}, "items": []}).encode()
    api.answer_next(lists("nodes"), *[answering(page)] * 5)
    async with serving(api) as port, following(tmp_path, port, [NODES]) as source:
        assert names(source) == NODE_NAMES
    assert not api.scripted


@pytest.mark.parametrize("code", [410, 429, 500, 503, 504])
async def test_an_error_inside_a_stream_of_any_code_is_survived(tmp_path: Path, code: int) -> None:
    status = {"kind": "Status", "code": code, "reason": "x", "details": {"retryAfterSeconds": 0}, "message": "no"}
    api = recorded_api()
    async with serving(api) as port, following(tmp_path, port, [NODES]) as source:
        for line in ({"type": "ERROR", "object": status}, status):
            api.answer_next(watches("nodes"), answering(json.dumps(line).encode() + b"\n"))
            api.cut_streams()
            await until(lambda: not api.scripted)
        later = move_on(api)
        await until(lambda: later in names(source))


async def test_an_object_that_is_deleted_while_the_list_is_read_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "PAGE", 1)
    api = recorded_api()

    async def delete(request: web.BaseRequest) -> web.StreamResponse:
        api.delete("v1", "nodes", "anubis")  # its page was read already
        api.delete("v1", "nodes", "ra")  # its page was not
        return await api.handle(request)

    api.answer_next(lambda asked: lists("nodes")(asked) and "continue" in asked.query, delete)
    async with serving(api) as port, following(tmp_path, port, [NODES]) as source:
        await until(lambda: names(source) == {"babel"})


async def test_one_kind_with_hostile_answers_leaves_the_others_and_is_told(tmp_path: Path) -> None:
    api = recorded_api()
    page = json.dumps(
        {
            "metadata": {"resourceVersion": "1001"},
            "items": [
                None, 7, [], {"metadata": None}, {"metadata": {"name": "a/../b"}}, {"metadata": {"name": "x" * 10_000}},
                {"metadata": {"name": "odd", "namespace": "d", "labels": [], "annotations": 7}, "spec": 1,
                    "status": {"podIPs": {"a": 1}}},
                {"metadata": {"name": "mapped", "namespace": "d"},
                    "status": {"podIPs": [{"ip": "::ffff:10.0.0.1"}, {"ip": None}, None]}},
            ],
        }
    ).encode()  # fmt: skip
    # On a busy machine a list may miss its deadline: its repetition meets the same answer.
    api.answer_next(lists("pods"), *[answering(page)] * 20)
    async with serving(api) as port, following(tmp_path, port, [NODES, PODS]) as source:
        assert names(source) == NODE_NAMES
        assert {pod.name for pod in source.current().pods or ()} <= {"odd", "mapped"}
