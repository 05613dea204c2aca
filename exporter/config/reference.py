"""The configuration written out: the effective one as YAML, every key as a row of the reference table, all as a schema.

`dualstack-exporter config` and /config show the first, `dualstack-exporter reference` the second, `config --schema` the
third. Pure.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from exporter.config.kinds import ListOf, Maybe, Option, Plain, Section, ValueKind
from exporter.config.schema import Config

# No key of the configuration holds a secret now; the value of any key of these names is masked.
SECRET_KEYS = frozenset({"authorization", "bearer_token", "cookie", "headers", "key", "password", "secret", "token"})
_MASK = "<secret>"


def format_config(config: Config) -> str:
    """YAML of the whole configuration, defaults filled in, secrets masked. Loading it gives the same Config."""
    plain = mask_secrets(Section(Config).encode(config))
    return yaml.safe_dump(plain, sort_keys=False, allow_unicode=True, width=120)


def format_schema() -> str:
    """The JSON Schema (draft 7) of a configuration file, from the kinds that decode one.

    It refuses nothing that loads. Of what does not load, it misses what needs more than patterns (addresses, ranges of
    durations, an order), two values (consistency.py) or a file.
    """
    schema = {"$schema": "http://json-schema.org/draft-07/schema#", "title": "Configuration of dualstack-exporter"}
    return json.dumps(schema | Section(Config).json_schema(), indent=2) + "\n"


def mask_secrets(plain: Plain) -> Plain:
    """The same tree with every value under a secret's key replaced."""
    if isinstance(plain, dict):
        return {key: _MASK if key.lower() in SECRET_KEYS else mask_secrets(value) for key, value in plain.items()}
    if isinstance(plain, list):
        return [mask_secrets(item) for item in plain]
    return plain


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One key. `key` is dotted, with [] after a list; `default` is YAML in one line, or words where YAML has none."""

    key: str
    type: str
    default: str
    meaning: str


def list_keys() -> tuple[Row, ...]:
    """All keys in the order of the schema; sections without a value of their own are not listed, their keys are."""
    return tuple(_rows(Section(Config), ""))


def _rows(section: Section[Any], prefix: str) -> Iterator[Row]:
    for name, option in section.options.items():
        key = f"{prefix}{name}"
        kind = option.kind.kind if isinstance(option.kind, Maybe) else option.kind
        if not isinstance(kind, Section):
            yield Row(key=key, type=kind.label, default=_default(option, kind), meaning=option.meaning)
        inner = kind.item if isinstance(kind, ListOf) else kind
        if isinstance(inner, Section):
            yield from _rows(inner, f"{key}[]." if isinstance(kind, ListOf) else f"{key}.")


def _default(option: Option, kind: ValueKind[Any]) -> str:
    if option.default is dataclasses.MISSING:
        return "required"
    return option.default_text or _inline(option.kind.encode(option.default)) or f"no {kind.label}"


def _inline(plain: Plain) -> str:
    """YAML in one line; nothing for a key that is left out."""
    if plain is None:
        return ""
    if isinstance(plain, str) and plain:
        return plain
    return yaml.safe_dump(plain, default_flow_style=True, width=10_000).removesuffix("\n").removesuffix("\n...")
