"""Which DNS questions a round asks, of whom, and from where; within the node's budget. Pure.

One pod per distinct resolv.conf asks the AAAA verdict set and what the libcs would ask; the other sampled pods ask one
name's AAAA; each nameserver of dns.servers is asked the verdict set from one place. What exceeds the budget waits: the
next round goes on where this one stopped.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from exporter.config.schema import Config
from exporter.libc.resolver import all_candidates
from exporter.model.dns import ResolvConf
from exporter.model.family import parse_address
from exporter.model.inventory import Inventory
from exporter.model.pod import Pod
from exporter.model.probe import Nameserver, Purpose, Question
from exporter.model.report import PodView
from exporter.model.service import Service
from exporter.model.vantage import PodState, Vantage
from exporter.model.well_known import dns_services
from exporter.plan.aaaa_questions import CANARY, DNS64_NAME, WantedQuestion, verdict_set
from exporter.plan.dns_names import canary, cluster_domain, is_inside, random_label
from exporter.plan.servers import CLUSTER_DNS, KnownServers, servers_of

SERVICES_A_ROUND = 15  # Services whose records the cluster role asks at most in one round
RECORDS = 3  # questions about one Service


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """What the questions of a round depend on besides the vantages. `budget` None: a check, where it does not bind."""

    config: Config
    inventory: Inventory
    known: KnownServers
    number: int
    now: float
    budget: int | None
    timeout: float


@dataclass(frozen=True, slots=True)
class AskingVantage:
    """One place to ask from: its file, and the servers of it with whether each may be asked."""

    vantage: Vantage
    conf: ResolvConf
    servers: tuple[tuple[Nameserver, bool], ...]

    @property
    def allowed(self) -> tuple[Nameserver, ...]:
        return tuple(server for server, allowed in self.servers if allowed)


@dataclass(frozen=True, slots=True)
class AskedNames:
    """What is asked about in a round: the verdict set, and whether the operator named anything outside the cluster's domain."""

    wanted: tuple[WantedQuestion, ...]
    domain: str
    outside: bool

    def may_ask(self, name: str) -> bool:
        """By default nothing is asked that a cluster's DNS would have to ask others about (contract section 3)."""
        return self.outside or is_inside(name, self.domain)


def plan_questions(
    host: Vantage, sample: Sequence[PodView], host_conf: ResolvConf | None, asking: Asking
) -> tuple[Question, ...]:
    """The questions in order of worth, within the budget; what may not be asked is listed as such and costs nothing."""
    places = _places(host, sample, host_conf, asking)
    topic = _topic([p.conf for p in places], asking)
    asked_of_pods = any(server.address is None for server in asking.config.dns.servers)
    leaders, others = _leaders(places if asked_of_pods else [])
    questions = [
        *_configured(places, topic, asking),
        *(q for leader in leaders for q in _verdict_and_prediction(leader, topic, asking)),
        *(q for place in others for q in _pulse(place, topic, asking)),
        *_reference(host, asking),
    ]
    unique = {(q.vantage.key, q.server.address, q.name, q.qtype, q.purpose): q for q in questions}
    asked = [q for q in unique.values() if q.allowed]
    refused = [q for q in unique.values() if not q.allowed]
    return (*_within_budget(asked, asking), *refused)


def _within_budget(asked: Sequence[Question], asking: Asking) -> Sequence[Question]:
    """All of them, or as many as the budget allows from where the round before stopped."""
    if asking.budget is None or len(asked) <= asking.budget:
        return asked
    first = asking.number * asking.budget % len(asked)
    return [*asked[first:], *asked[:first]][: asking.budget]


def plan_service_questions(host: Vantage, asking: Asking) -> tuple[Question, ...]:
    """The cluster role's: A, AAAA and PTR of Services with an IPv6 ClusterIP, of the cluster DNS, in rotation."""
    servers = [Nameserver(a, CLUSTER_DNS) for s in dns_services(asking.inventory) for a in s.cluster_ips]
    domain = cluster_domain(asking.inventory, ())
    if not servers or not domain:
        return ()
    wanted = [item for service in _services_with_ipv6(asking.inventory) for item in _records(service, domain)]
    size = _service_share(asking.budget)
    first = asking.number * size % len(wanted) if wanted else 0
    turn = [*wanted[first:], *wanted[:first]][:size]
    return tuple(_question(host, servers[0], item, Purpose.VERDICT, asking) for item in turn)


