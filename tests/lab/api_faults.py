"""Rows of the matrix: what the cluster's objects say, with what follows in the kernel where something does."""

from __future__ import annotations

from tests.kernel import namespaces
from tests.kernel.calico_nodes import POD_GATEWAY6, POOL6
from tests.lab import edits
from tests.lab.cluster import Cluster
from tests.lab.dataplanes import SERVICE_RANGE4, SERVICE_RANGE6
from tests.lab.dns_faults import TEMPLATE, template
from tests.lab.fault import (
    DNS_SILENT,
    FLANNEL,
    LEGACY,
    NFT,
    UNREACHABLE,
    Act,
    Fault,
    Scope,
    all_of,
    by,
    critical,
    of_lab,
    warning,
)  # fmt: skip
from tests.lab.objects import Object, block, ipam_block, meta, network_policy, service_object
from tests.lab.path_faults import SERVICE_REJECTED
from tests.lab.settings import Settings

POOL, MASQUERADE = "default-ipv6-ippool", "cni_ipv6_masquerade_off"
LONE = service_object("default", "lone", ["10.96.0.70"], 80, "8080", {})


def objects(*made: edits.Edit) -> Act:
    return lambda cluster: cluster.change(*made)


def pod_without_ipv6(cluster: Cluster) -> None:
    """The second pod was never given IPv6, in the API and in its namespace."""
    pod = cluster.node.pods[1]
    own = f"{pod.address6}/128 dev eth0"
    again = [f"address replace {own} nodad", f"route replace default via {POD_GATEWAY6} dev eth0 metric 1024"]
    noted = edits.annotation("Pod", pod.name, "cni.projectcalico.org/podIPs", f"{pod.address4}/32")
    cluster.change(edits.pod_ips(pod.name, pod.address4), noted)
    cluster.apply(
        lambda: namespaces.batch({pod.netns: [f"address delete {own}"]}),
        lambda: namespaces.batch({pod.netns: again}),
    )


def _no_nat(cluster: Cluster, cni: str | None = None) -> None:
    """What Felix, or the CNI in its place, writes when no IPv6 pool asks for NAT: as Felix an empty chain and set."""
    before, of = cluster.lab.nat_pools6, cluster.lab.cni

    def write(pools: tuple[str, ...], cni: str) -> None:
        cluster.lab.nat_pools6, cluster.lab.cni = pools, cni
        cluster.lab.write_rules(cluster.node)

    cluster.apply(lambda: write((), of if cni is None else cni), lambda: write(before, of))


def _prefer_dual_stack(cluster: Cluster) -> None:
    def edit(settings: Settings) -> None:
        settings["expect"] = {"services": [{"namespaces": ["*"], "policy": "prefer_dual_stack"}]}

    cluster.configure(edit)


def _balancer() -> dict[str, object]:
    made = service_object("default", "shop", ["10.96.0.80", "fd00:10:96::80"], 80, "8080", {})
    made["spec"]["type"] = "LoadBalancer"
    made["status"] = {"loadBalancer": {"ingress": [{"ip": "198.51.100.10"}]}}
    return made


def _full_pool() -> tuple[edits.Edit, ...]:
    """The pool is one block, and every address of it is taken."""
    cidr = "fd00:10:244:1::40/122"
    full = ipam_block(cidr, "node-a", used=64)
    return (
        edits.spec("IPPool", POOL, cidr=cidr),
        edits.without("IPAMBlock", full["metadata"]["name"]),
        edits.added(full),
    )


def _no_kernel_of_peer(cluster: Cluster) -> None:
    """Felix of both sides as if node-b had no tunnel address."""
    cluster.lab.fault("vxlan_deleted", cluster.lab.nodes[1])
    for name in ("route_to_peer_removed", "neighbour_of_peer_removed", "fdb_of_peer_removed"):
        cluster.lab.fault(name)


