"""The page's part about names: lookups by nameserver, how it treats AAAA, and what programs would get."""

from __future__ import annotations

from collections import Counter

from exporter.model.probe import LookupOutcome
from exporter.model.report import Report
from exporter.web.page.markup import NOTHING, Html, element


def dns_section(report: Report) -> Html:
    """Lookups by nameserver, family of its address and type, with how each ended."""
    snapshot = report.snapshot
    ended: dict[tuple[str, str], dict[str, Counter[LookupOutcome]]] = {}
    for lookup in snapshot.lookups_kept or snapshot.lookups:
        question = lookup.question
        row = ended.setdefault((question.server.label, question.server.family.value), {})
        row.setdefault(question.qtype, Counter())[lookup.outcome] += 1
    if not ended:
        return Html("")
    types = sorted({qtype for row in ended.values() for qtype in row}, key=lambda t: (t != "AAAA", t != "A", t))
    head = element("tr", *(element("th", name, scope="col") for name in ("nameserver", "over", "AAAA is", *types)))
    rows = [
        element(
            "tr",
            element("th", server, scope="row"),
            element("td", family),
            _block(report.aaaa_blocks.get(server)),
            *(_answers(row.get(qtype, Counter())) for qtype in types),
        )
        for (server, family), row in sorted(ended.items())
    ]
    table = element("table", element("thead", head), element("tbody", *rows), class_="names")
    title = element("h2", "Names", element("small", "questions asked of each nameserver, by how they ended"))
    box = element("div", table, class_="scroll", tabindex="0", role="region", aria_label="Lookups")
    return element("section", title, box, _predictions(report), id="dns")


def _block(kind: str | None) -> Html:
    """How the server treats AAAA, in words; none and dns64 are no fault."""
    if kind is None or kind == "undecided":
        return element("td", "? undecided" if kind else NOTHING, class_="none-text")
    if kind == "none":
        return element("td", "✓ served", class_="good-text")
    if kind == "dns64":
        return element("td", "✓ made by DNS64", class_="good-text")
    return element("td", "✗ withheld", element("small", kind.replace("_", " ")), class_="bad-text")


def _answers(outcomes: Counter[LookupOutcome]) -> Html:
    """Counts by outcome. Whether no answer is wrong depends on the name, so only silence and errors are marked as failing."""
    if not outcomes:
        return element("td", NOTHING, class_="none-text")
    failed = outcomes.keys() & {
        LookupOutcome.TIMEOUT,
        LookupOutcome.UNREACHABLE,
        LookupOutcome.SERVFAIL,
        LookupOutcome.REFUSED,
    }
    said = ", ".join(f"{count} {outcome.value.replace('_', ' ')}" for outcome, count in sorted(outcomes.items()))
    return element("td", f"✗ {said}" if failed else said, class_="bad-text" if failed else None)


def _predictions(report: Report) -> Html:
    """What a program would get, where the libcs do not all find the name."""
    failing = sorted(
        (libc, name, code, pods)
        for (libc, name, request, code), pods in report.predictions.items()
        if code != "OK" and request == "any"
    )
    if not failing:
        return Html("")
    items = [
        element(
            "li",
            f"✗ {libc.replace('musl_1_2_3', 'musl until 1.2.3')} would give {code} for {name} in {pods} {'pod' if pods == 1 else 'pods'}",
        )
        for libc, name, code, pods in failing
    ]
    return element("ul", *items, class_="note")
