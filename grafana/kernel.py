"""Panels of the node dashboard about what stands behind the probes: NAT, tunnel, peers, the kernel and the pods."""

from __future__ import annotations

from collections.abc import Iterator

from grafana.panels import (
    COUNT_WARN,
    GREEN,
    NO_MATTER,
    RATIO,
    RED,
    TEXT,
    YES,
    Column,
    Look,
    Panel,
    Query,
    bars,
    graph,
    pick,
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
        "Is every pool masqueraded that asks for it?",
        [f"min by (pool, ip_family) (dualstack_nat_pool_masqueraded{{{N}}})"],
        [Column("pool", "pool", TEXT), Column("ip_family", "family", width=80), Column("#A", "masqueraded", YES, 120)],
        says="Whether packets from a pool with natOutgoing leave this node with the node's address, as the kernel's rules and sets have it.",
        empty="no pool asks for natOutgoing, no pools are known, or the NAT table could not be read",
        sort=("masqueraded", False),
        size=(8, 7),
    )
    yield table(
        "Where do masquerading rules stand?",
        [f"max by (ip_family, backend) (dualstack_nat_masquerade_rules{{{N}}})"],
        [Column("ip_family", "family", width=80), Column("backend", "backend", TEXT), Column("#A", "rules", width=90)],
        says="Calico's rules that masquerade, 0 where no hook reaches them. One backend is in use; the others have 0. The families should be alike.",
        empty="the NAT tables could not be read",
        sort=("rules", True),
        size=(8, 7),
    )
    yield table(
        "Does kube-proxy serve both families?",
        [f"max by (ip_family, mode) (dualstack_kube_proxy_service_rules{{{N}}})"],
        [Column("ip_family", "family", width=80), Column("mode", "mode", TEXT), Column("#A", "has rules", YES, 110)],
        says="Whether kube-proxy's rules for Services of the family stand on this node. A family without any Service has none, rightly.",
        empty="no kube-proxy was found (Calico eBPF or Cilium replace it), or its rules could not be read",
        sort=("family", True),
        size=(8, 7),
    )
    yield graph(
        "How many packets are masqueraded, by family?",
        [
            Query(
                f"sum by (ip_family) (rate(dualstack_nat_packets_total{{{N}}}[$__rate_interval]))",
                "{{ip_family}}",
            )
        ],
        says="First packets of connections from pods to the outside, as the kernel counted them. IPv6 at 0 beside a busy IPv4 means that nobody gets out over IPv6, or nobody tries.",
        empty="Calico's NAT rules are not on this node, or could not be read",
        look=Look(unit="pps"),
        size=(24, 8),
    )


def tunnel() -> Iterator[Panel]:
    """The VXLAN tunnel, other nodes, and the cluster's own parts."""
    yield table(
        "Is the tunnel up, and how is it made?",
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
            Column("parent", "over", width=100),
            Column("flow_based", "eBPF", width=80),
            Column("#A"),
        ],
        says="Calico's VXLAN devices as the kernel has them; vxlan-v6.calico carries IPv6. The MTU must leave 70 bytes of the underlay's for IPv6, 50 for IPv4.",
        empty="no pool uses VXLAN, or the device is missing (then the cause vxlan_device_missing says so)",
        sort=("device", False),
        size=(12, 6),
    )
    yield table(
        "In what state are the tunnel's peers?",
        [f"sum by (device, state) (dualstack_vxlan_peers{{{N}}} > 0)"],
        [
            Column("device", "device", TEXT),
            Column("state", "state", Look(unit="string", words=PEERS)),
            Column("#A", "peers", width=90),
        ],
        says="Other nodes by whether route, neighbour and forwarding entry agree; the first that is wrong counts.",
        empty="no tunnel, a tunnel by eBPF, or no inventory that names the peers",
        sort=("device", False),
        size=(12, 6),
    )
    yield table(
        "Over which family do the cluster's own parts answer?",
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
        says="The exporter's own Service, other nodes, the cluster DNS and the API server: what exists in every cluster. Empty: it has no address of the family.",
        empty="without an inventory only configured targets are dialled",
        sort=("target", False),
        size=(12, 6),
    )
    yield table(
        "Which peers cannot be reached?",
        [f"max by (peer, vantage, ip_family, layer, outcome) (dualstack_peer_failing{{{N}}})"],
        [
            Column("peer", "node", TEXT),
            Column("vantage", "from", width=80),
            Column("ip_family", "family", width=80),
            Column("layer", "layer", width=80),
            Column("outcome", "outcome", width=120),
            Column("#A"),
        ],
        says="Other nodes to which the last probe failed. One that fails over both families is down, not a fault of a path.",
        empty="every peer that was dialled answers",
        sort=("node", False),
        size=(12, 6),
        only_bad=True,
    )


