"""CNI configuration, component flags and ConfigMaps as they are found in the wild."""

from __future__ import annotations

import json
from ipaddress import ip_network
from typing import Any

import pytest

from exporter.inventory.inventory_builder import build_inventory
from exporter.inventory.parse.components import (
    arguments_of,
    component_flags,
    parse_arguments_file,
    parse_cni_config,
    parse_kubeadm,
    parse_node_arguments,
)
from exporter.inventory.parse.objects import parse_object
from exporter.model.cluster.component import CniConfig, ComponentFlags
from exporter.model.cluster.inventory import Inventory, InventoryOrigin, ResourceKind
from exporter.model.cluster.node import Node
from exporter.model.cluster.pod import Pod
from exporter.model.reason import Reason
from exporter.model.subject import Subject
from tests.unit import recorded
from tests.unit.cluster_scene import pool


def from_maps(**data: dict[str, str]) -> Inventory:
    """The inventory of ConfigMaps of kube-system, by name (underscores for dashes)."""
    sources = [
        {"metadata": {"name": n.replace("_", "-"), "namespace": "kube-system"}, "data": d} for n, d in data.items()
    ]
    return build_inventory(
        {ResourceKind.CONFIG_MAPS: [parse_object(ResourceKind.CONFIG_MAPS, each) for each in sources]},
        source=InventoryOrigin.FILE,
    )


def test_a_template_with_placeholders_is_read_although_it_is_not_json() -> None:
    for name, expected in (("true", (True, "true")), ("false", (False, "false")), ("absent", (False, None))):
        cni = from_maps(calico_config=recorded.config_map(f"calico-config-assign-ipv6-{name}")).cni
        assert cni is not None
        config = cni[0]
        assert (config.assign_ipv6, config.assign_ipv6_text) == expected
        assert (config.main_plugin, config.ipam, config.assign_ipv4, config.mtu, config.error) == (
            "calico",
            "calico-ipam",
            True,
            None,
            "",
        )
        assert config.source == "configmap/kube-system/calico-config"


def conflist(ipam: str, mtu: str = "1450") -> str:
    calico = f'{{"type": "calico", "mtu": {mtu}, "ipam": {ipam}}}'
    return f'{{"name": "k8s-pod-network", "plugins": [{calico}, {{"type": "portmap"}}]}}'


@pytest.mark.parametrize(
    ("content", "field", "expected"),
    [
        (conflist('{"type": "calico-ipam", "assign_ipv6": "true"}'), "assign_ipv6", True),
        (conflist('{"type": "calico-ipam", "assign_ipv6": "True"}'), "assign_ipv6", False),  # exactly "true"
        (conflist('{"type": "calico-ipam", "assign_ipv6": true}'), "assign_ipv6", False),
        (
            conflist('{"type": "calico-ipam", "assign_ipv6": true}'),
            "error",
            "assign_ipv6 must be a string; Calico refuses the file",
        ),
        (conflist('{"type": "calico-ipam", "assign_ipv4": "no"}'), "assign_ipv4", True),  # exactly "false"
        (conflist('{"type": "calico-ipam", "assign_ipv4": "false"}'), "assign_ipv4", False),
        (conflist('{"type": "calico-ipam", "assign_ipv4": "true"}'), "assign_ipv4_text", "true"),
        (conflist('{"type": "calico-ipam"}'), "assign_ipv4_text", None),
        (conflist('{"assign_ipv4": "a\\nb"}'), "assign_ipv4_text", r"'a\nb'"),  # a digest holds printable texts alone
        (
            conflist('{"ipv4_pools": ["10.0.0.1/8", 7, "a\\nb"], "ipv6_pools": ["default-ipv6-ippool", "FD00::/48"]}'),
            "pools",
            ("10.0.0.0/8", "default-ipv6-ippool", "fd00::/48"),
        ),
        (conflist("{}"), "mtu", 1450),
        (conflist("{}", "0"), "mtu", None),
        (conflist('{"type": "__X__", "a": __CNI_MTU__}'), "ipam", "__X__"),
        (conflist("null"), "ipam", ""),
        ('{"type": "bridge"}', "main_plugin", "bridge"),  # a plain conf
        ("{}", "error", "it names no plugin"),
        ("[]", "error", "it names no plugin"),
        ('{"plugins": [7]}', "error", "it names no plugin"),
    ],
)
def test_node_files_of_every_shape(content: str, field: str, expected: Any) -> None:
    assert getattr(parse_cni_config(content, source="/etc/cni/net.d/10-calico.conflist"), field) == expected


