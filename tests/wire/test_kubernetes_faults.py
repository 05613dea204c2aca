"""Every way in which the API fails, recorded or made: the last inventory stays, says how old it is, and is exact again
afterwards.
"""

from __future__ import annotations

import asyncio
import copy
import logging
from dataclasses import replace
from pathlib import Path

import pytest
from aiohttp import web

from exporter.inventory.kubernetes import client
from exporter.inventory.kubernetes import watch_state as standing
from exporter.inventory.kubernetes.source import KubernetesSource
from exporter.inventory.kubernetes.watch import WatchTimings
from exporter.inventory.kubernetes.watch_state import api_readings
from exporter.inventory.kubernetes.watched_resources import (
    FELIX,
    NODES,
    PODS,
    SERVICES,
    WatchedResource,
    watched_resources,
)
from exporter.model.cause import Role
from exporter.model.cluster.inventory import Inventory, ResourceKind
from tests.unit import recorded
from tests.wire.kubernetes_answers import forbidden
from tests.wire.kubernetes_api import Asked, KubernetesApi, serving
from tests.wire.kubernetes_lab import PATIENCE, TEMPO, breaking, following, lists, recorded_api, replay, until, watches

ERRORS = sorted(path.stem for folder in ("error",) for path in (recorded.DATA / folder).glob("*.json"))
STREAMS = sorted(
    (folder, path.stem) for folder in ("watch", "watch-old-etcd") for path in (recorded.DATA / folder).glob("*.ndjson")
)
STARTUP = sorted(path.stem for path in (recorded.DATA / "startup").glob("*.json"))
NODE_NAMES = {"anubis", "babel", "ra"}


def names(source: KubernetesSource) -> set[str]:
    return {n.name for n in source.current().nodes or ()}


def move_on(api: KubernetesApi) -> str:
    """Something happens that a client can only know by asking; the name of the node that now exists."""
    node = copy.deepcopy(recorded.listed("nodes")[0])
    node["metadata"] |= {"name": "later", "uid": "later"}
    api.put("v1", "nodes", node)
    return "later"


# Answers as recorded


@pytest.mark.parametrize("error", ERRORS)
async def test_any_recorded_error_to_a_list_is_survived(tmp_path: Path, error: str) -> None:
    api = recorded_api()
    api.answer_next(lists("nodes"), replay("error", error))
    async with serving(api) as port, following(tmp_path, port, [NODES, PODS]) as source:
        await until(lambda: names(source) == NODE_NAMES)
        assert source.current().pods


@pytest.mark.parametrize("error", ERRORS)
async def test_any_recorded_error_to_a_watch_is_survived(tmp_path: Path, error: str) -> None:
    api = recorded_api()
    async with serving(api) as port, following(tmp_path, port, [NODES]) as source:
        api.answer_next(watches("nodes"), replay("error", error))
        api.cut_streams()
        await until(lambda: not api.scripted)
        later = move_on(api)
        await until(lambda: later in names(source))


@pytest.mark.parametrize(("folder", "stream"), STREAMS)
async def test_after_any_recorded_watch_the_inventory_is_that_of_the_server(
    tmp_path: Path, folder: str, stream: str
) -> None:
    """Also after streams of other objects than the server has: their versions are refused, and everything is listed
    again.
    """
    api = recorded_api()
    resource = next(
        r for r in ("configmaps", "nodes", "pods", "ippools", "services", "nodes") if r in stream or r == "services"
    )
    read = [r for r in watched_resources(Role.CLUSTER, "ra") if r.resource in {resource, "nodes"}]
    async with serving(api) as port, following(tmp_path, port, read) as source:
        before = source.current()
        api.compact()
        api.answer_next(watches(resource), replay(folder, stream))
        api.cut_streams()
        await until(lambda: not api.scripted)
        later = move_on(api)
        await until(lambda: later in names(source))
        await until(lambda: _same(source, before))


def _same(source: KubernetesSource, before: Inventory) -> bool:
    found = source.current()
    kept = ("pods", "services", "corefile", "cni")
    undated = [tuple(replace(pool, changed=None) for pool in each.pools or ()) for each in (found, before)]
    return (
        all(getattr(found, n) == getattr(before, n) for n in kept) and undated[0] == undated[1] and not found.unreadable
    )


async def test_a_server_that_starts_up_is_waited_for(tmp_path: Path) -> None:
    api = recorded_api()
    for answer in STARTUP:
        api.answer_next(lambda asked: asked.path != "/apis", replay("startup", answer))
    read = [
        r
        for r in watched_resources(Role.CLUSTER, "ra")
        if r.kind in {ResourceKind.IP_POOLS, ResourceKind.NODES, ResourceKind.FELIX}
    ]
    async with serving(api) as port, following(tmp_path, port, read) as source:
        await until(lambda: source.current().pools and source.current().felix and names(source) == NODE_NAMES)
    refused = [a for a in api.requests if a.path.endswith("/nodes")]
    assert len(refused) < 20


