"""The syntax of a Corefile: text to server blocks, as CoreDNS's parser (a Caddyfile) reads it. Pure; meaning is in corefile.py.

Words are parted by blanks; "..." may hold blanks and line breaks and escapes only the quote; # starts a comment
anywhere outside quotes. A directive ends with its line or with the brace it opened. (name) { } defines a snippet;
import takes a snippet or files. An environment placeholder {$NAME} stays as it is written: its value cannot be seen
from outside.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

MAX_LENGTH = 1 << 20
MAX_IMPORTS = 1_000
MAX_TOKENS = 100_000

Files: TypeAlias = Callable[[str], Mapping[str, str] | None]
"""From an import's pattern to the files it takes, name to content; None where a plain path leads to nothing known."""


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
    """One plugin line: its arguments, and the lines of its block."""

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


@dataclass(slots=True)
class ServerBlock:
    keys: list[str] = field(default_factory=list)
    directives: list[Directive] = field(default_factory=list)


def tokenize(content: str, file: str) -> list[Token]:
    """The words of a file with their lines; at most MAX_TOKENS."""
    tokens: list[Token] = []
    position, line, end = 0, 1, len(content)
    if content.startswith("\ufeff"):
        position = 1
    while position < end and len(tokens) < MAX_TOKENS:
        character = content[position]
        if character == "\n":
            line += 1
            position += 1
        elif character.isspace():
            position += 1
        elif character == "#":
            position = _line_end(content, position)
        else:
            word, after = _quoted(content, position + 1) if character == '"' else _bare(content, position)
            tokens.append(Token(file, line, word))
            line += content.count("\n", position, after)
            position = after
    return tokens


def _line_end(content: str, position: int) -> int:
    found = content.find("\n", position)
    return len(content) if found < 0 else found


def _quoted(content: str, position: int) -> tuple[str, int]:
    start, end = position, len(content)
    while position < end and content[position] != '"':
        position += 2 if content[position] == "\\" else 1
    return content[start:position].replace('\\"', '"'), min(position + 1, end)


def _bare(content: str, position: int) -> tuple[str, int]:
    start, end = position, len(content)
    # The comment sign works inside a word as well (caddyfile/lexer.go).
    while position < end and not content[position].isspace() and content[position] != "#":
        position += 1
    return content[start:position], position


class SyntaxParser:
    """Reads one Corefile; what CoreDNS would refuse is noted in `errors` and reading goes on where it can."""

    def __init__(self, content: str, files: Files) -> None:
        self.errors: list[str] = []
        self.blocks: list[ServerBlock] = []
        self._files = files
        self._snippets: dict[str, list[Token]] = {}
        self._imports = 0
        self._tokens = tokenize(content[:MAX_LENGTH], "Corefile")
        if len(content) > MAX_LENGTH or len(self._tokens) >= MAX_TOKENS:
            self.errors.append("too long; the end was not read")
        self._at = 0

    def parse(self) -> list[ServerBlock]:
        """All server blocks, snippets and imports replaced by what they hold."""
        while self._at < len(self._tokens):
            block = ServerBlock(self._keys())
            if len(block.keys) == 1 and block.keys[0].startswith("(") and block.keys[0].endswith(")"):
                self._snippets[block.keys[0][1:-1]] = self._snippet()
                continue
            self._directives(block)
            if block.keys:
                self.blocks.append(block)
        return self.blocks

    def _starts_line(self, index: int) -> bool:
        if index <= 0 or index >= len(self._tokens):
            return True
        before, here = self._tokens[index - 1], self._tokens[index]
        # A snippet's words keep the lines of their definition, which may lie before: any other line is a new one.
        return before.file != here.file or before.last_line != here.line

    def _keys(self) -> list[str]:
        """The zones before the brace; a trailing comma carries the list over the line's end."""
        keys: list[str] = []
        expecting = True
        while self._at < len(self._tokens):
            token = self._tokens[self._at]
            if token.text == "import" and self._starts_line(self._at):
                self._import()
                continue
            if token.text == "{":
                break
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
        while self._at < len(self._tokens):
            token = self._tokens[self._at]
            self._at += 1
            depth += {"{": 1, "}": -1}.get(token.text, 0)
            if depth == 0:
                return found
            if depth > 1 or token.text != "{":
                found.append(token)
        self.errors.append("a snippet's closing brace is missing")
        return found

    def _directives(self, block: ServerBlock) -> None:
        braced = self._at < len(self._tokens) and self._tokens[self._at].text == "{"
        self._at += braced
        while self._at < len(self._tokens):
            token = self._tokens[self._at]
            if token.text == "}":
                self._at += 1
                return
            if token.text == "import":
                self._import()
            else:
                block.directives.append(self._directive())
        if braced:
            self.errors.append("a server block's closing brace is missing")

    def _directive(self) -> Directive:
        first = self._tokens[self._at]
        self._at += 1
        lines: list[list[str]] = [[]]
        depth = 0
        while self._at < len(self._tokens):
            token, starts = self._tokens[self._at], self._starts_line(self._at)
            if depth == 0 and starts:
                break
            if starts and token.text == "import":
                self._import()
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

    def _import(self) -> None:
        """Puts what is imported in the place of the two words."""
        where = self._tokens[self._at]
        has_argument = self._at + 1 < len(self._tokens) and not self._starts_line(self._at + 1)
        pattern = self._tokens[self._at + 1].text if has_argument else ""
        taken: list[Token] = []
        self._imports += 1
        if self._imports > MAX_IMPORTS or len(self._tokens) > MAX_TOKENS:
            self.errors.append(f"line {where.line}: too many imports")
            self._at = len(self._tokens)
            return
        if not pattern:
            self.errors.append(f"line {where.line}: import without argument")
        elif pattern in self._snippets:
            taken = self._snippets[pattern]
        else:
            files = self._files(pattern)
            if files is None:
                self.errors.append(f"line {where.line}: the imported {pattern[:100]} is not known")
            for name, content in (files or {}).items():
                taken += tokenize(content[:MAX_LENGTH], name)
        self._tokens[self._at : self._at + 1 + has_argument] = taken
