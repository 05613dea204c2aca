"""The syntax of a Corefile: text to server blocks and zones, as CoreDNS's parser (a Caddyfile) reads it. Pure.

Words are separated by blanks; "..." may contain blanks and line breaks and escapes only the quote; # starts a comment
anywhere outside quotes. A directive ends with its line or with the brace it opened. (name) { } defines a snippet;
import takes a snippet or files. An environment placeholder {$NAME} stays as written: its value cannot be seen here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeAlias

from exporter.model.family import Address, parse_address, parse_net

ROOT = "."
DEFAULT_PORT = "53"
MAX_LENGTH = 1 << 20
MAX_IMPORTS = 1_000
MAX_TOKENS = 50_000
MAX_REPEATED = 5_000  # words that imports of something imported before may add
MAX_WORK = 250_000  # comparisons of zones and the like, a fraction of a second: a large real Corefile needs 10,000

Files: TypeAlias = Callable[[str], Mapping[str, str] | None]
"""From an import's pattern to the matching files, name to content; None where a plain path is not known."""

# The comment sign ends a word as well (caddyfile/lexer.go).
_WORD = re.compile(r'\s+|#[^\n]*|"(?P<quoted>(?:\\.|[^"\\])*\\?)"?|(?P<bare>[^\s"#][^\s#]*)', re.DOTALL)


class TooMuchWorkError(Exception):
    """Whoever wrote this Corefile wants it to be expensive, or it is larger than any that is known."""


@dataclass(slots=True)
class Work:
    """What reading one Corefile may still cost. Lists of a Corefile meet lists, so its length alone bounds nothing."""

    left: int = MAX_WORK

    def take(self, steps: int) -> None:
        self.left -= steps
        if self.left < 0:
            raise TooMuchWorkError


@dataclass(frozen=True, slots=True)
class Token:
    file: str
    line: int
    text: str

    @property
    def last_line(self) -> int:
        return self.line + self.text.count("\n")


@dataclass(frozen=True, slots=True, kw_only=True)
class Directive:
    """One plugin line: its arguments and the lines of its block."""

    plugin: str
    file: str
    line: int
    arguments: tuple[str, ...] = ()
    body: tuple[tuple[str, ...], ...] = ()

    @property
    def text(self) -> str:
        """The directive on one line."""
        lines = "; ".join(" ".join(words) for words in self.body)
        return " ".join((self.plugin, *self.arguments, *((f"{{ {lines} }}",) if self.body else ())))


@dataclass(kw_only=True)
class ServerBlock:
    """Its keys as written, its directives, and what is wrong with them."""

    keys: list[str]
    directives: list[Directive] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    work: Work = field(default_factory=Work)

    @property
    def port(self) -> str:
        """The port of the first zone; 53 where none is written."""
        key = self.keys[0].partition("://")[2] or self.keys[0]
        tail = key.rpartition(":")[2]
        return tail if ":" in key and tail.isdigit() else DEFAULT_PORT

    @cached_property
    def zones(self) -> list[str]:
        """The forward zones over plain DNS; other transports serve other clients."""
        plain = [key for key in self.keys if "://" not in key or key.startswith("dns://")]
        return list(dict.fromkeys(zones_of(plain)))

    @cached_property
    def binds(self) -> list[Address]:
        """The addresses of its `bind` lines; names of interfaces are left out."""
        words = (word for directive in self.of("bind") for word in directive.arguments)
        return [address for address in map(parse_address, words) if address is not None]

    def takes(self, qtype: str) -> bool | None:
        """Whether its views let queries of the type in: all of them, none, or (None) some or unknown."""
        self.work.take(1 + len(self.directives))
        lines = (line for view in self.of("view") for line in view.body if line[0] == "expr")
        said = [_view_takes(" ".join(line[1:]), qtype) for line in lines]
        return False if False in said else None if None in said else True

    def of(self, plugin: str) -> Iterator[Directive]:
        return (directive for directive in self.directives if directive.plugin == plugin)

    def zones_in(self, written: Iterable[str]) -> list[str]:
        """The block's zones as far as a directive's own zones limit them."""
        given = list(written)
        self.work.take(max(1, len(given)) * len(self.zones))
        return meet(self.zones, zones_of(given)) if given else self.zones


