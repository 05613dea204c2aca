"""The page's part for the cluster role: how far the cluster is on its way to dual-stack, and who lacks a family."""

from __future__ import annotations

from exporter.catalogue.metric import FinishedRound
from exporter.diagnosis.census import Census, Lacking, Progress
from exporter.model.family import Family
from exporter.model.report import Report
from exporter.web.page.markup import Html, element, join

FAMILIES = (Family.V6, Family.V4)


def migration_section(report: Report) -> Html:
    """Objects by family; nothing for a role that sees one node's objects alone."""
    census = FinishedRound(report).census
    if not census.progress:
        return Html("")
    unexpected = {family for family, state in report.families.items() if state.expected is False}
    head = element("tr", *(element("th", name, scope="col") for name in ("", "have IPv6", "have IPv4", "have both")))
    rows = [_row(census, progress) for progress in census.progress]
    table = element("table", element("thead", head), element("tbody", *rows), class_="names")
    lists = [_names(lacking) for lacking in census.lacking if lacking.family not in unexpected]
    return element(
        "section",
        element("h2", "On the way to dual-stack"),
        element("div", table, class_="scroll", tabindex="0", role="region", aria_label="Objects by family"),
        join(*lists),
        id="migration",
    )


def _row(census: Census, progress: Progress) -> Html:
    having = {c.family: c.having for c in census.counts if c.resource is progress.resource and not c.namespace}
    share = f" ({progress.ratio:.0%})" if progress.ratio is not None else ""
    both = f"{progress.dual} of {progress.total}{share}"
    return element(
        "tr",
        element("th", progress.resource.value, scope="row"),
        *(element("td", str(having.get(family, 0))) for family in FAMILIES),
        element("td", f"✓ {both}" if progress.dual == progress.total else both),
    )


def _names(lacking: Lacking) -> Html:
    more = lacking.total - len(lacking.names)
    names = ", ".join(lacking.names) + (f" and {more} more" if more > 0 else "")
    summary = f"{lacking.resource.value} without {lacking.family.value}: {lacking.total}"
    return element("details", element("summary", summary), element("p", names, class_="soft"))
