"""The exporter as a process: started with a configuration, asked over HTTP, ended whatever happens."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 90.0  # seconds: a wait ends with its event, and only a fault lasts that long


def free_port() -> int:
    with socket.socket(socket.AF_INET6) as probe:
        probe.bind(("::", 0))
        return int(probe.getsockname()[1])


def run_exporter(
    *arguments: str, namespace: str = "", prefix: Sequence[str] = (), **options: Any
) -> subprocess.CompletedProcess[str]:
    """A command that ends by itself, in a network namespace where one is named. `prefix` is put before it."""
    inside = ["nsenter", f"--net=/run/netns/{namespace}"] if namespace else []
    return subprocess.run(
        [*inside, *prefix, sys.executable, "-m", "exporter", *arguments],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
        cwd=ROOT,
        **options,
    )


class Daemon:
    """A running exporter. `prefix` is put before the command (ip netns exec, setpriv ...). In a namespace of its own it
    needs a fixed port.
    """

    def __init__(
        self,
        config: str,
        *arguments: str,
        prefix: Sequence[str] = (),
        command: Sequence[str] = (sys.executable, "-m", "exporter"),
        environment: dict[str, str] | None = None,
        port: int = 0,
        level: str = "debug",
    ) -> None:
        self.port = port or free_port()
        self._directory = tempfile.TemporaryDirectory(prefix="dualstack-exporter-test-")
        directory = Path(self._directory.name)
        directory.chmod(0o755)  # the unprivileged uid reads it again at a reload
        self.config = directory / "config.yaml"
        self.config.write_text(config)
        self.log = directory / "log"
        self._log = self.log.open("wb")
        self.process = subprocess.Popen(
            [
                *prefix, *command, f"--config.file={self.config}",
                f"--web.listen-address=:{self.port}", f"--log.level={level}", *arguments,
            ],
            stderr=self._log, stdout=self._log, cwd=ROOT, env={**os.environ, **(environment or {})},
        )  # fmt: skip

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._log.close()
        if kind is not None:
            sys.stderr.write(self.log.read_text())
        self._directory.cleanup()

    @property
    def pid(self) -> int:
        """Of the exporter itself, below whatever prefix started it."""
        return self.process.pid

    def get(self, path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://[::1]:{self.port}{path}", timeout=PATIENCE) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def wait(self, condition: Callable[[], bool], what: str) -> None:
        """Until the condition holds; fails with the log when the daemon ends or the time is up."""
        end = time.monotonic() + PATIENCE
        while not self._holds(condition):
            assert self.process.poll() is None, f"the daemon ended: {self.log.read_text()}"
            assert time.monotonic() < end, f"not within {PATIENCE:g} s: {what}\n{self.log.read_text()}"
            select.select([], [], [], 0.05)

    @staticmethod
    def _holds(condition: Callable[[], bool]) -> bool:
        try:
            return condition()
        except (urllib.error.URLError, ConnectionError):
            return False

    def wait_ready(self) -> None:
        self.wait(lambda: self.get("/-/ready")[0] == 200, "ready")

    def wait_rounds(self, number: int) -> None:
        self.wait(lambda: self.series().get("dualstack_exporter_rounds_total", 0) >= number, f"{number} rounds")

    def series(self) -> dict[str, float]:
        """Every series of a scrape by its text before the value."""
        lines = self.get("/metrics")[1].splitlines()
        return {
            line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in lines if line and not line.startswith("#")
        }

    def report(self) -> Any:
        return json.loads(self.get("/api/v1/report")[1])

    def outcomes(self) -> dict[tuple[str, str, str], str]:
        """Of the last report, by vantage's subject, layer and family; nothing as long as there is none."""
        if self.get("/-/ready")[0] != 200:
            return {}
        return {(p["subject"], p["layer"], p["ip_family"]): p["outcome"] for p in self.report()["probes"]}

    def causes(self) -> dict[str, Any]:
        """Found causes of the last report by name; nothing as long as there is none."""
        return {c["cause"]: c for c in self.report()["causes"]} if self.get("/-/ready")[0] == 200 else {}

    def log_text(self) -> str:
        return self.log.read_text()


def status_of(pid: int) -> dict[str, str]:
    """/proc/PID/status as a table."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


def children_of(pid: int) -> list[int]:
    return [
        int(child) for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()
    ]
