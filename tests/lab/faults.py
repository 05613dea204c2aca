"""The fault matrix: every row, and pairs of faults. Shown by scripts/matrix, held by tests/e2e/test_fault_matrix.py,
broken by make demo.
"""

from __future__ import annotations

from tests.lab.api_faults import CLUSTER_FAULTS
from tests.lab.bgp_faults import BGP_FAULTS
from tests.lab.dns_faults import DNS_FAULTS
from tests.lab.fault import DNS_SILENT, UNREACHABLE, Fault, all_of, by
from tests.lab.node_faults import NODE_FAULTS, POD_FAULTS, TUNNEL
from tests.lab.path_faults import PATH_FAULTS

FAULTS: dict[str, Fault] = {
    fault.name: fault for fault in (*DNS_FAULTS, *PATH_FAULTS, *NODE_FAULTS, *BGP_FAULTS, *POD_FAULTS, *CLUSTER_FAULTS)
}


def _pair(one: str, other: str, says: str, **more: object) -> Fault:
    """Two independent faults: both causes, and all that each explains."""
    first, second = FAULTS[one], FAULTS[other]
    expected: dict[str, object] = {
        "causes": {**first.causes, **second.causes},
        "explained": {**second.explained, **first.explained},
        "infos": (*first.infos, *second.infos),
        "ipv4": first.ipv4 and second.ipv4,
        "ipv6": first.ipv6 and second.ipv6,
        "detect": max(first.detect, second.detect),
        **more,
    }
    return Fault(f"{one} and {other}", first.scope, says, all_of(first.act, second.act), **expected)  # type: ignore[arg-type]  # fields of Fault


PAIRS: dict[str, Fault] = {
    pair.name: pair
    for pair in (
        _pair("vxlan_deleted", "masquerade_rule_removed", "the tunnel and NAT",
            explained={DNS_SILENT: "vxlan_device_missing", UNREACHABLE: "nat_masquerade_missing"}),
        _pair("pod_default_route_removed", "fdb_of_peer_removed", "one pod and one peer",
            explained=by("vxlan_peer_incomplete", *TUNNEL)),
        _pair("default_route_removed", "aaaa_refused", "the default route and the resolver"),
        _pair("services_removed", "vxlan_down", "kube-proxy and the tunnel",
            explained=by("nat_kube_proxy_missing", *TUNNEL)),
        _pair("outside_tcp6_blocked", "services_removed", "a firewall outside and kube-proxy here"),
        _pair("outside_tcp6_blocked", "pod_route_removed", "a firewall outside and one pod's route"),
        _pair("tls_wrong_name_over_ipv6", "fabric_mtu", "a certificate and the fabric's MTU"),
        _pair("template_blocks_aaaa", "felix_off", "the Corefile and Felix", apart=True),
        _pair("nat_outgoing_off", "nameserver_silent_over_ipv6", "the pool's NAT and a nameserver"),
        _pair("felix_off", "tunnel_tcp6_dropped", "Felix and TCP in the tunnel", apart=True),
        _pair("vxlan_mode_differs_unseen", "tunnel_tcp6_dropped",
            "a pool's setting that does no harm and TCP in the tunnel", apart=True),
        _pair("assign_ipv6_off", "forwarding_off", "the CNI configuration and forwarding", apart=True),
    )
}  # fmt: skip
