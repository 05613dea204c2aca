"""Recorded API objects, and their oddities, become the values the rest of the program reads."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_interface, ip_network
from typing import Any, TypeVar

import pytest

from exporter.inventory.parse.calico import DaemonSet
from exporter.inventory.parse.objects import identify, parse_object
from exporter.model.cluster.calico import (
    BlockAffinity,
    FelixConfiguration,
    Installation,
    IPAMBlock,
    IPPool,
    VxlanMode,
)
from exporter.model.cluster.inventory import ResourceKind, Unreadable
from exporter.model.cluster.node import FlannelNode, Node
from exporter.model.cluster.pod import Namespace, Pod
from exporter.model.cluster.service import EndpointSlice, Service, ServiceCIDR
from exporter.model.family import Family
from tests.unit import recorded

V4, V6 = Family.V4, Family.V6
T = TypeVar("T")


def parsed(kind: ResourceKind, wanted: type[T], name: str) -> dict[str, T]:
    """The values of a recorded list by name."""
    found = {}
    for item in recorded.listed(name):
        value = parse_object(kind, item)
        assert isinstance(value, wanted), value
        found[item["metadata"]["name"]] = value
    return found


def read(
    kind: ResourceKind,
    wanted: type[T],
    spec: Any = None,
    status: Any = None,
    namespace: str = "default",
    **metadata: Any,
) -> T:
    value = parse_object(
        kind, {"metadata": {"name": "x", "namespace": namespace, **metadata}, "spec": spec, "status": status}
    )
    assert isinstance(value, wanted), value
    return value


def test_a_node_comes_with_its_addresses_and_calicos_annotations() -> None:
    node = parsed(ResourceKind.NODES, Node, "nodes")["anubis"]
    assert node.internal_ips == (ip_address("10.0.10.11"), ip_address("2001:db8:10::11"))
    assert node.pod_cidrs == (ip_network("10.1.0.0/24"), ip_network("fdf9:6e82:b78e::/64"))
    assert node.calico_addresses == (ip_interface("10.0.10.11/24"), ip_interface("2001:db8:10::11/64"))
    assert node.tunnel_address(V6) == ip_address("fdf9:6e82:b78e:ad34:1c21:8b3c:f04e:3500")
    assert (node.ready, node.windows, node.virtual, node.wireguard) == (True, False, False, False)
    assert node.created is not None
    assert node.ready_since is not None


def test_a_single_stack_node_has_no_ipv6_anything() -> None:
    node = parsed(ResourceKind.NODES, Node, "nodes")["ra"]
    assert (node.internal_ip(V6), node.calico_address(V6), node.tunnel_address(V6)) == (None, None, None)


def test_a_metadata_only_node_keeps_its_annotations() -> None:
    item = recorded.listed("nodes-as-partialobjectmetadata")[0]
    node = parse_object(ResourceKind.NODES, item)
    assert isinstance(node, Node)
    assert node.calico_address(V4) is not None
    assert node.pod_cidrs == ()


@pytest.mark.parametrize(
    ("metadata", "status", "field", "expected"),
    [
        ({"annotations": {"projectcalico.org/WireguardPublicKeyV6": "key"}}, {}, "wireguard", True),
        ({"annotations": {"projectcalico.org/WireguardPublicKey": "key"}}, {}, "wireguard", False),
        ({"labels": {"type": "virtual-kubelet"}}, {}, "virtual", True),
        ({}, {"nodeInfo": {"operatingSystem": "windows"}}, "windows", True),
        ({"labels": {"kubernetes.io/os": "windows"}}, {}, "windows", True),
        ({"annotations": {"projectcalico.org/VXLANTunnelMACAddrV6": "66:AA:bb:cc:dd:ee"}}, {}, "tunnel_macs",
            {V6: "66:aa:bb:cc:dd:ee"}),
        ({"annotations": {"projectcalico.org/VXLANTunnelMACAddrV6": "not a mac"}}, {}, "tunnel_macs", {}),
        ({}, {"addresses": [{"type": "InternalIP", "address": "::ffff:10.0.0.1"}]}, "internal_ips",
            (ip_address("10.0.0.1"),)),
        ({"annotations": {"projectcalico.org/IPv6Address": "2001:db8::1"}}, {}, "calico_addresses",
            (ip_interface("2001:db8::1/128"),)),
        ({"annotations": {"alpha.kubernetes.io/provided-node-ip": "10.0.0.1,2001:db8::1"}}, {}, "provided_ips",
            (ip_address("10.0.0.1"), ip_address("2001:db8::1"))),
        ({"annotations": {"alpha.kubernetes.io/provided-node-ip": "x"}}, {}, "provided_ips", ()),
        ({"labels": None, "annotations": None}, {"addresses": None, "conditions": None}, "internal_ips", ()),
    ],
)  # fmt: skip
def test_node_details(metadata: dict[str, Any], status: Any, field: str, expected: Any) -> None:
    assert getattr(read(ResourceKind.NODES, Node, status=status, **metadata), field) == expected


OF_FLANNEL = {
    f"flannel.alpha.coreos.com/{key}": value
    for key, value in {
        "backend-type": "vxlan",
        "backend-data": '{"VNI":1,"VtepMAC":"0A:58:00:00:00:01"}',
        "backend-v6-data": '{"VNI":1,"VtepMAC":"0a:58:00:00:00:02"}',
        "public-ip": "192.0.2.1",
        "public-ipv6": "2001:db8::1",
        "kube-subnet-manager": "true",
    }.items()
}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, {}),
        ({"backend-v6-data": "null"}, {"vnis": {V4: 1}, "macs": {V4: "0a:58:00:00:00:01"}}),
        ({"backend-v6-data": '{"VNI": "one", "VtepMAC": 7}'}, {"vnis": {V4: 1}, "macs": {V4: "0a:58:00:00:00:01"}}),
        ({"backend-v6-data": "[" * 5000}, {"vnis": {V4: 1}, "macs": {V4: "0a:58:00:00:00:01"}}),
        ({"public-ipv6-overwrite": "2001:db8::1"}, {"overwritten": True}),
        ({"public-ipv6": "<nil>"}, {"addresses": (ip_address("192.0.2.1"),)}),
    ],
)
def test_flannels_annotations(changes: dict[str, str], expected: dict[str, Any]) -> None:
    whole = FlannelNode(
        backend="vxlan",
        addresses=(ip_address("192.0.2.1"), ip_address("2001:db8::1")),
        vnis={V4: 1, V6: 1},
        macs={V4: "0a:58:00:00:00:01", V6: "0a:58:00:00:00:02"},
    )
    notes = OF_FLANNEL | {f"flannel.alpha.coreos.com/{key}": value for key, value in changes.items()}
    assert read(ResourceKind.NODES, Node, annotations=notes).flannel == replace(whole, **expected)
    assert read(ResourceKind.NODES, Node, annotations={"other.example.org/backend-type": "vxlan"}).flannel is None


def test_pods_of_every_state_are_read() -> None:
    pods = {
        pod.labels.get("app") or pod.labels.get("k8s-app") or key: pod
        for key, pod in parsed(ResourceKind.PODS, Pod, "pods").items()
    }
    assert {str(ip) for ip in pods["db"].ips} == {"10.1.203.130"}  # the later of the two, on the single-stack node
    assert pods["calico-node"].host_network
    assert (pods["nowhere"].node, pods["nowhere"].ips, pods["nowhere"].phase) == ("", (), "Pending")
    assert (pods["migrate"].phase, pods["migrate"].ready) == ("Succeeded", False)
    assert (pods["crasher"].phase, pods["crasher"].ready) == ("Running", False)
    assert pods["kube-dns"].ports
    assert all(pod.component is None for pod in pods.values())


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ({"podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}]}, ["10.0.0.1", "fd00::1"]),
        ({"podIP": "fd00::1", "podIPs": [{"ip": "fd00::1"}, {"ip": "10.0.0.1"}]}, ["fd00::1", "10.0.0.1"]),
        ({"podIP": "10.0.0.1"}, ["10.0.0.1"]),
        ({"podIP": "10.0.0.1", "podIPs": None}, ["10.0.0.1"]),
        ({"podIPs": [{"ip": "::ffff:10.0.0.1"}, {"ip": "10.0.0.1"}]}, ["10.0.0.1"]),
        ({"podIPs": [{"ip": ""}, None, {"ip": 7}, {"ip": "fd00::1"}]}, ["fd00::1"]),
        ({"podIP": "", "podIPs": []}, []),
    ],
)
def test_pod_addresses_in_any_order_and_shape(status: Any, expected: list[str]) -> None:
    assert [str(ip) for ip in read(ResourceKind.PODS, Pod, status=status).ips] == expected


@pytest.mark.parametrize(
    ("annotations", "field", "expected"),
    [
        ({"cni.projectcalico.org/podIPs": "10.1.0.2/32,fd00::2/128"}, "annotated_ips",
            (ip_address("10.1.0.2"), ip_address("fd00::2"))),
        # emptied at the end
        ({"cni.projectcalico.org/podIPs": "", "cni.projectcalico.org/podIP": ""}, "annotated_ips", ()),
        ({"ovn.kubernetes.io/ip_address": "10.1.0.2,fd00::2"}, "annotated_ips",
            (ip_address("10.1.0.2"), ip_address("fd00::2"))),
        ({"k8s.ovn.org/pod-networks": '{"default": {"ip_addresses": ["10.1.0.2/24", "fd00::2/64"], "gateway_ips": '
            '["10.1.0.1"]}, "default/lan": {"ip_addresses": ["fd77::2/64"]}}'}, "annotated_ips",
            (ip_address("10.1.0.2"), ip_address("fd00::2"))),
        ({"k8s.v1.cni.cncf.io/network-status": '[{"name": "lan", "ips": ["fd77::2"]}, {"default": true, "ips": '
            '["10.1.0.2", "fd00::2"]}]'}, "annotated_ips", (ip_address("10.1.0.2"), ip_address("fd00::2"))),
        ({"k8s.v1.cni.cncf.io/network-status": '[{"name": "lan", "ips": ["fd77::2"]}, 7]'}, "annotated_ips", ()),
        ({"k8s.v1.cni.cncf.io/network-status": "[{"}, "annotated_ips", ()),
        ({"k8s.ovn.org/pod-networks": '{"default": {"ip_addresses": "fd00::2"}}'}, "annotated_ips", ()),
        ({"k8s.ovn.org/pod-networks": '{"default": 7}'}, "annotated_ips", ()),
        ({"dualstack-exporter/families": "IPv4"}, "families", (V4,)),
        ({"dualstack-exporter/families": " IPv6 , IPv4"}, "families", (V6, V4)),
        ({"dualstack-exporter/families": '["IPv4"]'}, "families", (V4,)),
        ({"dualstack-exporter/families": "four"}, "families", None),
        ({"cni.projectcalico.org/ipFamilies": '["IPv4"]'}, "address_choice", True),
        ({"cni.projectcalico.org/ipv6pools": '["lan"]'}, "address_choice", True),
        ({"kubernetes.io/config.hash": "abc"}, "static_uid", "abc"),
    ],
)  # fmt: skip
def test_pod_annotations(annotations: dict[str, str], field: str, expected: Any) -> None:
    assert getattr(read(ResourceKind.PODS, Pod, annotations=annotations), field) == expected


def test_an_annotation_that_shares_no_address_with_the_status_is_of_another_sandbox() -> None:
    notes = {
        "cni.projectcalico.org/podIPs": "10.9.0.2/32,fd99::2/128",
        "ovn.kubernetes.io/ip_address": "10.1.0.2,fd00::2",
    }
    pod = read(ResourceKind.PODS, Pod, annotations=notes, status={"podIP": "10.1.0.2"})
    assert pod.annotated_ips == (ip_address("10.1.0.2"), ip_address("fd00::2"))
    same = read(ResourceKind.PODS, Pod, annotations=notes, status={"podIPs": [{"ip": "10.1.0.2"}, {"ip": "fd00::2"}]})
    assert same.annotated_ips is same.ips


SWITCH = "net.ipv6.conf.eth0.disable_ipv6"


def with_sysctls(*pairs: tuple[str, str]) -> dict[str, Any]:
    return {"securityContext": {"sysctls": [{"name": name, "value": value} for name, value in pairs]}}


def tuned(key: str, value: str) -> dict[str, str]:
    """A pod that has Multus pass a sysctl to the CNI's tuning plugin."""
    return {key: f'[{{"name": "v4only", "cni-args": {{"sysctl": {{"{SWITCH}": "{value}"}}}}}}]'}


