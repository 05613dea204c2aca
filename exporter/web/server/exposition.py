"""The catalogue as Prometheus text and OpenMetrics. Between catalogue and server: formats finished values and waits for nothing.

The round's part is written once per round and format, at the first scrape that asks for it, and kept as bytes, plain
and gzipped; the exporter's own part is small and written at each scrape. A report that is no longer fresh is left out:
its series vanish.

Formats: https://prometheus.io/docs/instrumenting/exposition_formats/ (text 0.0.4) and OpenMetrics 1.0.0. No timestamps
and no _created samples are written.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client import generate_latest as process_text
from prometheus_client.openmetrics.exposition import generate_latest as process_openmetrics

from exporter.catalogue import CATALOGUE, EXPORTER, ROUND
from exporter.catalogue.exporter import ExporterState
from exporter.catalogue.metric import FinishedRound, Metric, Row, Source, Type
from exporter.catalogue.totals import BOUNDS, Histogram
from exporter.model.report import Report

GZIP = 16 + zlib.MAX_WBITS
_NAMES = frozenset(metric.name for metric in CATALOGUE)


class ExpositionFormat(Enum):
    """The formats that are written; the value is the content type."""

    TEXT = "text/plain; version=0.0.4; charset=utf-8"
    OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Rendered:
    """A scrape's answer. `content_encoding` is "gzip" or empty."""

    body: bytes
    content_type: str
    content_encoding: str = ""


@dataclass(slots=True)
class _Written:
    """The round's part in one format; gzipped as a stream that is still open, so that the own part can follow in it."""

    plain: bytes
    zipped: bytes = b""
    stream: zlib._Compress | None = None

    def zip(self, tail: bytes) -> bytes:
        """One gzip stream of the round's part and the tail; only the tail is compressed anew."""
        if self.stream is None:
            self.stream = zlib.compressobj(1, zlib.DEFLATED, GZIP)
            self.zipped = self.stream.compress(self.plain) + self.stream.flush(zlib.Z_SYNC_FLUSH)
        stream = self.stream.copy()
        return self.zipped + stream.compress(tail) + stream.flush()


class Exposition:
    """What /metrics answers. Not for several threads: the server's loop alone publishes and renders."""

    def __init__(self, *, own: Callable[[], ExporterState], fresh: Callable[[Report], bool] = lambda _: True) -> None:
        """`own` tells of the exporter at the moment of a scrape; `fresh` whether a report may still be exposed."""
        self._own = own
        self._fresh = fresh
        self._round: FinishedRound | None = None
        self._written: dict[ExpositionFormat, _Written] = {}
        self._registry = CollectorRegistry(auto_describe=False)
        for collector in (ProcessCollector, PlatformCollector):
            collector(registry=self._registry)
        GCCollector(registry=self._registry)

    def publish(self, round_: FinishedRound) -> None:
        """Expose this finished round from now on."""
        self._round = round_
        self._written = {}

    def render(self, accept: str, *, gzip: bool) -> Rendered:
        """The body for a scrape with this Accept header; gzipped if the server found that the client takes it."""
        chosen = negotiate(accept)
        head = self._head(chosen)
        tail = self._tail(chosen)
        if gzip:
            return Rendered(head.zip(tail), chosen.value, "gzip")
        return Rendered(head.plain + tail, chosen.value)

    def _head(self, chosen: ExpositionFormat) -> _Written:
        if self._round is None or not self._fresh(self._round.report):
            return _Written(b"")
        written = self._written.get(chosen)
        if written is None:
            written = self._written[chosen] = _Written(write(ROUND, self._round, chosen))
        return written

    def _tail(self, chosen: ExpositionFormat) -> bytes:
        own = write(EXPORTER, self._own(), chosen)
        if chosen is ExpositionFormat.TEXT:
            return own + process_text(self._registry)
        process: bytes = process_openmetrics(self._registry)  # type: ignore[no-untyped-call]  # it has no annotations
        return own + process  # ends in # EOF


