"""Events written to an API server that checks them as a real one does, and what becomes of those that it refuses."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import pytest

from exporter.report.events import cause_events
from tests.unit.sample import bad_day
from tests.wire.kubernetes_api import KubernetesApi, serving
from tests.wire.kubernetes_lab import following, recorded_api, until

DAY = bad_day()
EVENTS = [*cause_events(None, DAY)]
ENDS = [*cause_events(DAY, replace(DAY, causes=(), checked=frozenset(item.finding.cause for item in DAY.causes)))]


def roles(*, may_create: bool, api: KubernetesApi) -> None:
    api.allowed = lambda _group, _resource, _name, verb, _namespace: may_create or verb != "create"


async def test_what_begins_and_ends_becomes_events_that_a_server_accepts(tmp_path: Path) -> None:
    api = recorded_api()
    async with serving(api) as port, following(tmp_path, port) as source:
        writer = source.event_writer()
        writer.offer([*EVENTS, *ENDS])
        await until(lambda: writer.outcomes.total() == len(EVENTS) + len(ENDS), "an answer to each")
    assert writer.outcomes == {"sent": len(EVENTS) + len(ENDS)}
    assert api.events == [*EVENTS, *ENDS]
    assert {event["action"] for event in api.events} == {"Found", "Ended"}


async def test_a_refusal_is_told_once_and_counted_and_the_next_one_is_tried(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    api = recorded_api()
    roles(may_create=False, api=api)
    async with serving(api) as port, following(tmp_path, port) as source:
        writer = source.event_writer()
        with caplog.at_level(logging.WARNING, "exporter.inventory.event_writer"):
            writer.offer(EVENTS)
            await until(lambda: writer.outcomes["failed"] == len(EVENTS), "a refusal of each")
        told = [record for record in caplog.records if record.message == "an event could not be created"]
        assert len(told) == 1
        assert "forbidden" in str(vars(told[0])["fields"]["problem"])
        roles(may_create=True, api=api)
        writer.offer(EVENTS)
        await until(lambda: len(api.events) == len(EVENTS), "all of them")
        assert source.current().nodes, "the inventory does not suffer"


async def test_a_server_that_is_silent_holds_up_neither_rounds_nor_more_than_a_few_events(tmp_path: Path) -> None:
    api = recorded_api()
    async with serving(api) as port, following(tmp_path, port) as source:
        api.stall()
        writer = source.event_writer()
        for _ in range(5):
            writer.offer(EVENTS)
        assert writer.outcomes["dropped"] >= 5 * len(EVENTS) - 10
        api.go_on()
        await until(lambda: writer.outcomes.total() == 5 * len(EVENTS), "an answer to the others")


async def test_the_server_of_these_tests_refuses_what_a_real_one_refuses(tmp_path: Path) -> None:
    wrong = (
        {"note": "x" * 1025}, {"eventTime": "2026-11-30T10:00:00Z"}, {"reportingController": ""}, {"action": ""},
        {"reportingInstance": "x" * 129}, {"type": "Info"}, {"message": "deprecated"}, {"reason": "x" * 129},
    )  # fmt: skip
    api = recorded_api()
    async with serving(api) as port, following(tmp_path, port) as source:
        writer = source.event_writer()
        writer.offer([{**EVENTS[0], **change} for change in wrong])
        await until(lambda: writer.outcomes["failed"] == len(wrong), "a refusal of each")
    assert api.events == []