NETWORKS = "k8s.v1.cni.cncf.io/networks"


@pytest.mark.parametrize(
    ("spec", "annotations", "disables"),
    [
        ({}, {}, False),
        (with_sysctls(("net.ipv6.conf.all.disable_ipv6", "1")), {}, True),
        (with_sysctls(("net/ipv6/conf/eth0/disable_ipv6", " 1")), {}, True),  # Kubernetes takes slashes as well
        (with_sysctls(("net.ipv6.conf.all.disable_ipv6", "0")), {}, False),
        (with_sysctls(("net.ipv6.conf.all.forwarding", "1")), {}, False),
        (with_sysctls(("net.ipv6.conf.lo.disable_ipv6", "1")), {}, False),  # no link of the pod network
        ({}, {k: v.replace("eth0", "net1") for k, v in tuned(NETWORKS, "1").items()}, False),
        ({"securityContext": {"sysctls": [None, {"name": 7}]}}, {}, False),
        ({}, tuned(NETWORKS, "1"), True),
        ({}, tuned("v1.multus-cni.io/default-network", "1"), True),
        ({}, tuned(NETWORKS, "0"), False),
        ({}, tuned("example.org/notes", "1"), False),
        ({}, {NETWORKS: f"{SWITCH} is what we want"}, False),
    ],
)
def test_a_pod_may_switch_ipv6_off_itself(spec: Any, annotations: dict[str, str], disables: bool) -> None:
    assert read(ResourceKind.PODS, Pod, spec, annotations=annotations).disables_ipv6 is disables


