"""The reference tables: complete, well-formed, and put between README's markers."""

from __future__ import annotations

import pytest

from exporter.catalogue import CATALOGUE
from exporter.config.reference import list_keys
from exporter.diagnosis.causes import TABLE
from exporter.report.reference import (
    MARKERS,
    alerts_table,
    causes_table,
    configuration_table,
    markdown,
    metrics_table,
    reference,
    replace_between_markers,
)

RULES = """
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
      - alert: DualstackOther
        expr: vector(1)
"""


def first_cells(table: str) -> list[str]:
    return [line.split(" | ")[0].removeprefix("| ") for line in table.splitlines()[2:]]


def test_each_table_has_a_row_for_each_thing_in_its_order() -> None:
    assert first_cells(metrics_table()) == [f"`{m.name}`" for m in CATALOGUE]
    assert [cell.split("`")[1] for cell in first_cells(causes_table())] == [line.cause.value for line in TABLE]
    assert first_cells(configuration_table()) == [f"`{row.key}`" for row in list_keys()]


def test_every_row_has_as_many_cells_as_the_head() -> None:
    for table in (metrics_table(), causes_table(), configuration_table()):
        counts = {line.replace("\\|", "").count("|") for line in table.splitlines()}
        assert len(counts) == 1


def test_alerts_come_from_the_rules_file_without_its_recording_rules() -> None:
    assert alerts_table(RULES).splitlines()[2:] == [
        "| [`DualstackIpv6Down`](https://example.org/DualstackIpv6Down.md) | critical | 5m | IPv6 does not work. |",
        "| `DualstackOther` |  | 0s |  |",
    ]


def test_bars_and_line_breaks_cannot_end_a_cell() -> None:
    assert markdown(("a",), [("x|y\nz",)]).splitlines()[-1] == "| x\\|y z |"


def test_the_reference_holds_every_table_under_its_heading() -> None:
    text = reference()
    for heading in ("## Metrics", "## Causes", "## Configuration"):
        assert f"{heading}\n\n| " in text


def test_a_table_is_put_between_its_markers_and_nothing_else_changes() -> None:
    begin, end = (marker.format(name="metrics") for marker in MARKERS)
    document = f"before\n{begin}\nold\n{end}\nafter\n"
    once = replace_between_markers(document, "metrics", "| new |\n")
    assert once == f"before\n{begin}\n| new |\n{end}\nafter\n"
    assert replace_between_markers(once, "metrics", "| new |\n") == once


@pytest.mark.parametrize("broken", ["", "{begin}", "{end}\n{begin}", "{begin}{begin}{end}", "{begin}{end}{end}"])
def test_a_document_without_both_markers_once_is_refused(broken: str) -> None:
    begin, end = (marker.format(name="metrics") for marker in MARKERS)
    with pytest.raises(ValueError, match="once each"):
        replace_between_markers(broken.format(begin=begin, end=end), "metrics", "x")
