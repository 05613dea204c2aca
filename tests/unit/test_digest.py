"""The digest: a node that has it decides as one that listed the cluster itself, and hostile bytes are refused."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import fields, replace
from ipaddress import ip_address
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.config.load import load_config
from exporter.config.schema import Config
from exporter.diagnosis.bgp import BgpPlan, bgp_plan
from exporter.diagnosis.expectation import families_expected
from exporter.diagnosis.felix import effective
from exporter.diagnosis.network import pod_network
from exporter.diagnosis.vxlan_peers import expect_peers
from exporter.digest.codec import CodecError, decode, encode
from exporter.digest.format import (
    ACCEPT,
    MAX_VALUES,
    MEDIA,
    READABLE,
    VERSION,
    DigestError,
    merge,
    negotiate,
    read_digest,
    write_digest,
)
from exporter.digest.projection import MAX_RESTRICTED, project, restrictions
from exporter.model.cause import Cause, Scope, Severity
from exporter.model.cluster.calico import BGPConfiguration, BGPPeer, VxlanMode
from exporter.model.cluster.inventory import Inventory, InventoryOrigin, ResourceKind
from exporter.model.cluster.node import Node
from exporter.model.cluster.policy import Policy, PolicyKind
from exporter.model.cluster.service import Service, ServicePort
from exporter.model.family import FAMILIES, Family
from exporter.model.reason import Reason
from exporter.model.report import CauseReport, Finding, Found
from exporter.model.subject import Subject
from exporter.plan.aaaa_questions import cluster_domain, random_label
from exporter.plan.family_support import under_policy
from exporter.plan.peer_pods import peer_pods
from exporter.plan.servers import known_servers
from exporter.plan.targets import inside
from tests.unit import recorded
from tests.unit.test_bgp_causes import BIRD

NOW = 1_800_000_000.0
DIGESTS = recorded.DATA.parent / "digest"
CONFIG: Config = load_config("", path="", environment={"NODE_NAME": "ra"}, hostname="ra")


def own_part(whole: Inventory, node: str) -> Inventory:
    """What a node with a digest lists itself."""
    return replace(
        Inventory(source=InventoryOrigin.KUBERNETES),
        pods=tuple(p for p in whole.pods or () if p.node == node),
        nodes=tuple(n for n in whole.nodes or () if n.name == node),
        unread={
            kind: Reason.NO_INVENTORY for kind in ResourceKind if kind not in {ResourceKind.PODS, ResourceKind.NODES}
        },
        synced=NOW,
    )


def through(whole: Inventory, causes: tuple[CauseReport, ...] = ()) -> Inventory:
    """The union of a node's own part with the digest of the whole, written and read."""
    return merge(own_part(whole, "ra"), read_digest(write_digest(whole, causes, NOW)))


@pytest.mark.parametrize("scenario", recorded.SCENARIOS)
def test_a_node_with_the_digest_decides_as_one_that_listed_the_cluster(scenario: str) -> None:
    whole = recorded.cluster(scenario)
    found = through(whole)
    assert inside(found, CONFIG, FAMILIES, NOW) == inside(whole, CONFIG, FAMILIES, NOW)
    assert known_servers(found, CONFIG, None) == known_servers(whole, CONFIG, None)
    assert families_expected(found, None) == families_expected(whole, None)
    assert cluster_domain(found, ()) == cluster_domain(whole, ())
    assert random_label(found, "ra", NOW) == random_label(whole, "ra", NOW)
    assert effective(found, "ra") == effective(whole, "ra")
    for device in ("vxlan-v6.calico", "vxlan.calico"):
        expected = expect_peers(whole, "ra", device)
        assert expected is not None
        assert expect_peers(found, "ra", device) == expected
    mine = {f"pod/{pod.key}" for pod in whole.local_pods("ra")}
    assert {each for each in under_policy(found) if each[0] in mine} == {
        each for each in under_policy(whole) if each[0] in mine
    }
    assert found.service_count_v6 == sum(any(a.version == 6 for a in s.cluster_ips) for s in whole.services or ())


def test_a_node_with_the_digest_expects_the_same_bgp_sessions() -> None:
    whole = recorded.cluster("healthy-dual-stack")
    whole = replace(
        whole,
        nodes=tuple(replace(node, route_reflector=node.name == "babel") for node in whole.nodes or ()),
        pools=tuple(replace(pool, vxlan_mode=VxlanMode.NEVER) for pool in whole.pools or ()),
        cni_signs=(BIRD,),
        bgp=(BGPConfiguration(name="default"),),
        bgp_peers=(BGPPeer(name="rr", peers=frozenset({"babel"})),),
    )
    plans = [bgp_plan(each, pod_network(each), "ra") for each in (whole, through(whole))]
    assert [[s.name for s in plan.sessions] for plan in plans if isinstance(plan, BgpPlan)] == [["babel", "anubis"]] * 2