def test_a_mirror_pod_shows_its_components_flags() -> None:
    command = [
        "kube-controller-manager",
        "--cluster-cidr=10.1.0.0/16,fd01::/48",
        "--allocate-node-cidrs",
        "--leader-elect=true",
    ]
    spec = {"containers": [{"command": command}], "nodeName": "cp"}
    pod = parse_object(ResourceKind.PODS, {"metadata": {"name": "kcm-cp", "namespace": "kube-system"}, "spec": spec})
    assert isinstance(pod, Pod)
    assert pod.component is not None
    assert pod.component.component == "kube-controller-manager"
    assert dict(pod.component.arguments) == {"cluster-cidr": "10.1.0.0/16,fd01::/48", "allocate-node-cidrs": "true"}
    assert (pod.component.source, pod.component.node) == ("pod/kube-system/kcm-cp", "cp")


def test_a_program_of_that_name_elsewhere_is_no_component() -> None:
    assert (
        read(
            ResourceKind.PODS, Pod, {"containers": [{"command": ["kube-proxy", "--cluster-cidr=10.0.0.0/8"]}]}
        ).component
        is None
    )


def test_services_of_every_kind_are_read() -> None:
    services = parsed(ResourceKind.SERVICES, Service, "services")
    assert services["db"].cluster_ips == ()
    assert (services["pypi"].type, services["pypi"].families) == ("ExternalName", ())
    assert services["web-v6first"].families == (V6, V4)
    assert services["web-v6only"].family_policy == "SingleStack"
    assert services["web-lb"].ingress_ips == (ip_address("198.51.100.200"), ip_address("2001:db8:200::c8"))
    assert services["web-lb-hostname"].ingress_hostnames == ("lb.example.test",)
    assert services["web-lb-pending"].ingress_ips == ()
    assert services["kubernetes"].cluster_ips == (ip_address("10.152.183.1"),)


