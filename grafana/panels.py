"""The few panels that the dashboards are made of, as the JSON that both Grafana 7.5 and the newest one draw.

Written in the form of 7.5 (schemaVersion 27): newer versions migrate that form when they load it (value mappings, a table's displayMode,
a data source as a string), while 7.5 knows nothing of theirs. Only panel types that are not Angular in 7.5 and still exist are used.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

Json: TypeAlias = dict[str, Any]

DATASOURCE = "$datasource"
TABLE, STAT, GRAPH, BARS, ROW = "table", "stat", "timeseries", "bargauge", "row"

GREEN, ORANGE, RED, BLUE = "green", "orange", "red", "blue"


@dataclass(frozen=True, slots=True)
class Query:
    """One expression; `legend` names its series."""

    expr: str
    legend: str = ""


@dataclass(frozen=True, slots=True)
class Look:
    """How a number or a label is shown: unit, words for values, colour from which value on, and where a click leads."""

    unit: str = "short"
    words: Mapping[str, str] = field(default_factory=dict)
    steps: Sequence[tuple[float | None, str]] = ((None, BLUE),)
    link: tuple[str, str] | None = None  # what it is, address
    decimals: int | None = None
    range: tuple[float, float] | None = None  # least and greatest value

    @property
    def coloured(self) -> bool:
        return len(self.steps) > 1


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table. `source` is a label, or # and the letter of a query for its value; an empty title hides it."""

    source: str
    title: str = ""
    look: Look = Look()
    width: int | None = None


@dataclass(frozen=True, slots=True)
class Panel:
    """A panel as it is told apart by people and tests; `body` is what its kind adds to the JSON.

    `only_bad`: it has data only where something is wrong or lacking, and none where all is well.
    """

    kind: str
    title: str
    says: str
    queries: Sequence[Query]
    width: int
    height: int
    body: Json
    only_bad: bool = False

    def render(self, number: int, x: int, y: int) -> Json:
        """The panel's JSON at a place of the grid."""
        place = {"x": x, "y": y, "w": self.width, "h": self.height}
        head = {"id": number, "type": self.kind, "title": self.title, "gridPos": place}
        if self.kind == ROW:
            return {**head, "collapsed": False, "panels": []}
        targets = [
            {
                "refId": letter,
                "expr": query.expr,
                **({"legendFormat": query.legend} if query.legend else {}),
                **EXTRA[self.kind],
            }
            for letter, query in zip("ABCDEFGH", self.queries, strict=False)
        ]
        return {**head, "description": self.says, "datasource": DATASOURCE, **self.body, "targets": targets}


# What a query says besides its expression. Graphs show a range, all else the present: an old value is no state.
EXTRA: Mapping[str, Json] = {
    TABLE: {"format": "table", "instant": True},
    STAT: {"instant": True},
    BARS: {"instant": True},
    GRAPH: {},
}

PLAIN = Look()
TEXT = Look(unit="string")
COUNT_BAD = Look(steps=((None, GREEN), (1, RED)))
COUNT_WARN = Look(steps=((None, GREEN), (1, ORANGE)))
COUNT_INFO = Look(steps=((None, GREEN), (1, BLUE)))
RATIO = Look(unit="percentunit", steps=((None, RED), (0.5, ORANGE), (1, GREEN)), range=(0, 1))
WORKS = Look(words={"1": "works", "0": "does not work"}, steps=((None, RED), (1, GREEN)))
YES = Look(words={"1": "yes", "0": "no"}, steps=((None, RED), (1, GREEN)))
NO_MATTER = Look(words={"1": "yes", "0": "no"})


def pick(metric: str, *matchers: str) -> str:
    """A metric's series that all matchers select."""
    return f"{metric}{{{', '.join(matchers)}}}"


def row(title: str) -> Panel:
    """A heading over the panels that follow."""
    return Panel(ROW, title, "", (), 24, 1, {})


def describe(says: str, empty: str) -> str:
    """A panel's description: what it shows, and what it means when nothing is there."""
    return f"{says} No data: {empty}."


def stat(
    title: str,
    queries: str | Sequence[Query],
    *,
    says: str,
    empty: str,
    look: Look = PLAIN,
    by_name: Mapping[str, Look] | None = None,
    size: tuple[int, int] = (4, 4),
    only_bad: bool = False,
) -> Panel:
    """Big numbers of the present, one for each series; `by_name` gives single ones a look of their own."""
    made = (Query(queries),) if isinstance(queries, str) else tuple(queries)
    body = {
        "fieldConfig": {"defaults": {**_defaults(look), "noValue": "no data"}, "overrides": _overrides(by_name or {})},
        "options": {
            "colorMode": "background" if look.coloured or by_name else "value",
            "graphMode": "none",
            "justifyMode": "auto",
            "orientation": "auto",
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
            "textMode": "auto" if len(made) > 1 or made[0].legend else "value",
        },
    }
    return Panel(STAT, title, describe(says, empty), made, *size, body, only_bad)


