"""`check`: two rounds, a report, an exit status (contract section 2). With --last or --nodes=all it asks running exporters instead."""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from contextlib import suppress

from exporter.assembly import build_rounds
from exporter.broker.client import BrokerGone
from exporter.command import Refusal
from exporter.config import Config
from exporter.discovery.file import InventoryError
from exporter.discovery.sources import Source, open_source
from exporter.errors import Errors
from exporter.model.report import Report, Role, Severity
from exporter.oneshot.remote import collect_nodes, last_report
from exporter.options import Options
from exporter.report.document import Document, document_of, exit_code, to_json
from exporter.report.text import Style, write
from exporter.rounds import Pace, Rounds
from exporter.session import ForeignBrokerError, Session, connect, give_up_privilege, open_session

PACE = Pace(interval=30.0, timeout=4.0, whole=3.0, spread=0.2, bounded=False)
BETWEEN = 1.0  # seconds from the start of one round to that of the next, at least
INVENTORY_WAIT = 5.0
BROKER_WAIT = 1.0


def check(options: Options, parsed: argparse.Namespace) -> int:
    """Print the report; 0, 1 or 2 as the contract says."""
    config = options.load()
    missing: tuple[str, ...] = ()
    if parsed.last:
        documents = [asyncio.run(last_report(options))]
    else:
        documents, missing = _look(options, config, all_nodes=parsed.nodes == "all")
    if parsed.output == "json":
        listed = documents if parsed.nodes == "all" else documents[0]
        sys.stdout.write(to_json(listed) + "\n")
    else:
        sys.stdout.write(write(documents, missing=missing, style=Style.of(sys.stdout)))
    sys.stdout.flush()
    return exit_code(documents, Severity(parsed.fail_on))


def _look(options: Options, config: Config, *, all_nodes: bool) -> tuple[list[Document], tuple[str, ...]]:
    try:
        source = open_source(config)
    except InventoryError as error:
        raise Refusal(str(error)) from error
    if config.role is Role.CLUSTER:
        session = None
        give_up_privilege()
    else:
        session = open_session(options.broker_socket)
    try:
        return asyncio.run(_rounds(config, source, session, all_nodes=all_nodes))
    except (ForeignBrokerError, BrokerGone, OSError) as error:
        raise Refusal(str(error)) from error
    finally:
        if session is not None:
            session.end()


async def _rounds(
    config: Config, source: Source, session: Session | None, *, all_nodes: bool
) -> tuple[list[Document], tuple[str, ...]]:
    keeping = asyncio.create_task(source.run())
    broker = None
    try:
        await source.first(INVENTORY_WAIT)
        broker = await connect(session, patience=BROKER_WAIT) if session is not None else None
        rounds = build_rounds(config, PACE, broker, Errors())
        report = await _settle(rounds, source)
        documents = [document_of(report)]
        missing: tuple[str, ...] = ()
        if all_nodes:
            others, missing = await collect_nodes(source.current(), documents[0].node)
            documents.extend(others)
        return documents, missing
    finally:
        if broker is not None:
            broker.close()
        keeping.cancel()
        with suppress(asyncio.CancelledError):
            await keeping


async def _settle(rounds: Rounds, source: Source) -> Report:
    """Two rounds; a third where they disagree about the causes found."""
    first = await _paced(rounds, source)
    second = await _paced(rounds, source)
    if _found(first) <= _found(second):  # what needs two rounds comes in the second: that is no disagreement
        return second
    return await _paced(rounds, source)


async def _paced(rounds: Rounds, source: Source) -> Report:
    began = time.monotonic()
    report = await rounds.run(source.current, source.elsewhere())
    await asyncio.sleep(max(0.0, BETWEEN - (time.monotonic() - began)))
    return report


def _found(report: Report) -> set[str]:
    return {item.finding.cause.value for item in report.causes}
