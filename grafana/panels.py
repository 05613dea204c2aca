"""The panel types of the dashboards, as JSON that both Grafana 7.5 and the newest Grafana can draw.

The JSON has the form of 7.5 (schemaVersion 27): newer versions migrate it when they load it (value mappings,
displayMode of a table, a data source as a string), while 7.5 cannot read newer forms. Only panel types that are not
Angular in 7.5 and still exist are used.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

Json: TypeAlias = dict[str, Any]

DATASOURCE = "$datasource"
NO_CELL = "-"
TABLE, STAT, GRAPH, BARS, ROW = "table", "stat", "timeseries", "bargauge", "row"

GREEN, ORANGE, RED, BLUE = "green", "orange", "red", "blue"
NEUTRAL = "#5c5f66"  # of what is not known: neither good nor bad
# Lines of a family have one colour on every dashboard, which is no colour of a threshold; `shades` tell them apart.
FAMILY_SHADES: Mapping[str, Sequence[str]] = {
    "IPv6": ("blue", "light-blue", "semi-dark-blue", "dark-blue", "super-light-blue"),
    "IPv4": ("purple", "light-purple", "semi-dark-purple", "dark-purple", "super-light-purple"),
}


@dataclass(frozen=True, slots=True)
class Query:
    """One expression; `legend` is the name of its series."""

    expr: str
    legend: str = ""


@dataclass(frozen=True, slots=True)
class Style:
    """How a value or a label is shown: unit, texts for values, thresholds of colours, and the link of a click.

    Grafana gives the first colour to a missing value, so styles with several colours are made by `scale`.
    """

    unit: str = "short"
    words: Mapping[str, str] = field(default_factory=dict)
    steps: Sequence[tuple[float | None, str]] = ((None, BLUE),)
    link: tuple[str, str] | None = None  # title, URL
    decimals: int | None = None
    range: tuple[float, float] | None = None  # least and greatest value
    shades: Sequence[str] = ()  # parts of a legend that have shades of their own among the lines of a family

    @property
    def coloured(self) -> bool:
        return len(self.steps) > 1


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table. `source` is a label, or # and the letter of a query; an empty title hides the column."""

    source: str
    title: str = ""
    style: Style = Style()
    width: int | None = None


@dataclass(frozen=True, slots=True)
class Panel:
    """A panel; `body` is the JSON that is specific to its kind.

    `only_bad`: it has data only if something is wrong or missing, and none in a healthy cluster.
    """

    kind: str
    title: str
    description: str
    queries: Sequence[Query]
    width: int
    height: int
    body: Json
    only_bad: bool = False

    def render(self, number: int, x: int, y: int) -> Json:
        """The panel's JSON at a position in the grid."""
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
        return {**head, "description": self.description, "datasource": DATASOURCE, **self.body, "targets": targets}


# The other fields of a query. Graphs query a range, all other panels the present: old values are not shown as current.
EXTRA: Mapping[str, Json] = {
    TABLE: {"format": "table", "instant": True},
    STAT: {"instant": True},
    BARS: {"instant": True},
    GRAPH: {},
}


def scale(*steps: tuple[float, str]) -> tuple[tuple[float | None, str], ...]:
    """Colours from these values on; what is below them or missing is neutral."""
    return ((None, NEUTRAL), *steps)


PLAIN = Style()
TEXT = Style(unit="string")
COUNT_BAD = Style(steps=scale((0, GREEN), (1, RED)))
COUNT_WARN = Style(steps=scale((0, GREEN), (1, ORANGE)))
COUNT_INFO = Style(steps=scale((0, GREEN), (1, BLUE)))
RATIO = Style(unit="percentunit", steps=scale((0, RED), (0.5, ORANGE), (1, GREEN)), range=(0, 1))
WORKS = Style(words={"1": "works", "0": "does not work"}, steps=scale((0, RED), (1, GREEN)))
YES = Style(words={"1": "yes", "0": "no"}, steps=scale((0, RED), (1, GREEN)))
NO_MATTER = Style(words={"1": "yes", "0": "no"})


