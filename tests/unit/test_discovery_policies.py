"""Policies of every kind: in which families they restrict egress, what they leave out, and whom they select."""

from __future__ import annotations

from typing import Any

import pytest

from exporter.inventory.inventory_builder import build_inventory
from exporter.inventory.parse.objects import parse_object
from exporter.model.cluster.inventory import InventoryOrigin, ResourceKind
from exporter.model.cluster.pod import Namespace, Pod
from exporter.model.cluster.policy import Gap, Policy
from exporter.model.family import Family
from tests.unit import recorded

V4, V6 = Family.V4, Family.V6
NONE: frozenset[Family] = frozenset()
ALL = frozenset({V4, V6})
WEB, DB = {"app": "web"}, {"app": "db"}
PODS = (
    Pod(namespace="shop", name="web-1", labels=WEB, service_account="default"),
    Pod(namespace="shop", name="web-2", labels=WEB, service_account="default"),
    Pod(namespace="shop", name="db-1", labels=DB, service_account="default"),
    Pod(namespace="shop", name="host", labels=WEB, host_network=True),
    Pod(namespace="blog", name="web-1", labels=WEB, service_account="writer"),
    Pod(namespace="blog", name="bare", service_account="default"),
)
WRITERS, OTHERS = ["blog/web-1"], ["blog/bare", "shop/db-1", "shop/web-1", "shop/web-2"]
NAMESPACES = (Namespace(name="shop", labels={"team": "a"}), Namespace(name="blog", labels={"team": "b"}))


def policy(version: str, kind: str, spec: Any, name: str = "p") -> Policy:
    """The policy as the inventory has it, among PODS."""
    source = {"apiVersion": version, "kind": kind, "metadata": {"name": name, "namespace": "shop"}, "spec": spec}
    objects = {
        ResourceKind.POLICIES: [parse_object(ResourceKind.POLICIES, source)],
        ResourceKind.PODS: PODS,
        ResourceKind.NAMESPACES: NAMESPACES,
    }
    policies = build_inventory(objects, source=InventoryOrigin.FILE).policies
    assert policies is not None
    return policies[0]


def kubernetes(**spec: Any) -> Policy:
    return policy("networking.k8s.io/v1", "NetworkPolicy", {"podSelector": {}, **spec})


def cidr(net: str, *excepted: str) -> dict[str, Any]:
    return {"ipBlock": {"cidr": net, "except": list(excepted)}}


V4_WORLD, V6_WORLD = cidr("0.0.0.0/0"), cidr("::/0")
DENIED6, OPEN6 = ("egress", V6, Gap.DENIED), ("egress", V6, Gap.OPEN)
REFUSED6 = ("egress", V6, Gap.REFUSED)


@pytest.mark.parametrize(
    ("spec", "restricts", "gaps"),
    [
        ({"policyTypes": ["Egress"]}, ALL, ()),
        ({"policyTypes": ["Egress"], "egress": [{}]}, NONE, ()),
        ({"egress": [{}]}, NONE, ()),  # types absent: Egress by the section
        ({"policyTypes": ["Ingress"], "egress": [{"to": [V4_WORLD]}]}, NONE, ()),
        ({"egress": [{"to": [V4_WORLD]}]}, {V6}, (DENIED6,)),
        ({"egress": [{"to": [V4_WORLD, V6_WORLD]}]}, NONE, ()),
        ({"egress": [{"to": [V4_WORLD]}, {"to": [V6_WORLD]}]}, NONE, ()),
        ({"egress": [{"to": [V4_WORLD]}, {}]}, NONE, ()),
        ({"egress": [{"to": [V4_WORLD], "ports": [{"port": 443}]}]}, ALL, (DENIED6,)),
        ({"egress": [{"to": [cidr("0.0.0.0/0", "10.0.0.0/8"), cidr("::/0", "fc00::/7")]}]}, ALL, ()),
        ({"egress": [{"to": [cidr("0.0.0.0/0", "10.0.0.0/8"), V6_WORLD]}]}, {V4}, (OPEN6,)),
        ({"egress": [{"to": [cidr("0.0.0.0/0", "10.0.0.0/8"), cidr("2001:db8::/32")]}]}, ALL, ()),
        ({"egress": [{"to": [{"podSelector": {}}]}]}, ALL, ()),
        ({"egress": [{"to": [{"podSelector": {}}, cidr("192.0.2.1/32")]}]}, ALL, (DENIED6,)),
        ({"ingress": [{"from": [cidr("2001:db8::/32")]}]}, NONE, (("ingress", V4, Gap.DENIED),)),
        ({"egress": None, "ingress": None, "policyTypes": None}, NONE, ()),
    ],
)
def test_a_network_policy_of_kubernetes(spec: dict[str, Any], restricts: frozenset[Family], gaps: Any) -> None:
    found = kubernetes(**spec)
    assert (found.restricts_egress, found.gaps) == (restricts, gaps)


