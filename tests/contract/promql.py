"""As much of PromQL as tells which metrics, labels and label values an expression uses. A tokenizer, no grammar:
promtool checks that.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

TOKEN = re.compile(
    r"""(?P<space>\s+|\#[^\n]*)|(?P<string>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')|(?P<duration>\d+(?:ms|[smhdwy])(?:\d+(?:ms|[smhdwy]))*)"""
    r"""|(?P<number>\d+(?:\.\d+)?)|(?P<word>[a-zA-Z_][a-zA-Z0-9_:]*)|(?P<operator>=~|!~|!=|==|>=|<=|[-+*/%^=<>(){}\[\],:])"""
)
KEYWORDS = frozenset({"and", "or", "unless", "bool", "offset"})
LISTS = frozenset({"by", "without", "on", "ignoring", "group_left", "group_right"})


@dataclass(frozen=True, slots=True)
class Matcher:
    label: str
    operator: str
    value: str

    def admits(self, value: str) -> bool:
        """Whether a series with this value of the label can match."""
        if self.operator in {"=", "!="}:
            return (value == self.value) is (self.operator == "=")
        return (re.fullmatch(self.value, value) is not None) is (self.operator == "=~")

    @property
    def values(self) -> tuple[str, ...]:
        """What the matcher names: one value, or the alternatives of an expression."""
        return tuple(self.value.split("|")) if self.operator in {"=~", "!~"} else (self.value,)


@dataclass(frozen=True, slots=True)
class Selector:
    metric: str
    matchers: tuple[Matcher, ...] = ()


@dataclass(slots=True)
class Expression:
    """What an expression uses. `made` are labels that label_replace and label_join write."""

    selectors: list[Selector] = field(default_factory=list)
    functions: set[str] = field(default_factory=set)
    grouping: set[str] = field(default_factory=set)
    made: set[str] = field(default_factory=set)


def read(text: str) -> Expression:
    """Everything that the expression uses; ValueError for a character that PromQL does not have."""
    tokens = list(_tokens(text))
    found = Expression()
    position = 0
    while position < len(tokens):
        kind, word = tokens[position]
        position += 1
        if kind != "word" or word in KEYWORDS:
            continue
        following = tokens[position][1] if position < len(tokens) else ""
        if word in LISTS:
            labels, position = _until(tokens, position, ")") if following == "(" else ([], position)
            found.grouping |= {label for kind, label in labels if kind == "word"}
        elif following == "(" or following in {"by", "without"}:
            found.functions.add(word)
            if word in {"label_join", "label_replace"}:
                found.made |= _written(tokens, position)
        else:
            matchers, position = _until(tokens, position, "}") if following == "{" else ([], position)
            found.selectors.append(Selector(word, tuple(_matchers(matchers))))
    return found


def _tokens(text: str) -> Iterator[tuple[str, str]]:
    position = 0
    while position < len(text):
        match = TOKEN.match(text, position)
        if match is None:
            raise ValueError(f"not PromQL at {text[position : position + 20]!r}")
        position = match.end()
        if match.lastgroup is not None and match.lastgroup != "space":
            yield match.lastgroup, match.group()


def _until(tokens: list[tuple[str, str]], position: int, end: str) -> tuple[list[tuple[str, str]], int]:
    """The tokens after the opening bracket at the position, and the position behind the closing one."""
    stop = next(index for index in range(position, len(tokens)) if tokens[index][1] == end)
    return tokens[position + 1 : stop], stop + 1


def _matchers(tokens: list[tuple[str, str]]) -> Iterator[Matcher]:
    words = [token for token in tokens if token[1] != ","]
    for (_, label), (_, operator), (_, value) in zip(words[::3], words[1::3], words[2::3], strict=True):
        yield Matcher(label, operator, value[1:-1])


def _written(tokens: list[tuple[str, str]], position: int) -> set[str]:
    """The label that label_replace or label_join(v, "label", ...) writes: its first string outside of brackets of v."""
    depth = 0
    for kind, word in tokens[position:]:
        depth += {"(": 1, "{": 1, ")": -1, "}": -1}.get(word, 0)
        if kind == "string" and depth == 1:
            return {word[1:-1]}
    return set()