def pick(metric: str, *matchers: str) -> str:
    """A selector of a metric with these matchers."""
    return f"{metric}{{{', '.join(matchers)}}}"


def row(title: str) -> Panel:
    """A heading above the panels that follow."""
    return Panel(ROW, title, "", (), 24, 1, {})


def describe(description: str, empty: str) -> str:
    """A panel's description: what it shows, and what it means if there is no data."""
    return f"{description} No data: {empty}."


def stat(
    title: str,
    queries: str | Sequence[Query],
    *,
    description: str,
    empty: str,
    none: str,
    style: Style = PLAIN,
    by_name: Mapping[str, Style] | None = None,
    size: tuple[int, int] = (4, 4),
) -> Panel:
    """Current values as big numbers, one for each series; `by_name` overrides the style of single series.

    `none` is shown instead of a number if there is no data, and `empty` says what that means.
    """
    made = (Query(queries),) if isinstance(queries, str) else tuple(queries)
    named = [_override(name, [*_number(each), *_thresholded(each)]) for name, each in (by_name or {}).items()]
    body = {
        "fieldConfig": {"defaults": {**_defaults(style), "noValue": none}, "overrides": [*_families(made), *named]},
        "options": {
            "colorMode": "background" if style.coloured or by_name else "value",
            "graphMode": "none",
            "justifyMode": "auto",
            "orientation": "auto",
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
            "textMode": "auto" if len(made) > 1 or made[0].legend else "value",
        },
    }
    return Panel(STAT, title, describe(description, empty), made, *size, body)


def graph(
    title: str,
    queries: Sequence[Query],
    *,
    description: str,
    empty: str,
    style: Style = PLAIN,
    size: tuple[int, int] = (12, 8),
    stacked: bool = False,
    only_bad: bool = False,
) -> Panel:
    """Lines over time."""
    custom: Json = {
        "drawStyle": "line",
        "lineInterpolation": "stepAfter" if style.unit == "short" else "linear",
        "lineWidth": 1,
        "fillOpacity": 40 if stacked else 8,
        "showPoints": "never",
        "spanNulls": False,
    }
    if stacked:
        custom["stacking"] = {"mode": "normal", "group": "A"}
    defaults = _defaults(style) | {"color": {"mode": "palette-classic"}, "custom": custom, "noValue": _sentence(empty)}
    defaults.setdefault("min", 0)
    body = {
        "fieldConfig": {"defaults": defaults, "overrides": _families(queries, style.shades)},
        "options": {
            "legend": {"calcs": [], "displayMode": "list", "placement": "bottom"},
            "tooltip": {"mode": "multi", "sort": "desc"},
            "tooltipOptions": {"mode": "multi"},  # the name in 7.5, which newer versions do not migrate
        },
    }
    return Panel(GRAPH, title, describe(description, empty), tuple(queries), *size, body, only_bad)


def bars(
    title: str,
    query: Query,
    *,
    description: str,
    empty: str,
    none: str,
    style: Style = PLAIN,
    size: tuple[int, int] = (8, 8),
) -> Panel:
    """One horizontal bar for each series; `none` as for `stat`."""
    body = {
        "fieldConfig": {"defaults": {**_defaults(style), "noValue": none}, "overrides": []},
        "options": {
            "displayMode": "basic",
            "orientation": "horizontal",
            "showUnfilled": True,
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        },
    }
    return Panel(BARS, title, describe(description, empty), (query,), *size, body)


