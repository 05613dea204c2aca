"""The reference tables: complete, well-formed, and put between the markers of a page."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from alerts.derive import replace_between
from exporter.catalogue import CATALOGUE
from exporter.config.reference import list_keys
from exporter.diagnosis.rules.registry import RULES
from exporter.model.cause import Cause
from exporter.report.document import alert_name
from exporter.report.reference import (
    alerts_table,
    causes_table,
    configuration_table,
    markdown,
    metrics_table,
    reference,
)

ROOT = Path(__file__).resolve().parents[2]
ALERT_RULES = """
groups:
  - name: dualstack
    rules:
      - record: node:dualstack_family_ok:min
        expr: min(dualstack_family_ok)
      - alert: DualstackIpv6Down
        expr: dualstack_family_ok == 0
        for: 5m
        labels: {severity: critical}
        annotations: {summary: IPv6 does not work., runbook_url: https://example.org/DualstackIpv6Down.md}
      - record: node:dualstack_fault:subjects
        expr: 1 - up > 0
        labels: {fault: exporter_absent, severity: warning}
      - alert: DualstackExporterAbsent
        expr: place:dualstack_fault:subjects{fault="exporter_absent"}
      - alert: DualstackDnsUnreachable
        expr: place:dualstack_fault:subjects{fault="dns_unreachable"}
      - alert: DualstackOther
        expr: vector(1)
"""


def first_cells(table: str) -> list[str]:
    return [line.split(" | ")[0].removeprefix("| ") for line in table.splitlines()[2:]]


def test_each_table_has_a_row_for_each_thing_in_its_order() -> None:
    assert first_cells(metrics_table()) == [f"`{m.name}`" for m in CATALOGUE]
    assert [cell.split("`")[1] for cell in first_cells(causes_table())] == list(Cause)
    assert first_cells(configuration_table()) == [f"`{row.key}`" for row in list_keys()]


def test_from_a_cause_it_is_two_steps_to_its_rule_and_its_runbook() -> None:
    """The table names the file, the rule in it has the cause's name and says when it holds; the runbook is linked and
    exists.
    """
    rows = {line.split("`")[1]: line for line in causes_table().splitlines()[2:]}
    for cause, rule in RULES.items():
        source = ROOT / (rule.__module__.replace(".", "/") + ".py")
        assert f"]({source.relative_to(ROOT)})" in rows[cause.value]
        assert f"\ndef {cause.value}(view: RuleInput)" in source.read_text(encoding="utf-8")
        assert rule.__doc__
        assert f"](alerts/runbooks/{alert_name(cause)}.md)" in rows[cause.value]
        assert (ROOT / f"alerts/runbooks/{alert_name(cause)}.md").is_file()


def test_links_to_files_can_be_relative_to_a_page_below_the_repository() -> None:
    assert causes_table("../../").replace("](../../", "](") == causes_table()
    assert not re.search(r"\]\((exporter|alerts)/", causes_table("../../"))


def test_every_row_has_as_many_cells_as_the_head() -> None:
    for table in (metrics_table(), causes_table(), configuration_table()):
        counts = {line.replace("\\|", "").count("|") for line in table.splitlines()}
        assert len(counts) == 1


def test_alerts_come_from_the_rules_file_with_the_severity_of_what_they_read() -> None:
    assert alerts_table(ALERT_RULES).splitlines()[2:] == [
        "| [`DualstackIpv6Down`](alerts/runbooks/DualstackIpv6Down.md) | critical | 5m | IPv6 does not work. |",
        "| `DualstackExporterAbsent` | warning | 0s |  |",
        "| `DualstackDnsUnreachable` | from the cause | 0s |  |",
        "| `DualstackOther` |  | 0s |  |",
    ]


def test_bars_and_line_breaks_cannot_end_a_cell() -> None:
    assert markdown(("a",), [("x|y\nz",)]).splitlines()[-1] == "| x\\|y z |"


def test_the_reference_holds_every_table_under_its_heading() -> None:
    text = reference()
    for heading in ("## Metrics", "## Causes", "## Configuration"):
        assert f"{heading}\n\n| " in text


BEGIN, END = "<!-- metrics: begin -->\n", "<!-- metrics: end -->"


def test_a_table_is_put_between_its_markers_and_nothing_else_changes() -> None:
    once = replace_between(f"before\n{BEGIN}old\n{END}\nafter\n", BEGIN, END, "| new |\n")
    assert once == f"before\n{BEGIN}| new |\n{END}\nafter\n"
    assert replace_between(once, BEGIN, END, "| new |\n") == once


@pytest.mark.parametrize("broken", ["", "{begin}", "{end}\n{begin}", "{begin}{begin}{end}", "{begin}{end}{end}"])
def test_a_document_without_both_markers_once_is_refused(broken: str) -> None:
    with pytest.raises(ValueError, match="once each"):
        replace_between(broken.format(begin=BEGIN, end=END), BEGIN, END, "x")
