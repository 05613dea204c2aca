"""Small clusters of each CNI, as their documentation has them (tests/data/networks): what is recognised in each."""

from __future__ import annotations

from dataclasses import replace
from fnmatch import fnmatchcase
from ipaddress import ip_network
from pathlib import Path

import pytest

from exporter.catalogue.exporter import EXPORTER, ExporterState
from exporter.diagnosis.engine import preconditions, rule_input
from exporter.diagnosis.engine.rule_input import Judgement, RuleInput
from exporter.diagnosis.engine.verdict import Memory, judge
from exporter.diagnosis.expectation import families_expected
from exporter.diagnosis.network import pod_network
from exporter.diagnosis.rules.cluster import CLUSTER_RULES
from exporter.diagnosis.rules.registry import RULES
from exporter.digest.codec import decode, encode
from exporter.digest.format import Digest, merge
from exporter.digest.projection import project
from exporter.inventory.file import load_file
from exporter.inventory.parse.components import parse_cni_config
from exporter.inventory.parse.networks import config_map_signs
from exporter.model.cause import Cause, Role, Severity
from exporter.model.cluster.inventory import NO_INVENTORY, Inventory, InventoryOrigin
from exporter.model.cluster.service import ServiceCIDR
from exporter.model.cni import OWN_LINKS, PROFILES
from exporter.model.cni.network import PodNetwork, ServiceProxy
from exporter.model.cni.profile import Cni, Effect
from exporter.model.family import Family
from exporter.model.reason import Reason
from exporter.model.report import Finding, Report, Snapshot
from exporter.model.subject import Subject, SubjectKind
from exporter.report.document import document_of, parse, to_json
from exporter.report.text import write
from tests.unit.cluster_scene import V4, V6

DATA = Path(__file__).resolve().parents[1] / "data" / "networks"
UNKNOWN = (Cni.UNKNOWN, "", ServiceProxy.UNKNOWN)
P = ServiceProxy
NETWORKS: dict[str, tuple[Cni, str, ServiceProxy]] = {
    "calico": (Cni.CALICO, "calico-ipam", P.NFTABLES),
    "calico-assigns-ipv4-only": (Cni.CALICO, "calico-ipam", P.UNKNOWN),
    "calico-v3": (Cni.CALICO, "calico-ipam", P.UNKNOWN),
    "calico-host-local": (Cni.CALICO, "host-local", P.UNKNOWN),
    "calico-denies-ipv6": (Cni.CALICO, "calico-ipam", P.UNKNOWN),
    "calico-cluster-policies": (Cni.CALICO, "calico-ipam", P.UNKNOWN),
    "calico-strict": (Cni.CALICO, "calico-ipam", P.UNKNOWN),
    "calico-block-limit": (Cni.CALICO, "calico-ipam", P.UNKNOWN),
    "calico-gke": UNKNOWN,
    "calico-aks": (Cni.UNKNOWN, "azure-vnet", P.UNKNOWN),
    "flannel": (Cni.FLANNEL, "host-local", P.NFTABLES),
    "flannel-off": (Cni.FLANNEL, "host-local", P.UNKNOWN),
    "flannel-no-masquerade": (Cni.FLANNEL, "host-local", P.UNKNOWN),
    "flannel-unreadable": (Cni.FLANNEL, "host-local", P.UNKNOWN),
    "canal": (Cni.FLANNEL, "host-local", P.IPTABLES),
    "canal-off": (Cni.FLANNEL, "host-local", P.UNKNOWN),
    "k3s": (Cni.FLANNEL, "host-local", P.IPTABLES),
    "k3s-no-masquerade": (Cni.FLANNEL, "host-local", P.IPTABLES),
    "k3s-cilium": (Cni.CILIUM, "cluster-pool", P.CILIUM),
    "cilium": (Cni.CILIUM, "cluster-pool", P.CILIUM),
    "cilium-off": (Cni.CILIUM, "kubernetes", P.CILIUM),
    "cilium-no-masquerade": (Cni.CILIUM, "cluster-pool", P.CILIUM),
    "cilium-global": (Cni.CILIUM, "cluster-pool", P.CILIUM),
    "cilium-chained": (Cni.AWS_VPC_CNI, "aws-vpc-cni", P.CILIUM),
    "ovn-kubernetes": (Cni.OVN_KUBERNETES, "ovn-kubernetes", P.NONE),
    "ovn-kubernetes-off": (Cni.OVN_KUBERNETES, "ovn-kubernetes", P.NONE),
    "kube-ovn": (Cni.KUBE_OVN, "kube-ovn", P.UNKNOWN),
    "kube-ovn-off": (Cni.KUBE_OVN, "kube-ovn", P.UNKNOWN),
    "antrea": (Cni.ANTREA, "host-local", P.NFTABLES),
    "antrea-no-snat": (Cni.ANTREA, "host-local", P.UNKNOWN),
    "antrea-ipv4-pods": (Cni.ANTREA, "host-local", P.UNKNOWN),
    "kube-router": (Cni.KUBE_ROUTER, "host-local", P.NONE),
    "kube-router-off": (Cni.KUBE_ROUTER, "host-local", P.NONE),
    "kube-router-firewall": (Cni.FLANNEL, "host-local", P.UNKNOWN),
    "aws-vpc-cni": (Cni.AWS_VPC_CNI, "aws-vpc-cni", P.UNKNOWN),
    "aws-vpc-cni-ipv4": (Cni.AWS_VPC_CNI, "aws-vpc-cni", P.UNKNOWN),
    "aws-vpc-cni-off": (Cni.AWS_VPC_CNI, "aws-vpc-cni", P.UNKNOWN),
    "kindnet": (Cni.KINDNET, "host-local", P.NFTABLES),
    "kindnet-ipv4-pods": (Cni.KINDNET, "host-local", P.UNKNOWN),
    "two": UNKNOWN,
    "migrated": (Cni.CILIUM, "cluster-pool", P.CILIUM),
    "half-migrated": UNKNOWN,
    "calico-unreported": (Cni.CALICO, "calico-ipam", P.NFTABLES),
    "ovn-kubernetes-unreported": (Cni.OVN_KUBERNETES, "ovn-kubernetes", P.NONE),
    "kube-ovn-unreported": (Cni.KUBE_OVN, "kube-ovn", P.UNKNOWN),
    "flannel-multus": (Cni.FLANNEL, "host-local", P.NFTABLES),
    "flannel-multus-unreported": (Cni.FLANNEL, "host-local", P.NFTABLES),
    "migrated-annotations": (Cni.FLANNEL, "host-local", P.NFTABLES),
    "unknown": UNKNOWN,
    "unknown-ipv4-pods": UNKNOWN,
}


