"""Causes of both roles from the node's side: what the API says becomes a warning where this node sees the damage, in
two probes.
"""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_network

import pytest

from exporter.diagnosis.engine.rule_input import Judgement
from exporter.diagnosis.rules.judging import rules_of
from exporter.diagnosis.rules.node import node_side_causes
from exporter.model.cause import Cause, Role, Severity
from exporter.model.cluster.calico import VxlanMode
from exporter.model.cluster.component import CniConfig
from exporter.model.cluster.inventory import Inventory, InventoryOrigin, ResourceKind
from exporter.model.cluster.node import Node
from exporter.model.cni.profile import Cni, CniSign, Place
from exporter.model.facts import HostFacts, KubeProxyFacts
from exporter.model.packet_filter import DROP, MASQUERADE, Chain, Fixed, NatTable, Postrouting, Rule
from exporter.model.probe import Group, Layer, Observation
from exporter.model.reason import Reason
from exporter.model.subject import Subject
from tests.unit.cluster_scene import HEALTHY, POOL6, changed
from tests.unit.scene import HOST, V6, pod, seen, target, view

WEB, DB = pod("web"), pod("db")
OUTSIDE = target("outside")
BABEL = target("peers", Group.PEERS, peer="babel")
DNS = target("cluster_dns", Group.CLUSTER_DNS, layers=(Layer.TCP,))
NO_NAT = changed(
    pools=tuple(replace(p, nat_outgoing=False) if p.name == POOL6.name else p for p in HEALTHY.pools or ())
)
NO_VXLAN = changed(
    pools=tuple(replace(p, vxlan_mode=VxlanMode.NEVER) if p.name == POOL6.name else p for p in HEALTHY.pools or ()),
)
PROXIED = HostFacts(kube_proxy=KubeProxyFacts("iptables", {V6: True}))
UNPROXIED = HostFacts(kube_proxy=KubeProxyFacts("iptables", {V6: False}))


def judge(
    cause: Cause, inventory: Inventory, kept: list[Observation], before: list[Observation] | None = None, **more: object
) -> Judgement:
    return rules_of(node_side_causes)[cause](view(kept=kept, before=before, inventory=inventory, **more))  # type: ignore[arg-type]  # of view


def severities(said: Judgement) -> list[Severity]:
    assert isinstance(said, tuple)
    return [f.severity for f in said]


LOST, FINE = "tcp6=timeout", "tcp6=ok"
FROM_PODS_ALONE = [*seen(HOST, OUTSIDE, FINE), *seen(WEB, OUTSIDE, LOST)]


def test_nat_outgoing_off_is_a_warning_where_pods_do_not_get_outside_and_the_host_does() -> None:
    said = judge(Cause.IPPOOL_NAT_OUTGOING_OFF, NO_NAT, FROM_PODS_ALONE)
    assert severities(said) == [Severity.WARNING]
    assert isinstance(said, tuple)
    assert "pod/default/web to target/outside over IPv6: timeout; from the host it passes" in said[0].evidence


@pytest.mark.parametrize(
    ("kept", "before"),
    [
        (FROM_PODS_ALONE, [*seen(HOST, OUTSIDE, FINE), *seen(WEB, OUTSIDE, FINE)]),  # one sample
        ([*seen(HOST, OUTSIDE, LOST), *seen(WEB, OUTSIDE, LOST)], None),  # nobody gets there
        ([*seen(HOST, OUTSIDE, FINE), *seen(WEB, OUTSIDE, FINE)], None),
        ([*seen(HOST, OUTSIDE, FINE), *seen(WEB, OUTSIDE, LOST, policy=True)], None),
    ],
)
def test_a_node_that_sees_no_damage_says_nothing_of_nat_outgoing(
    kept: list[Observation], before: list[Observation] | None
) -> None:
    assert judge(Cause.IPPOOL_NAT_OUTGOING_OFF, NO_NAT, kept, before) == ()


def test_one_process_for_all_says_the_pools_setting_as_info_where_no_damage_is_seen() -> None:
    said = judge(Cause.IPPOOL_NAT_OUTGOING_OFF, NO_NAT, [], role=Role.ALL)
    assert severities(said) == [Severity.INFO]


