"""YAML text as a small bounded tree, before anything is known of its meaning. First step of reading a configuration file.

Only what a configuration needs of YAML is understood: one document of mappings, lists and scalars. Tags, duplicate keys
and floods (size, depth, aliases that multiply) are refused. Scalars keep their text: what it means is for the kinds
(kinds.py) to say, so that `2001:db8::1` is never a number. This file opens nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

import yaml

LARGEST = 1024 * 1024  # bytes of one file
_MOST_NODES = 50_000  # with every alias counted as what it stands for
_DEEPEST = 32


class ConfigError(Exception):
    """A file that cannot be used. Its text is one line: the file, the dotted path, what is wrong."""


class Fault(Exception):  # noqa: N818  # an internal carrier; ConfigError is what leaves
    """Something wrong at a dotted path; the loader puts the file's name before it."""

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


@dataclass(frozen=True, slots=True)
class Items:
    items: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Entries:
    entries: tuple[tuple[str, Node], ...]

    def get(self, key: str) -> Node | None:
        """The value under that key, None where it is absent."""
        return next((value for name, value in self.entries if name == key), None)

    def put(self, key: str, value: Node) -> Entries:
        """The same mapping with that key set."""
        return Entries((*((k, v) for k, v in self.entries if k != key), (key, value)))


Node = Scalar | Items | Entries


def join_path(path: str, key: str) -> str:
    """The dotted path of a key below `path`; a key that is no plain word is quoted."""
    shown = key if re.fullmatch(r"[A-Za-z0-9_/-]{1,60}", key) else quote(key)
    return f"{path}.{shown}" if path else shown


def quote(text: str) -> str:
    """Foreign text for a message: cut, quoted, every control character escaped."""
    return json.dumps(text if len(text) <= 60 else text[:57] + "...", ensure_ascii=not text.isprintable())


def is_empty(node: Node) -> bool:
    """Whether nothing stands there: `key:` with no value, ~ or null."""
    return isinstance(node, Scalar) and node.type is ScalarType.EMPTY


def parse_document(source: str | bytes) -> Node | None:
    """The tree of one YAML document; None where the text holds nothing but comments. Raises Fault, and nothing else."""
    text = _decode(source)
    try:
        return _Builder(yaml.parse(text, Loader=yaml.SafeLoader)).build()
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


def _decode(source: str | bytes) -> str:
    if len(source) > LARGEST:
        raise Fault("", f"larger than {LARGEST // 1024} KiB")
    if isinstance(source, str):
        return source.removeprefix("\ufeff")
    try:
        return source.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Fault("", f"not UTF-8 at byte {error.start}") from None


# YAML 1.1 words and numbers, without sexagesimals: 1:20 is no number here, and 2001:db8::1 never was one.
_EMPTY = re.compile(r"|~|null|Null|NULL")
_BOOLEAN = re.compile(r"(?i:true|false|yes|no|on|off)")
_NUMBER = re.compile(r"[-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?i:inf)|\.(?i:nan)")


def _type_of(text: str) -> ScalarType:
    for pattern, kind in ((_EMPTY, ScalarType.EMPTY), (_BOOLEAN, ScalarType.BOOLEAN), (_NUMBER, ScalarType.NUMBER)):
        if pattern.fullmatch(text):
            return kind
    return ScalarType.TEXT


class _Builder:
    """Turns the parser's events into the tree, counting as it goes."""

    def __init__(self, events: Iterator[yaml.Event]) -> None:
        self._events = events
        self._count = 0
        self._anchors: dict[str, tuple[Node, int]] = {}

    def build(self) -> Node | None:
        root: Node | None = None
        for event in self._events:
            if isinstance(event, yaml.DocumentStartEvent):
                if root is not None:
                    raise Fault(_line(event), "a second document begins: one is read")
                root = self._node(next(self._events), "", 0)
        return None if root is None or is_empty(root) else root

    def _node(self, event: yaml.Event, path: str, depth: int) -> Node:
        line = _line(event)
        if depth > _DEEPEST:
            raise Fault(line, f"nested more than {_DEEPEST} deep")
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event, line)
        if getattr(event, "tag", None):
            raise Fault(line, f"the tag {quote(str(getattr(event, 'tag', '')))} is not understood")
        before = self._count
        self._add(1, line)
        node = self._content(event, path, depth)
        anchor = getattr(event, "anchor", None)
        if anchor:
            self._anchors[anchor] = (node, self._count - before)
        return node

    def _content(self, event: yaml.Event, path: str, depth: int) -> Node:
        if isinstance(event, yaml.SequenceStartEvent):
            return self._items(path, depth)
        if isinstance(event, yaml.MappingStartEvent):
            return self._entries(path, depth)
        assert isinstance(event, yaml.ScalarEvent)
        return Scalar(_clean(event, path), ScalarType.TEXT if event.style else _type_of(event.value))

    def _items(self, path: str, depth: int) -> Items:
        items: list[Node] = []
        for event in self._events:
            if isinstance(event, yaml.SequenceEndEvent):
                break
            items.append(self._node(event, f"{path}[{len(items)}]", depth + 1))
        return Items(tuple(items))

    def _entries(self, path: str, depth: int) -> Entries:
        entries: dict[str, Node] = {}
        for event in self._events:
            if isinstance(event, yaml.MappingEndEvent):
                break
            if not isinstance(event, yaml.ScalarEvent):
                raise Fault(_line(event), "a key must be plain text")
            key = _clean(event, path)
            if key in entries:
                raise Fault(join_path(path, key), f"stands twice, again in {_line(event)}")
            entries[key] = self._node(next(self._events), join_path(path, key), depth + 1)
        return Entries(tuple(entries.items()))

    def _alias(self, event: yaml.AliasEvent, line: str) -> Node:
        anchor = event.anchor or ""
        if anchor not in self._anchors:
            raise Fault(line, f"the alias {quote('*' + anchor)} stands for nothing complete")
        node, size = self._anchors[anchor]
        self._add(size, line)
        return node

    def _add(self, size: int, line: str) -> None:
        self._count += size
        if self._count > _MOST_NODES:
            raise Fault(line, f"more than {_MOST_NODES} values")


def _line(event: yaml.Event) -> str:
    return f"line {event.start_mark.line + 1}" if event.start_mark else "somewhere"


def _clean(event: yaml.ScalarEvent, path: str) -> str:
    """The scalar's text. A lone surrogate (written as an escape) could be neither printed nor sent."""
    if any("\ud800" <= character <= "\udfff" for character in event.value):
        raise Fault(path or _line(event), "holds half a surrogate pair, which is no character")
    return str(event.value)
