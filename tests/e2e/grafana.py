"""What Grafana makes of a dashboard's queries: variables put in, tables merged, renamed and put in order, values put
into words.

No Grafana can be had here. This is the small part of it that the dashboards use, after the sources of @grafana/data:
how the merge transformation joins rows, what fields are called, which threshold colours a value.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from tests.e2e.prometheus import Series

Cell: TypeAlias = str | float | None
Row: TypeAlias = dict[str, Cell]


def substitute(text: str, variables: Mapping[str, str]) -> str:
    """The text with $name replaced; a name that is none of the variables stays, as `$1` does."""
    return re.sub(r"\$([A-Za-z_]\w*)", lambda match: variables.get(match.group(1), match.group()), text)


def table_rows(panel: Any, answers: Sequence[Sequence[Series]], *, whole: bool = False) -> list[Row]:
    """A table's rows as they are shown, by column title; `answers` are those of its queries in order.

    A row has the cells that are filled, or with `whole` every column that any row has.
    """
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
    if whole:
        titles = dict.fromkeys(title for row in rows for title in row)
        rows = [dict.fromkeys(titles) | row for row in rows]
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
    """The properties that overrides set for a column or series; a later one wins."""
    return {
        prop["id"]: prop["value"]
        for each in panel["fieldConfig"]["overrides"]
        if _matches(each["matcher"], name)
        for prop in each["properties"]
    }


def _matches(matcher: Mapping[str, str], name: str) -> bool:
    if matcher["id"] == "byRegexp":
        return re.search(matcher["options"].strip("/"), name) is not None
    return matcher["options"] == name


def legend(template: str, labels: Mapping[str, str]) -> str:
    """A series' name."""
    return re.sub(r"\{\{(\w+)\}\}", lambda match: labels.get(match.group(1), ""), template).strip()


def words(value: Cell, mappings: Sequence[Mapping[str, Any]]) -> str | None:
    """The text that value mappings give, if one does; numbers are compared as numbers."""
    for mapping in mappings:
        if value == mapping["value"] or (isinstance(value, float) and mapping["value"] == f"{value:g}"):
            return str(mapping["text"])
    return None


def colour(value: Cell, steps: Sequence[Mapping[str, Any]]) -> str:
    """The colour of the highest threshold that the value reaches; of no number that of the lowest."""
    number = value if isinstance(value, float) else -math.inf
    return str([step["color"] for step in steps if step["value"] is None or number >= step["value"]][-1])


def colours(panel: Any, answers: Sequence[Sequence[Series]]) -> list[tuple[str, Cell, str]]:
    """Everything that a panel colours by a threshold, with its name and colour: numbers, bars and cells.

    The lines of a graph have colours of their own.
    """
    kind = panel["type"]
    if kind == "table":
        fields = [(title, value) for row in table_rows(panel, answers, whole=True) for title, value in row.items()]
        fields = [(title, value) for title, value in fields if "custom.displayMode" in override(panel, title)]
    elif kind in {"stat", "bargauge"}:
        fields = [
            (legend(target.get("legendFormat", ""), one.labels), one.points[-1][1])
            for target, series in zip(panel["targets"], answers, strict=True)
            for one in series
        ] or [("", None)]  # the text for no data is coloured as well
    else:
        return []
    defaults = panel["fieldConfig"]["defaults"]
    settings = [(name, value, defaults | override(panel, name)) for name, value in fields]
    return [(name, value, colour(value, each["thresholds"]["steps"])) for name, value, each in settings]
