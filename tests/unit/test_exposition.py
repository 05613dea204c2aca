"""What a scrape answers, with prometheus-client as the oracle: its parsers read our text, its metric classes write the
same.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    UnknownMetricFamily,
)
from prometheus_client.core import Metric as Family
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from exporter.catalogue import EXPORTER, ROUND
from exporter.catalogue.metric import FinishedRound, Metric, Row, Type
from exporter.catalogue.totals import BOUNDS, Histogram
from exporter.model.report import Report
from exporter.web.server.exposition import Exposition, ExpositionFormat, negotiate, write
from tests.unit.sample import bad_day, blind, migration_day, own, quiet_day, round_of
from tests.work import calls_of

OPENMETRICS = "application/openmetrics-text;version=1.0.0"
Sample = tuple[str, tuple[tuple[str, str], ...], float]


def samples(families: Iterable[Family]) -> set[Sample]:
    return {(s.name, tuple(sorted(s.labels.items())), s.value) for family in families for s in family.samples}


def read_openmetrics(text: str) -> Iterable[Family]:
    families: Iterable[Family] = parse_openmetrics(text)  # type: ignore[no-untyped-call]
    return families


class Oracle:
    """The same rows through the client library's own classes."""

    def __init__(self, round_: FinishedRound, unknown: frozenset[str] = frozenset()) -> None:
        self._round = round_
        self._unknown = unknown

    def collect(self) -> Iterator[Family]:
        for metric in ROUND:
            yield from self._family(metric, metric.exposed(self._round))
        for own_metric in EXPORTER:
            yield from self._family(own_metric, own_metric.exposed(own()))

    def _family(self, metric: Metric[Any], rows: list[Row]) -> Iterator[Family]:
        if not rows:
            return
        kinds: dict[Type, Callable[..., Family]] = {
            Type.GAUGE: GaugeMetricFamily,
            Type.COUNTER: CounterMetricFamily,
            Type.HISTOGRAM: HistogramMetricFamily,
        }
        kind = UnknownMetricFamily if metric.name in self._unknown else kinds[metric.type]
        family = kind(metric.name, metric.help, labels=metric.labels)
        for names, value in rows:
            if isinstance(value, Histogram):
                buckets = list(zip([*map(str, BOUNDS), "+Inf"], value.cumulative, strict=True))
                family.add_metric(names, buckets=buckets, sum_value=value.sum)  # type: ignore[attr-defined]
            else:
                family.add_metric(names, value)  # type: ignore[attr-defined]
        yield family


def exposition(report: Report | None = None, *, fresh: bool = True) -> Exposition:
    exposed = Exposition(own=own, fresh=lambda _: fresh)
    if report is not None:
        exposed.publish(round_of(report))
    return exposed


def body(exposed: Exposition, accept: str = "") -> str:
    return exposed.render(accept, gzip=False).body.decode()


def ours(text: str) -> str:
    """Without the families of the client's own collectors, which change from one scrape to the next."""
    return "".join(line for line in text.splitlines(keepends=True) if "dualstack_" in line or line == "# EOF\n")


@pytest.mark.parametrize(
    "report", [bad_day(), quiet_day(), blind(), migration_day()], ids=["bad", "quiet", "blind", "migration"]
)
def test_the_text_says_what_the_client_library_would_say(report: Report) -> None:
    registry = CollectorRegistry()
    registry.register(Oracle(round_of(report)))
    text = ours(body(exposition(report)))
    assert samples(parse_text(text)) == samples(parse_text(generate_latest(registry).decode()))
    types = {line for line in text.splitlines() if line.startswith("#")}
    assert types == {line for line in generate_latest(registry).decode().splitlines() if line.startswith("#")}


@pytest.mark.parametrize(
    "report", [bad_day(), quiet_day(), blind(), migration_day()], ids=["bad", "quiet", "blind", "migration"]
)
def test_openmetrics_says_what_the_client_library_would_say(report: Report) -> None:
    registry = CollectorRegistry()
    registry.register(Oracle(round_of(report), unknown=frozenset({"dualstack_dns_lookups_total"})))
    text = ours(body(exposition(report), OPENMETRICS))
    oracle = generate_openmetrics(registry).decode()  # type: ignore[no-untyped-call]
    assert samples(read_openmetrics(text)) == samples(read_openmetrics(oracle))
    assert {line for line in text.splitlines() if line[0] == "#"} == {
        line for line in oracle.splitlines() if line[0] == "#"
    }