def test_endpoint_slices_of_every_kind_are_read() -> None:
    slices = parsed(ResourceKind.ENDPOINT_SLICES, EndpointSlice, "endpointslices")
    by_hand = slices["no-selector-1"]
    assert (by_hand.service, by_hand.family) == ("no-selector", V4)
    assert [e.pod for e in by_hand.endpoints] == ["", ""]
    empty = slices["legacy-api-dual-b5grr"]
    assert (empty.family, empty.endpoints) == (V6, ())
    assert slices["db-5smqm"].endpoints[0].pod.startswith("default/db-")


@pytest.mark.parametrize(
    ("conditions", "ready"), [({"ready": False}, False), ({"ready": None}, True), (None, True), ({}, True)]
)
def test_an_endpoint_without_a_word_counts_as_ready(conditions: Any, ready: bool) -> None:
    source = {
        "metadata": {"name": "x", "namespace": "n"},
        "addressType": "IPv6",
        "endpoints": [{"addresses": ["fd00::1"], "conditions": conditions}],
    }
    value = parse_object(ResourceKind.ENDPOINT_SLICES, source)
    assert isinstance(value, EndpointSlice)
    assert value.endpoints[0].ready is ready


def test_service_ranges_and_namespaces_are_read() -> None:
    assert parsed(ResourceKind.SERVICE_CIDRS, ServiceCIDR, "servicecidrs")["kubernetes"].cidrs == (
        ip_network("10.152.183.0/24"),
        ip_network("fd98::/108"),
    )
    assert (
        parsed(ResourceKind.NAMESPACES, Namespace, "namespaces")["kube-system"].labels["kubernetes.io/metadata.name"]
        == "kube-system"
    )


