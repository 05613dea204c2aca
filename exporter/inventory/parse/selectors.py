"""Selectors of labels as one small expression tree, and Kubernetes' label selectors as such. Pure.

Calico's own language is read by calico_selectors.py into the same tree; selection.py evaluates it against an index of
pods.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from exporter.inventory.parse.fields import items, mapping, text, texts

MAX_TERMS = 2_000
NAMESPACE_LABEL = "projectcalico.org/namespace"  # Calico gives it to every workload endpoint

Lookup: TypeAlias = Callable[[str], str | None]


class SelectorError(ValueError):
    """The text or object is no selector."""


@dataclass(frozen=True, slots=True)
class Everything:
    """all(), and Kubernetes' empty selector."""


@dataclass(frozen=True, slots=True)
class Has:
    key: str


@dataclass(frozen=True, slots=True)
class In:
    """The label is there and has one of the values."""

    key: str
    values: frozenset[str]


@dataclass(frozen=True, slots=True)
class TextRequirement:
    """The label is there and contains, starts with or ends with a string."""

    key: str
    how: str  # contains | starts | ends
    value: str


@dataclass(frozen=True, slots=True)
class Not:
    part: Selector


@dataclass(frozen=True, slots=True)
class Every:
    parts: tuple[Selector, ...]


@dataclass(frozen=True, slots=True)
class Some:
    parts: tuple[Selector, ...]


Selector: TypeAlias = Everything | Has | In | TextRequirement | Not | Every | Some

EVERYTHING = Everything()


def matches(selector: Selector, lookup: Lookup) -> bool:
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
        case Everything():
            return True


def may_match(selector: Selector, lookup: Lookup, known: Callable[[str], bool], *, wanted: bool = True) -> bool:
    """Whether labels of which some are not known could satisfy the selector, or fail to (`wanted` false)."""
    match selector:
        case Every(parts) | Some(parts):
            could = (may_match(part, lookup, known, wanted=wanted) for part in parts)
            # All must hold for Every, and all must fail for Some to.
            return all(could) if isinstance(selector, Every) == wanted else any(could)
        case Not(part):
            return may_match(part, lookup, known, wanted=not wanted)
        case Everything():
            return wanted
    return not known(selector.key) or matches(selector, lookup) == wanted


def _text_matches(how: str, label: str | None, value: str) -> bool:
    if label is None:
        return False
    if how == "contains":
        return value in label
    return label.startswith(value) if how == "starts" else label.endswith(value)


def every(parts: Sequence[Selector]) -> Selector:
    """All of the parts, in the simplest form."""
    kept = tuple(part for part in parts if not isinstance(part, Everything))
    return EVERYTHING if not kept else kept[0] if len(kept) == 1 else Every(kept)


def parse_labels(source: object, rename: Callable[[str], str] = str) -> Selector:
    """A Kubernetes LabelSelector; absent or empty selects everything. `rename` maps keys (Cilium prefixes them).

    Raises:
        SelectorError: not an object, or an operator that does not exist.
    """
    if source is None:
        return EVERYTHING
    if not isinstance(source, dict):
        raise SelectorError("a label selector must be an object")
    parts: list[Selector] = []
    for key, value in mapping(source.get("matchLabels")).items():
        if not isinstance(value, str):
            raise SelectorError("matchLabels must map strings to strings")
        parts.append(In(rename(key), frozenset({value})))
    parts.extend(_expression(mapping(each), rename) for each in items(source.get("matchExpressions")))
    if len(parts) > MAX_TERMS:
        raise SelectorError("too many terms")
    return every(parts)


def _expression(source: object, rename: Callable[[str], str]) -> Selector:
    fields = mapping(source)
    key, operator = rename(text(fields.get("key"))), text(fields.get("operator"))
    values = frozenset(texts(fields.get("values")))
    if not key:
        raise SelectorError("matchExpressions without key")
    match operator:
        case "In":
            return In(key, values)
        case "NotIn":
            return Not(In(key, values))
        case "Exists":
            return Has(key)
        case "DoesNotExist":
            return Not(Has(key))
    raise SelectorError(f"unknown operator {operator[:40]!r}")