# `view`'s expression language (expr-lang.org), as far as it compares the query type alone
_TYPE_IS = re.compile(r"type\(\)\s*(==|!=|in|not in)\s*(\[[^\]]*\]|['\"]?\w+['\"]?)")
_NESTED = re.compile(r"\([^()]*(?:\|\||&&)")


def _view_takes(expression: str, qtype: str) -> bool | None:
    text = re.sub(r"\bor\b", "||", re.sub(r"\band\b", "&&", expression))
    if _NESTED.search(text):
        return None
    options = []
    for option in text.split("||"):
        terms = [_term_takes(term.strip(), qtype) for term in option.split("&&")]
        options.append(False if False in terms else None if None in terms else True)
    return True if True in options else None if None in options else False


def _term_takes(term: str, qtype: str) -> bool | None:
    found = _TYPE_IS.fullmatch(term)
    if found is None:
        return None
    return (qtype in re.findall(r"\w+", found[2])) is (found[1] in ("==", "in"))


def tokenize(content: str, file: str) -> list[Token]:
    """The words of a file with their lines; at most MAX_TOKENS."""
    tokens: list[Token] = []
    line = 1
    for found in _WORD.finditer(content.removeprefix("\ufeff")):
        if found.lastgroup is not None:
            tokens.append(Token(file, line, found["bare"] or found["quoted"].replace('\\"', '"')))
            if len(tokens) == MAX_TOKENS:
                break
        line += found[0].count("\n")
    return tokens


