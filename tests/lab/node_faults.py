"""Rows of the matrix: what the kernel of the node or of a pod says. Most acts are the kernel lab's."""

from __future__ import annotations

import select
from functools import partial
from pathlib import Path

from tests.kernel import calico_network as network
from tests.kernel import namespaces
from tests.kernel.calico_faults import FAULTS as LAB_FAULTS
from tests.kernel.calico_nodes import GATEWAY6
from tests.lab import edits
from tests.lab.cluster import Cluster
from tests.lab.fault import (
    DNS_SILENT,
    EBPF,
    NAT_BACKENDS,
    TUNNELS,
    UNREACHABLE,
    Act,
    Fault,
    Scope,
    all_of,
    by,
    critical,
    of_lab,
    warning,
)
from tests.lab.path_faults import SERVICE_REJECTED

FORCE_FORWARDING = Path("/proc/sys/net/ipv6/conf/all/force_forwarding")  # since Linux 6.17; before, forwarding is off
FORWARDING, SMALL, WRONG = "node_forwarding_off", "link_mtu_below_ipv6_minimum", "vxlan_misconfigured"
PEER = "vxlan_peer_incomplete"
STALE, GONE, GONE4 = "service_rules_stale", "fd00:10:244:2::7f", "10.244.2.126"
TUNNEL = (UNREACHABLE, DNS_SILENT)  # what a lost tunnel, or a lost pod, leads to
SLOW_DAD = {"accept_dad": 1, "dad_transmits": 200, "router_solicitation_delay": 0}
QUICK_DAD = {"accept_dad": 1, "dad_transmits": 1, "router_solicitation_delay": 0}
NO_DAD = {"accept_dad": 0, "dad_transmits": 1, "router_solicitation_delay": 1}


def _nat(name: str, cause: str, says: str, *, ebpf: bool = False, apart: bool = False) -> Fault:
    return Fault(
        name, Scope.NODE, says, of_lab(name), warning(cause), by(cause, UNREACHABLE), ipv6=False,
        backends=(*NAT_BACKENDS, EBPF) if ebpf else NAT_BACKENDS, apart=apart,
    )  # fmt: skip


def _node(name: str, cause: str, says: str, *symptoms: str, **more: object) -> Fault:
    return Fault(name, Scope.NODE, says, of_lab(name), warning(cause), by(cause, *symptoms), ipv6=not symptoms, **more)  # type: ignore[arg-type]  # fields of Fault


_tunnel = partial(_node, backends=TUNNELS)


def _pod(name: str, cause: str, says: str, *, apart: bool = False) -> Fault:
    return Fault(name, Scope.POD, says, of_lab(name), warning(cause), by(cause, *TUNNEL), ipv6=False, apart=apart)


def _detection(namespace: str, settings: dict[str, int]) -> None:
    namespaces.configure({namespace: {f"net/ipv6/conf/eth0/{key}": value for key, value in settings.items()}})


def _wait_until_shown(namespace: str, word: str) -> None:
    """Until an address of the namespace has that flag."""
    for _ in range(200):
        if word in namespaces.run("ip", "-n", namespace, "-6", "address", "show", "dev", "eth0"):
            return
        select.select([], [], [], 0.02)
    raise RuntimeError(f"no address of {namespace} became {word}")


def _node_tentative(cluster: Cluster) -> None:
    node = cluster.node

    def act() -> None:
        _detection(node.netns, SLOW_DAD)
        namespaces.batch({node.netns: [f"address {verb} {node.address6}/64 dev eth0" for verb in ("delete", "add")]})

    def undo() -> None:
        _detection(node.netns, NO_DAD)
        namespaces.batch({node.netns: [f"address delete {node.address6}/64 dev eth0"]})
        LAB_FAULTS["node_address_removed"][1](cluster.lab, node)

    cluster.apply(act, undo)


def _node_duplicate(cluster: Cluster) -> None:
    """Somebody else on the network has the node's address while the node takes it."""
    node = cluster.node

    def act() -> None:
        _detection(node.netns, QUICK_DAD)
        namespaces.batch({node.netns: [f"address delete {node.address6}/64 dev eth0"]})
        namespaces.batch({cluster.lab.gateway: [f"address add {node.address6}/128 dev eth0 nodad"]})
        namespaces.batch({node.netns: [f"address add {node.address6}/64 dev eth0"]})
        _wait_until_shown(node.netns, "dadfailed")
        namespaces.batch({cluster.lab.gateway: [f"address delete {node.address6}/128 dev eth0"]})

    def undo() -> None:
        _detection(node.netns, NO_DAD)
        namespaces.batch({node.netns: [f"address delete {node.address6}/64 dev eth0"]})
        LAB_FAULTS["node_address_removed"][1](cluster.lab, node)

    cluster.apply(act, undo)


