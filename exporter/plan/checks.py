"""Which dials a round makes: targets x vantages x families, with jitter and deadlines. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import replace

from exporter.config.schema import TargetConfig, VantageKind
from exporter.model.family import Family
from exporter.model.probe import Check, Group, Layer, Target, Timeouts
from exporter.model.vantage import PodState, Vantage
from exporter.plan.peer_pods import peer_pods
from exporter.plan.round_plan import RoundPlan, rotated
from exporter.plan.targets import at_pods, inside, outside


def direct_checks(plan: RoundPlan) -> tuple[Check, ...]:
    """Dials to what has an address: the cluster's own targets, and outside ones given by address."""
    config, context = plan.config, plan.context
    within = inside(context.inventory, config, context.families, context.now, starting=plan.may_be_unready)
    if plan.number % plan.rounds_between_api_dials:
        within = tuple(t for t in within if t.group is not Group.APISERVER)
    literal = [(t, made) for t, made in outside(config, context.families) if made is not None]
    return (
        *host_checks(plan, [*within, *(made for t, made in literal if VantageKind.HOST in t.vantages)]),
        *pod_checks(plan, context.sample, [*within, *(made for t, made in literal if VantageKind.POD in t.vantages)]),
    )


def named_checks(
    plan: RoundPlan, vantage: Vantage, targets: Sequence[tuple[TargetConfig, Target]]
) -> tuple[Check, ...]:
    """Dials of a vantage to its targets, now that these have addresses."""
    chosen = [made for t, made in targets if VantageKind(vantage.kind) in t.vantages]
    return host_checks(plan, chosen) if vantage.kind == "host" else pod_checks(plan, [vantage], chosen)


def host_checks(plan: RoundPlan, targets: Iterable[Target]) -> tuple[Check, ...]:
    host, families = plan.context.host.vantage, plan.context.families
    return tuple(_check(plan, host, t, f) for t in targets for f in families if f in t.addresses)


def pod_checks(plan: RoundPlan, pods: Sequence[Vantage], targets: Sequence[Target]) -> tuple[Check, ...]:
    """Every given target from each pod, but no API server, and only one peer: the next one each round.

    One that just failed comes a second time, beside the next.
    """
    peers = [t for t in targets if t.group is Group.PEERS]
    known = peer_pods(plan.context.inventory) if peers else {}
    peers = [at_pods(t, known.get(t.peer, ())) for t in peers]
    others = [t for t in targets if t.group not in {Group.PEERS, Group.APISERVER}]
    unsupported = plan.context.unsupported_families
    checks: list[Check] = []
    for index, pod in enumerate(pods):
        turn = rotated(peers, index + plan.number)
        again = [t for t in turn[1:] if t.subject == plan.context.peers_again.get(pod.key)]
        dialled = [*others, *turn[:1], *again]
        if pod.state is PodState.INTERCEPTED:  # its connections would end at a local proxy
            dialled = [replace(t, layers=(Layer.ICMP,)) for t in dialled if Layer.ICMP in t.layers]
        supported = [f for f in plan.context.families if f in pod.families and (pod.subject, f) not in unsupported]
        checks += [_check(plan, pod, t, f) for t in dialled for f in supported if f in t.addresses]
    return tuple(checks)


def _check(plan: RoundPlan, vantage: Vantage, target: Target, family: Family) -> Check:
    whole = plan.pace.whole
    limits = Timeouts({layer: min(plan.config.timeouts[layer], whole) for layer in Layer}, whole)
    if target.timeout is not None:
        limits = replace(limits, whole=min(limits.whole, target.timeout))
    seed = hashlib.sha256(vantage.key.encode()).digest()  # all of a pod at once: its namespace is entered once for them
    start = int.from_bytes(seed[:4], "big") / 2**32 * plan.pace.spread
    return Check(vantage=vantage, target=target, family=family, timeouts=limits, start=start)
