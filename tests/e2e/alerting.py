"""Real Prometheus, real Alertmanager and a webhook receiver, with the shipped rules and routing; ended whatever
happens.

A minute of the rules takes `minute` seconds here: every `for`, `keep_firing_for`, range, grouping interval and the
lookback are scaled by that one factor (`scaled_rules`, `scaled_routing`), nothing else is changed. Not below 0.6:
Prometheus looks for its targets every 5 seconds, whatever the scale, and ten minutes without any are alerted.
"""

from __future__ import annotations

import json
import re
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml

from tests.e2e.daemon import free_port
from tests.e2e.prometheus import Prometheus

ALERTS = Path(__file__).resolve().parents[2] / "alerts"
PATIENCE = 30.0
SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
DURATION = re.compile(r"(\d+)(ms|[smhd])")


def scaled(duration: str, minute: float) -> str:
    """A duration as Prometheus writes it, shortened; never less than a millisecond where it was more than nothing."""
    seconds = sum(int(number) * SECONDS[unit] for number, unit in DURATION.findall(duration))
    return f"{max(round(seconds * minute / 60 * 1000), 1 if seconds else 0)}ms"


def scaled_rules(text: str, minute: float) -> str:
    """The rules with all their durations shortened: `for`, `keep_firing_for`, ages, the groups' intervals, and
    every range and step in brackets.
    """
    document = yaml.safe_load(text)
    for group in document["groups"]:
        if "interval" in group:
            group["interval"] = scaled(group["interval"], minute)
    for rule in (rule for group in document["groups"] for rule in group["rules"]):
        for key in {"for", "keep_firing_for"} & set(rule):
            rule[key] = scaled(rule[key], minute)
        rule["expr"] = re.sub(
            r"\[([^\]]+)\]",
            lambda found: "[" + ":".join(scaled(part, minute) for part in found.group(1).split(":")) + "]",
            rule["expr"],
        )
        # Ages: counts of nodes, which are compared as well, have one digit.
        rule["expr"] = re.sub(r"(?<= >= )\d{2,}", lambda found: f"{int(found.group()) * minute / 60:g}", rule["expr"])
    return yaml.safe_dump(document, sort_keys=False, width=10_000)


def scaled_routing(text: str, minute: float, receiver: str) -> str:
    """Alertmanager's configuration with its intervals shortened, and every webhook at the receiver's address and its
    own name.
    """
    document = yaml.safe_load(text)
    document["global"]["resolve_timeout"] = scaled(document["global"]["resolve_timeout"], minute)
    for route in (document["route"], *document["route"]["routes"]):
        for key in {"group_wait", "group_interval", "repeat_interval"} & set(route):
            route[key] = scaled(route[key], minute)
    for each in document["receivers"]:
        for webhook in each.get("webhook_configs", ()):
            webhook["url"] = f"{receiver}/{each['name']}"
    return yaml.safe_dump(document, sort_keys=False, width=10_000)


@dataclass(frozen=True)
class Notification:
    """What a receiver got: `firing` and `resolved` are the alerts' labels."""

    receiver: str
    status: str
    firing: tuple[Mapping[str, str], ...]
    resolved: tuple[Mapping[str, str], ...]
    annotations: tuple[Mapping[str, str], ...] = ()

    @property
    def names(self) -> set[tuple[str, str]]:
        """Name and node of the alerts that fire."""
        return {(alert["alertname"], alert.get("node", "")) for alert in self.firing}


