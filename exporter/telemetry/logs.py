"""Log lines on stderr, as logfmt or JSON, one per record. Set up once by the command line, used through `logging`.

    log.info("round finished", extra=fields(probes=240, seconds=1.9))
    time=2026-11-20T10:00:00.123Z level=info source=daemon/rounds.py:88 msg="round finished" probes=240 seconds=1.9

Names of pods, answers of servers and texts of errors are foreign input: quoted, cut, and every control character
escaped, so that none of them can start a new line or control a terminal. This file does not decide what is logged.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from enum import StrEnum
from typing import IO, Any

from exporter.telemetry.log_writer import LogWriter


class LogFormat(StrEnum):
    LOGFMT = "logfmt"
    JSON = "json"


class LogLevel(StrEnum):
    DEBUG = "debug"
    INFO = "info"
    WARN = "warn"
    ERROR = "error"


_LONGEST = 8192  # characters of one value: a line must stay readable by collectors (16 KiB in CRI logs)
_RESERVED = frozenset({"time", "level", "source", "msg", "error", "traceback"})
_BARE = re.compile(r"[A-Za-z0-9_.:/@%+*,()\[\]<>-]+")  # needs no quotes in logfmt: no space, quote or equals sign
_KEY = re.compile(r"[^A-Za-z0-9_.-]")


def fields(**values: object) -> dict[str, dict[str, object]]:
    """Keys and values of a record, for the `extra` of a logging call."""
    return {"fields": values}


def configure(
    level: LogLevel = LogLevel.INFO, form: LogFormat = LogFormat.LOGFMT, stream: IO[str] | None = None
) -> LogWriter:
    """Send records of at least this level to stderr (or the stream), replacing earlier calls. Returns what writes them.

    Loggers of libraries start at warning, except at debug. Warnings of the interpreter become records.
    """
    writer = LogWriter(stream or sys.stderr)
    handler = logging.StreamHandler(writer)
    handler.setFormatter(LineFormatter(form))
    number = logging.getLevelNamesMapping()[level.upper()]
    logging.basicConfig(
        handlers=[handler], force=True, level=number if level is LogLevel.DEBUG else max(number, logging.WARNING)
    )
    logging.getLogger("exporter").setLevel(number)
    logging.captureWarnings(capture=True)
    return writer


class LineFormatter(logging.Formatter):
    """One JSON object with numbers and booleans, or `key=value` pairs with values quoted where needed."""

    def __init__(self, form: LogFormat) -> None:
        super().__init__()
        self._json = form is LogFormat.JSON

    def format(self, record: logging.LogRecord) -> str:
        if self._json:
            return json.dumps({key: _json(value) for key, value in _pairs(record)}, separators=(",", ":"))
        return " ".join(f"{key}={_logfmt(value)}" for key, value in _pairs(record))


def _pairs(record: logging.LogRecord) -> Iterator[tuple[str, object]]:
    moment = datetime.fromtimestamp(record.created, UTC)
    yield "time", moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    yield "level", record.levelname.lower().replace("warning", "warn")
    yield "source", f"{record.filename}:{record.lineno}"
    yield "msg", record.getMessage()
    extra: Any = getattr(record, "fields", None)
    for key, value in extra.items() if isinstance(extra, dict) else ():
        name = _KEY.sub("_", str(key)) or "_"
        yield f"{name}_" if name in _RESERVED else name, value
    if record.exc_info and record.exc_info[1] is not None:
        yield "error", f"{type(record.exc_info[1]).__name__}: {record.exc_info[1]}"
        yield "traceback", logging.Formatter().formatException(record.exc_info)


def _logfmt(value: object) -> str:
    if isinstance(value, bool) or value is None:
        return json.dumps(value)
    if isinstance(value, float):
        return f"{value:.6g}"
    text = _cut(str(value))
    return text if _BARE.fullmatch(text) else _quote(text)


def _json(value: object) -> object:
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        # NaN and the infinities are not JSON (RFC 8259 section 6).
        return float(f"{value:.6g}") if abs(value) < float("inf") else str(value)
    return _cut(str(value))


def _quote(text: str) -> str:
    """A JSON string with printable characters as they are; controls, bidi marks and half surrogates are escaped."""
    return "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in json.dumps(text, ensure_ascii=False))


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}... ({len(text)} characters)"


class InternalErrors(Counter[str]):
    """The exporter's own bugs by component (dualstack_exporter_errors_total); expected failures are not counted."""

    def count(self, component: str) -> None:
        self[component] += 1
