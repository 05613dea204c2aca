"""The kinds of value in a configuration: how each is read, written back and named. Between document.py and schema.py.

A kind decodes a node of the YAML tree into a plain value or raises Fault with the dotted path, and encodes the value so
that decoding gives it again. A Section is a mapping with a closed set of keys, each with its kind, meaning and default.
consistency.py compares several values. No I/O.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Generic, TypeAlias, TypeVar

from exporter.config.document import Fault, Node, Scalar, ScalarType, is_empty, join_path, quote

T = TypeVar("T")
E = TypeVar("E", bound=StrEnum)

Plain: TypeAlias = str | int | bool | list[Any] | dict[str, Any] | None
"""What YAML can write. None is a key that is left out."""
JsonSchema: TypeAlias = dict[str, Any]


class ValueKind(ABC, Generic[T]):
    """One kind of value."""

    @property
    @abstractmethod
    def label(self) -> str:
        """The kind's name in the reference table: `duration`."""

    @property
    def noun(self) -> str:
        """What a value must be, as messages say it: `a duration (30s, 1m30s, 500ms)`."""
        return self.label

    @abstractmethod
    def decode(self, node: Node, path: str) -> T:
        """The value, or Fault."""

    def encode(self, value: T) -> Plain:
        """What decodes to the value again."""
        return str(value)

    def json_schema(self) -> JsonSchema:
        """The values in JSON Schema, draft 7: all that decode takes, and some that it refuses."""
        return {"type": "string"}

    def refuse(self, node: Node, path: str) -> Fault:
        """The fault of a node that is not of this kind."""
        return Fault(path, f"{show(node)} is not {self.noun}")


class ScalarKind(ValueKind[T]):
    """A kind that is written as one scalar, whatever type YAML gives it."""

    def decode(self, node: Node, path: str) -> T:
        if not isinstance(node, Scalar):
            raise self.refuse(node, path)
        try:
            return self.parse(node.text, path)
        except ValueError:
            raise self.refuse(node, path) from None

    @abstractmethod
    def parse(self, text: str, path: str) -> T:
        """The value. ValueError where the text is not of this kind, Fault where there is more to say."""


def show(node: Node) -> str:
    """A node as messages name it: a short scalar as written, anything else by its form."""
    if isinstance(node, Scalar):
        return show_text(node.text)
    return "a list" if isinstance(node, list) else "a mapping"


def show_text(text: str) -> str:
    """A short plain word as it is, anything else quoted."""
    return text if re.fullmatch(r"[A-Za-z0-9_.:/%+*=-]{1,60}", text) else quote(text)


def scalar_text(node: Node, path: str, noun: str) -> str:
    """The text of a scalar that YAML takes for text; a boolean or a number has to be quoted to be one."""
    if not isinstance(node, Scalar):
        raise Fault(path, f"{show(node)} is not {noun}")
    if node.type is not ScalarType.TEXT:
        raise Fault(path, f"{show(node)} is {node.type} in YAML, not {noun}: quote it")
    return node.text


@dataclass(frozen=True, slots=True, kw_only=True)
class Text(ValueKind[str]):
    """One line of text that a pattern or a check accepts. `wanted` says in words what it must be.

    `shape` is for the schema: a pattern of every text that the check accepts.
    """

    wanted: str = "text"
    shape: str = ""
    check: re.Pattern[str] | Callable[[str], bool] = str.isprintable
    empty: bool = False
    longest: int = 4096

    @property
    def label(self) -> str:
        return self.wanted.removeprefix("a ").removeprefix("an ").partition(" (")[0]

    @property
    def noun(self) -> str:
        return self.wanted

    def decode(self, node: Node, path: str) -> str:
        text = scalar_text(node, path, self.noun)
        if not text and self.empty:
            return text
        check = self.check.fullmatch if isinstance(self.check, re.Pattern) else self.check
        if not text or len(text) > self.longest or not text.isprintable() or not check(text):
            raise self.refuse(node, path)
        return text

    def json_schema(self) -> JsonSchema:
        shape = self.check.pattern if isinstance(self.check, re.Pattern) else self.shape
        bounds = {"minLength": 0 if self.empty else 1, "maxLength": self.longest}
        return {"type": "string", **bounds} | ({"pattern": f"^(?:{shape}){'?' * self.empty}$"} if shape else {})


