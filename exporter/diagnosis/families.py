"""Whether each family works (dualstack_family_ok): the verdict over vantages and groups of targets. Pure.

Read from the snapshot beside the rules, not from their findings.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from exporter.model.dial import Dial, mostly_passed
from exporter.model.family import FAMILIES, Family
from exporter.model.grouping import grouped
from exporter.model.probe import Group
from exporter.model.report import FamilyReport, Snapshot
from exporter.model.subject import Subject, SubjectKind
from exporter.model.vantage import PodState

EVIDENCE = 3  # that a report shows
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
    counting = (d for d in snapshot.last if family in d.counted and d.group in GROUPS)
    by_vantage = grouped(counting, lambda d: d.vantage.key)
    verdicts = {key: _works(made, reached.get(key, {})) for key, made in by_vantage.items()}
    return {key: works for key, works in verdicts.items() if works is not None}


def _reached(snapshot: Snapshot, family: Family) -> dict[str, dict[Subject, bool]]:
    """By vantage and target, whether most of the last three dials passed: one of several endpoints may be dead.

    A pod dials another peer each time: its last three dials of any are one target more (ANY_PEER).
    """
    found: dict[str, dict[Subject, bool]] = {}
    peers: dict[str, list[Dial]] = {}
    for dials in snapshot.dials:
        if family in dials.passed:
            now = dials.now
            found.setdefault(now.vantage.key, {})[now.destination] = dials.passed[family]
            if now.group is Group.PEERS:
                peers.setdefault(now.vantage.key, []).extend(dials.made)
    for vantage, made in peers.items():
        found[vantage][ANY_PEER] = mostly_passed(made)[family]
    return found


def _works(made: Iterable[Dial], reached: Mapping[Subject, bool]) -> bool | None:
    """Whether in each group that has the family one target is reached at its deepest layer; None: nothing counted."""
    groups = grouped(made, lambda d: d.group)
    verdicts = [verdict for group in groups.values() if (verdict := _group_works(group, reached)) is not None]
    return all(verdicts) if verdicts else None


def _group_works(made: Sequence[Dial], reached: Mapping[Subject, bool]) -> bool | None:
    """A target that is meant to be unreachable passes where the family is dead: it proves nothing beside another."""
    asked = {d.destination for d in [d for d in made if d.is_meant_to_arrive] or made}
    if made[0].group is Group.PEERS:
        asked |= {subject for subject in reached if subject.is_a(SubjectKind.PEER)}
    verdicts = [reached[subject] for subject in asked if subject in reached]
    return any(verdicts) if verdicts else None
