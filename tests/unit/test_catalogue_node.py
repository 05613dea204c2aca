"""Report -> rows: what the metrics say of the node: names, pods, kernel, readers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from exporter.catalogue import ROUND
from exporter.catalogue.metric import FinishedRound
from exporter.catalogue.totals import Totals
from exporter.model.cause import Role
from exporter.model.dns import BlockKind
from exporter.model.facts import Backend, HostFacts, NatFacts, ReaderStatus
from exporter.model.family import Family
from exporter.model.reason import Reason
from exporter.model.report import Report
from tests.unit.sample import bad_day, blind, round_of, routed

V4, V6 = Family.V4, Family.V6


def rows(report: Report, name: str) -> dict[tuple[str, ...], Any]:
    metric = next(m for m in ROUND if m.name == f"dualstack_{name}")
    return dict(metric.exposed(round_of(report)))


def with_facts(**parts: Any) -> Report:
    report = bad_day()
    return replace(report, snapshot=replace(report.snapshot, host_facts=HostFacts(**parts)))


# Names.


def test_the_ip_family_of_a_lookup_is_that_of_the_server_and_not_of_the_question() -> None:
    assert rows(bad_day(), "dns_lookups")["pod", "cluster_dns", "pypi.org", "AAAA", "IPv4", "nodata"] == 2.0


def test_aaaa_block_is_a_state_set_over_the_closed_kinds() -> None:
    states = rows(bad_day(), "dns_aaaa_block")
    assert {kind for server, kind in states if server == "cluster_dns"} == set(BlockKind)
    assert [kind for (server, kind), value in states.items() if server == "cluster_dns" and value] == ["blanket_nodata"]


# Pods.


def test_every_pod_state_has_a_row() -> None:
    states = rows(bad_day(), "pods")
    assert states["eligible",] == 6.0
    assert states["intercepted",] == 1.0
    assert states["sandboxed",] == 0.0


def test_pods_that_cannot_be_listed_are_absent_and_not_zero() -> None:
    assert rows(blind(), "pods") == {}
    assert rows(blind(), "pods_with_address") == {}
    assert rows(blind(), "pods_libc") == {}


def test_the_cluster_role_has_no_pods_of_its_own() -> None:
    report = bad_day()
    assert rows(replace(report, snapshot=replace(report.snapshot, role=Role.CLUSTER, pods=())), "pods") == {}


def test_a_pod_counts_as_having_an_address_by_what_its_own_namespace_holds() -> None:
    assert rows(bad_day(), "pods_with_address") == {("IPv4",): 6.0, ("IPv6",): 5.0}
    assert rows(bad_day(), "pods_libc") == {("glibc",): 5.0, ("musl",): 1.0, ("none",): 0.0}


# The kernel.


def test_nat_is_told_for_each_backend_that_could_be_read() -> None:
    assert rows(bad_day(), "nat_masquerade_rules") == {
        ("IPv4", "iptables-nft"): 1.0,
        ("IPv6", "iptables-nft"): 0.0,
        ("IPv4", "nftables"): 0.0,
        ("IPv6", "nftables"): 0.0,
    }
    assert rows(bad_day(), "nat_pool_masqueraded") == {
        ("IPv4", "default-ipv4-ippool"): 1.0,
        ("IPv6", "default-ipv6-ippool"): 0.0,
    }


@pytest.mark.parametrize(
    ("nat", "expected"),
    [
        (NatFacts(read=frozenset({(V6, Backend.NFTABLES)})), {("IPv6", "default-ipv6-ippool"): 0.0}),
        (NatFacts(unread={(V6, Backend.NFTABLES): Reason.NO_PERMISSION}), {}),
        (NatFacts(read=frozenset({(V6, Backend.NFTABLES)}), unread={(V6, Backend.IPTABLES_LEGACY): Reason.KERNEL}), {}),
        (NatFacts(), {}),
    ],
)
def test_a_pool_is_unmasqueraded_only_where_every_backend_could_be_read(
    nat: NatFacts, expected: Mapping[tuple[str, str], float]
) -> None:
    assert rows(with_facts(nat=nat), "nat_pool_masqueraded") == expected


def test_a_pool_that_asks_for_nothing_has_no_row() -> None:
    report = bad_day()
    pools = tuple(replace(pool, nat_outgoing=False) for pool in report.snapshot.inventory.pools or ())
    inventory = replace(report.snapshot.inventory, pools=pools)
    assert rows(replace(report, snapshot=replace(report.snapshot, inventory=inventory)), "nat_pool_masqueraded") == {}


def test_the_tunnel_and_its_peers_are_told_by_device() -> None:
    assert rows(bad_day(), "vxlan_up") == {("vxlan.calico",): 1.0, ("vxlan-v6.calico",): 1.0}
    assert ("vxlan-v6.calico", "4097", "4789", "ens3", "false") in rows(bad_day(), "vxlan_info")
    peers = rows(bad_day(), "vxlan_peers")
    assert peers["vxlan-v6.calico", "wrong_mac"] == 1.0
    assert peers["vxlan-v6.calico", "complete"] == 1.0
    assert peers["vxlan-v6.calico", "missing_fdb"] == 0.0


def test_bgp_peers_are_counted_where_there_should_be_some() -> None:
    assert rows(routed(bad_day(), missing=1), "bgp_peers") == {("established",): 1.0, ("missing",): 1.0}
    assert rows(bad_day(), "bgp_peers") == {}


def test_addresses_are_counted_by_their_worst_flag() -> None:
    assert rows(bad_day(), "host_addresses") == {
        ("IPv4", "usable"): 1.0,
        ("IPv6", "usable"): 1.0,
        ("IPv6", "dadfailed"): 1.0,
        ("IPv6", "tentative"): 0.0,
        ("IPv6", "deprecated"): 0.0,
    }


def test_accept_ra_is_told_of_links_that_lead_outside_and_not_of_pods_links() -> None:
    assert rows(bad_day(), "host_accept_ra") == {("ens3",): 2.0}


def test_what_the_kernel_did_not_tell_is_absent() -> None:
    report = with_facts()
    kernel = [m for m in ROUND if re.match(r"dualstack_(nat|vxlan|host|conntrack|udp6|kernel|kube_proxy)_", m.name)]
    assert len(kernel) > 12
    assert [m.name for m in kernel if m.exposed(FinishedRound(report, Totals()))] == []


def test_a_reader_that_ran_twice_succeeded_only_if_it_always_did() -> None:
    report = bad_day()
    readings = (
        ReaderStatus(reader="pods", success=True, seconds=0.25),
        ReaderStatus(reader="pods", success=False, seconds=0.5),
    )
    report = replace(report, snapshot=replace(report.snapshot, readings=readings))
    assert rows(report, "reader_success") == {("pods",): 0.0}
    assert rows(report, "reader_duration_seconds") == {("pods",): 0.75}
