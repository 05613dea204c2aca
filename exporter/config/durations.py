"""Durations as Prometheus writes them (1h30m, 500ms), to and from seconds. For configuration and reports; no I/O."""

from __future__ import annotations

import re

_UNITS = {"y": 31_536_000_000, "w": 604_800_000, "d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1_000, "ms": 1}
# Each unit at most once, largest first, as in Prometheus' own grammar. Nine digits of the largest unit still fit a
# float exactly.
_DURATION = re.compile("".join(rf"(?:([0-9]{{1,9}}){unit})?" for unit in _UNITS))


def parse_duration(text: str) -> float:
    """Seconds of a duration such as `1h30m`, `500ms` or `0`. Anything else is a ValueError."""
    if text == "0":
        return 0.0
    match = _DURATION.fullmatch(text)
    if match is None or not text:
        raise ValueError(f"{text!r} is not a duration")
    # Whole milliseconds are summed, so that 1s1ms is 1.001 and not 1.0009999.
    return sum(int(count or 0) * size for count, size in zip(match.groups(), _UNITS.values(), strict=True)) / 1000


def format_duration(seconds: float) -> str:
    """The shortest exact form in days down to milliseconds: 90.5 is `1m30s500ms`, 0 is `0s`."""
    left = round(seconds * 1000)
    parts = []
    for unit, size in [*_UNITS.items()][2:]:
        count, left = divmod(left, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"
