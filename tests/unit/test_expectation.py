"""Which families a cluster is meant to have: as configured, else as it names them, and unknown where it could not be read."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from exporter.diagnosis.expectation import families_expected
from exporter.diagnosis.felix import effective
from exporter.model.calico import CalicoNode, Felix, FelixConfiguration
from exporter.model.component import CniConfig
from exporter.model.family import Family
from exporter.model.inventory import NO_INVENTORY, Inventory, Kind
from exporter.model.node import Node
from exporter.model.pod import Pod
from exporter.model.service import Service, ServiceCIDR
from tests.unit.cluster_scene import V4, V6, changed, pool

NOTHING = Inventory(
    source="kubernetes", nodes=(), pods=(), services=(), service_cidrs=(), pools=(), cni=(), unread={}
)  # everything was read, and names no family


def test_configuration_decides_alone() -> None:
    assert families_expected(NO_INVENTORY, (V6,)) == {V4: False, V6: True}
    assert families_expected(NOTHING, (V4, V6)) == {V4: True, V6: True}


def test_without_inventory_nothing_is_known() -> None:
    assert families_expected(NO_INVENTORY, None) == {V4: None, V6: None}


def test_what_was_read_whole_and_names_no_family_has_none() -> None:
    assert families_expected(NOTHING, None) == {V4: False, V6: False}


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"pools": (pool("x", "fd01::/48"),)}, V6),
        ({"nodes": (Node("ra", pod_cidrs=(ip_network("fd01::/64"),)),)}, V6),
        ({"service_cidrs": (ServiceCIDR("x", (ip_network("fd98::/108"),)),)}, V6),
        ({"services": (Service("a", "b", cluster_ips=(ip_address("10.0.0.1"),)),)}, V4),
        ({"cluster_pod_cidrs": (ip_network("fd01::/48"),)}, V6),
        ({"cluster_service_cidrs": (ip_network("10.96.0.0/12"),)}, V4),
        ({"cni": (CniConfig("x", "calico", assign_ipv4=False, assign_ipv6=True),)}, V6),
        ({"pods": (Pod("a", "b", ips=(ip_address("fd01::1"),)),)}, V6),
    ],
)
def test_each_of_these_names_a_family(changes: dict[str, Any], named: Family) -> None:
    assert families_expected(replace(NOTHING, **changes), None) == {named: True, named.other: False}


@pytest.mark.parametrize(
    "changes",
    [
        {"pools": (pool("x", "fd01::/48", disabled=True),)},
        {"pods": (Pod("a", "b", ips=(ip_address("2001:db8::1"),), host_network=True),)},  # the node's own address
        {"nodes": (Node("ra", internal_ips=(ip_address("2001:db8::1"),)),)},
        {"cni": (CniConfig("x", "cilium-cni", assign_ipv4=True, assign_ipv6=True),)},
    ],
)
def test_these_name_none(changes: dict[str, Any]) -> None:
    assert families_expected(replace(NOTHING, **changes), None) == {V4: False, V6: False}


@pytest.mark.parametrize("field", ["nodes", "pods", "pools", "cni"])
def test_what_was_not_read_leaves_a_family_unknown(field: str) -> None:
    unread: dict[str, Any] = {field: None}
    assert families_expected(replace(NOTHING, **unread), None) == {V4: None, V6: None}


def test_services_stand_for_ranges_that_older_clusters_have_no_object_for() -> None:
    assert families_expected(replace(NOTHING, service_cidrs=None), None)[V6] is False
    assert families_expected(replace(NOTHING, service_cidrs=None, services=None), None)[V6] is None


def test_pools_are_no_question_where_calico_is_not() -> None:
    absent = replace(NOTHING, pools=None, unread={Kind.IP_POOLS: "not_applicable"})
    assert families_expected(absent, None)[V6] is False


def test_felix_settings_are_merged_for_a_node() -> None:
    objects = (
        FelixConfiguration(
            "default", Felix(vxlan_vni=4097, vxlan_port=4790, bpf_enabled=False, interface_prefix="cali")
        ),
        FelixConfiguration("node.ra", Felix(vxlan_vni=5000)),
        FelixConfiguration("node.babel", Felix(vxlan_vni=6000)),
    )
    env = CalicoNode(
        "kube-system",
        {"FELIX_VXLANPORT": "8472", "FELIX_BPFENABLED": "TRUE", "FELIX_VXLANVNI": "x", "FELIX_INTERFACEPREFIX": " "},
    )
    assert effective(changed(felix=objects, calico_node=env), "ra") == Felix(
        vxlan_vni=5000, vxlan_port=8472, bpf_enabled=True, interface_prefix="cali"
    )
    assert effective(NO_INVENTORY, "ra") == Felix()