def test_both_formats_hold_the_processes_own_metrics_and_end_as_they_must() -> None:
    text, openmetrics = body(exposition(bad_day())), body(exposition(bad_day()), OPENMETRICS)
    for name in (
        "process_cpu_seconds_total",
        "process_resident_memory_bytes",
        "python_info",
        "python_gc_collections_total",
    ):
        assert f"\n{name}" in text
        assert f"\n{name}" in openmetrics
    assert "# EOF" not in text
    assert openmetrics.endswith("# EOF\n")
    assert openmetrics.count("# EOF") == 1


def test_no_created_series_and_no_timestamp_is_written() -> None:
    for accept in ("", OPENMETRICS):
        lines = [line for line in body(exposition(bad_day()), accept).splitlines() if line[0] != "#"]
        assert not [line for line in lines if "_created" in line]
        assert all(len(line.rpartition("}")[2].split() if "}" in line else line.split()[1:]) == 1 for line in lines)


@given(text=st.text(max_size=40))
def test_any_label_value_comes_back_as_it_was(text: str) -> None:
    metric: Metric[str] = Metric(
        name="dualstack_test",
        type=Type.GAUGE,
        help="A test.",
        labels=("name", "other"),
        rows=lambda value: [((value, "x"), 1.0)],
    )
    # A carriage return or another Unicode line end is legal in a label; only our own oracle splits lines there.
    for chosen, parse in ((ExpositionFormat.TEXT, parse_text), (ExpositionFormat.OPENMETRICS, read_openmetrics)):
        written = write([metric], text, chosen).decode() + ("# EOF\n" if chosen is ExpositionFormat.OPENMETRICS else "")
        (family,) = parse(written)
        assert [s.labels for s in family.samples] == [{"name": text, "other": "x"}]


@pytest.mark.parametrize("name", ["a\\b", 'a"b', "a\nb", "\\n", '\\"', "ü✓", "{}", "a,b=c"])
def test_what_must_be_escaped_comes_back_as_it_was(name: str) -> None:
    metric: Metric[str] = Metric(
        name="dualstack_test", type=Type.GAUGE, help="A test.", labels=("name",), rows=lambda value: [((value,), 1.0)]
    )
    (family,) = parse_text(write([metric], name, ExpositionFormat.TEXT).decode())
    assert family.samples[0].labels == {"name": name}


def test_a_lone_surrogate_from_outside_does_not_stop_a_scrape() -> None:
    metric: Metric[str] = Metric(
        name="dualstack_test", type=Type.GAUGE, help="A test.", labels=("name",), rows=lambda value: [((value,), 1.0)]
    )
    assert b'{name="a?b"}' in write([metric], "a\ud800b", ExpositionFormat.TEXT)


@given(value=st.floats())
def test_any_number_comes_back_as_it_was(value: float) -> None:
    metric: Metric[float] = Metric(
        name="dualstack_test", type=Type.GAUGE, help="A test.", labels=(), rows=lambda number: [((), number)]
    )
    for chosen, parse in ((ExpositionFormat.TEXT, parse_text), (ExpositionFormat.OPENMETRICS, read_openmetrics)):
        written = write([metric], value, chosen).decode() + (
            "# EOF\n" if chosen is ExpositionFormat.OPENMETRICS else ""
        )
        ((sample,),) = [family.samples for family in parse(written)]
        assert sample.value == value or (math.isnan(value) and math.isnan(sample.value))


@pytest.mark.parametrize(
    ("value", "written"), [(math.inf, "+Inf"), (-math.inf, "-Inf"), (math.nan, "NaN"), (3, "3.0"), (1e21, "1e+21")]
)
def test_numbers_are_spelt_as_prometheus_reads_them(value: float, written: str) -> None:
    metric: Metric[float] = Metric(
        name="dualstack_test", type=Type.GAUGE, help="A test.", labels=(), rows=lambda number: [((), number)]
    )
    assert write([metric], value, ExpositionFormat.TEXT).decode().splitlines()[-1] == f"dualstack_test {written}"


@pytest.mark.parametrize("names", [(), ("a", "b")])
def test_a_row_with_a_label_too_few_or_too_many_is_a_bug_that_is_not_written(names: tuple[str, ...]) -> None:
    metric: Metric[float] = Metric(
        name="dualstack_test", type=Type.GAUGE, help="A test.", labels=("one",), rows=lambda value: [(names, value)]
    )
    with pytest.raises(ValueError, match="labels"):
        write([metric], 1.0, ExpositionFormat.TEXT)


# Content negotiation.

