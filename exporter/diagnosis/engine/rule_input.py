"""What a rule sees and what it says: the one signature of all rules. Between snapshot and verdict; data only.

A rule is a pure function named after the cause it finds. It returns the findings that hold (none: the cause does not
hold), or the Reason for which it could not tell. It never guesses: what was not read is a Reason, not an empty answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from exporter.diagnosis.engine.causes import SPECS
from exporter.model.family import Family
from exporter.model.inventory import Inventory
from exporter.model.reason import Reason
from exporter.model.report import Cause, Finding, Pair, Role, Severity, Snapshot
from exporter.model.subject import Subject


@dataclass(frozen=True, slots=True)
class NamespacePolicy:
    """One entry of `expect.services`: glob patterns of namespaces, and any | prefer_dual_stack."""

    namespaces: tuple[str, ...]
    policy: str


@dataclass(frozen=True, slots=True)
class Expectations:
    """What the operator said is meant to be, as far as rules need it."""

    services: tuple[NamespacePolicy, ...] = (NamespacePolicy(("*",), "any"),)
    aaaa: str = "served"  # served | blocked (on purpose)
    control_names: tuple[tuple[str, tuple[str, ...]], ...] = ()  # dns.names: (name, (A, AAAA) that are true of it)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class RuleInput:
    """This round, the one before, and now (Unix seconds). Two rounds of a pod are its kept observation and the one before that.

    `standing`: the pairs that each cause was found of in the round before. `accounted`: pairs whose failures up to a
    moment (Unix seconds) followed from a cause that is over. A view is equal to itself alone.
    """

    now: float
    snapshot: Snapshot
    previous: Snapshot | None = None
    expect: Expectations = Expectations()
    standing: Mapping[Cause, frozenset[Pair]] = field(default_factory=dict)
    accounted: Mapping[Pair, float] = field(default_factory=dict)

    @property
    def inventory(self) -> Inventory:
        return self.snapshot.inventory

    @property
    def node(self) -> str:
        return self.snapshot.node

    @property
    def role(self) -> Role:
        return self.snapshot.role

    def expected(self, family: Family) -> bool | None:
        """Whether pods of this cluster are meant to have the family; None: not known."""
        return self.snapshot.families.get(family)


Judgement: TypeAlias = tuple[Finding, ...] | Reason
Rule: TypeAlias = Callable[[RuleInput], Judgement]


def finding(
    cause: Cause,
    subjects: Iterable[Subject],
    *,
    evidence: Iterable[str],
    command: str,
    severity: Severity | None = None,
    pairs: Iterable[Pair] = (),
    kind: str = "",
    affects_destinations: Iterable[Subject] = (),
) -> Finding:
    """A finding with the cause's usual severity unless another is given; subjects sorted and unique."""
    return Finding(
        cause=cause,
        severity=severity or SPECS[cause].severity,
        subjects=tuple(sorted(set(subjects))),
        evidence=tuple(evidence),
        command=command,
        pairs=frozenset(pairs),
        kind=kind,
        affects_destinations=frozenset(affects_destinations),
    )
