"""Panels of the node dashboard about NAT, the tunnel, peers, the kernel state and the pods."""

from __future__ import annotations

from collections.abc import Iterator

from grafana.panels import (
    BLUE,
    COUNT_WARN,
    GREEN,
    NO_MATTER,
    RATIO,
    RED,
    TEXT,
    YES,
    Column,
    Panel,
    Query,
    Style,
    bars,
    graph,
    pick,
    scale,
    stat,
    table,
)
from grafana.words import ACCEPT_RA, PEERS, POD_STATES

N = 'cluster=~"$cluster", node="$node"'
V6, V4 = 'ip_family="IPv6"', 'ip_family="IPv4"'
RATIOS = "dualstack_probe_success_ratio"
OWN_PARTS = 'target=~"service|peers|cluster_dns|apiserver", layer="tcp"'


def nat() -> Iterator[Panel]:
    """NAT outgoing and kube-proxy."""
    yield table(
        "NAT outgoing by IP pool",
        [f"min by (pool, ip_family) (dualstack_nat_pool_masqueraded{{{N}}})"],
        [Column("pool", "pool", TEXT), Column("ip_family", "family", width=80), Column("#A", "masqueraded", YES, 120)],
        description="Whether the kernel's rules and sets masquerade packets from each pool with natOutgoing.",
        empty="no pool has natOutgoing enabled, no pools are known, or the NAT table could not be read",
        sort=("masqueraded", False),
        size=(8, 7),
    )
    yield table(
        "Masquerade rules by backend",
        [f"max by (ip_family, backend) (dualstack_nat_masquerade_rules{{{N}}})"],
        [Column("ip_family", "family", width=80), Column("backend", "backend", TEXT), Column("#A", "rules", width=90)],
        description="Number of Calico's masquerade rules, 0 if no hook jumps to them. Only the backend in use has "
        "rules. The families should be equal.",
        empty="the NAT tables could not be read",
        sort=("rules", True),
        size=(8, 7),
    )
    yield table(
        "kube-proxy rules by family",
        [f"max by (ip_family, mode) (dualstack_kube_proxy_service_rules{{{N}}})"],
        [
            Column("ip_family", "family", width=80),
            Column("mode", "mode", TEXT),
            Column("#A", "has rules", NO_MATTER, 110),
        ],
        description="Whether kube-proxy has rules for Services of the family on this node. A family without Services "
        "has none, which is correct. If rules are missing, the cause nat_kube_proxy_missing is active.",
        empty="no kube-proxy was found (Calico eBPF or Cilium replace it), or its rules could not be read",
        sort=("family", True),
        size=(8, 7),
    )
    yield graph(
        "Masqueraded packets by family",
        [
            Query(
                f"sum by (ip_family) (rate(dualstack_nat_packets_total{{{N}}}[$__rate_interval]))",
                "{{ip_family}}",
            )
        ],
        description="First packets of connections from pods to the outside, per second. If IPv6 is 0 while IPv4 is "
        "not, either IPv6 to the outside does not work or no pod uses it.",
        empty="Calico has no NAT rules on this node, or they could not be read",
        style=Style(unit="pps"),
        size=(24, 8),
    )


def tunnel() -> Iterator[Panel]:
    """The VXLAN tunnel, other nodes, and the cluster's own parts."""
    yield table(
        "VXLAN devices",
        [
            f"max by (device, vni, port, parent, flow_based) (dualstack_vxlan_info{{{N}}})",
            f"min by (device) (dualstack_vxlan_up{{{N}}})",
            f"max by (device) (dualstack_vxlan_mtu_bytes{{{N}}})",
        ],
        [
            Column("device", "device", TEXT),
            Column("#B", "up", YES, 70),
            Column("#C", "MTU", width=80),
            Column("vni", "VNI", width=80),
            Column("port", "port", width=80),
            Column("parent", "parent", width=100),
            Column("flow_based", "eBPF", width=80),
            Column("#A"),
        ],
        description="Calico's VXLAN devices in the kernel; vxlan-v6.calico is for IPv6. The MTU must be 70 bytes less "
        "than that of the parent link for IPv6, 50 for IPv4.",
        empty="no pool uses VXLAN, or the device is missing (then the cause vxlan_device_missing is active)",
        sort=("device", False),
        size=(12, 6),
    )
    yield table(
        "Tunnel peers by state",
        [f"sum by (device, state) (dualstack_vxlan_peers{{{N}}} > 0)"],
        [
            Column("device", "device", TEXT),
            Column("state", "state", Style(unit="string", words=PEERS)),
            Column("#A", "peers", width=90),
        ],
        description="Other nodes by the state of their route, neighbour and forwarding entry. If several are wrong, "
        "the first one counts.",
        empty="there is no tunnel, it is an eBPF tunnel, or the inventory has no peers",
        sort=("device", False),
        size=(12, 6),
    )
    yield table(
        "BGP peers over IPv6",
        [f"sum by (state) (dualstack_bgp_peers{{{N}}})"],
        [Column("state", "state", TEXT), Column("#A", "peers", width=90)],
        description="Peers that Calico is configured to have over IPv6, by whether the kernel shows an established "
        "connection with them.",
        empty="Calico does not use BGP over IPv6 here",
        sort=("state", False),
        size=(12, 6),
    )
    yield table(
        "Cluster services by family",
        [
            f"min by (target, vantage) ({pick(RATIOS, OWN_PARTS, N)})",
            f"min by (target, vantage) ({pick(RATIOS, OWN_PARTS, V6, N)})",
            f"min by (target, vantage) ({pick(RATIOS, OWN_PARTS, V4, N)})",
        ],
        [
            Column("target", "target", TEXT),
            Column("vantage", "from", width=80),
            Column("#B", "IPv6", RATIO, 90),
            Column("#C", "IPv4", RATIO, 90),
            Column("#A"),
        ],
        description="Success ratio for the exporter's own Service, other nodes, the cluster DNS and the API server. A "
        "cell is empty if the target has no address of the family.",
        empty="without an inventory only configured targets are probed",
        sort=("target", False),
        size=(12, 6),
    )
    yield table(
        "Unreachable peers",
        [f"max by (peer, vantage, ip_family, layer, outcome) (dualstack_peer_failing{{{N}}})"],
        [
            Column("peer", "node", TEXT),
            Column("vantage", "from", width=80),
            Column("ip_family", "family", width=80),
            Column("layer", "layer", width=80),
            Column("outcome", "outcome", width=120),
            Column("#A"),
        ],
        description="Other nodes to which the last probe failed. A node that fails over both families is down, which "
        "is not a fault of a path.",
        empty="every probed peer answers",
        sort=("node", False),
        size=(12, 6),
        only_bad=True,
    )