def allow(**destination: Any) -> dict[str, Any]:
    return {"action": "Allow", "destination": destination}


def deny(**destination: Any) -> dict[str, Any]:
    return {"action": "Deny", "destination": destination}


@pytest.mark.parametrize(
    ("egress", "restricts", "gaps"),
    [
        ([], ALL, ()),
        ([{"action": "Allow"}], NONE, ()),
        ([{"action": "Log"}, {"action": "Pass"}], NONE, ()),
        ([{"action": "Allow", "protocol": "TCP"}], ALL, ()),
        ([{"action": "Allow", "ipVersion": 4}], {V6}, ()),
        ([{"action": "Allow", "ipVersion": 4}, {"action": "Allow", "ipVersion": 6}], NONE, ()),
        ([allow(nets=["0.0.0.0/0"])], {V6}, (DENIED6,)),
        ([allow(nets=["0.0.0.0/0"]), allow(nets=["::/0"])], NONE, ()),
        ([allow(nets=["192.0.2.0/24"]), {"action": "Allow", "ipVersion": 6}], {V4}, ()),
        ([allow(notNets=["10.0.0.0/8"])], {V4}, (OPEN6,)),
        ([deny(nets=["10.0.0.0/8"]), {"action": "Allow"}], {V4}, (OPEN6,)),
        ([deny(nets=["10.0.0.0/8", "fc00::/7"]), {"action": "Allow"}], ALL, ()),
        ([deny(selector="app == 'db'"), {"action": "Allow"}], ALL, ()),
        ([{"action": "Allow"}, deny(nets=["10.0.0.0/8"])], NONE, (OPEN6,)),
        ([allow(selector="app == 'db'"), allow(nets=["10.0.0.0/8"])], ALL, (DENIED6,)),
    ],
)
def test_a_policy_of_calico_goes_by_the_order_of_its_rules(
    egress: Any, restricts: frozenset[Family], gaps: Any
) -> None:
    found = policy("crd.projectcalico.org/v1", "NetworkPolicy", {"types": ["Egress"], "egress": egress})
    assert (found.restricts_egress, found.gaps) == (restricts, gaps)


@pytest.mark.parametrize(
    ("spec", "restricts", "gaps"),
    [
        ({"egress": [{}]}, ALL, ()),
        ({"egress": [{"toEntities": ["all"]}]}, NONE, ()),
        ({"egress": [{"toEntities": ["cluster", "world"]}]}, NONE, ()),
        ({"egress": [{"toEntities": ["cluster", "world-ipv4"]}]}, {V6}, ()),
        ({"egress": [{"toEntities": ["all"], "toPorts": [{"ports": []}]}]}, ALL, ()),
        ({"egress": [{"toCIDR": ["0.0.0.0/0"]}]}, ALL, (DENIED6,)),
        ({"egress": [{"toCIDR": ["0.0.0.0/0", "::/0"]}]}, ALL, ()),
        (
            {"egress": [{"toCIDRSet": [{"cidr": "0.0.0.0/0", "except": ["10.0.0.0/8"]}, {"cidr": "::/0"}]}]},
            ALL,
            (OPEN6,),
        ),
        ({"egressDeny": [{"toCIDR": ["10.0.0.0/8"]}]}, ALL, (OPEN6,)),
        ({"egressDeny": [{"toCIDR": ["::/0"]}]}, ALL, (REFUSED6,)),
        ({"egressDeny": [{"toEntities": ["world-ipv6"]}]}, ALL, (REFUSED6,)),
        ({"egressDeny": [{"toEntities": ["world"]}]}, ALL, ()),
        ({"egressDeny": [{"toCIDR": ["::/0"], "toPorts": [{"ports": [{"port": "22"}]}]}]}, ALL, ()),
        ({"enableDefaultDeny": {"egress": False}, "egress": [{"toCIDR": ["10.0.0.0/8", "fc00::/7"]}]}, NONE, ()),
        ({"ingress": [{"fromEntities": ["cluster"]}]}, NONE, ()),
    ],
)
def test_a_policy_of_cilium(spec: Any, restricts: frozenset[Family], gaps: Any) -> None:
    found = policy("cilium.io/v2", "CiliumNetworkPolicy", {"endpointSelector": {}, **spec})
    assert (found.restricts_egress, found.gaps) == (restricts, gaps)


