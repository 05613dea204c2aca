"""Log lines: one per record, readable by machines, safe with foreign text."""

from __future__ import annotations

import io
import json
import logging
import os
import re
import warnings
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.telemetry.log_writer import MOST_WAITING, LogWriter
from exporter.telemetry.logs import LineFormatter, LogFormat, LogLevel, configure, fields

log = logging.getLogger("exporter.test")


@pytest.fixture(autouse=True)
def restored_logging() -> Iterator[None]:
    root, ours = logging.getLogger(), logging.getLogger("exporter")
    before = (root.handlers[:], root.level, ours.level)
    yield
    logging.captureWarnings(capture=False)
    root.handlers[:], root_level, our_level = before
    root.setLevel(root_level)
    ours.setLevel(our_level)


def lines(level: LogLevel, form: LogFormat, write: object) -> list[str]:
    stream = io.StringIO()
    configure(level, form, stream)
    assert callable(write)
    write()
    return stream.getvalue().splitlines()


def test_logfmt_line_has_utc_time_level_source_message_and_fields() -> None:
    def write() -> None:
        log.info(
            "round finished", extra=fields(probes=240, seconds=1.5, node="ra", what="two words", cut=False, none=None)
        )

    (line,) = lines(LogLevel.INFO, LogFormat.LOGFMT, write)
    assert re.fullmatch(
        r"time=\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z level=info source=test_logs\.py:\d+ msg=\"round finished\""
        r" probes=240 seconds=1\.5 node=ra what=\"two words\" cut=false none=null",
        line,
    )


def test_json_line_keeps_numbers_and_booleans() -> None:
    def write() -> None:
        log.warning("slow", extra=fields(seconds=1.5, probes=3, ok=True, ratio=float("nan"), pod="a/b"))

    (line,) = lines(LogLevel.INFO, LogFormat.JSON, write)
    record = json.loads(line)
    assert record.pop("time").endswith("Z")
    assert record.pop("source").startswith("test_logs.py:")
    assert record == {
        "level": "warn",
        "msg": "slow",
        "seconds": 1.5,
        "probes": 3,
        "ok": True,
        "ratio": "nan",
        "pod": "a/b",
    }


@pytest.mark.parametrize(
    ("level", "shown"),
    [
        (LogLevel.DEBUG, ["debug", "info", "warn", "error"]),
        (LogLevel.INFO, ["info", "warn", "error"]),
        (LogLevel.WARN, ["warn", "error"]),
        (LogLevel.ERROR, ["error"]),
    ],
)
def test_records_below_the_level_are_not_shown(level: LogLevel, shown: list[str]) -> None:
    def write() -> None:
        for speak in (log.debug, log.info, log.warning, log.error):
            speak("x")

    assert [json.loads(line)["level"] for line in lines(level, LogFormat.JSON, write)] == shown


def test_libraries_speak_from_warning_upwards() -> None:
    def write() -> None:
        logging.getLogger("aiohttp.server").info("quiet")
        logging.getLogger("aiohttp.server").warning("loud")

    assert [json.loads(line)["msg"] for line in lines(LogLevel.INFO, LogFormat.JSON, write)] == ["loud"]
    assert [json.loads(line)["msg"] for line in lines(LogLevel.DEBUG, LogFormat.JSON, write)] == ["quiet", "loud"]
    assert lines(LogLevel.ERROR, LogFormat.JSON, write) == []


@pytest.mark.parametrize("form", list(LogFormat))
def test_foreign_text_cannot_begin_a_line_or_paint_a_terminal(form: LogFormat) -> None:
    evil = 'x\nlevel=error msg="fake"\r\x1b[31m\x00\u2028\u202e\ud800"'

    def write() -> None:
        log.info("%s", evil, extra={"fields": {"pod": evil, "a b\n=": 1, "msg": "shadow"}})

    (line,) = lines(LogLevel.INFO, form, write)
    assert line.isprintable()
    line.encode()
    if form is LogFormat.JSON:
        record = json.loads(line)
        assert (record["msg"], record["pod"], record["a_b__"], record["msg_"]) == (evil, evil, 1, "shadow")
    else:
        assert line.count(" level=") == 1
        assert r"x\nlevel=error msg=\"fake\"\r\u001b[31m\u0000\u2028\u202e\ud800\"" in line


