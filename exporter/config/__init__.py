"""The configuration: one YAML file, strictly read into frozen values before anything else happens. Everything reads it, nothing changes it."""

from exporter.config.document import ConfigError
from exporter.config.effective import format_config
from exporter.config.load import load_config, load_config_file
from exporter.config.network_kinds import POD_SERVERS, DnsServer
from exporter.config.reference import Row, list_keys
from exporter.config.schema import (
    DEFAULT_PORT,
    AaaaPolicy,
    Config,
    ControlName,
    Dns,
    Expectation,
    RecordType,
    ServiceExpectation,
    ServicePolicy,
    SourceKind,
    TargetConfig,
    VantageKind,
)
from exporter.config.selector import Selector

__all__ = [
    "DEFAULT_PORT",
    "POD_SERVERS",
    "AaaaPolicy",
    "Config",
    "ConfigError",
    "ControlName",
    "Dns",
    "DnsServer",
    "Expectation",
    "RecordType",
    "Row",
    "Selector",
    "ServiceExpectation",
    "ServicePolicy",
    "SourceKind",
    "TargetConfig",
    "VantageKind",
    "format_config",
    "list_keys",
    "load_config",
    "load_config_file",
]
