"""The status page: a finished report as HTML, between report and server. Does no I/O; the page has no script.

It is read from top to bottom: whether each family works, what to fix and how, then the matrix of vantages and layers,
and the facts behind it. Colours only repeat what signs and words show.
"""

from __future__ import annotations

from collections.abc import Iterator

from exporter.catalogue.exporter import ExporterState
from exporter.catalogue.probes import failing, kept
from exporter.model.cause import Cause, Role
from exporter.model.cluster.inventory import Came
from exporter.model.family import Family
from exporter.model.report import CauseReport, Report
from exporter.report.document import UNKNOWN, age, alert_name, few, place_of, rfc3339
from exporter.report.healed import DAY, Healed, HealedDay
from exporter.web.page.facts import blind_section, kernel_section, migration_section, unchecked_section
from exporter.web.page.markup import (
    EMPTY,
    FAMILIES,
    NOTHING,
    Html,
    definitions,
    details,
    element,
    join,
    number,
    section,
)
from exporter.web.page.matrix import failures_section, matrix_section, tally
from exporter.web.page.names import dns_section
from exporter.web.page.style import STYLE

SUBJECTS = 6
SUBJECTS_IN_ALL = 100


def page(
    report: Report | None,
    own: ExporterState,
    *,
    now: float,
    fresh: bool = True,
    metrics: str = "/metrics",
    healed: HealedDay | None = None,
) -> str:
    """The whole page. `report` None: no round has finished yet; not `fresh`: it is too old to be exposed."""
    title = f"{own.node} · dualstack-exporter"
    if report is not None:  # the verdict for the browser's tab: IPv6✗ IPv4✓
        title = " ".join((*(family.value + _state(report, family)[1] for family in FAMILIES), title))
    banners = (
        element("p", element("b", f"! {name}"), words, class_="banner")
        for name, words in _banners(report, own, now, fresh=fresh)
    )
    main = _not_yet(own) if report is None else _sections(report, now, healed)
    return document_page(title, _header(report, own, now), *banners, main, _footer(own, metrics))


def document_page(title: str, *parts: str) -> str:
    """A whole document of this site."""
    head = join(
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="robots", content="noindex"),
        element("title", title),
        element("style", Html(STYLE)),
    )
    body = element("div", *parts, class_="page")
    return "<!doctype html>\n" + element("html", element("head", head), element("body", body), lang="en") + "\n"


def _not_yet(own: ExporterState) -> Html:
    skipped = f" {number(own.rounds_skipped, 'round')} skipped so far." if own.rounds_skipped else ""
    words = f"This page shows the node after the first round. Reload it in a moment.{skipped}"
    return element("section", element("h2", "No round has finished yet"), element("p", words), class_="card")


def _sections(report: Report, now: float, healed: HealedDay | None) -> Html:
    return join(
        _families(report),
        _causes(report),
        _healed_section(healed, now) if healed is not None else EMPTY,
        matrix_section(report),
        failures_section(report),
        dns_section(report),
        kernel_section(report),
        migration_section(report),
        unchecked_section(report),
        blind_section(report),
    )


def _header(report: Report | None, own: ExporterState, now: float) -> Html:
    when = ""
    if report is not None:
        snapshot = report.snapshot
        finished = rfc3339(snapshot.finished)
        when = element(
            "span",
            "Round of ",
            element("time", finished.replace("T", " ").replace("Z", " UTC"), datetime=finished),
            f", {age(now - snapshot.finished)} ago, took {snapshot.finished - snapshot.started:.1f} s",
            class_="soft",
        )
    return element("header", element("h1", own.node, element("small", f"role {own.role}")), when)


def _banners(report: Report | None, own: ExporterState, now: float, *, fresh: bool) -> Iterator[tuple[str, str]]:
    """Title and text of each warning about the configuration, the round as a whole and its inventory."""
    if own.reload_successful is False:
        why = f" {own.reload_problem}" if own.reload_problem else ""
        yield "The configuration was not reloaded.", f" The previous one stays in use.{why}"
    if report is None:
        return
    snapshot, inventory = report.snapshot, report.snapshot.inventory
    if not fresh:
        ago = age(now - snapshot.finished)
        yield "Probing has stalled.", f" The last round finished {ago} ago and its metrics are no longer exposed."
    if not snapshot.complete:
        yield "This round is not complete.", " It reached its deadline; results up to then are shown."
    why = f" {inventory.problem}" if inventory.problem else ""
    unread = {Came.NOTHING: "The inventory was never read.", Came.PART: "A part of the inventory was never read."}
    if inventory.came in unread:
        yield unread[inventory.came], f" Causes that need it are not checked.{why}"
    if inventory.stale:
        known = f", {age(report.inventory_age)} old" if report.inventory_age is not None else ""
        yield "The inventory is stale.", f" Its source cannot be reached; the last one stays in use{known}.{why}"


def _state(report: Report, family: Family) -> tuple[str, str, str]:
    """Class, sign and words of a family's verdict."""
    state = report.families.get(family, UNKNOWN)
    if state.expected is False:
        return "none", NOTHING, "is not expected"
    if state.ok is None:
        return "none", "?", "unknown"
    return ("good", "✓", "works") if state.ok else ("bad", "✗", "does not work")


def _families(report: Report) -> Html:
    cards = []
    for family in FAMILIES:
        kind, sign, words = _state(report, family)
        why = element("span", _why(report, family), class_="soft")
        verdict = element("div", element("b", f"{family.value} {words}"), why)
        shown = element("span", sign, class_="sign", aria_hidden="true")
        cards.append(element("div", shown, verdict, class_=f"family {kind}"))
    known = [f"Pod network: {report.network.described}"] if report.network.described else []
    known += filter(None, (report.families.get(family, UNKNOWN).because(family) for family in FAMILIES))
    notes = [element("p", text, class_="soft") for text in known]
    return element("section", element("div", *cards, class_="families"), *notes, aria_label="Families")