def service_rotation(inventory: Inventory, budget: int | None) -> int:
    """Rounds until every Service was asked about once."""
    return -(-RECORDS * len(_services_with_ipv6(inventory)) // max(1, _service_share(budget)))


def _service_share(budget: int | None) -> int:
    """Questions about Services in one round, whole Services where the budget allows for one."""
    most = SERVICES_A_ROUND * RECORDS
    if budget is None or budget >= most:
        return most
    return budget - budget % RECORDS if budget >= RECORDS else budget


def _services_with_ipv6(inventory: Inventory) -> list[Service]:
    return [s for s in inventory.services or () if any(a.version == 6 for a in s.cluster_ips)]


def _records(service: Service, domain: str) -> Iterator[WantedQuestion]:
    name = f"{service.name}.{service.namespace}.svc.{domain}"
    yield WantedQuestion(name, "A", CANARY)
    yield WantedQuestion(name, "AAAA", CANARY)
    address = next(a for a in service.cluster_ips if a.version == 6)
    yield WantedQuestion(address.reverse_pointer, "PTR", CANARY)


def control_names(asking: Asking) -> tuple[str, ...]:
    """dns.names; on a host without Kubernetes ipv4only.arpa unless the key says otherwise (contract section 3)."""
    if asking.config.dns.names is not None:
        return tuple(n.name for n in asking.config.dns.names)
    return () if asking.inventory.source != "none" else (DNS64_NAME,)


def _places(
    host: Vantage, sample: Sequence[PodView], host_conf: ResolvConf | None, asking: Asking
) -> list[AskingVantage]:
    """The sampled pods that are no mesh's; without any, the host stands in with its own file."""
    pods = {p.uid: p for p in asking.inventory.local_pods(asking.config.node_name)}
    found = [
        _place(view.vantage, view.resolv_conf, asking.known, pods.get(view.vantage.uid))
        for view in sample
        if view.resolv_conf is not None and view.vantage.state is PodState.ELIGIBLE
    ]
    if not found and host_conf is not None:
        return [_place(host, host_conf, asking.known, None)]
    return found


def _place(vantage: Vantage, conf: ResolvConf, known: KnownServers, pod: Pod | None) -> AskingVantage:
    return AskingVantage(vantage, conf, servers_of(conf, known, pod))


def _leaders(places: Sequence[AskingVantage]) -> tuple[list[AskingVantage], list[AskingVantage]]:
    """One place per distinct file, and the rest."""
    first: dict[ResolvConf, AskingVantage] = {}
    for place in places:
        first.setdefault(place.conf, place)
    leading = {id(p) for p in first.values()}
    return list(first.values()), [p for p in places if id(p) not in leading]


def _topic(confs: Iterable[ResolvConf], asking: Asking) -> AskedNames:
    domain = cluster_domain(asking.inventory, confs)
    service = canary(asking.inventory) if domain else None
    names = control_names(asking)
    hosts = (target.host for target in asking.config.targets if target.host and parse_address(target.host) is None)
    return AskedNames(
        wanted=verdict_set(
            canary=f"{service.name}.{service.namespace}.svc.{domain}" if service is not None else "",
            domain=domain,
            names=names,
            random=random_label(asking.inventory, asking.config.node_name, asking.now),
        ),
        domain=domain,
        outside=any(not is_inside(name, domain) for name in (*names, *hosts)),
    )


def _verdict_and_prediction(place: AskingVantage, topic: AskedNames, asking: Asking) -> Iterator[Question]:
    for server, allowed in place.servers:
        if not allowed and topic.wanted:
            yield _question(place.vantage, server, topic.wanted[0], Purpose.VERDICT, asking, allowed=False)
            continue
        for item in topic.wanted:
            yield _question(place.vantage, server, item, Purpose.VERDICT, asking)
    for name, label in _predicted(topic.wanted).items():
        for candidate in all_candidates(name, place.conf):
            if topic.may_ask(candidate):
                for server in place.allowed:
                    for qtype in ("A", "AAAA"):
                        item = WantedQuestion(candidate, qtype, label)
                        edns = "edns0" in place.conf.options  # as a libc asks
                        yield _question(place.vantage, server, item, Purpose.PREDICTION, asking, edns=edns)


def _predicted(wanted: Iterable[WantedQuestion]) -> dict[str, str]:
    """The names whose resolution is predicted, with their labels: those that exist."""
    return {w.name: w.label for w in wanted if w.qtype == "MX"}


def _pulse(place: AskingVantage, topic: AskedNames, asking: Asking) -> Iterator[Question]:
    """One name's AAAA: the canary's, else a control name's."""
    wanted = [w for w in topic.wanted if w.qtype == "AAAA"]
    for server, allowed in place.servers[:1]:
        if wanted:
            yield _question(place.vantage, server, wanted[0], Purpose.PULSE, asking, allowed=allowed)


def _configured(places: Sequence[AskingVantage], topic: AskedNames, asking: Asking) -> Iterator[Question]:
    """Each named nameserver of dns.servers, from one pod a round; from the host where there are none (its place stands in)."""
    if not places:
        return
    place = places[asking.number % len(places)]
    for server in asking.config.dns.servers:
        if server.address is not None:
            for item in topic.wanted:
                yield _question(place.vantage, Nameserver(server.address, server.name), item, Purpose.VERDICT, asking)


def _reference(host: Vantage, asking: Asking) -> Iterator[Question]:
    for server in asking.config.dns.reference:
        for name in asking.config.dns.names or ():
            for qtype in ("A", "AAAA"):
                if server.address is not None:
                    item = WantedQuestion(name.name, qtype, name.name)
                    yield _question(host, Nameserver(server.address, server.name), item, Purpose.REFERENCE, asking)


def _question(
    vantage: Vantage,
    server: Nameserver,
    wanted: WantedQuestion,
    purpose: Purpose,
    asking: Asking,
    *,
    allowed: bool = True,
    edns: bool = True,
) -> Question:
    return Question(
        vantage=vantage,
        server=server,
        name=wanted.name,
        qtype=wanted.qtype,
        label=wanted.label or CANARY,
        purpose=purpose,
        edns=edns,
        allowed=allowed,
        timeout=asking.timeout,
    )