def negotiate(accept: str) -> ExpositionFormat:
    """The format that an Accept header asks for (RFC 9110 12.5.1): OpenMetrics only where it is preferred to text."""
    weights = {ExpositionFormat.TEXT: 0.0, ExpositionFormat.OPENMETRICS: 0.0}
    for item in accept.split(","):
        media, *parameters = (part.strip().lower() for part in item.split(";"))
        if media == "application/openmetrics-text":
            weights[ExpositionFormat.OPENMETRICS] = max(weights[ExpositionFormat.OPENMETRICS], _weight(parameters))
        elif media in {"text/plain", "text/*", "*/*"}:
            weights[ExpositionFormat.TEXT] = max(weights[ExpositionFormat.TEXT], _weight(parameters))
    return (
        ExpositionFormat.OPENMETRICS
        if weights[ExpositionFormat.OPENMETRICS] > weights[ExpositionFormat.TEXT]
        else ExpositionFormat.TEXT
    )


def _weight(parameters: Iterable[str]) -> float:
    """The q parameter, 1 without one; what is not a number between 0 and 1 counts as not acceptable."""
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                weight = float(value)
            except ValueError:
                return 0.0
            return weight if 0.0 <= weight <= 1.0 else 0.0
    return 1.0


def write(metrics: Iterable[Metric[Source]], source: Source, chosen: ExpositionFormat) -> bytes:
    """Every metric that has rows, each with its HELP and TYPE. A row with another number of labels than declared is a TypeError."""
    return "".join(_write_metric(metric, metric.exposed(source), chosen) for metric in metrics).encode()


def _write_metric(metric: Metric[Source], rows: list[Row], chosen: ExpositionFormat) -> str:
    if not rows:
        return ""
    if chosen is ExpositionFormat.OPENMETRICS:
        family, kind = _openmetrics_family(metric)
        head = f"# HELP {family} {_escape(metric.help)}\n# TYPE {family} {kind}\n"
    else:
        head = f"# HELP {metric.name} {_escape_help(metric.help)}\n# TYPE {metric.name} {metric.type.value}\n"
    if metric.type is Type.HISTOGRAM:
        return head + "".join(_write_histograms(metric, rows))
    labels = ",".join(f'{label}="%s"' for label in metric.labels)
    line = (metric.name + ("{" + labels + "}" if labels else "") + " %s\n").__mod__
    escaped = _Escaped().__getitem__
    return head + "".join([line((*map(escaped, names), _number(value))) for names, value in rows])  # type: ignore[arg-type]  # no histogram


def _openmetrics_family(metric: Metric[Source]) -> tuple[str, str]:
    """Name and type of the family in OpenMetrics, where a counter's family is named without _total.

    dns_lookups is a gauge and dns_lookups_total a counter: two families of one name are not allowed, so such a counter
    is written as unknown, which keeps its sample's name and value.
    """
    family = metric.name.removesuffix("_total")
    if metric.type is not Type.COUNTER:
        return metric.name, metric.type.value
    return (metric.name, "unknown") if family in _NAMES else (family, "counter")


def _write_histograms(metric: Metric[Source], rows: list[Row]) -> Iterable[str]:
    inner = ",".join(f'{label}="%s"' for label in metric.labels)
    bounds = (*map(_number, BOUNDS), "+Inf")
    for names, value in rows:
        assert isinstance(value, Histogram)
        labels = inner % tuple(map(_escape, names))
        for bound, count in zip(bounds, value.cumulative, strict=True):
            yield f'{metric.name}_bucket{{{labels},le="{bound}"}} {_number(count)}\n'
        yield f"{metric.name}_count{{{labels}}} {_number(value.count)}\n"
        yield f"{metric.name}_sum{{{labels}}} {_number(value.sum)}\n"


class _Escaped(dict[str, str]):
    """Label values already escaped: most rows of a metric share most of theirs."""

    def __missing__(self, text: str) -> str:
        escaped = self[text] = _escape(text)
        return escaped


def _escape(text: str) -> str:
    """A label value or OpenMetrics help: backslash, quote and newline escaped. A lone surrogate, which UTF-8 cannot hold, becomes ?."""
    text = text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
    return text if text.isascii() else text.encode(errors="replace").decode()


def _escape_help(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n")


def _number(value: float) -> str:
    """A float as the formats spell it: shortest form that reads back equal; +Inf, -Inf and NaN."""
    if value - value == 0:  # finite: neither NaN nor an infinity
        return repr(float(value))
    if value > 0:
        return "+Inf"
    return "-Inf" if value < 0 else "NaN"
