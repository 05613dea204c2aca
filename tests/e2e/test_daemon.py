"""The main job: the daemon on a host without Kubernetes, looking from inside the namespaces that really are there."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from exporter.daemon.broker_session import HIDDEN
from tests.e2e.daemon import PATIENCE, Daemon, children_of, run_exporter, status_of
from tests.e2e.village import paced
from tests.kernel import namespaces

pytestmark = pytest.mark.real


@pytest.fixture
def world() -> Iterator[dict[str, str]]:
    """Two namespaces behind a router: `both` has both families, `four` no IPv6; a server at the router listens over
    each.
    """
    prefix = namespaces.unique_prefix()
    names = {name: f"{prefix}{name}" for name in ("router", "both", "four")}
    for name in names.values():
        namespaces.run("ip", "netns", "add", name)
    try:
        _wire(names)
        yield names
    finally:
        for name in names.values():
            subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)


def _wire(names: dict[str, str]) -> None:
    router = names["router"]
    for number, leaf in enumerate(("both", "four"), 1):
        namespaces.run(
            "ip",
            "-n",
            router,
            "link",
            "add",
            f"to-{leaf}",
            "type",
            "veth",
            "peer",
            "name",
            "eth0",
            "netns",
            names[leaf],
        )
        six = [
            f"-n {router} address add 2001:db8:{number}::1/64 dev to-{leaf} nodad",
            f"-n {names[leaf]} address add 2001:db8:{number}::2/64 dev eth0 nodad",
        ]
        four = [
            f"-n {router} address add 192.0.2.{number * 16 + 1}/28 dev to-{leaf}",
            f"-n {names[leaf]} address add 192.0.2.{number * 16 + 2}/28 dev eth0",
        ]
        up = [
            f"-n {router} link set to-{leaf} up",
            f"-n {names[leaf]} link set eth0 up",
            f"-n {names[leaf]} link set lo up",
        ]
        routes = [f"-n {names[leaf]} route add default via 192.0.2.{number * 16 + 1}"]
        if leaf == "both":
            routes.append(f"-n {names[leaf]} -6 route add default via 2001:db8:{number}::1")
        else:
            six = []
        for line in (*up, *six, *four, *routes):
            namespaces.run("ip", *line.split())
    namespaces.run("ip", "-n", router, "link", "set", "lo", "up")


CONFIG = """
families: [IPv4, IPv6]
node_name: here
{pace}netns: {{include: ["{prefix}*"]}}
pods: {{sample: 1000}}
dns: {{names: []}}
targets:
  - {{name: router, host: router.test, addresses: ["2001:db8:1::1", 192.0.2.17], port: 8443, layers: [icmp,
      tcp], vantages: [pod]}}
