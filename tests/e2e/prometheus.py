"""A real Prometheus, scraping what it is told to and asked over its API."""

from __future__ import annotations

import json
import select
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml

from tests.e2e.daemon import free_port

PATIENCE = 60.0


@dataclass(frozen=True)
class Series:
    """One series of an answer: its labels, and (time, value) pairs; one pair for an instant query."""

    labels: Mapping[str, str]
    points: Sequence[tuple[float, float]]


class Prometheus:
    """Enter it to start it; it is ready then. `targets`: address and target labels of each."""

    def __init__(
        self,
        targets: Sequence[tuple[str, Mapping[str, str]]],
        *,
        rules: Sequence[Path] = (),
        interval: str = "1s",
        alertmanager: str = "",
        flags: Sequence[str] = (),
    ) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="dualstack-prometheus-test-")
        directory = Path(self._directory.name)
        self.port = free_port()
        config = {
            "global": {"scrape_interval": interval, "scrape_timeout": interval, "evaluation_interval": interval},
            "rule_files": [str(path) for path in rules],
            "scrape_configs": [
                {
                    "job_name": "dualstack-exporter",
                    "honor_labels": True,
                    "static_configs": [{"targets": [address], "labels": dict(labels)} for address, labels in targets],
                }
            ],
            "alerting": {"alertmanagers": [{"static_configs": [{"targets": [alertmanager] if alertmanager else []}]}]},
        }
        (directory / "prometheus.yml").write_text(yaml.safe_dump(config))
        self._log = (directory / "log").open("wb")
        self.process = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={directory / 'prometheus.yml'}",
                f"--storage.tsdb.path={directory / 'data'}",
                f"--web.listen-address=127.0.0.1:{self.port}",
                *flags,
            ],
            stdout=self._log,
            stderr=self._log,
        )

    def __enter__(self) -> Self:
        self.wait(lambda: self._get("/-/ready") is not None, "ready")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.terminate()
        self.process.wait(PATIENCE)
        self._log.close()
        if kind is not None:
            sys.stderr.write((Path(self._directory.name) / "log").read_text()[-5_000:])
        self._directory.cleanup()

    def _get(self, path: str, **parameters: str) -> bytes:
        query = urllib.parse.urlencode(parameters)
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}?{query}", timeout=10) as response:
            body: bytes = response.read()
            return body

    def ask(self, path: str, **parameters: str) -> Any:
        """The data of an answer of the API; an error is raised with what Prometheus says."""
        try:
            return json.loads(self._get(path, **parameters))["data"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{parameters}: {error.read().decode()}") from error

    def instant(self, expr: str, when: float | None = None) -> list[Series]:
        """An expression's series at one moment."""
        at = {} if when is None else {"time": f"{when:.3f}"}
        result = self.ask("/api/v1/query", query=expr, **at)["result"]
        return [Series(one["metric"], [(one["value"][0], float(one["value"][1]))]) for one in result]

    def range(self, expr: str, start: float, end: float, step: float) -> list[Series]:
        """An expression's series over a time."""
        between = {"start": f"{start:.3f}", "end": f"{end:.3f}", "step": f"{step:g}"}
        result = self.ask("/api/v1/query_range", query=expr, **between)["result"]
        return [Series(one["metric"], [(time_, float(value)) for time_, value in one["values"]]) for one in result]

    def label_values(self, label: str, selector: str) -> list[str]:
        """What Grafana's label_values(selector, label) asks."""
        return list(self.ask(f"/api/v1/label/{label}/values", **{"match[]": selector}))

    def value(self, expr: str) -> float | None:
        """The one value of an expression; None where it has none."""
        series = self.instant(expr)
        assert len(series) < 2, series
        return series[0].points[0][1] if series else None

    def wait(self, condition: Callable[[], bool], what: str, patience: float = PATIENCE) -> None:
        """Until the condition holds; fails when Prometheus ends or the time is up."""
        end = time.monotonic() + patience
        while not self._holds(condition):
            assert self.process.poll() is None, "Prometheus ended"
            assert time.monotonic() < end, f"not within {patience:g} s: {what}"
            select.select([], [], [], 0.1)

    def wait_for(self, expr: str, patience: float = PATIENCE) -> None:
        """Until the expression has a series."""
        self.wait(lambda: bool(self.instant(expr)), expr, patience)

    @staticmethod
    def _holds(condition: Callable[[], bool]) -> bool:
        try:
            return condition()
        except (urllib.error.URLError, ConnectionError):
            return False