def _without_tunnel(cluster: Cluster) -> None:
    """Felix deletes the device of a family whose pools want no VXLAN; calico-node takes the nodes' tunnel addresses
    back.
    """
    cluster.change(
        edits.spec("IPPool", POOL, vxlanMode="Never"),
        *(edits.annotation("Node", node.name, edits.TUNNEL_ANNOTATION, None) for node in cluster.lab.nodes),
    )
    for node in cluster.lab.nodes:
        cluster.lab.fault("vxlan_deleted", node)


def _instead_of_calico(cluster: Cluster, config: Object) -> None:
    """The CNI with this ConfigMap in Calico's place, with addresses of the same ranges."""

    def replaced(found: list[Object]) -> None:
        gone = {"IPPool", "BlockAffinity", "IPAMBlock", "FelixConfiguration", "DaemonSet", "Installation"}
        found[:] = [o for o in found if o["kind"] not in gone and o["metadata"]["name"] != "calico-config"]
        for each in found:
            notes = each["metadata"].get("annotations", {})
            for key in [key for key in notes if key.startswith("projectcalico.org/")]:
                del notes[key]
        found.append(config)

    cluster.change(replaced)


def _antrea_without_snat(cluster: Cluster) -> None:
    data = {"antrea-agent.conf": "noSNAT: true"}
    _instead_of_calico(cluster, meta("ConfigMap", "v1", "antrea-config", "kube-system", data=data))


def _cilium_without_rule(cluster: Cluster) -> None:
    data = {"enable-ipv6": "true", "enable-ipv6-masquerade": "true", "enable-bpf-masquerade": "false"}
    _instead_of_calico(cluster, meta("ConfigMap", "v1", "cilium-config", "kube-system", data=data))
    _no_nat(cluster, "cilium")


