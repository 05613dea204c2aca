"""The daemon on its worst days: stopped, starved, cut off, fed garbage. It goes on, says so, and tells nothing
false.
"""

from __future__ import annotations

import contextlib
import os
import random
import select
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from tests.e2e.daemon import PATIENCE, ROOT, Daemon, children_of, run_exporter
from tests.e2e.village import Village, swallowed
from tests.kernel import namespaces

pytestmark = pytest.mark.real

QUICK = {"interval": "1s", "timeout": "900ms", "phase": "900ms"}  # where no dial is judged
RATIO = 'dualstack_probe_success_ratio{{ip_family="{0}",layer="tcp",target="router",vantage="pod"}}'


@pytest.fixture
def village() -> Iterator[Village]:
    with Village() as made:
        yield made


def wait(condition: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, f"not within {PATIENCE:g} s: {what}"
        select.select([], [], [], 0.05)


def healthy(daemon: Daemon) -> bool:
    """The router is reached over both families, in the last round."""
    series = daemon.series()
    return all(series.get(RATIO.format(family)) == 1 for family in ("IPv4", "IPv6"))


def failures(daemon: Daemon) -> list[str]:
    """Outcomes other than success that were ever counted for the target that never fails."""
    fine = ('outcome="ok"', 'outcome="local"', 'outcome="vanished"', 'outcome="not_reached"')
    counted = (
        name for name in daemon.series() if name.startswith("dualstack_probes_total") and 'target="router"' in name
    )
    return [name for name in counted if not any(outcome in name for outcome in fine)]


def descriptors(pid: int) -> list[str]:
    found = []
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found.append(str(entry.readlink()))
    return found


def threads(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/task").iterdir()))


def stopped(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def test_a_stopped_broker_stops_the_rounds_and_nothing_else(village: Village) -> None:
    with village.daemon(village.config()) as daemon:
        daemon.wait(lambda: healthy(daemon), "a healthy round")
        (broker,) = children_of(daemon.pid)
        os.kill(broker, signal.SIGSTOP)
        try:
            daemon.wait(lambda: daemon.get("/-/ready")[0] == 503, "not ready once the report is old")
            series = daemon.series()
            assert not any(
                name.startswith(("dualstack_probe_", "dualstack_pods", "dualstack_family")) for name in series
            )
            assert series["dualstack_exporter_rounds_skipped_total"] > 0
            assert "a round was given up" in daemon.log_text()
            assert daemon.get("/-/healthy")[0] == 200
            assert daemon.get("/api/v1/report")[0] == 503
            rounds = series["dualstack_exporter_rounds_total"]
        finally:
            os.kill(broker, signal.SIGCONT)
        daemon.wait(lambda: healthy(daemon) and daemon.get("/-/ready")[0] == 200, "health again")
        daemon.wait_rounds(int(rounds) + 2)
        assert failures(daemon) == []
        assert "dualstack_exporter_errors_total" not in str(daemon.series())


def test_a_stopped_daemon_skips_rounds_and_blames_no_path(village: Village) -> None:
    """Probes are under way at any moment; what they missed while nobody ran is not the network's fault."""
    with village.daemon(village.config(targets=swallowed())) as daemon:
        daemon.wait(lambda: healthy(daemon), "a healthy round")
        for _ in range(2):
            daemon.process.send_signal(signal.SIGSTOP)
            wait(lambda: stopped(daemon.pid), "stopped")
            select.select([], [], [], 6.5)  # two intervals: at least one round is missed
            daemon.process.send_signal(signal.SIGCONT)
            rounds = daemon.series()["dualstack_exporter_rounds_total"]
            daemon.wait_rounds(int(rounds) + 1)
        assert daemon.series()["dualstack_exporter_rounds_skipped_total"] >= 2
        daemon.wait(lambda: healthy(daemon), "health again")
        assert failures(daemon) == []
        daemon.wait(lambda: daemon.series().get('dualstack_family_ok{ip_family="IPv6"}') == 1, "the verdict")


def test_an_old_report_is_exposed_no_more_after_a_long_stop(village: Village) -> None:
    with village.daemon(village.config(**QUICK)) as daemon:
        daemon.wait_ready()
        (broker,) = children_of(daemon.pid)
        for pid in (broker, daemon.pid):
            os.kill(pid, signal.SIGSTOP)
        select.select([], [], [], 6.0)
        os.kill(daemon.pid, signal.SIGCONT)  # the broker still sleeps: no new report can come
        assert daemon.get("/-/ready")[0] == 503
        os.kill(broker, signal.SIGCONT)
        daemon.wait_ready()


def test_without_descriptors_it_lives_on_and_blames_no_path(village: Village) -> None:
    with village.daemon(village.config(targets=", ".join(swallowed(f"hole{n}") for n in range(8)))) as daemon:
        daemon.wait(lambda: healthy(daemon), "a healthy round")
        rounds = end_of_a_round(daemon)
        few = len(descriptors(daemon.pid)) + 1
        limit_descriptors(daemon, few)
        daemon.wait(lambda: local_outcomes(daemon) > 0, "probes without a socket")
        limit_descriptors(daemon, 4096)
        daemon.wait_rounds(int(rounds) + 3)
        daemon.wait(lambda: healthy(daemon), "health again")
        assert failures(daemon) == []


def end_of_a_round(daemon: Daemon) -> float:
    """Waits for it: nothing is in flight then. Gives how many rounds there were."""
    before = daemon.series()["dualstack_exporter_rounds_total"]
    daemon.wait_rounds(int(before) + 1)
    return daemon.series()["dualstack_exporter_rounds_total"]


def limit_descriptors(daemon: Daemon, number: int) -> None:
    """As the daemon's own user, who may: root needs CAP_SYS_RESOURCE for it, which containers lack."""
    user = ["setpriv", "--reuid=65532", "--regid=65532", "--clear-groups"]
    subprocess.run([*user, "prlimit", f"--pid={daemon.pid}", f"--nofile={number}:"], check=True)


def local_outcomes(daemon: Daemon) -> float:
    try:
        series = daemon.series()
    except (OSError, urllib.error.URLError):  # no descriptor for the scrape either
        return 0.0
    return sum(value for name, value in series.items() if name.startswith("dualstack_probes_total") and "local" in name)


BATCHES = [[f"b{batch}-{n}" for n in range(16)] for batch in range(3)]


@pytest.fixture
def growing() -> Iterator[Village]:
    with Village(later=[name for batch in BATCHES for name in batch]) as made:
        yield made


def test_namespaces_that_come_and_go_leave_nothing_behind(growing: Village) -> None:
    """Forty-eight of them, made and deleted while rounds run and dials into silence are under way inside each."""
    with growing.daemon(growing.config(targets=swallowed())) as daemon:
        daemon.wait(lambda: healthy(daemon), "a healthy round")
        (broker,) = children_of(daemon.pid)
        end_of_a_round(daemon)
        before = held(daemon.pid, broker)
        for names in BATCHES:
            growing.add(names)
            daemon.wait(
                lambda: daemon.series().get('dualstack_pods{state="eligible"}') == 18, "the new namespaces looked from"
            )
            growing.remove(names)
            daemon.wait(lambda: daemon.series().get('dualstack_pods{state="eligible"}') == 2, "the old ones alone")
            wait(lambda: growing.links_of_router() == 2, "the end of the namespaces themselves")
        for _ in range(2):
            end_of_a_round(daemon)
        after = held(daemon.pid, broker)
        assert all(now <= then + 4 for then, now in zip(before, after, strict=True)), (before, after)
        assert not [link for link in descriptors(broker) + descriptors(daemon.pid) if link.startswith("net:")][1:]
        assert failures(daemon) == []
        assert not any("b0-" in name for name in daemon.series())
        assert daemon.series().get('dualstack_exporter_errors_total{component="round"}', 0) == 0


def held(*pids: int) -> list[int]:
    """Descriptors and threads."""
    return [number for pid in pids for number in (len(descriptors(pid)), threads(pid))]


LISTENER = """
import selectors, socket
selector = selectors.DefaultSelector()
for family, address in ((socket.AF_INET6, "::"), (socket.AF_INET, "0.0.0.0")):
    for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
        s = socket.socket(family, kind)
        if family == socket.AF_INET6: s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        s.bind((address, 53))
        if kind == socket.SOCK_STREAM: s.listen()
        selector.register(s, selectors.EVENT_READ)
print("listening", flush=True)
while True:
    for key, _ in selector.select():
        got = key.fileobj.recvfrom(65535) if key.fileobj.type == socket.SOCK_DGRAM else key.fileobj.accept()
        print("heard", got, flush=True)
"""
HOSTILE = ("127.0.0.1", "169.254.169.254", "fd00:ec2::254", "::1", "8.8.8.8", "2001:4860:4860::8888")


@pytest.fixture
def resolv_conf_of() -> Iterator[Callable[[str, str], None]]:
    """/etc/netns/NAME/resolv.conf, which is what a namespace without a root of its own has."""
    made: list[Path] = []

    def write(name: str, text: str) -> None:
        directory = Path("/etc/netns") / name
        directory.mkdir(parents=True)
        made.append(directory)
        (directory / "resolv.conf").write_text(text)

    yield write
    for directory in made:
        (directory / "resolv.conf").unlink(missing_ok=True)
        directory.rmdir()
    with contextlib.suppress(OSError):
        Path("/etc/netns").rmdir()


def refused(series: Iterable[str]) -> list[str]:
    """Questions of pods to servers that they may not be asked of."""
    words = ("dualstack_dns_lookups_total", 'vantage="pod"', 'server="other"', 'outcome="not_allowed"')
    return [name for name in series if all(word in name for word in words)]


@pytest.mark.parametrize(("first", "size"), [*((address, 1000) for address in HOSTILE), ("127.0.0.1", 10_000)])
def test_a_hostile_resolv_conf_makes_nothing_be_sent(
    village: Village, resolv_conf_of: Callable[[str, str], None], first: str, size: int
) -> None:
    leaf = village.namespace("one")
    others = [a for a in HOSTILE if a != first]
    servers = [first, *others, *(f"10.{n // 65536}.{n // 256 % 256}.{n % 256}" for n in range(size))]
    search = " ".join(f"d{n}.evil.example" for n in range(size))
    lines = [
        *(f"nameserver {a}" for a in servers),
        f"search svc.evil.example {search}",
        "options ndots:99999 attempts:9 timeout:99",
    ]
    resolv_conf_of(leaf, "\n".join(lines) + "\n")
    namespaces.batch(
        {leaf: [f"address add {a}/{128 if ':' in a else 32} dev lo" for a in HOSTILE if a not in {"127.0.0.1", "::1"}]}
    )
    listener = subprocess.Popen(["ip", "netns", "exec", leaf, sys.executable, "-c", LISTENER], stdout=subprocess.PIPE)
    try:
        assert listener.stdout is not None
        assert listener.stdout.readline() == b"listening\n"
        config = village.config(**QUICK).replace("names: []", "names: [{name: pypi.org}]")
        with village.daemon(config) as daemon:
            if size < 10_000:
                daemon.wait(lambda: bool(refused(daemon.series())), "a question that is not asked")
            daemon.wait_rounds(4)
            series = daemon.series()
            log = daemon.log_text()
        assert select.select([listener.stdout], [], [], 0)[0] == []
    finally:
        listener.kill()
        listener.communicate()
    lookups = [name for name in series if name.startswith("dualstack_dns_lookups_total") and 'vantage="pod"' in name]
    assert bool(refused(series)) == (size < 10_000), "a file of more than 64 KiB is not read at all"
    assert len(lookups) < 40
    assert "evil" not in "".join(series) + log
    assert len(series) < 700


def test_a_round_that_overruns_reports_what_it_has_and_says_so(village: Village) -> None:
    """64 dials at a time of which none ends before a second: all of them would take a quarter of a minute."""
    holes = ", ".join(swallowed(f"hole{n}", "1200ms") for n in range(200))

    def outcomes(daemon: Daemon) -> set[str]:
        counted = (n for n in daemon.series() if n.startswith("dualstack_probes_total") and "hole" in n)
        return {name.rpartition('outcome="')[2].partition('"')[0] for name in counted}

    with village.daemon(village.config(targets=holes)) as daemon:
        daemon.wait(lambda: outcomes(daemon) == {"timeout", "local"}, "what was seen, and what was cut")
        series = daemon.series()
        assert series["dualstack_exporter_round_complete"] == 0
        assert "a round was cut by its deadline" in daemon.log_text()
        assert series["dualstack_exporter_round_duration_seconds"] < 10
        report = daemon.report()
        assert len([p for p in report["probes"] if p["target"].startswith("hole")]) == 200 * 2 * 2, "none is lost"


CLOCK = """
import pathlib, sys, time
real, file = time.time, pathlib.Path(sys.argv.pop(1))
time.time = lambda: real() + float(file.read_text() or 0)
from exporter.__main__ import main
sys.exit(main())
"""


@pytest.mark.parametrize("step", [86400.0, -86400.0])
def test_a_stepping_clock_stops_nothing(growing: Village, step: float) -> None:
    """The clock that the exporter's own code reads is moved; the machine's is not."""
    offset = growing.inventory.with_name("offset")
    offset.write_text("0")
    offset.chmod(0o644)
    config = growing.config(more="pods: {sample: 1}")
    with growing.daemon(config, command=(sys.executable, "-c", CLOCK, str(offset))) as daemon:
        daemon.wait(lambda: healthy(daemon) and probed(daemon) == 2, "all probed once")
        replacement = offset.with_name("new")
        replacement.write_text(str(step))
        replacement.chmod(0o644)
        replacement.replace(offset)
        rounds = daemon.series()["dualstack_exporter_rounds_total"]
        assert daemon.get("/-/ready")[0] == 200
        daemon.wait_rounds(int(rounds) + 2)
        assert abs(daemon.series()["dualstack_exporter_last_round_timestamp_seconds"] - time.time() - step) < 60
        assert probed(daemon) == 2, "kept results outlive the step"
        growing.add(BATCHES[0][:2])
        daemon.wait(lambda: probed(daemon) == 4, "everyone's turn still comes")
        assert failures(daemon) == []


def probed(daemon: Daemon) -> float:
    return daemon.series().get("dualstack_pods_probed", 0)


def test_garbage_for_configuration_under_load_changes_nothing(village: Village) -> None:
    good = village.config()
    chance = random.Random(1)
    with village.daemon(good) as daemon:
        daemon.wait(lambda: healthy(daemon), "a healthy round")
        ending = threading.Event()
        scrapers = [threading.Thread(target=scrape_until, args=(daemon, ending)) for _ in range(3)]
        for scraper in scrapers:
            scraper.start()
        try:
            for size in (0, 1, 100, 10_000, 2_000_000):
                daemon.config.write_bytes(b"\xff" + chance.randbytes(size))
                daemon.process.send_signal(signal.SIGHUP)
                status, said = reload(daemon)
                assert status == 500
                assert said.count("\n") == 1
            daemon.config.unlink()
            daemon.config.mkdir()
            assert reload(daemon)[0] == 500
            daemon.config.rmdir()
            os.mkfifo(daemon.config)
            assert reload(daemon)[0] == 500
            daemon.config.unlink()
            assert reload(daemon)[0] == 500
            assert daemon.series()["dualstack_exporter_config_last_reload_successful"] == 0
            daemon.wait(lambda: healthy(daemon), "rounds that go on as before")
            assert "router" in daemon.get("/config")[1]
            daemon.config.write_text(good)
            assert reload(daemon)[0] == 200
            assert daemon.series()["dualstack_exporter_config_last_reload_successful"] == 1
        finally:
            ending.set()
            for scraper in scrapers:
                scraper.join()
        assert failures(daemon) == []


def scrape_until(daemon: Daemon, ending: threading.Event) -> None:
    while not ending.is_set():
        assert daemon.get("/metrics")[0] == 200


def reload(daemon: Daemon) -> tuple[int, str]:
    request = urllib.request.Request(f"http://[::1]:{daemon.port}/-/reload", method="POST")
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_a_config_map_is_taken_up_when_its_symlink_is_swapped(village: Village, tmp_path: Path) -> None:
    """As the kubelet does it: ..data is a symlink to a directory of its own, swapped by rename."""
    good = village.config()
    with village.daemon(good) as daemon:
        daemon.wait_ready()
        volume = daemon.config.parent
        for name, text in (("first", good), ("second", good.replace("name: router", "name: swapped"))):
            (volume / name).mkdir()
            (volume / name / "config.yaml").write_text(text)
        (volume / "..data").symlink_to("first")
        daemon.config.unlink()
        daemon.config.symlink_to("..data/config.yaml")
        (volume / "..next").symlink_to("second")
        (volume / "..next").rename(volume / "..data")
        daemon.wait(lambda: any('target="swapped"' in name for name in daemon.series()), "the new target")
        assert daemon.series()["dualstack_exporter_config_last_reload_successful"] == 1


def test_a_reload_never_changes_where_it_listens(village: Village) -> None:
    with village.daemon(village.config()) as daemon:
        daemon.wait_ready()
        before = listening(daemon.pid)
        daemon.config.write_text(village.config(more="node_name: elsewhere").replace("node_name: here\n", ""))
        assert reload(daemon)[0] == 200
        assert listening(daemon.pid) == before
        assert 'node="here"' in "".join(daemon.series()), "a node's name changes at a restart only"


def listening(pid: int) -> list[str]:
    shown = subprocess.run(["ss", "-Hltnp"], capture_output=True, text=True, check=True).stdout
    return sorted(line.split()[3] for line in shown.splitlines() if f"pid={pid}," in line)


def test_a_full_disk_under_the_log_stops_nothing(village: Village) -> None:
    prefix = ("sh", "-c", 'exec "$@" 2>/dev/full >/dev/full', "sh")
    with village.daemon(village.config(), prefix=prefix) as daemon:
        daemon.wait(lambda: healthy(daemon), "a healthy round")
        end_of_a_round(daemon)
        assert daemon.get("/")[0] == 200


def test_its_end_in_the_middle_of_a_round_leaves_nothing_behind(village: Village, tmp_path: Path) -> None:
    config = village.config(interval="20s", timeout="19s", targets=swallowed(timeout="19s"))
    with village.daemon(config) as daemon:
        (broker,) = wait_for_children(daemon)
        daemon.wait(lambda: bool(dials(village)), "a dial under way")
        before = daemon.log_text()
        daemon.process.send_signal(signal.SIGTERM)
        assert daemon.process.wait(PATIENCE) == 0
        said = daemon.log_text().removeprefix(before)
        assert "round finished" not in said, "the dial, and the round with it, was waited for"
        assert not Path(f"/proc/{broker}").exists()
        assert "error" not in daemon.log_text()
    village.remove(["one", "two"])
    wait(lambda: village.links_of_router() == 0, "the end of the namespaces")


def wait_for_children(daemon: Daemon) -> list[int]:
    daemon.wait(lambda: bool(children_of(daemon.pid)), "a broker")
    return children_of(daemon.pid)


def dials(village: Village) -> list[str]:
    return namespaces.run_inside(village.namespace("one"), "ss", "-Htn", "state", "syn-sent").splitlines()


def test_its_end_while_the_broker_is_stopped_is_an_end_all_the_same(village: Village) -> None:
    with village.daemon(village.config()) as daemon:
        daemon.wait_ready()
        (broker,) = children_of(daemon.pid)
        os.kill(broker, signal.SIGSTOP)
        try:
            daemon.process.send_signal(signal.SIGTERM)
            assert daemon.process.wait(PATIENCE) == 0
            assert "the broker is stopped" in daemon.log_text()
            assert "Traceback" not in daemon.log_text()
        finally:
            os.kill(broker, signal.SIGCONT)
        wait(lambda: not Path(f"/proc/{broker}").exists(), "the broker's end")


def test_a_broker_of_its_own_container_removes_its_socket(village: Village, tmp_path: Path) -> None:
    path = tmp_path / "broker.sock"
    broker = subprocess.Popen(
        [sys.executable, "-m", "exporter", "broker", f"--socket={path}"], cwd=ROOT, stderr=subprocess.DEVNULL
    )
    try:
        with village.daemon(village.config(), f"--broker.socket={path}") as daemon:
            daemon.wait(lambda: healthy(daemon), "a healthy round")
            assert children_of(daemon.pid) == []
            broker.send_signal(signal.SIGTERM)
            assert broker.wait(PATIENCE) == 0
            assert daemon.process.wait(PATIENCE) == 1
            assert "the broker ended" in daemon.log_text()
        assert not path.exists()
    finally:
        broker.kill()
        broker.wait()


def test_a_broker_that_never_comes_is_one_line(tmp_path: Path) -> None:
    done = run_exporter("check", f"--broker.socket={tmp_path / 'nowhere'}")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert "nowhere" in done.stderr
