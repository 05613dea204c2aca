"""Kubernetes Events for causes that begin and end, on the Nodes and Pods that they affect (events.k8s.io/v1). Pure.

Between the rounds and inventory/event_writer.py. Only causes that nothing explains have Events. What is neither a Node
nor a Pod (a nameserver, a target, a peer) is told on the exporter's own Node; a cluster exporter has none.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeAlias

from exporter.model.cause import Cause, Role, Severity
from exporter.model.grouping import grouped
from exporter.model.report import CauseReport, Report
from exporter.report.document import age, alert_name

OBJECTS = 5  # of one cause that begin or end in one round
NOTE = 1024  # bytes, the API server's limit
INSTANCE = 128  # characters, the same
NAME = 200  # characters of the object's name in that of its Event, which has at most 253
CONTROLLER = "dualstack-exporter"


@dataclass(frozen=True, slots=True, kw_only=True)
class Regarding:
    """What an Event is about. A Node's uid is its name, as in Events of the kubelet: kubectl describe looks there."""

    kind: str
    namespace: str
    name: str
    uid: str


Told: TypeAlias = Mapping[tuple[Cause, Regarding], CauseReport]


def cause_events(before: Report | None, now: Report) -> Iterator[dict[str, Any]]:
    """Events of what began and ended between two rounds, the worst first; `before` None: everything begins."""
    old, new = _told(before) if before is not None else {}, _told(now)
    roots = {cause for cause, _ in new}
    explained = {item.finding.cause for item in now.causes} - roots
    pods = {pod.uid for pod in now.snapshot.inventory.pods or ()}
    begun = {key: item for key, item in new.items() if key not in old}
    for (cause, regarding), item in _first(begun):
        finding = item.finding
        note = f"{cause.spec.says} {'; '.join(finding.evidence)}"
        yield _event(now, cause, regarding, "Found", note, warns=finding.severity is not Severity.INFO)
    gone = {key: item for key, item in old.items() if key not in new and key[0] in now.checked - explained}
    for (cause, regarding), item in _first(gone):
        if regarding.kind == "Node" or regarding.uid in pods:
            lasted = age(max(0.0, now.snapshot.finished - item.since))
            note = f"No longer found after {lasted}: {cause.spec.says}"
            yield _event(now, cause, regarding, "Ended", note, warns=False)


def _first(told: Told) -> list[tuple[tuple[Cause, Regarding], CauseReport]]:
    """Of each cause the first objects; the worst causes first."""
    by_cause = grouped(told.items(), lambda each: each[0][0])
    chosen = [each for made in by_cause.values() for each in made[:OBJECTS]]
    return sorted(chosen, key=lambda each: -each[1].finding.severity.rank)


def _told(report: Report) -> Told:
    roots = (item for item in report.causes if item.explained_by is None)
    return {(item.finding.cause, each): item for item in roots for each in _objects(report, item)}


def _objects(report: Report, item: CauseReport) -> tuple[Regarding, ...]:
    pods = {pod.subject: pod for pod in report.snapshot.inventory.pods or ()}
    found: dict[Regarding, None] = {}
    for subject in item.finding.subjects:
        kind, _, name = subject.partition("/")
        pod = pods.get(subject)
        if pod is not None and pod.uid:
            found[Regarding(kind="Pod", namespace=pod.namespace, name=pod.name, uid=pod.uid)] = None
        elif kind == "node" or (kind != "pod" and report.snapshot.role is not Role.CLUSTER):
            node = name if kind == "node" else report.snapshot.node
            found[Regarding(kind="Node", namespace="", name=node, uid=node)] = None
    return tuple(found)


def _event(
    report: Report, cause: Cause, regarding: Regarding, action: str, note: str, *, warns: bool
) -> dict[str, Any]:
    """The object. Its name, which must be unique, is that of what it is about with cause, action and time."""
    moment = datetime.fromtimestamp(report.snapshot.finished, UTC)
    reason = alert_name(cause).removeprefix("Dualstack")
    suffix = f"{cause.value.replace('_', '')}.{action.lower()}.{int(moment.timestamp() * 1e6):x}"
    room = min(NAME, 253 - len(suffix) - 1)
    kind = {"apiVersion": "v1", "kind": regarding.kind, "name": regarding.name, "uid": regarding.uid}
    return {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {
            "name": f"{regarding.name[:room].rstrip('-.')}.{suffix}",
            "namespace": regarding.namespace or "default",  # where Events of Nodes belong
        },
        "eventTime": moment.isoformat(timespec="microseconds").replace("+00:00", "Z"),
        "reportingController": CONTROLLER,
        "reportingInstance": report.snapshot.node[:INSTANCE],
        "action": action,
        "reason": reason,
        "regarding": kind | ({"namespace": regarding.namespace} if regarding.namespace else {}),
        "note": _cut(note),
        "type": "Warning" if warns else "Normal",
    }


def _cut(note: str) -> str:
    encoded = note.encode()
    return note if len(encoded) <= NOTE else encoded[: NOTE - 3].decode(errors="ignore") + "..."
