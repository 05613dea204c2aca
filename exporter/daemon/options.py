"""What the command line says, as one frozen value; and the configuration that follows from it. Between command and app."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass

from exporter.config import Config, load_config_file


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The flags of contract section 2."""

    config_file: str = ""
    role: str = ""
    inventory_file: str = ""
    broker_socket: str = ""
    listen: tuple[str, ...] = ()
    web_config_file: str = ""
    telemetry_path: str = "/metrics"
    enable_lifecycle: bool = False
    log_level: str = "info"
    log_format: str = "logfmt"

    def load(self) -> Config:
        """The configuration of this moment; ConfigError (one line) where it is bad."""
        return load_config_file(
            self.config_file,
            environment=os.environ,
            hostname=socket.gethostname(),
            role=self.role,
            inventory_file=self.inventory_file,
        )