WARNS = Severity.WARNING
ASSIGNS, MASQUERADES = Cause.CNI_NOT_ASSIGNING_IPV6, Cause.CNI_IPV6_MASQUERADE_OFF
# What is found in a cluster; every other has no cause at all.
FOUND: dict[str, list[tuple[Cause, Severity, str]]] = {
    "calico-assigns-ipv4-only": [(ASSIGNS, WARNS, "configmap/kube-system/calico-config")],
    "calico-denies-ipv6": [(Cause.NETWORK_POLICY_IPV6_GAP, Severity.INFO, "policy/default/default.no-ipv6")],
    "calico-block-limit": [(Cause.IPPOOL_EXHAUSTED, WARNS, "node/n1")],
    "flannel-off": [(ASSIGNS, WARNS, "configmap/kube-flannel/kube-flannel-cfg")],
    "flannel-no-masquerade": [(MASQUERADES, Severity.INFO, "node/n1")],
    "flannel-unreadable": [(ASSIGNS, WARNS, "node/n1")],  # by the pods
    "canal-off": [(ASSIGNS, WARNS, "configmap/kube-system/canal-config")],
    "k3s-no-masquerade": [(MASQUERADES, Severity.INFO, "node/n1")],
    "cilium-off": [(ASSIGNS, WARNS, "configmap/kube-system/cilium-config")],
    "cilium-no-masquerade": [(MASQUERADES, Severity.INFO, "configmap/kube-system/cilium-config")],
    "ovn-kubernetes-off": [(ASSIGNS, WARNS, "node/n1")],
    "kube-ovn-off": [(ASSIGNS, WARNS, "node/n1")],
    "antrea-no-snat": [(MASQUERADES, Severity.INFO, "configmap/kube-system/antrea-config")],
    "antrea-ipv4-pods": [(ASSIGNS, WARNS, "node/n1")],
    "kube-router-off": [(ASSIGNS, WARNS, "node/n1")],
    "aws-vpc-cni-off": [(ASSIGNS, WARNS, "node/n1")],
    "kindnet-ipv4-pods": [(ASSIGNS, WARNS, "node/n1")],
    "calico-unreported": [(Cause.POD_IP_MISMATCH, WARNS, "pod/default/web-1")],
    "ovn-kubernetes-unreported": [(Cause.POD_IP_MISMATCH, WARNS, "pod/default/web-1")],
    "kube-ovn-unreported": [(Cause.POD_IP_MISMATCH, WARNS, "pod/default/web-1")],
    "flannel-multus-unreported": [(Cause.POD_IP_MISMATCH, WARNS, "pod/default/web-1")],
    "unknown-ipv4-pods": [(ASSIGNS, WARNS, "node/n1")],
}


