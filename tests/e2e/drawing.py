"""A panel as HTML: from its JSON and what its queries returned to a stat, a table, bars or lines. Used by pictures.py;
asks nothing itself.

It draws the few panel types that the dashboards use, in the places and with the units, words, thresholds and colours
that the JSON names.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from tests.e2e.grafana import Cell, colour, legend, override, table_rows, words
from tests.e2e.prometheus import Series

COLUMN, CELL, GAP = 51, 30, 8  # pixels: a column of the grid, a line of it, the space between panels
STEP = 1.0  # seconds between points of a line
AXIS, FOOT = 62.0, 62  # pixels: left of a graph for its numbers; below and above it for title and legend
# Grafana's names for colours; others are written as they are.
COLOURS = {
    "green": "#56a64b", "orange": "#ff9830", "red": "#e02f44",
    "super-light-blue": "#c0d8ff", "light-blue": "#8ab8ff", "blue": "#5794f2", "semi-dark-blue": "#3274d9",
    "dark-blue": "#1f60c4", "super-light-purple": "#deb6f2", "light-purple": "#ca95e5", "purple": "#b877d9",
    "semi-dark-purple": "#a352cc", "dark-purple": "#8f3bb8",
}  # fmt: skip
PALETTE = (
    "#73bf69", "#f2cc0c", "#8ab8ff", "#ff780a", "#f2495c", "#5794f2", "#b877d9", "#705da0", "#37872d", "#fade2a",
    "#447ebc", "#c15c17",
)  # fmt: skip
SECONDS = ((86_400, "days"), (3_600, "hours"), (120, "min"), (1, "s"))
SUFFIXES = {"short": "", "ops": " ops/s", "reqps": " req/s", "pps": " p/s"}


@dataclass(frozen=True)
class Answered:
    """A panel's JSON with what its queries returned between two times; `began` are the times at which annotated causes
    began to hold.
    """

    json: Any
    answers: Sequence[Sequence[Series]]
    start: float
    end: float
    began: Sequence[float] = ()


def number(value: float, unit: str, decimals: int | None = None) -> str:
    """A value as Grafana writes it with this unit, nearly."""
    if unit == "percentunit":
        return f"{100 * value:.{0 if decimals is None else decimals}f}%"
    if unit == "dateTimeFromNow":
        seconds = time.time() - value / 1000
        return "a minute ago" if seconds < 90 else f"{seconds / 60:.0f} minutes ago"
    if unit == "s":
        for least, name in SECONDS:
            if abs(value) >= least:
                share = 60 if name == "min" else least
                return f"{value / share:.{1 if decimals is None and name != 's' else 0}f} {name}"
        return f"{1000 * value:.3g} ms" if value else "0 s"
    text = f"{value:.3g}" if value != round(value) else f"{value:.0f}"
    return text + SUFFIXES.get(unit, f" {unit}")


def shown(value: Cell, settings: Any) -> str:
    """A cell's text: mapped, else with its unit."""
    mapped = words(value, settings.get("mappings", ()))
    if mapped is not None:
        return mapped
    if not isinstance(value, float):
        return value or str(settings.get("noValue", ""))
    return number(value, settings.get("unit", "short"), settings.get("decimals"))


def _tint(name: str) -> str:
    return COLOURS.get(name, name)


def _nothing(panel: Answered) -> str:
    """The text that stands for no data; in the place of a number it is a number's box."""
    defaults = panel.json["fieldConfig"]["defaults"]
    text = escape(defaults["noValue"])
    if panel.json["type"] != "stat":
        return f'<div class="none">{text}</div>'
    tint = _tint(colour(None, defaults["thresholds"]["steps"]))
    background = panel.json["options"]["colorMode"] == "background"
    return f'<div class="stats"><div style="{"background" if background else "color"}: {tint}">{text}</div></div>'


def draw(panel: Answered) -> str:
    """The inside of a panel."""
    return _DRAW[panel.json["type"]](panel)


def _stat(panel: Answered) -> str:
    defaults = panel.json["fieldConfig"]["defaults"]
    boxes = []
    for target, series in zip(panel.json["targets"], panel.answers, strict=True):
        for one in series:
            name = legend(target.get("legendFormat", ""), one.labels)
            settings = defaults | override(panel.json, name)
            value = one.points[-1][1]
            fixed = settings["color"].get("fixedColor")
            tint = _tint(fixed or colour(value, settings["thresholds"]["steps"]))
            background = panel.json["options"]["colorMode"] == "background"
            style = f"background: {tint}" if background else f"color: {tint}"
            title = f"<small>{escape(name)}</small>" if name else ""
            boxes.append(f'<div style="{style}">{title}{escape(shown(value, settings))}</div>')
    return f'<div class="stats">{"".join(boxes)}</div>' if boxes else _nothing(panel)


def _table(panel: Answered) -> str:
    rows = table_rows(panel.json, panel.answers)
    if not rows:
        return _nothing(panel)
    renamed = panel.json["transformations"][1]["options"]
    order = sorted(renamed["renameByName"], key=lambda name: renamed["indexByName"][name])
    titles = [
        title
        for title in dict.fromkeys(renamed["renameByName"][name] for name in order)
        if any(title in row for row in rows)
    ]
    head = "".join(f"<th>{escape(title)}</th>" for title in titles)
    body = "".join(
        "<tr>" + "".join(_cell(panel.json, title, row.get(title)) for title in titles) + "</tr>" for row in rows
    )
    return f"<table><tr>{head}</tr>{body}</table>"


