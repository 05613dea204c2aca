"""Starts the daemon: reads what needs privilege, binds, starts the broker, gives privilege up, then runs. Synchronous until the loop.

Everything that can be refused is refused here, in one line and before anything else is started.
"""

from __future__ import annotations

import asyncio
import logging

from exporter.app import Daemon
from exporter.command import Refusal
from exporter.discovery.file import InventoryError
from exporter.discovery.sources import open_source
from exporter.model.report import Role
from exporter.options import Options
from exporter.session import open_session
from exporter.web.listening import ListenError, bind
from exporter.web.settings import WebSettingsError, load_web_settings

log = logging.getLogger(__name__)


def launch(options: Options) -> int:
    """Run the daemon until it is told to stop; its exit status."""
    config = options.load()
    try:
        settings = load_web_settings(options.web_config_file)
        source = open_source(config)
        sockets = bind(options.listen)
    except (WebSettingsError, InventoryError, ListenError) as error:
        raise Refusal(str(error)) from error
    session = open_session(options.broker_socket) if config.role is not Role.CLUSTER else None
    try:
        return asyncio.run(Daemon(options, config, source, session, sockets, settings).run())
    finally:
        if session is not None:
            session.end()
