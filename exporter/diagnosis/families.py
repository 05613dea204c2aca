"""Whether each family works (dualstack_family_ok): the verdict over vantages and groups of targets. Pure.

Read from the snapshot beside the rules, not from their findings.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from exporter.model.family import FAMILIES, Family
from exporter.model.grouping import grouped
from exporter.model.probe import Group, Layer, Observation
from exporter.model.report import FamilyReport, Snapshot
from exporter.model.subject import Subject, SubjectKind
from exporter.model.vantage import PodState

EVIDENCE = 3  # that a report shows
DIALS = 3  # that decide whether a vantage reaches a target
ANY_PEER = Subject.of(SubjectKind.PEER, "")  # in place of each peer's subject
GROUPS = frozenset({Group.SERVICE, Group.PEERS, Group.CLUSTER_DNS, Group.OUTSIDE})


def family_reports(snapshot: Snapshot) -> dict[Family, FamilyReport]:
    """Expected and ok for both families; ok is None where the family is not expected or nothing was asked."""
    return {
        family: FamilyReport(
            expected=snapshot.families.get(family),
            ok=None if snapshot.families.get(family) is False else family_ok(snapshot, family),
            evidence=tuple(snapshot.family_evidence.get(family, ())[:EVIDENCE]),
        )
        for family in FAMILIES
    }


def family_ok(snapshot: Snapshot, family: Family) -> bool | None:
    """Whether it works for more than half of the eligible pods with a kept result; without pods, for the host."""
    eligible = {p.vantage.key for p in snapshot.pods if p.vantage.state is PodState.ELIGIBLE}
    verdicts = _by_vantage(snapshot, family)
    pods = [works for key, works in verdicts.items() if key in eligible]
    if pods:
        return 2 * sum(pods) > len(pods)
    if eligible or snapshot.host is None:
        return None
    return verdicts.get(snapshot.host.key)


def _by_vantage(snapshot: Snapshot, family: Family) -> dict[str, bool]:
    reached = _reached(snapshot, family)
    counting = (o for o in snapshot.kept if o.family is family and o.target.group in GROUPS and not o.policy)
    by_vantage = grouped(counting, lambda o: o.vantage.key)
    verdicts = {key: _works(made, reached.get(key, {})) for key, made in by_vantage.items()}
    return {key: works for key, works in verdicts.items() if works is not None}


def _reached(snapshot: Snapshot, family: Family) -> dict[str, dict[Subject, bool]]:
    """By vantage and target, whether most of the last three dials passed: one of several endpoints may be dead.

    A pod dials another peer each time: its last three dials of any are one target more (ANY_PEER).
    """
    dials: dict[str, dict[Subject, list[tuple[float, bool]]]] = {}
    for made in snapshot.history:
        for (vantage, subject), observations in _by_target(made, family).items():
            passed = _passed(observations)
            if passed is None:
                continue
            one = max(o.time for o in observations), passed
            targets = dials.setdefault(vantage, {})
            targets.setdefault(subject, []).append(one)
            if subject.is_a(SubjectKind.PEER):
                targets.setdefault(ANY_PEER, []).append(one)
    return {
        vantage: {subject: _mostly(made) for subject, made in targets.items()} for vantage, targets in dials.items()
    }


def _by_target(made: Iterable[Observation], family: Family) -> dict[tuple[str, Subject], list[Observation]]:
    """The layers of each dial, by vantage and target."""
    counting = (o for o in made if o.family is family and o.counted)
    return grouped(counting, lambda o: (o.vantage.key, o.target.subject))


def _mostly(dials: Iterable[tuple[float, bool]]) -> bool:
    """Whether most of the newest three passed."""
    newest = [passed for _, passed in sorted(dials, key=lambda one: one[0], reverse=True)[:DIALS]]
    return 2 * sum(newest) > len(newest)


def _passed(observations: Iterable[Observation]) -> bool | None:
    """Whether one dial passed at the deepest configured layer; None where it neither got there nor failed before."""
    verdicts = [_is_deepest(o) and o.passed for o in observations if _is_deepest(o) or not o.passed]
    return any(verdicts) if verdicts else None


def _is_deepest(o: Observation) -> bool:
    """A target that is meant to be unreachable is not tried beyond the layer at which it passes."""
    return o.layer is o.target.deepest or (not o.target.expect_reachable and o.layer is not Layer.ICMP)


def _works(made: Iterable[Observation], reached: Mapping[Subject, bool]) -> bool | None:
    """Whether in each group that has the family one target is reached at its deepest layer; None: nothing counted."""
    groups = grouped((o for o in made if o.counted), lambda o: o.target.group)
    verdicts = [verdict for group in groups.values() if (verdict := _group_works(group, reached)) is not None]
    return all(verdicts) if verdicts else None


def _group_works(made: Sequence[Observation], reached: Mapping[Subject, bool]) -> bool | None:
    """A target that is meant to be unreachable passes where the family is dead: it proves nothing beside another."""
    asked = {o.target.subject for o in [o for o in made if o.target.expect_reachable] or made}
    if made[0].target.group is Group.PEERS:
        asked |= {subject for subject in reached if subject.is_a(SubjectKind.PEER)}
    verdicts = [reached[subject] for subject in asked if subject in reached]
    return any(verdicts) if verdicts else None