@pytest.mark.parametrize("content", ["", "{", "not json", "[" * 100_000, " " * (2 << 20)])
def test_what_is_no_cni_configuration_says_so(content: str) -> None:
    config = parse_cni_config(content, source=InventoryOrigin.FILE)
    assert config.error
    assert "\n" not in config.error


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--cluster-cidr=10.1.0.0/16"], {"cluster-cidr": "10.1.0.0/16"}),
        (["--cluster-cidr", "10.1.0.0/16", "--v=2"], {"cluster-cidr": "10.1.0.0/16"}),
        (["-cluster-cidr=a", "--cluster-cidr=b"], {"cluster-cidr": "b"}),  # the last counts
        (["--allocate-node-cidrs", "--v=2"], {"allocate-node-cidrs": "true"}),
        (["--allocate-node-cidrs"], {"allocate-node-cidrs": "true"}),
        (["--secret=x", "word"], {}),
        (['--cluster-cidr="10.1.0.0/16"'], {"cluster-cidr": "10.1.0.0/16"}),
    ],
)
def test_arguments_as_go_reads_them(words: list[str], expected: dict[str, str]) -> None:
    assert arguments_of(words) == expected


def test_a_microk8s_file_is_read_line_by_line() -> None:
    content = (
        '# comment\n--cluster-cidr=10.1.0.0/16,fd01::/64\n--feature-gates="IPv6DualStack=true" # why\n'
        "--broken='x\n\n--allocate-node-cidrs=true"
    )
    flags = parse_arguments_file(
        content, component="kube-controller-manager", path="/args/kube-controller-manager", node="ra"
    )
    assert flags == ComponentFlags(
        component="kube-controller-manager",
        source="/args/kube-controller-manager",
        arguments={
            "cluster-cidr": "10.1.0.0/16,fd01::/64",
            "feature-gates": "IPv6DualStack=true",
            "allocate-node-cidrs": "true",
        },
        node="ra",
    )


def noted(*words: object, key: str = "k3s.io/node-args") -> dict[str, dict[str, str]]:
    found = parse_node_arguments({key: json.dumps(words)}, node="ra")
    assert {(each.source, each.node) for each in found} <= {(f"node/ra annotation {key}", "ra")}
    return {each.component: dict(each.arguments) for each in found}


@pytest.mark.parametrize("key", ["k3s.io/node-args", "rke2.io/node-args"])
def test_what_k3s_notes_on_a_server_are_flags_of_components(key: str) -> None:
    found = noted(
        "server", "--write-kubeconfig-mode", "0644", "--cluster-cidr", "10.42.0.0/16,fd42::/56",
        "--service-cidr=10.43.0.0/16",
        "--service-cidr", "fd43::/112", "--node-ip", "10.0.0.1,fd00::1", "--selinux", "--datastore-endpoint",
        "********",
        "--kube-controller-manager-arg", "node-cidr-mask-size-ipv6=72", "--kubelet-arg=--max-pods=50",
        "--kube-proxy-arg",
        "proxy-mode=ipvs", "--kube-apiserver-arg", "feature-gates=IPv6DualStack=true", key=key,
    )  # fmt: skip
    assert found == {
        "kube-apiserver": {
            "service-cluster-ip-range": "10.43.0.0/16,fd43::/112",
            "feature-gates": "IPv6DualStack=true",
        },
        "kube-controller-manager": {
            "cluster-cidr": "10.42.0.0/16,fd42::/56",
            "service-cluster-ip-range": "10.43.0.0/16,fd43::/112",
            "allocate-node-cidrs": "true",
            "node-cidr-mask-size-ipv6": "72",
        },
        "kube-proxy": {"cluster-cidr": "10.42.0.0/16,fd42::/56", "proxy-mode": "ipvs"},
        "kubelet": {"node-ip": "10.0.0.1,fd00::1"},
    }


def test_an_agent_says_nothing_of_the_control_plane() -> None:
    assert noted("agent", "--cluster-cidr", "10.42.0.0/16", "--node-ip=10.0.0.2") == {
        "kubelet": {"node-ip": "10.0.0.2"}
    }
    assert noted("server") == {}  # the defaults are not noted, and not guessed


