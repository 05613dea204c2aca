"""check, probe, config and reference as a person runs them: streams, exit statuses, time, and what is said (contract
section 2).
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from exporter.config.reference import format_schema
from tests.e2e.daemon import ROOT, run_exporter
from tests.e2e.village import PORT, Village, swallowed
from tests.kernel import namespaces

pytestmark = pytest.mark.real


@pytest.fixture
def village() -> Iterator[Village]:
    with Village() as made:
        yield made


def write(village: Village, text: str) -> str:
    file = village.inventory.with_name("config.yaml")
    file.write_text(text)
    return f"--config.file={file}"


def arguments(village: Village, text: str) -> tuple[str, str]:
    return write(village, text), f"--inventory.file={village.inventory}"


def test_check_says_each_familys_state_first_and_logs_to_stderr(village: Village) -> None:
    done = run_exporter("check", *arguments(village, village.config()), "--log.level=debug")
    assert done.stdout.splitlines()[0] == "[here] IPv6:✓ IPv4:✓"
    assert "level=" not in done.stdout
    assert "level=debug" in done.stderr


def test_check_is_ascii_where_the_terminal_needs_it(village: Village) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = run_exporter("check", *arguments(village, village.config()), env=environment)
    assert done.stdout.splitlines()[0] == "[here] IPv6:ok IPv4:ok"
    assert done.stdout.isascii()


def test_check_finds_a_cause_within_its_two_rounds_and_exits_1(village: Village) -> None:
    leaf = village.namespace("one")
    namespaces.batch({leaf: [f"route delete default via {village.routers('one')[0]}"]})
    done = run_exporter("check", *arguments(village, village.config()), "--output=json")
    assert done.returncode == 1, done.stderr
    report = json.loads(done.stdout)
    causes = {c["cause"]: c for c in report["causes"]}
    assert causes["pod_no_ipv6_default_route"]["subjects"] == ["pod/village/one"]
    assert causes["ipv6_unreachable"]["explained_by"] in causes
    assert {*report} == {"version", "node", "role", "time", "families", "causes", "unchecked", "probes"}
    text = run_exporter("check", *arguments(village, village.config())).stdout
    assert re.search(r"warning: pod_no_ipv6_default_route.*affects +pod/village/one.*run first", text, re.DOTALL)
    assert re.search(r"explains +ipv6_unreachable", text)
    assert "warning: ipv6_unreachable" not in text
    # No cause is critical, but a family that is expected does not work.
    assert run_exporter("check", *arguments(village, village.config()), "--fail-on=critical").returncode == 1


def test_check_ends_within_ten_seconds_when_everything_is_silent(tmp_path: Path) -> None:
    """20 pods, DNS dead, targets that swallow every packet, by address and by name."""
    names = [f"p{n}" for n in range(20)]
    with Village(names) as village:
        named = "{name: named, host: nowhere.test, port: 443, layers: [icmp, tcp]}"
        config = village.config(targets=f"{swallowed()}, {named}")
        config = re.sub(r"(round|timeouts): .*\n", "", config)  # the defaults
        config = config.replace("names: []", "names: [{name: pypi.org}], allow: [198.51.100.0/24]")
        files = [Path("/etc/netns") / village.namespace(name) / "resolv.conf" for name in names]
        for file in files:
            file.parent.mkdir(parents=True)
            file.write_text("nameserver 198.51.100.53\nnameserver 198.51.100.54\n")
        try:
            done, took = time_exporter("check", *arguments(village, config), "--output=json")
        finally:
            for file in files:
                file.unlink()
                file.parent.rmdir()
        assert done.returncode == 1, done.stderr
        report = json.loads(done.stdout)
        assert took < 10.0
        outcomes = {(p["target"], p["outcome"]) for p in report["probes"] if p["layer"] == "tcp"}
        assert {("router", "ok"), ("hole", "timeout"), ("named", "no_address")} <= outcomes
        assert "dns_unreachable" in {c["cause"] for c in report["causes"]}


def test_a_target_that_only_a_forbidden_nameserver_may_know_is_unchecked_and_not_down(village: Village) -> None:
    config = village.config(targets="{name: corp, host: db.corp.test, port: 443, layers: [icmp, tcp], vantages: [pod]}")
    config = config.replace("names: []", "names: [{name: pypi.org}]")
    files = [Path("/etc/netns") / village.namespace(name) / "resolv.conf" for name in ("one", "two")]
    for file in files:
        file.parent.mkdir(parents=True)
        file.write_text("nameserver 198.51.100.53\n")
    try:
        report = json.loads(run_exporter("check", *arguments(village, config), "--output=json").stdout)
        told = run_exporter("check", *arguments(village, config)).stdout
    finally:
        for file in files:
            file.unlink()
            file.parent.rmdir()
    probes = [p for p in report["probes"] if p["target"] == "corp"]
    assert {p["outcome"] for p in probes} <= {"not_allowed", "not_reached"}
    assert {p["detail"] for p in probes if p["outcome"] == "not_allowed"} == {
        "its nameservers may not be asked (198.51.100.53): dns.allow"
    }
    assert "target_down" not in {c["cause"] for c in report["causes"]}
    assert {u["cause"]: u["reason"] for u in report["unchecked"]}["dns_aaaa_blocked"] == "not_allowed"
    assert "dns.allow lets them be asked" in " ".join(told.split())


def test_names_are_resolved_for_a_pod_with_its_own_file_or_not_at_all(village: Village) -> None:
    """A pod that just started is not inspected yet: the host's file would say something else."""
    listed = json.loads(village.inventory.read_text())
    for item in listed["items"]:
        if item["metadata"]["name"] == "two":
            item["status"]["startTime"] = datetime.now(UTC).isoformat(timespec="seconds")
    village.inventory.write_text(json.dumps(listed))
    config = village.config() + "pods: {grace: 1h}\n"
    file = Path("/etc/netns") / village.namespace("one") / "resolv.conf"
    file.parent.mkdir(parents=True)
    file.write_text("nameserver 198.51.100.53\nsearch only.of.this.pod\n")
    try:
        for command in ("resolve", "a.test"), ("probe", "a.test:80"):
            old, young = (
                run_exporter(*command, f"--pod=village/{name}", *arguments(village, config)) for name in ("one", "two")
            )
            assert "only.of.this.pod" in old.stdout or "198.51.100.53" in old.stdout
            assert young.returncode == 2
            assert young.stderr.endswith("--pod=village/two: its resolv.conf was not read (starting)\n")
            assert "test" not in young.stdout
    finally:
        file.unlink()
        file.parent.rmdir()


