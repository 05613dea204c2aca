"""`check`: two rounds, a report, an exit status (contract section 2). With --last or --nodes=all it asks running exporters instead."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace

from exporter.broker.client.requests import BrokerGone
from exporter.broker.server.namespaces import read_start
from exporter.cli.remote import OWN_NAME, collect_nodes, last_report
from exporter.config import Config
from exporter.daemon.broker_session import BrokerError, BrokerSession, connect, give_up_privilege, open_session
from exporter.daemon.command_error import CommandError
from exporter.daemon.inventory_source import open_source
from exporter.daemon.options import Options
from exporter.daemon.rounds import Rounds, UnfinishedError
from exporter.daemon.wiring import build_rounds
from exporter.diagnosis.rules.dns.losses import answers_vary
from exporter.inventory.file import InventoryError
from exporter.inventory.source import InventorySource
from exporter.model.report import Cause, Report, Role, Severity
from exporter.plan.pace import Pace
from exporter.report.document import Document, document_of, exit_code, to_json
from exporter.report.text import Style, write
from exporter.telemetry.internal_errors import InternalErrors

PACE = Pace(interval=30.0, timeout=4.0, whole=3.0, spread=0.2, bounded=False)
AT_MOST = 8.8  # seconds after the process began: a person waits ten at most, and there is a report to write
LEAST = 1.0  # seconds of a round that is worth making
BETWEEN = 1.0  # seconds from the start of one round to that of the next, at least
INVENTORY_WAIT = 5.0
BROKER_WAIT = 1.0


def check(options: Options, parsed: argparse.Namespace) -> int:
    """Print the report; 0, 1 or 2 as the contract says. Without any inventory it is printed as well: the host's own state was read."""
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
    _tell_blind(documents)
    return exit_code(documents, Severity(parsed.fail_on))


def _tell_blind(documents: Iterable[Document]) -> None:
    """The reason of exit status 2, beside the report: whoever reads only the standard error learns it as well."""
    style = Style.of(sys.stderr)
    for each in documents:
        if each.blind:
            said = style.clean(f"{OWN_NAME}: {each.node}: the inventory cannot be read: {each.blind}")
            sys.stderr.write(f"{said}\n")


def _look(options: Options, config: Config, *, all_nodes: bool) -> tuple[list[Document], tuple[str, ...]]:
    try:
        source = open_source(config, once=True)
    except InventoryError as error:
        raise CommandError(str(error)) from error
    session = None
    try:
        if config.role is Role.CLUSTER:
            give_up_privilege()
        else:
            session = open_session(options.broker_socket)
        return asyncio.run(_rounds(config, source, session, all_nodes=all_nodes))
    except (BrokerError, BrokerGone, UnfinishedError, OSError) as error:
        raise CommandError(str(error)) from error
    finally:
        if session is not None:
            session.end()


async def _rounds(
    config: Config, source: InventorySource, session: BrokerSession | None, *, all_nodes: bool
) -> tuple[list[Document], tuple[str, ...]]:
    end = time.monotonic() + AT_MOST - _age()
    keeping = asyncio.create_task(source.run())
    broker = None
    try:
        await source.wait_ready(INVENTORY_WAIT)
        broker = await connect(session, patience=BROKER_WAIT) if session is not None else None
        rounds = build_rounds(config, PACE, broker, InternalErrors())
        report = await _settle(rounds, source, lambda pace: rounds.configure(config, pace), end)
        documents = [document_of(report)]
        missing: tuple[str, ...] = ()
        if all_nodes:
            # The cluster role runs on some node, and does not stand for it.
            own = "" if config.role is Role.CLUSTER else documents[0].node
            others, missing = await collect_nodes(source.current(), own)
            documents.extend(others)
        return documents, missing
    finally:
        if broker is not None:
            broker.close()
        keeping.cancel()
        with suppress(asyncio.CancelledError):
            await keeping


async def _settle(rounds: Rounds, source: InventorySource, configure: Callable[[Pace], None], end: float) -> Report:
    """Two rounds; a third where they disagree about the causes found, or what they saw does not suffice.

    That is where a nameserver contradicted itself, or the inventory of the second was no newer than the first. Each has
    its share of the time left until `end`.
    """
    configure(_pace(end, 2))
    began = time.monotonic()
    first = await rounds.run(source.current, source.remote_findings())
    await asyncio.sleep(max(0.0, BETWEEN - (time.monotonic() - began)))
    configure(_pace(end, 1))
    began = time.monotonic()
    second = await rounds.run(source.current, source.remote_findings())
    # What needs two rounds comes in the second: that is no disagreement.
    agreed = _found(first) <= _found(second) and not rounds.undecided and not _wavers(second)
    pause = max(0.0, BETWEEN - (time.monotonic() - began))
    if agreed or end - time.monotonic() - pause < LEAST:
        return second
    await asyncio.sleep(pause)
    configure(_pace(end, 1))
    return await rounds.run(source.current, source.remote_findings())


def _pace(end: float, rounds: int) -> Pace:
    """That of the contract, or a faster one where waiting for the inventory has used up the time."""
    timeout = max(LEAST, min(PACE.timeout, (end - time.monotonic()) / rounds))
    return replace(PACE, timeout=timeout, whole=min(PACE.whole, timeout - PACE.spread))


def _age() -> float:
    """Seconds since this process began: where many others run, starting alone takes a while."""
    began = read_start("/proc/self/stat") / os.sysconf("SC_CLK_TCK")
    return max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - began)


def _wavers(report: Report) -> bool:
    """Whether a nameserver contradicted itself, and too rarely yet to say so."""
    return Cause.DNS_ANSWERS_DIFFER.value not in _found(report) and answers_vary(report.snapshot.told)


def _found(report: Report) -> set[str]:
    return {item.finding.cause.value for item in report.causes}