def test_exceptions_are_one_line_with_their_traceback() -> None:
    def fail() -> None:
        raise ValueError("two\nlines")

    def write() -> None:
        try:
            fail()
        except ValueError:
            log.exception("failed")

    (line,) = lines(LogLevel.INFO, LogFormat.JSON, write)
    record = json.loads(line)
    assert record["error"] == "ValueError: two\nlines"
    assert record["traceback"].startswith("Traceback (most recent call last):\n")
    (line,) = lines(LogLevel.INFO, LogFormat.LOGFMT, write)
    assert 'msg=failed error="ValueError: two\\nlines" traceback="Traceback (most recent call last):\\n' in line


def test_long_values_are_cut() -> None:
    (line,) = lines(LogLevel.INFO, LogFormat.LOGFMT, lambda: log.info("x", extra=fields(reply="y" * 100_000)))
    assert len(line) < 9000
    assert line.endswith('... (100000 characters)"')


def test_configuring_again_replaces_what_was() -> None:
    first = io.StringIO()
    configure(LogLevel.INFO, LogFormat.LOGFMT, first)
    (line,) = lines(LogLevel.INFO, LogFormat.JSON, lambda: log.info("once"))
    assert json.loads(line)["msg"] == "once"
    assert first.getvalue() == ""


def test_warnings_of_the_interpreter_are_records() -> None:
    stream = io.StringIO()
    configure(LogLevel.INFO, LogFormat.JSON, stream)
    logging.captureWarnings(capture=False)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(capture=True)
        warnings.warn("old habit", DeprecationWarning, stacklevel=1)
        logging.captureWarnings(capture=False)
    assert json.loads(stream.getvalue())["level"] == "warn"
    assert "old habit" in json.loads(stream.getvalue())["msg"]


@given(st.text(), st.text(max_size=10))
def test_every_text_is_one_printable_line(text: str, key: str) -> None:
    record = logging.LogRecord("exporter", logging.INFO, "x.py", 1, "%s", (text,), None)
    record.fields = {key: text}
    assert LineFormatter(LogFormat.LOGFMT).format(record).isprintable()
    assert json.loads(LineFormatter(LogFormat.JSON).format(record))["msg"] == text


class Pipe:
    """A pipe as stderr is one, whose reader need not read."""

    def __init__(self) -> None:
        self.reader, writer = os.pipe()
        self.stream = os.fdopen(writer, "w")
        self.writer = LogWriter(self.stream)

    def read(self, size: int) -> bytes:
        read = b""
        while len(read) < size and (piece := os.read(self.reader, size - len(read))):
            read += piece
        return read


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    made = Pipe()
    yield made
    made.writer.end(0)
    os.close(made.reader)
    made.writer.end(60)
    made.stream.close()


@pytest.mark.attack
def test_a_log_that_nobody_reads_holds_nobody_up_and_what_is_lost_is_counted(pipe: Pipe) -> None:
    line = "x" * 999 + "\n"
    pipe.writer.start()
    for _ in range(2000):  # a pipe has 64 KiB, and 1 MiB waits
        pipe.writer.write(line)
    lost = pipe.writer.dropped
    assert 800 < lost < 2000 - MOST_WAITING // 1000 + 1
    assert pipe.read((2000 - lost) * 1000) == (line * (2000 - lost)).encode()
    pipe.writer.write("last\n")
    assert pipe.read(5) == b"last\n"
    assert pipe.writer.dropped == lost


def test_lines_before_the_start_and_at_the_end_are_written(pipe: Pipe) -> None:
    pipe.writer.write("one\n")
    pipe.writer.flush()
    pipe.writer.start()
    pipe.writer.write("two \udc80\n")
    pipe.writer.flush()
    pipe.writer.end(60)
    assert pipe.read(15) == b"one\ntwo \\udc80\n"


def test_a_reader_that_went_is_no_error(pipe: Pipe) -> None:
    os.close(pipe.reader)
    pipe.reader = os.open("/dev/null", os.O_RDONLY)
    pipe.writer.start()
    for _ in range(3):
        pipe.writer.write("lost\n")
    pipe.writer.end(60)
    assert pipe.writer.dropped == 3