def _pod_address(settings: dict[str, int], *, taken: bool) -> Act:
    def fault(cluster: Cluster) -> None:
        pod, host = cluster.node.pods[0], cluster.node.netns
        own = f"{pod.address6}/128"

        def act() -> None:
            _detection(pod.netns, settings)
            namespaces.batch({pod.netns: [f"address delete {own} dev eth0"]})
            if taken:
                namespaces.batch({host: [f"address add {own} dev {pod.link} nodad"]})
            namespaces.batch({pod.netns: [f"address add {own} dev eth0"]})
            _wait_until_shown(pod.netns, "dadfailed" if taken else "tentative")
            if taken:
                namespaces.batch({host: [f"address delete {own} dev {pod.link}"]})
                _restore_pod_route(cluster)

        def undo() -> None:
            _detection(pod.netns, NO_DAD)
            namespaces.batch({pod.netns: [f"address delete {own} dev eth0"]})
            LAB_FAULTS["pod_address_removed"][1](cluster.lab, cluster.node)

        cluster.apply(act, undo)

    return fault


def _restore_pod_route(cluster: Cluster) -> None:
    """The host's own address took the pod's route with it."""
    LAB_FAULTS["pod_route_removed"][1](cluster.lab, cluster.node)


def _lives_from_ra(cluster: Cluster, *lines: str) -> None:
    """Router advertisements configured the node once; since it forwards, the kernel takes no more of them."""
    node = cluster.node
    static = f"route replace default via {GATEWAY6} dev eth0"

    def act() -> None:
        namespaces.configure({node.netns: {"net/ipv6/conf/eth0/accept_ra": 1}})
        namespaces.batch({node.netns: [f"route delete default via {GATEWAY6} dev eth0", *lines]})

    def undo() -> None:
        namespaces.configure({node.netns: {"net/ipv6/conf/eth0/accept_ra": 0}})
        for what in ("default", "proto ra"):
            namespaces.run("ip", "-n", node.netns, "-6", "route", "flush", *what.split())
        namespaces.batch({node.netns: [static]})

    cluster.apply(act, undo)


def _ra_route_expires(cluster: Cluster) -> None:
    _lives_from_ra(cluster, f"route add default via {GATEWAY6} dev eth0 proto ra metric 1024 expires 900")


def _ra_route_expired(cluster: Cluster) -> None:
    """What is left of the advertisement is the route to the link's prefix."""
    _lives_from_ra(cluster, "route add 2001:db8:1::/64 dev eth0 proto ra metric 2048 expires 900")


def _pod_ip_of_the_api(cluster: Cluster) -> None:
    """The API still names an address that the pod has no more."""
    pod = cluster.node.pods[1]
    cluster.change(edits.pod_ips(pod.name, pod.address4, "fd00:10:244:1::99"))


def _disabled_by_choice(cluster: Cluster) -> None:
    pod, switch = cluster.node.pods[1], "net/ipv6/conf/all/disable_ipv6"
    asked = {"sysctls": [{"name": switch.replace("/", "."), "value": "1"}]}
    cluster.change(edits.spec("Pod", pod.name, securityContext=asked))

    def undo() -> None:
        namespaces.configure({pod.netns: {switch: 0}})
        namespaces.batch({pod.netns: network.pod_network(pod)})

    cluster.apply(lambda: namespaces.configure({pod.netns: {switch: 1}}), undo)


def _misled(service: str, *endpoints: str, six: bool = True) -> Act:
    """kube-proxy of the node believes in these endpoints of a Service."""
    return lambda cluster: cluster.apply(
        lambda: cluster.lab.mislead(cluster.node, service, *endpoints, six=six),
        lambda: cluster.lab.write_rules(cluster.node),
    )


def _listens_ipv4_only(cluster: Cluster) -> None:
    pod = cluster.node.pods[1]
    cluster.serve(pod.netns, *cluster.as_pod(pod.netns), "8080/4")