def host() -> Iterator[Panel]:
    """Addresses, routes and sysctls of the host, and the pods on it."""
    yield table(
        "What does the kernel say of each family?",
        [
            f"group by (ip_family) (dualstack_family_expected{{{N}}} or dualstack_host_addresses{{{N}}} or dualstack_pods_with_address{{{N}}})",
            f'sum by (ip_family) (dualstack_host_addresses{{state="usable", {N}}})',
            f'sum by (ip_family) (dualstack_host_addresses{{state=~"tentative|dadfailed|deprecated", {N}}})',
            f"max by (ip_family) (dualstack_host_default_routes{{{N}}})",
            f"max by (ip_family) (dualstack_host_forwarding{{{N}}})",
            f"sum by (ip_family) (dualstack_pods_with_address{{{N}}})",
            f"max by (ip_family) (dualstack_family_expected{{{N}}})",
        ],
        [
            Column("ip_family", "family", width=80),
            Column("#G", "expected", NO_MATTER),
            Column("#B", "usable addresses", Look(steps=((None, RED), (1, GREEN)))),
            Column("#C", "other addresses", COUNT_WARN),
            Column("#D", "default routes"),
            Column("#E", "forwards", NO_MATTER),
            Column("#F", "pods with an address"),
            Column("#A"),
        ],
        says="Global addresses of the host (other: tentative, duplicate or deprecated), default routes of the main table, forwarding, and pods that have an address.",
        empty="the host's addresses could not be read",
        sort=("family", True),
        size=(14, 5),
    )
    yield stat(
        "Is IPv6 switched off by sysctl?",
        f"max(dualstack_host_ipv6_disabled{{{N}}})",
        says="net.ipv6.conf.all.disable_ipv6 of the host.",
        empty="the host's links could not be read",
        look=Look(words={"0": "no", "1": "yes"}, steps=((None, GREEN), (1, RED))),
        size=(4, 5),
    )
    yield table(
        "Are router advertisements taken?",
        [f"max by (device) (dualstack_host_accept_ra{{{N}}})"],
        [Column("device", "link", width=120), Column("#A", "accept_ra", Look(words=ACCEPT_RA))],
        says="accept_ra of links that lead outside. A node that forwards and lives from advertisements needs 2.",
        empty="no link leads outside, or links could not be read",
        sort=("link", False),
        size=(6, 5),
    )
    yield graph(
        "Which pods are looked from?",
        [Query(f"sum by (state) (dualstack_pods{{{N}}}) > 0", "{{state}}")],
        says="Pods by state. " + "; ".join(f"{state}: {words}" for state, words in POD_STATES.items()) + ".",
        empty="there are no pods, or the exporter may not list network namespaces",
        stacked=True,
        size=(8, 8),
    )
    yield bars(
        "Which C library do the pods hold?",
        Query(f"sum by (libc) (dualstack_pods_libc{{{N}}})", "{{libc}}"),
        says="Pods whose root holds the library. musl (Alpine) treats search domains and missing AAAA records unlike glibc.",
        empty="no pod's root could be read",
        size=(4, 8),
    )
    yield graph(
        "How full is the connection table?",
        [Query(f"max(dualstack_conntrack_entries{{{N}}} / dualstack_conntrack_entries_limit{{{N}}})", "entries")],
        says="Tracked connections by those that the host can track. A full table drops new connections of both families.",
        empty="the table's size could not be read",
        look=Look(unit="percentunit"),
        size=(6, 8),
    )
    yield graph(
        "Are checksums wrong?",
        [Query(f"max(rate(dualstack_udp6_checksum_errors_total{{{N}}}[$__rate_interval]))", "UDP over IPv6")],
        says="Datagrams a second that the host dropped. They tell of a network card whose checksum offloading is broken, which breaks VXLAN over IPv6.",
        empty="the counters of /proc/net/snmp6 could not be read",
        look=Look(unit="pps"),
        size=(6, 8),
    )