def test_pools_have_calicos_defaults() -> None:
    pools = parsed(ResourceKind.IP_POOLS, IPPool, "ippools")
    lan = pools["lan-v6"]
    assert (lan.vxlan_mode, lan.nat_outgoing, lan.disabled, lan.allowed_uses) == (
        VxlanMode.NEVER,
        False,
        False,
        frozenset({"Workload"}),
    )
    assert pools["crosssubnet-v4"].disabled
    bare = read(ResourceKind.IP_POOLS, IPPool, {"cidr": "fd00::/48"})
    assert (bare.block_size, bare.node_selector, bare.nat_outgoing, bare.allowed_uses) == (
        122,
        "all()",
        False,
        frozenset({"Workload", "Tunnel"}),
    )
    assert read(ResourceKind.IP_POOLS, IPPool, {"cidr": "10.0.0.0/8", "vxlanMode": ""}).vxlan_mode is VxlanMode.NEVER


@pytest.mark.parametrize(
    ("spec", "field", "expected"),
    [
        ({"natOutgoing": "true"}, "nat_outgoing", True),
        ({"natOutgoing": None, "nat-outgoing": True}, "nat_outgoing", True),
        ({"natOutgoing": [1]}, "nat_outgoing", False),
        ({"disabled": "false"}, "disabled", False),
        ({"blockSize": "64"}, "block_size", 64),
        ({"blockSize": True}, "block_size", 122),
        ({"vxlanMode": "crosssubnet"}, "vxlan_mode", VxlanMode.CROSS_SUBNET),
        ({"ipip": {"enabled": True}}, "ipip_mode", "Always"),
        ({"allowedUses": None}, "allowed_uses", {"Workload", "Tunnel"}),
        ({}, "automatic", True),
        ({"assignmentMode": "Automatic"}, "automatic", True),
        ({"assignmentMode": "Manual"}, "automatic", False),
    ],
)
def test_pool_fields_of_other_types_and_times(spec: dict[str, Any], field: str, expected: Any) -> None:
    assert getattr(read(ResourceKind.IP_POOLS, IPPool, {"cidr": "fd00::/48", **spec}), field) == expected


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({"deleted": "false", "state": "confirmed"}, (True, False)),
        ({"deleted": "true", "state": "confirmed"}, (True, True)),
        ({"deleted": True, "state": "pending"}, (False, True)),
        ({"deleted": False, "state": ""}, (True, False)),
    ],
)
def test_affinities_of_both_api_groups(spec: dict[str, Any], expected: tuple[bool, bool]) -> None:
    affinity = read(ResourceKind.BLOCK_AFFINITIES, BlockAffinity, {"cidr": "fd00::/122", "node": "ra", **spec})
    assert (affinity.confirmed, affinity.deleted) == expected


