"""The page of the way to dual-stack: phases and steps, with what to do about each. Builds HTML from values; no I/O."""

from __future__ import annotations

from collections.abc import Mapping

from exporter.migration.step import TITLES, Migration, Phase, Step, StepState
from exporter.report.migration import ON_NODES, WORDS, affected, title, verdict
from exporter.web.page.document import document_page
from exporter.web.page.markup import NOTHING, Html, class_of, definitions, element, join, section

SIGNS: Mapping[StepState, tuple[str, bool | None]] = {
    StepState.DONE: ("✓", True),
    StepState.MISSING: ("✗", False),
    StepState.UNSEEN: ("?", None),
    StepState.NOT_APPLICABLE: (NOTHING, None),
}
NOTHING_YET = "The steps are shown after the first round with an inventory. Reload this page in a moment."


def migration_page(migration: Migration | None) -> str:
    """The whole page. None: there is nothing to judge yet."""
    heading = element("header", element("h1", "The way to dual-stack"), element("a", "status", href="/"))
    if migration is None:
        return document_page("Migration", heading, element("p", NOTHING_YET, class_="card"))
    known = [title(migration), *([f"Pod network: {migration.network}"] if migration.network else []), ON_NODES]
    return document_page(
        "Migration",
        heading,
        *(element("p", element("b", f"! {note}"), class_="banner") for note in migration.notes),
        element("p", element("b", verdict(migration)), class_="card"),
        *(element("p", line, class_="soft") for line in known),
        *(_phase(phase, migration) for phase in Phase),
        section("way-back", "The way back", element("ul", *(element("li", line) for line in migration.way_back))),
    )


def _phase(phase: Phase, migration: Migration) -> Html:
    steps = [_step(step) for step in migration.steps if step.phase is phase]
    name = f"{list(Phase).index(phase) + 1}. {TITLES[phase]}"
    return section(phase.value, name, *steps, note=WORDS[migration.states[phase]])


def _step(step: Step) -> Html:
    """Opened where something is missing."""
    sign, good = SIGNS[step.state]
    judged = step.judged
    summary = element("summary", element("span", sign, class_=class_of(good)), f" {step.title}: {WORDS[step.state]}")
    rows = (
        ("Reason", judged.reason),
        ("Lacking", affected(step)),
        ("Seen", element("ul", *(element("li", line) for line in judged.evidence)) if judged.evidence else ""),
        ("Why", step.why),
        ("Without it", step.breaks),
        ("What to do", join(*(element("code", line, class_="command") for line in step.how))),
    )
    is_open = "" if step.state is StepState.MISSING else None
    return element("details", summary, definitions(row for row in rows if row[1]), class_="card", open=is_open)