PROMETHEUS_2 = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)
PROMETHEUS_3 = (
    "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.7,"
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/openmetrics-text;version=0.0.1;q=0.5,"
    "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)
BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        ("", ExpositionFormat.TEXT),
        ("*/*", ExpositionFormat.TEXT),
        (BROWSER, ExpositionFormat.TEXT),
        ("text/plain", ExpositionFormat.TEXT),
        ("application/json", ExpositionFormat.TEXT),
        (PROMETHEUS_2, ExpositionFormat.OPENMETRICS),
        (PROMETHEUS_3, ExpositionFormat.OPENMETRICS),
        ("application/openmetrics-text", ExpositionFormat.OPENMETRICS),
        ("Application/OpenMetrics-Text; Version=1.0.0", ExpositionFormat.OPENMETRICS),
        ("application/openmetrics-text;q=0", ExpositionFormat.TEXT),
        ("application/openmetrics-text;q=0.4, text/plain;q=0.5", ExpositionFormat.TEXT),
        ("application/openmetrics-text;q=nonsense", ExpositionFormat.TEXT),
        ("application/openmetrics-text;q=7", ExpositionFormat.TEXT),
        (";;;,,q=", ExpositionFormat.TEXT),
    ],
)
def test_openmetrics_is_answered_where_it_is_preferred(accept: str, chosen: ExpositionFormat) -> None:
    assert negotiate(accept) is chosen
    assert exposition().render(accept, gzip=False).content_type == chosen.value


@given(st.text())
def test_no_accept_header_stops_a_scrape(accept: str) -> None:
    assert negotiate(accept) in ExpositionFormat


# What is kept, and what vanishes.


def test_gzip_is_one_stream_with_the_same_body() -> None:
    exposed = exposition(bad_day())
    for _ in range(2):  # the second one reuses the compressed round
        zipped = exposed.render(OPENMETRICS, gzip=True)
        assert (zipped.content_encoding, zipped.content_type) == ("gzip", ExpositionFormat.OPENMETRICS.value)
        unzip = zlib.decompressobj(16 + zlib.MAX_WBITS)
        text = unzip.decompress(zipped.body).decode()
        assert unzip.eof
        assert unzip.unused_data == b""
        assert ours(text) == ours(body(exposed, OPENMETRICS))
        assert len(zipped.body) < len(text) / 4


@pytest.mark.parametrize("accept", ["", OPENMETRICS])
def test_a_round_is_written_once_for_all_scrapes_of_a_format(accept: str) -> None:
    exposed = exposition(bad_day())
    first, second = (calls_of(lambda: exposed.render(accept, gzip=True)) for _ in range(2))
    small = calls_of(lambda: exposition().render(accept, gzip=True))
    assert second < 1.1 * small < first / 4


def test_a_new_round_replaces_the_one_before() -> None:
    exposed = exposition(bad_day())
    assert 'dualstack_family_ok{ip_family="IPv6"} 0.0' in body(exposed)
    exposed.publish(round_of(quiet_day()))
    assert 'dualstack_family_ok{ip_family="IPv6"} 1.0' in body(exposed)
    assert "shop" not in body(exposed)


def test_before_the_first_round_only_the_exporters_own_series_are_there() -> None:
    assert samples(parse_text(ours(body(exposition())))) == {
        s for s in samples(parse_text(ours(body(exposition(bad_day()))))) if "_exporter_" in s[0]
    }
    assert body(exposition(), OPENMETRICS).endswith("# EOF\n")


def test_a_stale_report_vanishes_and_the_exporters_own_series_stay() -> None:
    for gzip in (False, True):
        fresh, stale = (exposition(bad_day(), fresh=f).render("", gzip=gzip).body for f in (True, False))
        text = zlib.decompress(stale, 16 + zlib.MAX_WBITS).decode() if gzip else stale.decode()
        assert len(stale) < len(fresh)
        assert "dualstack_family_ok" not in text
        assert "dualstack_probes_total" not in text
        assert "dualstack_exporter_last_round_timestamp_seconds" in text


def test_the_exporters_own_series_are_those_of_the_moment() -> None:
    now = own()
    exposed = Exposition(own=lambda: now)
    exposed.publish(round_of(bad_day()))
    assert "\ndualstack_exporter_rounds_skipped_total 1.0\n" in body(exposed)
    now = replace(now, rounds_skipped=2)
    assert "\ndualstack_exporter_rounds_skipped_total 2.0\n" in body(exposed)


def test_a_node_in_the_default_configuration_stays_in_its_budget_of_series() -> None:
    lines = [line for line in body(exposition(quiet_day(pods=110))).splitlines() if line[0] != "#"]
    assert 300 < len(lines) <= 500