@pytest.mark.parametrize(
    "note",
    [None, 7, "", "{", "null", "[]", "[1, null]", '["server", "--cluster-cidr"]', "[" * 50_000,
     '["server", "--kubelet-arg="]', "x" * 70_000],
)  # fmt: skip
def test_a_note_of_any_shape_is_survived(note: object) -> None:
    assert parse_node_arguments({"k3s.io/node-args": note}, node="ra") == ()


def test_notes_on_nodes_are_among_the_components() -> None:
    source = {
        "metadata": {"name": "ra", "annotations": {"k3s.io/node-args": '["server","--cluster-cidr","10.42.0.0/16"]'}},
        "status": {"nodeInfo": {"kubeletVersion": "v1.30.4+k3s1"}},
    }
    read = parse_object(ResourceKind.NODES, source)
    assert isinstance(read, Node)
    assert read.kubelet_version == "v1.30.4+k3s1"
    inventory = build_inventory({ResourceKind.NODES: [read]}, source=InventoryOrigin.FILE)
    assert [each.component for each in inventory.components or ()] == ["kube-controller-manager", "kube-proxy"]


def test_only_a_component_itself_shows_its_flags() -> None:
    pod = Subject("pod/x/y")
    direct = {"command": ["/usr/local/bin/kube-proxy", "--cluster-cidr=a"]}
    assert component_flags(direct, pod=pod) is not None
    assert component_flags({"command": ["/bin/sh", "-c", "kube-proxy --cluster-cidr=a"]}, pod=pod) is None
    assert component_flags({"command": None, "args": [None]}, pod=pod) is None


def test_kubeadm_says_ranges_and_the_flags_it_makes_of_them() -> None:
    inventory = from_maps(kubeadm_config=recorded.config_map("kubeadm-config-dual-stack"))
    assert inventory.cluster_pod_cidrs == (ip_network("10.1.0.0/16"), ip_network("fdf9:6e82:b78e::/48"))
    assert inventory.cluster_service_cidrs == (ip_network("10.152.183.0/24"), ip_network("fd98::/108"))
    assert [(each.component, dict(each.arguments)) for each in inventory.components or ()] == [
        ("kube-apiserver", {"service-cluster-ip-range": "10.152.183.0/24,fd98::/108"}),
        (
            "kube-controller-manager",
            {
                "service-cluster-ip-range": "10.152.183.0/24,fd98::/108",
                "cluster-cidr": "10.1.0.0/16,fdf9:6e82:b78e::/48",
                "allocate-node-cidrs": "true",
            },
        ),
    ]


@pytest.mark.parametrize(
    "extra", [{"allocate-node-cidrs": "false"}, [{"name": "allocate-node-cidrs", "value": "false"}]]
)
def test_extra_arguments_of_either_api_version_override(extra: Any) -> None:
    document = {"networking": {"podSubnet": "10.1.0.0/16"}, "controllerManager": {"extraArgs": extra}}
    flags, pods, services = parse_kubeadm(document, Subject("configmap/kube-system/kubeadm-config"))
    assert flags[0].arguments["allocate-node-cidrs"] == "false"
    assert (pods, services) == ((ip_network("10.1.0.0/16"),), ())


def test_kube_proxys_configuration_reads_as_flags() -> None:
    document = "kind: KubeProxyConfiguration\nclusterCIDR: 10.1.0.0/16\nmode: ''\nfeatureGates: {IPv6DualStack: true}\n"
    inventory = from_maps(kube_proxy={"config.conf": document})
    assert [dict(each.arguments) for each in inventory.components or ()] == [
        {"cluster-cidr": "10.1.0.0/16", "feature-gates": "IPv6DualStack=true"}
    ]


def test_a_configmap_whose_yaml_is_broken_is_noted() -> None:
    inventory = from_maps(kubeadm_config={"ClusterConfiguration": "a: &x 1\nb: *x"}, kube_proxy={"config.conf": "]"})
    assert [note.name for note in inventory.unreadable] == ["kube-system/kube-proxy", "kube-system/kubeadm-config"]
    assert inventory.components == ()


