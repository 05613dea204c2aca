"""The effective configuration as YAML, every default filled in: what `config` prints and /config shows. Loading it gives the same Config."""

from __future__ import annotations

import yaml

from exporter.config.kinds import Plain
from exporter.config.schema import Config
from exporter.config.sections import Section

# No key of today's configuration holds a secret; one that is ever named like these does not leave the process.
SECRET_KEYS = frozenset({"authorization", "bearer_token", "cookie", "headers", "key", "password", "secret", "token"})
_MASK = "<secret>"


def format_config(config: Config) -> str:
    """YAML of the whole configuration, keys in the order of the schema, secrets masked."""
    plain = mask_secrets(Section(Config).encode(config))
    return yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, width=120)


def mask_secrets(plain: Plain) -> Plain:
    """The same tree with every value under a secret's key replaced."""
    if isinstance(plain, dict):
        return {key: _MASK if key.lower() in SECRET_KEYS else mask_secrets(value) for key, value in plain.items()}
    if isinstance(plain, list):
        return [mask_secrets(item) for item in plain]
    return plain
