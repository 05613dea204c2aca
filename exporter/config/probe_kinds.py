"""The kinds of value that describe a probe: layers, families, status codes, selectors. Like kinds.py; no I/O."""

from __future__ import annotations

import re
from dataclasses import dataclass

from exporter.config.document import Fault, Items, Node, Scalar
from exporter.config.kinds import Choice, ListOf, Plain, ValueKind, scalar_text, show
from exporter.config.selector import Selector, parse_selector
from exporter.model.family import FAMILIES, Family
from exporter.model.probe import Layer


@dataclass(frozen=True, slots=True)
class Families(ValueKind[tuple[Family, ...] | None]):
    """`auto` (None) or a list of families, kept in one order."""

    label = "auto | list of IPv4, IPv6"
    noun = "auto or a list of IPv4, IPv6"

    def decode(self, node: Node, path: str) -> tuple[Family, ...] | None:
        if isinstance(node, Scalar) and node.text == "auto":
            return None
        if not isinstance(node, Items):
            raise self.refuse(node, path)
        named = ListOf(Choice(Family), least=1).decode(node, path)
        return tuple(family for family in FAMILIES if family in named)

    def encode(self, value: tuple[Family, ...] | None) -> Plain:
        return "auto" if value is None else [str(family) for family in value]


@dataclass(frozen=True, slots=True)
class Layers(ValueKind[tuple[Layer, ...]]):
    """Layers, each once and in order. tls and http are phases of a TCP connection, so they imply tcp."""

    allowed: tuple[Layer, ...] = tuple(Layer)
    least: int = 1

    @property
    def label(self) -> str:
        return f"list of {', '.join(self.allowed)}"

    def decode(self, node: Node, path: str) -> tuple[Layer, ...]:
        named = ListOf(Choice(Layer), least=self.least).decode(node, path)
        for index, layer in enumerate(named):
            if layer not in self.allowed:
                raise Fault(f"{path}[{index}]", f"{layer} is not one of {', '.join(self.allowed)}")
        ordered = tuple(layer for layer in Layer if layer in named)
        if named != ordered:
            raise Fault(path, f"out of order, write [{', '.join(ordered)}]")
        connects = Layer.TLS in named or Layer.HTTP in named
        return tuple(layer for layer in Layer if layer in named or (connects and layer is Layer.TCP))

    def encode(self, value: tuple[Layer, ...]) -> Plain:
        return [str(layer) for layer in value]


@dataclass(frozen=True, slots=True)
class Statuses(ValueKind[tuple[tuple[int, int], ...]]):
    """HTTP status codes as inclusive ranges: `200-399`, `200`, or a list of such."""

    label = "status codes"
    noun = "a status code or range (200, 200-399)"

    def decode(self, node: Node, path: str) -> tuple[tuple[int, int], ...]:
        if not isinstance(node, Items):
            return (self._range(node, path),)
        if not node.items:
            raise Fault(path, "must not be empty")
        return tuple(self._range(item, f"{path}[{index}]") for index, item in enumerate(node.items))

    def _range(self, node: Node, path: str) -> tuple[int, int]:
        match = re.fullmatch(r"([1-5][0-9]{2})(?:-([1-5][0-9]{2}))?", node.text) if isinstance(node, Scalar) else None
        if match is None:
            raise self.refuse(node, path)
        low = int(match[1])
        high = int(match[2] or low)
        if high < low:
            raise Fault(path, f"{show(node)} ends before it begins")
        return low, high

    def encode(self, value: tuple[tuple[int, int], ...]) -> Plain:
        plain: list[Plain] = [low if low == high else f"{low}-{high}" for low, high in value]
        return plain[0] if len(plain) == 1 and isinstance(plain[0], str) else plain


@dataclass(frozen=True, slots=True)
class LabelSelector(ValueKind[Selector]):
    """A Kubernetes label selector; empty text selects everything."""

    label = "label selector"
    noun = "a label selector (app=web, tier in (a,b), !old)"

    def decode(self, node: Node, path: str) -> Selector:
        text = scalar_text(node, path, self.noun)
        try:
            return parse_selector(text)
        except ValueError:
            raise self.refuse(node, path) from None

    def encode(self, value: Selector) -> Plain:
        return value.text
