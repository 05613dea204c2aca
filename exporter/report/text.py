"""The text of `check` (docs/specification.md section 2). Reads documents, decides nothing; its only I/O is `Style.of`.

Several documents (`--nodes=all`) become one text, in which each cause appears once with its nodes. Names, evidence and
details come from outside: what a terminal would obey is removed.
"""

from __future__ import annotations

import os
import shutil
import textwrap
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TextIO, TypeAlias

from exporter.model.cause import Cause, Role, Severity
from exporter.model.family import Family
from exporter.model.grouping import grouped
from exporter.model.probe import NEUTRAL
from exporter.model.report import FamilyReport
from exporter.report.document import UNKNOWN, CauseEntry, Document, age, few, place_of

NARROWEST, WIDEST = 40, 110
SUBJECTS = 8
EVIDENCE = 6
FAILURES = 12
LABEL = 10  # width of the left column

RED, YELLOW, CYAN, GREEN, BOLD, DIM = "31;1", "33;1", "36;1", "32;1", "1", "2"
_Entries: TypeAlias = list[tuple[str, CauseEntry]]  # of one cause, each with its node
HINTS = {"not_allowed": ": only pods name these nameservers, dns.allow lets them be asked"}
COLOURS: Mapping[Severity, str] = {Severity.CRITICAL: RED, Severity.WARNING: YELLOW, Severity.INFO: CYAN}


@dataclass(frozen=True, slots=True, kw_only=True)
class Style:
    width: int = 100
    unicode: bool = True
    colour: bool = False
    links: bool = True  # to runbooks; without them only the command that prints one

    @classmethod
    def of(cls, stream: TextIO, environment: Mapping[str, str] | None = None) -> Style:
        """For this stream and environment; NO_COLOR (https://no-color.org) and TERM=dumb switch colours off."""
        environ = os.environ if environment is None else environment
        terminal = stream.isatty()
        columns = shutil.get_terminal_size((100, 24)).columns if terminal else 100
        return cls(
            width=max(NARROWEST, min(columns, WIDEST)),
            unicode=_can_encode(stream.encoding, "✓✗…"),
            colour=terminal and not environ.get("NO_COLOR") and environ.get("TERM") != "dumb",
        )

    def paint(self, text: str, colour: str) -> str:
        return f"\x1b[{colour}m{text}\x1b[0m" if self.colour else text

    def clean(self, text: str) -> str:
        """Text from outside for this terminal: one line, nothing that it would obey, only what it can show."""
        shown = "".join(c if _printable(c) else " " if c in "\t\n\r" else "?" for c in text)
        return shown if self.unicode else shown.encode("ascii", "backslashreplace").decode()

    def wrap(self, text: str, first: str = "", rest: str | None = None) -> list[str]:
        """Lines of at most the width with these indents. Words stay whole, so that they can be copied."""
        lines = textwrap.wrap(
            self.clean(text),
            width=self.width,
            initial_indent=first,
            subsequent_indent=first if rest is None else rest,
            break_long_words=False,
            break_on_hyphens=False,
        )
        return lines or [first]

    def mark(self, ok: bool | None) -> str:
        if ok is None:
            return self.paint("?", YELLOW)
        if ok:
            return self.paint("✓" if self.unicode else "ok", GREEN)
        return self.paint("✗" if self.unicode else "FAIL", RED)


def _can_encode(encoding: str | None, text: str) -> bool:
    try:
        return bool(text.encode(encoding or "ascii"))
    except (UnicodeEncodeError, LookupError):
        return False


def _printable(character: str) -> bool:
    """Neither control, format (bidirectional marks), surrogate nor unassigned; not a separator other than the space."""
    return character == " " or unicodedata.category(character)[0] not in "CZ"