def time_exporter(*given: str) -> tuple[subprocess.CompletedProcess[str], float]:
    """A command, and how many seconds it took beyond those in which it waited for a processor: those are the
    machine's.
    """
    command = [sys.executable, "-m", "exporter", *given]
    with tempfile.TemporaryFile("w+") as said, tempfile.TemporaryFile("w+") as logged:
        began = time.monotonic()
        with subprocess.Popen(command, cwd=ROOT, stdout=said, stderr=logged) as process:
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
            took = time.monotonic() - began
            waited = int(Path(f"/proc/{process.pid}/schedstat").read_text().split()[1]) / 1e9
        for file in (said, logged):
            file.seek(0)
        return subprocess.CompletedProcess(command, process.returncode, said.read(), logged.read()), took - waited


def test_check_last_prints_the_daemons_report_however_large(village: Village) -> None:
    """A report of several hundred kilobytes comes in many pieces."""
    holes = ", ".join(swallowed(f"a-target-with-a-rather-long-name-{n}") for n in range(200))
    with village.daemon(village.config(targets=holes)) as daemon:
        daemon.wait_rounds(2)
        size = len(daemon.get("/api/v1/report")[1])
        place = f"--web.listen-address=:{daemon.port}"
        done = run_exporter("check", "--last", "--output=json", place)
        text = run_exporter("check", "--last", place)
    assert size > 200_000
    assert done.returncode in {0, 1}, done.stderr
    assert json.loads(done.stdout)["node"] == "here"
    assert len(json.loads(done.stdout)["probes"]) == (200 + 2) * 4
    assert text.stdout.startswith("[here] ")


def test_check_last_without_a_daemon_is_one_line_and_2() -> None:
    done = run_exporter("check", "--last", "--web.listen-address=:1")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)


