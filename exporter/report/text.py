"""The text of `check`: a report for a person at three in the morning. Reads documents, decides nothing, does no I/O but `Style.of`.

Order (contract section 2): a line a node, each unexplained cause with what to do first, what could not be checked,
failing probes. Several documents (`--nodes=all`) become one text: a cause is told once, with the nodes that have it.
Names, evidence and details are foreign text: whatever a terminal would obey is taken out.
"""

from __future__ import annotations

import os
import shutil
import textwrap
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TextIO

from exporter.diagnosis.engine.causes import SPECS
from exporter.model.family import Family
from exporter.model.probe import NEUTRAL
from exporter.model.report import Cause, FamilyReport, Role, Severity
from exporter.report.document import CauseEntry, Document, ProbeEntry

NARROWEST, WIDEST = 40, 110
SUBJECTS = 8
EVIDENCE = 6
FAILURES = 12
LABEL = 10  # width of the left column
ORDER: Mapping[str, int] = {cause.value: place for place, cause in enumerate(Cause)}

RED, YELLOW, CYAN, GREEN, BOLD, DIM = "31;1", "33;1", "36;1", "32;1", "1", "2"
COLOURS: Mapping[Severity, str] = {Severity.CRITICAL: RED, Severity.WARNING: YELLOW, Severity.INFO: CYAN}


@dataclass(frozen=True, slots=True)
class Style:
    """What the terminal can do."""

    width: int = 100
    unicode: bool = True
    colour: bool = False

    @classmethod
    def of(cls, stream: TextIO, environment: Mapping[str, str] | None = None) -> Style:
        """As the stream and the environment say; NO_COLOR (https://no-color.org) and TERM=dumb switch colours off."""
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
        """Foreign text for this terminal: one line, nothing that it would obey, only what it can show."""
        shown = "".join(c if _printable(c) else " " if c in "\t\n\r" else "?" for c in text)
        return shown if self.unicode else shown.encode("ascii", "backslashreplace").decode()

    def mark(self, ok: bool | None) -> str:
        if ok is None:
            return self.paint("?", YELLOW)
        if ok:
            return self.paint("✓" if self.unicode else "ok", GREEN)
        return self.paint("✗" if self.unicode else "FAIL", RED)