def _cell(panel: Any, title: str, value: Cell) -> str:
    settings = panel["fieldConfig"]["defaults"] | override(panel, title)
    text = escape(shown(value, settings))
    if settings.get("links"):
        text = f"<a>{text}</a>"
    if settings.get("custom.displayMode") == "color-background":
        tint = _tint(colour(value, settings["thresholds"]["steps"]))
        return f'<td class="on" style="background: {tint}">{text}</td>'
    return f"<td>{text}</td>"


def _bars(panel: Answered) -> str:
    defaults = panel.json["fieldConfig"]["defaults"]
    series = [one for found in panel.answers for one in found]
    most = defaults.get("max") or max((one.points[-1][1] for one in series), default=1) or 1
    bars = []
    for one in series:
        value = one.points[-1][1]
        tint = _tint(colour(value, defaults["thresholds"]["steps"]))
        name = legend(panel.json["targets"][0]["legendFormat"], one.labels)
        bars.append(
            f'<div class="bar">{escape(name)}<span>{escape(shown(value, defaults))}</span>'
            f'<div><b style="width: {100 * value / most:.1f}%; background: {tint}"></b></div></div>'
        )
    return "".join(bars) or _nothing(panel)


@dataclass(frozen=True)
class _Scale:
    """From time and value to a place in a graph."""

    start: float
    end: float
    top: float
    width: float
    height: float

    def x(self, when: float) -> float:
        return AXIS + (when - self.start) / (self.end - self.start) * (self.width - AXIS - 10)

    def y(self, value: float) -> float:
        return 8 + (1 - value / self.top) * (self.height - 24)


def _graph(panel: Answered) -> str:
    place, defaults = panel.json["gridPos"], panel.json["fieldConfig"]["defaults"]
    lines = list(_lines(panel))
    values = [value for _, points in lines for _, value in points if math.isfinite(value)]
    if not values:
        return _nothing(panel)
    scale = _Scale(
        panel.start, panel.end, defaults.get("max") or _round_up(max(values)) or 1,
        width=place["w"] * COLUMN - GAP - 4, height=place["h"] * (CELL + GAP) - GAP - FOOT,
    )  # fmt: skip
    parts = list(_axes(scale, defaults["unit"]))
    parts += [
        f'<path d="M{scale.x(when):.1f} 8V{scale.y(0):.1f}" stroke="#ff6060" stroke-dasharray="4 3"/>'
        for when in panel.began
    ]
    names = []
    step_after = defaults["custom"]["lineInterpolation"] == "stepAfter"
    for index, (name, points) in enumerate(lines):
        fixed = override(panel.json, name).get("color", {}).get("fixedColor")
        tint = _tint(fixed) if fixed else PALETTE[index % len(PALETTE)]
        path = _path(points, scale, step_after=step_after)
        parts.append(f'<path d="{path}" fill="none" stroke="{tint}" stroke-width="1.3"/>')
        names.append(f'<span><i style="background: {tint}"></i>{escape(name)}</span>')
    size = f'width="{scale.width:.0f}" height="{scale.height:.0f}"'
    return f'<svg {size}>{"".join(parts)}</svg><div class="legend">{"".join(names)}</div>'


def _axes(scale: _Scale, unit: str) -> Iterator[str]:
    """Lines and numbers of both axes."""
    for share in (0, 0.25, 0.5, 0.75, 1):
        at = scale.y(share * scale.top)
        text = escape(number(share * scale.top, unit))
        yield f'<path d="M{AXIS} {at:.1f}H{scale.width - 10:.0f}" stroke="#25272d"/>'
        yield f'<text x="{AXIS - 6}" y="{at + 3:.1f}" text-anchor="end">{text}</text>'
    times = 6 if scale.width > 400 else 3
    for step in range(times):
        when = scale.start + (scale.end - scale.start) * (step + 0.5) / times
        text = time.strftime("%H:%M:%S", time.gmtime(when))
        yield f'<text x="{scale.x(when):.0f}" y="{scale.height - 1:.0f}" text-anchor="middle">{text}</text>'


def _lines(panel: Answered) -> Iterator[tuple[str, list[tuple[float, float]]]]:
    """Names and points; of stacked ones each on top of those before."""
    stacked = "stacking" in panel.json["fieldConfig"]["defaults"]["custom"]
    below: dict[float, float] = {}
    for target, series in zip(panel.json["targets"], panel.answers, strict=True):
        for one in series:
            points = list(one.points)
            if stacked:
                points = [(when, value + below.get(when, 0)) for when, value in points]
                below |= dict(points)
            yield legend(target.get("legendFormat", ""), one.labels), points


def _path(points: Sequence[tuple[float, float]], scale: _Scale, *, step_after: bool) -> str:
    drawn, last = [], -math.inf
    for when, value in points:
        if not math.isfinite(value):
            continue
        x, y = f"{scale.x(when):.1f}", f"{scale.y(value):.1f}"
        if when - last > STEP * 1.5:
            drawn.append(f"M{x} {y}")
        else:
            drawn.append(f"H{x}V{y}" if step_after else f"L{x} {y}")
        last = when
    return "".join(drawn)


def _round_up(value: float) -> float:
    """The next of 1, 2, 4, 5, 10 times a power of ten."""
    if value <= 0:
        return 0.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(
        step * power for step in (1, 2, 4, 5, 10, 20) if step * power >= value * 1.0001 or step * power == value
    )


_DRAW: dict[str, Callable[[Answered], str]] = {"stat": _stat, "table": _table, "bargauge": _bars, "timeseries": _graph}