# Versions and pages


async def test_a_page_that_expired_is_gone_on_from_and_the_list_made_once_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("exporter.inventory.kubernetes.watch.PAGE", 1)
    api = recorded_api()
    changed = copy.deepcopy(next(n for n in recorded.listed("nodes") if n["metadata"]["name"] == "anubis"))
    changed["metadata"]["uid"] = "changed-after-its-page-was-read"

    async def expire(request: web.BaseRequest) -> web.StreamResponse:
        api.put("v1", "nodes", changed)
        api.compact()
        return await api.handle(request)

    api.answer_next(lambda asked: lists("nodes")(asked) and "continue" in asked.query, expire)
    async with serving(api) as port, following(tmp_path, port, [NODES]) as source:
        await until(lambda: "changed-after-its-page-was-read" in {n.uid for n in source.current().nodes or ()})
        assert names(source) == NODE_NAMES
    begun = [a for a in api.requests if lists("nodes")(a) and "continue" not in a.query]
    assert len(begun) == 2


async def test_an_empty_last_page_ends_the_list(tmp_path: Path) -> None:
    api = recorded_api()
    pages = [replay("paging", f"pods-on-node-ra-page-{n}") for n in (1, 2, 3)]
    api.answer_next(lists("pods"), *pages)
    api.version = api.oldest = 1101  # that of the recorded pages
    async with serving(api) as port, following(tmp_path, port, [PODS]) as source:
        await until(lambda: source.current().pods)
        assert len(source.current().pods or ()) == 4
        assert [a.query.get("continue", "")[:4] for a in api.requests if lists("pods")(a)] == ["", "eyJ2", "eyJ2"]


async def test_a_version_from_the_future_is_noticed_after_one_silent_watch(tmp_path: Path) -> None:
    """etcd was restored from a backup: the watch is taken, and says nothing until its end."""
    api = recorded_api()
    async with serving(api) as port, following(tmp_path, port, [NODES, FELIX], timings=_quick()) as source:
        asked = len(api.requests)
        api.version = api.oldest = 500
        api.delete("v1", "nodes", "babel")
        for collection in api.collections.values():
            collection.events.clear()
            collection.reached = api.version
        api.version += 1
        api.cut_streams()
        await until(lambda: names(source) == {"anubis", "ra"})
        await until(lambda: any(_whole(a) and lists("felixconfigurations")(a) for a in api.requests[asked:]))
        later = move_on(api)
        await until(lambda: later in names(source))


def _whole(asked: Asked) -> bool:
    """Whether a list is one of everything, not of a single object."""
    return asked.query.get("limit") != "1"


async def test_a_healthy_watch_on_which_nothing_comes_for_hours_is_never_stale(tmp_path: Path) -> None:
    """A server as it is by default: after one bookmark in the first watch, none for as long as nothing happens."""
    api, now = recorded_api(bookmark_every=0.05), 1000.0
    own = replace(PODS, fields="spec.nodeName=ra", paged=False)
    read = [NODES, FELIX, own]

    def watched(reading: WatchedResource) -> int:
        return sum(a.watch for a in api.requests if a.path.endswith(reading.resource))

    async with (
        serving(api) as port,
        following(tmp_path, port, read, timings=_quick(), clock=lambda: now) as source,
    ):
        await until(lambda: all(each.opened is not None for each in source._states().values()))
        later = move_on(api)
        await until(lambda: later in names(source))
        sent, asked = api.sent, len(api.requests)
        await until(lambda: api.sent > sent)  # the bookmark
        wanted = {each: watched(each) + 3 for each in read}
        stale = []
        while any(watched(each) < wanted[each] for each in read):
            now += 600.0 if all(s.opened is not None for s in source._states().values()) else 0.0
            stale += [r.label for r, s in source._states().items() if s.stale(now)]
            await asyncio.sleep(0.01)
        assert now > 3 * 3600
        assert stale == []
        assert not source.current().stale
        assert names(source) == {*NODE_NAMES, later}
        # And it costs next to nothing: one object of what may be long; what is selected comes from the cache.
        listed = [a for a in api.requests[asked:] if not a.watch]
        assert {a.query.get("limit") for a in listed if not a.path.endswith("pods")} == {"1"}
        assert all(int(a.query["resourceVersion"]) for a in listed if a.path.endswith("pods"))


def _quick() -> WatchTimings:
    return WatchTimings(
        watch=1.0,
        slack=0.3,
        first_delay=0.02,
        longest_delay=0.1,
        first_refused=0.05,
        longest_refused=0.2,
        grace=0.5,
    )


# Connections