def _can_encode(encoding: str | None, text: str) -> bool:
    try:
        text.encode(encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def _printable(character: str) -> bool:
    """Neither control, format (bidirectional marks), surrogate nor unassigned; not a separator other than the space."""
    return character == " " or unicodedata.category(character)[0] not in "CZ"


def write(documents: Iterable[Document], *, missing: Iterable[str] = (), style: Style | None = None) -> str:
    """The whole text, ending in a newline. `missing` are nodes whose exporter gave no report in time."""
    style = style or Style()
    reports = sorted(documents, key=lambda d: (d.role != Role.CLUSTER, d.node))
    parts = [
        "\n".join(node_lines(reports, missing, style)),
        *("\n".join(_cause(group, reports, style)) for group in _unexplained(reports)),
        "\n".join(_verdict(reports, style)),
        "\n".join(_unchecked(reports, style)),
        "\n".join(_failures(reports, style)),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def node_lines(reports: Sequence[Document], missing: Iterable[str], style: Style) -> Iterator[str]:
    """`[node] IPv6:✓ IPv4:✓` for each node; the cluster role has none of its own."""
    states: dict[str, Mapping[Family, FamilyReport] | None] = dict.fromkeys(missing)
    states |= {report.node: report.families for report in reports if report.role != Role.CLUSTER}
    for node in sorted(states):
        families = states[node] or {}
        shown = [(family, families.get(family, FamilyReport(None, None))) for family in (Family.V6, Family.V4)]
        marks = " ".join(f"{family.value}:{style.mark(state.ok)}" for family, state in shown)
        notes = [f"{family.value} is not expected" for family, state in shown if state.expected is False]
        if states[node] is None:
            notes = ["no report came"]
        yield f"[{style.clean(node)}] {marks}" + (style.paint(f"  ({', '.join(notes)})", DIM) if notes else "")


@dataclass(frozen=True, slots=True)
class _CauseGroup:
    """One unexplained cause over all documents, and those in which it holds."""

    cause: str
    entries: tuple[CauseEntry, ...]
    nodes: tuple[str, ...]

    @property
    def severity(self) -> Severity:
        return max((e.severity for e in self.entries), key=lambda s: s.rank)


def _unexplained(reports: Sequence[Document]) -> list[_CauseGroup]:
    """The worst first, then in the order of the table."""
    found: dict[str, list[tuple[str, CauseEntry]]] = {}
    for report in reports:
        for entry in report.unexplained:
            found.setdefault(entry.cause, []).append((report.node, entry))
    groups = [
        _CauseGroup(cause, tuple(e for _, e in items), tuple(dict.fromkeys(node for node, _ in items)))
        for cause, items in found.items()
    ]
    return sorted(groups, key=lambda g: (-g.severity.rank, ORDER.get(g.cause, len(ORDER)), g.cause))


def _cause(group: _CauseGroup, reports: Sequence[Document], style: Style) -> Iterator[str]:
    entries = group.entries
    title = style.paint(f"{group.severity.value}: {style.clean(group.cause)}", COLOURS[group.severity])
    since = min(e.since for e in entries)
    age = _age(max(r.time for r in reports) - since)
    yield title + (style.paint(f"  for {age}", DIM) if age else "")
    if group.cause in ORDER:
        yield from _wrap(SPECS[Cause(group.cause)].says, style, indent=2)
    if len(reports) > 1:
        yield from _field("nodes", [_few(group.nodes, len(group.nodes), style)], style)
    total = sum(e.subjects_total for e in entries)
    subjects = tuple(dict.fromkeys(s for e in entries for s in e.subjects))
    yield from _field("affects", [_few(subjects, max(total, len(subjects)), style)], style)
    evidence = tuple(dict.fromkeys(line for e in entries for line in e.evidence))
    more = [f"and {len(evidence) - EVIDENCE} more, see --output=json"] if len(evidence) > EVIDENCE else []
    yield from _field("evidence", [*evidence[:EVIDENCE], *more], style)
    explained = {e.cause for r in reports for e in r.causes if e.explained_by == group.cause}
    yield from _field("explains", [", ".join(sorted(explained, key=lambda c: ORDER.get(c, len(ORDER))))], style)
    yield _label("run first", style) + style.paint(style.clean(entries[0].command), BOLD)
    yield _label("runbook", style) + style.clean(entries[0].runbook)


def _verdict(reports: Sequence[Document], style: Style) -> Iterator[str]:
    """What is to be said where no cause is left, and of causes that another report's cause explains."""
    here = {entry.cause for report in reports for entry in report.unexplained}
    follows = {(e.cause, e.explained_by) for r in reports for e in r.causes if e.explained_by is not None}
    away = sorted((cause, by) for cause, by in follows if by not in here)
    blind = [report for report in reports if report.blind]
    for report in blind:
        where = f" on {report.node}" if len(reports) > 1 else ""
        for line in _wrap(f"The inventory cannot be read{where}: {report.blind}", style):
            yield style.paint(line, BOLD)
    if not here and not blind:
        broken = sorted(
            {f.value for r in reports for f, state in r.families.items() if state.ok is False}, reverse=True
        )
        but = f" that says why {' and '.join(broken)} does not work" if broken and not away else ""
        yield style.paint(f"No cause found{but}.", BOLD)
    for cause, by in away:
        yield from _wrap(f"{cause} follows from {by}, which the cluster role reports.", style)


def _unchecked(reports: Sequence[Document], style: Style) -> Iterator[str]:
    """Counted by reason, the most frequent first."""
    reasons: dict[str, set[str]] = {}
    for report in reports:
        for cause, reason in report.unchecked:
            reasons.setdefault(reason, set()).add(cause)
    if not reasons:
        return
    yield style.paint(f"Not checked: {len(set.union(*reasons.values()))}", BOLD)
    width = max(len(reason) for reason in reasons)
    for reason, causes in sorted(reasons.items(), key=lambda item: (-len(item[1]), item[0])):
        ordered = sorted(causes, key=lambda c: ORDER.get(c, len(ORDER)))
        names = _few(ordered, len(ordered), style)
        yield from _wrap(f"{reason:<{width}}  {len(causes):>2}  {names}", style, indent=2, hang=width + 8)


def _failures(reports: Sequence[Document], style: Style) -> Iterator[str]:
    """What fails, grouped: one line for each target, layer, family and outcome."""
    failed = [(report.node, probe) for report in reports for probe in report.probes if probe.failed]
    made = sum(p.outcome not in NEUTRAL for report in reports for p in report.probes)
    if not made and any(report.role != Role.CLUSTER for report in reports):
        yield style.paint("Nothing was probed.", BOLD)
    if not failed:
        return
    yield style.paint(f"Failing probes: {len(failed)} of {made}", BOLD)
    groups = Counter((p.target, p.layer, p.ip_family, p.outcome) for _, p in failed)
    for key, count in groups.most_common(FAILURES):
        probes = [(node, p) for node, p in failed if (p.target, p.layer, p.ip_family, p.outcome) == key]
        yield from _wrap(_failure(key, count, probes), style, indent=2, hang=4)
    if len(groups) > FAILURES:
        yield f"  and {len(groups) - FAILURES} more kinds, see --output=json"


def _failure(key: tuple[str, str, str, str], count: int, probes: list[tuple[str, ProbeEntry]]) -> str:
    target, layer, family, outcome = key
    subjects = tuple(dict.fromkeys(probe.subject for _, probe in probes))
    details = tuple(dict.fromkeys(probe.detail for _, probe in probes if probe.detail))
    text = f"{target} {family} {layer}: {outcome}, {count} from {_few(subjects, len(subjects), Style(), most=3)}"
    return text + (f" ({details[0]})" if details else "")


def _few(names: Sequence[str], total: int, style: Style, *, most: int = SUBJECTS) -> str:
    shown = ", ".join(style.clean(name) for name in names[:most])
    more = total - min(len(names), most)
    return f"{shown} and {more} more" if more > 0 else shown


def _field(label: str, values: Sequence[str], style: Style) -> Iterator[str]:
    """A label and its values, each on a line of its own; nothing where there are none."""
    for number, value in enumerate(v for v in values if v):
        lead = _label(label if number == 0 else "", style)
        lines = list(_wrap(value, style, indent=LABEL + 2, hang=2))
        yield lead + lines[0].lstrip()
        yield from lines[1:]


def _label(label: str, style: Style) -> str:
    return "  " + style.paint(f"{label:<{LABEL}}", DIM)


def _wrap(text: str, style: Style, *, indent: int = 0, hang: int = 0) -> Iterator[str]:
    """Lines of at most the style's width; a word is never broken, so that names and addresses can be copied."""
    lines = textwrap.wrap(
        style.clean(text),
        width=style.width,
        initial_indent=" " * indent,
        subsequent_indent=" " * (indent + hang),
        break_long_words=False,
        break_on_hyphens=False,
    )
    yield from lines or [" " * indent]


def _age(seconds: float) -> str:
    """A duration in one unit; nothing below a minute."""
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= length:
            return f"{int(seconds // length)} {unit}"
    return ""
