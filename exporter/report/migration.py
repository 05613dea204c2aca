"""A migration as text, Markdown and JSON (docs/specification.md section 2). Decides nothing, does no I/O."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from exporter.migration.distribution import Distribution
from exporter.migration.step import TITLES, Migration, Phase, Step, StepState
from exporter.report.document import few
from exporter.report.text import BOLD, DIM, Style

VERSION = 1
WORDS: Mapping[StepState, str] = {
    StepState.DONE: "done",
    StepState.MISSING: "missing",
    StepState.UNSEEN: "cannot be seen",
    StepState.NOT_APPLICABLE: "does not apply",
}
ON_NODES = (
    "Where only a node shows a step: add `families: [IPv4, IPv6]` to the exporter's configuration, then"
    " `migration --nodes=all` collects what the node exporters found."
)
COMMAND = re.compile(r"(microk8s )?kubectl |echo |oc |helm ")
OBJECTS = 3
LABEL = 8


def title(migration: Migration) -> str:
    """Where the cluster is to go, and what it is."""
    goal = "dual-stack" if len(migration.goal) > 1 else "IPv6 alone"
    known = migration.distribution is not Distribution.UNKNOWN
    kind = f"{migration.distribution} ({migration.known_by})" if known else "of an unknown distribution"
    return f"To {goal}, adding {migration.family}. Cluster: {kind}"


def verdict(migration: Migration) -> str:
    """In one sentence."""
    missing = [step for step in migration.steps if step.state is StepState.MISSING]
    if migration.next is not None:
        return f"{len(missing)} of {len(migration.steps)} steps missing. Next: {migration.next.title}."
    if migration.blind:
        return "Nothing that was seen is missing, but not all could be seen."
    return "Nothing is missing of what Kubernetes objects show."


def affected(step: Step) -> str:
    """How many objects, and the first of them."""
    return few(step.judged.objects, OBJECTS, step.judged.total) if step.judged.objects else ""


def text(migration: Migration, style: Style) -> str:
    """For a terminal: every step in order; what to do only about those that are not done."""
    lines = [*style.wrap(title(migration))]
    lines += style.wrap(f"pod network: {migration.network}") if migration.network else []
    lines += [line for note in migration.notes for line in style.wrap(f"! {note}", rest="  ")]
    for phase in Phase:
        steps = [step for step in migration.steps if step.phase is phase]
        state = WORDS[migration.states[phase]]
        lines += ["", style.paint(f"{list(Phase).index(phase) + 1}. {TITLES[phase]}: {state}", BOLD)]
        lines += [line for step in steps for line in _step(step, style)]
    lines += ["", style.paint(style.clean(verdict(migration)), BOLD)]
    lines += style.wrap(ON_NODES) if any(step.judged.on_node for step in migration.steps) else []
    lines += ["", style.paint("The way back", BOLD)]
    lines += [line for each in migration.way_back for line in style.wrap(each, "  ", "    ")]
    return "\n".join(lines) + "\n"


def _step(step: Step, style: Style) -> Iterator[str]:
    mark = {StepState.DONE: True, StepState.MISSING: False, StepState.UNSEEN: None}
    sign = style.mark(mark[step.state]) if step.state in mark else "-"
    yield f"   {sign} {style.clean(step.title)}"
    rows: list[tuple[str, str]] = []
    if step.state in (StepState.UNSEEN, StepState.NOT_APPLICABLE):
        rows.append(("", f"{WORDS[step.state]}: {step.judged.reason}"))
    if step.state in (StepState.MISSING, StepState.UNSEEN):
        rows += [("lacking", affected(step))] if step.judged.objects else []
        rows += [("seen", line) for line in step.judged.evidence[:OBJECTS]]
    if step.state is StepState.MISSING:
        rows += [("why", step.why), ("without", step.breaks)]
    if step.state in (StepState.MISSING, StepState.UNSEEN):
        rows += [("do", line) for line in step.how]
    before = ""
    for name, words in rows:
        shown = style.paint(f"{'' if name == before else name:<{LABEL}}", DIM)
        whole = name == "do" and COMMAND.match(words)  # to be copied
        first, *rest = [style.clean(words)] if whole else style.wrap(words, " " * 5, " " * (6 + LABEL))
        yield f"     {shown} {first.strip()}"
        yield from rest
        before = name


def markdown(migration: Migration) -> str:
    """For a ticket or a wiki: a list to tick off."""
    lines = [f"# {_plain(title(migration))}", ""]
    lines += [f"> {_plain(note)}\n" for note in migration.notes]
    lines += [f"**{_plain(verdict(migration))}**", ""]
    for phase in Phase:
        steps = [step for step in migration.steps if step.phase is phase]
        if not steps:
            continue
        lines += [f"## {list(Phase).index(phase) + 1}. {TITLES[phase]}: {WORDS[migration.states[phase]]}", ""]
        for step in steps:
            box = "x" if step.state in (StepState.DONE, StepState.NOT_APPLICABLE) else " "
            lines += [f"- [{box}] {_plain(step.title)}: {WORDS[step.state]}{_details(step)}"]
            if step.state in (StepState.MISSING, StepState.UNSEEN):
                lines += [f"  - Why: {_plain(step.why)} Without it: {_plain(step.breaks)}"]
                lines += [f"  - `` {_plain(line, code=True)} ``" for line in step.how]
        lines += [""]
    lines += ["## The way back", "", *(f"- {_plain(line)}" for line in migration.way_back)]
    return "\n".join(lines) + "\n"


def _details(step: Step) -> str:
    parts = [step.judged.reason if step.state in (StepState.UNSEEN, StepState.NOT_APPLICABLE) else "", affected(step)]
    found = "; ".join(filter(None, parts))
    return f" ({_plain(found)})" if found else ""


def _plain(value: str, *, code: bool = False) -> str:
    """Names come from outside: no markup, one line."""
    shown = Style(unicode=True).clean(value).replace("``", "` `")
    return shown if code else "".join(f"\\{c}" if c in "\\`*_<>[]|#" else c for c in shown)


def document(migration: Migration) -> dict[str, Any]:
    """For programs: every step whole."""
    return {
        "version": VERSION,
        "family": migration.family.value,
        "goal": sorted(family.value for family in migration.goal),
        "distribution": migration.distribution.value,
        "known_by": migration.known_by,
        "network": migration.network,
        "notes": [*migration.notes],
        "next": migration.next.key if migration.next is not None else None,
        "phases": [
            {
                "phase": phase.value,
                "state": migration.states[phase].value,
                "steps": [_entry(step) for step in migration.steps if step.phase is phase],
            }
            for phase in Phase
        ],
        "way_back": [*migration.way_back],
    }


def _entry(step: Step) -> Mapping[str, Any]:
    judged = step.judged
    return {
        "step": step.key,
        "title": step.title,
        "state": step.state.value,
        "reason": judged.reason,
        "on_node": judged.on_node,
        "objects": [*judged.objects],
        "objects_total": judged.total,
        "evidence": [*judged.evidence],
        "why": step.why,
        "breaks": step.breaks,
        "how": [*step.how],
    }