def write(documents: Iterable[Document], *, missing: Iterable[str] = (), style: Style | None = None) -> str:
    """The whole text, ending in a newline. `missing` are the nodes without a report."""
    style = style or Style()
    reports = sorted(documents, key=lambda d: (d.role != Role.CLUSTER, d.node))
    blocks = (
        node_lines(reports, missing, style),
        _networks(reports, style),
        *(_cause(group, reports, style) for group in _unexplained(reports)),
        _verdict(reports, style),
        _unchecked(reports, style),
        _failures(reports, style),
    )
    return "\n\n".join(filter(None, map("\n".join, blocks))) + "\n"


def node_lines(reports: Sequence[Document], missing: Iterable[str], style: Style) -> Iterator[str]:
    """`[node] IPv6:✓ IPv4:✓` for each node; the cluster exporter has no such line."""
    states: dict[str, Mapping[Family, FamilyReport] | None] = dict.fromkeys(missing)
    states |= {report.node: report.families for report in reports if report.role != Role.CLUSTER}
    for node in sorted(states):
        families = states[node] or {}
        shown = [(family, families.get(family, UNKNOWN)) for family in (Family.V6, Family.V4)]
        marks = " ".join(f"{family.value}:{style.mark(state.ok)}" for family, state in shown)
        notes = [f"{family.value} is not expected" for family, state in shown if state.expected is False]
        if states[node] is None:
            notes = ["no report received"]
        yield f"[{style.clean(node)}] {marks}" + (style.paint(f"  ({', '.join(notes)})", DIM) if notes else "")


def _networks(reports: Sequence[Document], style: Style) -> Iterator[str]:
    """What the first report takes the pod network for, and why each family is expected."""
    network = next((report.network for report in reports if report.network), "")
    if network:
        yield from style.wrap(f"pod network: {network}")
    for family in (Family.V6, Family.V4):
        because = (report.families.get(family, UNKNOWN).because(family) for report in reports)
        if text := next(filter(None, because), ""):
            yield from style.wrap(text)


def _unexplained(reports: Sequence[Document]) -> list[_Entries]:
    """The entries of each unexplained cause with their nodes; the worst first, then in the order of the table."""
    entries = ((report.node, entry) for report in reports for entry in report.unexplained)
    found = grouped(entries, lambda item: item[1].cause)
    return [found[cause] for cause in sorted(found, key=lambda c: (-_severity(found[c]).rank, place_of(c), c))]


def _severity(found: _Entries) -> Severity:
    return max((entry.severity for _, entry in found), key=lambda severity: severity.rank)


def _cause(found: _Entries, reports: Sequence[Document], style: Style) -> Iterator[str]:
    entries = tuple(entry for _, entry in found)
    cause, severity = entries[0].cause, _severity(found)
    title = style.paint(f"{severity.value}: {style.clean(cause)}", COLOURS[severity])
    seconds = max(r.time for r in reports) - min(e.since for e in entries)
    yield title + (style.paint(f"  for {age(seconds)}", DIM) if seconds >= 60 else "")
    if cause in set(Cause):
        yield from style.wrap(Cause(cause).spec.says, "  ")
    if len(reports) > 1:
        yield from _field("nodes", [few(tuple(dict.fromkeys(node for node, _ in found)), SUBJECTS)], style)
    total = sum(e.subjects_total for e in entries)
    subjects = tuple(dict.fromkeys(s for e in entries for s in e.subjects))
    yield from _field("affects", [few(subjects, SUBJECTS, total)], style)
    evidence = tuple(dict.fromkeys(line for e in entries for line in e.evidence))
    more = [f"and {len(evidence) - EVIDENCE} more, see --output=json"] if len(evidence) > EVIDENCE else []
    yield from _field("evidence", [*evidence[:EVIDENCE], *more], style)
    explained = {e.cause for r in reports for e in r.causes if e.explained_by == cause}
    yield from _field("explains", [", ".join(sorted(explained, key=place_of))], style)
    yield _label("run first", style) + style.paint(style.clean(entries[0].command), BOLD)
    link = f", or {entries[0].runbook}" if style.links else ""
    yield _label("runbook", style) + style.clean(f"dualstack-exporter explain {cause}{link}")