def test_the_same_cluster_gives_the_same_bytes_whenever_it_is_written() -> None:
    whole = recorded.cluster("healthy-dual-stack")
    assert write_digest(whole, (), NOW) == write_digest(replace(whole, synced=NOW + 40), (), NOW + 40)


def test_times_of_changes_are_told_while_they_matter() -> None:
    nodes = (
        Node(name="new", created=NOW - 10, changed=NOW - 5),
        Node(name="old", created=NOW - 1e6, changed=NOW - 1e4),
    )
    told = project(Inventory(source=InventoryOrigin.KUBERNETES, nodes=nodes), NOW).nodes
    assert told is not None
    assert [(n.created, n.changed) for n in told] == [(NOW - 10, NOW - 5), (None, None)]


def test_what_was_not_read_stays_unread_with_its_reason() -> None:
    whole = Inventory(
        source=InventoryOrigin.KUBERNETES,
        nodes=(Node(name="ra"),),
        unread={ResourceKind.IP_POOLS: Reason.NO_PERMISSION},
    )
    found = through(whole)
    assert found.pools is None
    assert found.unread[ResourceKind.IP_POOLS] == "no_permission"
    assert found.policies is None
    assert found.service_count_v6 is None


def test_a_node_is_told_what_the_pods_of_the_others_show() -> None:
    """A node without pods of its own expects what its cluster role expects; an exporter of an older version ignores the
    field.
    """
    whole = replace(
        recorded.cluster("healthy-dual-stack"),
        services=(),
        service_cidrs=(),
        cluster_pod_cidrs=(),
        cluster_service_cidrs=(),
        cni=(),
    )
    whole = replace(whole, nodes=tuple(replace(each, pod_cidrs=()) for each in whole.nodes or ()))
    alone = replace(own_part(whole, "ra"), pods=())
    body = write_digest(whole, (), NOW)
    found = merge(alone, read_digest(body))
    assert found.pod_families == frozenset(FAMILIES)
    assert families_expected(found, None) == families_expected(whole, None) == dict.fromkeys(FAMILIES, True)
    document = json.loads(body)
    del document["inventory"]["pod_families"]
    older = merge(alone, read_digest(json.dumps(document).encode()))
    assert families_expected(older, None) == dict.fromkeys(FAMILIES), "an older cluster role leaves it open"


def test_a_node_is_told_where_to_dial_the_pods_of_the_others() -> None:
    whole = recorded.cluster("healthy-dual-stack")
    told = merge(own_part(whole, "ra"), read_digest(write_digest(whole, (), NOW)))
    others = {node.name for node in whole.nodes or ()} - {"ra"}
    assert {n: a for n, a in peer_pods(told).items() if n in others} == {
        n: a for n, a in peer_pods(whole).items() if n in others
    }


def test_without_a_digest_everything_but_the_node_s_own_is_awaited() -> None:
    found = merge(own_part(recorded.cluster("healthy-dual-stack"), "ra"), None)
    assert found.pods
    assert [n.name for n in found.nodes or ()] == ["ra"]
    assert set(found.unread.values()) == {"api_unavailable"}


def test_the_node_s_own_object_is_newer_than_the_digest_s() -> None:
    whole = recorded.cluster("healthy-dual-stack")
    own = own_part(whole, "ra")
    fresh = replace(own, nodes=(replace((own.nodes or ())[0], ready=False),))
    found = merge(fresh, read_digest(write_digest(whole, (), NOW)))
    node = found.node("ra")
    assert node is not None
    assert not node.ready
    assert len(found.nodes or ()) == len(whole.nodes or ())


def test_a_stale_cluster_makes_the_nodes_stale() -> None:
    whole = replace(recorded.cluster("healthy-dual-stack"), stale=True)
    assert through(whole).stale


# Found causes


def cause_report(
    cause: Cause, severity: Severity = Severity.WARNING, *, explained_by: Cause | None = None, subjects: int = 1
) -> CauseReport:
    finding = Finding(
        cause=cause,
        severity=severity,
        subjects=tuple(Subject(f"pool/p{i}") for i in range(subjects)),
        evidence=("evidence",),
        command="command",
    )
    return CauseReport(finding=finding, scope=Scope.CLUSTER, since=NOW, explained_by=explained_by)


