"""The running daemon: builds its parts from the configuration, runs its long-lived tasks, reloads, and ends.

A task that ends by itself ends the daemon (the kubelet restarts it). Rounds are paced here: where one overruns the
interval, the next ones are skipped, never queued. This file decides nothing about the network.
"""

from __future__ import annotations

import asyncio
import logging
import os
import platform
import random
import signal
import socket
import time
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from exporter import __version__
from exporter.broker.client.requests import BrokerClient, BrokerGone
from exporter.catalogue.exporter import ExporterState
from exporter.catalogue.metric import FinishedRound
from exporter.catalogue.totals import Totals, add_round
from exporter.config.document import ConfigError
from exporter.config.files import file_fingerprint
from exporter.config.reference import format_config
from exporter.config.schema import Config
from exporter.daemon.broker_session import BrokerError, BrokerSession
from exporter.daemon.loop_lag import LoopLag
from exporter.daemon.options import Options
from exporter.daemon.rounds import Rounds, UnfinishedError
from exporter.daemon.wiring import build_rounds
from exporter.digest.publisher import DigestPublisher
from exporter.inventory.event_writer import OUTCOMES
from exporter.inventory.fetching import happens_within
from exporter.inventory.source import InventorySource
from exporter.migration.plan import plan_of
from exporter.model.cause import Role
from exporter.model.cluster.inventory import InventoryOrigin
from exporter.model.report import Report
from exporter.plan.round_plan import Pace, pace_of
from exporter.report.changes import changes
from exporter.report.document import document_of, to_json
from exporter.report.events import cause_events
from exporter.report.healed import HealedDay
from exporter.report.questions import planned_questions
from exporter.report.runbooks import read_runbook, runbook_names
from exporter.telemetry.logs import InternalErrors, fields
from exporter.web.page.document import page as render_page
from exporter.web.page.migration import migration_page
from exporter.web.page.runbook import runbook_page, runbooks_page
from exporter.web.page.style import STYLE
from exporter.web.server.application import WebOptions, WebServer
from exporter.web.server.exposition import Exposition, Rendered
from exporter.web.server.rotation import WebSettings

log = logging.getLogger(__name__)

STALE_AFTER = 5  # intervals after which a report is no longer exposed
BROKER_PATIENCE = 30.0  # seconds that a named broker may take to start
WATCH_EVERY = 2.0  # seconds between checks of the configuration file


