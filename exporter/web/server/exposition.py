"""The catalogue as Prometheus text and OpenMetrics, between catalogue and server: prometheus-client writes both.

The round's part is written once per round and format, at the first scrape that asks for it, and kept plain and gzipped;
the exporter's own part is small and written at each scrape. A report that is no longer fresh is left out. No timestamps
and no _created samples are written.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Generic

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, UnknownMetricFamily
from prometheus_client.core import Metric as Family
from prometheus_client.openmetrics.exposition import ALLOWUTF8
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from exporter.catalogue import CATALOGUE, EXPORTER, ROUND
from exporter.catalogue.exporter import ExporterState
from exporter.catalogue.metric import FinishedRound, Metric, Row, Source, Type
from exporter.catalogue.totals import BOUNDS, Histogram
from exporter.model.report import Report

GZIP = 16 + zlib.MAX_WBITS
_NAMES = frozenset(metric.name for metric in CATALOGUE)
_END = b"# EOF\n"  # of OpenMetrics
_KINDS: Mapping[Type, Any] = {
    Type.GAUGE: GaugeMetricFamily,
    Type.COUNTER: CounterMetricFamily,
    Type.HISTOGRAM: HistogramMetricFamily,
}
_BOUNDS = (*map(floatToGoString, BOUNDS), "+Inf")


class ExpositionFormat(Enum):
    """The formats that are written; the value is the content type."""

    TEXT = "text/plain; version=0.0.4; charset=utf-8"
    OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Rendered:
    body: bytes
    content_type: str
    content_encoding: str = ""  # or "gzip"


@dataclass(slots=True)
class _Written:
    """The round's part in one format; the gzip stream stays open, so that the exporter's own part can follow in it."""

    plain: bytes
    zipped: bytes = b""
    stream: zlib._Compress | None = None

    def zip(self, tail: bytes) -> bytes:
        """One gzip stream of the round's part and the tail; only the tail is compressed each time."""
        if self.stream is None:
            self.stream = zlib.compressobj(1, zlib.DEFLATED, GZIP)
            self.zipped = self.stream.compress(self.plain) + self.stream.flush(zlib.Z_SYNC_FLUSH)
        stream = self.stream.copy()
        return self.zipped + stream.compress(tail) + stream.flush()


class Exposition:
    """What /metrics answers. Not thread-safe: only the server's event loop publishes and renders."""

    def __init__(self, *, own: Callable[[], ExporterState], fresh: Callable[[Report], bool] = lambda _: True) -> None:
        """`own`: the exporter's state at the moment of a scrape; `fresh`: whether a report may still be exposed."""
        self._own = own
        self._fresh = fresh
        self._round: FinishedRound | None = None
        self._written: dict[ExpositionFormat, _Written] = {}
        self._registry = CollectorRegistry(auto_describe=False)
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self._registry)

    def publish(self, round_: FinishedRound) -> None:
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
        end = _END if chosen is ExpositionFormat.OPENMETRICS else b""
        return write(EXPORTER, self._own(), chosen) + _generate(self._registry, chosen) + end


def negotiate(accept: str) -> ExpositionFormat:
    """The format for an Accept header (RFC 9110 12.5.1): OpenMetrics only where it is preferred to text."""
    given = weights(accept)
    openmetrics = given.get("application/openmetrics-text", 0.0)
    text = max(given.get(media, 0.0) for media in ("text/plain", "text/*", "*/*"))
    return ExpositionFormat.OPENMETRICS if openmetrics > text else ExpositionFormat.TEXT


def weights(header: str) -> dict[str, float]:
    """The items of an Accept or Accept-Encoding header with their weights; of one listed twice the greater."""
    found: dict[str, float] = {}
    for item in header.lower().split(","):
        name, *parameters = "".join(item.split()).split(";")
        q = next((parameter[2:] for parameter in parameters if parameter.startswith("q=")), "1")
        found[name] = max(found.get(name, 0.0), _weight(q))
    return found


def _weight(text: str) -> float:
    """A number between 0 and 1; 0 for anything else."""
    try:
        weight = float(text)
    except ValueError:
        return 0.0
    return weight if 0.0 <= weight <= 1.0 else 0.0


def write(metrics: Iterable[Metric[Source]], source: Source, chosen: ExpositionFormat) -> bytes:
    """Every metric that has rows; OpenMetrics without its end. ValueError for a row with another number of labels."""
    return _generate(_Families(metrics, source, chosen), chosen)


def _generate(collector: Collector, chosen: ExpositionFormat) -> bytes:
    if chosen is ExpositionFormat.TEXT:
        return generate_latest(collector)
    # Our names need no escaping, which the library sees fastest where UTF-8 is allowed in them.
    body: bytes = generate_openmetrics(collector, ALLOWUTF8)  # type: ignore[no-untyped-call]  # it has no annotations
    return body.removesuffix(_END)


@dataclass(frozen=True, slots=True)
class _Families(Collector, Generic[Source]):
    """The metrics of a finished value as the library's families."""

    metrics: Iterable[Metric[Source]]
    source: Source
    chosen: ExpositionFormat

    def collect(self) -> Iterator[Family]:
        for metric in self.metrics:
            if rows := metric.exposed(self.source):
                yield _family(metric, rows, self.chosen)


def _family(metric: Metric[Source], rows: Iterable[Row], chosen: ExpositionFormat) -> Family:
    """The family with its samples.

    In OpenMetrics that of a counter is named without _total. dns_lookups is a gauge and dns_lookups_total a counter:
    two families of one name are not allowed, so such a counter is of type unknown, which keeps its sample's name.
    """
    kind = _KINDS[metric.type]
    if metric.type is Type.COUNTER and chosen is ExpositionFormat.OPENMETRICS:
        kind = UnknownMetricFamily if metric.name.removesuffix("_total") in _NAMES else kind
    family = kind(metric.name, metric.help, labels=metric.labels)
    for names, value in rows:
        if len(names) != len(metric.labels):
            raise ValueError(f"{metric.name} has other labels than {names}")
        labels = [_encodable(name) for name in names]
        if isinstance(value, Histogram):
            buckets = list(zip(_BOUNDS, value.cumulative, strict=True))
            family.add_metric(labels, buckets=buckets, sum_value=value.sum)
        else:
            family.add_metric(labels, value)
    made: Family = family
    return made


def _encodable(text: str) -> str:
    """A label value whose lone surrogates, which UTF-8 cannot encode, are ?."""
    return text if text.isascii() else text.encode(errors="replace").decode()
