"""Breaks one thing in a settled cluster, heals it, and says what the exporter made of it, round by round.

A fault is detected in the first round from which on exactly the expected causes stand unexplained; one more round shows
what they explain. It is cleared in the first round in which nothing is left. In no round may another cause stand
unexplained.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tests.lab.cluster import Cluster, Report
from tests.lab.fault import Fault

ROUNDS = 3  # to detect
PROOF = ("subjects", "evidence", "command", "runbook")


@dataclass(frozen=True)
class Seen:
    """What the reports of one round say together. Names of causes; severity of those unexplained; family: its verdict
    at the node.
    """

    causes: dict[str, str]
    explained: dict[str, str]
    infos: frozenset[str]
    families: dict[str, bool | None]
    evidence: dict[str, str] = field(default_factory=dict)
    errors: dict[str, float] = field(default_factory=dict)
    unproven: frozenset[str] = frozenset()  # causes without subjects, evidence, command or runbook

    @property
    def nothing(self) -> bool:
        return not (self.causes or self.explained or self.infos)


@dataclass(frozen=True)
class Measured:
    """What became of a fault. `detected` and `cleared` are rounds, None where that did not happen in time; `wrong` says
    what else went wrong.
    """

    fault: Fault
    detected: int | None
    cleared: int | None
    last: Seen
    wrong: tuple[str, ...] = ()

    @property
    def holds(self) -> bool:
        return not self.wrong


def read(reports: list[Report]) -> Seen:
    """The verdict in a round's reports: with separate roles, that of both; what a node makes a warning is info at the
    cluster role.
    """
    found = [cause for report in reports for cause in report["causes"]]
    open_ = [c for c in found if c["explained_by"] is None]
    causes = {c["cause"]: c["severity"] for c in open_ if c["severity"] != "info"}
    return Seen(
        causes=causes,
        explained={c["cause"]: c["explained_by"] for c in found if c["explained_by"] is not None},
        infos=frozenset(c["cause"] for c in open_ if c["severity"] == "info") - causes.keys(),
        families={name: family["ok"] for name, family in reports[0]["families"].items()},
        evidence={c["cause"]: "; ".join(c["evidence"]) for c in open_},
        errors={k: v for report in reports for k, v in report["errors"].items()},
        unproven=frozenset(c["cause"] for c in found if not all(c[part] for part in PROOF) or not all(c["evidence"])),
    )


def measure(cluster: Cluster, fault: Fault) -> Measured:
    """The cluster must be settled and healthy; it is so again afterwards, or `cleared` is None."""
    wrong: list[str] = []
    cluster.forget()  # what the fault before left among the last dials is not this one's
    detected, seen = None, Seen({}, {}, frozenset(), {})
    try:
        fault.act(cluster)
        for number in range(1, ROUNDS + 1):
            seen = read(cluster.round())
            _note_strangers(wrong, f"round {number} of the fault", seen, fault)
            same = set(seen.causes) == set(fault.causes) and seen.infos == set(fault.infos)
            detected = (detected or number) if same else None
            if detected is not None and number > detected:
                break
    finally:
        cluster.heal()
    wrong += _differences(fault, seen, detected)
    cleared = None
    for number in range(1, fault.cleared_by + 2):
        after = read(cluster.round())
        _note_strangers(wrong, f"round {number} after healing", after, fault)
        if after.nothing and False not in after.families.values():
            cleared = number
            break
    if cleared is None or cleared > fault.cleared_by:
        wrong.append(f"cleared in round {cleared}, should be {fault.cleared_by}")
    return Measured(fault, detected, cleared, seen, tuple(wrong))


def settle(cluster: Cluster, rounds: int = 20) -> None:
    """Run rounds until two in a row find nothing and no family fails: links may come up a second after they are
    made.
    """
    good, last = 0, None
    while good < 2 and rounds:
        last, rounds = read(cluster.round()), rounds - 1
        good = good + 1 if last.nothing and False not in last.families.values() else 0
    if good < 2:
        raise RuntimeError(f"the cluster is not healthy: {last}")


def _note_strangers(wrong: list[str], when: str, seen: Seen, fault: Fault) -> None:
    strangers = {**{c: s for c, s in seen.causes.items() if c not in fault.causes}}
    if strangers:
        wrong.append(f"{when}: unexplained {strangers}: {[seen.evidence[c][:300] for c in strangers]}")
    if seen.errors:
        wrong.append(f"{when}: errors {seen.errors}")
    if seen.unproven:
        wrong.append(f"{when}: nothing to check by hand for {sorted(seen.unproven)}")


def _differences(fault: Fault, seen: Seen, detected: int | None) -> list[str]:
    """What the last round of the fault should have said and did not."""
    pairs: list[tuple[str, Any, Any]] = [
        ("unexplained", seen.causes, dict(fault.causes)),
        ("explained", seen.explained, dict(fault.explained)),
        ("infos", seen.infos, set(fault.infos)),
        ("families", seen.families, {"IPv4": fault.ipv4, "IPv6": fault.ipv6}),
    ]
    wrong = [f"{what} {said}, should be {wanted}" for what, said, wanted in pairs if said != wanted]
    if detected is None or detected > fault.detected_by:
        wrong.append(f"detected in round {detected}, should be {fault.detected_by}")
    wrong += [
        f"evidence of {cause} lacks {text!r}: {seen.evidence.get(cause)}"
        for cause, text in fault.evidence.items()
        if text not in seen.evidence.get(cause, "")
    ]
    return wrong