@dataclass(frozen=True, slots=True)
class Flag(ValueKind[bool]):
    label = "boolean"
    noun = "true or false"

    def decode(self, node: Node, path: str) -> bool:
        if not isinstance(node, Scalar) or node.type is not ScalarType.BOOLEAN:
            raise self.refuse(node, path)
        return node.text.lower() in {"true", "yes", "on"}

    def encode(self, value: bool) -> Plain:
        return value

    def json_schema(self) -> JsonSchema:
        return {"type": "boolean"}


@dataclass(frozen=True, slots=True)
class Count(ScalarKind[int]):
    """A whole number between two bounds."""

    least: int = 0
    most: int = 1000
    what: str = "a number"

    @property
    def label(self) -> str:
        return self.noun.removeprefix("a ")

    @property
    def noun(self) -> str:
        return f"{self.what} ({self.least}-{self.most})"

    def decode(self, node: Node, path: str) -> int:
        if isinstance(node, Scalar) and node.type is ScalarType.TEXT and node.text.isdecimal():
            raise Fault(path, f"{quote(node.text)} is text in YAML, not {self.noun}: leave the quotes out")
        return ScalarKind.decode(self, node, path)  # super() fails in a dataclass with slots

    def parse(self, text: str, path: str) -> int:  # noqa: ARG002 - the signature of all kinds
        if not re.fullmatch("[0-9]{1,9}", text) or not self.least <= int(text) <= self.most:
            raise ValueError(text)
        return int(text)

    def encode(self, value: int) -> Plain:
        return value

    def json_schema(self) -> JsonSchema:
        return {"type": "integer", "minimum": self.least, "maximum": self.most}


PORT = Count(1, 65535, "a port")


@dataclass(frozen=True, slots=True)
class Duration(ScalarKind[float]):
    """A Prometheus duration, in seconds, between two bounds."""

    least: float = 0.001
    most: float = 86400.0
    label = "duration"
    noun = "a duration (30s, 1m30s, 500ms)"

    def parse(self, text: str, path: str) -> float:
        seconds = parse_duration(text)
        if not self.least <= seconds <= self.most:
            bounds = f"{format_duration(self.least)} to {format_duration(self.most)}"
            raise Fault(path, f"{text} is out of range ({bounds})")
        return seconds

    def encode(self, value: float) -> Plain:
        return format_duration(value)

    def json_schema(self) -> JsonSchema:
        text = {"type": "string", "pattern": f"^(?:0|{_DURATION.pattern})$", "minLength": 1}
        return text if self.least else text | or_text(Count(0, 0))


@dataclass(frozen=True, slots=True)
class Choice(ScalarKind[E]):
    """One member of a closed set."""

    members: type[E]

    @property
    def label(self) -> str:
        return " | ".join(self.members)

    @property
    def noun(self) -> str:
        return f"one of {', '.join(self.members)}"

    def parse(self, text: str, path: str) -> E:  # noqa: ARG002 - the signature of all kinds
        return self.members(text)

    def json_schema(self) -> JsonSchema:
        return {"enum": [*map(str, self.members)]}


@dataclass(frozen=True, slots=True)
class ListOf(ValueKind[tuple[T, ...]]):
    """A list of one kind. `unique` refuses equal values, `least` is the smallest length."""

    item: ValueKind[T]
    least: int = 0
    unique: bool = True
    noun = "a list"

    @property
    def label(self) -> str:
        label = self.item.label
        return f"list of ({label})" if " | " in label else f"list of {label}"

    def decode(self, node: Node, path: str) -> tuple[T, ...]:
        if not isinstance(node, list):
            raise self.refuse(node, path)
        if len(node) < self.least:
            raise Fault(path, "must not be empty")
        values: list[T] = []
        for index, child in enumerate(node):
            below = f"{path}[{index}]"
            if is_empty(child):
                raise Fault(below, "is empty")
            value = self.item.decode(child, below)
            if self.unique and value in values:
                raise Fault(below, f"{show(child)} appears twice")
            values.append(value)
        return tuple(values)

    def encode(self, value: tuple[T, ...]) -> Plain:
        return [self.item.encode(item) for item in value]

    def json_schema(self) -> JsonSchema:
        return {"type": "array", "items": self.item.json_schema(), "minItems": self.least, "uniqueItems": self.unique}


