"""What Grafana makes of a dashboard's queries: variables put in, tables merged, renamed and put in order, values put
into words.

No Grafana can be had here. This is the small part of it that the dashboards use, after the sources of @grafana/data:
how the merge transformation joins rows, what fields are called, which threshold colours a value.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from tests.e2e.prometheus import Series

Cell: TypeAlias = str | float | None
Row: TypeAlias = dict[str, Cell]


def substitute(text: str, variables: Mapping[str, str]) -> str:
    """The text with $name replaced; a name that is none of the variables stays, as `$1` does."""
    return re.sub(r"\$([A-Za-z_]\w*)", lambda match: variables.get(match.group(1), match.group()), text)


def table_rows(panel: Any, answers: Sequence[Sequence[Series]]) -> list[Row]:
    """A table's rows as they are shown, by column title; `answers` are those of its queries in order."""
    frames = [
        _frame(series, f"Value #{letter}" if len(answers) > 1 else "Value")
        for letter, series in zip("ABCDEFGH", answers, strict=False)
    ]
    _, organize = panel["transformations"]
    options = organize["options"]
    rows = [
        {
            options["renameByName"].get(name, name): value
            for name, value in sorted(row.items(), key=lambda item: options["indexByName"].get(item[0], 99))
            if name not in options["excludeByName"]
        }
        for row in merge(frames)
    ]
    (order,) = panel["options"]["sortBy"]
    return sorted(rows, key=lambda row: _order(row.get(order["displayName"])), reverse=order["desc"])


def _frame(series: Sequence[Series], value: str) -> list[Row]:
    """One query's answer: a field for each label that any of its series has."""
    labels = sorted({label for one in series for label in one.labels})
    return [{**{label: one.labels.get(label, "") for label in labels}, value: one.points[-1][1]} for one in series]


def merge(frames: Sequence[list[Row]]) -> list[Row]:
    """Rows that differ in no field that both have become one, frame by frame."""
    merged: list[Row] = []
    for frame in frames:
        for row in frame:
            fitting = [
                other for other in merged if all(other.get(name) in {None, value} for name, value in row.items())
            ]
            for other in fitting:
                other.update(row)
            if not fitting:
                merged.append(dict(row))
    return merged


def _order(value: Cell) -> tuple[bool, float, str]:
    return (value is not None, value if isinstance(value, float) else 0.0, str(value))


def override(panel: Any, name: str) -> dict[str, Any]:
    """The properties that an override sets for a column or series."""
    return {
        prop["id"]: prop["value"]
        for each in panel["fieldConfig"]["overrides"]
        if each["matcher"]["options"] == name
        for prop in each["properties"]
    }


def legend(template: str, labels: Mapping[str, str]) -> str:
    """A series' name."""
    return re.sub(r"\{\{(\w+)\}\}", lambda match: labels.get(match.group(1), ""), template).strip()


def words(value: Cell, mappings: Sequence[Mapping[str, Any]]) -> str | None:
    """The text that value mappings give, if one does; numbers are compared as numbers."""
    for mapping in mappings:
        if value == mapping["value"] or (isinstance(value, float) and mapping["value"] == f"{value:g}"):
            return str(mapping["text"])
    return None


def colour(value: float, steps: Sequence[Mapping[str, Any]]) -> str:
    """The colour of the highest threshold that the value reaches."""
    return str([step["color"] for step in steps if step["value"] is None or value >= step["value"]][-1])
