"""One round's turn: from what is there when it starts to what it dials and asks. Pure; daemon/rounds.py carries it out.

Brings together the parts of the plan (targets, checks, questions, namings, the sample); none of them is decided here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from exporter.config.schema import Config, VantageKind
from exporter.config.schema import TargetConfig as Configured
from exporter.model.family import FAMILIES, Family
from exporter.model.inventory import Inventory
from exporter.model.probe import Check, Group, Question, Target, Timeouts
from exporter.model.report import PodView, Role
from exporter.model.vantage import PodState, Vantage
from exporter.plan.checks import host_checks, pod_checks, rounds_between
from exporter.plan.dns_names import cluster_domain, fold_case
from exporter.plan.family_support import unsupported_families
from exporter.plan.name_resolution import Naming, plan_namings
from exporter.plan.pace import Pace
from exporter.plan.questions import Asking, plan_questions, plan_service_questions, service_rotation
from exporter.plan.repeats import KnownNames
from exporter.plan.result_history import DIALS, ResultHistory, choose_sample, rotation
from exporter.plan.servers import KnownServers, known_servers
from exporter.plan.targets import inside, outside

PROBED = frozenset({PodState.ELIGIBLE, PodState.INTERCEPTED})


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundContext:
    """What is there when the round starts. `host` and `pods` as seen; `probes_locally`: whether this machine is looked at at all."""

    host: PodView
    pods: tuple[PodView, ...]
    inventory: Inventory
    families: tuple[Family, ...]  # all but those known not to be expected
    sample: tuple[Vantage, ...]
    known: KnownServers
    now: float
    probes_locally: bool
    unsupported_families: frozenset[tuple[str, Family]]


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundPlan:
    """A round's place in the sequence, under which rules, and its scene: everything that decides what it asks."""

    number: int
    config: Config
    pace: Pace
    scene: RoundContext


def set_scene(
    host: PodView,
    pods: tuple[PodView, ...],
    inventory: Inventory,
    *,
    config: Config,
    expected: Mapping[Family, bool | None],
    store: ResultHistory,
    now: float,
    probes_locally: bool,
) -> RoundContext:
    """The scene of a round: which pods it samples, over which families, and which nameservers it may know."""
    eligible = [p.vantage for p in pods if p.vantage.state in PROBED]
    return RoundContext(
        host=host,
        pods=pods,
        inventory=inventory,
        families=tuple(f for f in FAMILIES if expected.get(f) is not False),
        sample=choose_sample(eligible, store, config.pods.sample),
        known=known_servers(inventory, config, host.resolv_conf),
        now=now,
        probes_locally=probes_locally,
        unsupported_families=unsupported_families(inventory, config.node_name),
    )


def direct_checks(turn: RoundPlan) -> tuple[Check, ...]:
    """Dials to what has an address: the cluster's own targets, and outside ones given by address."""
    config, scene = turn.config, turn.scene
    within = inside(scene.inventory, config, scene.families, scene.now)
    if turn.number % rounds_between_api_dials(turn):
        within = tuple(t for t in within if t.group is not Group.APISERVER)
    literal = [(t, made) for t, made in outside(config, scene.families) if made is not None]
    return (
        *_host_checks(turn, [*within, *(made for t, made in literal if VantageKind.HOST in t.vantages)]),
        *_pod_checks(turn, scene.sample, [*within, *(made for t, made in literal if VantageKind.POD in t.vantages)]),
    )


def namings(turn: RoundPlan) -> tuple[Naming, ...]:
    """Who dials outside targets by name, and of whom these names are asked."""
    scene = turn.scene
    return plan_namings(
        scene.host,
        _sampled(scene),
        [t for t, made in outside(turn.config, scene.families) if made is None],
        known=scene.known,
        pods={p.uid: p for p in scene.inventory.local_pods(turn.config.node_name) if p.uid},
        turn=turn.number,
    )


def named_checks(turn: RoundPlan, naming: Naming, targets: Sequence[tuple[Configured, Target]]) -> tuple[Check, ...]:
    """Dials of the vantages of one naming to its targets, now that these have addresses."""
    from_host = naming.vantages[0].kind == "host"
    pods = [v for v in naming.vantages if v.kind == "pod"]
    return (
        *_host_checks(turn, [made for t, made in targets if from_host and VantageKind.HOST in t.vantages]),
        *_pod_checks(turn, pods, [made for t, made in targets if VantageKind.POD in t.vantages]),
    )


