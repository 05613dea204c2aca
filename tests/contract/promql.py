"""Which series and labels a PromQL expression speaks of. Not a parser of the language: promtool and Prometheus judge the syntax."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

TOKEN = re.compile(
    r"""(?P<string>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')|(?P<name>[a-zA-Z_:][\w:.]*)|(?P<number>\d[\w.]*)|(?P<sign>=~|!~|!=|==|[><]=|\S)"""
)
CLAUSES = {"by", "without", "on", "ignoring", "group_left", "group_right"}
WORDS = {"and", "or", "unless", "bool", "offset", "atan2", "start", "end", "inf", "nan"}
MAKES_LABEL = {"label_replace", "count_values"}


@dataclass(frozen=True, slots=True)
class Matcher:
    label: str
    operator: str
    value: str


@dataclass(slots=True)
class Expression:
    """`selections`: metric name ("" where only __name__ says it) and matchers, in order; `labels`: those of by, on and the like;
    `made`: labels that the expression itself makes; `copied`: those that it makes them from."""

    selections: list[tuple[str, tuple[Matcher, ...]]] = field(default_factory=list)
    labels: set[str] = field(default_factory=set)
    made: set[str] = field(default_factory=set)
    copied: set[str] = field(default_factory=set)


def read(text: str) -> Expression:
    """Take an expression apart."""
    tokens = [(match.lastgroup or "", match.group()) for match in TOKEN.finditer(text)]
    found = Expression()
    at = 0
    while at < len(tokens):
        kind, token = tokens[at]
        following = tokens[at + 1][1] if at + 1 < len(tokens) else ""
        if token in CLAUSES and kind == "name":
            if following == "(":
                end = _closing(tokens, at + 1)
                found.labels |= {t for k, t in tokens[at + 2 : end] if k == "name"}
                at = end
        elif token == "[":
            at = next(i for i in range(at, len(tokens)) if tokens[i][1] == "]")  # a range, $__rate_interval included
        elif kind == "name" and (following == "(" or following in CLAUSES) and token not in WORDS:
            if token in MAKES_LABEL and following == "(":
                _note_made(token, [t for k, t in tokens[at : _closing(tokens, at + 1)] if k == "string"], found)
        elif token == "{" or (kind == "name" and token not in WORDS):
            metric = "" if token == "{" else token
            start = at if token == "{" else at + 1
            matchers: tuple[Matcher, ...] = ()
            if start < len(tokens) and tokens[start][1] == "{":
                end = _closing(tokens, start)
                matchers = tuple(_matchers(tokens[start + 1 : end]))
                at = end
            found.selections.append((metric, matchers))
        at += 1
    return found


def _closing(tokens: list[tuple[str, str]], at: int) -> int:
    """Where the bracket that opens at `at` closes."""
    depth = 0
    for index in range(at, len(tokens)):
        if tokens[index][1] in {"(", "{"}:
            depth += 1
        elif tokens[index][1] in {")", "}"}:
            depth -= 1
            if depth == 0:
                return index
    raise AssertionError(f"not closed: {tokens[at:]}")


def _matchers(tokens: list[tuple[str, str]]) -> Iterator[Matcher]:
    plain = [token for token in tokens if token[1] != ","]
    for (_, label), (_, operator), (_, value) in zip(plain[::3], plain[1::3], plain[2::3], strict=True):
        yield Matcher(label, operator, value[1:-1])


def _note_made(function: str, strings: list[str], found: Expression) -> None:
    """The strings are those of the whole call: its own stand last (count_values: first), after those of what it is applied to."""
    if function == "count_values":
        found.made.add(strings[0][1:-1])
        return
    found.made.add(strings[-4][1:-1])
    found.copied.add(strings[-2][1:-1])