class SyntaxParser:
    """Reads one Corefile; what CoreDNS would refuse is noted in `errors`, and reading continues where it can."""

    def __init__(self, content: str, files: Files, work: Work) -> None:
        self.work = work
        self.errors: list[str] = []
        self._files = files
        self._snippets: dict[str, list[Token]] = {}
        self._imports = 0
        self._imported_before: set[str] = set()
        self._repeated = 0
        self._open: list[tuple[str, int]] = []  # imports whose words are being read, with the words left behind them
        self._tokens = tokenize(content[:MAX_LENGTH], "Corefile")
        if len(content) > MAX_LENGTH or len(self._tokens) >= MAX_TOKENS:
            self.errors.append("too long; the end was not read")
        self._at = 0

    def parse(self) -> list[ServerBlock]:
        """All server blocks, with snippets and imports expanded."""
        blocks: list[ServerBlock] = []
        while self._token() is not None:
            block = ServerBlock(keys=self._keys(), work=self.work)
            if len(block.keys) == 1 and block.keys[0].startswith("(") and block.keys[0].endswith(")"):
                self._snippets[block.keys[0][1:-1]] = self._snippet()
                continue
            self._directives(block)
            if any("{" in key or "}" in key for key in block.keys):
                self.errors.append(f"{' '.join(block.keys)[:40]}: the zone is not known or no domain name")
            blocks += [block] if block.keys else []
        return blocks

    def _token(self) -> Token | None:
        return self._tokens[self._at] if self._at < len(self._tokens) else None

    def _starts_line(self, index: int) -> bool:
        if index <= 0 or index >= len(self._tokens):
            return True
        before, here = self._tokens[index - 1], self._tokens[index]
        # A snippet's words keep the lines of their definition, which may be above: any other line is a new one.
        return before.file != here.file or before.last_line != here.line

    def _keys(self) -> list[str]:
        """The zones before the brace; a trailing comma continues the list on the next line."""
        keys: list[str] = []
        expecting = True
        while (token := self._token()) is not None and token.text != "{":
            if token.text == "import" and self._starts_line(self._at):
                self._import(token)
                continue
            if keys and not expecting and self._starts_line(self._at):
                break
            expecting = token.text.endswith(",")
            if token.text.rstrip(","):
                keys.append(token.text.removesuffix(","))
            self._at += 1
        return keys

    def _snippet(self) -> list[Token]:
        """The words between the snippet's braces."""
        found: list[Token] = []
        depth = 0
        while (token := self._token()) is not None:
            self._at += 1
            depth += {"{": 1, "}": -1}.get(token.text, 0)
            if depth == 0:
                return found
            if depth > 1 or token.text != "{":
                found.append(token)
        self.errors.append("a snippet's closing brace is missing")
        return found

    def _directives(self, block: ServerBlock) -> None:
        first = self._token()
        braced = first is not None and first.text == "{"
        self._at += braced
        while (token := self._token()) is not None:
            if token.text == "}":
                self._at += 1
                return
            if token.text == "import":
                self._import(token)
            else:
                block.directives.append(self._directive(token))
        if braced:
            self.errors.append("a server block's closing brace is missing")

    def _directive(self, first: Token) -> Directive:
        self._at += 1
        lines: list[list[str]] = [[]]
        depth = 0
        while (token := self._token()) is not None:
            starts = self._starts_line(self._at)
            if depth == 0 and starts:
                break
            if starts and token.text == "import":
                self._import(token)
                continue
            if depth == 0 and token.text == "}":
                self.errors.append(f"line {token.line}: unexpected }}")
                break
            depth += {"{": 1, "}": -1}.get(token.text, 0)
            if starts or token.text == "{":
                lines.append([])
            if token.text not in ("{", "}"):
                lines[-1].append(token.text)
            self._at += 1
        if depth:
            self.errors.append(f"line {first.line}: the closing brace of {first.text[:40]} is missing")
        body = tuple(tuple(line) for line in lines[1:] if line)
        return Directive(plugin=first.text, file=first.file, line=first.line, arguments=tuple(lines[0]), body=body)

    def _import(self, word: Token) -> None:
        """Replaces the word `import` and its argument by what is imported."""
        has_argument = self._at + 1 < len(self._tokens) and not self._starts_line(self._at + 1)
        pattern = self._tokens[self._at + 1].text if has_argument else ""
        self._imports += 1
        left = len(self._tokens) - self._at
        self.work.take(1 + len(self._open))
        self._open = [(name, behind) for name, behind in self._open if behind < left]
        words = self._imported(pattern, word.line) if pattern else []
        self._repeated += len(words) if pattern in self._imported_before else 0
        full = len(self._tokens) + len(words) > MAX_TOKENS or self._repeated > MAX_REPEATED
        if full or self._imports > MAX_IMPORTS or any(name == pattern for name, _ in self._open):
            self.errors.append(f"line {word.line}: too many imports")
            self._at = len(self._tokens)
            return
        if not pattern:
            self.errors.append(f"line {word.line}: import without argument")
        self._imported_before.add(pattern)
        self._open.append((pattern, left - 1 - has_argument))
        self._tokens[self._at : self._at + 1 + has_argument] = words

    def _imported(self, pattern: str, line: int) -> list[Token]:
        if pattern in self._snippets:
            return self._snippets[pattern]
        files = self._files(pattern)
        if files is None:
            self.errors.append(f"line {line}: the imported {pattern[:100]} is not known")
        found: list[Token] = []
        for name, content in (files or {}).items():
            self.work.take(1 + len(content) // 3)  # also where it is comments alone
            found += tokenize(content[:MAX_LENGTH], name)
        return found


# Zones as a Corefile writes them


def zones_of(texts: Iterable[str]) -> list[str]:
    """The forward zones among the texts, normalized: no transport, port, final dot or capitals; "." for the root."""
    return [zone for zone in map(_zone_of, texts) if zone]


def _zone_of(text: str) -> str:
    name = text.partition("://")[2] or text
    head, colon, tail = name.rpartition(":")
    name = head if colon and (tail.isdigit() or tail.startswith("{")) else name
    if "{" in name or "}" in name:
        return ""  # a placeholder whose value is not known, or a brace without a blank: no domain name
    if parse_net(name) is not None:
        return ""  # CIDR notation of a reverse zone
    name = name.rstrip(".").lower()
    return "" if name.endswith(("in-addr.arpa", "ip6.arpa")) else name or ROOT


def within(inner: str, outer: str) -> bool:
    """Whether every name of the zone `inner` is in `outer`."""
    return outer in (ROOT, inner) or inner.endswith("." + outer)


def lies_in_any(zone: str, others: Iterable[str]) -> bool:
    """Whether one of the others contains the zone."""
    return any(within(zone, each) for each in others)


def meet(zones: list[str], others: list[str]) -> list[str]:
    """The zones common to both lists: of two nested ones the inner."""
    found = [a if within(a, b) else b for a in zones for b in others if within(a, b) or within(b, a)]
    return list(dict.fromkeys(found))