def questions(turn: RoundPlan, budget: int | None) -> tuple[Question, ...]:
    """Those of a node, from its pods; those of the cluster, from a cluster role that really runs in one. Together in the budget."""
    scene = turn.scene
    asking = Asking(
        config=turn.config,
        inventory=scene.inventory,
        known=scene.known,
        number=turn.number,
        now=scene.now,
        budget=budget,
        timeout=timeouts(turn).dns,
    )
    host = scene.host.vantage
    of_cluster: tuple[Question, ...] = ()
    if turn.config.role is not Role.NODE and scene.inventory.source == "kubernetes":
        of_cluster = plan_service_questions(host, replace(asking, budget=_service_budget(turn, budget)))
    if not scene.probes_locally:
        return of_cluster
    rest = None if budget is None else budget - len(of_cluster)
    own = plan_questions(host, _sampled(scene), scene.host.resolv_conf, replace(asking, budget=rest))
    return (*own, *of_cluster)


def known_names(turn: RoundPlan) -> KnownNames:
    """What the configuration says of names, for doubts about answers."""
    scene = turn.scene
    places = [p.resolv_conf for p in (*scene.pods, scene.host) if p.resolv_conf is not None]
    expected = {fold_case(n.name): frozenset(n.expect) for n in turn.config.dns.names or ()}
    return KnownNames(cluster_domain(scene.inventory, places), expected)


def rounds_between_api_dials(turn: RoundPlan) -> int:
    """Every how many rounds the API server is dialled."""
    return rounds_between(len(turn.scene.families), turn.pace.connects)


def result_lifetime(turn: RoundPlan, probed: int) -> float:
    """Seconds that a vantage's result outlives its probe, with so many pods: two rotations."""
    interval = turn.pace.interval
    longest = max(rotation(probed, turn.config.pods.sample, interval), rounds_between_api_dials(turn) * interval)
    return 2 * longest + interval


def dial_lifetime(turn: RoundPlan, probed: int) -> float:
    """Seconds that a vantage's earlier dials are remembered: as many rounds as dials, or two rotations."""
    interval = turn.pace.interval
    return max(2 * rotation(probed, turn.config.pods.sample, interval) + interval, (DIALS + 0.5) * interval)


def answer_lifetime(turn: RoundPlan, probed: int) -> float:
    """The same of answers: two rotations of the pods, or of the Services that are asked about."""
    services = service_rotation(turn.scene.inventory, _service_budget(turn, turn.pace.queries))
    return max(result_lifetime(turn, probed), 2 * services * turn.pace.interval)


def timeouts(turn: RoundPlan) -> Timeouts:
    """The configured ones, none longer than the whole that the pace allows."""
    t, whole = turn.config.timeouts, turn.pace.whole
    icmp, dns, tcp, tls, http = (min(seconds, whole) for seconds in (t.icmp, t.dns, t.tcp, t.tls, t.http))
    return Timeouts(icmp=icmp, dns=dns, tcp=tcp, tls=tls, http=http, whole=whole)


def _service_budget(turn: RoundPlan, budget: int | None) -> int | None:
    """For questions about Services: all of it in role cluster; half where a node's own questions share it."""
    return budget if budget is None or not turn.scene.probes_locally else budget // 2


def _sampled(scene: RoundContext) -> tuple[PodView, ...]:
    keys = {v.key for v in scene.sample}
    return tuple(p for p in scene.pods if p.vantage.key in keys)


def _host_checks(turn: RoundPlan, targets: Iterable[Target]) -> tuple[Check, ...]:
    scene = turn.scene
    return host_checks(scene.host.vantage, targets, scene.families, timeouts(turn), spread=turn.pace.spread)


def _pod_checks(turn: RoundPlan, pods: Sequence[Vantage], targets: Sequence[Target]) -> tuple[Check, ...]:
    return pod_checks(
        pods,
        targets,
        turn.scene.families,
        timeouts(turn),
        turn=turn.number,
        spread=turn.pace.spread,
        unsupported=turn.scene.unsupported_families,
    )
