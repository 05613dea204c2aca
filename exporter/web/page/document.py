"""The status page: the verdict first, then what to fix, then where it shows. Between report and server; plain HTML, no script, no I/O.

Read from top to bottom at three in the morning: does a family work, what is broken, whom it affects, what to do first;
below that the matrix of vantages and layers, and the facts that stand behind it. A colour never stands alone: signs and
words say the same.
"""

from __future__ import annotations

from collections.abc import Iterator

from exporter.catalogue.exporter import ExporterState
from exporter.catalogue.probes import failing, kept
from exporter.diagnosis.engine.causes import SPECS
from exporter.model.family import Family
from exporter.model.inventory import Came
from exporter.model.report import Cause, CauseReport, FamilyReport, Report, Role
from exporter.report.document import rfc3339, runbook
from exporter.web.page.facts import blind_section, kernel_section, unchecked_section
from exporter.web.page.markup import NOTHING, Html, age, definitions, element, join
from exporter.web.page.matrix import failures_section, matrix_section
from exporter.web.page.migration import migration_section
from exporter.web.page.names import dns_section
from exporter.web.page.style import STYLE

ORDER = {cause: place for place, cause in enumerate(Cause)}
SUBJECTS = 6
SUBJECTS_IN_ALL = 100


def page(
    report: Report | None, own: ExporterState, *, now: float, fresh: bool = True, metrics: str = "/metrics"
) -> str:
    """The whole page. `report` None: no round has finished yet; not `fresh`: it is too old to be exposed, which the page says."""
    title = f"{own.node} · dualstack-exporter"
    head = join(
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="robots", content="noindex"),
        element("title", title if report is None else f"{_signs(report)} {title}"),
        element("style", Html(STYLE)),
    )
    body = element(
        "div", _header(report, own, now), _body(report, own, now, fresh=fresh), _footer(own, metrics), class_="page"
    )
    return "<!doctype html>\n" + element("html", element("head", head), element("body", body), lang="en") + "\n"


def _signs(report: Report) -> str:
    """The verdict for a browser's tab: IPv6✗ IPv4✓."""
    shown = (Family.V6, Family.V4)
    return " ".join(f"{f.value}{_state(report.families.get(f, FamilyReport(None, None)))[1]}" for f in shown)


def _body(report: Report | None, own: ExporterState, now: float, *, fresh: bool) -> Html:
    if report is None:
        skipped = f" {own.rounds_skipped} rounds were skipped." if own.rounds_skipped else ""
        return element(
            "section",
            element("h2", "No round has finished yet"),
            element(
                "p", f"Nothing can be said of this node before the first one has. Look again in a moment.{skipped}"
            ),
            class_="card",
        )
    return join(
        _banners(report, now, fresh=fresh),
        _families(report),
        _causes(report),
        matrix_section(report),
        failures_section(report),
        dns_section(report),
        kernel_section(report),
        migration_section(report),
        unchecked_section(report),
        blind_section(report),
    )


def _header(report: Report | None, own: ExporterState, now: float) -> Html:
    when: Html | str = ""
    if report is not None:
        snapshot = report.snapshot
        took = f"{snapshot.finished - snapshot.started:.1f} s"
        when = element(
            "span",
            "Round of ",
            element("time", _clock(snapshot.finished), datetime=rfc3339(snapshot.finished)),
            f", {age(now - snapshot.finished)} ago, took {took}",
            class_="soft",
        )
    return element("header", element("h1", own.node, element("small", f"role {own.role}")), when)


def _clock(seconds: float) -> str:
    return rfc3339(seconds).replace("T", " ").replace("Z", " UTC")


def _banners(report: Report, now: float, *, fresh: bool) -> Html:
    snapshot = report.snapshot
    parts = []
    if not fresh:
        words = f" The last one finished {age(now - snapshot.finished)} ago; its series are exposed no more."
        parts.append(element("p", element("b", "! Rounds have stalled."), words, class_="banner"))
    if not snapshot.complete:
        words = " It ended at its deadline and shows what it had until then."
        parts.append(element("p", element("b", "! This round is not complete."), words, class_="banner"))
    return join(*parts, *_inventory_banners(report))


def _inventory_banners(report: Report) -> Iterator[Html]:
    """What is wrong with the inventory: it never came, a part of it never did, or it is out of date."""
    inventory = report.snapshot.inventory
    why = f" {inventory.problem}" if inventory.problem else ""
    if inventory.came is Came.NOTHING:
        words = " What needs it is not checked."
        yield element("p", element("b", "! The inventory was never read."), words + why, class_="banner")
    elif inventory.came is Came.PART:
        words = " What needs it is not checked."
        yield element("p", element("b", "! A part of the inventory never came."), words + why, class_="banner")
    if inventory.stale:
        known = f", {age(report.inventory_age)} old" if report.inventory_age is not None else ""
        words = f" Its source cannot be reached; the last one stays in use{known}."
        yield element("p", element("b", "! The inventory is stale."), words + why, class_="banner")


