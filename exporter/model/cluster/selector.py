"""Selectors of labels as one small expression tree, whatever language they are written in. Pure values and their match.

config/selector.py reads `kubectl -l` texts into it; inventory/parse/selectors.py reads the selectors of objects.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

Lookup: TypeAlias = Callable[[str], str | None]


@dataclass(frozen=True, slots=True)
class Has:
    """The label is present."""

    key: str


@dataclass(frozen=True, slots=True)
class In:
    """The label is present and has one of the values."""

    key: str
    values: frozenset[str]


@dataclass(frozen=True, slots=True)
class TextRequirement:
    """The label is present and contains, starts with or ends with a string."""

    key: str
    how: str  # contains | starts | ends
    value: str


@dataclass(frozen=True, slots=True)
class Not:
    part: LabelExpression


@dataclass(frozen=True, slots=True)
class Every:
    parts: tuple[LabelExpression, ...]


@dataclass(frozen=True, slots=True)
class Some:
    parts: tuple[LabelExpression, ...]


LabelExpression: TypeAlias = Has | In | TextRequirement | Not | Every | Some
EVERYTHING = Every(())


def matches(selector: LabelExpression, lookup: Lookup) -> bool:
    """Whether labels, given by a function from key to value or None, satisfy the selector."""
    match selector:
        case In(key, values):
            return lookup(key) in values
        case Every(parts):
            return all(matches(part, lookup) for part in parts)
        case Some(parts):
            return any(matches(part, lookup) for part in parts)
        case Not(part):
            return not matches(part, lookup)
        case Has(key):
            return lookup(key) is not None
        case TextRequirement(key, how, value):
            return _text_matches(how, lookup(key), value)


def _text_matches(how: str, label: str | None, value: str) -> bool:
    if label is None:
        return False
    if how == "contains":
        return value in label
    return label.startswith(value) if how == "starts" else label.endswith(value)