def rule(action: str, version: int | None = None, **rest: Any) -> dict[str, Any]:
    return {"action": action, **({"ipVersion": version} if version else {}), **rest}


ALLOW, DENY6, DENY4 = rule("Allow"), rule("Deny", 6), rule("Deny", 4)


@pytest.mark.parametrize(
    ("egress", "restricts", "gaps"),
    [
        ([DENY6, ALLOW], {V6}, (REFUSED6,)),
        ([DENY4, ALLOW], {V4}, (("egress", V4, Gap.REFUSED),)),
        ([DENY6, DENY4], ALL, ()),  # both alike
        ([rule("Deny")], ALL, ()),
        ([ALLOW, DENY6], NONE, ()),  # no packet gets there
        ([rule("Log", 6), ALLOW], NONE, ()),
        ([rule("Allow", 6), DENY6, rule("Allow", 4)], NONE, ()),
        ([deny(nets=["::/0"]), ALLOW], {V6}, (REFUSED6,)),
        ([deny(nets=["::/0", "0.0.0.0/0"]), ALLOW], ALL, ()),
        ([rule("Deny", 6, protocol="UDP"), ALLOW], {V6}, ()),  # a part of it
        ([rule("Deny", 6, destination={"ports": [5355]}), ALLOW], {V6}, ()),
        ([rule("Deny", 6, destination={"selector": "app == 'db'"}), ALLOW], {V6}, ()),
        ([rule("Deny", 6, source={"ports": [5355]}), ALLOW], {V6}, ()),
        ([rule("Pass", 4), DENY6], {V6}, (REFUSED6,)),
    ],
)
@pytest.mark.parametrize("version", ["crd.projectcalico.org/v1", "projectcalico.org/v3"])
@pytest.mark.parametrize("kind", ["NetworkPolicy", "GlobalNetworkPolicy"])
def test_a_calico_rule_that_denies_one_version_is_said(
    egress: Any, restricts: frozenset[Family], gaps: Any, version: str, kind: str
) -> None:
    found = policy(version, kind, {"types": ["Egress"], "egress": egress})
    assert (found.restricts_egress, found.gaps) == (restricts, gaps)


def test_a_calico_rule_that_denies_one_version_inwards_restricts_no_egress() -> None:
    found = policy("crd.projectcalico.org/v1", "NetworkPolicy", {"ingress": [DENY6, ALLOW]})
    assert (found.restricts_egress, found.gaps) == (NONE, (("ingress", V6, Gap.REFUSED),))
    from_a_range = {"action": "Deny", "source": {"nets": ["::/0"]}, "destination": {"ports": [22]}}
    found = policy("crd.projectcalico.org/v1", "NetworkPolicy", {"ingress": [from_a_range, ALLOW]})
    assert found.gaps == ()


@pytest.mark.parametrize("only_for_hosts", ["doNotTrack", "preDNAT"])
def test_a_calico_policy_of_host_endpoints_alone_is_about_no_pod(only_for_hosts: str) -> None:
    spec = {only_for_hosts: True, "applyOnForward": True, "egress": [DENY6]}
    source = {"apiVersion": "projectcalico.org/v3", "kind": "GlobalNetworkPolicy", "metadata": {"name": "p"}}
    assert parse_object(ResourceKind.POLICIES, {**source, "spec": spec}) is None


def admin(action: str, *peers: Any, **rest: Any) -> dict[str, Any]:
    return {"action": action, "to": list(peers), **rest}


@pytest.mark.parametrize(
    ("egress", "restricts", "gaps"),
    [
        ([], NONE, ()),
        ([admin("Deny", {"networks": ["10.0.0.0/8"]})], {V4}, (OPEN6,)),
        ([admin("Deny", {"networks": ["10.0.0.0/8", "fc00::/7"]})], ALL, ()),
        ([admin("Deny", {"namespaces": {}})], ALL, ()),
        ([admin("Allow", {"networks": ["0.0.0.0/0"]}), admin("Deny", {"networks": ["10.0.0.0/8"]})], NONE, (OPEN6,)),
        (
            [admin("Allow", {"networks": ["0.0.0.0/0"]}, ports=[{}]), admin("Deny", {"networks": ["10.0.0.0/8"]})],
            {V4},
            (OPEN6,),
        ),
    ],
)
def test_an_admin_policy_only_takes_away(egress: Any, restricts: frozenset[Family], gaps: Any) -> None:
    found = policy(
        "policy.networking.k8s.io/v1alpha1", "AdminNetworkPolicy", {"subject": {"namespaces": {}}, "egress": egress}
    )
    assert (found.restricts_egress, found.gaps) == (restricts, gaps)


