"""Starts the daemon: reads what needs privilege, binds, starts the broker, gives privilege up, then runs. Synchronous until the loop.

Everything that can be refused is refused here, in one line and before anything else is started.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable

from exporter.config import Config
from exporter.daemon.app import Daemon
from exporter.daemon.broker_session import BrokerError, BrokerSession, give_up_privilege, open_session
from exporter.daemon.command_error import CommandError
from exporter.daemon.inventory_source import open_source
from exporter.daemon.options import Options
from exporter.daemon.preload import preload
from exporter.inventory.file import InventoryError
from exporter.model.report import Role
from exporter.telemetry.logs import fields
from exporter.web.server.application import check_telemetry_path
from exporter.web.server.listening import DEFAULT_ADDRESSES, ListenError, bind, format_address
from exporter.web.server.rotation import WebSettings

log = logging.getLogger(__name__)


def launch(options: Options) -> int:
    """Run the daemon until it is told to stop; its exit status."""
    config = options.load()
    try:
        check_telemetry_path(options.telemetry_path)
        settings = WebSettings(options.web_config_file)
        source = open_source(config)
        sockets = bind(options.listen or DEFAULT_ADDRESSES)
        session = _begin(options, config)
    except (BrokerError, InventoryError, ListenError, ValueError) as error:
        raise CommandError(str(error)) from error
    try:
        _say_unreadable(config, options, settings)
        for listener in sockets:
            log.info("listening", extra=fields(address=format_address(listener)))
        return asyncio.run(
            _run(
                lambda: Daemon(options, config, source=source, session=session, sockets=sockets, web_settings=settings)
            )
        )
    finally:
        if session is not None:
            session.end()


async def _run(build: Callable[[], Daemon]) -> int:
    """Built inside the loop that it belongs to."""
    return await build().run()


def _say_unreadable(config: Config, options: Options, settings: WebSettings) -> None:
    """What a reload or a probe reads must be readable without privilege: said once where it is not."""
    again = (options.config_file, options.web_config_file, *settings.current().config.tls_server_config.files)
    lost = [file for file in (*again, config.inventory.file) if file and not os.access(file, os.R_OK)]
    if lost:
        log.warning("readable to root alone, so a reload will fail", extra=fields(files=", ".join(lost)))
    kubeconfig = config.inventory.kubeconfig
    if kubeconfig and not os.access(kubeconfig, os.R_OK):
        # What was read of it before privilege was given up serves until the API server no longer takes it.
        log.warning("readable to root alone, so credentials cannot be renewed", extra=fields(files=kubeconfig))
    authorities = dict.fromkeys(t.ca_file for t in config.targets if t.ca_file and not os.access(t.ca_file, os.R_OK))
    if authorities:
        log.warning("readable to root alone, so tls cannot be probed", extra=fields(files=", ".join(authorities)))


def _begin(options: Options, config: Config) -> BrokerSession | None:
    """A broker, where this machine is looked at; the cluster role alone needs neither one nor any power."""
    if config.role is not Role.CLUSTER:
        return open_session(options.broker_socket)
    preload()
    give_up_privilege()
    return None
