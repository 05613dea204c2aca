"""What probe and resolve share: a broker, the inventory, and the place that was asked for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

from exporter.broker.client.requests import BrokerGone
from exporter.cli.vantage import find
from exporter.config import Config
from exporter.daemon.broker_session import BrokerError, BrokerSession, connect, open_session
from exporter.daemon.command_error import CommandError
from exporter.daemon.inventory_source import open_source
from exporter.daemon.options import Options
from exporter.inventory.file import InventoryError
from exporter.inventory.source import InventorySource
from exporter.model.dns import ResolvConf
from exporter.model.report import PodView
from exporter.probes.ports import BrokerNetwork
from exporter.probes.runner import Deadline, ProbeRunner
from exporter.probes.tls import TlsContexts
from exporter.telemetry.internal_errors import InternalErrors
from exporter.vantage import Inspector

INVENTORY_WAIT, BROKER_WAIT = 5.0, 1.0

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandContext:
    """The asked place and the means to ask from it."""

    config: Config
    view: PodView
    conf: ResolvConf
    asker: ProbeRunner
    deadline: Deadline


def run_in_context(options: Options, work: Callable[[CommandContext], Awaitable[T]], *, pod: str, netns: str) -> T:
    """Run `work` from the asked place. Refusal, in one line, where there is no such place or no broker."""
    config = options.load()
    try:
        source = open_source(config)
    except InventoryError as error:
        raise CommandError(str(error)) from error
    session = None
    try:
        session = open_session(options.broker_socket)
        return asyncio.run(_look(config, source, session, work, place=(pod, netns)))
    except (BrokerError, BrokerGone, OSError) as error:
        raise CommandError(str(error)) from error
    finally:
        if session is not None:
            session.end()


async def _look(
    config: Config,
    source: InventorySource,
    session: BrokerSession,
    work: Callable[[CommandContext], Awaitable[T]],
    *,
    place: tuple[str, str],
) -> T:
    broker = await connect(session, patience=BROKER_WAIT)
    keeping = asyncio.create_task(source.run())
    try:
        await source.wait_ready(INVENTORY_WAIT)
        inspector = Inspector(config, broker, clock=time.time)
        view, inspection = await find(inspector, source.current(), config, pod=place[0], netns=place[1])
        conf = view.resolv_conf or inspection.host_resolv_conf or ResolvConf()
        asker = ProbeRunner(BrokerNetwork(broker), TlsContexts(), InternalErrors(), clock=time.time)
        deadline = Deadline(asyncio.get_running_loop().time() + config.round.timeout)
        return await work(CommandContext(config=config, view=view, conf=conf, asker=asker, deadline=deadline))
    finally:
        keeping.cancel()
        with suppress(asyncio.CancelledError):
            await keeping
        broker.close()
