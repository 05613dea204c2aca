"""What check, probe and resolve share: a broker and an inventory for as long as the command runs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

from exporter.broker.client.requests import BrokerClient, BrokerGone
from exporter.config.schema import Config
from exporter.daemon.broker_session import BrokerError, BrokerSession, open_session
from exporter.daemon.options import CommandError, Options
from exporter.daemon.rounds import UnfinishedError
from exporter.daemon.wiring import open_source
from exporter.inventory.file import InventoryError
from exporter.inventory.source import InventorySource

INVENTORY_WAIT, BROKER_WAIT = 5.0, 1.0

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class CommandContext:
    """What a command works with. `broker` is None where nothing of this machine is read."""

    config: Config
    source: InventorySource
    broker: BrokerClient | None


def run_in_context(
    options: Options, config: Config, work: Callable[[CommandContext], Awaitable[T]], *, local: bool = True
) -> T:
    """The result of `work`, without privilege. `local`: a broker is needed. CommandError where something is missing."""
    session = None
    try:
        source = open_source(config, once=True)
        session = open_session(
            options.broker_socket,
            local=local,
            programs=bool(config.inventory.kubeconfig),
            directory=config.netns.directory,
        )
        return asyncio.run(_run(config, source, session, work))
    except (BrokerError, BrokerGone, InventoryError, UnfinishedError, OSError) as error:
        raise CommandError(str(error)) from error
    finally:
        if session is not None:
            session.end()


async def _run(
    config: Config,
    source: InventorySource,
    session: BrokerSession | None,
    work: Callable[[CommandContext], Awaitable[T]],
) -> T:
    updating = asyncio.create_task(source.run())
    broker = None
    try:
        broker = await session.connect(patience=BROKER_WAIT) if session is not None else None
        await source.wait_ready(INVENTORY_WAIT)
        return await work(CommandContext(config, source, broker))
    finally:
        if broker is not None:
            broker.close()
        updating.cancel()
        with suppress(asyncio.CancelledError):
            await updating