CLUSTER_FAULTS: tuple[Fault, ...] = (
    Fault(
        "template_of_corefile", Scope.CLUSTER, "the Corefile withholds AAAA, and CoreDNS has not loaded it yet",
        template("nxdomain"), critical(TEMPLATE), apart=True,
    ),
    Fault(
        "template_of_one_zone", Scope.CLUSTER, "the Corefile withholds AAAA below one zone",
        objects(edits.corefile("template IN AAAA example.com {\n        rcode NOERROR\n    }")), warning(TEMPLATE),
    ),
    Fault(
        "dns_service_without_endpoints", Scope.CLUSTER, "no endpoint of the DNS Service is ready; its address answers",
        objects(edits.endpoints("kube-dns-ipv4"), edits.endpoints("kube-dns-ipv6")),
        critical("dns_service_no_endpoints"),
    ),
    Fault(
        "pod_cidr_missing", Scope.CLUSTER, "one node has no IPv6 podCIDR, under Calico's own IPAM",
        objects(edits.spec("Node", "node-b", podCIDRs=["10.244.2.64/26"])), {}, infos=("node_pod_cidr_missing",),
    ),
    Fault(
        "internal_ip_missing", Scope.CLUSTER, "one node has no IPv6 InternalIP",
        objects(edits.addresses("node-b", "10.99.0.12")), warning("node_internal_ip_missing"),
    ),
    Fault(
        "internal_ip_missing_everywhere", Scope.CLUSTER, "no node has an IPv6 InternalIP",
        objects(*(edits.addresses(f"node-{letter}", f"10.99.0.1{number}") for number, letter in enumerate("abc", 1))),
        warning("node_internal_ip_missing"), evidence={"node_internal_ip_missing": "0 nodes of 3"},
    ),
    Fault(
        "internal_ip_link_local", Scope.CLUSTER, "one node has a link-local IPv6 InternalIP",
        objects(edits.addresses("node-b", "10.99.0.12", "fe80::12")), warning("node_internal_ip_missing"),
        evidence={"node_internal_ip_missing": "link-local"},
    ),
    Fault(
        "own_tunnel_address_missing", Scope.CLUSTER, "this node has no tunnel address, so Felix makes no tunnel",
        all_of(objects(edits.annotation("Node", "node-a", edits.TUNNEL_ANNOTATION, None)), of_lab("vxlan_deleted")),
        warning("calico_node_address_missing"),
        by("calico_node_address_missing", "vxlan_device_missing", UNREACHABLE, DNS_SILENT), ipv6=False, apart=True,
    ),
    Fault(
        "peers_tunnel_address_missing", Scope.CLUSTER,
        "another node has no tunnel address, so Felix makes no tunnel to it",
        all_of(objects(edits.annotation("Node", "node-b", edits.TUNNEL_ANNOTATION, None)), _no_kernel_of_peer),
        warning("calico_node_address_missing"), by("calico_node_address_missing", UNREACHABLE, DNS_SILENT), ipv6=False,
        apart=True,
    ),
    Fault(
        "tunnel_address_shared", Scope.CLUSTER,
        "Calico detected the same IPv6 address on two other nodes, one of which is not Ready",
        objects(
            edits.annotation("Node", "node-c", "projectcalico.org/IPv6Address", "2001:db8:1::12/128"),
            edits.status("Node", "node-c", conditions=[{"type": "Ready", "status": "False"}]),
        ),
        warning("calico_node_address_wrong"),
    ),
    Fault(
        "services_single_stack", Scope.CLUSTER, "a Service of IPv4 alone, where nobody asks for more",
        objects(edits.added(LONE)), {}, infos=("service_ipv6_missing",),
    ),
    Fault(
        "services_single_stack_against_policy", Scope.CLUSTER,
        "a Service of IPv4 alone, where the policy is dual-stack",
        all_of(objects(edits.added(LONE)), _prefer_dual_stack), warning("service_ipv6_missing"),
    ),
    Fault(
        "endpointslice_of_ipv6_missing", Scope.CLUSTER,
        "a Service has no IPv6 endpoints, so kube-proxy rejects its IPv6",
        all_of(
            objects(edits.endpoints("web-ipv6")),
            SERVICE_REJECTED,
        ),
        warning("endpointslice_ipv6_missing"), by("endpointslice_ipv6_missing", "target_refuses_ipv6"),
        ipv6=False, apart=True,
    ),
    Fault(
        "loadbalancer_of_ipv4", Scope.CLUSTER, "a dual-stack LoadBalancer got an IPv4 address alone",
        objects(edits.added(_balancer())), warning("loadbalancer_ipv6_missing"),
    ),
    Fault(
        "pool_disabled", Scope.CLUSTER, "the IPv6 pool is disabled", objects(edits.spec("IPPool", POOL, disabled=True)),
        warning("ippool_ipv6_missing"),
    ),
    Fault(
        "pool_deleted", Scope.CLUSTER, "there is no IPv6 pool", objects(edits.without("IPPool", POOL)),
        warning("ippool_ipv6_missing"),
    ),
    Fault(
        "pool_deselects_node", Scope.CLUSTER, "the IPv6 pool's nodeSelector leaves one node out",
        objects(edits.spec("IPPool", POOL, nodeSelector="kubernetes.io/hostname != 'node-c'")),
        warning("ippool_ipv6_missing"), evidence={"ippool_ipv6_missing": "node-c"},
    ),
    Fault(
        "pool_disabled_before_pod", Scope.CLUSTER, "the IPv6 pool is disabled and a new pod got no IPv6 address",
        all_of(objects(edits.spec("IPPool", POOL, disabled=True)), pod_without_ipv6),
        warning("ippool_ipv6_missing"), by("ippool_ipv6_missing", "pod_ipv6_missing", UNREACHABLE), ipv6=False,
        apart=True,
    ),
    Fault(
        "pool_exhausted", Scope.CLUSTER, "every address of the IPv6 pool is taken", objects(*_full_pool()),
        warning("ippool_exhausted"),
    ),
    Fault(
        "pool_exhausted_before_pod", Scope.CLUSTER, "every address of the IPv6 pool is taken and a new pod got none",
        all_of(objects(*_full_pool()), pod_without_ipv6),
        warning("ippool_exhausted"), by("ippool_exhausted", "pod_ipv6_missing", UNREACHABLE), ipv6=False,
        apart=True,
    ),
    Fault(
        "nat_outgoing_off", Scope.CLUSTER, "the unique local IPv6 pool has no natOutgoing: pods do not get outside",
        all_of(objects(edits.spec("IPPool", POOL, natOutgoing=False)), _no_nat),
        warning("ippool_nat_outgoing_off"), by("ippool_nat_outgoing_off", UNREACHABLE), ipv6=False, detect=2,
        apart=True,
    ),
    Fault(
        "nat_outgoing_off_unseen", Scope.CLUSTER,
        "the unique local IPv6 pool has no natOutgoing, and packets still get outside",
        objects(edits.spec("IPPool", POOL, natOutgoing=False)), {}, infos=("ippool_nat_outgoing_off",),
    ),
    Fault(
        "masquerade_off", Scope.CLUSTER, "Antrea with noSNAT: unique local addresses do not get outside",
        all_of(_antrea_without_snat, _no_nat), warning(MASQUERADE),
        by(MASQUERADE, UNREACHABLE), ipv6=False, detect=2, apart=True,
    ),
    Fault(
        "masquerade_off_unseen", Scope.CLUSTER, "Antrea with noSNAT, and packets still get outside",
        _antrea_without_snat, {}, infos=(MASQUERADE,),
    ),
    Fault(
        "cilium_masquerade_removed", Scope.NODE, "Cilium has lost the rule that masquerades pods' IPv6",
        _cilium_without_rule, warning(MASQUERADE), by(MASQUERADE, UNREACHABLE), ipv6=False, detect=2,
        backends=(NFT, LEGACY), evidence={MASQUERADE: "CILIUM_POST_nat"}, apart=True,
    ),
    Fault(
        "flannel_masquerade_removed", Scope.NODE, "flannel has lost the rule that masquerades pods' IPv6",
        _no_nat, warning(MASQUERADE), by(MASQUERADE, UNREACHABLE), ipv6=False, detect=2,
        backends=(FLANNEL,), evidence={MASQUERADE: "FLANNEL-POSTRTG"},
    ),
    Fault(
        "vxlan_mode_differs", Scope.CLUSTER, "the IPv6 pool wants no VXLAN, and nothing else carries its packets",
        _without_tunnel, warning("ippool_vxlan_mode_mismatch"),
        by("ippool_vxlan_mode_mismatch", UNREACHABLE, DNS_SILENT), ipv6=False, detect=2, apart=True,
    ),
    Fault(
        "vxlan_mode_differs_unseen", Scope.CLUSTER, "the IPv6 pool is CrossSubnet, the IPv4 pool Always",
        objects(edits.spec("IPPool", "default-ipv4-ippool", vxlanMode="CrossSubnet")), {},
        infos=("ippool_vxlan_mode_mismatch",),
    ),
    Fault(
        "assign_ipv6_off", Scope.CLUSTER, "the CNI configuration assigns no IPv6",
        objects(edits.cni(assign_ipv6="false")),
        warning("cni_not_assigning_ipv6"),
    ),
    Fault(
        "assign_ipv6_off_before_pod", Scope.CLUSTER, "the CNI configuration assigns no IPv6 and a new pod got none",
        all_of(objects(edits.cni(assign_ipv6=None)), pod_without_ipv6),
        warning("cni_not_assigning_ipv6"), by("cni_not_assigning_ipv6", "pod_ipv6_missing", UNREACHABLE),
        ipv6=False, apart=True,
    ),
    Fault(
        "felix_off", Scope.CLUSTER, "ipv6Support is off, and Felix keeps what it had written",
        objects(edits.spec("FelixConfiguration", "default", ipv6Support=False)), warning("felix_ipv6_off"), apart=True,
    ),
    Fault(
        "wireguard_without_device", Scope.NODE, "Felix is to encrypt IPv6 by WireGuard, and its device is not there",
        objects(edits.spec("FelixConfiguration", "default", wireguardEnabledV6=True)),
        warning("wireguard_v6_incomplete"), apart=True,
        evidence={"wireguard_v6_incomplete": "wg-v6.cali does not exist; the node has no annotation"},
    ),
    Fault(
        "felix_off_at_start", Scope.CLUSTER, "ipv6Support is off, and Felix has never written anything of IPv6",
        all_of(
            objects(edits.spec("FelixConfiguration", "default", ipv6Support=False)),
            of_lab("vxlan_deleted"), of_lab("masquerade_chain_removed"),
        ),
        warning("felix_ipv6_off"),
        by("felix_ipv6_off", "vxlan_device_missing", "nat_masquerade_missing", UNREACHABLE, DNS_SILENT), ipv6=False,
        apart=True,
    ),
    Fault(
        "ranges_overlap", Scope.CLUSTER, "the IPv6 Service range lies inside the pod range",
        objects(edits.added(meta("ServiceCIDR", "networking.k8s.io/v1", "extra",
            spec={"cidrs": ["fd00:10:244:ff::/112"]}))),
        warning("cidr_overlap"),
    ),
    Fault(
        "service_cidr_of_ipv4", Scope.CLUSTER, "kube-apiserver has both Service ranges, its ServiceCIDR IPv4 alone",
        objects(edits.added(meta("ServiceCIDR", "networking.k8s.io/v1", "kubernetes",
            spec={"cidrs": [SERVICE_RANGE4]}))),
        warning("service_cidr_ipv6_missing"),
    ),
    Fault(
        "range_unsuitable", Scope.CLUSTER, "an IPv6 Service range that kubeadm refuses",
        objects(edits.added(meta("ServiceCIDR", "networking.k8s.io/v1", "extra", spec={"cidrs": ["fc00:96::/64"]}))),
        {}, infos=("cidr_unsuitable",),
    ),
    Fault(
        "policy_of_one_family", Scope.CLUSTER, "an ingress policy's ipBlocks name IPv4 alone",
        objects(edits.added(network_policy("from-ipv4", {"ingress": [{"from": [block("10.0.0.0/8")]}]}))),
        {}, infos=("network_policy_ipv6_gap",),
    ),
    Fault(
        "apiserver_single_stack", Scope.CLUSTER,
        "kube-apiserver and kube-controller-manager disagree about the Service range",
        objects(edits.arguments("kube-apiserver-node-c", f"--service-cluster-ip-range={SERVICE_RANGE4}")),
        warning("control_plane_flags"),
    ),
    Fault(
        "controller_manager_allocates_nothing", Scope.CLUSTER,
        "kube-controller-manager has no allocate-node-cidrs, and a node has no IPv6 podCIDR",
        objects(
            edits.arguments(
                "kube-controller-manager-node-c", f"--service-cluster-ip-range={SERVICE_RANGE4},{SERVICE_RANGE6}",
                f"--cluster-cidr=10.244.0.0/16,{POOL6}",
            ),
            edits.spec("Node", "node-b", podCIDRs=["10.244.2.64/26"]),
        ),
        warning("control_plane_flags"), infos=("node_pod_cidr_missing",),
        evidence={"control_plane_flags": "allocate-node-cidrs"},
    ),
    Fault(
        "feature_gate_removed", Scope.CLUSTER, "kube-apiserver has a feature gate that no longer exists",
        objects(
            edits.arguments(
                "kube-apiserver-node-c", f"--service-cluster-ip-range={SERVICE_RANGE4},{SERVICE_RANGE6}",
                "--feature-gates=IPv6DualStack=true",
            ),
            edits.status("Node", "node-c", nodeInfo={"kubeletVersion": "v1.36.2"}),
        ),
        warning("control_plane_flags"), evidence={"control_plane_flags": "IPv6DualStack"},
    ),
)  # fmt: skip
