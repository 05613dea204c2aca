"""Which API groups, versions and resources the server serves, and where a reading is therefore made. Pure.

Knowing what is served tells an absent kind from a refused one: both look like 403 to a client without the right
(measured).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, TypeAlias

from exporter.inventory.kubernetes.api_error import ApiError, ApiErrorKind
from exporter.inventory.kubernetes.watched_resources import CALICO, CRD, WatchedResource
from exporter.inventory.parse.fields import items, mapping, text, texts

# GROUP/VERSION -> its resources that can be listed and watched; None: the version is served, its resources were not
# told.
Served: TypeAlias = Mapping[str, frozenset[str] | None]

_AGGREGATED = "application/json;g=apidiscovery.k8s.io;v={};as=APIGroupDiscoveryList"
# One answer for everything, with an ETag (1.26 on); servers without it answer the plain list of groups.
ACCEPT = ",".join([*(_AGGREGATED.format(version) for version in ("v2", "v2beta1")), "application/json"])
NEEDED = frozenset({"list", "watch"})


def read_served(body: bytes) -> Served:
    """What /apis answered, in its aggregated or its plain form.

    Raises:
        ApiError: MALFORMED.
    """
    try:
        fields = mapping(json.loads(body))
    except (ValueError, RecursionError) as error:
        raise ApiError(ApiErrorKind.MALFORMED, f"/apis: not JSON: {error}") from None
    match text(fields.get("kind")):
        case "APIGroupDiscoveryList":
            return _aggregated(fields)
        case "APIGroupList":
            return {
                text(mapping(version).get("groupVersion")): None
                for group in items(fields.get("groups"))
                for version in items(mapping(group).get("versions"))
            }
    raise ApiError(ApiErrorKind.MALFORMED, "/apis: no list of groups")


def read_resources(body: bytes) -> frozenset[str]:
    """The resources that /apis/GROUP/VERSION names.

    Raises:
        ApiError: MALFORMED.
    """
    try:
        fields = mapping(json.loads(body))
    except (ValueError, RecursionError) as error:
        raise ApiError(ApiErrorKind.MALFORMED, f"not JSON: {error}") from None
    return _usable(items(fields.get("resources")), "name")


def _usable(resources: list[Any], name: str) -> frozenset[str]:
    given = [mapping(each) for each in resources]
    return frozenset(text(each.get(name)) for each in given if NEEDED.issubset(texts(each.get("verbs"))))


def _aggregated(fields: Mapping[str, Any]) -> Served:
    found: dict[str, frozenset[str] | None] = {}
    for group in map(mapping, items(fields.get("items"))):
        name = text(mapping(group.get("metadata")).get("name"))
        for version in map(mapping, items(group.get("versions"))):
            place = f"{name}/{text(version.get('version'))}"
            if version.get("freshness") == "Stale":  # an aggregated API server that does not answer at present
                found[place] = None
                continue
            found[place] = _usable(items(version.get("resources")), "resource")
    return found


def place_of(reading: WatchedResource, served: Served, calico: str = CRD) -> str | None:
    """Where the reading is made, None where it is served nowhere. `calico`: the place that holds the IPPools."""
    places = reading.places
    if places == CALICO:
        places = (calico, *(place for place in CALICO if place != calico))
    return next((place for place in places if place == "v1" or _serves(served, place, reading.resource)), None)


def _serves(served: Served, place: str, resource: str) -> bool:
    if place not in served:
        return False
    resources = served[place]
    return resources is None or resource in resources