def cluster(name: str) -> Inventory:
    return load_file(DATA / f"{name}.yaml")


def test_every_file_has_its_line() -> None:
    assert sorted(NETWORKS) == sorted(path.stem for path in DATA.glob("*.yaml"))
    assert {cni for cni, _, _ in NETWORKS.values()} == set(Cni)


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_the_network_is_recognised_and_evidence_says_by_what(name: str) -> None:
    network = pod_network(cluster(name))
    assert (network.cni, network.ipam, network.proxy) == NETWORKS[name]
    assert network.evidence
    assert all(line.isprintable() for line in network.evidence)
    assert len(set(network.evidence)) == len(network.evidence)


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_a_node_learns_the_same_from_the_digest(name: str) -> None:
    digest = decode(Inventory, encode(project(cluster(name), now=0.0)))
    node = merge(Inventory(source=InventoryOrigin.KUBERNETES, cni_signs=()), Digest(digest))
    found = pod_network(node)
    assert (found.cni, found.ipam) == NETWORKS[name][:2]


@pytest.mark.parametrize("name", ["two", "half-migrated"])
def test_of_two_nothing_is_guessed_and_both_are_named(name: str) -> None:
    network = pod_network(cluster(name))
    assert "flannel" in network.evidence[0]
    assert network.uses_pod_cidrs is None
    assert network.profile is None


def test_what_was_not_read_is_not_said_to_be_missing() -> None:
    assert pod_network(NO_INVENTORY).evidence == ("no object that would show the CNI was read",)


@pytest.mark.parametrize("name", ["calico-gke", "calico-aks", "canal", "canal-off"])
def test_calico_for_policy_alone(name: str) -> None:
    assert pod_network(cluster(name)).calico_alone_for_policy


@pytest.mark.parametrize("name", ["calico", "calico-host-local", "flannel", "half-migrated", "unknown"])
def test_not_for_policy_alone(name: str) -> None:
    assert not pod_network(cluster(name)).calico_alone_for_policy


@pytest.mark.parametrize(
    ("name", "uses"),
    [("flannel", True), ("calico-host-local", True), ("calico", False), ("cilium", False), ("cilium-off", True),
     ("kube-ovn", False), ("aws-vpc-cni", False), ("antrea", True), ("unknown", None)],
)  # fmt: skip
def test_whether_addresses_come_from_pod_cidrs(name: str, uses: bool | None) -> None:
    assert pod_network(cluster(name)).uses_pod_cidrs is uses


def test_a_document_that_cannot_be_read_says_nothing_of_its_switches() -> None:
    network = pod_network(cluster("flannel-unreadable"))
    assert network.switch(Effect.IPV6) is None
    assert "cannot be seen" in network.switches[Effect.IPV6][0].text


def test_the_nodes_own_configuration_tells_the_ipam_of_a_cni_that_is_not_known() -> None:
    config = parse_cni_config('{"plugins": [{"type": "ptp", "ipam": {"type": "host-local"}}]}', source="/etc/cni/x")
    network = pod_network(replace(cluster("unknown"), cni=(config,)))
    assert (network.cni, network.ipam, network.uses_pod_cidrs) == (Cni.UNKNOWN, "host-local", True)


