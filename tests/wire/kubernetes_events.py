"""What a real API server refuses of an Event of events.k8s.io/v1 that is created: its validation, as far as it concerns
this project (pkg/apis/core/validation/events.go of Kubernetes 1.36).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

LABEL = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?"
SUBDOMAIN = re.compile(rf"{LABEL}(\.{LABEL})*")
QUALIFIED = re.compile(r"([a-z0-9.-]+/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
MICRO_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}(Z|[+-]\d\d:\d\d)")
KNOWN = {
    "apiVersion", "kind", "metadata", "eventTime", "series", "reportingController", "reportingInstance", "action",
    "reason", "regarding", "related", "note", "type",
}  # fmt: skip


def problems(event: dict[str, Any], namespace: str) -> Iterator[str]:
    """Each reason for a 422; `namespace` is that of the request's path."""
    metadata, regarding = event.get("metadata") or {}, event.get("regarding") or {}
    if (event.get("apiVersion"), event.get("kind")) != ("events.k8s.io/v1", "Event"):
        yield "apiVersion or kind"
    if set(event) - KNOWN:
        yield f"unknown or deprecated: {set(event) - KNOWN}"
    name = metadata.get("name", "")
    if not (SUBDOMAIN.fullmatch(name) and len(name) <= 253):
        yield f"metadata.name: {name}"
    if metadata.get("namespace", namespace) != namespace:
        yield "metadata.namespace is not that of the request"
    if namespace != (regarding.get("namespace") or "default"):
        yield "namespace is not that of what it regards"
    if not MICRO_TIME.fullmatch(event.get("eventTime", "")):
        yield "eventTime"
    if not QUALIFIED.fullmatch(event.get("reportingController", "")):
        yield "reportingController"
    for key in ("reportingInstance", "action", "reason"):
        if not 1 <= len(event.get(key, "")) <= 128:
            yield key
    if len(event.get("note", "").encode()) > 1024:
        yield "note"
    if event.get("type") not in {"Normal", "Warning"}:
        yield "type"
    if not (regarding.get("kind") and regarding.get("name")):
        yield "regarding"
