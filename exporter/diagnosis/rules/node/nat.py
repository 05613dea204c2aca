"""Causes of NAT: IPv6 pools that the kernel does not masquerade, IPv6 Services without kube-proxy's rules. Pure rules.

Judged by pool: an empty chain is legal when no pool asks for NAT, and a rule whose source set lacks the pool is no use.
"""

from __future__ import annotations

from functools import lru_cache

from exporter.diagnosis.engine.preconditions import has_calico_ipam, unread
from exporter.diagnosis.engine.rule_input import Judgement, RuleInput
from exporter.diagnosis.rules.judging import found, only, reader_reason, this_node
from exporter.model.cause import Cause
from exporter.model.cluster.calico import IPPool
from exporter.model.cluster.inventory import ResourceKind
from exporter.model.cni.network import ServiceProxy
from exporter.model.facts import Backend, NatBackend, NatFacts, Reader
from exporter.model.family import Family, family_of
from exporter.model.reason import Reason

_NFTABLES_CHAIN = "nft list chain ip6 calico nat-cali-nat-outgoing"
COMMANDS = {
    Backend.IPTABLES_NFT: "ip6tables-nft -t nat -S cali-nat-outgoing && ipset list cali60masq-ipam-pools",
    Backend.IPTABLES_LEGACY: "ip6tables-legacy -t nat -S cali-nat-outgoing && ipset list cali60masq-ipam-pools",
    Backend.NFTABLES: f"{_NFTABLES_CHAIN} && nft list set ip6 calico cali60masq-ipam-pools",
}
NO_KUBE_PROXY = frozenset({ServiceProxy.CILIUM, ServiceProxy.EBPF, ServiceProxy.NONE})


def nat_chain_unhooked(view: RuleInput) -> Judgement:
    """The chain exists and no hook reaches it."""
    return only(Cause.NAT_CHAIN_UNHOOKED, _match_pools(view))


def nat_masquerade_missing(view: RuleInput) -> Judgement:
    """No rule of the chain masquerades, or the chain is absent."""
    return only(Cause.NAT_MASQUERADE_MISSING, _match_pools(view))


def nat_pool_not_in_set(view: RuleInput) -> Judgement:
    """The source set of the masquerading rule lacks the pool."""
    return only(Cause.NAT_POOL_NOT_IN_SET, _match_pools(view))


def nat_kube_proxy_missing(view: RuleInput) -> Judgement:
    """IPv6 ClusterIPs exist and kube-proxy has no IPv6 service rules here; mode ipvs is judged by its own table."""
    count = _services_v6(view)
    if not count:
        return () if count == 0 else unread(view.inventory, ResourceKind.SERVICES)
    facts = view.snapshot.kernel.kube_proxy
    if view.network.proxy in NO_KUBE_PROXY or (facts is not None and facts.mode == "none"):
        return Reason.NOT_APPLICABLE  # what rules there are, a kube-proxy that is gone has left them
    present = facts.services.get(Family.V6) if facts is not None else None
    if facts is None or present is None:
        return reader_reason(view, Reader.KUBE_PROXY)
    if present:
        return ()
    return found(
        Cause.NAT_KUBE_PROXY_MISSING,
        [this_node(view)],
        evidence=[
            f"{count} Services have an IPv6 ClusterIP; kube-proxy (mode {facts.mode}) has no IPv6 service rules here"
        ],
        command="ip6tables -t nat -S KUBE-SERVICES | head;"
        " kubectl -n kube-system get configmap kube-proxy -o yaml | grep -i cidr",
    )


def _services_v6(view: RuleInput) -> int | None:
    """How many Services have an IPv6 ClusterIP, None: unknown. A digest lists only some of them, and their number."""
    inventory = view.inventory
    if inventory.service_count_v6 is not None or inventory.services is None:
        return inventory.service_count_v6
    return sum(any(family_of(a) is Family.V6 for a in s.cluster_ips) for s in inventory.services)


@lru_cache(maxsize=1)
def _match_pools(view: RuleInput) -> Judgement:
    """The IPv6 pools that are not masqueraded; all for the same cause, as they share one chain."""
    calico = has_calico_ipam(view.inventory, view.network) is not False
    if view.inventory.pools is None or not calico:
        return unread(view.inventory, ResourceKind.IP_POOLS) if calico else Reason.NOT_APPLICABLE
    pools = [p for p in view.inventory.enabled_pools(Family.V6) if p.nat_outgoing]
    if not pools:
        return ()
    nat = view.snapshot.kernel.nat
    if nat is None:
        return reader_reason(view, Reader.NAT)
    failed: list[tuple[IPPool, Cause, str]] = []
    for pool in pools:
        match = _match(nat, pool)
        if isinstance(match, Reason):
            return match
        if match is not None:
            failed.append((pool, *match))
    if not failed:
        return ()
    live = nat.live(Family.V6)
    return found(
        failed[0][1],
        (pool.subject for pool, _, _ in failed),
        evidence=[f"pool {pool.name} ({pool.cidr}) has natOutgoing: true; {text}" for pool, _, text in failed],
        command=COMMANDS[live.backend if live is not None else Backend.IPTABLES_NFT],
    )


def _match(nat: NatFacts, pool: IPPool) -> tuple[Cause, str] | Reason | None:
    """What is wrong with NAT outgoing of a pool: the first that applies; None when it works, a Reason when unknown."""
    live = nat.live(Family.V6)
    if live is None:
        unread_there = [reason for (family, _), reason in nat.unread.items() if family is Family.V6]
        if unread_there:
            return unread_there[0]
        return Cause.NAT_MASQUERADE_MISSING, "chain cali-nat-outgoing exists in no backend"
    if live.mark_rule and live.hooked:
        return None
    return _match_backend(live, pool)


def _match_backend(live: NatBackend, pool: IPPool) -> tuple[Cause, str] | Reason | None:
    where = f"cali-nat-outgoing ({live.backend})"
    if live.chain and not live.hooked:
        return Cause.NAT_CHAIN_UNHOOKED, f"{where} exists and POSTROUTING does not reach it"
    if not live.rules:
        return Cause.NAT_MASQUERADE_MISSING, f"{where} has no MASQUERADE or SNAT rule"
    covered = live.masquerades(pool.cidr)
    if covered is None:
        return Reason.READER_FAILED
    if covered:
        return None
    sets = ", ".join(f"{r.set_name} = {{{', '.join(map(str, r.members or ()))}}}" for r in live.rules if r.set_name)
    return Cause.NAT_POOL_NOT_IN_SET, f"{where} matches {sets}, which lacks {pool.cidr}"