NODE_FAULTS: tuple[Fault, ...] = (
    _nat("masquerade_rule_removed", "nat_masquerade_missing", "cali-nat-outgoing holds no rule", ebpf=True, apart=True),
    _nat("masquerade_chain_removed", "nat_masquerade_missing", "cali-nat-outgoing does not exist"),
    _nat("chain_unhooked", "nat_chain_unhooked", "POSTROUTING does not reach Calico's chains", ebpf=True),
    _nat("pool_not_in_set", "nat_pool_not_in_set", "the rule's source set lacks the pool"),
    _nat("services_removed", "nat_kube_proxy_missing", "kube-proxy has no IPv6 rules"),
    Fault(
        "service_rules_of_a_gone_endpoint", Scope.NODE,
        "kube-proxy's rules of the DNS Service lead over IPv6 to a pod that is gone",
        _misled("kube-system/kube-dns", GONE), warning(STALE), by(STALE, *TUNNEL), ipv6=False, backends=NAT_BACKENDS,
        evidence={STALE: GONE}, apart=True,
    ),
    Fault(
        "service_rules_of_a_gone_endpoint_over_ipv4", Scope.NODE,
        "kube-proxy's rules of the DNS Service lead over IPv4 to a pod that is gone",
        _misled("kube-system/kube-dns", GONE4, six=False), critical(STALE), by(STALE, DNS_SILENT), ipv4=False,
        evidence={STALE: GONE4},
    ),
    Fault(
        "service_rules_of_none", Scope.NODE, "kube-proxy knows no IPv6 endpoint of the Service and rejects it",
        all_of(
            _misled("default/web"),
            SERVICE_REJECTED,
        ),
        warning(STALE), by(STALE, "target_refuses_ipv6"), ipv6=False, backends=NAT_BACKENDS,
        evidence={STALE: "leads to no endpoint"},
    ),
    _tunnel("vxlan_deleted", "vxlan_device_missing", "the tunnel device is deleted", *TUNNEL, apart=True),
    _tunnel("vxlan_down", "vxlan_device_down", "the tunnel device is down", *TUNNEL),
    _tunnel("vxlan_wrong_vni", "vxlan_misconfigured", "the tunnel device has another VNI", *TUNNEL),
    _tunnel("vxlan_mtu_small", "vxlan_misconfigured", "the tunnel device has a smaller MTU than the pods"),
    _tunnel("vxlan_mtu_below_minimum", SMALL, "the tunnel device has an MTU below 1280", *TUNNEL, WRONG),
    _tunnel("vxlan_address_removed", "vxlan_misconfigured", "the tunnel device has lost its address"),
    Fault(
        "route_to_peer_direct", Scope.NODE, "a direct route to one peer's block is left from CrossSubnet",
        of_lab("route_to_peer_direct"), warning(PEER), evidence={PEER: "dev eth0"},
    ),
    _tunnel("route_to_peer_removed", PEER, "the route to one peer's block is gone", *TUNNEL),
    _tunnel("neighbour_of_peer_removed", PEER, "the neighbour of one peer is gone", *TUNNEL),
    _tunnel("wrong_mac_of_peer", PEER, "the neighbour of one peer has another MAC", *TUNNEL),
    _tunnel("fdb_of_peer_removed", PEER, "the forwarding entry of one peer is gone", *TUNNEL, apart=True),
    _tunnel("wrong_destination_of_peer", PEER, "the forwarding entry of one peer leads to another node", *TUNNEL),
    _node(
        "forwarding_forced_in_part", FORWARDING, "forwarding is forced on all links but one pod's", *TUNNEL,
        evidence={FORWARDING: "force_forwarding"} if FORCE_FORWARDING.exists() else {},
    ),
    _node("forwarding_off", "node_forwarding_off", "IPv6 forwarding is off", *TUNNEL),
    _node("default_route_removed", "node_no_ipv6_default_route", "the IPv6 default route is gone", UNREACHABLE),
    _node("node_address_removed", "node_no_ipv6_address", "the node has lost its IPv6 address", *TUNNEL),
    _node(
        "node_address_removed_beside_the_cnis", "node_no_ipv6_address",
        "the node has lost its IPv6 address, and links of CNIs keep theirs", *TUNNEL,
    ),
    Fault(
        "node_address_of_the_api_absent", Scope.NODE, "the Node has an InternalIP that the node does not have",
        lambda cluster: cluster.change(edits.addresses(cluster.node.name, cluster.node.address4, "2001:db8:1::99")),
        warning("node_ip_mismatch"), evidence={"node_ip_mismatch": "2001:db8:1::99"},
    ),
    Fault(
        "node_address_tentative", Scope.NODE, "the node's IPv6 address stays tentative", _node_tentative,
        warning("node_no_ipv6_address"), by("node_no_ipv6_address", *TUNNEL), ipv6=False,
        evidence={"node_no_ipv6_address": "is tentative"},
    ),
    Fault(
        "node_address_duplicate", Scope.NODE, "the node's IPv6 address failed duplicate detection", _node_duplicate,
        warning("node_no_ipv6_address"), by("node_no_ipv6_address", *TUNNEL), ipv6=False,
        evidence={"node_no_ipv6_address": "dadfailed"},
    ),
    _node(
        "node_ipv6_disabled", "node_ipv6_disabled", "IPv6 is off by sysctl on the node", *TUNNEL, "vxlan_misconfigured"
    ),
    Fault(
        "ra_route_expires", Scope.NODE, "the default route came from an advertisement and nothing renews it",
        _ra_route_expires, warning("node_accept_ra_ignored"),
    ),
    Fault(
        "ra_route_expired", Scope.NODE, "the default route of an ignored advertisement has expired", _ra_route_expired,
        warning("node_accept_ra_ignored"),
        by("node_accept_ra_ignored", "node_no_ipv6_default_route", UNREACHABLE), ipv6=False,
    ),
    _node("pod_route_removed", "pod_route_missing", "the host has no route to one pod", *TUNNEL),
)  # fmt: skip

