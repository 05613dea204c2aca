"""MTUs of links: below IPv6's minimum on the node, its tunnel or a pod, and pods' above their tunnel's."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from exporter.diagnosis.engine.explain import explain
from exporter.model.cause import Cause, Severity
from exporter.model.facts import HostFacts, LinkFact, VxlanFacts
from exporter.model.probe import Group, Outcome
from exporter.model.reason import Reason
from exporter.model.report import Finding, PodView
from exporter.model.subject import Subject
from tests.unit.node_scene import (
    ADDRESSES,
    DB,
    DEFAULT4,
    DEVICE,
    ETH0,
    POD_ROUTES,
    V4,
    WEB,
    cluster,
    host,
    inside,
    namespace,
    node_view,
    only,
    route,
    said,
    tunnels,
)
from tests.unit.scene import seen, target

SMALL, LARGE = Cause.LINK_MTU_BELOW_IPV6_MINIMUM, Cause.POD_MTU_ABOVE_TUNNEL


def link(name: str, mtu: int, **changes: Any) -> LinkFact:
    return replace(LinkFact(index=9, name=name, up=True, lower_up=True, mtu=mtu), **changes)


def pod_of(mtu: int, name: str = "web", **changes: Any) -> PodView:
    number = 2 if name == "web" else 3
    return inside(name, namespace(number, links=(link("eth0", mtu),), **changes))


def links(*more: LinkFact, eth0: int = 1500) -> tuple[LinkFact, ...]:
    return (replace(ETH0, mtu=eth0), *more)


V4_ROUTE = route("10.1.13.2/32", "cali2")


@pytest.mark.parametrize(
    ("facts", "pods", "subjects"),
    [
        (host(), [inside()], ()),
        (host(links=links(eth0=1280)), [pod_of(1280)], ()),
        (host(links=links(eth0=1279)), [inside()], ("node/ra",)),
        # Without IPv6 on the link there is no default route over it: the node's own link is known by its InternalIP.
        (host(links=links(eth0=1279), routes=(DEFAULT4,), addresses=ADDRESSES[:1]), [inside()], ("node/ra",)),
        # A node of IPv6 alone has then no address and no route that would show the way out.
        (host(links=links(link("docker0", 1200), eth0=1279), routes=(), addresses=()), [inside()], ("node/ra",)),
        (host(links=links(link("docker0", 1200), link(DEVICE, 1430))), [inside()], ()),
        (host(links=links(link(DEVICE, 1210))), [inside()], ("node/ra",)),
        (host(links=links(link(DEVICE, 1210, up=False))), [inside()], ()),  # a device that is down is another cause
        (host(), [pod_of(1210)], ("pod/default/web",)),
        (host(), [inside("web", namespace(links=(link("eth0", 1430), link("net1", 900))))], ()),  # not its own
        (host(), [inside("web", namespace(links=(link("lo", 900, loopback=True), link("eth0", 1430))))], ()),
        # The host's end of a pod's link: the IPv4 route shows it, the IPv6 one is gone.
        (host(links=links(link("cali2", 1210)), routes=(DEFAULT4, V4_ROUTE)), [inside()], ("pod/default/web",)),
        (host(), [pod_of(1210, disable_ipv6=True)], ()),  # by sysctl already
        (host(), [replace(pod_of(1210), vantage=replace(inside().vantage, families=(V4,)))], ()),
        (host(links=links(eth0=1200)), [pod_of(1200)], ("node/ra", "pod/default/web")),
    ],
)
def test_links_that_are_too_small_for_ipv6(facts: HostFacts, pods: list[PodView], subjects: tuple[str, ...]) -> None:
    view = node_view(facts, pods=pods)
    if not subjects:
        assert said(SMALL, view) == ()
        return
    found = only(SMALL, view)
    assert (found.subjects, found.severity) == (subjects, Severity.WARNING)
    assert all("below 1280" in line for line in found.evidence)


def test_pods_that_chose_ipv4_may_have_any_link() -> None:
    chosen = cluster(pods=(replace(WEB, address_choice=True), DB))
    assert said(SMALL, node_view(inventory=chosen, pods=[pod_of(900)])) == ()


def finding(cause: Cause, *subjects: str) -> Finding:
    return Finding(
        cause=cause, severity=Severity.WARNING, subjects=tuple(map(Subject, subjects)), evidence=("e",), command="c"
    )


@pytest.mark.parametrize(
    ("where", "cause", "subject", "explained"),
    [
        (("node/ra",), Cause.NODE_NO_IPV6_ADDRESS, "node/ra", True),
        (("node/ra",), Cause.VXLAN_MISCONFIGURED, "node/ra", True),
        (("node/ra",), Cause.VXLAN_PEER_INCOMPLETE, "peer/babel", True),
        (("pod/default/web",), Cause.POD_IPV6_MISSING, "pod/default/web", True),
        (("pod/default/web",), Cause.POD_IPV6_MISSING, "pod/default/db", False),
        (("node/ra", "pod/default/web"), Cause.POD_IPV6_MISSING, "pod/default/db", False),
        (("pod/default/web",), Cause.VXLAN_MISCONFIGURED, "node/ra", False),
        (("pod/default/web",), Cause.NODE_NO_IPV6_ADDRESS, "node/ra", False),
    ],
)
def test_what_a_small_link_explains(where: tuple[str, ...], cause: Cause, subject: str, explained: bool) -> None:
    made = explain((finding(SMALL, *where), finding(cause, subject)), node="ra")
    assert made[1].by is (SMALL if explained else None)


@pytest.mark.parametrize(
    ("vxlan", "mtu", "large"),
    [
        (tunnels(), 1430, False),
        (tunnels(), 1431, True),
        (tunnels(mtu=1400), 1430, False),  # the device is at fault
        (tunnels(mtu=1500), 1501, False),
        (tunnels(parent_mtu=None), 1500, False),  # whether it is right cannot be told
        (tunnels(routes=()), 1500, False),  # CrossSubnet: nothing leaves through it
    ],
)
def test_a_pod_that_is_older_than_the_mtu(vxlan: VxlanFacts, mtu: int, large: bool) -> None:
    view = node_view(host(vxlan=vxlan), pods=[pod_of(mtu), inside("db")])
    if not large:
        assert said(LARGE, view) == ()
        return
    found = only(LARGE, view)
    assert (found.subjects, found.severity) == (("pod/default/web",), Severity.INFO)
    assert f"MTU {mtu}, above 1430" in found.evidence[0]
    assert said(Cause.VXLAN_MISCONFIGURED, view) == ()


@pytest.mark.parametrize(("echo", "severity"), [(Outcome.TIMEOUT, Severity.WARNING), (Outcome.OK, Severity.INFO)])
def test_it_is_a_warning_where_its_full_size_echo_vanishes(echo: Outcome, severity: Severity) -> None:
    web, db = pod_of(1500), pod_of(1500, "db")
    kept = seen(web.vantage, target("babel", Group.PEERS, peer="babel"), "icmp6=ok tcp6=ok", full_size=echo)
    found = said(LARGE, node_view(pods=[web, db], kept=kept))
    assert isinstance(found, tuple)
    severities = {str(s): f.severity for f in found for s in f.subjects}
    assert severities == {"pod/default/web": severity, "pod/default/db": Severity.INFO}


def test_tunnels_without_one_and_unread() -> None:
    assert said(LARGE, node_view(host(vxlan=VxlanFacts({})))) is Reason.NOT_APPLICABLE
    assert said(LARGE, node_view(host(vxlan=tunnels(flow_based=True)))) is Reason.NOT_APPLICABLE
    assert said(LARGE, node_view(host(vxlan=None))) is Reason.READER_FAILED
    assert said(LARGE, node_view(pods=[])) is Reason.NO_PODS
    assert said(SMALL, node_view(host(links=None))) is Reason.READER_FAILED


def test_the_route_of_a_pod_through_a_bridge_is_one_of_its_own() -> None:
    facts = host(links=links(link("cni0", 1200)), routes=(DEFAULT4, *POD_ROUTES[1:], route("10.1.13.0/24", "cni0")))
    assert only(SMALL, node_view(facts, pods=[inside()])).subjects == ("pod/default/web",)
