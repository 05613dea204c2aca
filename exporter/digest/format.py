"""The digest: what the cluster role serves to the nodes, so that 5,000 of them need not list the cluster. Pure.

It contains what a node needs of the others: peers, pools and blocks, the DNS Services, which pods an egress policy
restricts, and the causes found in the cluster's objects. Its format is numbered; a server writes N and N-1, a client
reads both, so that either may be updated first. This module writes, reads and merges; publisher.py and source.py
transfer it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from exporter.digest.codec import CodecError, decode, encode
from exporter.digest.projection import project
from exporter.model.cause import Cause, Role, Severity
from exporter.model.cluster.inventory import Inventory, ResourceKind
from exporter.model.reason import Reason
from exporter.model.report import CauseReport, Found
from exporter.model.subject import Subject

_T = TypeVar("_T")
VERSION = 1  # N; 0 never existed, so there is no N-1 yet
AGE = "Dualstack-Inventory-Age"  # header: age of the inventory in seconds
MEDIA = "application/vnd.dualstack-exporter.digest.v{}+json"
READABLE = tuple(version for version in (VERSION, VERSION - 1) if version > 0)
ACCEPT = ", ".join(map(MEDIA.format, READABLE))  # the formats that a client reads, the newest first
MAX_BYTES = 16 << 20  # that of 5,000 nodes has 1.5 MiB
MAX_VALUES = 1_000_000  # that of 5,000 nodes has 100,000; they bound the memory that reading takes
MAX_SUBJECTS = 500  # of one found cause
SHARED = frozenset(cause for cause in Cause if Role.CLUSTER in cause.spec.roles)  # the causes that a digest may contain


class DigestError(ValueError):
    """The bytes are not a digest that this exporter reads; the message is one line."""


@dataclass(frozen=True, slots=True)
class Digest:
    """The cluster as nodes need it, and the causes found in it that may explain what they see."""

    inventory: Inventory
    found: tuple[Found, ...] = ()


def negotiate(accept: str, offered: tuple[int, ...] = READABLE) -> int | None:
    """The newest format that both sides know, None for none. If the client accepts anything: the newest."""
    wanted = {part.split(";")[0].strip().lower() for part in accept.split(",")}
    if not any(each.startswith("application/vnd.dualstack-exporter.") for each in wanted):
        return max(offered)
    return next((version for version in sorted(offered, reverse=True) if MEDIA.format(version) in wanted), None)


# Writing


def write_digest(inventory: Inventory, causes: Iterable[CauseReport], now: float) -> bytes:
    """The digest of a cluster and of its unexplained causes, in format N."""
    found = [
        {
            "cause": each.finding.cause.value,
            "severity": each.finding.severity.value,
            "subjects": list(each.finding.subjects[:MAX_SUBJECTS]),
        }
        for each in causes
        if each.explained_by is None and each.finding.severity is not Severity.INFO and each.finding.cause in SHARED
    ]
    document = {"version": VERSION, "inventory": encode(project(inventory, now)), "found": found}
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()


# Reading


def read_digest(body: bytes) -> Digest:
    """The digest of these bytes, of format N or N-1. Raises DigestError if they are none."""
    if len(body) > MAX_BYTES:
        raise DigestError(f"larger than {MAX_BYTES} bytes")
    if sum(map(body.count, (b",", b"[", b"{"))) > MAX_VALUES:
        raise DigestError(f"more than {MAX_VALUES} values")
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise DigestError(f"not JSON: {str(error)[:100]}") from None
    if not isinstance(document, dict) or document.get("version") not in READABLE:
        raise DigestError("of a format that is not known here")
    found = document.get("found")
    if not isinstance(found, list):
        raise DigestError("found is no list")
    try:
        return Digest(decode(Inventory, document.get("inventory")), tuple(_found(found)))
    except (CodecError, RecursionError) as error:
        raise DigestError(str(error)) from None


def _found(entries: list[Any]) -> Iterator[Found]:
    for entry in entries:
        if not isinstance(entry, dict) or not isinstance(entry.get("subjects"), list):
            raise DigestError("a found cause is no object with subjects")
        if not isinstance(entry.get("cause"), str) or entry["cause"] not in SHARED:
            continue  # of a newer exporter, or of another node only: it explains nothing here
        severity, subjects = decode(Severity, entry.get("severity")), decode(tuple[Subject, ...], entry["subjects"])
        yield Found(cause=Cause(entry["cause"]), severity=severity, subjects=subjects, elsewhere=True)


def merge(own: Inventory, digest: Digest | None) -> Inventory:
    """The node's own pods, Node and files, and the rest of the cluster as the digest has it."""
    if digest is None:
        # What the node does not read itself would be in the digest.
        awaited = {k: Reason.API_UNAVAILABLE if v is Reason.NO_INVENTORY else v for k, v in own.unread.items()}
        return replace(own, unread=awaited)
    rest, pods = digest.inventory, ResourceKind.PODS
    nodes = {each.name: each for each in (*(rest.nodes or ()), *(own.nodes or ()))}
    unread = {kind: reason for kind, reason in rest.unread.items() if kind is not pods}
    if own.pods is None and pods in own.unread:
        unread[pods] = own.unread[pods]
    return replace(
        rest,
        stale=rest.stale or own.stale,
        synced=own.synced,
        current_at=None,
        pods=own.pods,
        nodes=None if rest.nodes is None and own.nodes is None else tuple(nodes[name] for name in sorted(nodes)),
        cni=_both(own.cni, rest.cni),
        components=own.components,
        cni_signs=_both(own.cni_signs, rest.cni_signs),
        unread=unread,
        unreadable=own.unreadable,
        unreadable_count=own.unreadable_count,
        read_at=own.read_at,
        read_seconds=own.read_seconds,
    )


def _both(own: tuple[_T, ...] | None, rest: tuple[_T, ...] | None) -> tuple[_T, ...] | None:
    """The node's own first; None where neither was read."""
    return None if own is None and rest is None else (*(own or ()), *(rest or ()))