@dataclass(kw_only=True, eq=False)
class Daemon:
    """One running exporter, and the State that its web server serves."""

    options: Options
    config: Config
    source: InventorySource
    session: BrokerSession | None
    sockets: Sequence[socket.socket]
    web_settings: WebSettings
    _errors: InternalErrors = field(default_factory=InternalErrors)
    _totals: Totals = field(default_factory=Totals)
    _lag: LoopLag = field(default_factory=LoopLag)
    _healed: HealedDay = field(default_factory=lambda: HealedDay(since=time.time()))
    _report: Report | None = None
    _finished: float = 0.0  # when the report was finished, by the monotonic clock
    _document: tuple[Report, bytes] | None = None
    _wake: asyncio.Event = field(default_factory=asyncio.Event)  # starts a round before it is due
    _hang_up: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        config = self.config
        self._digest = DigestPublisher(source=self.source.current) if config.role is not Role.NODE else None
        self._state = ExporterState(
            node=config.node_name,
            role=config.role.value,
            version=__version__,
            revision=os.environ.get("DUALSTACK_EXPORTER_REVISION", ""),
            python=platform.python_version(),
            reload_successful=True,
            reload_time=time.time(),
        )
        self._exposition = Exposition(own=self.state, fresh=self._fresh)

    # What the web server reads.

    def state(self) -> ExporterState:
        """What the exporter knows about itself now."""
        inventory = self.source.current()
        synced = {kind.value: at for kind, at in inventory.read_at.items()}
        if not synced and inventory.synced is not None:
            synced = {"inventory": inventory.synced}
        seen = self._report is not None and self._report.snapshot.inventory.source is not InventoryOrigin.NONE
        network = self._report.network if self._report is not None and seen else None
        writer = self.source.event_writer() if self.config.events else None
        events = {outcome: writer.outcomes[outcome] for outcome in OUTCOMES} if writer else {}
        return replace(
            self._state,
            errors=dict(self._errors),
            inventory_synced=synced,
            network=network,
            events=events,
            log_lines_dropped=self.options.log.dropped,
            loop_lag=self._lag.longest(),
        )

    @property
    def ready(self) -> bool:
        """Whether a round has finished and is not older than five intervals."""
        return self._fresh(self._report)

    def render(self, accept: str, *, gzip: bool) -> Rendered:
        return self._exposition.render(accept, gzip=gzip)

    def report(self) -> bytes | None:
        """The last finished report as JSON, made at the first request."""
        if self._report is None or not self.ready:
            return None
        if self._document is None or self._document[0] is not self._report:
            self._document = (self._report, to_json(document_of(self._report, self.config.runbooks.url)).encode())
        return self._document[1]

    def page(self) -> str:
        return render_page(
            self._report,
            self.state(),
            now=time.time(),
            fresh=self.ready,
            metrics=self.options.web_telemetry_path,
            healed=self._healed,
        )

    def runbook(self, name: str) -> str | None:
        if not name:
            return runbooks_page(runbook_names())
        text = read_runbook(name)
        return None if text is None else runbook_page(name, text)

    def migration(self) -> str | None:
        if self.config.role is Role.NODE:
            return None
        return migration_page(None if self._report is None else plan_of(self._report.snapshot))

    def config_text(self) -> str:
        return format_config(self.config)

    async def reload(self) -> str:
        """Read the configuration again and start a round. Returns the problem, if any: a bad file changes nothing."""
        try:
            config = self.options.load()
        except ConfigError as error:
            self._state = replace(self._state, reload_successful=False, reload_problem=str(error))
            failed = fields(problem=str(error))
            log.error("config reload failed, keeping the previous configuration", extra=failed)  # noqa: TRY400 - no bug
            return str(error)
        old = self.config
        kept = replace(config, role=old.role, node_name=old.node_name, inventory=old.inventory, digest=old.digest)
        if kept != config:
            log.warning(
                "role, node_name, inventory and digest only change at a restart",
                extra=fields(file=self.options.config_file),
            )
        self.config = kept
        self._state = replace(self._state, reload_successful=True, reload_problem="", reload_time=time.time())
        self._wake.set()  # a round in progress ends with the configuration that it began with
        log.info("configuration reloaded")
        return ""

    # What it runs.

    async def run(self) -> int:
        """Until SIGTERM or SIGINT (exit status 0), or until one of the tasks ends (1)."""
        log.info(
            "starting",
            extra=fields(
                version=self._state.version,
                revision=self._state.revision,
                python=self._state.python,
                role=self._state.role,
                node=self._state.node,
                config=self.options.config_file or "none, all defaults",
                interval=self.config.round.interval,
                targets=len(self.config.targets),
            ),
        )
        if questions := planned_questions(self.config, self.source.current()):
            told = fields(questions=questions, key="dns.names")
            log.info("DNS questions of each round to the host's resolver", extra=told)
        if self.config.events and self.source.event_writer() is None:
            log.warning("events need the Kubernetes API, which is not the inventory's source: there will be none")
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        loop.add_signal_handler(signal.SIGHUP, self._hang_up.set)
        options = WebOptions(
            telemetry_path=self.options.web_telemetry_path,
            lifecycle=self.options.web_enable_lifecycle,
            style=STYLE,
            digest=self._digest,
        )
        ended = await _first_to_end(
            {
                "stop": stop.wait(),
                "web server": WebServer(self, self.web_settings, options).run(self.sockets),
                "rounds": self._probe(),
                "inventory": self.source.run(),
                "configuration watch": self._watch(),
                "event loop watch": self._lag.run(),
            }
        )
        log.info("stopped", extra=fields(rounds=self._state.rounds))
        return _status({task for task in ended if task.get_name() != "stop"})

    async def _probe(self) -> None:
        broker = await self.session.connect(patience=BROKER_PATIENCE) if self.session is not None else None
        try:
            rounds = build_rounds(self.config, self._pace(), broker, self._errors)
            await self.source.wait_ready(self.config.round.timeout)
            works: dict[str, Coroutine[Any, Any, None]] = {"pace": self._pace_rounds(rounds)}
            if broker is not None:
                works["broker"] = _end_of(broker)
            for task in await _first_to_end(works):
                task.result()
        finally:
            if broker is not None:
                broker.close()

    def _pace(self) -> Pace:
        return pace_of(self.config, len(self.source.current().nodes or ()))

    async def _pace_rounds(self, rounds: Rounds) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            self._wake.clear()
            began = loop.time()
            pace = self._pace()
            rounds.configure(self.config, pace)
            await self._one_round(rounds)
            self._state = replace(self._state, round_seconds=loop.time() - began)
            due += pace.interval * random.uniform(0.98, 1.02)  # noqa: S311 - jitter, so that nodes drift apart
            skipped = max(0, int((loop.time() - due) / pace.interval) + 1) if loop.time() > due else 0
            if skipped:
                self._skip(skipped)
                due += skipped * pace.interval
                log.warning("a round took longer than the interval", extra=fields(skipped=skipped))
            if await happens_within(self._wake, max(0.0, due - loop.time())):
                due = loop.time()

    def _skip(self, skipped: int) -> None:
        self._state = replace(self._state, rounds_skipped=self._state.rounds_skipped + skipped)

    async def _one_round(self, rounds: Rounds) -> None:
        """One round. An unexpected exception is counted and logged, and only the round is lost."""
        try:
            report = await rounds.run(self.source.current, self.source.remote_findings())
        except BrokerGone:
            raise
        except UnfinishedError as error:
            self._skip(1)
            log.warning("a round was given up", extra=fields(problem=str(error)))
            return
        except Exception:
            self._errors.count("round")
            log.exception("a round failed unexpectedly")
            return
        self._totals = add_round(self._totals, report)
        for change in changes(self._report, report):
            log.log(logging.WARNING if change.urgent else logging.INFO, change.message, extra=fields(**change.fields))
        if self.config.events and (writer := self.source.event_writer()) is not None:
            writer.offer(cause_events(self._report, report))
        self._healed = self._healed.after(self._report, report)
        self._report, self._finished = report, time.monotonic()
        if self._digest is not None:
            self._digest.publish(report)
        self._state = replace(
            self._state,
            last_round=report.snapshot.finished,
            round_complete=report.snapshot.complete,
            rounds=self._state.rounds + 1,
        )
        if not report.snapshot.complete:
            log.warning("a round was cut by its deadline", extra=fields(timeout=self.config.round.timeout))
        self._exposition.publish(FinishedRound(report, self._totals))
        log.debug("round finished", extra=fields(number=self._state.rounds))

    async def _watch(self) -> None:
        """Reload at SIGHUP, and when the file or the symbolic link to it changes."""
        seen = file_fingerprint(self.options.config_file)
        while True:
            wanted = await happens_within(self._hang_up, WATCH_EVERY)
            self._hang_up.clear()
            now = file_fingerprint(self.options.config_file)
            if wanted or now != seen:
                seen = now
                await self.reload()

    def _fresh(self, report: Report | None) -> bool:
        age = time.monotonic() - self._finished
        return report is not None and report is self._report and age <= STALE_AFTER * self._pace().interval


async def _first_to_end(works: Mapping[str, Coroutine[Any, Any, Any]]) -> set[asyncio.Task[Any]]:
    """Run all as tasks of these names until one ends, then cancel the others; the ended one, with its exception."""
    tasks = [asyncio.create_task(work, name=name) for name, work in works.items()]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return done


def _status(ended: set[asyncio.Task[Any]]) -> int:
    """0 where nothing ended by itself; else log what did, and 1."""
    for task in ended:
        error = task.exception()
        if isinstance(error, BrokerGone | BrokerError):
            message = (
                "no usable broker" if isinstance(error, BrokerError) else "the broker ended, so the daemon ends too"
            )
            log.error(message, extra=fields(problem=str(error)))
        else:
            log.error("ended unexpectedly", exc_info=error, extra=fields(task=task.get_name()))
    return 1 if ended else 0


async def _end_of(broker: BrokerClient) -> None:
    """Raise BrokerGone when the broker ends."""
    await broker.closed.wait()
    raise BrokerGone("its connection closed")