def test_links_of_a_cni_are_not_the_hosts_and_the_bridge_of_openshift_is() -> None:
    def own(link: str) -> bool:
        return any(fnmatchcase(link, pattern) for pattern in OWN_LINKS)

    assert all(map(own, ("lo", "docker0", "br-0123456789ab", "cni0", "cilium_host", "flannel-v6.1", "ovn-k8s-mp0")))
    assert not any(map(own, ("eth0", "ens5", "br-ex", "br0", "bond0", "enp1s0", "wlan0")))


def test_each_profile_is_found_by_its_own_name() -> None:
    assert {cni: profile.cni for cni, profile in PROFILES.items()} == {cni: cni for cni in PROFILES}
    assert set(PROFILES) == set(Cni) - {Cni.UNKNOWN}


def test_the_metric_has_the_network_once_a_round_has_finished() -> None:
    state = ExporterState(node="ra", role="cluster", network=pod_network(cluster("flannel")))
    metric = next(m for m in EXPORTER if m.name == "dualstack_exporter_cni_info")
    assert list(metric.rows(state)) == [(("flannel", "host-local"), 1)]
    assert list(metric.rows(ExporterState(node="ra", role="cluster"))) == []


def test_the_rules_of_a_round_ask_once_for_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Inventory] = []

    def counted(inventory: Inventory) -> PodNetwork:
        asked.append(inventory)
        return pod_network(inventory)

    for module in (rule_input, preconditions):
        monkeypatch.setattr(module, "pod_network", counted, raising=False)
    inventory = cluster("calico")
    judge(RuleInput(now=0.0, snapshot=snapshot_of(inventory)), Memory(), rules=RULES)
    assert asked == [inventory]


def snapshot_of(inventory: Inventory, role: Role = Role.CLUSTER) -> Snapshot:
    return Snapshot(
        node="n1",
        role=role,
        started=0.0,
        finished=0.0,
        complete=True,
        inventory=inventory,
        host=None,
        families=families_expected(inventory, None),
    )


def judged(inventory: Inventory, role: Role = Role.CLUSTER) -> dict[Cause, Judgement]:
    view = RuleInput(now=0.0, snapshot=snapshot_of(inventory, role))
    return {
        cause: rule(view) if cause.spec.family is None or view.expected(cause.spec.family) else Reason.SINGLE_STACK
        for cause, rule in CLUSTER_RULES.items()
    }


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_each_has_its_cause_and_no_other(name: str) -> None:
    found = [f for j in judged(cluster(name)).values() if not isinstance(j, Reason) for f in j]
    assert [(f.cause, f.severity, f.subjects[0]) for f in found] == FOUND.get(name, [])
    assert all(f.evidence and f.command for f in found)


@pytest.mark.parametrize("name", ["calico-gke", "calico-aks", "canal", "flannel", "cilium", "aws-vpc-cni", "kindnet"])
def test_causes_of_calicos_pools_do_not_apply_elsewhere(name: str) -> None:
    results = judged(cluster(name))
    pools = [cause for cause in results if cause.value.startswith("ippool")] + [Cause.CALICO_NODE_ADDRESS_MISSING]
    assert {cause: results[cause] for cause in pools} == dict.fromkeys(pools, Reason.NOT_APPLICABLE)


def test_a_switch_that_contradicts_the_pods_is_information() -> None:
    inventory = replace(cluster("flannel-off"), pods=cluster("flannel").pods)
    (finding,) = found_of(judged(inventory)[ASSIGNS])
    assert finding.severity is Severity.INFO
    assert "EnableIPv6 absent (default false)" in finding.evidence[0]


def test_nodes_without_pod_cidrs_are_a_fault_where_pods_get_their_addresses_from_them() -> None:
    inventory = cluster("kindnet")
    bare = tuple(replace(node, pod_cidrs=node.pod_cidrs[:1]) for node in inventory.nodes or ())
    (finding,) = found_of(judged(replace(inventory, nodes=bare))[Cause.NODE_POD_CIDR_MISSING])
    assert (finding.severity, finding.subjects) == (WARNS, ("node/n1", "node/n2"))


def test_one_node_without_is_information_where_they_are_not_used() -> None:
    first, second = cluster("kube-ovn-off").nodes or ()
    inventory = replace(cluster("kube-ovn-off"), nodes=(first, replace(second, pod_cidrs=())))
    (finding,) = found_of(judged(inventory)[Cause.NODE_POD_CIDR_MISSING])
    assert (finding.severity, finding.subjects) == (Severity.INFO, ("node/n2",))


