"""Mappings with a closed set of keys, each held by a dataclass whose fields say their kind, default and meaning. Beside kinds.py; no I/O."""

from __future__ import annotations

import dataclasses
import difflib
from dataclasses import dataclass
from typing import Any, TypeVar

from exporter.config.document import Entries, Fault, Node, is_empty, join_path
from exporter.config.kinds import Plain, ValueKind

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Option:
    """What a field of a section says of itself: its kind, its meaning, and how the reference words its default."""

    kind: ValueKind[Any]
    meaning: str
    default_text: str = ""


def option(kind: ValueKind[Any], meaning: str, *, default: Any = dataclasses.MISSING, default_text: str = "") -> Any:
    """A dataclass field with its kind and meaning; without a default the key is required."""
    metadata = {"option": Option(kind, meaning, default_text)}
    return dataclasses.field(default=default, metadata=metadata)


def options_of(section: type[Any]) -> dict[str, tuple[Option, Any]]:
    """Each key of a section, with its option and its default (dataclasses.MISSING: required)."""
    return {field.name: (field.metadata["option"], field.default) for field in dataclasses.fields(section)}


@dataclass(frozen=True, slots=True)
class Section(ValueKind[T]):
    """A mapping with a closed set of keys, held by a dataclass whose fields are made by `option`."""

    holder: type[T]

    @property
    def label(self) -> str:
        return "mapping"

    @property
    def noun(self) -> str:
        return "a mapping"

    def decode(self, node: Node, path: str) -> T:
        if not isinstance(node, Entries):
            raise self.refuse(node, path)
        known = options_of(self.holder)
        for key, _ in node.entries:
            if key not in known:
                raise Fault(join_path(path, key), unknown(key, known))
        values = {}
        for key, (entry, default) in known.items():
            child = node.get(key)
            if child is not None:
                below = join_path(path, key)
                if is_empty(child):
                    raise Fault(below, "is empty: leave the key out to take the default")
                values[key] = entry.kind.decode(child, below)
            elif default is dataclasses.MISSING:
                raise Fault(join_path(path, key), "is missing")
        return self.holder(**values)

    def encode(self, value: T) -> Plain:
        plain = {key: entry.kind.encode(getattr(value, key)) for key, (entry, _) in options_of(self.holder).items()}
        return {key: text for key, text in plain.items() if text is not None}


def unknown(key: str, known: dict[str, Any]) -> str:
    """What to say of a key that is not known, with the nearest known one."""
    near = difflib.get_close_matches(key[:60], known, n=1)
    return f"unknown key, did you mean {near[0]}?" if near else "unknown key"