@dataclass(frozen=True, slots=True)
class Maybe(ValueKind[T | None]):
    """A kind whose key may be absent without taking a value: None, and written back by leaving the key out."""

    kind: ValueKind[T]

    @property
    def label(self) -> str:
        return self.kind.label

    def decode(self, node: Node, path: str) -> T | None:
        return self.kind.decode(node, path)

    def encode(self, value: T | None) -> Plain:
        return None if value is None else self.kind.encode(value)

    def json_schema(self) -> JsonSchema:
        return self.kind.json_schema()


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


@dataclass(frozen=True, slots=True)
class Section(ValueKind[T]):
    """A mapping with a closed set of keys: the fields of a dataclass of options, or a dict with the keys of `table`."""

    holder: type[T]
    table: Mapping[str, Option] | None = None
    label = "mapping"
    noun = "a mapping"

    @property
    def options(self) -> Mapping[str, Option]:
        if self.table is not None:
            return self.table
        holder: Any = self.holder
        return {field.name: field.metadata["option"] for field in dataclasses.fields(holder)}

    def decode(self, node: Node, path: str) -> T:
        if not isinstance(node, dict):
            raise self.refuse(node, path)
        options = self.options
        for key in node:
            if key not in options:
                raise Fault(join_path(path, key), unknown(key, options))
        return self.holder(
            **{key: _value(node.get(key), join_path(path, key), option) for key, option in options.items()}
        )

    def encode(self, value: T) -> Plain:
        values = value if isinstance(value, Mapping) else {key: getattr(value, key) for key in self.options}
        plain = {key: option.kind.encode(values[key]) for key, option in self.options.items()}
        return {key: text for key, text in plain.items() if text is not None}

    def json_schema(self) -> JsonSchema:
        required = [key for key, option in self.options.items() if option.default is dataclasses.MISSING]
        properties = {key: _property(option) for key, option in self.options.items()}
        return {"type": "object", "additionalProperties": False, "properties": properties, "required": required}


def _property(option: Option) -> JsonSchema:
    schema = option.kind.json_schema()
    if option.meaning:
        text = f" (default: {option.default_text})" if option.default_text else ""
        schema = {"description": f"{option.meaning}{text}", **schema}
        if not text and option.default is not dataclasses.MISSING:
            default = option.kind.encode(option.default)
            schema |= {} if default is None else {"default": default}
    return schema


def _value(node: Node | None, path: str, option: Option) -> Any:
    if node is None:
        if option.default is dataclasses.MISSING:
            raise Fault(path, "is missing")
        return option.default
    if is_empty(node):
        raise Fault(path, "is empty: leave the key out to take the default")
    return option.kind.decode(node, path)


def or_text(kind: ValueKind[Any], pattern: str = "") -> JsonSchema:
    """The schema of a kind or a text. Not by anyOf: a wrong value then has one error, that of its own type."""
    schema = kind.json_schema()
    return schema | {"type": ["string", schema["type"]], **({"pattern": pattern} if pattern else {})}


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


_UNITS = {"y": 31_536_000_000, "w": 604_800_000, "d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1_000, "ms": 1}
# Each unit at most once, largest first, as in Prometheus' grammar; nine digits of years fit a float exactly.
_DURATION = re.compile("".join(rf"(?:([0-9]{{1,9}}){unit})?" for unit in _UNITS))


def parse_duration(text: str) -> float:
    """Seconds of a duration such as `1h30m`, `500ms` or `0`. Anything else is a ValueError."""
    if text == "0":
        return 0.0
    match = _DURATION.fullmatch(text)
    if match is None or not text:
        raise ValueError(f"{text!r} is not a duration")
    # Whole milliseconds are summed, so that 1s1ms is 1.001 and not 1.0009999.
    return sum(int(count or 0) * size for count, size in zip(match.groups(), _UNITS.values(), strict=True)) / 1000


def format_duration(seconds: float) -> str:
    """The shortest exact form in days down to milliseconds: 90.5 is `1m30s500ms`, 0 is `0s`."""
    left = round(seconds * 1000)
    parts = []
    for unit, size in [*_UNITS.items()][2:]:
        count, left = divmod(left, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"
