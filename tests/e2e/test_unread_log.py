"""A daemon whose log nobody reads (a stuck runtime, a full disk behind it) goes on working and says what it lost."""

from __future__ import annotations

import fcntl
import os

import pytest

from tests.e2e.daemon import Daemon

pytestmark = pytest.mark.attack

LINES = 1200  # of 1 KiB each: more than the pipe and the queue take


def test_an_unread_log_pipe_stops_nothing() -> None:
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    shell = ("sh", "-c", f'exec "$@" 2>/proc/{os.getpid()}/fd/{writer}', "sh")
    try:
        with Daemon("round: {interval: 3600s}\n", "--role=cluster", prefix=shell) as daemon:
            daemon.wait(lambda: daemon.get("/-/healthy")[0] == 200, "an answer")
            for _ in range(LINES):  # each is logged at debug level, with its path
                assert daemon.get("/" + "x" * 1000)[0] == 404
            assert daemon.series()["dualstack_exporter_log_lines_dropped_total"] > 0
            assert daemon.series()["dualstack_exporter_event_loop_lag_seconds"] >= 0
    finally:
        os.close(reader)
        os.close(writer)
