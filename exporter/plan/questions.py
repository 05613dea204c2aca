"""Which DNS questions a round asks, of which nameservers, and from where; within the node's budget. Pure.

One pod per distinct resolv.conf asks the AAAA verdict set and what the libcs would ask; the other sampled pods ask for
one name's AAAA; each nameserver of dns.servers is asked the verdict set from one vantage. What exceeds the budget waits
for the next round.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from exporter.libc.resolver import all_candidates
from exporter.model.cause import Role
from exporter.model.cluster.inventory import Inventory, InventoryOrigin
from exporter.model.cluster.service import Service
from exporter.model.cluster.well_known import dns_services
from exporter.model.dns import ResolvConf
from exporter.model.dns_name import casefold
from exporter.model.family import Family, family_of
from exporter.model.probe import Nameserver, Purpose, Question
from exporter.model.vantage import PodState, Vantage
from exporter.plan.aaaa_questions import CANARY, RoundNames, WantedQuestion, cluster_domain, round_names, service_name
from exporter.plan.repeats import KnownNames
from exporter.plan.round_plan import RoundPlan, result_lifetime, rotated
from exporter.plan.servers import CLUSTER_DNS, servers_of

SERVICES_A_ROUND = 15  # Services whose records the cluster exporter asks for in one round
RECORDS = 3  # questions about one Service


@dataclass(frozen=True, slots=True)
class DnsVantage:
    """A vantage that asks, with its resolv.conf and the nameservers in it, each with whether it may be asked."""

    vantage: Vantage
    conf: ResolvConf
    servers: tuple[tuple[Nameserver, bool], ...]


def questions(plan: RoundPlan, budget: int | None) -> tuple[Question, ...]:
    """A node's, from its pods; the cluster's, from a cluster exporter that runs in one. Together within the budget."""
    of_cluster: tuple[Question, ...] = ()
    if plan.config.role is not Role.NODE and plan.context.inventory.source is InventoryOrigin.KUBERNETES:
        of_cluster = service_questions(plan, _service_budget(plan, budget))
    if not plan.context.probes_locally:
        return of_cluster
    return (*node_questions(plan, None if budget is None else budget - len(of_cluster)), *of_cluster)


def node_questions(plan: RoundPlan, budget: int | None) -> tuple[Question, ...]:
    """The most useful questions first, within the budget; what may not be asked is listed as such and costs nothing."""
    vantages = _vantages(plan)
    names = round_names([v.conf for v in vantages], plan)
    asks_pods = any(server.address is None for server in plan.config.dns.servers)
    first: dict[ResolvConf, DnsVantage] = {}
    for each in vantages if asks_pods else ():
        first.setdefault(each.conf, each)
    others = [v for v in vantages if asks_pods and v is not first[v.conf]]
    wanted = [
        *_configured(vantages, names, plan),
        *(q for each in first.values() for q in _verdict_and_prediction(each, names, plan)),
        *(q for each in others for q in _pulse(each, names, plan)),
        *_reference(plan),
    ]
    unique = {(q.vantage.key, q.server.address, q.name, q.qtype, q.purpose): q for q in wanted}
    allowed = tuple(q for q in unique.values() if q.allowed)
    if budget is not None and len(allowed) > budget:  # go on where the last round stopped
        allowed = rotated(allowed, plan.number * budget)[:budget]
    return (*allowed, *(q for q in unique.values() if not q.allowed))


def service_questions(plan: RoundPlan, budget: int | None) -> tuple[Question, ...]:
    """The cluster exporter's: A, AAAA and PTR of Services with an IPv6 ClusterIP, of the cluster DNS, in rotation."""
    inventory = plan.context.inventory
    servers = [Nameserver(a, CLUSTER_DNS) for s in dns_services(inventory) for a in s.cluster_ips]
    domain = cluster_domain(inventory, ())
    if not servers or not domain:
        return ()
    wanted = [item for service in _services_with_ipv6(inventory) for item in _records(service, domain)]
    size = _service_share(budget)
    host = plan.context.host.vantage
    chosen = rotated(wanted, plan.number * size)[:size]
    return tuple(_question(plan, host, servers[0], item, Purpose.VERDICT) for item in chosen)


def answer_lifetime(plan: RoundPlan, probed: int) -> float:
    """Seconds for which an answer is kept: two rotations of the pods, or of the Services asked about."""
    services = service_rotation(plan.context.inventory, _service_budget(plan, plan.pace.queries))
    return max(result_lifetime(plan, probed), 2 * services * plan.pace.interval)


def known_names(plan: RoundPlan) -> KnownNames:
    """What the configuration says about names, for judging whether an answer is doubtful."""
    context = plan.context
    confs = [p.resolv_conf for p in (*context.pods, context.host) if p.resolv_conf is not None]
    expected = {casefold(n.name): frozenset(n.expect) for n in plan.config.dns.names or ()}
    return KnownNames(cluster_domain(context.inventory, confs), expected)