def test_the_clusters_corefile_is_found_among_several() -> None:
    def config_map(namespace: str, name: str, corefile: str) -> dict[str, Any]:
        return {"metadata": {"namespace": namespace, "name": name}, "data": {"Corefile": corefile}}

    def read(*sources: dict[str, Any]) -> Inventory:
        return build_inventory(
            {ResourceKind.CONFIG_MAPS: [parse_object(ResourceKind.CONFIG_MAPS, each) for each in sources]},
            source=InventoryOrigin.FILE,
        )

    test = config_map("default", "my-coredns", ". { }")
    ours = config_map("kube-system", "coredns", ".:53 {\n kubernetes cluster.local\n}")
    rke2 = config_map("kube-system", "rke2-coredns-rke2-coredns", ".:53 {\n}")
    cache = config_map("kube-system", "node-local-dns", ".:53 {\n bind 169.254.20.10\n template IN AAAA\n}")
    openshift = config_map("openshift-dns", "dns-default", ".:5353 {\n}")
    found = read(test, cache, ours)
    assert found.corefile is not None
    assert (found.corefile.namespace, found.corefile.name) == ("kube-system", "coredns")
    assert found.node_local is not None
    assert len(found.node_local.blocks) == 1
    for each in (rke2, openshift):
        alone = read(each).corefile
        assert alone is not None
        assert alone.name == each["metadata"]["name"]
    assert read(cache).corefile is None


def test_the_recorded_configmaps_of_a_namespace_are_read_together() -> None:
    values = [parse_object(ResourceKind.CONFIG_MAPS, item) for item in recorded.listed("configmaps-kube-system")]
    inventory = build_inventory({ResourceKind.CONFIG_MAPS: values}, source=InventoryOrigin.KUBERNETES)
    assert inventory.corefile is not None
    assert inventory.cni is not None
    assert inventory.unreadable_count == 0


def test_files_of_the_node_stand_before_the_configmap() -> None:
    mounted = CniConfig(source="/etc/cni/net.d/10-calico.conflist", main_plugin="calico")
    flags = ComponentFlags(component="kubelet", source="/args/kubelet", arguments={"node-ip": "10.0.0.1"}, node="ra")
    inventory = build_inventory({}, source=InventoryOrigin.KUBERNETES, cni=(mounted,), components=(flags,))
    assert (inventory.cni, inventory.components) == ((mounted,), (flags,))


def test_a_pool_selects_nodes_by_their_labels() -> None:
    nodes = (Node(name="anubis", labels={"rack": "a"}), Node(name="ra", labels={"rack": "b"}))
    pools = [
        pool("everywhere", "fd01::/48"),
        pool("rack", "fd02::/48", node_selector="rack == 'a'"),
        pool("nobody", "fd03::/48", node_selector="!all()"),
        pool("broken", "fd04::/48", node_selector="rack = a"),
    ]
    inventory = build_inventory({ResourceKind.NODES: nodes, ResourceKind.IP_POOLS: pools}, source=InventoryOrigin.FILE)
    assert {each.name: each.nodes for each in inventory.pools or ()} == {
        "broken": None,
        "everywhere": None,
        "nobody": frozenset(),
        "rack": frozenset({"anubis"}),
    }
    assert [note.name for note in inventory.unreadable] == ["broken"]


def test_of_two_objects_of_one_name_the_later_counts_and_order_is_by_name() -> None:
    pods = [
        Pod(namespace="b", name="x", uid="old"),
        Pod(namespace="a", name="y"),
        Pod(namespace="b", name="x", uid="new"),
    ]
    inventory = build_inventory({ResourceKind.PODS: pods}, source=InventoryOrigin.FILE)
    assert [(pod.key, pod.uid) for pod in inventory.pods or ()] == [("a/y", ""), ("b/x", "new")]


def test_the_reason_of_the_source_stands_before_the_general_one() -> None:
    inventory = build_inventory(
        {}, source=InventoryOrigin.KUBERNETES, unread={ResourceKind.IP_POOLS: Reason.NOT_APPLICABLE}
    )
    assert (inventory.unread[ResourceKind.IP_POOLS], inventory.unread[ResourceKind.NODES]) == (
        Reason.NOT_APPLICABLE,
        Reason.NO_INVENTORY,
    )


def test_the_clusters_uid_is_that_of_kube_system() -> None:
    values = [parse_object(ResourceKind.NAMESPACES, item) for item in recorded.listed("namespaces")]
    assert (
        build_inventory({ResourceKind.NAMESPACES: values}, source=InventoryOrigin.FILE).uid
        == "6f2d237f-f73c-41a4-a56a-67f8a5022fdf"
    )
