"""Durations as Prometheus writes them (1h30m, 500ms), to and from seconds. For configuration and reports; no I/O."""

from __future__ import annotations

import re

_UNITS = (
    ("y", 365 * 86400.0),
    ("w", 7 * 86400.0),
    ("d", 86400.0),
    ("h", 3600.0),
    ("m", 60.0),
    ("s", 1.0),
    ("ms", 0.001),
)
# Each unit at most once, largest first, as in Prometheus' own grammar. Nine digits of the largest unit still fit a
# float exactly.
_DURATION = re.compile("".join(rf"(?:([0-9]{{1,9}}){unit})?" for unit, _ in _UNITS))


def parse_duration(text: str) -> float:
    """Seconds of a duration such as `1h30m`, `500ms` or `0`. Anything else is a ValueError."""
    if text == "0":
        return 0.0
    match = _DURATION.fullmatch(text)
    if match is None or not text:
        raise ValueError(f"{text!r} is not a duration")
    # Whole milliseconds are summed, so that 1s1ms is 1.001 and not 1.0009999.
    total = sum(
        int(digits) * round(size * 1000) for digits, (_, size) in zip(match.groups(), _UNITS, strict=True) if digits
    )
    return total / 1000


def format_duration(seconds: float) -> str:
    """The shortest exact form in days down to milliseconds: 90.5 is `1m30s500ms`, 0 is `0s`."""
    left = round(seconds * 1000)
    parts = []
    for unit, size in _UNITS[2:]:
        count, left = divmod(left, round(size * 1000))
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"