def table(
    title: str,
    queries: Sequence[str],
    columns: Sequence[Column],
    *,
    description: str,
    empty: str,
    sort: tuple[str, bool],
    size: tuple[int, int] = (24, 8),
    only_bad: bool = False,
) -> Panel:
    """Rows of current values. `sort` is a column's title and whether the order is descending.

    The first query must contain the rows of all other queries: if only one query returns data, newer Grafana names its
    value "Value" and 7.5 names it "Value #A".
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
            "defaults": {
                **_defaults(PLAIN),
                "custom": {"align": "left", "displayMode": "auto", "filterable": False},
                "noValue": _sentence(empty),  # newer versions show it instead of an empty table
            },
            "overrides": [_override(column.title, _properties(column)) for column in shown],
        },
        "options": {"showHeader": True, "sortBy": [{"displayName": sort[0], "desc": sort[1]}]},
        "transformations": [{"id": "merge", "options": {}}, {"id": "organize", "options": organize}],
    }
    made = tuple(Query(expr) for expr in queries)
    return Panel(TABLE, title, describe(description, empty), made, *size, body, only_bad)


def _field_names(column: Column, queries: int) -> tuple[str, ...]:
    """The names that Grafana may give the field."""
    if not column.source.startswith("#"):
        return (column.source,)
    letter = column.source[1:]
    if queries == 1:
        return ("Value",)
    return (f"Value #{letter}", "Value") if letter == "A" else (f"Value #{letter}",)


def _properties(column: Column) -> list[Json]:
    """The properties that an override of the column sets. An empty cell must not repeat the text of an empty table."""
    style = column.style
    properties = [{"id": "noValue", "value": NO_CELL}, *_number(style)]
    if style.coloured:
        properties += [*_thresholded(style), {"id": "custom.displayMode", "value": "color-background"}]
    if style.link is not None:
        title, url = style.link
        properties.append(
            {"id": "links", "value": [{"title": title, "url": url, "targetBlank": url.startswith("http")}]}
        )
    if column.width is not None:
        properties.append({"id": "custom.width", "value": column.width})
    return properties


def _number(style: Style) -> list[Json]:
    """Unit, decimals and words, where they are not the usual ones."""
    properties: list[Json] = []
    if style.unit != PLAIN.unit:
        properties.append({"id": "unit", "value": style.unit})
    if style.decimals is not None:
        properties.append({"id": "decimals", "value": style.decimals})
    if style.words:
        properties.append({"id": "mappings", "value": _mappings(style.words)})
    return properties


def _thresholded(style: Style) -> list[Json]:
    return [{"id": "thresholds", "value": _thresholds(style)}]


def _families(queries: Iterable[Query], shades: Iterable[str] = ()) -> list[Json]:
    """The colour of each family, if the names of the series have families."""
    if not any("{{ip_family}}" in query.legend for query in queries):
        return []
    made = []
    for family, (usual, *others) in FAMILY_SHADES.items():
        made.append(_coloured(f"/{family}/", usual))
        made += [_coloured(f"/(?=.*{family})(?=.*{part})/", shade) for part, shade in zip(shades, others, strict=False)]
    return made


def _coloured(pattern: str, colour: str) -> Json:
    fixed = {"id": "color", "value": {"mode": "fixed", "fixedColor": colour}}
    return {"matcher": {"id": "byRegexp", "options": pattern}, "properties": [fixed]}


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def _override(name: str, properties: list[Json]) -> Json:
    return {"matcher": {"id": "byName", "options": name}, "properties": properties}


def _defaults(style: Style) -> Json:
    found: Json = {
        "color": {"mode": "thresholds"},
        "mappings": _mappings(style.words),
        "thresholds": _thresholds(style),
        "unit": style.unit,
    }
    if style.range is not None:
        found["min"], found["max"] = style.range
    if style.decimals is not None:
        found["decimals"] = style.decimals
    return found


def _thresholds(style: Style) -> Json:
    return {"mode": "absolute", "steps": [{"color": colour, "value": value} for value, colour in style.steps]}


def _mappings(words: Mapping[str, str]) -> list[Json]:
    """Value mappings in the form of 7.5: type 1 maps one value to a text."""
    return [
        {"id": number, "type": 1, "value": value, "text": text} for number, (value, text) in enumerate(words.items())
    ]
