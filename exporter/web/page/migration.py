"""The page's section of the cluster exporter: how many objects have each family, and which lack one. Does no I/O."""

from __future__ import annotations

from exporter.catalogue.metric import FinishedRound
from exporter.diagnosis.census import Census, Progress
from exporter.model.report import Report
from exporter.report.document import few
from exporter.web.page.markup import EMPTY, FAMILIES, Html, details, element, head_row, section, table


def migration_section(report: Report) -> Html:
    """Objects by family; empty for a role that reads one node's objects only."""
    census = FinishedRound(report).census
    if not census.progress:
        return EMPTY
    head = head_row("", *(f"have {family.value}" for family in FAMILIES), "have both")
    objects = table("Objects by family", head, [_row(census, progress) for progress in census.progress], "names")
    unexpected = {family for family, state in report.families.items() if state.expected is False}
    lists = []
    for lacking in census.lacking:
        if lacking.family not in unexpected:
            summary = f"{lacking.resource.value} without {lacking.family.value}: {lacking.total}"
            lists.append(details(summary, few(lacking.names, len(lacking.names), lacking.total)))
    return section("migration", "Migration to dual-stack", objects, *lists)


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
