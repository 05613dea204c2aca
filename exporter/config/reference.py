"""Every configuration key as a row of text, made from the schema: the table of `dualstack-exporter reference`. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from exporter.config.kinds import ListOf, Maybe, Plain, ValueKind
from exporter.config.schema import Config
from exporter.config.sections import Option, Section, options_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One key. `key` is dotted, with [] after a list; `default` is YAML in one line, or words where YAML has none."""

    key: str
    type: str
    default: str
    meaning: str


def list_keys() -> tuple[Row, ...]:
    """All keys in the order of the schema; sections without a value of their own are not listed, their keys are."""
    return tuple(_rows(Config, ""))


def _rows(section: type[Any], prefix: str) -> Iterator[Row]:
    for name, (option, default) in options_of(section).items():
        key = f"{prefix}{name}"
        kind = option.kind.kind if isinstance(option.kind, Maybe) else option.kind
        if not isinstance(kind, Section):
            yield Row(key=key, type=kind.label, default=_default(option, kind, default), meaning=option.meaning)
        inner = kind.item if isinstance(kind, ListOf) else kind
        if isinstance(inner, Section):
            yield from _rows(inner.holder, f"{key}[]." if isinstance(kind, ListOf) else f"{key}.")


def _default(option: Option, kind: ValueKind[Any], default: Any) -> str:
    if default is dataclasses.MISSING:
        return "required"
    return option.default_text or _inline(option.kind.encode(default)) or f"no {kind.label}"


def _inline(plain: Plain) -> str:
    """YAML in one line; nothing for a key that is left out."""
    if plain is None:
        return ""
    if isinstance(plain, str) and plain:
        return plain
    return yaml.safe_dump(plain, default_flow_style=True, width=10_000).removesuffix("\n").removesuffix("\n...")
