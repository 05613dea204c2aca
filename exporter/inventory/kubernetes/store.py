"""What was read so far, as parsed values by resource: filled by lists and watch events, emptied by refusals. No I/O.

Between watch.py and the Inventory. An object is parsed once, when it arrives; an event whose object parses to the same
value (heartbeats of nodes and pods do) changes nothing and causes no work.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, TypeAlias

from exporter.inventory.kubernetes.watched_resources import WatchedResource
from exporter.inventory.parse.fields import mapping, text
from exporter.inventory.parse.objects import Parsed, parse_object
from exporter.model.cluster.calico import BlockAffinity, IPPool
from exporter.model.cluster.inventory import ResourceKind, Unreadable
from exporter.model.cluster.node import Node
from exporter.model.cluster.service import EndpointSlice

Key: TypeAlias = tuple[str, str]
Value: TypeAlias = Parsed | Unreadable
_CHANGING = (Node, IPPool, BlockAffinity, EndpointSlice)  # these have the time of their last change


class ObjectStore:
    """The values of every resource that was read at least once."""

    def __init__(self) -> None:
        self._values: dict[WatchedResource, dict[Key, Value]] = {}
        self.version = 0  # grows with every change

    def fill(self, watched: WatchedResource, found: dict[Key, Value], now: float) -> None:
        """Replace the values by those of a whole list. On every list but the first, what differs changed just now."""
        before = self._values.get(watched)
        if before is not None:
            found = {key: _changed(value, before.get(key), now) for key, value in found.items()}
        if before != found:
            self._values[watched] = found
            self.version += 1

    def set(self, watched: WatchedResource, source: Mapping[str, Any], now: float) -> None:
        """Store one object as a watch event has it."""
        values, key, value = self._values[watched], _key_of(source), parse_object(watched.kind, source)
        if value is None:
            self.remove(watched, source)
            return
        before = values.get(key)
        value = _changed(value, before, now)
        if value != before:
            values[key] = value
            self.version += 1

    def remove(self, watched: WatchedResource, source: Mapping[str, Any]) -> None:
        if self._values[watched].pop(_key_of(source), None) is not None:
            self.version += 1

    def forget(self, watched: WatchedResource) -> None:
        """The resource is no longer read."""
        if self._values.pop(watched, None) is not None:
            self.version += 1

    def objects(self) -> dict[ResourceKind, list[Value]]:
        """The values by kind; a kind of which nothing was read is absent."""
        found: dict[ResourceKind, list[Value]] = {}
        for watched, values in self._values.items():
            found.setdefault(watched.kind, []).extend(values.values())
        return found


def _key_of(source: Mapping[str, Any]) -> Key:
    """Namespace and name."""
    metadata = mapping(source.get("metadata"))
    return text(metadata.get("namespace")), text(metadata.get("name"))


def parse_all(watched: WatchedResource, sources: Iterable[object]) -> Iterator[tuple[Key, Value]]:
    """The objects of interest of one page."""
    for source in sources:
        value = parse_object(watched.kind, source)
        if value is not None:
            yield _key_of(mapping(source)), value


def _changed(value: Value, before: Value | None, now: float) -> Value:
    """The value with the time of its last change: that of the one before where nothing else differs, else now."""
    if not isinstance(value, _CHANGING):
        return value
    if isinstance(before, _CHANGING) and replace(value, changed=before.changed) == before:
        return before
    return replace(value, changed=now)
