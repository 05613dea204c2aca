"""dns_service_no_endpoints: nothing ready behind the cluster's DNS Service, and what that explains."""

from __future__ import annotations

from dataclasses import replace

import pytest

from exporter.diagnosis.engine.explain import explain
from exporter.model.cause import Cause, Severity
from exporter.model.cluster.corefile import Corefile
from exporter.model.cluster.inventory import Inventory
from exporter.model.family import Family
from exporter.model.reason import Reason
from exporter.model.report import Finding
from exporter.model.subject import Pair, Subject
from tests.unit.cluster_scene import NODES, changed, endpoints, judge, node, pod, service, subjects

CAUSE = Cause.DNS_SERVICE_NO_ENDPOINTS
SYSTEM = "kube-system"
SELECTOR = {"k8s-app": "kube-dns"}
DNS = service("kube-dns", namespace=SYSTEM, selector=SELECTOR)
COREDNS = pod("coredns-1", "ra", "10.1.13.9", namespace=SYSTEM, labels=SELECTOR, ready=False)


def cluster(ready: tuple[bool, ...] = (False,), **changes: object) -> Inventory:
    slices = tuple(endpoints("kube-dns", f"10.1.13.{i}", ready=one, namespace=SYSTEM) for i, one in enumerate(ready, 9))
    return changed(**{"services": (DNS,), "endpoint_slices": slices, "pods": (COREDNS,), **changes})


def finding(inventory: Inventory) -> Finding:
    judged = judge(CAUSE, inventory)
    assert not isinstance(judged, Reason)
    return judged[0]


@pytest.mark.parametrize("ready", [(), (False,), (False, False)])
def test_a_dns_service_without_ready_endpoint_is_critical(ready: tuple[bool, ...]) -> None:
    found = finding(cluster(ready))
    assert (found.severity, found.subjects) == (Severity.CRITICAL, ("service/kube-system/kube-dns",))
    assert "pod/kube-system/coredns-1: Running, not Ready, on ra" in found.evidence


def test_one_ready_endpoint_is_enough() -> None:
    assert judge(CAUSE, cluster((False, True))) == ()


def test_evidence_names_a_node_that_is_not_ready_and_a_selector_that_selects_nothing() -> None:
    lost = (*NODES[:2], node("ra", 13, ready=False))
    assert any(line.endswith("on ra, which is not Ready") for line in finding(cluster(nodes=lost)).evidence)
    nothing = finding(cluster(pods=(replace(COREDNS, labels={}),))).evidence
    assert "service/kube-system/kube-dns: no pod has k8s-app=kube-dns" in nothing


def test_where_a_node_cache_answers_it_is_a_warning() -> None:
    cache = Corefile(namespace=SYSTEM, name="node-local-dns")
    assert finding(cluster(node_local=cache)).severity is Severity.WARNING


def test_a_users_own_coredns_is_not_the_clusters() -> None:
    own = service("coredns", namespace="lan")
    assert judge(CAUSE, cluster((True,), services=(DNS, own))) == ()
    assert subjects(CAUSE, cluster(services=(DNS, own))) == ("service/kube-system/kube-dns",)


def test_without_such_a_service_it_does_not_apply() -> None:
    assert judge(CAUSE, cluster(services=(service("web"),))) is Reason.NOT_APPLICABLE


@pytest.mark.parametrize(("server", "by"), [("server/cluster_dns", CAUSE), ("server/other", None)])
def test_it_explains_that_this_server_does_not_answer(server: str, by: Cause | None) -> None:
    pair = Pair(Subject("pod/default/web"), Subject(server), Family.V4)
    silent = Finding(
        cause=Cause.DNS_UNREACHABLE, severity=Severity.CRITICAL, subjects=(Subject(server),), evidence=("x",),
        command="x", pairs=frozenset({pair}),
    )  # fmt: skip
    assert explain((finding(cluster()), silent))[1].by is by