def test_a_node_leaves_the_cluster_s_objects_to_the_cluster_exporter() -> None:
    assert judged(cluster("flannel-off"), Role.NODE)[ASSIGNS] is Reason.NOT_APPLICABLE


def found_of(judgement: Judgement) -> tuple[Finding, ...]:
    assert not isinstance(judgement, Reason)
    return judgement


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("aws-vpc-cni", {V6: True, V4: False}),  # ENABLE_IPv4 is written down as false
        ("aws-vpc-cni-ipv4", {V6: False, V4: True}),
        ("ovn-kubernetes", {V6: True, V4: True}),
        ("unknown-ipv4-pods", {V6: True, V4: True}),
    ],
)
def test_the_expectation_follows_the_evidence(name: str, expected: dict[Family, bool]) -> None:
    # Whatever the file does not have was read and is empty.
    whole = replace(cluster(name), unread={}, cni=(), pools=())
    assert families_expected(whole, None) == expected


ONLY_IPV4 = ServiceCIDR("kubernetes", (ip_network("10.96.0.0/16"),))


@pytest.mark.parametrize(("name", "names"), [("kindnet-ipv4-pods", True), ("kube-ovn-off", False), ("unknown", True)])
def test_pod_cidrs_name_a_family_unless_the_cni_does_not_use_them(name: str, names: bool) -> None:
    inventory = replace(cluster(name), service_cidrs=(ONLY_IPV4,), unread={}, cni=(), pools=())
    assert families_expected(inventory, None)[V6] is names


def test_a_service_range_that_is_not_ready_names_none() -> None:
    waiting = ServiceCIDR("extra", (ip_network("fd96::/112"),), ready=False)
    inventory = replace(cluster("kube-ovn-off"), service_cidrs=(ONLY_IPV4, waiting), unread={}, cni=(), pools=())
    assert families_expected(inventory, None)[V6] is False


def test_a_switch_that_somebody_turned_on_names_its_family_and_a_default_none() -> None:
    def named(name: str) -> frozenset[Family]:
        bare = replace(
            cluster(name), nodes=(), pods=(), services=(), service_cidrs=(), unread={}, cni=(), pools=(),
            components=(), cluster_pod_cidrs=(), cluster_service_cidrs=(),
        )  # fmt: skip
        return frozenset(family for family, value in families_expected(bare, None).items() if value)

    assert named("cilium") == {V4, V6}
    assert named("flannel") == {V6}  # EnableIPv4 is on unless it is turned off
    assert named("flannel-off") == frozenset()


def test_report_and_text_say_which_network_it_is_and_by_what() -> None:
    inventory = cluster("flannel-off")
    snapshot = Snapshot(
        node="", role=Role.CLUSTER, started=0.0, finished=0.0, complete=True, inventory=inventory, host=None
    )  # fmt: skip
    document = document_of(Report(snapshot=snapshot, families={}, network=pod_network(inventory)))
    said = "flannel, IPAM host-local, by pod/kube-flannel/kube-flannel-ds-x7k2p"
    assert parse(to_json(document).encode()).network == said
    assert f"pod network: {said}" in write([document])
    assert not pod_network(cluster("two")).described


def test_a_tenants_config_map_is_no_setting_of_the_pod_network() -> None:
    """kube-flannel-cfg is read in every namespace, for flannel's manifest has one of its own."""
    data = {"net-conf.json": '{"EnableIPv6": true}'}
    signs = {
        namespace: list(config_map_signs("kube-flannel-cfg", data, Subject.of(SubjectKind.CONFIGMAP, namespace, "x")))
        for namespace in ("kube-flannel", "kube-system", "shop")
    }
    assert {namespace: len(found) for namespace, found in signs.items()} == {
        "kube-flannel": 1, "kube-system": 1, "shop": 0,
    }  # fmt: skip


def test_an_agent_that_is_read_twice_is_evidence_once() -> None:
    """A node's own list of pods and the digest of the cluster may both have it."""
    inventory = cluster("flannel")
    twice = replace(inventory, cni_signs=(inventory.cni_signs or ()) * 2)
    assert pod_network(twice).evidence == pod_network(inventory).evidence
