"""The page's DNS section: lookups by nameserver, how each treats AAAA, and what libcs would return. Does no I/O."""

from __future__ import annotations

from collections import Counter

from exporter.model.dns import BlockKind
from exporter.model.grouping import grouped
from exporter.model.probe import LookupOutcome
from exporter.model.report import Report
from exporter.report.resolve import LIBC_NAMES
from exporter.web.page.markup import EMPTY, NOTHING, Html, class_of, element, head_row, number, section, table

# Outcomes that are a failure whatever the name; whether nodata or nxdomain is wrong depends on the name.
FAILED = {LookupOutcome.TIMEOUT, LookupOutcome.UNREACHABLE, LookupOutcome.SERVFAIL, LookupOutcome.REFUSED}


def dns_section(report: Report) -> Html:
    """Lookups by nameserver, family of its address and type, counted by outcome."""
    snapshot = report.snapshot
    lookups = snapshot.lookups_kept or snapshot.lookups
    if not lookups:
        return EMPTY
    types = sorted({one.question.qtype for one in lookups}, key=lambda t: (t != "AAAA", t != "A", t))
    asked = grouped(lookups, lambda one: (one.question.server.label, one.question.server.family.value))
    rows = [
        element(
            "tr",
            element("th", server, scope="row"),
            element("td", family),
            _block(report.aaaa_blocks.get(server)),
            *(_answers(Counter(one.outcome for one in made if one.question.qtype == qtype)) for qtype in types),
        )
        for (server, family), made in sorted(asked.items(), key=lambda item: item[0])
    ]
    matrix = table("Lookups", head_row("nameserver", "over", "AAAA is", *types), rows, "names")
    return section("dns", "DNS", matrix, _predictions(report), note="queries to each nameserver by outcome")


def _block(kind: BlockKind | None) -> Html:
    """How the server treats AAAA."""
    if kind is None or kind is BlockKind.UNDECIDED:
        return element("td", "? undecided" if kind else NOTHING, class_=class_of(None))
    served = {BlockKind.NONE: "✓ served", BlockKind.DNS64: "✓ synthesized by DNS64"}.get(kind)
    if served:
        return element("td", served, class_=class_of(good=True))
    return element("td", "✗ withheld", element("small", kind.replace("_", " ")), class_=class_of(good=False))


def _answers(outcomes: Counter[LookupOutcome]) -> Html:
    if not outcomes:
        return element("td", NOTHING, class_=class_of(None))
    counts = ", ".join(f"{count} {outcome.value.replace('_', ' ')}" for outcome, count in sorted(outcomes.items()))
    failed = bool(outcomes.keys() & FAILED)
    return element("td", f"✗ {counts}" if failed else counts, class_=class_of(good=False) if failed else None)


def _predictions(report: Report) -> Html:
    """Names for which some libc would return an error to a program."""
    failing = sorted(
        (libc, name, code, pods)
        for (libc, name, request, code), pods in report.predictions.items()
        if code != "OK" and request == "any"
    )
    items = [
        element("li", f"✗ {LIBC_NAMES[libc]} returns {code} for {name} in {number(pods, 'pod')}")
        for libc, name, code, pods in failing
    ]
    return element("ul", *items, class_="note") if items else EMPTY
