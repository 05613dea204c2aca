"""Kubernetes label selectors as text: parsed when the configuration is read, matched against labels later. No I/O.

The grammar is that of `kubectl -l` (k8s.io/apimachinery labels.Parse): `a=b`, `a==b`, `a!=b`, `a in (b,c)`, `a notin
(b)`, `a`, `!a`, joined by commas; all of them must hold. A label that is absent satisfies != and notin.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

_WORD = r"[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
_PREFIX = r"[a-z0-9](?:[-a-z0-9.]{0,251}[a-z0-9])?"
_KEY = rf"(?:{_PREFIX}/)?{_WORD}"
_TERM = re.compile(
    rf"\s*(?:(?P<absent>!)\s*(?P<missing>{_KEY})"
    rf"|(?P<key>{_KEY})\s*(?:(?P<sign>==|=|!=)\s*(?P<value>(?:{_WORD})?)|\s(?P<set>in|notin)\s*\((?P<values>[^()]*)\))?)\s*(?:,|$)"
)
_VALUE = re.compile(rf"(?:{_WORD})?")


class Operator(StrEnum):
    IN = "in"
    NOT_IN = "notin"
    EXISTS = "exists"
    ABSENT = "absent"


@dataclass(frozen=True, slots=True)
class Requirement:
    key: str
    operator: Operator
    values: frozenset[str] = frozenset()

    def holds(self, labels: Mapping[str, str]) -> bool:
        """Whether these labels meet it."""
        if self.operator is Operator.EXISTS:
            return self.key in labels
        if self.operator is Operator.ABSENT:
            return self.key not in labels
        inside = labels.get(self.key) in self.values
        return inside if self.operator is Operator.IN else not inside


@dataclass(frozen=True, slots=True)
class Selector:
    """A parsed selector; the empty one selects everything."""

    text: str = ""
    requirements: tuple[Requirement, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether these labels meet every requirement."""
        return all(requirement.holds(labels) for requirement in self.requirements)


def parse_selector(text: str) -> Selector:
    """The selector that the text spells. Anything else is a ValueError."""
    requirements: list[Requirement] = []
    position = 0
    # A final comma promises another term, which then is missing.
    while position < len(text) or (requirements and text.rstrip().endswith(",")):
        match = _TERM.match(text, position)
        if match is None:
            raise ValueError(f"{text!r} is not a label selector")
        requirements.append(_requirement(match))
        position = match.end()
    return Selector(text, tuple(requirements))


def _requirement(match: re.Match[str]) -> Requirement:
    if match["absent"]:
        return Requirement(match["missing"], Operator.ABSENT)
    if match["sign"]:
        operator = Operator.NOT_IN if match["sign"] == "!=" else Operator.IN
        return Requirement(match["key"], operator, frozenset({match["value"]}))
    if match["set"]:
        values = [value.strip() for value in match["values"].split(",")]
        if not all(_VALUE.fullmatch(value) for value in values):
            raise ValueError(f"{match['values']!r} holds no label value")
        return Requirement(match["key"], Operator(match["set"]), frozenset(values))
    return Requirement(match["key"], Operator.EXISTS)