def _state(state: FamilyReport) -> tuple[str, str, str]:
    """Class, sign and words of a family's verdict."""
    if state.expected is False:
        return "none", NOTHING, "is not expected"
    if state.ok is None:
        return "none", "?", "unknown"
    return ("good", "✓", "works") if state.ok else ("bad", "✗", "does not work")


def _families(report: Report) -> Html:
    cards = []
    for family in (Family.V6, Family.V4):
        state = report.families.get(family, FamilyReport(None, None))
        kind, sign, words = _state(state)
        cards.append(
            element(
                "div",
                element("span", sign, class_="sign", aria_hidden="true"),
                element(
                    "div", element("b", f"{family.value} {words}"), element("span", _why(report, family), class_="soft")
                ),
                class_=f"family {kind}",
            )
        )
    return element("section", *cards, class_="families", aria_label="Families")


def _why(report: Report, family: Family) -> str:
    """What stands behind the verdict, in a few words."""
    results = kept(report.snapshot)
    made = {o.vantage.key for o in results if o.family is family and o.counted}
    failed = {o.vantage.key for o in failing(results) if o.family is family}
    if report.families.get(family, FamilyReport(None, None)).expected is False:
        return "Nothing in this cluster asks for it."
    if report.snapshot.role is Role.CLUSTER:
        return "This role probes nothing: each node's own page tells."
    if not made:
        return "No probe over it has a result."
    if not failed:
        return f"Every probe passes, from {len(made)} {'place' if len(made) == 1 else 'places'}."
    return f"{len(failed)} of {len(made)} places have a failing probe."


def _causes(report: Report) -> Html:
    loud = sorted(
        (item for item in report.causes if item.explained_by is None),
        key=lambda i: (-i.finding.severity.rank, ORDER[i.finding.cause]),
    )
    quiet = [item for item in report.causes if item.explained_by is not None]
    if loud:
        title = element("h2", "What to fix", element("small", f"{len(loud)} {'cause' if len(loud) == 1 else 'causes'}"))
    else:
        title = element("h2", "No cause found")
    parts = [_cause(item, report) for item in loud] or [element("p", _no_cause(report), class_="card")]
    if quiet:
        summary = element("summary", f"Follows from something else ({len(quiet)})")
        parts.append(element("details", summary, *(_cause(item, report) for item in quiet), class_="card"))
    return element("section", title, *parts, id="causes")


def _no_cause(report: Report) -> str:
    """What an empty list of causes means: all is well, or nothing could be told."""
    if not report.checked:
        return f"? None of the {len(report.unchecked)} causes could be checked: see below."
    left = f" {len(report.unchecked)} could not be checked: see below." if report.unchecked else ""
    broken = [f.value for f, state in report.families.items() if state.ok is False]
    if broken:
        return f"? {' and '.join(broken)} fails and no cause that was checked says why: the matrix shows where.{left}"
    return f"✓ {len(report.checked)} causes were checked and none holds.{left}"


def _cause(item: CauseReport, report: Report) -> Html:
    finding = item.finding
    explains = [
        f"{other.finding.cause.value} ({len(other.finding.subjects)})"
        for other in report.causes
        if other.explained_by is finding.cause
    ]
    rows: list[tuple[str, Html | str]] = [
        ("Affects", _subjects(finding.subjects)),
        ("Evidence", element("ul", *(element("li", line) for line in finding.evidence))),
    ]
    if item.explained_by is not None:
        where = "the cluster role's " if item.explained_elsewhere else ""
        rows.append(("Follows from", where + item.explained_by.value))
    if explains:
        rows.append(("Explains", ", ".join(explains)))
    rows.append(("Run first", element("code", finding.command, class_="command")))
    rows.append(("Runbook", element("a", runbook(finding.cause).rpartition("/")[2], href=runbook(finding.cause))))
    return element(
        "article",
        element(
            "header",
            element("h3", finding.cause.value),
            element("span", finding.severity.value, class_="tag"),
            element("span", f"for {age(report.snapshot.finished - item.since)}", class_="soft"),
        ),
        element("p", SPECS[finding.cause].says, class_="says"),
        definitions(rows),
        class_=f"card cause {finding.severity.value}",
    )


def _subjects(subjects: tuple[str, ...]) -> Html | str:
    if len(subjects) <= SUBJECTS:
        return ", ".join(subjects)
    more = len(subjects) - SUBJECTS_IN_ALL
    rest = ", ".join(subjects[SUBJECTS:SUBJECTS_IN_ALL]) + (f" and {more} more" if more > 0 else "")
    summary = element("summary", ", ".join(subjects[:SUBJECTS]), f" and {len(subjects) - SUBJECTS} more")
    return element("details", summary, element("p", rest))


def _footer(own: ExporterState, metrics: str) -> Html:
    links = ((metrics, "Metrics"), ("/api/v1/report", "Report as JSON"), ("/config", "Configuration"))
    made = f"dualstack-exporter {own.version}" + (f" ({own.revision})" if own.revision else "")
    return element(
        "footer",
        element("nav", *(element("a", words, href=address) for address, words in links), aria_label="More"),
        element("span", made + f", Python {own.python}"),
    )
