"""What was read so far, as parsed values by reading: filled by lists and watch events, emptied by refusals. No I/O.

Between watching.py and the Inventory. API objects are parsed once, when they come; an event whose object parses to the
same value (heartbeats of nodes and pods do) changes nothing and causes no work.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, TypeAlias

from exporter.inventory.kubernetes.watched_resources import WatchedResource
from exporter.inventory.parse.fields import mapping, text
from exporter.inventory.parse.objects import Parsed, parse_object
from exporter.model.calico import BlockAffinity, IPPool
from exporter.model.inventory import ResourceKind, Unreadable
from exporter.model.node import Node

Key: TypeAlias = tuple[str, str]
Value: TypeAlias = Parsed | Unreadable
_CHANGING = (Node, IPPool, BlockAffinity)  # these carry when they last changed


class ObjectStore:
    """The values of every reading that was read at least once."""

    def __init__(self) -> None:
        self._values: dict[WatchedResource, dict[Key, Value]] = {}
        self._labels: dict[frozenset[tuple[str, str]], Mapping[str, str]] = {}
        self.version = 0  # grows with every change

    def fill(self, reading: WatchedResource, found: dict[Key, Value], now: float) -> None:
        """Replace a reading's values by those of a whole list. On every list but the first, what differs changed just now."""
        before = self._values.get(reading)
        if before is not None:
            found = {key: _changed(value, before.get(key), now) for key, value in found.items()}
        if before != found:
            self._values[reading] = found
            self.version += 1

    def set(self, reading: WatchedResource, source: Mapping[str, Any], now: float) -> None:
        """Take over one object as a watch event gives it."""
        values = self._values[reading]
        key, value = parse(reading, source)
        before = values.get(key)
        if value is None:
            self.remove(reading, source)
            return
        value = _changed(value, before, now)
        if value != before:
            values[key] = value
            self.version += 1

    def remove(self, reading: WatchedResource, source: Mapping[str, Any]) -> None:
        if self._values[reading].pop(key_of(source), None) is not None:
            self.version += 1

    def forget(self, reading: WatchedResource) -> None:
        """It is not read any more."""
        if self._values.pop(reading, None) is not None:
            self.version += 1

    def holds(self, reading: WatchedResource) -> bool:
        """Whether it was read."""
        return reading in self._values

    def objects(self) -> dict[ResourceKind, list[Value]]:
        """The values by kind; a kind of which no reading was read is not among them."""
        found: dict[ResourceKind, list[Value]] = {}
        for reading, values in self._values.items():
            found.setdefault(reading.kind, []).extend(values.values())
        return found


def key_of(source: Mapping[str, Any]) -> Key:
    """Namespace and name."""
    metadata = mapping(source.get("metadata"))
    return text(metadata.get("namespace")), text(metadata.get("name"))


def parse(reading: WatchedResource, source: object) -> tuple[Key, Value | None]:
    """One object of a list or an event; None where it is of no interest."""
    fields = mapping(source)
    return key_of(fields), parse_object(reading.kind, fields)


def parse_all(reading: WatchedResource, sources: Iterable[object]) -> Iterator[tuple[Key, Value]]:
    """The objects of interest of one page."""
    for source in sources:
        key, value = parse(reading, source)
        if value is not None:
            yield key, value


def _changed(value: Value, before: Value | None, now: float) -> Value:
    """The value with the time of its last change: that of the one before where nothing else differs, else now."""
    if not isinstance(value, _CHANGING):
        return value
    if isinstance(before, _CHANGING):
        same = replace(value, changed=before.changed)
        if same == before:
            return before
    return replace(value, changed=now)