def test_check_binds_no_port(village: Village) -> None:
    command = [sys.executable, "-m", "exporter", "check", *arguments(village, village.config())]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        seen = set()
        while process.poll() is None:
            shown = subprocess.run(["ss", "-Hltnp"], capture_output=True, text=True, check=True).stdout
            seen |= {line for line in shown.splitlines() if f"pid={process.pid}," in line}
        process.communicate()
    assert seen == set()


def test_check_of_a_file_and_role_cluster_touches_nothing_of_this_machine(village: Village) -> None:
    """A support bundle: no broker is started, nothing is dialled, and no node line is printed."""
    flags = arguments(village, village.config())
    strace = [
        "strace",
        "-f",
        "-qq",
        "-e",
        "trace=connect,setns,execve",
        "-o",
        str(village.inventory.with_name("calls")),
    ]
    if subprocess.run(["which", "strace"], capture_output=True, check=False).returncode:
        strace = []
    command = [*strace, sys.executable, "-m", "exporter", "check", "--role=cluster", "--output=json", *flags]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode in {0, 1}, done.stderr
    report = json.loads(done.stdout)
    assert (report["role"], report["probes"]) == ("cluster", [])
    text = run_exporter("check", "--role=cluster", *flags)
    assert not text.stdout.startswith("[")


@pytest.mark.parametrize("role", ["node", "cluster", "all"])
def test_every_role_runs_on_a_plain_host(role: str, village: Village) -> None:
    done = run_exporter(f"--role={role}", "check", "--output=json", namespace=village.namespace("one"))
    assert done.returncode in {0, 1}, done.stderr
    report = json.loads(done.stdout)
    assert report["role"] == role
    assert report["families"] == {family: {"expected": None, "ok": None} for family in ("IPv4", "IPv6")}
    assert {u["reason"] for u in report["unchecked"]} >= {"no_inventory"}


def test_probe_shows_each_step_of_each_family_and_exits_by_the_result(village: Village) -> None:
    inside = f"--netns={village.namespace('one')}"
    six = run_exporter("probe", f"[2001:db8:ffff::1]:{PORT}", inside)
    assert six.returncode == 0, six.stderr
    assert re.search(
        r"from pod/netns/\S+one\nIPv6 2001:db8:ffff::1\n  icmp  ok .* ms .*\n  tcp   ok .* ms\n", six.stdout
    )
    dead = run_exporter("probe", "[2001:db8:ffff::1]:9", inside)
    assert dead.returncode == 1
    assert re.search(r"tcp +refused", dead.stdout)
    pod = run_exporter("probe", f"203.0.113.1:{PORT}", "--pod=village/two", *arguments(village, village.config()))
    assert (pod.returncode, pod.stdout.splitlines()[0]) == (0, "from pod/village/two")


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (("nowhere",), "HOST:PORT"),
        (("::1:80",), "brackets"),
        (("[::1]:99999",), "HOST:PORT"),
        (("[::1]:443", "--layers=tls"), "literal address"),
        (("[::1]:443", "--family=4"), "IPv6 address"),
        (("[::1]:443", "--layers=udp"), "'udp'"),
        (("[::1]:443", "--netns=/etc/passwd"), "not a network namespace"),
        (("[::1]:443", "--netns=nowhere-at-all"), "No such file"),
        (("[::1]:443", "--pod=a/b"), "no such pod"),
        (("[::1]:443", "--pod=a/b", "--netns=c"), "not allowed with"),
    ],
)
def test_bad_input_to_probe_is_one_line_and_2(given: tuple[str, ...], says: str) -> None:
    done = run_exporter("probe", *given)
    assert (done.returncode, done.stdout) == (2, "")
    assert says in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "flag",
    ["--bogus", "--role=none", "--log.level=loud", "--config.fil=x", "--output=text", "nonsense", "--role=node broker"],
)
def test_bad_flags_are_one_line_and_2(flag: str) -> None:
    done = run_exporter(*flag.split())
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith("dualstack-exporter: ")


