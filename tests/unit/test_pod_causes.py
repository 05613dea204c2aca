"""Each pod cause: when it holds, each case in which it does not, and which of several comes first."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address, ip_interface, ip_network
from typing import Any

import pytest

from exporter.diagnosis.rules.judging import rules_of
from exporter.diagnosis.rules.pod import pod
from exporter.model.cause import Cause, Severity
from exporter.model.cluster.pod import ContainerPort, Namespace
from exporter.model.cluster.service import ServicePort
from exporter.model.cni.profile import Cni, CniSign, Place
from exporter.model.facts import AddressFact, ListeningSocket, PodFacts, Reader, ReaderStatus
from exporter.model.reason import Reason
from exporter.model.report import PodView
from exporter.model.vantage import PodState, Vantage
from exporter.plan.family_support import unsupported_families
from tests.unit.cluster_scene import POOL4, POOL6, service
from tests.unit.node_scene import (
    BORN,
    DB,
    POD_CONF,
    V4,
    V6,
    WEB,
    cluster,
    holding,
    inside,
    namespace,
    node_view,
    only,
    said,
)

STATES = tuple(cause for cause in rules_of(pod) if cause is not Cause.POD_LISTENS_IPV4_ONLY)
MINE = "fd01:0:0:13::2"


def held(*interfaces: str, **flags: Any) -> tuple[AddressFact, ...]:
    """Addresses of the pod; flags are those of the IPv6 ones."""
    made = [
        AddressFact(link="eth0", interface=ip_interface(i), scope="link" if i.startswith("fe80") else "global")
        for i in interfaces
    ]
    return tuple(replace(a, **flags) if a.family is V6 else a for a in made)


HELD4 = "10.1.13.2/32"
NO_IPV6 = namespace(addresses=held(HELD4), routes=POD_CONF[:1])


@pytest.mark.parametrize(
    ("facts", "cause", "evidence"),
    [
        (namespace(), None, ""),
        (namespace(disable_ipv6=True), Cause.POD_IPV6_DISABLED, "disable_ipv6 = 1"),
        (NO_IPV6, Cause.POD_IPV6_MISSING, "no global IPv6 address"),
        (namespace(addresses=held(HELD4, "fe80::1/64")), Cause.POD_IPV6_MISSING, "no global IPv6 address"),
        (namespace(addresses=held(HELD4, f"{MINE}/128", tentative=True)), Cause.POD_IPV6_ADDRESS_UNUSABLE, "tentative"),
        (namespace(addresses=held(HELD4, f"{MINE}/128", dadfailed=True)), Cause.POD_IPV6_ADDRESS_UNUSABLE, "dadfailed"),
        (namespace(addresses=held(HELD4, "fd01:0:0:13::99/128")), Cause.POD_IP_MISMATCH, MINE),
        (namespace(addresses=held("10.1.13.9/32", f"{MINE}/128")), Cause.POD_IP_MISMATCH, "10.1.13.2"),
        (namespace(routes=POD_CONF[:1]), Cause.POD_NO_IPV6_DEFAULT_ROUTE, "no ::/0"),
        # Of several the first.
        (replace(NO_IPV6, disable_ipv6=True), Cause.POD_IPV6_DISABLED, "disable_ipv6"),
        (namespace(addresses=held(HELD4, "fd01:0:0:13::99/128", tentative=True), routes=()),
            Cause.POD_IPV6_ADDRESS_UNUSABLE, "tentative"),
        (namespace(addresses=held(HELD4, "fd01:0:0:13::99/128"), routes=()), Cause.POD_IP_MISMATCH, MINE),
    ],
)  # fmt: skip
def test_the_first_thing_that_is_wrong_in_a_pod(facts: PodFacts, cause: Cause | None, evidence: str) -> None:
    seen = node_view(pods=[inside("web", facts), inside("db")])
    assert holding(STATES, seen) == ({} if cause is None else {cause: Severity.WARNING})
    if cause is not None:
        found = only(cause, seen)
        assert found.subjects == ("pod/default/web",)
        assert evidence in found.evidence[0]
        assert found.command == "kubectl exec -n default web -- ip -6 address"


OTHER_LINK = replace(held(f"{MINE}/128")[0], link="net1")


@pytest.mark.parametrize(
    ("addresses", "mismatch"),
    [
        (held(HELD4, f"{MINE}/128"), True),
        (held(HELD4, f"{MINE}/64", permanent=False), False),  # from a router advertisement
        ((*held(HELD4), OTHER_LINK), False),  # of another network of the pod
    ],
)
def test_an_address_that_the_api_does_not_report_is_of_no_use_to_services(
    addresses: tuple[AddressFact, ...], mismatch: bool
) -> None:
    seen = inside("web", namespace(addresses=addresses))
    seen = replace(seen, vantage=replace(seen.vantage, addresses=seen.vantage.addresses[:1]))
    assert [str(a) for a in seen.vantage.addresses] == ["10.1.13.2"]
    found = said(Cause.POD_IP_MISMATCH, node_view(pods=[seen]))
    assert not isinstance(found, Reason)
    assert bool(found) is mismatch
    if mismatch:
        assert found[0].evidence == (f"pod/default/web: {MINE} on eth0 is not in status.podIPs",)


def test_an_address_of_the_own_range_beside_another_is_enough() -> None:
    facts = namespace(addresses=(*held(HELD4, f"{MINE}/128"), *held("fd01:0:0:13::99/128", dadfailed=True)))
    assert holding(STATES, node_view(pods=[inside("web", facts)])) == {}


@pytest.mark.parametrize(
    ("pods", "view", "reason"),
    [
        # Not meant to have IPv6.
        ([inside("web", NO_IPV6, families=(V4,))], {}, None),
        ([inside("web", NO_IPV6)], {"inventory": cluster(pods=(replace(WEB, address_choice=True), DB))}, None),
        ([inside("web", NO_IPV6)], {"inventory": cluster(namespaces=(Namespace(name="default", address_choice=True),))},
            None),
        # Nobody made a pool of IPv6 for the node; a disabled one is one.
        ([inside("web", NO_IPV6)], {"inventory": cluster(pools=(POOL4,))}, Reason.NOT_APPLICABLE),
        ([inside("web", NO_IPV6)], {"inventory": cluster(pools=())}, Reason.NOT_APPLICABLE),
        ([inside("web", NO_IPV6)], {"inventory": cluster(pools=(POOL4, replace(POOL6, nodes=frozenset({"babel"}))))},
            Reason.NOT_APPLICABLE),
        # Nothing to inspect.
        ([], {}, Reason.NO_PODS),
        ([inside("web", NO_IPV6, state=PodState.TERMINATING)], {}, Reason.NO_PODS),
        ([inside("web", NO_IPV6, state=PodState.STARTING)], {}, Reason.NO_PODS),
        ([inside("web", NO_IPV6, state=PodState.OPTED_OUT)], {}, Reason.NO_PODS),
        ([inside("web", NO_IPV6, state=PodState.SANDBOXED)], {}, Reason.NO_PODS),
        ([replace(inside(), facts=None)], {}, Reason.READER_FAILED),
    ],
)  # fmt: skip
def test_pods_that_are_not_meant_to_have_it(pods: Any, view: Any, reason: Reason | None) -> None:
    judged = said(Cause.POD_IPV6_MISSING, node_view(pods=pods, **view))
    assert judged == (() if reason is None else reason)


def test_pods_that_are_hidden_are_told_from_pods_that_are_not_there() -> None:
    hidden = [inside("web", state=PodState.UNREADABLE)]
    refused = ReaderStatus(reader=Reader.NAMESPACES, success=False, seconds=0.0, reason=Reason.NO_PERMISSION)

    def told(cause: Cause, pods: list[PodView], readings: tuple[ReaderStatus, ...]) -> object:
        seen = node_view(pods=pods)
        return said(cause, replace(seen, snapshot=replace(seen.snapshot, readings=readings)))

    for cause in (Cause.POD_IPV6_MISSING, Cause.POD_ROUTE_MISSING):
        assert told(cause, hidden, (refused,)) is Reason.NO_PERMISSION
        assert told(cause, hidden, ()) is Reason.NO_PODS
        assert told(cause, [], (refused,)) is Reason.NO_PODS


def test_a_disabled_pool_a_mesh_and_another_ipam_excuse_nothing() -> None:
    broken = [inside("web", NO_IPV6, state=PodState.INTERCEPTED)]
    disabled = cluster(pools=(POOL4, replace(POOL6, disabled=True)))
    podcidrs = cluster(pools=(), cni=(replace(cluster().cni[0], ipam="host-local"),))  # type: ignore[index]  # it has one
    for inventory in (disabled, podcidrs, cluster()):
        assert only(Cause.POD_IPV6_MISSING, node_view(inventory=inventory, pods=broken)).severity is Severity.WARNING


OLD = cluster(pools=(POOL4, replace(POOL6, created=BORN + 1)), pods=(replace(WEB, ips=WEB.ips[:1]), DB))


def test_a_pod_older_than_ipv6_on_its_node_is_to_be_restarted_and_no_warning() -> None:
    seen = node_view(inventory=OLD, pods=[inside("web", NO_IPV6, addresses=WEB.ips[:1])])
    found = only(Cause.POD_IPV6_MISSING, seen)
    assert found.severity is Severity.INFO
    assert "restart it" in found.evidence[0]


@pytest.mark.parametrize(
    "inventory",
    [
        # It was given IPv6: it is no older than that, whatever the pool's age says (a pool that was made anew).
        replace(OLD, pods=(WEB, DB)),
        replace(OLD, pools=(POOL4, replace(POOL6, created=BORN - 1))),
        replace(OLD, pools=(POOL4, replace(POOL6, created=None))),
        # The pool that is younger is another node's; an older one selects this.
        replace(OLD, pools=(POOL4, replace(POOL6, created=BORN - 1),
                            replace(POOL6, name="young", cidr=ip_network("fd02::/48"), created=BORN + 1))),
    ],
    ids=["had one", "younger than the pool", "age not known", "first pool"],
)  # fmt: skip
def test_age_excuses_only_what_was_there_before_ipv6(inventory: Any) -> None:
    seen = node_view(inventory=inventory, pods=[inside("web", NO_IPV6)])
    assert only(Cause.POD_IPV6_MISSING, seen).severity is Severity.WARNING


def test_age_excuses_no_lost_route() -> None:
    seen = node_view(inventory=OLD, pods=[inside("web", namespace(routes=POD_CONF[:1]))])
    assert only(Cause.POD_NO_IPV6_DEFAULT_ROUTE, seen).severity is Severity.WARNING


def test_old_and_new_pods_are_told_apart() -> None:
    old, new = inside("web", NO_IPV6, addresses=WEB.ips[:1]), inside("db", NO_IPV6, addresses=())
    young = replace(DB, created=BORN + 2)
    judged = said(
        Cause.POD_IPV6_MISSING, node_view(inventory=replace(OLD, pods=(*(OLD.pods or ())[:1], young)), pods=[old, new])
    )
    assert isinstance(judged, tuple)
    assert {f.subjects: f.severity for f in judged} == {
        ("pod/default/web",): Severity.INFO,
        ("pod/default/db",): Severity.WARNING,
    }


def listening(*places: str) -> PodFacts:
    """Listeners on port 8080 at these addresses."""
    made = (
        ListeningSocket(family=V4 if ip_address(a).version == 4 else V6, address=ip_address(a), port=8080)
        for a in places
    )
    return namespace(listeners=tuple(made))


def serving(target: str = "8080", **changes: Any) -> Any:
    made = service("shop", selector={"app": "web"}, ports=(ServicePort(name="http", port=80, target=target),))
    return cluster(services=(*(cluster().services or ()), replace(made, **changes)))


@pytest.mark.parametrize(
    ("facts", "inventory", "holds"),
    [
        (listening("0.0.0.0"), serving(), True),
        (listening("10.1.13.2"), serving(), True),
        (listening("0.0.0.0", "::1"), serving(), True),  # reached by nobody over IPv6
        (listening("0.0.0.0", "::"), serving(), False),
        (listening("::"), serving(), False),  # a socket on [::] takes both
        (listening("127.0.0.1"), serving(), False),  # reached by nobody at all
        (listening(), serving(), False),
        (listening("0.0.0.0"), serving(target="9090"), False),
        (listening("0.0.0.0"), serving(target="", ports=(ServicePort(name="http", port=8080),)), True),
        (listening("0.0.0.0"), serving(families=(V4,)), False),
        (listening("0.0.0.0"), serving(selector={"app": "db"}), False),
        (listening("0.0.0.0"), serving(selector={}), False),
        (listening("0.0.0.0"), serving(namespace="other"), False),
        (listening("0.0.0.0"), serving(ports=(ServicePort(name="http", port=80, target="8080", protocol="UDP"),)),
            False),
        (namespace(listeners=None), serving(), False),
        (listening("0.0.0.0"), cluster(), False),
    ],
)  # fmt: skip
def test_a_port_bound_over_ipv4_alone(facts: PodFacts, inventory: Any, holds: bool) -> None:
    seen = node_view(inventory=inventory, pods=[inside("web", facts)])
    expected = {Cause.POD_LISTENS_IPV4_ONLY: Severity.INFO} if holds else {}
    assert holding([Cause.POD_LISTENS_IPV4_ONLY], seen) == expected
    if holds:
        assert "port 8080 of service/default/shop" in only(Cause.POD_LISTENS_IPV4_ONLY, seen).evidence[0]


def test_a_named_target_port_is_the_containers() -> None:
    named = serving(target="web")
    pods = tuple(replace(p, ports=(ContainerPort("web", 8080),)) if p.name == "web" else p for p in named.pods)
    seen = node_view(inventory=replace(named, pods=pods), pods=[inside("web", listening("0.0.0.0"))])
    assert holding([Cause.POD_LISTENS_IPV4_ONLY], seen)


def test_a_pod_that_opted_out_of_ipv6_may_listen_as_it_likes() -> None:
    seen = node_view(inventory=serving(), pods=[inside("web", listening("0.0.0.0"), families=(V4,))])
    assert holding([Cause.POD_LISTENS_IPV4_ONLY], seen) == {}


@pytest.mark.parametrize("field", ["services", "pods"])
def test_what_listens_for_whom_is_not_told_without_the_objects(field: str) -> None:
    seen = node_view(inventory=cluster(**{field: None}))
    assert said(Cause.POD_LISTENS_IPV4_ONLY, seen) is Reason.NO_INVENTORY


def test_each_pod_is_matched_once_a_round(monkeypatch: pytest.MonkeyPatch) -> None:
    matched: list[str] = []
    first_match = pod.first_match

    def counted(vantage: Vantage, facts: PodFacts) -> tuple[Cause, str] | None:
        matched.append(vantage.name)
        return first_match(vantage, facts)

    monkeypatch.setattr(pod, "first_match", counted)
    pods = [inside("web", NO_IPV6), inside("db", namespace(3))]
    for rounds in (1, 2):
        seen = node_view(pods=pods)
        assert holding(STATES, seen) == {Cause.POD_IPV6_MISSING: Severity.WARNING}
        assert matched == ["web", "db"] * rounds


def test_a_pod_that_asks_for_no_ipv6_is_no_warning() -> None:
    chosen = cluster(pods=(replace(WEB, disables_ipv6=True), DB))
    off = namespace(disable_ipv6=True)
    seen = node_view(inventory=chosen, pods=[inside("web", off), inside("db")])
    found = only(Cause.POD_IPV6_DISABLED, seen)
    assert found.severity is Severity.INFO
    assert "its own spec" in found.evidence[0]
    other = node_view(inventory=chosen, pods=[inside("web"), inside("db", off)])
    assert only(Cause.POD_IPV6_DISABLED, other).severity is Severity.WARNING
    assert unsupported_families(chosen, "ra") == {("pod/default/web", V6)}


def of_another_cni(**changes: Any) -> Any:
    """flannel gives the addresses; Calico is there for policies, without a pool."""
    signs = (CniSign(cni=Cni.FLANNEL, place=Place.AGENT, source="daemonset/kube-flannel/kube-flannel-ds"),)
    empty: dict[str, Any] = {"pools": (), "block_affinities": (), "cni": None, "cni_signs": signs}
    return cluster(**{**empty, **changes})


@pytest.mark.parametrize("facts", [NO_IPV6, namespace(disable_ipv6=True)], ids=["address", "sysctl"])
def test_calico_for_policy_alone_excuses_no_pod(facts: PodFacts) -> None:
    seen = node_view(inventory=of_another_cni(), pods=[inside("web", facts), inside("db")])
    assert list(holding(STATES, seen).values()) == [Severity.WARNING]


@pytest.mark.parametrize(
    ("changes", "severity"),
    [
        ({"cidr": ip_network("fd99::/48"), "disabled": True}, Severity.INFO),  # a leftover
        ({"cidr": ip_network("fd99::/48"), "automatic": False}, Severity.INFO),
        ({"cidr": ip_network("fd99::/48"), "allowed_uses": frozenset({"LoadBalancer"})}, Severity.INFO),
        ({"cidr": ip_network("fd99::/48")}, Severity.WARNING),  # it gives addresses as well
        ({"disabled": True}, Severity.WARNING),  # a pod still has one of it
    ],
)
def test_a_pool_that_gave_no_pod_its_address_shows_not_since_when(changes: Any, severity: Severity) -> None:
    first, second = (replace(POOL6, name=name, created=created) for name, created in (("old", BORN - 9), ("new", BORN)))
    young = replace(DB, created=BORN + 1)
    new = second if "cidr" in changes else replace(second, cidr=ip_network("fd77::/48"))
    inventory = cluster(
        pools=(replace(first, **changes), new), pods=(replace(WEB, ips=WEB.ips[:1], created=BORN - 1), young)
    )
    seen = node_view(inventory=inventory, pods=[inside("web", NO_IPV6, addresses=WEB.ips[:1]), inside("db")])
    assert only(Cause.POD_IPV6_MISSING, seen).severity is severity


@pytest.mark.parametrize(
    ("web", "born", "severity"),
    [
        (WEB.ips[:1], BORN - 1, Severity.INFO),  # older than the first pod of the node that got IPv6
        (WEB.ips[:1], BORN, Severity.WARNING),
        (WEB.ips, BORN - 1, Severity.WARNING),  # it had IPv6 and lost it
    ],
)
def test_without_pools_the_first_pod_that_got_ipv6_shows_since_when(web: Any, born: float, severity: Severity) -> None:
    inventory = of_another_cni(pods=(replace(WEB, ips=web, created=born), DB))
    seen = node_view(inventory=inventory, pods=[inside("web", NO_IPV6, addresses=web), inside("db")])
    assert only(Cause.POD_IPV6_MISSING, seen).severity is severity
    assert (("pod/default/web", V6) in unsupported_families(inventory, "ra")) is (severity is Severity.INFO)


def test_where_no_pod_of_the_node_has_ipv6_none_is_too_old_for_it() -> None:
    old = tuple(replace(p, ips=p.ips[:1], created=BORN - 1) for p in (WEB, DB))
    seen = node_view(inventory=of_another_cni(pods=old), pods=[inside("web", NO_IPV6, addresses=WEB.ips[:1])])
    assert only(Cause.POD_IPV6_MISSING, seen).severity is Severity.WARNING
