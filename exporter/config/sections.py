"""Mappings with a closed set of keys, each with its kind, meaning and default. Between kinds and schema; no I/O."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeVar

from exporter.config.document import Entries, Fault, Node, is_empty, join_path
from exporter.config.kinds import Choice, Plain, ValueKind

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One key. Without a default it is required; `default_text` is the default in words, for the reference."""

    kind: ValueKind[Any]
    meaning: str
    default: Any = dataclasses.MISSING
    default_text: str = ""


def option(kind: ValueKind[Any], meaning: str, *, default: Any = dataclasses.MISSING, default_text: str = "") -> Any:
    """A dataclass field for one key."""
    metadata = {"option": Option(kind=kind, meaning=meaning, default=default, default_text=default_text)}
    if isinstance(default, Mapping):  # not hashable, so not accepted as a plain default
        return dataclasses.field(default_factory=lambda: default, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def options_of(section: type[Any]) -> dict[str, Option]:
    """The keys of a dataclass whose fields are made by `option`."""
    return {field.name: field.metadata["option"] for field in dataclasses.fields(section)}


@dataclass(frozen=True, slots=True)
class Section(ValueKind[T]):
    """A mapping with a closed set of keys: the fields of a dataclass of options, or a dict with the keys of `table`."""

    holder: type[T]
    table: Mapping[str, Option] | None = None
    label = "mapping"
    noun = "a mapping"

    @property
    def options(self) -> Mapping[str, Option]:
        return options_of(self.holder) if self.table is None else self.table

    def decode(self, node: Node, path: str) -> T:
        if not isinstance(node, Entries):
            raise self.refuse(node, path)
        options = self.options
        for key, _ in node.entries:
            if key not in options:
                raise Fault(join_path(path, key), unknown(key, options))
        return self.holder(
            **{key: _value(node.get(key), join_path(path, key), option) for key, option in options.items()}
        )

    def encode(self, value: T) -> Plain:
        values = value if isinstance(value, Mapping) else {key: getattr(value, key) for key in self.options}
        plain = {key: option.kind.encode(values[key]) for key, option in self.options.items()}
        return {key: text for key, text in plain.items() if text is not None}


def _value(node: Node | None, path: str, option: Option) -> Any:
    if node is None:
        if option.default is dataclasses.MISSING:
            raise Fault(path, "is missing")
        return option.default
    if is_empty(node):
        raise Fault(path, "is empty: leave the key out to take the default")
    return option.kind.decode(node, path)


def section(holder: type[T]) -> Any:
    """A dataclass field for a section that may be left out."""
    return option(Section(holder), "", default=holder())


def choice(default: StrEnum, meaning: str) -> Any:
    """A dataclass field for one member of a closed set."""
    return option(Choice(type(default)), meaning, default=default)


def unknown(key: str, known: Iterable[str]) -> str:
    """What to say of a key that is not known, with the nearest known one."""
    near = difflib.get_close_matches(key[:60], known, n=1)
    return f"unknown key, did you mean {near[0]}?" if near else "unknown key"
