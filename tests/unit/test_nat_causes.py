"""Each NAT cause: when it holds, each case in which it does not, and which of several comes first."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_network
from typing import Any

import pytest

from exporter.diagnosis.rules.judging import rules_of
from exporter.diagnosis.rules.node import nat as nat_rules
from exporter.model.cause import Cause, Severity
from exporter.model.cluster.calico import Felix, FelixConfiguration
from exporter.model.cluster.inventory import Inventory, ResourceKind
from exporter.model.cni.profile import Cni, CniSign, Place
from exporter.model.facts import (
    Backend,
    HostFacts,
    KubeProxyFacts,
    NatBackend,
    NatFacts,
    Reader,
    ReaderStatus,
    SourceMatch,
)
from exporter.model.family import Net
from exporter.model.reason import Reason
from tests.unit.cluster_scene import POOL4, POOL6, service
from tests.unit.node_scene import V4, V6, cluster, holding, host, masquerade, node_view, only, said

POOLS = tuple(cause for cause in rules_of(nat_rules) if cause is not Cause.NAT_KUBE_PROXY_MISSING)
MISSING, UNHOOKED, NOT_IN_SET = Cause.NAT_MASQUERADE_MISSING, Cause.NAT_CHAIN_UNHOOKED, Cause.NAT_POOL_NOT_IN_SET
NFT, LEGACY, NATIVE = Backend.IPTABLES_NFT, Backend.IPTABLES_LEGACY, Backend.NFTABLES
RULE = masquerade().rules[0]
ANY_SOURCE, MARK = SourceMatch(everything=True), SourceMatch(mark=True)
UNREAD = replace(RULE, members=None)


def nat(*backends: NatBackend, **changes: Any) -> HostFacts:
    return host(nat=replace(NatFacts(backends), **changes))


@pytest.mark.parametrize(
    ("facts", "cause", "evidence"),
    [
        (nat(masquerade()), None, ""),
        (nat(masquerade("fd01::/16")), None, ""),  # a wider member covers it
        (nat(masquerade(rules=(ANY_SOURCE,))), None, ""),
        (nat(masquerade(rules=(MARK,))), None, ""),  # eBPF decides, the kernel carries out
        (nat(masquerade(rules=(replace(RULE, target="SNAT"),))), None, ""),
        (nat(), MISSING, "exists in no backend"),
        (nat(masquerade(chain=False, rules=())), MISSING, "has no MASQUERADE"),
        (nat(masquerade(rules=())), MISSING, "has no MASQUERADE"),
        (nat(masquerade(hooked=False)), UNHOOKED, "POSTROUTING does not reach it"),
        (nat(masquerade(rules=(MARK,), hooked=False)), UNHOOKED, "POSTROUTING does not reach it"),
        (nat(masquerade("fd02::/48")), NOT_IN_SET, "lacks fd01::/48"),
        (nat(masquerade("fd01::/64")), NOT_IN_SET, "lacks fd01::/48"),  # a part of it is not all of it
        (nat(masquerade("10.1.0.0/16")), NOT_IN_SET, "lacks fd01::/48"),
        (nat(masquerade(rules=(replace(RULE, protocol=6),))), NOT_IN_SET, "lacks"),  # TCP alone is masqueraded
        # Of several the first.
        (nat(masquerade(hooked=False, rules=())), UNHOOKED, "does not reach"),
        (nat(masquerade("fd02::/48", hooked=False)), UNHOOKED, "does not reach"),
        # Leftovers of a backend that was switched.
        (nat(masquerade(hooked=False, backend=LEGACY), masquerade()), None, ""),
        (nat(masquerade(), masquerade("fd02::/48", hooked=False, backend=NATIVE)), None, ""),
        # IPv4 has it, IPv6 does not.
        (nat(replace(masquerade("10.1.0.0/16"), family=V4)), MISSING, "in no backend"),
    ],
)  # fmt: skip
def test_what_the_kernel_lacks_for_a_pool_that_asks_for_nat(
    facts: HostFacts, cause: Cause | None, evidence: str
) -> None:
    seen = node_view(facts)
    assert holding(POOLS, seen) == ({} if cause is None else {cause: Severity.WARNING})
    if cause is not None:
        found = only(cause, seen)
        assert found.subjects == (f"pool/{POOL6.name}",)
        assert f"pool {POOL6.name} ({POOL6.cidr}) has natOutgoing: true" in found.evidence[0]
        assert evidence in found.evidence[0]


@pytest.mark.parametrize(
    ("backend", "word"), [(NFT, "ip6tables-nft"), (LEGACY, "ip6tables-legacy"), (NATIVE, "nft list")]
)
def test_the_command_is_that_of_the_backend(backend: Backend, word: str) -> None:
    assert only(MISSING, node_view(nat(masquerade(rules=(), backend=backend)))).command.startswith(word)


@pytest.mark.parametrize(
    "pools",
    [
        (POOL4, replace(POOL6, nat_outgoing=False)),
        (POOL4,),
        (POOL4, replace(POOL6, disabled=True)),
        (),
    ],
)
def test_where_no_pool_asks_an_empty_chain_is_right(pools: Any) -> None:
    for facts in (nat(), nat(masquerade(rules=())), nat(masquerade(hooked=False))):
        assert holding(POOLS, node_view(facts, cluster(pools=pools))) == {}


def test_each_pool_by_itself() -> None:
    other = replace(POOL6, name="other", cidr=ip_network("fd02::/48"))
    found = only(NOT_IN_SET, node_view(inventory=cluster(pools=(POOL4, POOL6, other))))
    assert found.subjects == ("pool/other",)


@pytest.mark.parametrize(
    ("facts", "inventory", "reason"),
    [
        (host(nat=None), cluster(), Reason.READER_FAILED),
        (nat(unread={(V6, NFT): Reason.NO_PERMISSION}), cluster(), Reason.NO_PERMISSION),
        (nat(masquerade(rules=(UNREAD,))), cluster(), Reason.READER_FAILED),
        (nat(), cluster(pools=None), Reason.NO_INVENTORY),
        (nat(), cluster(pools=None, unread={ResourceKind.IP_POOLS: Reason.NO_PERMISSION}), Reason.NO_PERMISSION),
        (nat(), cluster(pools=None, unread={ResourceKind.IP_POOLS: Reason.NOT_APPLICABLE}), Reason.NOT_APPLICABLE),
    ],
)  # fmt: skip
@pytest.mark.parametrize("cause", POOLS)
def test_what_was_not_read_is_unchecked(cause: Cause, facts: HostFacts, inventory: Inventory, reason: Reason) -> None:
    assert said(cause, node_view(facts, inventory)) is reason


def test_a_set_that_could_not_be_read_hides_no_other_pools_fault() -> None:
    seen = node_view(nat(masquerade(rules=(UNREAD,), hooked=False)))
    assert holding(POOLS, seen) == {UNHOOKED: Severity.WARNING}


def test_each_pool_is_matched_once_a_round(monkeypatch: pytest.MonkeyPatch) -> None:
    matched: list[Net] = []
    masquerades = NatBackend.masquerades

    def counted(backend: NatBackend, pool: Net) -> bool | None:
        matched.append(pool)
        return masquerades(backend, pool)

    monkeypatch.setattr(NatBackend, "masquerades", counted)
    other = replace(POOL6, name="other", cidr=ip_network("fd02::/48"))
    facts, inventory = nat(masquerade("fd03::/48")), cluster(pools=(POOL6, other))
    for rounds in (1, 2):
        seen = node_view(facts, inventory)
        assert holding(POOLS, seen) == {NOT_IN_SET: Severity.WARNING}
        assert matched == [POOL6.cidr, other.cidr] * rounds


def proxy(mode: str = "iptables", *, six: bool | None = True) -> HostFacts:
    return host(kube_proxy=KubeProxyFacts(mode, {V4: True, V6: six}))


PROXY = Cause.NAT_KUBE_PROXY_MISSING
V4_ALONE = cluster(services=(service("web", (V4,)),))


@pytest.mark.parametrize(
    ("facts", "inventory", "expected"),
    [
        (proxy(), cluster(), ()),
        (proxy(six=False), cluster(), "found"),
        (proxy("ipvs", six=False), cluster(), "found"),
        (proxy("nftables", six=False), cluster(), "found"),
        (proxy("ipvs"), cluster(), ()),
        (proxy(six=False), V4_ALONE, ()),
        (proxy("none", six=False), cluster(), Reason.NOT_APPLICABLE),
        (proxy(six=None), cluster(), Reason.READER_FAILED),
        (host(kube_proxy=None), cluster(), Reason.READER_FAILED),
        (proxy(six=False), cluster(services=None), Reason.NO_INVENTORY),
        (proxy(six=False), cluster(services=None, unread={ResourceKind.SERVICES: Reason.API_UNAVAILABLE}),
            Reason.API_UNAVAILABLE),
        # A digest counts them and lists some.
        (proxy(six=False), replace(V4_ALONE, service_count_v6=7), "found"),
        (proxy(six=False), cluster(service_count_v6=0), ()),
    ],
)  # fmt: skip
def test_kube_proxy_knows_the_services_of_ipv6(facts: HostFacts, inventory: Inventory, expected: Any) -> None:
    seen = node_view(facts, inventory)
    if expected == "found":
        found = only(PROXY, seen)
        assert (found.subjects, found.severity) == (("node/ra",), Severity.WARNING)
        assert "kube-proxy (mode" in found.evidence[0]
    else:
        assert said(PROXY, seen) == expected


CILIUM = CniSign(
    cni=Cni.CILIUM,
    place=Place.CONFIG_MAP,
    source="configmap kube-system/cilium-config",
    settings={"kube-proxy-replacement": "true"},
)
CHAINED = replace(CILIUM, settings={**CILIUM.settings, "cni-chaining-mode": "aws-cni"})
NO_CALICO: dict[str, Any] = {
    "pools": (), "felix": (), "block_affinities": (), "cni": (), "calico_node": None, "installation": None
}  # fmt: skip
EBPF = (FelixConfiguration("default", Felix(bpf_enabled=True)),)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (NO_CALICO | {"cni_signs": (CILIUM,)}, Reason.NOT_APPLICABLE),
        (NO_CALICO | {"cni_signs": (CHAINED,)}, Reason.NOT_APPLICABLE),
        ({"felix": EBPF}, Reason.NOT_APPLICABLE),
        (NO_CALICO | {"cni_signs": (replace(CILIUM, settings={"kube-proxy-replacement": "false"}),)}, "found"),
    ],
)  # fmt: skip
def test_what_a_kube_proxy_left_behind_is_no_kube_proxy(changes: dict[str, Any], expected: Any) -> None:
    """Rules of IPv4 days stay where the CNI took over."""
    judged = said(PROXY, node_view(proxy(six=False), cluster(**changes)))
    assert (judged if isinstance(judged, Reason) else "found" if judged else ()) == expected


def test_a_reader_that_failed_says_why() -> None:
    seen = node_view(host(nat=None, kube_proxy=None))
    failed = (
        ReaderStatus(reader=Reader.NAT, success=False, seconds=0.1, reason=Reason.LSM),
        ReaderStatus(reader=Reader.KUBE_PROXY, success=False, seconds=0.1, reason=Reason.KERNEL),
    )
    seen = replace(seen, snapshot=replace(seen.snapshot, readings=failed))
    assert said(MISSING, seen) is Reason.LSM
    assert said(PROXY, seen) is Reason.KERNEL