def _why(report: Report, family: Family) -> str:
    results = kept(report.snapshot)
    made = {o.vantage.key for o in results if o.family is family and o.counted}
    failed = {o.vantage.key for o in failing(results) if o.family is family}
    counted = tally([o for o in results if o.family is family])
    if report.families.get(family, UNKNOWN).expected is False:
        return "The cluster is not expected to have it."
    if report.snapshot.role is Role.CLUSTER:
        return "The cluster exporter does not probe; see each node's own status page."
    if not made:
        return "No probe over this family has a result."
    apart = f" Not counted: {counted.apart}." if counted.apart else ""
    if not failed:
        return f"Every probe passes ({counted.dialled}), from {number(len(made), 'place')}.{apart}"
    places = f"from {len(failed)} of {number(len(made), 'place')} (host, pods)"
    return f"{counted.failed} of {number(counted.dialled, 'probe')} fail, {places}.{apart}"


def _causes(report: Report) -> Html:
    roots = sorted(
        (item for item in report.causes if item.explained_by is None),
        key=lambda item: (-item.finding.severity.rank, place_of(item.finding.cause)),
    )
    explained = [item for item in report.causes if item.explained_by is not None]
    parts = [_cause(item, report) for item in roots] or [element("p", _no_cause(report), class_="card")]
    if explained:
        summary = element("summary", f"Consequences of other causes ({len(explained)})")
        parts.append(element("details", summary, *(_cause(item, report) for item in explained), class_="card"))
    title = "What to fix" if roots else "No cause found"
    return section("causes", title, *parts, note=number(len(roots), "cause") if roots else "")


def _no_cause(report: Report) -> str:
    """What an empty list of causes means: all is well, nothing was checked, or a fault that no cause explains."""
    if not report.checked:
        return f"? None of the {len(report.unchecked)} causes could be checked: see below."
    left = f" {len(report.unchecked)} could not be checked: see below." if report.unchecked else ""
    broken = [family.value for family in FAMILIES if report.families.get(family, UNKNOWN).ok is False]
    if broken:
        verb = "is" if len(broken) == 1 else "are"
        words = f"? {' and '.join(broken)} {verb} failing, but none of the checked causes explains it."
        return f"{words} See the table below for where it fails.{left}"
    return f"✓ {number(len(report.checked), 'cause')} checked, none found.{left}"


def _cause(item: CauseReport, report: Report) -> Html:
    finding = item.finding
    explains = [
        f"{other.finding.cause.value} ({len(other.finding.subjects)})"
        for other in report.causes
        if other.explained_by is finding.cause
    ]
    where = " (reported by the cluster exporter)" if item.explained_elsewhere else ""
    link = f"/runbooks/{alert_name(finding.cause)}"
    rows = (
        ("Affects", _subjects(finding.subjects)),
        ("Evidence", element("ul", *(element("li", line) for line in finding.evidence))),
        ("Caused by", item.explained_by.value + where if item.explained_by is not None else ""),
        ("Explains", ", ".join(explains)),
        ("Run first", element("code", finding.command, class_="command")),
        ("Runbook", element("a", link.rpartition("/")[2], href=link)),
    )
    return element(
        "article",
        element(
            "header",
            element("h3", finding.cause.value),
            element("span", finding.severity.value, class_="tag"),
            element("span", f"for {age(report.snapshot.finished - item.since)}", class_="soft"),
        ),
        element("p", finding.cause.spec.says, class_="about"),
        definitions(row for row in rows if row[1]),
        class_=f"card cause {finding.severity.value}",
    )


def _healed_section(healed: HealedDay, now: float) -> Html:
    """What is known only since the exporter's start."""
    entries = healed.at(now)
    since = f"since {_minute(healed.since)}, when this exporter started" if now - healed.since < DAY else "in 24 h"
    if not entries:
        return element("p", f"Nothing healed {since}.", class_="soft")
    left = f" and {healed.dropped} more" if healed.dropped else ""
    listed = element("ul", *(element("li", *_healed(each)) for each in entries))
    summary = element("summary", f"✓ Healed {since}: {number(len(entries), 'fault')}{left}")
    return element("details", summary, listed, class_="card", id="healed")


def _healed(item: Healed) -> Iterator[Html]:
    lasted = f" lasted {age(item.ended - item.began)}, until {_minute(item.ended)}"
    if isinstance(item.what, Cause):
        yield element("a", item.what.value, href=f"/runbooks/{alert_name(item.what)}")
        yield join(lasted)
    else:
        yield join(f"{item.what.value} did not work: this{lasted}")
    for text in filter(None, (item.subjects, item.evidence)):
        yield element("small", text, class_="soft")


def _minute(seconds: float) -> str:
    return f"{rfc3339(seconds)[:16].replace('T', ' ')} UTC"


def _subjects(subjects: tuple[str, ...]) -> str:
    if len(subjects) <= SUBJECTS:
        return ", ".join(subjects)
    return details(few(subjects, SUBJECTS), few(subjects[SUBJECTS:], SUBJECTS_IN_ALL - SUBJECTS))


def _footer(own: ExporterState, metrics: str) -> Html:
    links = (
        (metrics, "Metrics"),
        ("/api/v1/report", "Report as JSON"),
        ("/config", "Configuration"),
        ("/runbooks/", "Runbooks"),
    )
    made = f"dualstack-exporter {own.version}" + (f" ({own.revision})" if own.revision else "")
    return element(
        "footer",
        element("nav", *(element("a", words, href=address) for address, words in links), aria_label="More"),
        element("span", f"{made}, Python {own.python}"),
    )