CLUSTER = ("policy.networking.k8s.io/v1alpha2", "ClusterNetworkPolicy")


@pytest.mark.parametrize(
    ("egress", "restricts", "gaps"),
    [
        ([], NONE, ()),
        ([admin("Deny", {"networks": ["10.0.0.0/8"]}, protocols=[{"tcp": {}}])], {V4}, (OPEN6,)),
        ([admin("Deny", {"networks": ["::/0"]})], {V6}, (REFUSED6,)),
        ([admin("Deny", {"networks": ["::/0"]}, protocols=[{"tcp": {}}])], {V6}, ()),
        ([admin("Accept", {"networks": ["::/0"]}), admin("Deny", {"networks": ["::/0"]})], NONE, ()),
        ([admin("Deny", {"pods": {"podSelector": {}}})], ALL, ()),
        ([admin("Accept", {"networks": ["0.0.0.0/0"]}), admin("Deny", {"networks": ["10.0.0.0/8"]})], NONE, (OPEN6,)),
        ([admin("Pass", {"networks": ["0.0.0.0/0", "::/0"]}), admin("Deny", {"pods": {"podSelector": {}}})], NONE, ()),
        (
            [
                admin("Accept", {"networks": ["0.0.0.0/0"]}, protocols=[{"udp": {"destinationPort": {"number": 53}}}]),
                admin("Deny", {"networks": ["10.0.0.0/8"]}),
            ],
            {V4},
            (OPEN6,),
        ),
        ([{"action": "Deny", "to": 7, "protocols": "tcp"}, None], NONE, ()),
    ],
)
@pytest.mark.parametrize("tier", ["Admin", "Baseline"])
def test_a_cluster_network_policy_is_read_as_the_admin_kinds_are(
    egress: Any, restricts: frozenset[Family], gaps: Any, tier: str
) -> None:
    spec = {"tier": tier, "priority": 10, "subject": {"namespaces": {}}, "egress": egress}
    found = policy(*CLUSTER, spec)
    assert (found.subject, found.restricts_egress, found.gaps) == ("policy/p", restricts, gaps)


CALICO_GLOBAL, CILIUM = (
    ("projectcalico.org/v3", "GlobalNetworkPolicy"),
    ("cilium.io/v2", "CiliumClusterwideNetworkPolicy"),
)
CALICO = ("crd.projectcalico.org/v1", "NetworkPolicy")
EGRESS = {"types": ["Egress"]}


