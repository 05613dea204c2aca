"""Starts the daemon: reads what needs privilege, binds, starts the broker, drops privilege, then runs the event loop.

Everything that can be refused is refused here, in one line and before anything else is started.
"""

from __future__ import annotations

import asyncio
import logging
import os

from exporter.config.schema import Config
from exporter.daemon.app import Daemon
from exporter.daemon.broker_session import BrokerError, open_session
from exporter.daemon.options import CommandError, Options
from exporter.daemon.wiring import open_source
from exporter.inventory.file import InventoryError
from exporter.model.cause import Role
from exporter.telemetry.logs import fields
from exporter.web.server.application import check_telemetry_path
from exporter.web.server.listening import DEFAULT_ADDRESSES, ListenError, bind, format_address
from exporter.web.server.rotation import WebSettings

log = logging.getLogger(__name__)

LAST_LINES = 1.0  # seconds that lines have to be read when the daemon ends


def launch(options: Options) -> int:
    """Run the daemon until it is told to stop; its exit status."""
    config = options.load()
    try:
        check_telemetry_path(options.web_telemetry_path)
        settings = WebSettings(options.web_config_file)
        source = open_source(config)
        sockets = bind(options.web_listen_address or DEFAULT_ADDRESSES)
        session = open_session(
            options.broker_socket,
            local=config.role is not Role.CLUSTER,
            programs=bool(config.inventory.kubeconfig),
            directory=config.netns.directory,
        )
    except (BrokerError, InventoryError, ListenError, ValueError) as error:
        raise CommandError(str(error)) from error

    options.log.start()
    try:
        daemon = Daemon(
            options=options, config=config, source=source, session=session, sockets=sockets, web_settings=settings
        )
        _warn_unreadable(config, options, settings)
        for listener in sockets:
            log.info("listening", extra=fields(address=format_address(listener)))
        return asyncio.run(daemon.run())
    finally:
        if session is not None:
            session.end()
        options.log.end(LAST_LINES)


def _warn_unreadable(config: Config, options: Options, settings: WebSettings) -> None:
    """Files that a reload or a probe reads must be readable without privilege."""
    reloaded = (
        options.config_file,
        options.web_config_file,
        *settings.current().config.tls_server_config.files,
        config.inventory.file,
    )
    for files, effect in (
        (reloaded, "reload will fail"),
        # What was read of it before privilege was dropped is used until the API server refuses it.
        ((config.inventory.kubeconfig,), "credentials cannot be renewed"),
        ((target.ca_file for target in config.targets), "tls cannot be probed"),
    ):
        unreadable = [file for file in dict.fromkeys(files) if file and not os.access(file, os.R_OK)]
        if unreadable:
            log.warning("file is readable by root only; %s", effect, extra=fields(files=", ".join(unreadable)))