def test_a_mode_mismatch_is_a_warning_where_a_peer_is_lost() -> None:
    said = judge(Cause.IPPOOL_VXLAN_MODE_MISMATCH, NO_VXLAN, seen(HOST, BABEL, "icmp6=timeout tcp6=timeout"))
    assert severities(said) == [Severity.WARNING]
    once = judge(Cause.IPPOOL_VXLAN_MODE_MISMATCH, NO_VXLAN, seen(HOST, BABEL, LOST), seen(HOST, BABEL, FINE))
    assert once == ()


EVERYWHERE = [*seen(HOST, DNS, LOST), *seen(WEB, DNS, LOST), *seen(HOST, BABEL, FINE)]


def test_a_mode_mismatch_is_a_warning_where_the_clusters_dns_is_lost_from_everywhere() -> None:
    """Without tunnel addresses peers are dialled at their nodes' own, which needs no tunnel."""
    said = judge(Cause.IPPOOL_VXLAN_MODE_MISMATCH, NO_VXLAN, EVERYWHERE, facts=PROXIED)
    assert severities(said) == [Severity.WARNING]


def test_a_lost_dns_does_not_show_a_mode_mismatch_where_it_has_another_reason() -> None:
    assert judge(Cause.IPPOOL_VXLAN_MODE_MISMATCH, NO_VXLAN, EVERYWHERE, facts=UNPROXIED) == ()
    one_pod = [*seen(HOST, DNS, FINE), *seen(WEB, DNS, LOST), *seen(DB, DNS, FINE)]
    assert judge(Cause.IPPOOL_VXLAN_MODE_MISMATCH, NO_VXLAN, one_pod, facts=PROXIED) == ()


def test_a_peer_that_is_down_over_both_families_shows_no_mode_mismatch() -> None:
    rebooting = seen(HOST, BABEL, "icmp6=timeout tcp6=timeout icmp4=timeout tcp4=timeout")
    assert judge(Cause.IPPOOL_VXLAN_MODE_MISMATCH, NO_VXLAN, rebooting, facts=PROXIED) == ()
    over_ipv6 = seen(HOST, BABEL, "icmp6=timeout tcp6=timeout icmp4=ok tcp4=refused")
    assert severities(judge(Cause.IPPOOL_VXLAN_MODE_MISMATCH, NO_VXLAN, over_ipv6)) == [Severity.WARNING]
    dns_down = [*seen(HOST, DNS, "tcp6=timeout tcp4=timeout"), *seen(HOST, BABEL, FINE)]
    assert judge(Cause.IPPOOL_VXLAN_MODE_MISMATCH, NO_VXLAN, dns_down, facts=PROXIED) == ()


def test_where_an_echo_passes_no_pools_setting_is_at_fault() -> None:
    dropped = seen(HOST, BABEL, "icmp6=ok tcp6=timeout tcp4=refused")
    assert judge(Cause.IPPOOL_VXLAN_MODE_MISMATCH, NO_VXLAN, dropped) == ()
    dns_too = [*dropped, *seen(HOST, DNS, "tcp6=timeout tcp4=ok"), *seen(WEB, DNS, "tcp6=timeout tcp4=ok")]
    assert judge(Cause.IPPOOL_VXLAN_MODE_MISMATCH, NO_VXLAN, dns_too, facts=PROXIED) == ()
    outside = [*seen(HOST, OUTSIDE, FINE), *seen(WEB, OUTSIDE, "icmp6=ok tcp6=timeout tcp4=ok")]
    assert judge(Cause.IPPOOL_NAT_OUTGOING_OFF, NO_NAT, outside) == ()


def test_a_node_judges_the_files_that_are_mounted_on_it_alone() -> None:
    off = CniConfig(source="/host/etc/cni/net.d/10-calico.conflist", main_plugin="calico", ipam="calico-ipam")
    mounted, unmounted = (
        changed(cni=(off,)),
        changed(cni=(replace(off, source="configmap/a/b", subject=Subject("configmap/a/b")),)),
    )
    assert severities(judge(Cause.CNI_NOT_ASSIGNING_IPV6, mounted, [])) == [Severity.WARNING]
    assert judge(Cause.CNI_NOT_ASSIGNING_IPV6, unmounted, []) is Reason.NOT_APPLICABLE
    assert judge(Cause.CONTROL_PLANE_FLAGS, HEALTHY, []) is Reason.NOT_APPLICABLE


