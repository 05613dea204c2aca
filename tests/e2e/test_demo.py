"""`make demo` as people and machines start it: with and without a terminal, over each family of localhost."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.e2e.daemon import PATIENCE, ROOT
from tests.kernel import namespaces
from tests.lab.faults import FAULTS

pytestmark = pytest.mark.real

FAULT = "masquerade_rule_removed"
# The demonstration's exporter, until something is written to its stdin; then a fault, after which it is asked again.
SERVE = """
from scripts.demo import exporter_in
from tests.lab.cluster import Cluster
from tests.lab.faults import FAULTS
with Cluster() as cluster, exporter_in(cluster):
    print("ready", flush=True)
    input()
    FAULTS["{fault}"].act(cluster)
    print("broken", flush=True)
    input()
"""
FETCH = "import sys, urllib.request as u; sys.stdout.write(u.urlopen(sys.argv[1], timeout=30).read().decode())"


@pytest.fixture
def machine() -> Iterator[list[str]]:
    """A machine of its own, on which port 10046 is free: the beginning of a command there."""
    name = f"{namespaces.unique_prefix()}demo"
    namespaces.run("ip", "netns", "add", name)
    try:
        namespaces.run("ip", "-n", name, "link", "set", "lo", "up")
        yield ["nsenter", f"--net=/run/netns/{name}"]
    finally:
        namespaces.run("ip", "netns", "delete", name)


def test_without_a_terminal_it_shows_all_three_states_and_ends(machine: list[str]) -> None:
    done = subprocess.run(
        [*machine, sys.executable, "-m", "scripts.demo", FAULT],
        cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=2 * PATIENCE, check=False,
        start_new_session=True,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    healthy, _, rest = done.stdout.partition(f"Broken: {FAULT}")
    broken, _, healed = rest.partition("Healed:")
    assert ["nat_masquerade_missing" in part for part in (healthy, broken, healed)] == [False, True, False]
    assert "[Enter]" not in done.stdout


@pytest.mark.parametrize("fault", ["node_ipv6_disabled"])
def test_the_page_is_at_localhost_over_both_families_whatever_the_fault(machine: list[str], fault: str) -> None:
    assert fault in FAULTS
    with subprocess.Popen(
        [*machine, sys.executable, "-c", SERVE.format(fault=fault)],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as demo:  # fmt: skip
        assert demo.stdin is not None
        assert demo.stdout is not None
        for state in ("ready\n", "broken\n"):
            assert demo.stdout.readline() == state
            for host in ("127.0.0.1", "[::1]"):
                fetch = [*machine, sys.executable, "-c", FETCH, f"http://{host}:10046/"]
                page = subprocess.run(fetch, capture_output=True, text=True, timeout=PATIENCE, check=True).stdout
                assert "dualstack-exporter" in page
            demo.stdin.write("\n")
            demo.stdin.flush()
        assert demo.wait(PATIENCE) == 0
