"""Runs rounds on demand inside a lab node: a command per line in, for each round a line of JSON out. Ends with its input.

    ip netns exec NODE python -m tests.lab.round_runner INVENTORY CONFIG [CLUSTER_CONFIG]

`round` runs one and prints the list of reports: the node's, and the cluster role's where it has a configuration of its own; then the
node is told what the cluster found, as its digest would tell it. `configure` reads the configurations again.
The parts are the daemon's own; only the pace is the caller's, so that a test counts rounds instead of waiting for them. The objects count
as the API's: a cluster role asks the cluster DNS about its Services only where there is an API.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Sequence
from dataclasses import replace

from exporter import resolution
from exporter.assembly import build_rounds
from exporter.broker.client import BrokerClient, spawn_broker
from exporter.config import Config, load_config_file
from exporter.discovery.file import load_file
from exporter.errors import Errors
from exporter.kernel import survey
from exporter.model.inventory import Inventory
from exporter.model.report import Found, Report
from exporter.plan.pace import Pace
from exporter.report.document import document_of, encode
from exporter.rounds import Rounds

PACE = Pace(interval=30.0, timeout=4.0, whole=1.5, spread=0.0, bounded=False)


def configs(paths: Sequence[str]) -> list[Config]:
    return [load_config_file(path, environment={}, hostname="lab") for path in paths]


def told(report: Report) -> tuple[Found, ...]:
    """What a digest carries of the cluster role's report: its unexplained causes."""
    return tuple(
        Found(c.finding.cause, c.finding.severity, c.finding.subjects, c.finding.pairs, elsewhere=True)
        for c in report.causes
        if c.explained_by is None
    )


async def run_round(roles: Sequence[Rounds], inventory: Inventory, errors: Errors) -> str:
    """The cluster role first, where it runs apart; what it found goes to the node."""
    cluster = await roles[1].run(lambda: inventory) if len(roles) > 1 else None
    node = await roles[0].run(lambda: inventory, told(cluster) if cluster is not None else ())
    reports = [report for report in (node, cluster) if report is not None]
    return json.dumps(
        [
            {**encode(document_of(each)), "errors": dict(errors.totals), "complete": each.snapshot.complete}
            for each in reports
        ]
    )


async def serve(inventory: str, paths: Sequence[str]) -> None:
    connection, child = spawn_broker()
    broker = await BrokerClient.from_socket(connection)
    errors = Errors()
    made = configs(paths)
    roles = [build_rounds(config, PACE, None if at else broker, errors) for at, config in enumerate(made)]
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        if line.strip() == "configure":
            for role, config in zip(roles, configs(paths), strict=True):
                role.configure(config, PACE)
            continue
        sys.stdout.write(await run_round(roles, replace(load_file(inventory), source="kubernetes"), errors) + "\n")
        sys.stdout.flush()
    broker.close()
    child.wait()


if __name__ == "__main__":
    # Rounds follow one another in no time: nothing that a round looks up may be taken from the one before.
    resolution.FRESH = 0.0
    survey.LEGACY_EVERY = 0.0
    asyncio.run(serve(sys.argv[1], sys.argv[2:]))