def flannel(*arguments: str, cidr: str = "fd42:0:0:1::/64") -> Inventory:
    settings = dict.fromkeys(arguments, "true")
    absent = dict.fromkeys((ResourceKind.IP_POOLS, ResourceKind.FELIX), Reason.NOT_APPLICABLE)
    return Inventory(
        source=InventoryOrigin.FILE,
        nodes=(Node(name="ra", pod_cidrs=(ip_network(cidr),)),),
        pods=(),
        cni_signs=(CniSign(cni=Cni.FLANNEL, place=Place.AGENT, source="daemonset a/flannel", settings=settings),),
        unread=absent,
    )


def rules(*made: Rule) -> HostFacts:
    chain = Chain(name="POSTROUTING", hook=4, rules=made, total=len(made))
    return HostFacts(
        links=(),
        routes=(),
        postrouting=Postrouting(copied=0, tables=(NatTable(name="ip6 nat", chains={"POSTROUTING": chain}),)),
    )


MASQUERADES, KEEPS = rules(Rule(verdict=MASQUERADE)), rules(Rule(verdict=DROP, source=ip_network("fd43::/64")))
UNCLEAR = rules(Rule(verdict=MASQUERADE, conditions=(Fixed(None, "match time"),)))
OFF, ON = flannel(), flannel("--ip-masq")
UNTRANSLATED = Cause.CNI_IPV6_MASQUERADE_OFF


@pytest.mark.parametrize(
    ("inventory", "facts", "text"),
    [
        (ON, KEEPS, "no rule masquerades fd42:0:0:1::2 to the outside: ip6 nat POSTROUTING"),
        (OFF, KEEPS, "no rule masquerades fd42:0:0:1::2 to the outside: ip6 nat POSTROUTING"),
        (ON, HostFacts(links=(), postrouting=Postrouting(copied=0)), "no table has such a chain"),
        (OFF, UNCLEAR, "is not known: match time in ip6 nat POSTROUTING"),
        (OFF, HostFacts(), "--ip-masq absent"),
    ],
)
def test_where_pods_are_not_masqueraded_the_chains_that_were_walked_are_shown(
    inventory: Inventory, facts: HostFacts, text: str
) -> None:
    for role in (Role.NODE, Role.ALL):
        said = judge(UNTRANSLATED, inventory, FROM_PODS_ALONE, facts=facts, role=role)
        assert severities(said) == [Severity.WARNING]
        assert isinstance(said, tuple)
        assert text in "; ".join(said[0].evidence)
        assert "from the host it passes" in said[0].evidence[-1]
    assert judge(UNTRANSLATED, inventory, [], facts=facts) == ()


def test_a_rule_that_masquerades_counts_more_than_the_cnis_setting() -> None:
    for inventory in (ON, OFF):
        assert judge(UNTRANSLATED, inventory, FROM_PODS_ALONE, facts=MASQUERADES) == ()
    assert severities(judge(UNTRANSLATED, OFF, FROM_PODS_ALONE, facts=MASQUERADES, role=Role.ALL)) == [Severity.INFO]


def test_an_unclear_rule_is_neither_yes_nor_no() -> None:
    assert judge(UNTRANSLATED, ON, FROM_PODS_ALONE, facts=UNCLEAR) is Reason.READER_FAILED
    torn = replace(KEEPS, postrouting=replace(KEEPS.postrouting or Postrouting(copied=0), unread=Reason.LSM))
    assert judge(UNTRANSLATED, ON, FROM_PODS_ALONE, facts=torn) is Reason.READER_FAILED


def test_global_pod_addresses_need_no_masquerading() -> None:
    routed = flannel("--ip-masq", cidr="2001:db8:1::/64")
    assert judge(UNTRANSLATED, routed, FROM_PODS_ALONE, facts=KEEPS) == ()