def test_found_causes_come_through_if_they_may_explain() -> None:
    causes = (
        cause_report(Cause.FELIX_IPV6_OFF),
        cause_report(Cause.IPPOOL_NAT_OUTGOING_OFF, Severity.INFO),
        cause_report(Cause.SERVICE_AAAA_MISSING, explained_by=Cause.COREDNS_TEMPLATE_BLOCKS_AAAA),
        cause_report(Cause.COREDNS_TEMPLATE_BLOCKS_AAAA, Severity.CRITICAL),
    )
    found = read_digest(write_digest(recorded.cluster("healthy-dual-stack"), causes, NOW)).found
    assert found == (
        Found(cause=Cause.FELIX_IPV6_OFF, severity=Severity.WARNING, subjects=(Subject("pool/p0"),), elsewhere=True),
        Found(
            cause=Cause.COREDNS_TEMPLATE_BLOCKS_AAAA,
            severity=Severity.CRITICAL,
            subjects=(Subject("pool/p0"),),
            elsewhere=True,
        ),
    )


def test_only_what_the_cluster_role_judges_is_told_and_believed() -> None:
    """Another node's cause, of role all's own node or made up, explains nothing on this one."""
    node_causes = (cause_report(Cause.NODE_IPV6_DISABLED, Severity.CRITICAL), cause_report(Cause.FELIX_IPV6_OFF))
    body = write_digest(Inventory(source=InventoryOrigin.KUBERNETES), node_causes, NOW)
    assert [each["cause"] for each in json.loads(body)["found"]] == ["felix_ipv6_off"]
    forged = body.replace(b"felix_ipv6_off", b"node_ipv6_disabled")
    assert forged != body
    assert read_digest(forged).found == ()


def test_subjects_are_bounded() -> None:
    found = read_digest(
        write_digest(
            Inventory(source=InventoryOrigin.KUBERNETES), (cause_report(Cause.FELIX_IPV6_OFF, subjects=9000),), NOW
        )
    ).found
    assert len(found[0].subjects) == 500


def test_causes_of_a_newer_exporter_are_passed_over() -> None:
    document = json.loads(
        write_digest(Inventory(source=InventoryOrigin.KUBERNETES), (cause_report(Cause.FELIX_IPV6_OFF),), NOW)
    )
    document["found"].insert(0, {"cause": "of_next_year", "severity": "warning", "subjects": []})
    document["inventory"]["of_next_year"] = {"a": 1}
    read = read_digest(json.dumps(document).encode())
    assert [each.cause for each in read.found] == [Cause.FELIX_IPV6_OFF]


# Policies and Services


def test_restricted_pods_are_told_once_whatever_number_of_policies_selects_them() -> None:
    both = frozenset(FAMILIES)
    policies = (
        Policy(kind=PolicyKind.KUBERNETES, namespace="shop", name="a", selected=frozenset({"shop/web", "shop/db"}),
            restricts_egress=frozenset({Family.V6})),
        Policy(kind=PolicyKind.CALICO, namespace="shop", name="b", selected=frozenset({"shop/web"}),
            restricts_egress=both),
        Policy(kind=PolicyKind.KUBERNETES, namespace="locked", name="c", selects_all=True, restricts_egress=both),
        Policy(kind=PolicyKind.KUBERNETES, namespace="open", name="d", selects_all=True),
    )  # fmt: skip
    told = restrictions(policies)
    assert [(p.namespace, p.selects_all, sorted(p.selected), sorted(p.restricts_egress)) for p in told] == [
        ("locked", True, [], ["IPv4", "IPv6"]),
        ("", False, ["shop/web"], ["IPv4"]),
        ("", False, ["shop/db", "shop/web"], ["IPv6"]),
    ]


def test_too_many_restricted_pods_are_told_by_namespace() -> None:
    many = frozenset(f"n{i % 7}/p{i}" for i in range(MAX_RESTRICTED + 1))
    told = restrictions(
        [
            Policy(
                kind=PolicyKind.KUBERNETES,
                namespace="",
                name="x",
                selected=many,
                restricts_egress=frozenset({Family.V6}),
            )
        ]
    )
    assert {(p.namespace, p.selects_all) for p in told} == {(f"n{i}", True) for i in range(7)}


def test_services_behind_which_pods_may_listen_are_told_and_headless_or_ipv4_ones_are_not() -> None:
    def service(name: str, *ips: str, **more: Any) -> Service:
        addresses = tuple(map(ip_address, ips))
        return Service(
            namespace="shop",
            name=name,
            cluster_ips=addresses,
            selector={"app": name},
            ports=(ServicePort(name="", port=80),),
            **more,
        )

    services = (service("both", "10.0.0.1", "fd00::1"), service("four", "10.0.0.2"), service("none"))
    told = project(Inventory(source=InventoryOrigin.KUBERNETES, services=services), NOW)
    assert [s.name for s in told.services or ()] == ["both"]
    assert told.service_count_v6 == 1


# The format


