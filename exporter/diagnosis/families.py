"""Whether each family works (dualstack_family_ok): the verdict over vantages and groups of targets. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from exporter.model.family import FAMILIES, Family
from exporter.model.probe import Group, Layer, Observation
from exporter.model.report import FamilyReport, Snapshot
from exporter.model.vantage import PodState

GROUPS = frozenset({Group.SERVICE, Group.PEERS, Group.CLUSTER_DNS, Group.OUTSIDE})


def family_reports(snapshot: Snapshot) -> dict[Family, FamilyReport]:
    """Expected and ok for both families; ok is None where the family is not expected or nothing was asked."""
    return {
        family: FamilyReport(
            expected=snapshot.families.get(family),
            ok=None if snapshot.families.get(family) is False else family_ok(snapshot, family),
        )
        for family in FAMILIES
    }


def family_ok(snapshot: Snapshot, family: Family) -> bool | None:
    """More than half of the eligible pods with a kept result work; without pods, the host decides (contract section 8)."""
    eligible = {p.vantage.key for p in snapshot.pods if p.vantage.state is PodState.ELIGIBLE}
    pods = [works for key, works in _by_vantage(snapshot.kept, family).items() if key in eligible]
    if pods:
        return 2 * sum(pods) > len(pods)
    if eligible or snapshot.host is None:
        return None
    return _by_vantage(snapshot.kept, family).get(snapshot.host.key)


def _by_vantage(observations: Iterable[Observation], family: Family) -> dict[str, bool]:
    by_vantage: dict[str, list[Observation]] = {}
    for o in observations:
        if o.family is family and o.target.group in GROUPS and not o.policy:
            by_vantage.setdefault(o.vantage.key, []).append(o)
    verdicts = {key: _works(made) for key, made in by_vantage.items()}
    return {key: works for key, works in verdicts.items() if works is not None}


def _works(made: Iterable[Observation]) -> bool | None:
    """In each group that has the family, one target passed at its deepest configured layer. None: nothing counted."""
    groups: dict[Group, list[Observation]] = {}
    for o in made:
        if o.counted:
            groups.setdefault(o.target.group, []).append(o)
    verdicts = [verdict for observations in groups.values() if (verdict := _group_works(observations)) is not None]
    return all(verdicts) if verdicts else None


def _group_works(made: Sequence[Observation]) -> bool | None:
    """A target that is meant to be out of reach passes where the family is dead: it proves nothing beside one that is not."""
    passed: dict[str, bool] = {}
    for o in [o for o in made if o.target.expect_reachable] or made:
        # Nothing is tried behind the layer at which a target out of reach passes.
        deepest = o.layer is o.target.deepest or (not o.target.expect_reachable and o.layer is not Layer.ICMP)
        if deepest or not o.passed:
            passed[o.target.subject] = passed.get(o.target.subject, False) or (deepest and o.passed)
    return any(passed.values()) if passed else None


def names(families: Mapping[Family, FamilyReport]) -> str:
    """The verdict in one line, for logs."""
    return " ".join(f"{f}={'ok' if r.ok else 'unknown' if r.ok is None else 'failing'}" for f, r in families.items())
