"""Each recorded cluster gives exactly its cause, through the whole path from the file to the verdict."""

from __future__ import annotations

import pytest

from exporter.config.schema import ServiceExpectation, ServicePolicy
from exporter.diagnosis.engine.rule_input import Expectations, RuleInput
from exporter.diagnosis.engine.verdict import Memory, Verdict, judge
from exporter.diagnosis.expectation import families_expected
from exporter.diagnosis.rules.cluster import CLUSTER_RULES
from exporter.inventory.inventory_builder import build_inventory
from exporter.inventory.parse.objects import parse_object
from exporter.model.cause import Cause, Role, Severity
from exporter.model.cluster.inventory import Inventory, InventoryOrigin, ResourceKind
from exporter.model.family import Family
from exporter.model.reason import Reason
from exporter.model.report import Snapshot
from tests.unit import recorded

# service_aaaa_missing asks the cluster's DNS; here only the inventory is judged.
RULES = {
    **CLUSTER_RULES,
    **dict.fromkeys((Cause.SERVICE_AAAA_MISSING, Cause.SERVICE_AAAA_WRONG), lambda _: Reason.NO_VANTAGE),
}
V6_POOL = "pool/default-ipv6-ippool"
SINGLE_STACK_SERVICES = (
    "service/default/db",
    "service/default/web",
    "service/default/web-lb",
    "service/kube-system/kube-dns",
    "service/shop/cart",
)
# The files hold no IPAMBlocks, and only kubeadm's show component arguments.
SILENT = {
    Cause.SERVICE_AAAA_MISSING, Cause.SERVICE_AAAA_WRONG, Cause.CNI_IPV6_MASQUERADE_OFF, Cause.IPPOOL_EXHAUSTED,
    Cause.CONTROL_PLANE_FLAGS,
}  # fmt: skip


def verdict(inventory: Inventory, expect: Expectations | None = None) -> Verdict:
    snapshot = Snapshot(
        node="",
        role=Role.CLUSTER,
        started=0.0,
        finished=0.0,
        complete=True,
        inventory=inventory,
        host=None,
        families=families_expected(inventory, None),
    )
    found, _ = judge(RuleInput(now=0.0, snapshot=snapshot, expect=expect or Expectations()), Memory(), rules=RULES)
    return found


def shown(found: Verdict) -> list[tuple[Cause, Severity, tuple[str, ...]]]:
    return [(each.finding.cause, each.finding.severity, each.finding.subjects) for each in found.causes]


@pytest.mark.parametrize(
    ("scenario", "expected"),
    [
        ("healthy-dual-stack", []),
        ("healthy-dual-stack-kubeadm", []),
        ("single-stack-v4", []),
        ("ippool-v6-no-nat", [(Cause.IPPOOL_NAT_OUTGOING_OFF, Severity.INFO, (V6_POOL,))]),
        ("ippool-vxlan-mode-mismatch", [(Cause.IPPOOL_VXLAN_MODE_MISMATCH, Severity.INFO, (V6_POOL,))]),
        (
            "corefile-blocks-aaaa",
            [(Cause.COREDNS_TEMPLATE_BLOCKS_AAAA, Severity.CRITICAL, ("configmap/kube-system/coredns",))],
        ),
        ("node-missing-v6-podcidr", [(Cause.NODE_POD_CIDR_MISSING, Severity.INFO, ("node/ra",))]),
        ("services-still-single-stack", [(Cause.SERVICE_IPV6_MISSING, Severity.INFO, SINGLE_STACK_SERVICES)]),
        (
            "cni-assign-ipv6-off",
            [(Cause.CNI_NOT_ASSIGNING_IPV6, Severity.WARNING, ("configmap/kube-system/calico-config",))],
        ),
        ("cidr-overlap", [(Cause.CIDR_OVERLAP, Severity.WARNING, (V6_POOL,))]),
    ],
)
def test_a_recorded_cluster_has_its_cause_and_no_other(
    scenario: str, expected: list[tuple[Cause, Severity, tuple[str, ...]]]
) -> None:
    found = verdict(recorded.cluster(scenario))
    assert shown(found) == expected
    assert all(each.finding.evidence and each.finding.command for each in found.causes)