POD_FAULTS: tuple[Fault, ...] = (
    _pod("pod_address_removed", "pod_ipv6_missing", "one pod has lost its IPv6 address"),
    _pod("pod_default_route_removed", "pod_no_ipv6_default_route", "one pod has no IPv6 default route"),
    _pod("pod_ipv6_disabled", "pod_ipv6_disabled", "IPv6 is off by sysctl in one pod"),
    _pod("pod_link_ipv6_disabled", "pod_ipv6_disabled", "IPv6 is off by sysctl on one pod's link"),
    Fault(
        "pod_ipv6_disabled_by_choice", Scope.POD, "one pod's own sysctls disable IPv6", _disabled_by_choice, {},
        infos=("pod_ipv6_disabled",),
    ),
    Fault(
        "pod_mtu_below_minimum", Scope.POD, "one pod's link has an MTU below 1280", of_lab("pod_mtu_below_minimum"),
        warning(SMALL), by(SMALL, *TUNNEL, "pod_ipv6_missing"), ipv6=False,
    ),
    Fault(
        "pod_mtu_above_tunnel", Scope.POD, "one pod's MTU is above that of the tunnel", of_lab("pod_mtu_above_tunnel"),
        {}, infos=("pod_mtu_above_tunnel",),
    ),
    Fault(
        "pod_mtu_above_tunnel_unknown_to_it", Scope.POD,
        "one pod's MTU is above that of the tunnel, and it gets no Packet Too Big",
        of_lab("pod_mtu_above_tunnel_unknown_to_it"), warning("pod_mtu_above_tunnel"),
        by("pod_mtu_above_tunnel", "ipv6_mtu_blackhole"), detect=3,
    ),
    Fault(
        "pod_address_tentative", Scope.POD, "one pod's IPv6 address stays tentative",
        _pod_address(SLOW_DAD, taken=False),
        warning("pod_ipv6_address_unusable"), by("pod_ipv6_address_unusable", *TUNNEL), ipv6=False,
    ),
    Fault(
        "pod_address_duplicate", Scope.POD, "one pod's IPv6 address failed duplicate detection",
        _pod_address(QUICK_DAD, taken=True),
        warning("pod_ipv6_address_unusable"), by("pod_ipv6_address_unusable", *TUNNEL), ipv6=False,
    ),
    Fault(
        "pod_ip_of_the_api_absent", Scope.POD, "status.podIPs names an address that the pod does not have",
        _pod_ip_of_the_api, warning("pod_ip_mismatch"), apart=True,
    ),
    Fault(
        "pod_listens_ipv4_only", Scope.POD, "a Service with IPv6 sends to a pod that listens over IPv4 alone",
        _listens_ipv4_only, {}, infos=("pod_listens_ipv4_only",),
    ),
)  # fmt: skip
