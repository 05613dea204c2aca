"""YAML text as a small bounded tree: the reader of configuration files and, with other limits, of inventories.

Only mappings, lists and scalars are understood. Tags, duplicate keys and floods (size, depth, aliases that multiply)
are refused. Scalars keep their text, so that `2001:db8::1` is never a number; callers interpret it. No I/O.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeAlias

import yaml

LARGEST = 1024 * 1024  # bytes of one configuration file


class ConfigError(Exception):
    """A file that cannot be used. Its text is one line: the file, the dotted path, what is wrong."""


class Fault(Exception):  # noqa: N818  # an internal carrier; ConfigError is what leaves
    """A problem at a dotted path; the loader puts the file's name before it."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"{path}: {problem}" if path else problem)


class ScalarType(StrEnum):
    """What YAML takes a plain scalar for. A quoted one is always text."""

    TEXT = "text"
    BOOLEAN = "a boolean"
    NUMBER = "a number"
    EMPTY = "empty"


@dataclass(frozen=True, slots=True)
class Scalar:
    text: str
    type: ScalarType


Node: TypeAlias = "Scalar | list[Node] | dict[str, Node]"
# Where a node is: the place of its container, and its key or index there. Written out for messages only.
_Place: TypeAlias = "tuple[_Place, str | int] | None"


def join_path(path: str, key: str) -> str:
    """The dotted path of a key below `path`; a key that is no plain word is quoted."""
    shown = key if re.fullmatch(r"[A-Za-z0-9_/-]{1,60}", key) else quote(key)
    return f"{path}.{shown}" if path else shown


def quote(text: str) -> str:
    """Foreign text for a message: cut, quoted, every control character escaped."""
    return json.dumps(text if len(text) <= 60 else text[:57] + "...", ensure_ascii=not text.isprintable())


def is_empty(node: Node) -> bool:
    """Whether the key has no value: `key:`, ~ or null."""
    return isinstance(node, Scalar) and node.type is ScalarType.EMPTY


def parse_document(source: str | bytes) -> Node | None:
    """The tree of the one document of a configuration; None where it is empty. Raises Fault, and nothing else."""
    documents = DocumentReader().read(_decode(source))
    _, root = next(documents, ("", None))
    for line, _ in documents:
        raise Fault(line, "a second document begins: one is read")
    return None if root is None or is_empty(root) else root


def _decode(source: str | bytes) -> str:
    if len(source) > LARGEST:
        raise Fault("", f"larger than {LARGEST // 1024} KiB")
    if isinstance(source, str):
        return source.removeprefix("\ufeff")
    try:
        return source.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Fault("", f"not UTF-8 at byte {error.start}") from None


# YAML 1.1 words and numbers, without sexagesimals: neither 1:20 nor 2001:db8::1 is a number here.
_TYPES = re.compile(
    r"(?P<EMPTY>|~|null|Null|NULL)|(?P<BOOLEAN>(?i:true|false|yes|no|on|off))"
    r"|(?P<NUMBER>[-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?i:inf)|\.(?i:nan))"
)


class DocumentReader:
    """Turns the parser's events into trees. `most`: of nodes, each alias counted in full; None: aliases are refused."""

    def __init__(
        self,
        *,
        loader: Any = yaml.SafeLoader,
        deepest: int = 32,
        most: int | None = 50_000,
        tags: frozenset[str | None] = frozenset({None}),
    ) -> None:
        self._loader = loader
        self._deepest = deepest
        self._most = most
        self._tags = tags
        self._count = 0
        self._anchors: dict[str, tuple[Node, int]] = {}
        self._events: Iterator[Any] = iter(())

    def read(self, text: str) -> Iterator[tuple[str, Node]]:
        """Each document, with the line where it begins. Raises Fault, and nothing else."""
        try:
            self._events = iter(yaml.parse(text, Loader=self._loader))
            for event in self._events:
                if isinstance(event, yaml.DocumentStartEvent):
                    yield _line(event), self._node(next(self._events), None, 0)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            where = f"line {mark.line + 1}, column {mark.column + 1}" if mark else ""
            problem = error.problem or error.context or "not YAML"
            raise Fault(where, " ".join(problem.split())) from None
        except yaml.reader.ReaderError as error:
            line = text.count("\n", 0, error.position) + 1
            raise Fault(f"line {line}", f"the character U+{error.character:04X} is not allowed in YAML") from None
        except (ValueError, OverflowError):
            # PyYAML turns an escape such as "\UFFFFFFFF" or an endless %YAML version into these.
            raise Fault("", "not YAML: a number in it is out of range") from None

    def _node(self, event: Any, place: _Place, depth: int) -> Node:
        if depth > self._deepest:
            raise Fault(_line(event), f"nested more than {self._deepest} deep")
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event)
        if event.tag not in self._tags:
            raise Fault(_line(event), f"the tag {quote(str(event.tag))} is not understood")
        before = self._count
        self._add(1, event)
        node: Node
        if isinstance(event, yaml.ScalarEvent):
            text = _clean(event, place)
            match = _TYPES.fullmatch(text) if event.implicit[0] else None  # not where it is quoted or a block
            node = Scalar(text, ScalarType[str(match.lastgroup)] if match else ScalarType.TEXT)
        elif isinstance(event, yaml.SequenceStartEvent):
            node = self._items(place, depth)
        else:
            node = self._entries(place, depth)
        if event.anchor:
            self._anchors[event.anchor] = (node, self._count - before)
        return node

    def _items(self, place: _Place, depth: int) -> list[Node]:
        items: list[Node] = []
        for event in self._events:
            if isinstance(event, yaml.SequenceEndEvent):
                break
            items.append(self._node(event, (place, len(items)), depth + 1))
        return items

    def _entries(self, place: _Place, depth: int) -> dict[str, Node]:
        entries: dict[str, Node] = {}
        for event in self._events:
            if isinstance(event, yaml.MappingEndEvent):
                break
            if not isinstance(event, yaml.ScalarEvent):
                raise Fault(_line(event), "a key must be plain text")
            key = _clean(event, place)
            if key in entries:
                raise Fault(_path((place, key)), f"appears twice, again in {_line(event)}")
            entries[key] = self._node(next(self._events), (place, key), depth + 1)
        return entries

    def _alias(self, event: Any) -> Node:
        if self._most is None:
            raise Fault(_line(event), "aliases are not accepted")
        if event.anchor not in self._anchors:
            raise Fault(_line(event), f"the alias {quote('*' + event.anchor)} refers to nothing complete")
        node, size = self._anchors[event.anchor]
        self._add(size, event)
        return node

    def _add(self, size: int, event: Any) -> None:
        self._count += size
        if self._most is not None and self._count > self._most:
            raise Fault(_line(event), f"more than {self._most} values")


def _line(event: Any) -> str:
    return f"line {event.start_mark.line + 1}" if event.start_mark else "somewhere"


def _path(place: _Place) -> str:
    if place is None:
        return ""
    container, key = place
    return f"{_path(container)}[{key}]" if isinstance(key, int) else join_path(_path(container), key)


def _clean(event: Any, place: _Place) -> str:
    """The scalar's text. A lone surrogate (written as an escape) could be neither printed nor sent."""
    text: str = event.value
    if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        raise Fault(_path(place) or _line(event), "holds half a surrogate pair, which is no character")
    return text