@dataclass
class Receiver:
    """A web server that keeps what Alertmanager posts to it."""

    received: list[Notification] = field(default_factory=list)
    changed: threading.Condition = field(default_factory=threading.Condition)

    def __enter__(self) -> Self:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                self.send_response(200)
                self.end_headers()
                outer._keep(self.path.strip("/"), body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's own word
                """Nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def _keep(self, receiver: str, body: Mapping[str, Any]) -> None:
        by_status: dict[str, list[Mapping[str, str]]] = {"firing": [], "resolved": []}
        for alert in body["alerts"]:
            by_status[alert["status"]].append(alert["labels"])
        with self.changed:
            self.received.append(
                Notification(
                    receiver,
                    body["status"],
                    tuple(by_status["firing"]),
                    tuple(by_status["resolved"]),
                    tuple(alert["annotations"] for alert in body["alerts"]),
                )
            )
            self.changed.notify_all()

    def of(self, *receivers: str) -> list[Notification]:
        """What these receivers got, in order."""
        with self.changed:
            return [each for each in self.received if each.receiver in receivers]

    def wait(self, condition: Callable[[], bool], what: str, patience: float = PATIENCE) -> None:
        """Until the condition holds; it is looked at whenever something arrives."""
        with self.changed:
            assert self.changed.wait_for(condition, patience), f"not within {patience:g} s: {what}\n{self.received}"


class Process:
    """A server that is ready when it answers, and ends with the block."""

    def __init__(self, arguments: Sequence[str | Path], ready: str, log: Path) -> None:
        self._log = log
        self._ready = ready
        with log.open("wb") as output:
            self._process = subprocess.Popen(arguments, stdout=output, stderr=output)

    def __enter__(self) -> Self:
        end = time.monotonic() + PATIENCE
        while not answers(self._ready):
            if self._process.poll() is not None or time.monotonic() > end:
                self.end()
                raise AssertionError(f"it did not come up:\n{self._log.read_text()}")
            select.select([], [], [], 0.05)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()
        if kind is not None:
            sys.stderr.write(self._log.read_text())

    def end(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False


def ask(url: str, body: Any = None) -> Any:
    """The JSON that a server answers."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, headers={"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=10) as response:
        text = response.read()
    return json.loads(text) if text else None


class Alertmanager:
    """A running Alertmanager with the shipped configuration, and the receiver that it notifies."""

    def __init__(self, minute: float = 1.0) -> None:
        self.minute = minute
        self.receiver = Receiver()
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dualstack-alertmanager-")))
            stack.enter_context(self.receiver)
            configuration = directory / "alertmanager.yml"
            configuration.write_text(
                scaled_routing((ALERTS / "alertmanager.yaml").read_text(), self.minute, self.receiver.address)
            )
            port = free_port()
            self.address = f"127.0.0.1:{port}"
            arguments = [
                "prometheus-alertmanager", f"--config.file={configuration}", f"--storage.path={directory / 'data'}",
                f"--web.listen-address={self.address}", "--cluster.listen-address=",
            ]  # fmt: skip
            stack.enter_context(Process(arguments, f"http://{self.address}/-/ready", directory / "log"))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def post(self, alerts: Sequence[Mapping[str, str]]) -> None:
        """Alerts that begin now, by their labels."""
        ask(f"http://{self.address}/api/v2/alerts", [{"labels": dict(labels)} for labels in alerts])

    def alerts(self) -> list[dict[str, Any]]:
        return list(ask(f"http://{self.address}/api/v2/alerts"))


class Monitoring:
    """Prometheus with the shipped rules, scraping these targets (address, target labels), and Alertmanager with the
    shipped routing.
    """

    def __init__(self, targets: Sequence[tuple[str, Mapping[str, str]]], minute: float = 1.0) -> None:
        self.targets = targets
        self.minute = minute
        self.alertmanager = Alertmanager(minute)
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dualstack-rules-")))
            rules = directory / "rules.yml"
            rules.write_text(scaled_rules((ALERTS / "dualstack.yaml").read_text(), self.minute))
            stack.enter_context(self.alertmanager)
            self.prometheus = stack.enter_context(
                Prometheus(
                    self.targets,
                    rules=[rules],
                    interval=scaled("30s", self.minute),
                    alertmanager=self.alertmanager.address,
                    flags=[
                        f"--query.lookback-delta={scaled('5m', self.minute)}",
                        f"--rules.alert.resend-delay={scaled('1m', self.minute)}",
                    ],
                )
            )
            # Only now does Prometheus know its Alertmanager.
            self.receiver.wait(lambda: bool(self.receiver.of("dead-mans-switch")), "the first heartbeat")
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    @property
    def receiver(self) -> Receiver:
        return self.alertmanager.receiver

    def unhealthy_rules(self) -> list[str]:
        """The rules that could not be evaluated, with the reason."""
        rules = [rule for group in self.prometheus.ask("/api/v1/rules")["groups"] for rule in group["rules"]]
        return [f"{rule['name']}: {rule['lastError']}" for rule in rules if rule["health"] == "err"]

    def descriptions(self) -> dict[str, str]:
        """Of every alert that fires, by its name."""
        alerts = self.prometheus.ask("/api/v1/alerts")["alerts"]
        return {a["labels"]["alertname"]: a["annotations"]["description"] for a in alerts if a["state"] == "firing"}

    def let_pass(self, minutes: float) -> None:
        """So many minutes of the rules: until Prometheus has evaluated through them."""
        end = time.time() + minutes * self.minute
        self.prometheus.wait(
            lambda: bool(self.prometheus.instant(f"timestamp(vector(1)) >= {end}")), f"{minutes} minutes"
        )