@pytest.mark.parametrize(
    ("version", "kind", "spec", "selected"),
    [
        ("networking.k8s.io/v1", "NetworkPolicy", {"podSelector": {"matchLabels": WEB}, "policyTypes": ["Egress"]},
            ["shop/web-1", "shop/web-2"]),
        ("networking.k8s.io/v1", "NetworkPolicy", {"podSelector": {}, "policyTypes": ["Egress"]},
            ["shop/db-1", "shop/web-1", "shop/web-2"]),
        (*CALICO, {"selector": "app != 'db'", **EGRESS}, ["shop/web-1", "shop/web-2"]),
        (*CALICO_GLOBAL, {"selector": "all()", **EGRESS},
            ["blog/bare", "blog/web-1", "shop/db-1", "shop/web-1", "shop/web-2"]),
        (*CALICO_GLOBAL, {"selector": "app == 'web'", "namespaceSelector": "team == 'b'", **EGRESS}, ["blog/web-1"]),
        (*CALICO_GLOBAL, {"namespaceSelector": "projectcalico.org/name == 'blog'", **EGRESS},
            ["blog/bare", "blog/web-1"]),
        (*CALICO_GLOBAL, {"selector": "projectcalico.org/namespace not in {'shop'}", **EGRESS},
            ["blog/bare", "blog/web-1"]),
        (*CALICO_GLOBAL, {"selector": "has(app) && !(app in {'web'})", **EGRESS}, ["shop/db-1"]),
        (*CALICO_GLOBAL, {"selector": "app == 'db' || projectcalico.org/serviceaccount == 'writer'", **EGRESS},
            ["blog/web-1", "shop/db-1"]),
        (*CALICO_GLOBAL, {"selector": "app == 'db' || app == 'web'", **EGRESS},
            ["blog/web-1", "shop/db-1", "shop/web-1", "shop/web-2"]),
        (*CALICO_GLOBAL, {"serviceAccountSelector": "projectcalico.org/name == 'writer'", **EGRESS}, WRITERS),
        (*CALICO_GLOBAL, {"serviceAccountSelector": "!(projectcalico.org/name == 'writer')", **EGRESS}, OTHERS),
        (*CALICO_GLOBAL,
            {"serviceAccountSelector": "projectcalico.org/name in {'x', 'writer'} && !has(role)", **EGRESS}, WRITERS),
        (*CALICO_GLOBAL, {"serviceAccountSelector": "!(projectcalico.org/name == 'writer' && has(role))", **EGRESS},
            WRITERS + OTHERS),
        (*CALICO_GLOBAL, {"serviceAccountSelector": "role == 'db'", **EGRESS}, WRITERS + OTHERS),  # not read: it may be
        (*CALICO_GLOBAL,
            {"serviceAccountSelector": "role == 'db' && projectcalico.org/name == 'writer'",
             "selector": "app == 'web'", **EGRESS}, WRITERS),
        (*CALICO, {"serviceAccountSelector": "projectcalico.org/name == 'writer'", **EGRESS}, []),
        (*CALICO, {"serviceAccountSelector": "all()", **EGRESS}, ["shop/db-1", "shop/web-1", "shop/web-2"]),
        (*CALICO_GLOBAL, {"selector": "pcns.team == 'b'", **EGRESS}, ["blog/bare", "blog/web-1"]),
        (*CALICO_GLOBAL, {"selector": "global()", **EGRESS}, []),
        (*CILIUM,
            {"endpointSelector": {"matchLabels": {"k8s:app": "web", "k8s:io.kubernetes.pod.namespace": "blog"}},
             "egress": [{}]}, ["blog/web-1"]),
        (*CILIUM, {"endpointSelector": {"matchLabels": {"io.cilium.k8s.namespace.labels.team": "b"}}, "egress": [{}]},
            ["blog/bare", "blog/web-1"]),
        ("policy.networking.k8s.io/v1alpha1", "BaselineAdminNetworkPolicy",
         {"subject": {"pods": {"namespaceSelector": {"matchLabels": {"team": "a"}},
             "podSelector": {"matchLabels": DB}}},
          "egress": [admin("Deny", {"pods": {}})]}, ["shop/db-1"]),
        (*CLUSTER,
         {"tier": "Admin", "priority": 1, "subject": {"pods": {"podSelector": {"matchLabels": WEB}}},
          "egress": [admin("Deny", {"networks": ["0.0.0.0/0", "::/0"]})]},
         ["blog/web-1", "shop/web-1", "shop/web-2"]),
        (*CLUSTER,
         {"tier": "Baseline", "priority": 1, "subject": {"namespaces": {"matchLabels": {"team": "b"}}},
          "egress": [admin("Deny", {"networks": ["0.0.0.0/0", "::/0"]})]}, ["blog/bare", "blog/web-1"]),
    ],
)  # fmt: skip
def test_a_policy_selects_the_pods_its_author_means(version: str, kind: str, spec: Any, selected: list[str]) -> None:
    found = policy(version, kind, spec)
    assert found.restricts_egress
    assert sorted(pod.key for pod in PODS if found.selects(pod)) == sorted(selected)


def test_a_cilium_policy_of_nodes_selects_no_pod_and_restricts_none() -> None:
    found = policy(*CILIUM, {"nodeSelector": {}, "egress": [{}]})
    assert not found.restricts_egress
    assert not any(found.selects(pod) for pod in PODS)


def test_a_kubernetes_policy_seen_through_calicos_api_counts_once() -> None:
    source = {
        "apiVersion": "projectcalico.org/v3",
        "kind": "NetworkPolicy",
        "metadata": {"name": "knp.default.p", "namespace": "shop"},
    }
    assert parse_object(ResourceKind.POLICIES, source) is None


def test_the_recorded_policy_of_ipv4_alone_shuts_ipv6_out() -> None:
    objects = {
        ResourceKind.POLICIES: [
            parse_object(ResourceKind.POLICIES, item) for item in recorded.listed("networkpolicies")
        ]
    }
    policies = {each.name: each for each in build_inventory(objects, source=InventoryOrigin.FILE).policies or ()}
    assert policies["egress-v4-only"].gaps == (DENIED6,)
    assert [name for name, each in policies.items() if each.gaps] == ["egress-v4-only"]
