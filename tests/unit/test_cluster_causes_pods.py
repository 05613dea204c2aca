"""An address that the CNI noted on a pod and the API does not report, as the cluster exporter finds it."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address

import pytest

from exporter.model.cause import Cause
from exporter.model.cluster.pod import Namespace, Pod
from exporter.model.reason import Reason
from exporter.model.report import Finding
from tests.unit.cluster_scene import V4, V6, changed, judge, pod, subjects

MISMATCH = Cause.POD_IP_MISMATCH
NOTED = (ip_address("10.1.13.7"), ip_address("fd01:0:0:13::7"))
LACKS = pod("half", "ra", "10.1.13.7", annotated_ips=NOTED)
WHOLE = pod("whole", "ra", "10.1.13.8", "fd01:0:0:13::8")


def said(*pods: Pod) -> tuple[Finding, ...]:
    judgement = judge(MISMATCH, changed(pods=pods))
    assert not isinstance(judgement, Reason)
    return judgement


def test_an_address_that_status_lacks_is_found_and_shown() -> None:
    (finding,) = said(LACKS, WHOLE)
    assert finding.subjects == ("pod/default/half",)
    assert finding.evidence == (
        "1 pod with an address that status.podIPs lacks",
        "pod/default/half: its CNI noted fd01:0:0:13::7 on it, status.podIPs is [10.1.13.7]",
    )
    assert finding.command.startswith("kubectl -n default get pod half -o jsonpath=")


@pytest.mark.parametrize(
    "healthy",
    [
        WHOLE,  # without annotation
        replace(WHOLE, annotated_ips=(ip_address("10.1.13.8"), ip_address("fd01:0:0:13::8"))),
        replace(WHOLE, annotated_ips=(ip_address("10.1.13.8"), ip_address("fd01:0:0:13::9"))),  # just made anew
        replace(LACKS, ready=False),  # its status is still being written
        replace(LACKS, phase="Succeeded"),
        replace(LACKS, deleting=True),
        replace(LACKS, host_network=True),
        replace(LACKS, ips=()),
        replace(LACKS, families=(V4,)),  # opted out
        replace(LACKS, namespace="v4"),
    ],
)
def test_healthy_pods_are_not(healthy: Pod) -> None:
    inventory = changed(pods=(healthy,), namespaces=(Namespace(name="v4", families=(V4,)),))
    assert subjects(MISMATCH, inventory) == ()


def test_a_family_that_is_not_expected_may_be_missing() -> None:
    assert subjects(MISMATCH, changed(pods=(LACKS,)), families=(V4,)) == ()
    only_v4_noted = replace(LACKS, ips=NOTED[1:])
    assert subjects(MISMATCH, changed(pods=(only_v4_noted,)), families=(V6,)) == ()


def test_without_pods_it_is_not_checked() -> None:
    assert judge(MISMATCH, changed(pods=None)) is Reason.NO_INVENTORY
