"""What probe and resolve share: a broker, the inventory, and the place that was asked for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

from exporter.asking import Asker, Deadline
from exporter.broker.client import BrokerGone
from exporter.config import Config
from exporter.discovery.file import InventoryError
from exporter.discovery.source import Source
from exporter.discovery.sources import open_source
from exporter.errors import Errors
from exporter.inspection import Inspector
from exporter.model.dns import ResolvConf
from exporter.model.report import PodView
from exporter.network import BrokerNetwork
from exporter.oneshot.vantage import find
from exporter.options import Options
from exporter.probes.tls import TlsContexts
from exporter.refusal import Refusal
from exporter.session import BrokerError, Session, connect, open_session

INVENTORY_WAIT, BROKER_WAIT = 5.0, 1.0

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Looking:
    """The asked place and the means to ask from it."""

    config: Config
    view: PodView
    conf: ResolvConf
    asker: Asker
    deadline: Deadline


def look(options: Options, work: Callable[[Looking], Awaitable[T]], *, pod: str, netns: str) -> T:
    """Run `work` from the asked place. Refusal, in one line, where there is no such place or no broker."""
    config = options.load()
    try:
        source = open_source(config)
    except InventoryError as error:
        raise Refusal(str(error)) from error
    session = None
    try:
        session = open_session(options.broker_socket)
        return asyncio.run(_look(config, source, session, work, place=(pod, netns)))
    except (BrokerError, BrokerGone, OSError) as error:
        raise Refusal(str(error)) from error
    finally:
        if session is not None:
            session.end()


async def _look(
    config: Config, source: Source, session: Session, work: Callable[[Looking], Awaitable[T]], *, place: tuple[str, str]
) -> T:
    broker = await connect(session, patience=BROKER_WAIT)
    keeping = asyncio.create_task(source.run())
    try:
        await source.first(INVENTORY_WAIT)
        inspector = Inspector(config, broker, clock=time.time)
        view, inspection = await find(inspector, source.current(), config, pod=place[0], netns=place[1])
        conf = view.resolv_conf or inspection.host_resolv_conf or ResolvConf()
        asker = Asker(BrokerNetwork(broker), TlsContexts(), Errors(), clock=time.time)
        deadline = Deadline(asyncio.get_running_loop().time() + config.round.timeout)
        return await work(Looking(config, view, conf, asker, deadline))
    finally:
        keeping.cancel()
        with suppress(asyncio.CancelledError):
            await keeping
        broker.close()