def graph(
    title: str,
    queries: Sequence[Query],
    *,
    says: str,
    empty: str,
    look: Look = PLAIN,
    size: tuple[int, int] = (12, 8),
    stacked: bool = False,
    only_bad: bool = False,
) -> Panel:
    """Lines over time."""
    custom: Json = {
        "drawStyle": "line",
        "lineInterpolation": "stepAfter" if look.unit == "short" else "linear",
        "lineWidth": 1,
        "fillOpacity": 40 if stacked else 8,
        "showPoints": "never",
        "spanNulls": False,
    }
    if stacked:
        custom["stacking"] = {"mode": "normal", "group": "A"}
    defaults = _defaults(look) | {"color": {"mode": "palette-classic"}, "custom": custom}
    defaults.setdefault("min", 0)
    body = {
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": {
            "legend": {"calcs": [], "displayMode": "list", "placement": "bottom"},
            "tooltipOptions": {"mode": "multi"},
        },
    }
    return Panel(GRAPH, title, describe(says, empty), tuple(queries), *size, body, only_bad)


def bars(
    title: str,
    query: Query,
    *,
    says: str,
    empty: str,
    look: Look = PLAIN,
    size: tuple[int, int] = (8, 8),
    only_bad: bool = False,
) -> Panel:
    """One horizontal bar for each series."""
    body = {
        "fieldConfig": {"defaults": {**_defaults(look), "noValue": "no data"}, "overrides": []},
        "options": {
            "displayMode": "basic",
            "orientation": "horizontal",
            "showUnfilled": True,
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        },
    }
    return Panel(BARS, title, describe(says, empty), (query,), *size, body, only_bad)


def table(
    title: str,
    queries: Sequence[str],
    columns: Sequence[Column],
    *,
    says: str,
    empty: str,
    sort: tuple[str, bool],
    size: tuple[int, int] = (24, 8),
    only_bad: bool = False,
) -> Panel:
    """Rows of the present. `sort` is a column's title and whether the greatest comes first.

    The first query must have every row that another one has: the value of the only query that returned anything is called "Value" by
    newer Grafana, "Value #A" by 7.5.
    """
    shown = [column for column in columns if column.title]
    hidden = [column for column in columns if not column.title]
    count = len(queries)
    organize = {
        "excludeByName": dict.fromkeys(["Time", *(n for c in hidden for n in _field_names(c, count))], True),
        "indexByName": {name: place for place, c in enumerate(shown) for name in _field_names(c, count)},
        "renameByName": {name: c.title for c in shown for name in _field_names(c, count)},
    }
    body = {
        "fieldConfig": {
            "defaults": {**_defaults(PLAIN), "custom": {"align": "left", "displayMode": "auto", "filterable": False}},
            "overrides": [_override(column.title, _properties(column)) for column in shown if _properties(column)],
        },
        "options": {"showHeader": True, "sortBy": [{"displayName": sort[0], "desc": sort[1]}]},
        "transformations": [{"id": "merge", "options": {}}, {"id": "organize", "options": organize}],
    }
    made = tuple(Query(expr) for expr in queries)
    return Panel(TABLE, title, describe(says, empty), made, *size, body, only_bad)


def _field_names(column: Column, queries: int) -> tuple[str, ...]:
    """What Grafana may call the field."""
    if not column.source.startswith("#"):
        return (column.source,)
    letter = column.source[1:]
    if queries == 1:
        return ("Value",)
    return (f"Value #{letter}", "Value") if letter == "A" else (f"Value #{letter}",)


def _properties(column: Column) -> list[Json]:
    """What an override of the column sets."""
    look = column.look
    properties: list[Json] = []
    if look.unit != PLAIN.unit:
        properties.append({"id": "unit", "value": look.unit})
    if look.decimals is not None:
        properties.append({"id": "decimals", "value": look.decimals})
    if look.words:
        properties.append({"id": "mappings", "value": _mappings(look.words)})
    if look.coloured:
        properties.append({"id": "thresholds", "value": _thresholds(look)})
        properties.append({"id": "custom.displayMode", "value": "color-background"})
    if look.link is not None:
        title, url = look.link
        properties.append(
            {"id": "links", "value": [{"title": title, "url": url, "targetBlank": url.startswith("http")}]}
        )
    if column.width is not None:
        properties.append({"id": "custom.width", "value": column.width})
    return properties


def _overrides(by_name: Mapping[str, Look]) -> list[Json]:
    return [_override(name, [{"id": "thresholds", "value": _thresholds(look)}]) for name, look in by_name.items()]


def _override(name: str, properties: list[Json]) -> Json:
    return {"matcher": {"id": "byName", "options": name}, "properties": properties}


def _defaults(look: Look) -> Json:
    found: Json = {
        "color": {"mode": "thresholds"},
        "mappings": _mappings(look.words),
        "thresholds": _thresholds(look),
        "unit": look.unit,
    }
    if look.range is not None:
        found["min"], found["max"] = look.range
    if look.decimals is not None:
        found["decimals"] = look.decimals
    return found


def _thresholds(look: Look) -> Json:
    return {"mode": "absolute", "steps": [{"color": colour, "value": value} for value, colour in look.steps]}


def _mappings(words: Mapping[str, str]) -> list[Json]:
    """Value mappings as 7.5 has them: type 1 is one value to text."""
    return [
        {"id": number, "type": 1, "value": value, "text": text} for number, (value, text) in enumerate(words.items())
    ]
