"""Calico's selector language (libcalico-go/lib/selector), read into the tree of selectors.py. Pure.

all(), global(), has(), ==, !=, in, not in, contains, starts with, ends with, !, &&, || and brackets, over labels.
"""

from __future__ import annotations

import re

from exporter.inventory.parse.selectors import (
    EVERYTHING,
    NAMESPACE_LABEL,
    Has,
    In,
    Not,
    Selector,
    SelectorError,
    Some,
    TextRequirement,
    every,
)

MAX_LENGTH = 16_384
MAX_DEPTH = 50

_TOKEN = re.compile(
    r"""\s*(?:
      (?P<call>(?:all|global)\(\s*\))
    | has\(\s*(?P<has>[a-zA-Z0-9_./-]{1,512})\s*\)
    | (?P<mark>==|!=|&&|\|\||!|\(|\)|\{|\}|,)
    | "(?P<double>[^"]*)" | '(?P<single>[^']*)'
    | (?P<word>[a-zA-Z0-9_./-]{1,512})
    )""",
    re.VERBOSE,
)


def parse_calico(source: str) -> Selector:
    """A selector of Calico's language; the empty text selects everything.

    Raises:
        SelectorError: not of that language, or beyond any sane length or depth.
    """
    if len(source) > MAX_LENGTH:
        raise SelectorError("too long")
    tokens: list[tuple[str, str]] = []
    position, end = 0, len(source.rstrip())
    while position < end:
        found = _TOKEN.match(source, position)
        if found is None or found.lastgroup is None:
            raise SelectorError(f"unexpected text at {source[position : position + 20]!r}")
        kind = "string" if found.lastgroup in ("double", "single") else found.lastgroup
        tokens.append((kind, found.group(found.lastgroup)))
        position = found.end()
    if not tokens:
        return EVERYTHING
    parser = _CalicoParser(tokens)
    selector = parser.alternatives(0)
    if parser.position != len(tokens):
        raise SelectorError(f"unexpected {tokens[parser.position][1]!r}")
    return selector


class _CalicoParser:
    """Recursive descent over the tokens; || binds weakest, then &&, then !."""

    def __init__(self, tokens: list[tuple[str, str]]) -> None:
        self._tokens = tokens
        self.position = 0

    def alternatives(self, depth: int) -> Selector:
        if depth > MAX_DEPTH:
            raise SelectorError("nested too deeply")
        parts = [self._conjunction(depth)]
        while self._take("mark", "||"):
            parts.append(self._conjunction(depth))
        return parts[0] if len(parts) == 1 else Some(tuple(parts))

    def _conjunction(self, depth: int) -> Selector:
        parts = [self._operation(depth)]
        while self._take("mark", "&&"):
            parts.append(self._operation(depth))
        return every(parts)

    def _operation(self, depth: int) -> Selector:
        negated = False
        while self._take("mark", "!"):
            negated = not negated
        inner = self._term(depth)
        return Not(inner) if negated else inner

    def _term(self, depth: int) -> Selector:
        kind, value = self._next()
        if (kind, value) == ("mark", "("):
            inner = self.alternatives(depth + 1)
            self._expect(")")
            return inner
        if kind == "call":
            return EVERYTHING if value.startswith("all") else Not(Has(NAMESPACE_LABEL))
        if kind == "has":
            return Has(value)
        if kind != "word":
            raise SelectorError(f"unexpected {value!r}")
        return self._comparison(value)

    def _comparison(self, key: str) -> Selector:
        kind, operator = self._next()
        match operator if kind in ("mark", "word") else "":
            case "==":
                return In(key, frozenset({self._string()}))
            case "!=":
                return Not(In(key, frozenset({self._string()})))
            case "in":
                return In(key, self._set())
            case "not":
                self._expect_word("in")
                return Not(In(key, self._set()))
            case "contains":
                return TextRequirement(key, operator, self._string())
            case "starts" | "ends":
                self._expect_word("with")
                return TextRequirement(key, operator, self._string())
        raise SelectorError(f"no operator after {key!r}")

    def _set(self) -> frozenset[str]:
        self._expect("{")
        values: set[str] = set()
        if self._take("mark", "}"):
            return frozenset()
        values.add(self._string())
        while self._take("mark", ","):
            values.add(self._string())
        self._expect("}")
        return frozenset(values)

    def _string(self) -> str:
        kind, value = self._next()
        if kind != "string":
            raise SelectorError(f"expected a quoted string, not {value!r}")
        return value

    def _expect(self, mark: str) -> None:
        if not self._take("mark", mark):
            raise SelectorError(f"expected {mark!r}")

    def _expect_word(self, word: str) -> None:
        if not self._take("word", word):
            raise SelectorError(f"expected {word!r}")

    def _take(self, kind: str, value: str) -> bool:
        if self.position < len(self._tokens) and self._tokens[self.position] == (kind, value):
            self.position += 1
            return True
        return False

    def _next(self) -> tuple[str, str]:
        if self.position >= len(self._tokens):
            raise SelectorError("ends too early")
        self.position += 1
        return self._tokens[self.position - 1]