def test_config_prints_what_is_in_force_and_reads_it_back(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    file.write_text("targets: [{name: web, host: web.test, port: 443, layers: [tls]}]\nround: {interval: 10s}\n")
    done = run_exporter("config", f"--config.file={file}")
    assert (done.returncode, done.stderr) == (0, "")
    file.write_text(done.stdout)
    assert run_exporter("config", f"--config.file={file}").stdout == done.stdout
    file.write_text("round: {interval: 0s}")
    bad = run_exporter("config", f"--config.file={file}")
    assert (bad.returncode, bad.stdout, bad.stderr.count("\n")) == (2, "", 1)
    assert "round.interval" in bad.stderr
    schema = run_exporter("config", "--schema", f"--config.file={file}")  # of any file, so this one is not read
    assert (schema.returncode, schema.stdout, schema.stderr) == (0, format_schema(), "")


def test_reference_prints_the_tables_and_help_the_flags() -> None:
    tables = run_exporter("reference")
    assert tables.returncode == 0
    for word in ("dualstack_family_ok", "dns_aaaa_blocked", "round.interval"):
        assert word in tables.stdout
    shown = run_exporter("--help").stdout
    for flag in (
        "--config.file", "--role", "--inventory.file", "--broker.socket", "--web.listen-address", "--web.config.file",
        "--web.telemetry-path", "--web.enable-lifecycle", "--log.level", "--log.format", "--version",
    ):  # fmt: skip
        assert flag in shown
    for command in ("check", "probe", "resolve", "config", "reference", "broker"):
        told = run_exporter(command, "--help")
        assert told.returncode == 0
        assert told.stdout.startswith(f"usage: dualstack-exporter {command} ")
    assert run_exporter("--version").stdout.startswith("dualstack-exporter ")


def test_the_reader_of_the_output_may_go_away(village: Village) -> None:
    command = f"{sys.executable} -m exporter reference | head -1"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.stderr == ""


@pytest.mark.parametrize("url", ["", "https://wiki.test/rb"])
def test_a_report_of_a_file_has_no_link_to_a_service_that_is_not_there(url: str, tmp_path: Path) -> None:
    bundle, config = tmp_path / "cluster.yaml", tmp_path / "config.yaml"
    node = {"status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.1"}]}}
    made = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n", "uid": "u"}, **node}
    bundle.write_text(json.dumps(made))
    config.write_text(json.dumps({"families": ["IPv4", "IPv6"], "runbooks": {"url": url}}))
    flags = ("--role=cluster", f"--config.file={config}", f"--inventory.file={bundle}")
    done = run_exporter("check", *flags)
    assert done.returncode == 1, done.stderr
    found = re.findall(r"^  runbook +(.*)$", done.stdout, re.MULTILINE)
    link = ", or https://wiki.test/rb/DualstackNodeInternalIpMissing.md" if url else ""
    assert f"dualstack-exporter explain node_internal_ip_missing{link}" in found
    assert all(("http" in line) == bool(url) for line in found)


def test_explain_needs_nothing_but_the_program() -> None:
    told = run_exporter("explain", "nat_masquerade_missing")
    assert (told.returncode, told.stderr) == (0, "")
    assert told.stdout.startswith("# DualstackNatMasqueradeMissing\n")
    bad = run_exporter("explain", "nat_masquerade")
    assert (bad.returncode, bad.stdout, bad.stderr.count("\n")) == (2, "", 1)


def test_the_metrics_of_a_check_are_gauges_that_prometheus_reads(village: Village) -> None:
    done = run_exporter("check", *arguments(village, village.config()), "--output=prometheus")
    assert done.returncode in {0, 1}, done.stderr
    read = subprocess.run(
        ["promtool", "check", "metrics"], input=done.stdout, capture_output=True, text=True, check=False
    )
    assert (read.returncode, read.stdout + read.stderr) == (0, "")
    assert 'dualstack_family_ok{ip_family="IPv6"}' in done.stdout
    assert set(re.findall(r"^# TYPE \S+ (\w+)$", done.stdout, re.MULTILINE)) == {"gauge"}


@pytest.mark.parametrize("flag", ["--last", "--nodes=all"])
def test_the_metrics_of_a_check_are_not_those_of_a_running_exporter(flag: str) -> None:
    done = run_exporter("check", "--output=prometheus", flag)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
