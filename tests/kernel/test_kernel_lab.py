"""The lab itself: its cluster carries real traffic, and each path fault breaks what it says and leaves the rest."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.kernel.calico import Lab
from tests.kernel.calico_faults import PATH_FAULTS
from tests.kernel.calico_nodes import BACKENDS, OUTSIDE4, OUTSIDE6, SERVICE4, SERVICE6, LabNode, LabPod
from tests.kernel.namespaces import path_of

pytestmark = pytest.mark.real

SERVER = """
import socket
server = socket.create_server(("::", 8080), family=socket.AF_INET6, dualstack_ipv6=True)
print("ready", flush=True)
while True:
    client, peer = server.accept()
    client.sendall(peer[0].removeprefix("::ffff:").encode())
    client.close()
"""


def serve(lab: Lab, namespace: str) -> None:
    started = lab.start(namespace, sys.executable, "-c", SERVER, stdout=subprocess.PIPE)
    assert started.stdout is not None
    assert started.stdout.readline()
    started.stdout.close()


LONG, SHORT = 30.0, 0.7  # seconds for what should come, and for what should not


def ask(address: str, port: int, seconds: float = LONG) -> str:
    """Who the server says we are; "" without an answer."""
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as client:
        client.settimeout(seconds)
        try:
            client.connect((address, port))
            return client.recv(100).decode()
        except OSError:
            return ""


def echo(lab: Lab, namespace: str, address: str, seconds: float, size: int = 56) -> bool:
    argv = [
        "nsenter",
        f"--net={path_of(namespace)}",
        "ping",
        "-c",
        "1",
        "-W",
        str(seconds),
        "-M",
        "do",
        "-s",
        str(size),
        address,
    ]
    return subprocess.run(argv, capture_output=True, check=False).returncode == 0


@pytest.fixture(scope="module", params=BACKENDS)
def lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    with Lab(backend=request.param) as made:
        for place in (made.outside, *(node.pods[0].netns for node in made.nodes)):
            serve(made, place)
        yield made


def test_pods_leave_the_cluster_behind_their_nodes_address(lab: Lab) -> None:
    node = lab.nodes[0]
    assert lab.call(node.pods[1].netns, ask, OUTSIDE6, 8080) == node.address6
    assert lab.call(node.pods[1].netns, ask, OUTSIDE4, 8080) == node.address4


def test_pods_meet_each_other_and_the_service_without_translation(lab: Lab) -> None:
    pod, peer = lab.nodes[0].pods[1], lab.nodes[1].pods[0]
    assert lab.call(pod.netns, ask, peer.address6, 8080) == pod.address6
    assert lab.call(pod.netns, ask, peer.address4, 8080) == pod.address4
    assert lab.call(pod.netns, ask, SERVICE6, 80) == pod.address6
    assert lab.call(pod.netns, ask, SERVICE4, 80) == pod.address4


@pytest.fixture(scope="module")
def one() -> Iterator[Lab]:
    with Lab() as made:
        for place in (made.outside, made.nodes[0].pods[0].netns, made.nodes[1].pods[0].netns):
            serve(made, place)
        yield made


PROBES: dict[str, Callable[[Lab, str, LabPod, float], bool]] = {
    "echo outside": lambda lab, pod, _, seconds: echo(lab, pod, OUTSIDE6, seconds),
    "full echo outside": lambda lab, pod, _, seconds: echo(lab, pod, OUTSIDE6, seconds, 1430 - 48),
    "tcp6 outside": lambda lab, pod, _, seconds: bool(lab.call(pod, ask, OUTSIDE6, 8080, seconds)),
    "tcp4 outside": lambda lab, pod, _, seconds: bool(lab.call(pod, ask, OUTSIDE4, 8080, seconds)),
    "echo peer": lambda lab, pod, peer, seconds: echo(lab, pod, peer.address6, seconds),
    "full echo peer": lambda lab, pod, peer, seconds: echo(lab, pod, peer.address6, seconds, 1430 - 48),
    "tcp6 peer": lambda lab, pod, peer, seconds: bool(lab.call(pod, ask, peer.address6, 8080, seconds)),
    "tcp4 peer": lambda lab, pod, peer, seconds: bool(lab.call(pod, ask, peer.address4, 8080, seconds)),
}
BROKEN = {
    "fabric_mtu": {"full echo outside", "full echo peer"},
    "outside_tcp6_blocked": {"tcp6 outside"},
    "outside_ipv6_blocked": {"echo outside", "full echo outside", "tcp6 outside"},
    "outside_mtu_blackhole": {"full echo outside"},
    "tunnel_tcp6_dropped": {"tcp6 peer"},
}


def test_every_path_fault_has_its_expectation() -> None:
    assert set(BROKEN) == set(PATH_FAULTS)


@pytest.mark.parametrize("fault", ["", *BROKEN])
def test_a_path_fault_breaks_what_it_says_and_nothing_else(one: Lab, fault: str) -> None:
    pod, peer = one.nodes[0].pods[1].netns, one.nodes[1].pods[0]
    if fault:
        one.fault(fault)
    expected = BROKEN.get(fault, set())
    try:
        broken = {
            name for name, probe in PROBES.items() if not probe(one, pod, peer, SHORT if name in expected else LONG)
        }
    finally:
        one.heal()
    assert broken == expected


def test_nothing_stays_behind() -> None:
    with Lab(node_count=1, pod_count=1) as lab:
        names = lab.all_namespaces()
        started = lab.start(lab.outside, "sleep", "60")
        assert all(Path(path_of(name)).exists() for name in names)
    assert started.poll() is not None
    assert not any(Path(path_of(name)).exists() for name in names)


def test_nothing_stays_behind_when_the_set_up_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    lab = Lab(node_count=1, pod_count=1)

    def fail(_: LabNode) -> None:
        assert all(Path(path_of(name)).exists() for name in lab.all_namespaces())
        raise ZeroDivisionError

    monkeypatch.setattr(lab, "write_rules", fail)
    with pytest.raises(ZeroDivisionError):
        lab.__enter__()
    assert not any(Path(path_of(name)).exists() for name in lab.all_namespaces())