def test_affinities_of_other_things_than_hosts_are_of_no_interest() -> None:
    spec = {"cidr": "fd00::/122", "node": "load-balancer", "type": "virtual"}
    assert parse_object(ResourceKind.BLOCK_AFFINITIES, {"metadata": {"name": "x"}, "spec": spec}) is None


def test_a_block_counts_its_allocations() -> None:
    block = read(
        ResourceKind.IPAM_BLOCKS,
        IPAMBlock,
        {"cidr": "fd00::/122", "affinity": "host:ra", "allocations": [0, None, 0, 1]},
    )
    assert (block.node, block.used, block.capacity, block.pods) == ("ra", 3, 4, 3)


def test_addresses_of_tunnels_are_no_pods() -> None:
    """As calico-node and the CNI plugin write them (libcalico-go/lib/ipam)."""
    pod = {"handle_id": "k8s-pod-network.4f", "secondary": {"namespace": "a", "node": "ra", "pod": "b"}}
    tunnels = [
        {"handle_id": f"{kind}-ra", "secondary": {"node": "ra", "type": kind}}
        for kind in (
            "ipipTunnelAddress",
            "vxlanTunnelAddress",
            "vxlanV6TunnelAddress",
            "wireguardTunnelAddress",
            "wireguardV6TunnelAddress",
        )
    ]
    reserved = {"handle_id": "windows-reserved-ipam-handle", "secondary": {"note": "windows host rsvd"}}
    spec = {
        "cidr": "fd00::/122",
        "affinity": "host:ra",
        "attributes": [pod, *tunnels, reserved],
        "allocations": [0, 1, 2, 3, 4, 5, 6, None, 0, 99, "x"],
    }
    block = read(ResourceKind.IPAM_BLOCKS, IPAMBlock, spec)
    assert (block.used, block.capacity, block.pods) == (10, 11, 4), "what nobody explains counts as a pod's"
    assert read(ResourceKind.IPAM_BLOCKS, IPAMBlock, {**spec, "attributes": [None, 7, {"secondary": 7}]}).pods == 10


def test_felix_objects_keep_what_they_set() -> None:
    felix = parsed(ResourceKind.FELIX, FelixConfiguration, "felixconfigurations")
    assert (felix["default"].felix.ipv6_support, felix["node.babel"].felix.ipv6_support) == (True, False)
    assert felix["default"].felix.vxlan_vni is None