def _verdict(reports: Sequence[Document], style: Style) -> Iterator[str]:
    """What no listed cause shows: an inventory that cannot be read, no cause at all, causes explained elsewhere."""
    here = {entry.cause for report in reports for entry in report.unexplained}
    explained = {(e.cause, e.explained_by) for r in reports for e in r.causes if e.explained_by is not None}
    elsewhere = sorted((cause, by) for cause, by in explained if by not in here)
    blind = [report for report in reports if report.blind]
    for report in blind:
        where = f" on {report.node}" if len(reports) > 1 else ""
        for line in style.wrap(f"The inventory cannot be read{where}: {report.blind}"):
            yield style.paint(line, BOLD)
    if not here and not blind:
        broken = {family for report in reports for family, state in report.families.items() if state.ok is False}
        names = " and ".join(sorted((family.value for family in broken), reverse=True))
        verb = "do" if len(broken) > 1 else "does"
        unexplained = f"{names} {verb} not work, and no known cause explains it."
        yield style.paint(unexplained if broken and not elsewhere else "No cause found.", BOLD)
    for cause, by in elsewhere:
        yield from style.wrap(f"{cause} is a consequence of {by}, which the cluster exporter reports.")


def _unchecked(reports: Sequence[Document], style: Style) -> Iterator[str]:
    """Counted by reason, the most frequent first."""
    unchecked = {item for report in reports for item in report.unchecked}
    if not unchecked:
        return
    yield style.paint(f"Not checked: {len({cause for cause, _ in unchecked})}", BOLD)
    reasons = grouped(unchecked, lambda item: item[1])
    width = max(map(len, reasons))
    for reason, items in sorted(reasons.items(), key=lambda item: (-len(item[1]), item[0])):
        names = few(sorted((cause for cause, _ in items), key=place_of), SUBJECTS) + HINTS.get(reason, "")
        yield from style.wrap(f"{reason:<{width}}  {len(items):>2}  {names}", "  ", " " * (width + 10))


def _failures(reports: Sequence[Document], style: Style) -> Iterator[str]:
    """Failing probes: one line for each target, layer, family and outcome."""
    failed = [probe for report in reports for probe in report.probes if probe.failed]
    made = sum(probe.outcome not in NEUTRAL for report in reports for probe in report.probes)
    if not made and any(report.role != Role.CLUSTER for report in reports):
        yield style.paint("Nothing was probed.", BOLD)
    if not failed:
        return
    yield style.paint(f"Failing probes: {len(failed)} of {made}", BOLD)
    groups = grouped(failed, lambda probe: f"{probe.target} {probe.ip_family} {probe.layer}: {probe.outcome}")
    for kind, probes in sorted(groups.items(), key=lambda item: -len(item[1]))[:FAILURES]:
        subjects = few(tuple(dict.fromkeys(probe.subject for probe in probes)), 3)
        detail = next((f" ({probe.detail})" for probe in probes if probe.detail), "")
        yield from style.wrap(f"{kind}, {len(probes)} from {subjects}{detail}", "  ", " " * 6)
    if len(groups) > FAILURES:
        yield f"  and {len(groups) - FAILURES} more kinds, see --output=json"


def _field(label: str, values: Sequence[str], style: Style) -> Iterator[str]:
    """A label and its values, each on a line of its own; nothing where there are none."""
    for number, value in enumerate(v for v in values if v):
        lead = _label(label if number == 0 else "", style)
        lines = style.wrap(value, " " * (LABEL + 2), " " * (LABEL + 4))
        yield lead + lines[0].lstrip()
        yield from lines[1:]


def _label(label: str, style: Style) -> str:
    return "  " + style.paint(f"{label:<{LABEL}}", DIM)