"""


def _config(world: dict[str, str]) -> str:
    return CONFIG.format(prefix=world["router"].removesuffix("router"), pace=paced())


def _serve(world: dict[str, str]) -> subprocess.Popen[bytes]:
    server = "import socket,time\nfor f,a in ((10,'::'),(2,'0.0.0.0')):\n s=socket.socket(f);s.setsockopt(1,2,1)\n"
    server += " f==10 and s.setsockopt(41,26,1)\n s.bind((a,8443));s.listen(64);globals()['s%d'%f]=s\n"
    server += "print(flush=True)\ntime.sleep(600)"
    process = namespaces.start_inside(world["router"], "python3", "-c", server, stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    return process


def test_it_tells_which_family_fails_at_which_layer_from_each_namespace(world: dict[str, str]) -> None:
    server = _serve(world)
    both, four = f"pod/netns/{world['both']}", f"pod/netns/{world['four']}"
    wanted = {(both, layer, family): "ok" for layer in ("icmp", "tcp") for family in ("IPv4", "IPv6")}
    wanted |= {(four, layer, "IPv4"): "ok" for layer in ("icmp", "tcp")}
    wanted |= {(four, layer, "IPv6"): "unreachable" for layer in ("icmp", "tcp")}
    try:
        with Daemon(_config(world)) as daemon:
            daemon.wait(lambda: {"ipv6_unreachable", "pod_ipv6_missing"} <= {*daemon.causes()}, "both causes")
            daemon.wait(lambda: wanted.items() <= daemon.outcomes().items(), "what each family does in each namespace")
            causes = daemon.causes()
            series = daemon.series()
            page = daemon.get("/")[1]
            scrape = daemon.get("/metrics")[1]
            log = daemon.log_text()
    finally:
        server.kill()
        server.communicate()
    assert len(re.findall(r'level=warn .*msg="cause begins" cause=pod_ipv6_missing severity=\w+ subjects=', log)) == 1
    assert 'msg="first round finished"' in log
    named = {s for s in causes["pod_ipv6_missing"]["subjects"] if s.startswith("pod/netns/")}
    assert named == {four}
    assert causes["ipv6_unreachable"]["explained_by"] == "pod_ipv6_missing"
    assert series['dualstack_pods{state="eligible"}'] >= 3, "containers of this machine count as well"
    assert world["four"] in page
    checked = subprocess.run(
        ["promtool", "check", "metrics"], input=scrape, capture_output=True, text=True, check=False
    )
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")


def test_the_main_process_holds_no_capability_and_cannot_get_one(world: dict[str, str]) -> None:
    with Daemon(_config(world)) as daemon:
        daemon.wait_ready()
        status = status_of(daemon.pid)
        brokers = children_of(daemon.pid)
        kept = [status_of(child)["CapEff"] for child in brokers]
    assert {status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")} == {"0" * 16}
    assert status["NoNewPrivs"] == "1"
    assert set(status["Uid"].split()) == {"65532"}
    assert kept == ["0000000000283000"]  # NET_ADMIN NET_RAW SYS_PTRACE SYS_ADMIN


def test_the_end_of_the_broker_is_the_end_of_the_daemon(world: dict[str, str]) -> None:
    with Daemon(_config(world)) as daemon:
        daemon.wait_ready()
        os.kill(children_of(daemon.pid)[0], signal.SIGKILL)
        assert daemon.process.wait(PATIENCE) == 1
        assert "the broker ended" in daemon.log_text()


def test_the_end_of_the_daemon_is_the_end_of_the_broker(world: dict[str, str]) -> None:
    with Daemon(_config(world)) as daemon:
        daemon.wait_ready()
        broker = children_of(daemon.pid)[0]
        daemon.process.send_signal(signal.SIGTERM)
        assert daemon.process.wait(PATIENCE) == 0
        assert not Path(f"/proc/{broker}").exists()


def test_a_bad_configuration_keeps_the_old_one_and_a_good_one_is_taken_up(
    world: dict[str, str], tmp_path: Path
) -> None:
    with Daemon(_config(world)) as daemon:
        daemon.wait_ready()
        daemon.config.write_text("targets: [{nme: x}]")
        daemon.process.send_signal(signal.SIGHUP)
        daemon.wait(lambda: daemon.series()["dualstack_exporter_config_last_reload_successful"] == 0, "the refusal")
        assert "targets[0].nme" in daemon.log_text()
        assert "router" in daemon.get("/config")[1]
        banner, _, below = daemon.get("/")[1].partition('aria-label="Families"')
        assert "The configuration was not reloaded." in banner
        assert "targets[0].nme" in banner
        assert below
        daemon.config.write_text(_config(world).replace("name: router", "name: renamed"))
        daemon.wait(lambda: any('target="renamed"' in name for name in daemon.series()), "the new target")
        assert daemon.series()["dualstack_exporter_config_last_reload_successful"] == 1
        assert [name for name in daemon.series() if "success_ratio" in name and 'target="router"' in name] == []
        assert "not reloaded" not in daemon.get("/")[1]


def test_a_namespace_that_goes_takes_its_series_along(world: dict[str, str]) -> None:
    with Daemon(_config(world)) as daemon:
        daemon.wait(lambda: any(f'pod="{world["four"]}"' in name for name in daemon.series()), "the failing one")
        namespaces.run("ip", "netns", "delete", world["four"])
        daemon.wait(lambda: not any(world["four"] in name for name in daemon.series()), "its end")


def test_what_healed_is_on_the_page_with_its_evidence(world: dict[str, str]) -> None:
    with Daemon(_config(world).replace('*"]}', '*"], containers: false}')) as daemon:
        daemon.wait(lambda: "pod_ipv6_missing" in daemon.causes(), "the cause")
        assert "Nothing healed since" in daemon.get("/")[1]
        namespaces.run("ip", "netns", "delete", world["four"])
        told = f"pod_ipv6_missing</a> lasted .*pod/netns/{world['four']}"
        daemon.wait(lambda: re.search(told, daemon.get("/")[1]) is not None, "its end on the page")


def test_the_default_run_says_which_questions_it_sends(world: dict[str, str]) -> None:
    """In the log when it starts, and after the report of a check."""
    alone = "netns: {include: [], containers: false}\n"
    with Daemon(f"{alone}{paced()}", prefix=("nsenter", f"--net=/run/netns/{world['both']}")) as daemon:
        daemon.wait(lambda: "first round finished" in daemon.log_text(), "a round")
        told = next(line for line in daemon.log_text().splitlines() if "DNS questions of each round" in line)
        assert "ipv4only.arpa (A, AAAA, MX), RANDOM.ipv4only.arpa (A, AAAA)" in told
        assert "key=dns.names" in told
        done = run_exporter("check", f"--config.file={daemon.config}", namespace=world["both"])
    asked = done.stdout.partition("DNS questions: asked ")[2]
    assert "ipv4only.arpa (A, AAAA, MX)" in " ".join(asked.split())
    assert "Set dns.names to change them." in " ".join(asked.split())


def test_it_runs_where_the_unprivileged_uid_cannot_read_the_code(world: dict[str, str], tmp_path: Path) -> None:
    """A checkout under a private home directory."""
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    subprocess.run(["cp", "-r", "exporter", str(private)], check=True)
    with Daemon(_config(world), environment={"PYTHONPATH": str(private), "PYTHONSAFEPATH": "1"}) as daemon:
        daemon.wait_rounds(2)
        assert daemon.series().get('dualstack_exporter_errors_total{component="round"}', 0) == 0
        assert daemon.get("/")[0] == 200
        assert Path(f"/proc/{daemon.pid}/maps").exists()


def test_without_root_it_runs_and_names_what_it_cannot_see() -> None:
    nothing = ["--bounding-set=-all", "--inh-caps=-all"]
    prefix = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *nothing]
    if subprocess.run([*prefix, sys.executable, "-c", ""], check=False, capture_output=True).returncode:
        prefix = ["setpriv", *nothing]  # a Python under /root: the uid that can read it, without any capability
    with Daemon("round: {interval: 1s, timeout: 900ms}", prefix=prefix) as daemon:
        daemon.wait_ready()
        for capability, hidden in HIDDEN.items():
            assert re.search(rf'capability={capability} hidden="?{hidden}', daemon.log_text())
        assert "needs CAP_NET_ADMIN" in daemon.get("/")[1]
        assert daemon.series()['dualstack_reader_success{reader="links"}'] == 1
        assert daemon.series()['dualstack_reader_success{reader="nat"}'] == 0


@pytest.mark.parametrize(
    ("arguments", "config", "says"),
    [
        ((), "tragets: []", "tragets"),
        ((), "round: {interval: soon}", "round.interval"),
        ((), "targets: [{name: a, host: a.test, port: 70000}]", "targets[0].port"),
        (("--web.listen-address=nowhere",), "", "nowhere"),
        (("--web.telemetry-path=/config",), "", "/config"),
        (("--web.config.file=/nonexistent",), "", "/nonexistent"),
        (("--inventory.file=/nonexistent",), "", "/nonexistent"),
    ],
)
def test_bad_input_is_one_clear_line_and_status_2(
    arguments: tuple[str, ...], config: str, says: str, tmp_path: Path
) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(config)
    done = run_exporter(f"--config.file={file}", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert says in done.stderr
    assert done.stderr.count("\n") == 1


def test_an_address_in_use_is_one_clear_line_and_status_2() -> None:
    with socket.socket(socket.AF_INET6) as taken:
        taken.bind(("::1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = run_exporter(f"--web.listen-address=[::1]:{port}")
    assert done.returncode == 2
    assert str(port) in done.stderr
    assert done.stderr.count("\n") == 1