def test_the_environment_of_calico_node_is_read_and_what_comes_from_elsewhere_is_named() -> None:
    env = [
        {"name": "FELIX_IPV6SUPPORT", "value": "false"},
        {"name": "IP6", "valueFrom": {"configMapKeyRef": {"name": "x"}}},
        {"name": "EMPTY"},
    ]
    containers = [
        {"name": "calico-node", "env": env, "envFrom": [{"configMapRef": {"name": "kubernetes-services-endpoint"}}]}
    ]
    spec = {"template": {"spec": {"containers": containers}}}
    value = parse_object(
        ResourceKind.CALICO_DAEMONSET, {"metadata": {"name": "calico-node", "namespace": "calico-system"}, "spec": spec}
    )
    assert isinstance(value, DaemonSet)
    assert value.calico is not None
    assert (value.namespace, value.calico.env["FELIX_IPV6SUPPORT"], value.calico.env_unseen) == (
        "calico-system",
        "false",
        frozenset({"IP6", "*"}),
    )


def test_objects_of_no_interest_are_none() -> None:
    assert (
        parse_object(ResourceKind.CALICO_DAEMONSET, {"metadata": {"name": "kube-proxy", "namespace": "kube-system"}})
        is None
    )
    assert (
        parse_object(
            ResourceKind.CONFIG_MAPS, {"metadata": {"name": "kube-root-ca.crt", "namespace": "default"}, "data": {}}
        )
        is None
    )
    assert parse_object(ResourceKind.INSTALLATION, {"metadata": {"name": "overlay"}}) is None
    value = parse_object(
        ResourceKind.INSTALLATION,
        {
            "metadata": {"name": "default"},
            "spec": {"calicoNetwork": {"linuxDataplane": "BPF", "ipPools": [{"cidr": "fd00::/48"}]}},
        },
    )
    assert value == Installation(pools=(ip_network("fd00::/48"),), ebpf=True)


@pytest.mark.parametrize(
    ("kind", "source"),
    [
        (ResourceKind.NODES, None),
        (ResourceKind.NODES, {}),
        (ResourceKind.NODES, {"metadata": {"name": ""}}),
        (ResourceKind.NODES, {"metadata": {"name": "a\nb"}}),
        (ResourceKind.NODES, {"metadata": {"name": "a" * 300}}),
        (ResourceKind.PODS, {"metadata": {"name": "no-namespace"}}),
        # a bookmark
        (
            ResourceKind.PODS,
            {"apiVersion": "v1", "kind": "Pod", "metadata": {"resourceVersion": "7"}, "spec": {"containers": None}},
        ),
        (ResourceKind.IP_POOLS, {"metadata": {"name": "x"}, "spec": {"cidr": "300.0.0.0/8"}}),
        (ResourceKind.BLOCK_AFFINITIES, {"metadata": {"name": "x"}, "spec": {"cidr": "fd00::/122"}}),
        (ResourceKind.IPAM_BLOCKS, {"metadata": {"name": "x"}, "spec": {"cidr": "fd00::/122", "allocations": None}}),
        (ResourceKind.POLICIES,
            {"metadata": {"name": "x"},
                "spec": {"podSelector": {"matchExpressions": [{"key": "a", "operator": "Near"}]}}}),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_a_note(kind: ResourceKind, source: Any) -> None:
    value = parse_object(kind, source)
    assert isinstance(value, Unreadable)
    assert value.kind is kind


@pytest.mark.parametrize(
    ("version", "kind", "expected"),
    [
        ("v1", "Pod", ResourceKind.PODS),
        ("serving.knative.dev/v1", "Service", None),
        ("discovery.k8s.io/v1", "EndpointSlice", ResourceKind.ENDPOINT_SLICES),
        ("projectcalico.org/v3", "IPPool", ResourceKind.IP_POOLS),
        ("crd.projectcalico.org/v1", "IPPool", ResourceKind.IP_POOLS),
        ("crd.projectcalico.org/v1", "NetworkPolicy", ResourceKind.POLICIES),
        ("v1", "Secret", None),
        ("v2", "Pod", None),
    ],
)
def test_kinds_are_told_apart_by_group(version: str, kind: str, expected: ResourceKind | None) -> None:
    assert identify({"apiVersion": version, "kind": kind}) is expected
