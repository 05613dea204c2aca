"""Which dials a round makes: targets x vantages x families, with jitter and deadlines. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import replace
from math import ceil

from exporter.model.family import Family
from exporter.model.probe import Check, Group, Layer, Target, Timeouts
from exporter.model.vantage import PodState, Vantage

SPREAD = 5.0  # seconds over which a round's starts are spread


def host_checks(
    host: Vantage, targets: Iterable[Target], families: Sequence[Family], timeouts: Timeouts, *, spread: float = SPREAD
) -> tuple[Check, ...]:
    """Every given target from the host."""
    return tuple(_check(host, t, f, timeouts, spread) for t in targets for f in families if f in t.addresses)


def pod_checks(
    pods: Sequence[Vantage],
    targets: Sequence[Target],
    families: Sequence[Family],
    timeouts: Timeouts,
    *,
    turn: int,
    spread: float = SPREAD,
    unsupported: frozenset[tuple[str, Family]] = frozenset(),
) -> tuple[Check, ...]:
    """Every given target from each sampled pod, but one peer each (it moves on with `turn`), and never the API server.

    `unsupported`: (subject, family) of pods that lack a family for a good reason. A pod behind a service mesh is pinged
    only: its connections would end at a local proxy.
    """
    peers = [t for t in targets if t.group is Group.PEERS]
    others = [t for t in targets if t.group not in {Group.PEERS, Group.APISERVER}]
    checks: list[Check] = []
    for place, pod in enumerate(pods):
        spoken = [f for f in families if f in pod.families and (pod.subject, f) not in unsupported]
        own = [*others, peers[(place + turn) % len(peers)]] if peers else others
        for target in own:
            asked = _pinged(target) if pod.state is PodState.INTERCEPTED else target
            if asked is not None:
                wanted = [f for f in spoken if f in asked.addresses]
                checks.extend(_check(pod, asked, f, timeouts, spread) for f in wanted)
    return tuple(checks)


def rounds_between(dials: int, allowed: float | None) -> int:
    """Every how many rounds something may be dialled that takes `dials` connections at once, `allowed` a round on average."""
    return 1 if allowed is None else max(1, ceil(dials / allowed))


def _pinged(target: Target) -> Target | None:
    return replace(target, layers=(Layer.ICMP,)) if Layer.ICMP in target.layers else None


def _check(vantage: Vantage, target: Target, family: Family, timeouts: Timeouts, spread: float) -> Check:
    whole = min(timeouts.whole, target.timeout) if target.timeout is not None else timeouts.whole
    seed = f"{vantage.key}|{target.subject}|{family}".encode()
    start = int.from_bytes(hashlib.sha256(seed).digest()[:4], "big") / 2**32 * spread
    return Check(vantage=vantage, target=target, family=family, timeouts=replace(timeouts, whole=whole), start=start)
