"""How long a reading waits after each kind of failure: longer and longer, never all nodes at one moment, as long as the
server asks.
"""

from __future__ import annotations

from typing import cast

import pytest

from exporter.inventory.kubernetes.api_error import (
    MAX_RETRY_AFTER,
    ApiError,
    ApiErrorKind,
    error_of_answer,
    error_of_status,
)
from exporter.inventory.kubernetes.client import ApiServer
from exporter.inventory.kubernetes.store import ObjectStore
from exporter.inventory.kubernetes.watch import Watcher, WatchTimings
from exporter.inventory.kubernetes.watched_resources import NODES

TEMPO = WatchTimings()


def watcher() -> Watcher:
    return Watcher(
        watched=NODES,
        api=cast("ApiServer", None),
        store=ObjectStore(),
        timings=TEMPO,
        clock=lambda: 1000.0,
        report=lambda: None,
    )


def delays(error: ApiError, times: int) -> list[float]:
    """The waits after so many failures running."""
    failing = watcher()
    return [failing._delay(error) for _ in range(times)]


@pytest.mark.parametrize(
    "kind",
    [
        ApiErrorKind.UNREACHABLE,
        ApiErrorKind.STREAM_IDLE,
        ApiErrorKind.SERVER,
        ApiErrorKind.MALFORMED,
        ApiErrorKind.UNAUTHORIZED,
    ],
)
def test_waits_double_up_to_half_a_minute_with_jitter(kind: ApiErrorKind) -> None:
    found = [delays(ApiError(kind, ""), 8) for _ in range(40)]
    for failures, least in enumerate((1, 2, 4, 8, 16, 30, 30, 30)):
        waits = [each[failures] for each in found]
        assert all(least <= wait <= least * 1.3 for wait in waits)
        assert max(waits) - min(waits) > 0.05 * least


def test_what_is_refused_is_asked_for_seldom() -> None:
    for kind in (ApiErrorKind.FORBIDDEN, ApiErrorKind.NOT_FOUND):
        found = delays(ApiError(kind, ""), 8)
        for wait, least in zip(found, (10, 20, 40, 80, 160, 300, 300, 300), strict=True):
            assert least <= wait <= least * 1.3


def test_an_expired_version_is_asked_for_anew_at_once_by_some_and_soon_by_all() -> None:
    found = [delays(ApiError(ApiErrorKind.EXPIRED, ""), 6) for _ in range(200)]
    first = [each[0] for each in found]
    assert min(first) < 0.5
    assert 2.5 < max(first) <= 3
    assert all(max(each) <= TEMPO.longest_delay for each in found)
    assert max(each[5] for each in found) > 15  # a server that always says so is not asked in a loop


@pytest.mark.parametrize("asked", [7, 60, 10_000, -5])
def test_a_server_that_asks_for_a_pause_gets_it_within_reason_in_an_answer_and_in_a_stream(asked: int) -> None:
    body = b'{"kind":"Status","code":429,"message":"slow down"}'
    status = {"kind": "Status", "code": 429, "details": {"retryAfterSeconds": asked}}
    for error in (error_of_answer(429, {"Retry-After": str(asked)}, body), error_of_status(status)):
        assert error.kind is ApiErrorKind.THROTTLED
        least = min(max(asked, 1), MAX_RETRY_AFTER)
        (wait,) = delays(error, 1)
        assert least <= wait <= least * 1.3