async def test_a_line_that_was_cut_off_is_left_out_and_the_watch_goes_on_from_the_last_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(standing, "OUTAGE", 1e6)  # however long this machine takes, there was none
    api = recorded_api()
    async with serving(api) as port, following(tmp_path, port, [NODES]) as source:
        listed = len([a for a in api.requests if lists("nodes")(a)])
        whole = (recorded.DATA / "watch" / "nodes-modified.ndjson").read_bytes()
        api.answer_next(watches("nodes"), breaking(whole[: len(whole) // 3]))
        api.cut_streams()
        await until(lambda: not api.scripted)
        later = move_on(api)
        await until(lambda: later in names(source))
        assert len([a for a in api.requests if lists("nodes")(a)]) == listed


async def test_a_killed_server_leaves_the_inventory_stale_with_its_age_until_it_is_back(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="exporter.inventory")
    api, now = recorded_api(), 1000.0

    def watched() -> bool:
        return all(each.opened is not None for each in source._states().values())

    def alone() -> bool:
        return all(each.opened is None for each in source._states().values())

    def said(message: str) -> int:
        return [r.message for r in caplog.records].count(message)

    async with serving(api) as port:
        pass
    async with following(tmp_path, port, [NODES, PODS], whole=False, clock=lambda: now) as source:
        assert not await source.wait_ready(0.1)
        assert source.current().nodes is None
        assert source.current().unread[ResourceKind.NODES] == "api_unavailable"
        assert not source.current().stale
        async with serving(api, port=port):
            await until(lambda: names(source) == NODE_NAMES and watched())
            await until(lambda: said("the API server answers again") == 1)
            now += standing.HELD
            assert not source.current().stale
        await until(alone)
        now += standing.OUTAGE
        assert not source.current().stale
        kept = source.current().synced
        now += 1
        assert source.current().stale
        assert names(source) == NODE_NAMES
        assert kept is not None
        await until(lambda: said("the API server fails; what was read last stays in use") == 2)
        api.compact()  # as every restart does
        later = move_on(api)
        assert source.current().synced == kept
        async with serving(api, port=port):
            await until(lambda: later in names(source) and watched())
            now += standing.HELD
            assert not source.current().stale
            assert (source.current().synced or 0) > kept
            await until(lambda: said("the API server answers again") == 2)
    assert said("the API server fails; what was read last stays in use") == 2


async def test_a_server_that_stands_still_is_left_when_its_watch_outlasts_its_time_and_then_stale(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "ANSWER", 2.0)
    monkeypatch.setattr(client, "CONNECT", 2.0)
    monkeypatch.setattr(standing, "OUTAGE", 0.3)
    monkeypatch.setattr(standing, "HELD", 0.05)
    api = recorded_api()
    async with serving(api) as port, following(tmp_path, port, [NODES], timings=_quick()) as source:
        await until(lambda: api.watching)
        api.stall()
        asked = len(api.requests)
        await until(lambda: source.current().stale)
        assert names(source) == NODE_NAMES
        await until(lambda: len(api.requests) > asked + 2)  # it tries again and again
        api.go_on()
        later = move_on(api)
        await until(lambda: later in names(source) and not source.current().stale)


async def test_watches_that_end_at_once_are_not_begun_in_a_loop(tmp_path: Path) -> None:
    api = recorded_api()

    async def ends(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(body=b"", content_type="application/json")

    async with serving(api) as port, following(tmp_path, port, [NODES]):
        api.answer_next(watches("nodes"), *[ends] * 10)
        before = len(api.requests)
        api.cut_streams()
        await until(lambda: not api.scripted)
        assert len(api.requests) - before <= 12


async def test_one_kind_that_always_fails_keeps_no_other_from_being_read(tmp_path: Path) -> None:
    api = recorded_api()
    api.answer_next(lists("services"), *[replay("error", "429-priority-and-fairness")] * 500)
    async with serving(api) as port, following(tmp_path, port, [NODES, SERVICES], whole=False) as source:
        assert await source.wait_ready(PATIENCE)
        await until(lambda: names(source) == NODE_NAMES)
        found = source.current()
        assert found.services is None
        assert found.unread[ResourceKind.SERVICES] == "api_unavailable"
        assert not found.stale


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'"x"',
        b"null",
        b'{"items":[]}',
        b'{"metadata":{"resourceVersion":"0"},"items":null}',
        b"\xff\xfe",
        b"[" * 100_000,
    ],
)
async def test_a_list_that_is_none_is_asked_for_again(tmp_path: Path, body: bytes) -> None:
    api = recorded_api()

    async def bad(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(body=body, content_type="application/json")

    api.answer_next(lists("nodes"), bad, bad)
    async with serving(api) as port, following(tmp_path, port, [NODES]) as source:
        await until(lambda: names(source) == NODE_NAMES)


@pytest.mark.parametrize(
    "line",
    [
        b"{}", b"[]", b"null", b"1", b'{"type":"ADDED"}', b'{"type":"ADDED","object":[]}',
        b'{"type":"LATER","object":{}}',
        b'{"type":"ADDED","object":{"metadata":null}}', b'{"type":"DELETED","object":{"metadata":{"name":7}}}',
        b'{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":{}}}}', b'{"type":"ERROR","object":null}',
        b'{"type":"ERROR","object":{"code":"x","details":{"causes":[1]}}}', b'{"type":[],"object":{}}', b"[" * 100_000,
    ],
)  # fmt: skip
async def test_a_watch_line_of_any_shape_is_survived(tmp_path: Path, line: bytes) -> None:
    api = recorded_api()
    async with serving(api) as port, following(tmp_path, port, [NODES]) as source:
        api.answer_next(watches("nodes"), breaking(line + b"\n"))
        api.cut_streams()
        await until(lambda: not api.scripted)
        later = move_on(api)
        await until(lambda: later in names(source))


# Refusals


async def test_a_refused_kind_is_said_once_and_read_as_soon_as_it_is_granted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="exporter.inventory")
    api = recorded_api()
    granted = False
    api.allowed = lambda *asked: granted or asked[1] != "services"
    async with serving(api) as port, following(tmp_path, port) as source:
        found = source.current()
        assert found.services is None
        assert found.unread[ResourceKind.SERVICES] == "no_permission"
        assert [(r.reader, r.reason) for r in api_readings(found) if not r.success] == [
            ("api_services", "no_permission")
        ]
        assert found.nodes
        refused = len([a for a in api.requests if lists("services")(a)])
        await until(lambda: len([a for a in api.requests if lists("services")(a)]) >= refused + 3)
        await until(lambda: "no permission to read" in [r.message for r in caplog.records])
        assert [r.message for r in caplog.records].count("no permission to read") == 1
        assert not source.current().stale
        granted = True
        await until(lambda: source.current().services)
        assert ResourceKind.SERVICES not in source.current().unread


async def test_a_right_to_list_without_one_to_watch_is_no_right(tmp_path: Path) -> None:
    api = recorded_api()
    api.allowed = lambda *asked: (asked[1], asked[3]) != ("pods", "watch")
    async with serving(api) as port, following(tmp_path, port, [PODS, NODES]) as source:
        await until(lambda: source.current().unread.get(ResourceKind.PODS) == "no_permission")
        assert source.current().pods is None
        assert names(source) == NODE_NAMES


async def test_a_refusal_that_passes_drops_nothing_and_one_that_stays_does(tmp_path: Path) -> None:
    """API servers refuse what they allow while they start up: their rules are not loaded yet."""
    api, now = recorded_api(), 1000.0
    async with serving(api) as port, following(tmp_path, port, [NODES], clock=lambda: now) as source:
        refusal = forbidden("watch", "nodes", "")

        async def refuse(request: web.BaseRequest) -> web.StreamResponse:
            return web.Response(status=403, body=refusal.body, content_type="application/json")

        api.answer_next(watches("nodes"), refuse, refuse)
        api.cut_streams()
        await until(lambda: not api.scripted)
        assert names(source) == NODE_NAMES
        await until(lambda: api.watching)
        assert names(source) == NODE_NAMES
        api.allowed = lambda *_: False
        api.cut_streams()
        asked = len(api.requests)
        await until(lambda: len(api.requests) > asked + 2)
        assert names(source) == NODE_NAMES
        now += TEMPO.grace
        await until(lambda: source.current().nodes is None)
        assert source.current().unread[ResourceKind.NODES] == "no_permission"


async def test_where_even_discovery_is_refused_everything_is_asked_for(tmp_path: Path) -> None:
    api = recorded_api()
    for _ in range(1000):
        api.answer_next(lambda asked: asked.path == "/apis", replay("error", "403-nonexistent-path-anonymous"))
    async with serving(api) as port, following(tmp_path, port) as source:
        await until(lambda: source.current().pools)
        assert source.current().endpoint_slices


async def test_a_group_that_vanishes_is_looked_for_twice_before_its_objects_are_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("exporter.inventory.kubernetes.resource_locator.DISCOVER_EVERY", 0.05)
    monkeypatch.setattr("exporter.inventory.kubernetes.resource_locator.CONFIRM_AFTER", 0.05)
    api = recorded_api()
    async with serving(api) as port, following(tmp_path, port) as source:
        discoveries = len([a for a in api.requests if a.path == "/apis"])
        api.collections = {key: value for key, value in api.collections.items() if "calico" not in key[0]}
        await until(lambda: source.current().pools is None)
        assert source.current().unread[ResourceKind.IP_POOLS] == "not_applicable"
        assert len([a for a in api.requests if a.path == "/apis"]) >= discoveries + 2
        assert source.current().nodes