def host() -> Iterator[Panel]:
    """Addresses, routes and sysctls of the host, and the pods on it."""
    usable = f'sum by (ip_family) (dualstack_host_addresses{{state="usable", {N}}})'
    yield table(
        "Host addresses and routes by family",
        [
            (
                f"group by (ip_family) (dualstack_family_expected{{{N}}} or dualstack_host_addresses{{{N}}} or "
                f"dualstack_pods_with_address{{{N}}})"
            ),
            f"{usable} > 0 or {usable} and on (ip_family) max by (ip_family) (dualstack_family_expected{{{N}}}) == 1",
            f'sum by (ip_family) (dualstack_host_addresses{{state=~"tentative|dadfailed|deprecated", {N}}})',
            f"max by (ip_family) (dualstack_host_default_routes{{{N}}})",
            f"max by (ip_family) (dualstack_host_forwarding{{{N}}})",
            f"sum by (ip_family) (dualstack_pods_with_address{{{N}}})",
            f"max by (ip_family) (dualstack_family_expected{{{N}}})",
        ],
        [
            Column("ip_family", "family", width=80),
            Column("#G", "expected", NO_MATTER),
            Column("#B", "usable addresses", Style(steps=scale((0, RED), (1, GREEN)))),
            Column("#C", "other addresses", COUNT_WARN),
            Column("#D", "default routes"),
            Column("#E", "forwards", NO_MATTER),
            Column("#F", "pods with an address"),
            Column("#A"),
        ],
        description="Global addresses of the host (empty: none, and the family is not expected; other: tentative, "
        "duplicate or deprecated), default routes in the main table, forwarding, and pods with an address.",
        empty="the host's addresses could not be read",
        sort=("family", True),
        size=(14, 5),
    )
    yield stat(
        "IPv6 disabled by sysctl",
        f"max(dualstack_host_ipv6_disabled{{{N}}}) * (1 + max({pick('dualstack_family_expected', V6, N)})) "
        f"or max(dualstack_host_ipv6_disabled{{{N}}})",
        description="net.ipv6.conf.all.disable_ipv6 of the host; red only if IPv6 is expected.",
        empty="the host's links could not be read",
        none="unreadable",
        style=Style(words={"0": "no", "1": "yes", "2": "yes"}, steps=scale((0, GREEN), (1, BLUE), (2, RED))),
        size=(4, 5),
    )
    yield table(
        "accept_ra by link",
        [f"max by (device) (dualstack_host_accept_ra{{{N}}})"],
        [Column("device", "link", width=120), Column("#A", "accept_ra", Style(words=ACCEPT_RA))],
        description="accept_ra of external links. A node that forwards and depends on router advertisements needs 2.",
        empty="there is no external link, or links could not be read",
        sort=("link", False),
        size=(6, 5),
    )
    yield graph(
        "Pods by probing state",
        [Query(f"sum by (state) (dualstack_pods{{{N}}}) > 0", "{{state}}")],
        description="Pods by state. " + "; ".join(f"{state}: {words}" for state, words in POD_STATES.items()) + ".",
        empty="there are no pods, or the exporter may not list network namespaces",
        stacked=True,
        size=(8, 8),
    )
    yield bars(
        "Pods by C library",
        Query(f"sum by (libc) (dualstack_pods_libc{{{N}}})", "{{libc}}"),
        description="Pods whose root filesystem contains the library. musl (Alpine) handles search domains and "
        "missing AAAA records differently from glibc.",
        empty="no pod's root filesystem could be read",
        none="unreadable",
        size=(4, 8),
    )
    yield graph(
        "Connection tracking usage",
        [Query(f"max(dualstack_conntrack_entries{{{N}}} / dualstack_conntrack_entries_limit{{{N}}})", "entries")],
        description="Ratio of tracked connections to the host's limit. If the table is full, new connections of both "
        "families are dropped.",
        empty="the table's size could not be read",
        style=Style(unit="percentunit"),
        size=(6, 8),
    )
    yield graph(
        "UDPv6 checksum errors",
        [Query(f"max(rate(dualstack_udp6_checksum_errors_total{{{N}}}[$__rate_interval]))", "UDP over IPv6")],
        description="Datagrams per second that the host dropped because of a wrong checksum. They indicate broken "
        "checksum offloading of the network card, which breaks VXLAN over IPv6.",
        empty="the counters of /proc/net/snmp6 could not be read",
        style=Style(unit="pps"),
        size=(6, 8),
    )