def _service_budget(plan: RoundPlan, budget: int | None) -> int | None:
    """For questions about Services: all of it in role cluster, half where a node's own questions share it."""
    return budget if budget is None or not plan.context.probes_locally else budget // 2


def service_rotation(inventory: Inventory, budget: int | None) -> int:
    """Rounds until every Service was asked about once."""
    return -(-RECORDS * len(_services_with_ipv6(inventory)) // max(1, _service_share(budget)))


def _service_share(budget: int | None) -> int:
    """Questions about Services in one round: about whole Services, if the budget is enough for one."""
    most = SERVICES_A_ROUND * RECORDS
    size = most if budget is None else min(most, budget)
    return size - size % RECORDS or size


def _services_with_ipv6(inventory: Inventory) -> list[Service]:
    return [s for s in inventory.services or () if any(family_of(a) is Family.V6 for a in s.cluster_ips)]


def _records(service: Service, domain: str) -> Iterator[WantedQuestion]:
    name = service_name(service, domain)
    yield WantedQuestion(name, "A", CANARY)
    yield WantedQuestion(name, "AAAA", CANARY)
    address = next(a for a in service.cluster_ips if family_of(a) is Family.V6)
    yield WantedQuestion(address.reverse_pointer, "PTR", CANARY)


def _vantages(plan: RoundPlan) -> list[DnsVantage]:
    """The sampled pods outside a service mesh; if there are none, the host with its own resolv.conf."""
    context, pods = plan.context, plan.pods_by_uid
    eligible = [v for v in context.sampled if v.vantage.state is PodState.ELIGIBLE and v.resolv_conf is not None]
    return [
        DnsVantage(view.vantage, conf, servers_of(conf, context.known, pods.get(view.vantage.uid)))
        for view in eligible or [context.host]
        if (conf := view.resolv_conf) is not None
    ]


def _verdict_and_prediction(source: DnsVantage, names: RoundNames, plan: RoundPlan) -> Iterator[Question]:
    for server, allowed in source.servers:
        for item in names.wanted if allowed else names.wanted[:1]:
            yield _question(plan, source.vantage, server, item, Purpose.VERDICT, allowed=allowed)
    edns = "edns0" in source.conf.options  # as a libc asks
    predicted = {w.name: w.label for w in names.wanted if w.qtype == "MX"}  # the names that exist
    for name, label in predicted.items():
        for candidate in filter(names.may_ask, all_candidates(name, source.conf)):
            for server in (server for server, allowed in source.servers if allowed):
                for qtype in ("A", "AAAA"):
                    item = WantedQuestion(candidate, qtype, label)
                    yield _question(plan, source.vantage, server, item, Purpose.PREDICTION, edns=edns)


def _pulse(source: DnsVantage, names: RoundNames, plan: RoundPlan) -> Iterator[Question]:
    """One name's AAAA: the canary's, else a control name's."""
    wanted = [w for w in names.wanted if w.qtype == "AAAA"][:1]
    for server, allowed in source.servers[:1]:
        yield from (_question(plan, source.vantage, server, w, Purpose.PULSE, allowed=allowed) for w in wanted)


def _configured(vantages: Sequence[DnsVantage], names: RoundNames, plan: RoundPlan) -> Iterator[Question]:
    """Each named nameserver of dns.servers, from one vantage, which changes each round."""
    servers = [Nameserver(s.address, s.name) for s in plan.config.dns.servers if s.address is not None]
    for source in rotated(vantages, plan.number)[:1]:
        yield from (_question(plan, source.vantage, s, w, Purpose.VERDICT) for s in servers for w in names.wanted)


def _reference(plan: RoundPlan) -> Iterator[Question]:
    host, dns = plan.context.host.vantage, plan.config.dns
    servers = [Nameserver(s.address, s.name) for s in dns.reference if s.address is not None]
    wanted = [WantedQuestion(n.name, qtype, n.name) for n in dns.names or () for qtype in ("A", "AAAA")]
    return (_question(plan, host, server, item, Purpose.REFERENCE) for server in servers for item in wanted)


def _question(
    plan: RoundPlan,
    vantage: Vantage,
    server: Nameserver,
    wanted: WantedQuestion,
    purpose: Purpose,
    *,
    allowed: bool = True,
    edns: bool = True,
) -> Question:
    return Question(
        vantage=vantage,
        server=server,
        name=wanted.name,
        qtype=wanted.qtype,
        label=wanted.label,
        purpose=purpose,
        edns=edns,
        allowed=allowed,
        timeout=min(plan.config.timeouts["dns"], plan.pace.whole),
    )