LISTS = {
    ResourceKind.NODES: "nodes",
    ResourceKind.PODS: "pods",
    ResourceKind.SERVICES: "services",
    ResourceKind.ENDPOINT_SLICES: "endpointslices",
    ResourceKind.SERVICE_CIDRS: "servicecidrs",
    ResourceKind.POLICIES: "networkpolicies",
    ResourceKind.IP_POOLS: "ippools",
    ResourceKind.BLOCK_AFFINITIES: "blockaffinities",
    ResourceKind.FELIX: "felixconfigurations",
    ResourceKind.CALICO_DAEMONSET: "daemonsets-kube-system",
    ResourceKind.CONFIG_MAPS: "configmaps-kube-system",
}


def test_the_recorded_mixed_cluster_has_all_of_its_causes() -> None:
    objects = {kind: [parse_object(kind, item) for item in recorded.listed(name)] for kind, name in LISTS.items()}
    assert shown(verdict(build_inventory(objects, source=InventoryOrigin.KUBERNETES))) == [
        (Cause.NODE_INTERNAL_IP_MISSING, Severity.WARNING, ("node/ra",)),
        (Cause.CALICO_NODE_ADDRESS_MISSING, Severity.WARNING, ("node/ra",)),
        # The pods behind legacy-api-dual have IPv4 alone: not the slices' fault.
        (Cause.LOADBALANCER_IPV6_MISSING, Severity.WARNING, ("service/default/web-lb-v4ingress",)),
        (Cause.FELIX_IPV6_OFF, Severity.WARNING, ("node/babel",)),
        (Cause.NODE_POD_CIDR_MISSING, Severity.INFO, ("node/ra",)),
        (Cause.SERVICE_IPV6_MISSING, Severity.INFO, ("service/default/db-v4", "service/default/legacy-api")),
        (Cause.ENDPOINTSLICE_IPV6_MISSING, Severity.INFO, ("service/default/no-selector",)),
        (Cause.IPPOOL_NAT_OUTGOING_OFF, Severity.INFO, ("pool/lan-v6",)),
        (Cause.IPPOOL_VXLAN_MODE_MISMATCH, Severity.INFO, ("pool/lan-v6",)),
        (Cause.NETWORK_POLICY_IPV6_GAP, Severity.INFO, ("policy/shop/egress-v4-only",)),
    ]


def test_every_recorded_cluster_is_expected_above() -> None:
    assert len(recorded.SCENARIOS) == 10


def test_single_stack_services_are_a_warning_under_the_policy() -> None:
    policy = Expectations(services=(ServiceExpectation(policy=ServicePolicy.PREFER_DUAL_STACK),))
    found = verdict(recorded.cluster("services-still-single-stack"), policy)
    assert shown(found) == [(Cause.SERVICE_IPV6_MISSING, Severity.WARNING, SINGLE_STACK_SERVICES)]


def test_a_single_stack_cluster_leaves_every_ipv6_cause_unchecked() -> None:
    inventory = recorded.cluster("single-stack-v4")
    assert families_expected(inventory, None) == {Family.V4: True, Family.V6: False}
    found = verdict(inventory)
    assert {each.reason for each in found.unchecked} == {Reason.SINGLE_STACK}
    assert found.checked == {Cause.DNS_SERVICE_NO_ENDPOINTS, Cause.CIDR_OVERLAP, Cause.CIDR_UNSUITABLE}


@pytest.mark.parametrize("scenario", [s for s in recorded.SCENARIOS if s != "single-stack-v4"])
def test_what_a_file_lacks_is_unchecked_and_nothing_else_is(scenario: str) -> None:
    silent = SILENT - ({Cause.CONTROL_PLANE_FLAGS} if scenario.endswith("kubeadm") else set())
    assert {each.cause for each in verdict(recorded.cluster(scenario)).unchecked} == silent
