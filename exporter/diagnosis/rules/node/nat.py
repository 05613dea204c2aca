"""NAT causes: whether the kernel does what the IPv6 pools ask for, and whether kube-proxy knows IPv6 Services. Pure rules.

An empty chain is legal when no pool asks for NAT, and a rule counts for nothing when its source set lacks the pool: so
the pools lead.
"""

from __future__ import annotations

from exporter.diagnosis.engine.preconditions import unread
from exporter.diagnosis.engine.rule_input import Judgement, Rule, RuleInput, finding
from exporter.diagnosis.rules.node.node import reader_reason
from exporter.model.calico import IPPool
from exporter.model.facts import Backend, NatBackend, NatFacts, Reader
from exporter.model.family import Family, family_of
from exporter.model.inventory import ResourceKind
from exporter.model.reason import Reason
from exporter.model.report import Cause
from exporter.model.subject import Subject, SubjectKind

COMMANDS = {
    Backend.IPTABLES_NFT: "ip6tables-nft -t nat -S cali-nat-outgoing && ipset list cali60masq-ipam-pools",
    Backend.IPTABLES_LEGACY: "ip6tables-legacy -t nat -S cali-nat-outgoing && ipset list cali60masq-ipam-pools",
    Backend.NFTABLES: "nft list chain ip6 calico nat-cali-nat-outgoing && nft list set ip6 calico cali60masq-ipam-pools",
}


def nat_chain_unhooked(view: RuleInput) -> Judgement:
    """The chain exists and no hook reaches it."""
    return _judge(view, Cause.NAT_CHAIN_UNHOOKED)


def nat_masquerade_missing(view: RuleInput) -> Judgement:
    """No rule of the chain masquerades, or the chain is absent."""
    return _judge(view, Cause.NAT_MASQUERADE_MISSING)


def nat_pool_not_in_set(view: RuleInput) -> Judgement:
    """The source set of the masquerading rule lacks the pool."""
    return _judge(view, Cause.NAT_POOL_NOT_IN_SET)


def nat_kube_proxy_missing(view: RuleInput) -> Judgement:
    """IPv6 ClusterIPs exist and this node has no IPv6 service rules; mode ipvs is judged by its own table."""
    services, known = view.inventory.services, view.inventory.service_count_v6
    if services is None and known is None:
        return unread(view.inventory, ResourceKind.SERVICES)
    # Where a digest counted them, the Services listed beside it are only some of them.
    count = sum(1 for s in services or () if any(a.version == 6 for a in s.cluster_ips)) if known is None else known
    if not count:
        return ()
    facts = view.snapshot.host_facts.kube_proxy if view.snapshot.host_facts is not None else None
    if facts is None:
        return reader_reason(view, Reader.KUBE_PROXY)
    if facts.mode == "none":
        return Reason.NOT_APPLICABLE
    has = facts.services.get(Family.V6)
    if has is None:
        return reader_reason(view, Reader.KUBE_PROXY)
    if has:
        return ()
    return (
        finding(
            Cause.NAT_KUBE_PROXY_MISSING,
            [Subject.of(SubjectKind.NODE, view.node)],
            evidence=[
                f"{count} Services have an IPv6 ClusterIP; kube-proxy (mode {facts.mode}) has no IPv6 service rules here"
            ],
            command="ip6tables -t nat -S KUBE-SERVICES | head; kubectl -n kube-system get configmap kube-proxy -o yaml | grep -i cidr",
        ),
    )


def match_pool(nat: NatFacts, pool: IPPool) -> tuple[Cause, str] | Reason | None:
    """What is wrong with NAT outgoing of one IPv6 pool: the first that holds, a Reason where it cannot be told, None when it works."""
    live = nat.live(Family.V6)
    if live is None:
        unread = [reason for (family, _), reason in nat.unread.items() if family is Family.V6]
        if unread:
            return Reason(unread[0])
        return Cause.NAT_MASQUERADE_MISSING, "chain cali-nat-outgoing exists in no backend"
    if live.mark_rule and live.hooked:
        return None
    return _match_backend(live, pool)


def _match_backend(live: NatBackend, pool: IPPool) -> tuple[Cause, str] | Reason | None:
    where = f"cali-nat-outgoing ({live.backend})"
    if live.chain and not live.hooked:
        return Cause.NAT_CHAIN_UNHOOKED, f"{where} exists and POSTROUTING does not reach it"
    if not live.rules:
        return Cause.NAT_MASQUERADE_MISSING, f"{where} holds no MASQUERADE or SNAT rule"
    covered = live.masquerades(pool.cidr)
    if covered is None:
        return Reason.READER_FAILED
    if covered:
        return None
    sets = ", ".join(f"{r.set_name} = {{{', '.join(map(str, r.members or ()))}}}" for r in live.rules if r.set_name)
    return Cause.NAT_POOL_NOT_IN_SET, f"{where} matches {sets}, which lacks {pool.cidr}"


def _judge(view: RuleInput, cause: Cause) -> Judgement:
    if view.inventory.pools is None:
        return unread(view.inventory, ResourceKind.IP_POOLS)
    pools = [p for p in view.inventory.pools if p.nat_outgoing and not p.disabled and family_of(p.cidr) is Family.V6]
    if not pools:
        return ()
    nat = view.snapshot.host_facts.nat if view.snapshot.host_facts is not None else None
    if nat is None:
        return reader_reason(view, Reader.NAT)
    matches = [(pool, match_pool(nat, pool)) for pool in pools]
    reasons = [m for _, m in matches if isinstance(m, Reason)]
    found = [(pool, m[1]) for pool, m in matches if isinstance(m, tuple) and m[0] is cause]
    if not found:
        return reasons[0] if reasons else ()
    live = nat.live(Family.V6)
    return (
        finding(
            cause,
            [Subject.of(SubjectKind.POOL, pool.name) for pool, _ in found],
            evidence=[f"pool {pool.name} ({pool.cidr}) has natOutgoing: true; {text}" for pool, text in found],
            command=COMMANDS[live.backend if live is not None else Backend.IPTABLES_NFT],
        ),
    )


NAT_RULES: dict[Cause, Rule] = {
    Cause.NAT_CHAIN_UNHOOKED: nat_chain_unhooked,
    Cause.NAT_MASQUERADE_MISSING: nat_masquerade_missing,
    Cause.NAT_POOL_NOT_IN_SET: nat_pool_not_in_set,
    Cause.NAT_KUBE_PROXY_MISSING: nat_kube_proxy_missing,
}
