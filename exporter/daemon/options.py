"""The flags of all commands, the configuration that follows from them, and the error that a command ends with.

Filled by cli/command.py, read by everything that it starts.
"""

from __future__ import annotations

import argparse
import os
import socket

from exporter.config.load import load_config
from exporter.config.schema import Config
from exporter.telemetry.log_writer import LogWriter


class CommandError(Exception):
    """A command cannot go on for a reason outside the program. The message is one line; the exit status is 2."""


class Options(argparse.Namespace):
    """All flags, typed (docs/specification.md section 2). Each attribute here is the flag's default."""

    command: str = ""  # empty: the daemon
    config_file: str = ""
    role: str = ""
    inventory_file: str = ""
    broker_socket: str = ""
    web_listen_address: list[str] | None = None
    web_config_file: str = ""
    web_telemetry_path: str = "/metrics"
    web_enable_lifecycle: bool = False
    log_level: str = ""
    log_format: str = "logfmt"
    log: LogWriter  # set up by these two
    output: str = "text"
    # check
    fail_on: str = "warning"
    last: bool = False
    nodes: str = ""
    # config
    schema: bool = False
    # migration
    to: str = ""
    # probe, resolve
    pod: str = ""
    netns: str = ""
    family: str = "any"
    target: str = ""
    layers: str = ""
    name: str = ""
    resolv_conf: str = ""

    def load(self) -> Config:
        """The configuration as its file is now; ConfigError (one line) where it is bad."""
        return load_config(
            path=self.config_file,
            environment=os.environ,
            hostname=socket.gethostname(),
            role=self.role,
            inventory_file=self.inventory_file,
        )
