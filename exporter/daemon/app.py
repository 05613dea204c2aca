"""The composition root: builds the parts from configuration, runs the long-lived tasks, reloads, ends.

Every task that should live for ever stands in one TaskGroup; one that ends by itself ends the daemon (the kubelet
restarts it). Rounds are paced here: one that overruns the interval makes the next ones skipped, never piled up. This
file decides nothing about the network.
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
from collections.abc import Coroutine, Sequence
from dataclasses import replace
from typing import Any

from exporter import __version__
from exporter.broker.client.requests import BrokerClient, BrokerGone
from exporter.catalogue.exporter import ExporterState
from exporter.catalogue.metric import FinishedRound
from exporter.catalogue.totals import Totals, add_round
from exporter.config import Config, ConfigError, format_config
from exporter.config.file_fingerprint import stamp_of
from exporter.daemon.broker_session import BrokerError, BrokerSession, connect
from exporter.daemon.options import Options
from exporter.daemon.rounds import Rounds, UnfinishedError
from exporter.daemon.tasks import first_to_end, happens_within
from exporter.daemon.wiring import build_rounds
from exporter.diagnosis.families import names
from exporter.digest.publisher import DigestPublisher
from exporter.inventory.source import InventorySource
from exporter.model.report import Report, Role
from exporter.plan.pace import Pace, pace_of
from exporter.report.document import document_of, to_json
from exporter.telemetry.internal_errors import InternalErrors
from exporter.telemetry.logs import fields
from exporter.web.page.document import page as render_page
from exporter.web.page.style import STYLE
from exporter.web.server.application import WebOptions, WebServer
from exporter.web.server.exposition import Exposition, Rendered
from exporter.web.server.rotation import WebSettings

log = logging.getLogger(__name__)

STALE_AFTER = 5  # intervals after which a report is exposed no more
BROKER_PATIENCE = 30.0  # seconds that a named broker may take to come up
WATCH_EVERY = 2.0  # seconds between looks at the configuration file


class Daemon:
    """One running exporter. The web server reads its state through web.server.State."""

    def __init__(
        self,
        options: Options,
        config: Config,
        *,
        source: InventorySource,
        session: BrokerSession | None,
        sockets: Sequence[socket.socket],
        web_settings: WebSettings,
    ) -> None:
        self._options = options
        self._config = config
        self._source = source
        self._session = session
        self._sockets = sockets
        self._web = web_settings
        self._errors = InternalErrors()
        self._totals = Totals()
        self._digest = DigestPublisher(source=source.current) if config.role is not Role.NODE else None
        self._report: Report | None = None
        self._finished = 0.0  # when, on the event loop's clock, which never steps
        self._document: tuple[Report, bytes] | None = None
        self._own = ExporterState(
            node=config.node_name,
            role=config.role.value,
            version=__version__,
            revision=os.environ.get("DUALSTACK_EXPORTER_REVISION", ""),
            python=platform.python_version(),
            reload_successful=True,
            reload_time=time.time(),
        )
        self._exposition = Exposition(own=self.own, fresh=self._fresh)
        self._wake = asyncio.Event()

    # What the web server reads.

    def own(self) -> ExporterState:
        """What the exporter knows of itself now."""
        inventory = self._source.current()
        synced = {kind.value: at for kind, at in inventory.read_at.items()}
        if not synced and inventory.synced is not None:
            synced = {"inventory": inventory.synced}
        return replace(
            self._own,
            errors=self._errors.totals,
            inventory_synced=synced,
        )

    @property
    def ready(self) -> bool:
        """Whether a round has finished and is not older than five intervals."""
        return self._report is not None and self._fresh(self._report)

    def render(self, accept: str, *, gzip: bool) -> Rendered:
        return self._exposition.render(accept, gzip=gzip)

    def report(self) -> bytes | None:
        """The last finished report as JSON, made when it is first asked for."""
        if self._report is None or not self._fresh(self._report):
            return None
        if self._document is None or self._document[0] is not self._report:
            self._document = (self._report, to_json(document_of(self._report)).encode())
        return self._document[1]

    def page(self) -> str:
        fresh = self._report is not None and self._fresh(self._report)
        return render_page(self._report, self.own(), now=time.time(), fresh=fresh, metrics=self._options.telemetry_path)

    def config_text(self) -> str:
        return format_config(self._config)

    async def reload(self) -> str:
        """Read the configuration again and start a round with it. Returns the error, empty when it went well; a bad file changes nothing."""
        try:
            config = self._options.load()
        except ConfigError as error:
            self._own = replace(self._own, reload_successful=False)
            log.error("the configuration was not reloaded", extra=fields(problem=str(error)))  # noqa: TRY400 - its text is whole
            return str(error)
        old = self._config
        kept = replace(config, role=old.role, node_name=old.node_name, inventory=old.inventory, digest=old.digest)
        if kept != config:
            log.warning(
                "role, node_name, inventory and digest change at a restart only",
                extra=fields(file=self._options.config_file),
            )
        self._config = kept
        self._own = replace(self._own, reload_successful=True, reload_time=time.time())
        self._wake.set()  # the next round takes it up: one that is under way ends as it began
        log.info("configuration reloaded")
        return ""

    # Its life.

    async def run(self) -> int:
        """Until SIGTERM or SIGINT (exit status 0), or until something essential ends (1)."""
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        reloads: set[asyncio.Task[str]] = set()

        def hang_up() -> None:
            task = loop.create_task(self.reload())
            reloads.add(task)
            task.add_done_callback(reloads.discard)

        loop.add_signal_handler(signal.SIGHUP, hang_up)
        stopper = asyncio.create_task(stop.wait(), name="stop")
        tasks = {asyncio.create_task(work, name=name) for name, work in self._works().items()}
        done, _ = await asyncio.wait({stopper, *tasks}, return_when=asyncio.FIRST_COMPLETED)
        for task in {stopper, *tasks}:
            task.cancel()
        await asyncio.gather(stopper, *tasks, return_exceptions=True)
        return _status(done - {stopper})

    def _works(self) -> dict[str, Coroutine[Any, Any, None]]:
        """The long-lived tasks by name."""
        options = WebOptions(
            telemetry_path=self._options.telemetry_path,
            lifecycle=self._options.enable_lifecycle,
            style=STYLE,
            digest=self._digest,
        )
        server = WebServer(self, self._web, options)
        return {
            "web server": server.run(self._sockets),
            "rounds": self._probe(),
            "inventory": self._source.run(),
            "configuration watch": self._watch(),
        }

    async def _probe(self) -> None:
        broker = await connect(self._session, patience=BROKER_PATIENCE) if self._session is not None else None
        try:
            rounds = build_rounds(self._config, self._pace(), broker, self._errors)
            await self._source.wait_ready(self._config.round.timeout)
            await first_to_end(self._pace_rounds(rounds), _gone(broker))
        finally:
            if broker is not None:
                broker.close()

    def _pace(self) -> Pace:
        return pace_of(self._config, len(self._source.current().nodes or ()))

    async def _pace_rounds(self, rounds: Rounds) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            self._wake.clear()
            began = loop.time()
            pace = self._pace()
            rounds.configure(self._config, pace)
            await self._one_round(rounds)
            self._own = replace(self._own, round_seconds=loop.time() - began)
            due += pace.interval * random.uniform(0.98, 1.02)  # noqa: S311 - jitter, so that nodes drift apart
            skipped = max(0, int((loop.time() - due) / pace.interval) + 1) if loop.time() > due else 0
            if skipped:
                self._own = replace(self._own, rounds_skipped=self._own.rounds_skipped + skipped)
                due += skipped * pace.interval
                log.warning("a round took longer than the interval", extra=fields(skipped=skipped))
            if await happens_within(self._wake, due - loop.time()):
                due = loop.time()

    async def _one_round(self, rounds: Rounds) -> None:
        """One of the two places that survive a bug of ours: it is counted and logged, and the round is lost."""
        try:
            report = await rounds.run(self._source.current, self._source.remote_findings())
        except BrokerGone:
            raise
        except UnfinishedError as error:
            self._own = replace(self._own, rounds_skipped=self._own.rounds_skipped + 1)
            log.warning("a round was given up", extra=fields(problem=str(error)))
            return
        except Exception:
            self._errors.count("round")
            log.exception("a round failed in an unexpected way")
            return
        self._totals = add_round(self._totals, report)
        self._report, self._finished = report, time.monotonic()
        if self._digest is not None:
            self._digest.publish(report)
        self._own = replace(
            self._own,
            last_round=report.snapshot.finished,
            round_complete=report.snapshot.complete,
            rounds=self._own.rounds + 1,
        )
        if not report.snapshot.complete:
            log.warning("a round was cut by its deadline", extra=fields(timeout=self._config.round.timeout))
        self._exposition.publish(FinishedRound(report, self._totals))
        log.debug("round finished", extra=fields(verdict=names(report.families)))

    async def _watch(self) -> None:
        """Reload when the file changes: its own content, or the symlink of a ConfigMap swapped under it."""
        seen = stamp_of(self._options.config_file)
        while True:
            await asyncio.sleep(WATCH_EVERY)
            now = stamp_of(self._options.config_file)
            if now != seen:
                seen = now
                await self.reload()

    def _fresh(self, report: Report) -> bool:
        age = time.monotonic() - self._finished
        return report is self._report and age <= STALE_AFTER * self._pace().interval


def _status(ended: set[asyncio.Task[Any]]) -> int:
    """0 when nothing ended by itself; else say what did, and 1."""
    for task in ended:
        error = task.exception()
        if isinstance(error, BrokerGone):
            log.error("the broker ended, and so does the daemon", extra=fields(problem=str(error)))
        elif isinstance(error, BrokerError):
            log.error("no broker can be used", extra=fields(problem=str(error)))
        else:
            log.error("ended unexpectedly", exc_info=error, extra=fields(task=task.get_name()))
    return 1 if ended else 0


async def _gone(broker: BrokerClient | None) -> None:
    """Return never, or raise BrokerGone when the broker ends: its end is the daemon's end."""
    if broker is None:
        await asyncio.Event().wait()
    else:
        await broker.closed.wait()
        raise BrokerGone("its connection closed")
