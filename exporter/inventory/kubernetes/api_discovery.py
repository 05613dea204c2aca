"""Which API groups, versions and resources the server serves, and in which version a resource is therefore read. Pure.

Knowing what is served tells an absent kind from a refused one: both look like 403 to a client without the right
(measured).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from exporter.inventory.kubernetes.api_error import ApiError, ApiErrorKind
from exporter.inventory.kubernetes.stream import decode_object
from exporter.inventory.kubernetes.watched_resources import CALICO, CRD, WatchedResource
from exporter.inventory.parse.fields import mapping, objects, text, texts

# GROUP/VERSION -> its resources that can be listed and watched; None: the version is served, its resources are unknown.
Served: TypeAlias = Mapping[str, frozenset[str] | None]

_AGGREGATED = "application/json;g=apidiscovery.k8s.io;v={};as=APIGroupDiscoveryList"
# One answer for everything, with an ETag (1.26 on); servers without it answer the plain list of groups.
ACCEPT = ",".join([*(_AGGREGATED.format(version) for version in ("v2", "v2beta1")), "application/json"])
NEEDED = frozenset({"list", "watch"})


def read_served(body: bytes) -> Served:
    """What /apis answered, in its aggregated or its plain form. Raises ApiError (MALFORMED)."""
    fields = decode_object(body, "/apis: ")
    match text(fields.get("kind")):
        case "APIGroupDiscoveryList":
            return {
                f"{text(mapping(group.get('metadata')).get('name'))}/{text(version.get('version'))}": (
                    # Of an aggregated API server that does not answer at present nothing is known.
                    None if version.get("freshness") == "Stale" else _usable(version.get("resources"), "resource")
                )
                for group in objects(fields.get("items"))
                for version in objects(group.get("versions"))
            }
        case "APIGroupList":
            groups = objects(fields.get("groups"))
            return {text(each.get("groupVersion")): None for group in groups for each in objects(group.get("versions"))}
    raise ApiError(ApiErrorKind.MALFORMED, "/apis: no list of groups")


def read_resources(body: bytes) -> frozenset[str]:
    """The resources that /apis/GROUP/VERSION names. Raises ApiError (MALFORMED)."""
    return _usable(decode_object(body).get("resources"), "name")


def _usable(resources: Any, name: str) -> frozenset[str]:
    return frozenset(text(each.get(name)) for each in objects(resources) if NEEDED.issubset(texts(each.get("verbs"))))


def served_version(watched: WatchedResource, served: Served, calico: str = CRD) -> str | None:
    """The API version to read the resource in, None where none is served. `calico`: the one that has the IPPools."""
    versions = watched.api_versions
    if versions == CALICO:
        versions = (calico, *(version for version in CALICO if version != calico))
    return next(
        (version for version in versions if version == "v1" or _serves(served, version, watched.resource)), None
    )


def _serves(served: Served, version: str, resource: str) -> bool:
    resources = served.get(version, frozenset())
    return resources is None or resource in resources
