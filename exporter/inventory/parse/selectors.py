"""Label selectors of API objects and Calico's selector language (libcalico-go/lib/selector), as expressions. Pure.

Calico has all(), global(), has(), ==, !=, in, not in, contains, starts with, ends with, !, &&, || and brackets.
policies/selection.py evaluates the expressions against an index of pods.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from exporter.inventory.parse.fields import items, mapping, text, texts
from exporter.model.cluster.selector import EVERYTHING, Every, Has, In, LabelExpression, Not, Some, TextRequirement

MAX_TERMS = 2_000
MAX_LENGTH = 16_384
MAX_DEPTH = 50
NAMESPACE_LABEL = "projectcalico.org/namespace"  # Calico gives it to every workload endpoint

_WORD = re.compile(r"[a-zA-Z0-9_./-]{1,512}")
_TOKEN = re.compile(
    rf"""\s*(
      (?:all|global)\(\s*\) | has\(\s*{_WORD.pattern}\s*\)
    | == | != | && | \|\| | [!(){{}},]
    | "[^"]*" | '[^']*' | {_WORD.pattern}
    )""",
    re.VERBOSE,
)


class SelectorError(ValueError):
    """The text or object is no selector."""


def _every(parts: Sequence[LabelExpression]) -> LabelExpression:
    """All of the parts, in the simplest form."""
    kept = tuple(part for part in parts if part != EVERYTHING)
    return kept[0] if len(kept) == 1 else Every(kept)


def parse_labels(source: object, rename: Callable[[str], str] = str) -> LabelExpression:
    """A Kubernetes LabelSelector; absent or empty selects everything. `rename` maps keys. Raises SelectorError."""
    if source is None:
        return EVERYTHING
    if not isinstance(source, dict):
        raise SelectorError("a label selector must be an object")
    parts: list[LabelExpression] = []
    for key, value in mapping(source.get("matchLabels")).items():
        if not isinstance(value, str):
            raise SelectorError("matchLabels must map strings to strings")
        parts.append(In(rename(key), frozenset({value})))
    parts.extend(_expression(each, rename) for each in items(source.get("matchExpressions")))
    if len(parts) > MAX_TERMS:
        raise SelectorError("too many terms")
    return _every(parts)


def _expression(source: object, rename: Callable[[str], str]) -> LabelExpression:
    fields = mapping(source)
    key, operator = rename(text(fields.get("key"))), text(fields.get("operator"))
    if not key:
        raise SelectorError("matchExpressions without key")
    inside = In(key, frozenset(texts(fields.get("values"))))
    known: dict[str, LabelExpression] = {
        "In": inside,
        "NotIn": Not(inside),
        "Exists": Has(key),
        "DoesNotExist": Not(Has(key)),
    }
    if operator not in known:
        raise SelectorError(f"unknown operator {operator[:40]!r}")
    return known[operator]


def parse_calico(source: str) -> LabelExpression:
    """A selector of Calico's language; the empty text selects everything. Raises SelectorError, also for its size."""
    if len(source) > MAX_LENGTH:
        raise SelectorError("too long")
    tokens: list[str] = []
    position, end = 0, len(source.rstrip())
    while position < end:
        found = _TOKEN.match(source, position)
        if found is None:
            raise SelectorError(f"unexpected text at {source[position : position + 20]!r}")
        tokens.append(found[1])
        position = found.end()
    return _CalicoParser(tokens).parse() if tokens else EVERYTHING


class _CalicoParser:
    """Recursive descent over the tokens; || binds weakest, then &&, then !."""

    def __init__(self, tokens: list[str]) -> None:
        self._tokens = tokens
        self._position = 0

    def parse(self) -> LabelExpression:
        selector = self._alternatives(0)
        if self._position != len(self._tokens):
            raise SelectorError(f"unexpected {self._tokens[self._position]!r}")
        return selector

    def _alternatives(self, depth: int) -> LabelExpression:
        if depth > MAX_DEPTH:
            raise SelectorError("nested too deeply")
        parts = [self._conjunction(depth)]
        while self._take("||"):
            parts.append(self._conjunction(depth))
        return parts[0] if len(parts) == 1 else Some(tuple(parts))

    def _conjunction(self, depth: int) -> LabelExpression:
        parts = [self._operation(depth)]
        while self._take("&&"):
            parts.append(self._operation(depth))
        return _every(parts)

    def _operation(self, depth: int) -> LabelExpression:
        negated = False
        while self._take("!"):
            negated = not negated
        inner = self._term(depth)
        return Not(inner) if negated else inner

    def _term(self, depth: int) -> LabelExpression:
        word = self._next()
        if word == "(":
            inner = self._alternatives(depth + 1)
            self._expect(")")
            return inner
        if _WORD.fullmatch(word):
            return self._comparison(word)
        name, bracket, argument = word.rstrip(")").partition("(")
        if not bracket or word[0] in "'\"":
            raise SelectorError(f"unexpected {word!r}")
        return EVERYTHING if name == "all" else Has(argument.strip()) if name == "has" else Not(Has(NAMESPACE_LABEL))

    def _comparison(self, key: str) -> LabelExpression:
        operator = self._next()
        match operator:
            case "==":
                return In(key, frozenset({self._string()}))
            case "!=":
                return Not(In(key, frozenset({self._string()})))
            case "in":
                return In(key, self._set())
            case "not":
                self._expect("in")
                return Not(In(key, self._set()))
            case "contains":
                return TextRequirement(key, operator, self._string())
            case "starts" | "ends":
                self._expect("with")
                return TextRequirement(key, operator, self._string())
        raise SelectorError(f"no operator after {key!r}")

    def _set(self) -> frozenset[str]:
        self._expect("{")
        values: set[str] = set()
        if not self._take("}"):
            values.add(self._string())
            while self._take(","):
                values.add(self._string())
            self._expect("}")
        return frozenset(values)

    def _string(self) -> str:
        token = self._next()
        if token[0] not in "'\"":
            raise SelectorError(f"expected a quoted string, not {token!r}")
        return token[1:-1]

    def _expect(self, token: str) -> None:
        if not self._take(token):
            raise SelectorError(f"expected {token!r}")

    def _take(self, token: str) -> bool:
        found = self._tokens[self._position : self._position + 1] == [token]
        self._position += found
        return found

    def _next(self) -> str:
        if self._position >= len(self._tokens):
            raise SelectorError("ends too early")
        self._position += 1
        return self._tokens[self._position - 1]
