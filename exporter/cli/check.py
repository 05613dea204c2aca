"""`check`: two rounds, a report, an exit status (docs/specification.md section 2).

With --last or --nodes=all it fetches the reports of running exporters instead, or as well. --output=prometheus prints
the metrics of the report, for node_exporter's textfile collector.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Iterable
from dataclasses import replace
from functools import partial

from exporter.broker.server.namespaces import read_start
from exporter.catalogue import ROUND
from exporter.catalogue.metric import FinishedRound, Type
from exporter.cli.context import CommandContext, run_in_context
from exporter.cli.remote import OWN_NAME, collect_nodes, last_report
from exporter.config.schema import RUNBOOKS, Config
from exporter.daemon.options import CommandError, Options
from exporter.daemon.rounds import Rounds
from exporter.daemon.wiring import build_rounds
from exporter.diagnosis.rules.dns.losses import answers_vary
from exporter.model.cause import Cause, Role, Severity
from exporter.model.cluster.inventory import InventoryOrigin
from exporter.model.report import Report
from exporter.plan.round_plan import Pace
from exporter.report.document import Document, document_of, exit_code, to_json
from exporter.report.questions import sent_questions
from exporter.report.text import Style, write
from exporter.telemetry.logs import InternalErrors
from exporter.web.server.exposition import ExpositionFormat
from exporter.web.server.exposition import write as write_metrics

GAUGES = tuple(metric for metric in ROUND if metric.type is Type.GAUGE)  # what is counted begins anew each time
PACE = Pace(interval=30.0, timeout=4.0, whole=3.0, spread=0.2, bounded=False)
AT_MOST = 8.8  # seconds after the process began: the limit is ten, and there is a report to write
LEAST = 1.0  # seconds of a round that is worth making
BETWEEN = 1.0  # seconds from the start of one round to that of the next, at least


def check(options: Options) -> int:
    """Print the report, also without an inventory: the host's state was read. The exit status is 0, 1 or 2."""
    config = options.load()
    if options.output == "prometheus" and (options.last or options.nodes):
        raise CommandError("--output=prometheus prints the metrics of own rounds: not with --last or --nodes")
    report: Report | None = None
    missing: tuple[str, ...] = ()
    if options.last:
        documents = [asyncio.run(last_report(options))]
    else:
        work = partial(_look, all_nodes=options.nodes == "all")
        report, others, missing = run_in_context(options, config, work, local=config.role is not Role.CLUSTER)
        documents = [document_of(report, config.runbooks.url), *others]
    if report is not None and options.output == "prometheus":
        sys.stdout.buffer.write(write_metrics(GAUGES, FinishedRound(report), ExpositionFormat.TEXT))
    elif options.output == "json":
        listed = documents if options.nodes == "all" else documents[0]
        sys.stdout.write(to_json(listed) + "\n")
    else:
        style = replace(Style.of(sys.stdout), links=_has_service(report, config))
        sys.stdout.write(write(documents, missing=missing, style=style))
        _tell_questions(report)
    sys.stdout.flush()
    _report_blind(documents)
    return exit_code(documents, Severity(options.fail_on))


def _has_service(report: Report | None, config: Config) -> bool:
    """Whether links to runbooks lead anywhere: outside a cluster, the default is a Service that is not there."""
    outside = report is not None and report.snapshot.inventory.source in {InventoryOrigin.FILE, InventoryOrigin.NONE}
    return not outside or config.runbooks.url not in {"", RUNBOOKS}


def _tell_questions(report: Report | None) -> None:
    """Which DNS questions this check sent, where nobody asked for them."""
    if report is not None and (sent := sent_questions(report)):
        lines = Style.of(sys.stdout).wrap(f"DNS questions: asked {sent}. Set dns.names to change them.", rest="  ")
        sys.stdout.write("\n" + "\n".join(lines) + "\n")


def _report_blind(documents: Iterable[Document]) -> None:
    """The reason of exit status 2 on stderr too, for those who read only that."""
    style = Style.of(sys.stderr)
    for each in documents:
        if each.blind:
            line = style.clean(f"{OWN_NAME}: {each.node}: the inventory cannot be read: {each.blind}")
            sys.stderr.write(f"{line}\n")


async def _look(context: CommandContext, *, all_nodes: bool) -> tuple[Report, list[Document], tuple[str, ...]]:
    """The own report, those of the other nodes where they are wanted, and the nodes that gave none."""
    rounds = build_rounds(context.config, PACE, context.broker, InternalErrors())
    report = await _run_rounds(context, rounds)
    if not all_nodes:
        return report, [], ()
    # The report of role cluster is not that of the node on which it runs.
    own = "" if context.config.role is Role.CLUSTER else report.snapshot.node
    return report, *await collect_nodes(context.source.current(), own)


async def _run_rounds(context: CommandContext, rounds: Rounds) -> Report:
    """Two rounds; a third where they disagree about the causes found, or did not see enough.

    They disagree where a nameserver contradicted itself, or the inventory of the second was no newer than that of the
    first. Each has its share of the time left.
    """
    source, end, due = context.source, time.monotonic() + AT_MOST - _age(), 0.0
    reports: list[Report] = []
    for shares in (2, 1, 1):
        pause = max(0.0, due - time.monotonic())
        if len(reports) == 2 and (_agree(rounds, *reports) or end - time.monotonic() - pause < LEAST):
            break
        await asyncio.sleep(pause)
        due = time.monotonic() + BETWEEN
        rounds.configure(context.config, _pace(end, shares))
        reports.append(await rounds.run(source.current, source.remote_findings()))
    return reports[-1]


def _agree(rounds: Rounds, first: Report, second: Report) -> bool:
    """Whether no third round is needed. A cause that needs two rounds is found in the second: no disagreement."""
    if rounds.undecided or not _found(first) <= _found(second):
        return False
    # A nameserver that contradicted itself too rarely to be reported.
    return Cause.DNS_ANSWERS_DIFFER in _found(second) or not answers_vary(second.snapshot.told)


def _pace(end: float, rounds: int) -> Pace:
    """PACE, or a faster one where waiting for the inventory has used up the time."""
    timeout = max(LEAST, min(PACE.timeout, (end - time.monotonic()) / rounds))
    return replace(PACE, timeout=timeout, whole=min(PACE.whole, timeout - PACE.spread))


def _age() -> float:
    """Seconds since this process began: on a busy machine starting takes a while."""
    began = read_start("/proc/self/stat") / os.sysconf("SC_CLK_TCK")
    return max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - began)


def _found(report: Report) -> set[Cause]:
    return {item.finding.cause for item in report.causes}