def test_the_newest_format_that_both_sides_know_is_written() -> None:
    assert READABLE == (VERSION,)
    assert negotiate(ACCEPT) == VERSION
    assert negotiate("*/*") == negotiate("") == VERSION
    three, two, one = (MEDIA.format(n) for n in (3, 2, 1))
    assert negotiate(f"{two}, {one}", offered=(3, 2)) == 2
    assert negotiate(f"{three}, {two}", offered=(2, 1)) == 2
    assert negotiate(f"{one}", offered=(3, 2)) is None


@pytest.mark.parametrize("version", READABLE)
def test_a_digest_as_the_first_exporter_of_each_format_wrote_it_is_read_and_decided_by(version: int) -> None:
    """Every format that is read, N-1 as well, has such a record: raising VERSION without keeping the old one fails
    here.
    """
    body = (DIGESTS / f"v{version}.json").read_bytes()
    assert json.loads(body)["version"] == version
    digest = read_digest(body)
    assert digest.found == (
        Found(cause=Cause.FELIX_IPV6_OFF, severity=Severity.WARNING, subjects=(Subject("node/ra"),), elsewhere=True),
    )
    whole = recorded.cluster("healthy-dual-stack")
    found = merge(own_part(whole, "ra"), digest)
    assert inside(found, CONFIG, FAMILIES, NOW) == inside(whole, CONFIG, FAMILIES, NOW)
    assert known_servers(found, CONFIG, None) == known_servers(whole, CONFIG, None)
    assert families_expected(found, None) == families_expected(whole, None)
    assert random_label(found, "ra", NOW) == random_label(whole, "ra", NOW)
    for device in ("vxlan-v6.calico", "vxlan.calico"):
        expected = expect_peers(whole, "ra", device)
        assert expected is not None
        assert expect_peers(found, "ra", device) == expected


def test_what_is_written_is_the_newest_format() -> None:
    assert json.loads(write_digest(recorded.cluster("single-stack-v4"), (), NOW))["version"] == max(READABLE)


def test_every_value_of_the_inventory_survives_the_format() -> None:
    whole = recorded.cluster("healthy-dual-stack-kubeadm")
    again = decode(Inventory, json.loads(json.dumps(encode(whole))))
    for each in fields(Inventory):
        assert getattr(again, each.name) == getattr(whole, each.name), each.name


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{}", b"[]", b"null", b'{"version":1}', b'{"version":2,"inventory":{"source":"x"},"found":[]}',
        b"[" * 100_000,
        b'{"version":1,"inventory":{"source":7},"found":[]}',
        b'{"version":1,"inventory":{"source":"digest","nodes":[{"name":"a\\nb"}]},"found":[]}',
        b'{"version":1,"inventory":{"source":"digest","nodes":[{}]},"found":[]}',
        b'{"version":1,"inventory":{"source":"digest","nodes":7},"found":[]}',
        b'{"version":1,"inventory":{"source":"digest","synced":NaN},"found":[]}',
        b'{"version":1,"inventory":{"source":"digest","pools":[{"name":"p","cidr":"10.0.0.0/99"}]},"found":[]}',
        b'{"version":1,"inventory":{"source":"digest"},"found":[{"cause":[],"subjects":7}]}',
        b'{"version":1,"inventory":{"source":"digest"},"found":[{"cause":"felix_ipv6_off","severity":"x","subjects":[]}]}',
    ],
)  # fmt: skip
def test_bytes_that_are_no_digest_are_refused_in_one_line(body: bytes) -> None:
    with pytest.raises(DigestError) as refused:
        read_digest(body)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("part", [b"[],", b"{},", b"1,", b'"ab",', b'{"name":"a"},'])
def test_a_digest_that_would_fill_the_memory_is_refused_unread(part: bytes) -> None:
    body = b'{"version":1,"inventory":{"source":"digest","nodes":[' + part * (MAX_VALUES + 1) + b'{}]},"found":[]}'
    with pytest.raises(DigestError, match=r"more than \d+ values|larger than"):
        read_digest(body)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=200, deadline=None)
@given(st.data(), json_values)
def test_a_digest_with_any_value_anywhere_is_read_or_refused(data: st.DataObject, junk: Any) -> None:
    document = json.loads(write_digest(recorded.cluster("single-stack-v4"), (cause_report(Cause.FELIX_IPV6_OFF),), NOW))
    at: Any = document
    while True:
        keys = list(at) if isinstance(at, dict) else list(range(len(at)))
        key = data.draw(st.sampled_from(keys))
        if not isinstance(at[key], dict | list) or not at[key] or data.draw(st.booleans()):
            at[key] = junk
            break
        at = at[key]
    with suppress(DigestError):
        read_digest(json.dumps(document).encode())


def test_a_type_that_json_cannot_spell_is_a_codec_error() -> None:
    with pytest.raises(CodecError):
        decode(Node, {"name": "x" * 2000})
    with pytest.raises(CodecError):
        decode(Node, {"name": "x", "ready": 1})
