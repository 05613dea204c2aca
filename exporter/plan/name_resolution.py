"""Which target names are resolved for whom, in which order, and how long an answer may be used. Pure.

probes/resolution/target_resolver.py carries it out. Names are asked once per distinct resolv.conf, by one of its pods
and by the host, of the same nameservers: a pod decides what answers in its own namespace, so that no pod's answers may
lead another pod's dials. Where the two disagree, each pod asks for itself. A vantage whose own nameservers may not be
asked dials the addresses that the host's resolver gives: its path can still be tested. That the host's resolver has no
address shows nothing about it: its own might have one.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from exporter.config.schema import TargetConfig, VantageKind
from exporter.model.cluster.pod import Pod
from exporter.model.dns import ResolvConf
from exporter.model.grouping import grouped
from exporter.model.probe import NEUTRAL, Layer, Lookup, LookupOutcome, Nameserver, Observation, Outcome
from exporter.model.report import PodView
from exporter.model.vantage import Vantage
from exporter.plan.round_plan import RoundPlan, rotated
from exporter.plan.servers import KnownServers, servers_of
from exporter.plan.targets import outside

LONGEST = 60.0  # seconds for which addresses are used at most, whatever their TTL
LONGEST_NONE = 30.0  # the same for the answer that there are none
K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolutionGroup:
    """Vantages that share a resolv.conf, the targets they dial by name, and who asks whom for the names.

    `witness`: the host, which can ask the same nameservers; None where it cannot, or asks anyway. `refused`: why the
    vantages' own nameservers are not asked, in words; empty where they are, or none is known.
    """

    vantages: tuple[Vantage, ...]
    targets: tuple[TargetConfig, ...]
    asked_from: Vantage
    conf: ResolvConf
    servers: tuple[Nameserver, ...]
    witness: Vantage | None = None
    refused: str = ""


def resolution_groups(plan: RoundPlan) -> tuple[ResolutionGroup, ...]:
    """The host by itself, and the sampled pods by resolv.conf; the order rotates, so that a tight budget serves all."""
    context = plan.context
    targets = [t for t, made in outside(plan.config, context.families) if made is None]
    groups = []
    for views in ([context.host], *grouped(context.sampled, lambda view: view.resolv_conf).values()):
        wanted = [t for t in targets if VantageKind(views[0].vantage.kind) in t.vantages]
        if wanted:
            source, servers = _resolver_of(
                rotated(views, plan.number)[0], context.host, context.known, plan.pods_by_uid
            )
            others = source is not context.host and not any(map(_is_of_the_namespace, servers))
            groups.append(
                ResolutionGroup(
                    vantages=tuple(v.vantage for v in views),
                    targets=rotated(wanted, plan.number),
                    asked_from=source.vantage,
                    conf=source.resolv_conf or ResolvConf(),
                    servers=servers,
                    witness=context.host.vantage if others else None,
                    refused=_refused(views[0], context.known, plan.pods_by_uid),
                )
            )
    return rotated(groups, plan.number)


def _resolver_of(
    view: PodView, host: PodView, known: KnownServers, pods: Mapping[str, Pod]
) -> tuple[PodView, tuple[Nameserver, ...]]:
    """The view itself if one of its nameservers may be asked, else the host, and the nameservers that may be asked."""
    for each in (view, host):
        listed = servers_of(each.resolv_conf or ResolvConf(), known, pods.get(each.vantage.uid))
        servers = tuple(server for server, allowed in listed if allowed)
        if servers:
            return each, servers
    return host, ()


def _refused(view: PodView, known: KnownServers, pods: Mapping[str, Pod]) -> str:
    listed = servers_of(view.resolv_conf or ResolvConf(), known, pods.get(view.vantage.uid))
    if any(allowed for _, allowed in listed):
        return ""
    names = ", ".join(str(server.address) for server, _ in listed)
    return f"its nameservers may not be asked ({names}): dns.allow" if names else ""


def _is_of_the_namespace(server: Nameserver) -> bool:
    """Whether the address means another server in another network namespace."""
    return server.address.is_loopback or server.address.is_link_local


def lifetime(lookup: Lookup) -> float:
    """Seconds for which this answer may be used; 0 for what is no answer.

    Addresses: the least TTL of the CNAME chain and the records. No address: the SOA's negative TTL (RFC 2308 section
    5), but no longer than the chain that leads there; without an SOA it is not kept.
    """
    reply = lookup.reply
    if reply is None:
        return 0.0
    if lookup.outcome is LookupOutcome.ANSWER:
        return min(LONGEST, max(0, reply.ttl or 0))
    if lookup.outcome in {LookupOutcome.NODATA, LookupOutcome.NXDOMAIN} and reply.negative_ttl is not None:
        chain = reply.negative_ttl if reply.ttl is None else reply.ttl
        return min(LONGEST_NONE, max(0, min(reply.negative_ttl, chain)))
    return 0.0


def failed_hosts(observations: Iterable[Observation]) -> frozenset[str]:
    """The host names whose addresses could not be reached. A failed echo does not count if a connection was made."""
    return frozenset(
        o.target.host
        for o in observations
        if not o.passed
        and o.outcome not in NEUTRAL
        and o.outcome is not Outcome.NO_ADDRESS
        and (o.layer is not Layer.ICMP or o.target.deepest is Layer.ICMP)
    )


def admitted(due: Mapping[K, float], costs: Mapping[K, int], least: int, budget: float) -> frozenset[K]:
    """Which of the due names may be asked in this round: those asked longest ago, as far as the budget allows.

    `due`: when each was last answered; `costs`: questions that each took, `least` if unknown. The first one is always
    admitted: it stops when the budget is used up, and otherwise no name could ever be asked.
    """
    chosen: set[K] = set()
    spent = 0
    for key in sorted(due, key=lambda each: due[each]):  # names of one age stay in the order given, which rotates
        spent += costs.get(key, least)
        if chosen and spent > budget:
            break
        chosen.add(key)
    return frozenset(chosen)
