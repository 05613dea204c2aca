"""The daemon beside nameservers that answer by chance, for twenty rounds and within its DNS budget: they are named, and
never called blockers.

A nameserver with a template that withholds AAAA is still called one, two rounds after it began to. The nameservers are
processes on loopback addresses of their own (tests/lab/coredns.py), as dns.servers names them.
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.daemon import ROOT, Daemon, run_exporter
from tests.e2e.hastened_exporter import ROUND, SHIPPED
from tests.lab.coredns import DISPUTED

pytestmark = pytest.mark.real

ROUNDS = 20
CHECK = 10.0  # seconds
NAME = "outside.test"
RECORDS = {name: {"A": ["192.0.2.80"], "AAAA": ["2001:db8::80"]} for name in (NAME, DISPUTED)}
# With an inventory, what other namespaces are on this machine is of nobody; this node has no pods.
OBJECTS = {
    "apiVersion": "v1",
    "kind": "List",
    "items": [
        {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "ra", "uid": "ra"}},
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"namespace": "default", "name": "web", "uid": "web"},
            "spec": {"nodeName": "rb"},
        },
    ],
}
DIFFER, LOST, BLOCKED = "dns_answers_differ", "dns_queries_lost", "dns_aaaa_blocked"
_COUNTER = itertools.count(1)


class Nameserver:
    """A process on a loopback address of its own; `be` changes what it does from the next question on."""

    def __init__(self, directory: Path) -> None:
        number = next(_COUNTER)
        self.address = f"127.53.{os.getpid() % 250 + 1}.{number}"
        self._mode, self._records = directory / f"mode-{number}", directory / f"records-{number}.json"
        self._records.write_text(json.dumps(RECORDS))
        self.inventory = directory / "inventory.json"
        self.inventory.write_text(json.dumps(OBJECTS))
        directory.chmod(0o755)  # the daemon gives up root before it reads
        self.be("healthy")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.lab.coredns", str(self._mode), str(self._records), self.address],
            stdout=subprocess.PIPE, text=True, cwd=ROOT,
        )  # fmt: skip
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"

    def be(self, mode: str) -> None:
        fresh = self._mode.with_suffix(".new")
        fresh.write_text(mode)
        fresh.rename(self._mode)

    def end(self) -> None:
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()


HASTENED = {"round": {"interval": f"{ROUND:g}s", "timeout": "1900ms"}, "timeouts": {"dns": "500ms"}}


def settings(asked: Nameserver, **more: Any) -> str:
    return json.dumps(
        {
            **more,
            "node_name": "ra",
            "families": ["IPv4", "IPv6"],
            "inventory": {"source": "file", "file": str(asked.inventory)},
            "dns": {
                "names": [{"name": NAME}, {"name": DISPUTED}],
                "servers": [{"name": "corp", "address": asked.address}],
            },
        }
    )


class Watched:
    """A daemon that asks one nameserver, and the causes of DNS in each of its rounds."""

    def __init__(self, nameserver: Nameserver, daemon: Daemon) -> None:
        self.nameserver, self.daemon = nameserver, daemon
        self.rounds: list[dict[str, Any]] = []
        self._last = ""

    def run(self, rounds: int) -> list[set[str]]:
        """The names of the causes of DNS in each of the next rounds."""
        self.daemon.wait_ready()
        wanted = len(self.rounds) + rounds
        self.daemon.wait(lambda: self._look() >= wanted, f"{wanted} rounds")
        return [set(causes) for causes in self.rounds[wanted - rounds : wanted]]

    def _look(self) -> int:
        report = self.daemon.report()
        if report["time"] != self._last:
            self._last = report["time"]
            self.rounds.append({c["cause"]: c for c in report["causes"] if c["scope"] == "dns"})
        return len(self.rounds)


@contextmanager
def nameserver(mode: str = "healthy") -> Iterator[Nameserver]:
    with tempfile.TemporaryDirectory(prefix="dualstack-exporter-test-") as directory:
        one = Nameserver(Path(directory))
        try:
            one.be(mode)
            yield one
        finally:
            one.end()


@contextmanager
def watched() -> Iterator[Watched]:
    command = (sys.executable, "-m", "tests.e2e.hastened_exporter")
    with nameserver() as asked, Daemon(settings(asked, **HASTENED), command=command) as daemon:
        yield Watched(asked, daemon)


@pytest.mark.parametrize(("mode", "cause"), [("disagreeing", DIFFER), ("lossy", LOST)])
def test_a_nameserver_that_answers_by_chance_is_named_and_never_called_a_blocker(mode: str, cause: str) -> None:
    with watched() as one:
        one.nameserver.be(mode)
        seen = one.run(ROUNDS)
        assert set().union(*seen) == {cause}
        assert all(cause in causes for causes in seen[5:])
        assert one.rounds[-1][cause]["subjects"] == ["server/corp"]
        assert asked_per_second(one.daemon) <= 2.0


def test_a_template_that_withholds_aaaa_is_found_at_once_also_where_it_was_served_a_moment_ago() -> None:
    with watched() as one:
        assert one.run(4) == [set()] * 4
        one.nameserver.be("noerror")
        seen = one.run(6)
        assert all(causes == {BLOCKED} for causes in seen[3:])
        assert one.rounds[-1][BLOCKED]["severity"] == "critical"
        one.nameserver.be("healthy")
        assert one.run(5)[-1] == set()


@pytest.mark.parametrize(
    ("mode", "cause"),
    [("healthy", ""), ("disagreeing", DIFFER), ("lossy", LOST), ("noerror", BLOCKED), ("dropped", BLOCKED)],
)
def test_check_says_the_same_within_its_ten_seconds(mode: str, cause: str) -> None:
    with nameserver(mode) as one:
        config = one.inventory.with_name("config.json")
        config.write_text(settings(one))
        began = time.monotonic()
        done = run_exporter("check", f"--config.file={config}", "--output=json")
        took = time.monotonic() - began
    assert done.stdout, done.stderr
    found = {c["cause"] for c in json.loads(done.stdout)["causes"] if c["scope"] == "dns"}
    assert found == ({cause} if cause else set())
    assert took < CHECK


def asked_per_second(daemon: Daemon) -> float:
    """DNS questions a second on average over all rounds, at the shipped interval."""
    series = daemon.series()
    asked = sum(value for name, value in series.items() if name.startswith("dualstack_dns_lookups_total{"))
    return asked / (series["dualstack_exporter_rounds_total"] * SHIPPED)
