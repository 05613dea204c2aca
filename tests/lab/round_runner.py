"""Runs rounds on demand inside a lab node: one line in ("round"), one JSON report out. Ends with its input.

    ip netns exec NODE python -m tests.lab.round_runner CONFIG INVENTORY

The parts are the daemon's own; only the pace is the caller's, so that a test counts rounds instead of waiting for them.
"""

from __future__ import annotations

import asyncio
import json
import sys

from exporter.assembly import build_rounds
from exporter.broker.client import BrokerClient, spawn_broker
from exporter.config import Config, load_config_file
from exporter.discovery.file import load_file
from exporter.errors import Errors
from exporter.report.document import document_of, encode
from exporter.rounds import Pace

PACE = Pace(interval=30.0, timeout=4.0, whole=1.5, spread=0.0, bounded=False)


async def serve(config: Config, inventory: str) -> None:
    connection, child = spawn_broker()
    broker = await BrokerClient.from_socket(connection)
    errors = Errors()
    rounds = build_rounds(config, PACE, broker, errors)
    loop = asyncio.get_running_loop()
    while await loop.run_in_executor(None, sys.stdin.readline):
        loaded = load_file(inventory)
        report = await rounds.run(lambda loaded=loaded: loaded)  # type: ignore[misc]  # mypy cannot infer the default
        document = {**encode(document_of(report)), "errors": dict(errors.totals), "complete": report.snapshot.complete}
        sys.stdout.write(json.dumps(document) + "\n")
        sys.stdout.flush()
    broker.close()
    child.wait()


def main(config: str, inventory: str) -> None:
    asyncio.run(serve(load_config_file(config, environment={}, hostname="lab"), inventory))


if __name__ == "__main__":
    main(*sys.argv[1:])
