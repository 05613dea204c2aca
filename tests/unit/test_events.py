"""Kubernetes Events of causes: on which objects, when, and within the limits of the API server and of their own."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.inventory.event_writer import BURST, EVERY, EventWriter
from exporter.inventory.kubernetes.api_error import ApiError, ApiErrorKind
from exporter.model.cause import Cause, Role, Scope, Severity
from exporter.model.cluster.inventory import Inventory, InventoryOrigin
from exporter.model.cluster.pod import Pod
from exporter.model.report import CauseReport, Finding, Report
from exporter.model.subject import Subject
from exporter.report.events import OBJECTS, cause_events
from tests.unit.sample import quiet_day
from tests.unit.sample_probes import NOW
from tests.wire.kubernetes_events import problems

NAT, DNS, MISSING = Cause.NAT_MASQUERADE_MISSING, Cause.DNS_AAAA_BLOCKED, Cause.POD_IPV6_MISSING
QUIET = quiet_day()
PODS = tuple(Pod(namespace="shop", name=f"web-{n}", uid=f"uid-{n}") for n in range(8))


def found(cause: Cause, *subjects: str, by: Cause | None = None, **more: Any) -> CauseReport:
    told = {"severity": Severity.WARNING, "evidence": ("seen",), **more}
    finding = Finding(cause=cause, subjects=tuple(map(Subject, subjects)), command="true", **told)
    return CauseReport(finding=finding, scope=Scope.NODE, since=NOW - 600, explained_by=by)


def at(*causes: CauseReport, pods: tuple[Pod, ...] = PODS, role: Role = Role.NODE, **more: Any) -> Report:
    inventory = Inventory(source=InventoryOrigin.KUBERNETES, pods=pods)
    snapshot = replace(QUIET.snapshot, node="node-a", role=role, inventory=inventory, finished=NOW)
    return replace(QUIET, snapshot=snapshot, causes=causes, **{"checked": frozenset(Cause), **more})


def told(before: Report | None, now: Report) -> list[tuple[str, str, str, str]]:
    """What, where, and how."""
    made = [*cause_events(before, now)]
    assert [problem for event in made for problem in problems(event, event["metadata"]["namespace"])] == []
    return [(e["reason"], e["action"], f"{e['regarding']['kind']}/{e['regarding']['name']}", e["type"]) for e in made]


def test_a_cause_that_begins_is_told_on_the_nodes_and_pods_that_it_affects() -> None:
    causes = (found(NAT, "pool/v6"), found(MISSING, "pod/shop/web-0", "pod/shop/web-1", severity=Severity.INFO))
    assert told(at(), at(*causes)) == [
        ("NatMasqueradeMissing", "Found", "Node/node-a", "Warning"),
        ("PodIpv6Missing", "Found", "Pod/web-0", "Normal"),
        ("PodIpv6Missing", "Found", "Pod/web-1", "Normal"),
    ]
    assert told(None, at(causes[0])) == told(at(), at(causes[0]))
    assert told(at(*causes), at(*causes)) == []


def test_an_event_is_where_kubectl_describe_looks_for_it() -> None:
    node, pod = cause_events(None, at(found(NAT, "node/node-a"), found(MISSING, "pod/shop/web-0")))
    assert node["metadata"]["namespace"] == "default"
    assert node["regarding"] == {"apiVersion": "v1", "kind": "Node", "name": "node-a", "uid": "node-a"}
    assert pod["metadata"]["namespace"] == "shop"
    assert pod["regarding"] == {"apiVersion": "v1", "kind": "Pod", "namespace": "shop", "name": "web-0", "uid": "uid-0"}
    assert pod["note"] == f"{MISSING.spec.says} seen"
    assert (pod["reportingController"], pod["reportingInstance"]) == ("dualstack-exporter", "node-a")


def test_an_end_is_told_where_the_cause_is_checked_and_the_object_is_still_there() -> None:
    standing = found(MISSING, "pod/shop/web-0", "pod/shop/web-1")
    ended = ("PodIpv6Missing", "Ended", "Pod/web-0", "Normal")
    assert told(at(standing), at()) == [ended, ("PodIpv6Missing", "Ended", "Pod/web-1", "Normal")]
    assert told(at(standing), at(found(MISSING, "pod/shop/web-1"))) == [ended]
    assert told(at(standing), at(pods=PODS[:1])) == [ended]
    assert told(at(standing), at(checked=frozenset())) == []
    (event,) = cause_events(at(found(NAT, "pool/v6")), at())
    assert event["note"].startswith("No longer found after 10 min: ")


def test_consequences_have_no_events_and_what_becomes_one_has_not_ended() -> None:
    consequence = found(MISSING, "pod/shop/web-0", by=NAT)
    assert told(at(), at(consequence)) == []
    assert told(at(consequence), at()) == []
    assert told(at(found(MISSING, "pod/shop/web-0")), at(consequence)) == []


def test_a_cluster_exporter_has_no_node_of_its_own() -> None:
    causes = (found(DNS, "server/cluster_dns"), found(NAT, "node/node-b"))
    assert told(None, at(*causes, role=Role.CLUSTER)) == [("NatMasqueradeMissing", "Found", "Node/node-b", "Warning")]


def test_of_many_objects_the_first_are_told_and_none_ends_because_another_comes_before_it() -> None:
    six = found(MISSING, *(pod.subject for pod in PODS[1:7]))
    assert len(told(None, at(six))) == OBJECTS
    seven = found(MISSING, *(pod.subject for pod in PODS[:7]))
    assert told(at(six), at(seven)) == [("PodIpv6Missing", "Found", "Pod/web-0", "Warning")]


@pytest.mark.parametrize("name", ["y", "x" * 253, "a." * 126 + "b", "-".join("a" * 127), "a" * 199 + "-.b" * 18])
@given(evidence=st.text())
def test_any_evidence_and_the_longest_names_make_an_event_that_is_accepted(name: str, evidence: str) -> None:
    pod = Pod(namespace="shop", name=name, uid="u")
    causes = (found(MISSING, pod.subject, evidence=(evidence * 200,)),)
    assert told(None, at(*causes, pods=(pod,))) == [("PodIpv6Missing", "Found", f"Pod/{name}", "Warning")]
    assert told(at(*causes, pods=(pod,)), at(pods=(pod,))) == [("PodIpv6Missing", "Ended", f"Pod/{name}", "Normal")]


class Api:
    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []
        self.error: ApiError | None = None
        self.asked = asyncio.Event()

    async def post(self, path: str, body: dict[str, Any], *, longest: float) -> None:
        assert longest <= 10
        assert path == "/apis/events.k8s.io/v1/namespaces/default/events"
        self.asked.set()
        if self.error is not None:
            raise self.error
        self.sent.append(body)


async def drained(api: Api, writer: EventWriter, done: Callable[[], bool]) -> None:
    sending = asyncio.create_task(writer.run())
    while not done():
        api.asked.clear()
        await api.asked.wait()
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)


EVENT = {"metadata": {"namespace": "default"}}


async def test_ten_at_once_then_one_a_minute_and_the_rest_is_dropped_and_counted() -> None:
    now = 0.0
    api = Api()
    writer = EventWriter(api, clock=lambda: now)
    writer.offer([EVENT] * 25)
    assert writer.outcomes == {"dropped": 25 - BURST}
    await drained(api, writer, lambda: len(api.sent) == BURST)
    now = 2 * EVERY + 1
    writer.offer([EVENT] * 5)
    await drained(api, writer, lambda: len(api.sent) == BURST + 2)
    assert writer.outcomes == {"sent": BURST + 2, "dropped": 25 - BURST + 3}


async def test_a_server_that_does_not_answer_holds_nobody_up(caplog: pytest.LogCaptureFixture) -> None:
    now = 0.0
    api = Api()
    writer = EventWriter(api, clock=lambda: now)
    for _ in range(3):  # nothing is taken from the queue
        writer.offer([EVENT] * BURST)
        now += BURST * EVERY
    assert writer.outcomes["dropped"] == 2 * BURST
    api.error = ApiError(ApiErrorKind.FORBIDDEN, "events is forbidden")
    with caplog.at_level(logging.WARNING):
        await drained(api, writer, lambda: writer.outcomes["failed"] == BURST)
    assert [record.message for record in caplog.records] == ["an event could not be created"]
    api.error = None
    writer.offer([EVENT])
    await drained(api, writer, lambda: len(api.sent) == 1)
