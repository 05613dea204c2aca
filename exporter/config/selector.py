"""Kubernetes label selectors as text: parsed when the configuration is read, matched against labels later. No I/O.

The grammar is that of `kubectl -l` (k8s.io/apimachinery labels.Parse): `a=b`, `a==b`, `a!=b`, `a in (b,c)`, `a notin
(b)`, `a`, `!a`, joined by commas; all of them must hold. A label that is absent satisfies != and notin.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from exporter.model.cluster.selector import EVERYTHING, Every, Has, In, LabelExpression, Not, matches

_WORD = r"[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
_PREFIX = r"[a-z0-9](?:[-a-z0-9.]{0,251}[a-z0-9])?"
_KEY = rf"(?:{_PREFIX}/)?{_WORD}"
_TERM = re.compile(
    rf"\s*(?:(?P<absent>!)\s*(?P<missing>{_KEY})"
    rf"|(?P<key>{_KEY})\s*(?:(?P<sign>==|=|!=)\s*(?P<value>(?:{_WORD})?)|\s(?P<set>in|notin)\s*\((?P<values>[^()]*)\))?)\s*(?:,|$)"
)
_VALUE = re.compile(rf"(?:{_WORD})?")


@dataclass(frozen=True, slots=True)
class Selector:
    """A parsed selector; the empty one selects everything."""

    text: str = ""
    expression: LabelExpression = EVERYTHING

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether these labels meet every requirement."""
        return matches(self.expression, labels.get)


def parse_selector(text: str) -> Selector:
    """The selector that the text spells. Anything else is a ValueError."""
    requirements: list[LabelExpression] = []
    position = 0
    # After a final comma another term must follow.
    while position < len(text) or (requirements and text.rstrip().endswith(",")):
        match = _TERM.match(text, position)
        if match is None:
            raise ValueError(f"{text!r} is not a label selector")
        requirements.append(_requirement(match))
        position = match.end()
    return Selector(text, Every(tuple(requirements)))


def _requirement(match: re.Match[str]) -> LabelExpression:
    if match["absent"]:
        return Not(Has(match["missing"]))
    if match["sign"]:
        equal = In(match["key"], frozenset({match["value"]}))
        return Not(equal) if match["sign"] == "!=" else equal
    if match["set"]:
        values = [value.strip() for value in match["values"].split(",")]
        if not all(_VALUE.fullmatch(value) for value in values):
            raise ValueError(f"{match['values']!r} holds no label value")
        inside = In(match["key"], frozenset(values))
        return inside if match["set"] == "in" else Not(inside)
    return Has(match["key"])
