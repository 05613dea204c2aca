"""The bytes of a list and of a watch, as objects and events. Pure; between client.py and watch.py.

A watch is one JSON object a line. BOOKMARK events have an object without a name whose other fields are zero values:
only its version counts (measured: a Pod with containers null, a Node with port 0).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from exporter.inventory.kubernetes.api_error import ApiError, ApiErrorKind, error_of_status
from exporter.inventory.parse.fields import items, mapping, text


class Change(StrEnum):
    SET = "set"  # ADDED and MODIFIED mean the same to us: the object as it is now
    GONE = "gone"  # deleted, or no longer selected
    BOOKMARK = "bookmark"


@dataclass(frozen=True, slots=True)
class Event:
    change: Change
    source: Mapping[str, Any]
    version: str


@dataclass(frozen=True, slots=True)
class Page:
    """One answer to a list. `more`: the token of the next page, empty on the last, which may have no item."""

    objects: list[Any]
    version: str
    more: str


_CHANGES = {"ADDED": Change.SET, "MODIFIED": Change.SET, "DELETED": Change.GONE, "BOOKMARK": Change.BOOKMARK}


def decode_object(data: bytes, where: str = "") -> Mapping[str, Any]:
    """The JSON object; an empty one for any other value. Raises ApiError (MALFORMED) if it is not JSON."""
    try:
        return mapping(json.loads(data))
    except (ValueError, RecursionError) as error:
        raise ApiError(ApiErrorKind.MALFORMED, f"{where}not JSON: {error}") from None


def read_event(line: bytes) -> Event | None:
    """The event of one line; None for an unknown type. Raises ApiError: that of an ERROR event, or MALFORMED."""
    fields = decode_object(line)
    kind, source = text(fields.get("type")), fields.get("object")
    if kind == "ERROR" or (not kind and fields.get("kind") == "Status"):
        raise error_of_status(source if kind else fields)
    if not kind or not isinstance(source, dict):
        raise ApiError(ApiErrorKind.MALFORMED, "a watch line that is no event")
    change = _CHANGES.get(kind)
    return None if change is None else Event(change, source, _version_of(source))


def read_page(body: bytes) -> Page:
    """The objects of one page. Raises ApiError: that of a Status object instead of a list, or MALFORMED."""
    fields = decode_object(body)
    if fields.get("kind") == "Status":
        raise error_of_status(fields)
    version = _version_of(fields)
    if not version:
        raise ApiError(ApiErrorKind.MALFORMED, "a list without a resourceVersion")
    return Page(items(fields.get("items")), version, text(mapping(fields.get("metadata")).get("continue")))


def _version_of(source: Mapping[str, Any]) -> str:
    """metadata.resourceVersion: opaque, but never 0 or empty where it names a state."""
    version = text(mapping(source.get("metadata")).get("resourceVersion"))
    return "" if version == "0" or len(version) > 100 else version


def reaches(version: str, other: str) -> bool:
    """Whether it is at least as new as the other. Every known server uses integers; other texts cannot be compared."""
    return version.isdecimal() and other.isdecimal() and int(version) >= int(other)
