"""What a round saw, settled against what is still there at its end: before the snapshot. Pure.

Results of a pod that vanished or began terminating meanwhile are dropped; a failure from a pod that an egress policy
selects is marked.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from exporter.model.inventory import Inventory
from exporter.model.probe import Lookup, Observation, Outcome
from exporter.model.report import PodView
from exporter.model.vantage import PodState
from exporter.plan.policies import under_policy


@dataclass(frozen=True, slots=True)
class StillPresent:
    pods: tuple[PodView, ...]
    observations: tuple[Observation, ...]
    lookups: tuple[Lookup, ...]


def drop_vanished(
    pods: Iterable[PodView],
    observations: Iterable[Observation],
    lookups: Iterable[Lookup],
    *,
    left: Mapping[str, PodState | None],
    inventory: Inventory,
) -> StillPresent:
    """`left`: the pods that ended meanwhile, by vantage key, with their new state (None: they are no more); `inventory` as of now."""
    observations = tuple(observations)
    vanished = {o.vantage.key for o in observations if o.outcome is Outcome.VANISHED}
    gone = {*left, *vanished}
    restricted = under_policy(inventory)
    return StillPresent(
        pods=tuple(_as_left(p, left) for p in pods if _stays(p.vantage.key, left, vanished)),
        observations=tuple(
            replace(o, policy=True) if not o.passed and (o.vantage.subject, o.family) in restricted else o
            for o in observations
            if o.vantage.key not in gone
        ),
        lookups=tuple(one for one in lookups if one.question.vantage.key not in gone),
    )


def _stays(key: str, left: Mapping[str, PodState | None], vanished: set[str]) -> bool:
    """Whether a pod is still to be told of: it is in the inventory, if only as one that ends."""
    return left[key] is not None if key in left else key not in vanished


def _as_left(view: PodView, left: Mapping[str, PodState | None]) -> PodView:
    """A pod that ended meanwhile in its new state, without what was read of it."""
    state = left.get(view.vantage.key)
    return view if state is None else PodView(vantage=replace(view.vantage, state=state))
