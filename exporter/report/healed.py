"""What healed in the last day, for the status page: causes that ended and families that work again. Pure.

Between the rounds and the page; kept in memory, so that it begins again with each start of the exporter. Bounded in
number and in bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from exporter.model.cause import Cause
from exporter.model.family import FAMILIES, Family
from exporter.model.report import CauseReport, Report
from exporter.report.document import UNKNOWN, few

DAY = 86_400.0
ENTRIES = 50
LONGEST = 300  # characters of the subjects, and of the evidence
SUBJECTS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Healed:
    """One fault that ended. Times are Unix seconds."""

    what: Cause | Family
    began: float
    ended: float
    subjects: str = ""
    evidence: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class HealedDay:
    """`since`: when the exporter started. `entries`: the newest first."""

    since: float
    entries: tuple[Healed, ...] = ()
    dropped: int = 0  # older entries that there was no room for
    dropped_at: float = 0.0  # the last of them; a day later they are forgotten
    broken: Mapping[Family, float] = field(default_factory=dict)  # since when an expected family does not work

    def after(self, before: Report | None, now: Report) -> HealedDay:
        """With what ended between these two rounds."""
        end = now.snapshot.finished
        found = (*_causes(before, now), *self._families(now))
        ended = sorted(found, key=lambda each: each.began)
        kept = tuple(each for each in (*ended, *self.entries) if each.ended > end - DAY)
        over = max(0, len(kept) - ENTRIES)
        dropped = self.dropped if self.dropped_at > end - DAY else 0
        return replace(
            self,
            entries=kept[:ENTRIES],
            dropped=dropped + over,
            dropped_at=end if over else self.dropped_at,
            broken=dict(_broken(self.broken, now)),
        )

    def at(self, now: float) -> tuple[Healed, ...]:
        """Those of the last day."""
        return tuple(each for each in self.entries if each.ended > now - DAY)

    def _families(self, now: Report) -> Iterator[Healed]:
        for family, began in self.broken.items():
            if now.families.get(family, UNKNOWN).ok:
                yield Healed(what=family, began=began, ended=now.snapshot.finished)


def _broken(before: Mapping[Family, float], now: Report) -> Iterator[tuple[Family, float]]:
    """A family whose state is not known for a while stays broken until it is seen to work."""
    for family in FAMILIES:
        state = now.families.get(family, UNKNOWN)
        fails = state.ok is False or (state.ok is None and family in before)
        if fails and state.expected is not False:
            yield family, before.get(family, now.snapshot.finished)


def _causes(before: Report | None, now: Report) -> Iterator[Healed]:
    """Causes that were found by themselves and are now checked and not found."""
    found = {item.finding.cause for item in now.causes}
    for item in before.causes if before is not None else ():
        cause = item.finding.cause
        if item.explained_by is None and cause not in found and cause in now.checked:
            yield _healed(item, now.snapshot.finished)


def _healed(item: CauseReport, ended: float) -> Healed:
    finding = item.finding
    return Healed(
        what=finding.cause,
        began=item.since,
        ended=ended,
        subjects=_cut(few(finding.subjects, SUBJECTS)),
        evidence=_cut(finding.evidence[0] if finding.evidence else ""),
    )


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
