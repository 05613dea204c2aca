"""The objects of the fake API server: how they are kept, selected and shown."""

from __future__ import annotations

import asyncio
import json
import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import islice


@dataclass(frozen=True)
class Stored:
    """One object: what selectors look at, and its JSON as sent."""

    namespace: str
    name: str
    version: int
    raw: bytes
    node: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    typed: bool = False  # its JSON says kind and apiVersion, as custom resources do in lists

    @property
    def key(self) -> str:
        return f"{self.namespace}/{self.name}" if self.namespace else self.name


@dataclass
class Collection:
    """The objects of one resource, and what happened to them since the last compaction."""

    kind: str
    objects: dict[str, Stored] = field(default_factory=dict)
    events: list[tuple[int, str, Stored]] = field(default_factory=list)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    order: list[str] = field(default_factory=list)
    reached: int = 0  # the version that the watch cache of this resource has reached

    def keys(self, start: str, selects: Callable[[Stored], bool], limit: int) -> list[str]:
        """The first keys after `start`, in order; one more than `limit` where there are more, all for 0."""
        if len(self.order) != len(self.objects):
            self.order = sorted(self.objects)
        after = islice(self.order, bisect_right(self.order, start), None)
        return list(islice((k for k in after if selects(self.objects[k])), limit + 1 if limit else None))


def version_of(event: tuple[int, str, Stored]) -> int:
    return event[0]


def shown(stored: Stored, *, partial: bool, kind: str = "") -> bytes:
    if partial:
        metadata = json.loads(stored.raw)["metadata"]
        shown = {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata}
        return json.dumps(shown, separators=(",", ":")).encode()
    if kind and not stored.typed:
        return b'{"kind":"%s","apiVersion":"v1",%s' % (kind.encode(), stored.raw[1:])
    return stored.raw


def terms(text: str) -> Iterable[tuple[str, str]]:
    return [(k, v) for k, _, v in (term.partition("=") for term in text.split(",") if term)]


def selector(query: Mapping[str, str], namespace: str) -> Callable[[Stored], bool]:
    fields = dict(terms(query.get("fieldSelector", "")))
    assert set(fields) <= {"metadata.name", "spec.nodeName"}, fields
    name, node = fields.get("metadata.name"), fields.get("spec.nodeName")
    wanted = query.get("labelSelector", "")
    listed = re.fullmatch(r"(\S+) in \(([^)]*)\)", wanted) or re.fullmatch(r"([^=\s]+)=([^=,\s]+)", wanted)
    assert listed or not wanted, wanted
    label, values = (listed[1], frozenset(listed[2].split(","))) if listed else ("", frozenset())

    def selects(stored: Stored) -> bool:
        return (
            (not namespace or stored.namespace == namespace)
            and (name is None or stored.name == name)
            and (node is None or stored.node == node)
            and (not label or stored.labels.get(label) in values)
        )

    return selects
