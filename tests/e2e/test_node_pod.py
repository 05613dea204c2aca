"""The image as the DaemonSet runs it: two containers with the manifest's users and capabilities beside a pod in its own
network.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.daemon import status_of
from tests.e2e.image import NOFILE, NPROC, Podman, build_image, own_podman
from tests.e2e.node_pod import NodePod, node_template, pod_uid, remove_cgroup
from tests.e2e.village import paced
from tests.kernel import namespaces

pytestmark = pytest.mark.real

CONFIG = """
families: [IPv4, IPv6]
PACEinventory: {source: file, file: inventory.yaml}
dns: {names: [], servers: []}
targets:
  - {name: gateway, host: gateway.test, addresses: ["2001:db8:77::1", 192.0.2.1], port: 8443, layers: [icmp,
      tcp], vantages: [host, pod]}
""".replace("PACE", paced())


def inventory(uid: str) -> str:
    """One node and the one pod on it, as `kubectl get nodes,pods -o json` would print them."""
    node = {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": "ra", "uid": "node-ra"},
        "status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.1"}]},
    }
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"namespace": "shop", "name": "web", "uid": uid, "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"nodeName": "ra", "containers": [{"name": "web", "image": "web"}]},
        "status": {
            "phase": "Running",
            "startTime": "2026-01-01T00:00:00Z",
            "podIP": "192.0.2.2",
            "podIPs": [{"ip": "192.0.2.2"}, {"ip": "2001:db8:77::2"}],
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    }
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": [node, pod]})


@pytest.fixture(scope="module")
def podman() -> Podman:
    return own_podman()


@pytest.fixture(scope="module")
def image(podman: Podman) -> str:
    return build_image(podman)


@pytest.fixture(scope="module")
def networks() -> Iterator[tuple[str, str]]:
    """The node's network and a pod's, joined by a veth; something listens on the node over both families."""
    prefix = namespaces.unique_prefix()
    node, pod = f"{prefix}node", f"{prefix}pod"
    server = None
    namespaces.create([node, pod])
    try:
        namespaces.batch(
            {
                node: [
                    f"link add eth0 type veth peer name eth0 netns {pod}",
                    "link set lo up",
                    "link set eth0 up",
                    "address add 192.0.2.1/24 dev eth0",
                    "address add 2001:db8:77::1/64 dev eth0 nodad",
                ]
            }
        )
        namespaces.batch(
            {
                pod: [
                    "link set lo up",
                    "link set eth0 up",
                    "address add 192.0.2.2/24 dev eth0",
                    "address add 2001:db8:77::2/64 dev eth0 nodad",
                    "route add default via 192.0.2.1",
                    "route add ::/0 via 2001:db8:77::1",
                ]
            }
        )
        listen = (
            "import socket, time; s = socket.create_server(('::', 8443), family=socket.AF_INET6, dualstack_ipv6=True)\n"
            "print(flush=True)\ntime.sleep(3600)"
        )
        server = namespaces.python_inside(node, listen, stdout=subprocess.PIPE)
        assert server.stdout is not None
        server.stdout.readline()
        yield node, pod
    finally:
        if server is not None:
            server.kill()
            server.communicate()
        namespaces.delete([node, pod])


@pytest.fixture(scope="module")
def workload(podman: Podman, image: str, networks: tuple[str, str]) -> Iterator[str]:
    """A container in the pod's network and in a cgroup as the kubelet names it; gives the pod's uid."""
    uid = pod_uid()
    name = f"{networks[1]}-web"
    options = [
        "--no-healthcheck",
        "--ulimit",
        NOFILE,
        "--ulimit",
        NPROC,
        "--cgroup-parent",
        f"/kubepods/burstable/pod{uid}",
    ]
    options += ["--network", f"ns:/run/netns/{networks[1]}", "--entrypoint", "sleep"]
    podman("run", "--detach", "--name", name, *options, image, "3600")
    try:
        move_out_of_the_pod(podman, name)
        yield uid
    finally:
        subprocess.run(podman.command("rm", "--force", "--time", "0", name), check=False, capture_output=True)
        remove_cgroup(uid)


def move_out_of_the_pod(podman: Podman, container: str) -> None:
    """Podman's monitor stands in the pod's cgroup, but in this machine's network, which is not that of our node."""
    monitor = json.loads(podman("container", "inspect", container))[0]["State"]["ConmonPid"]
    roots = [Path("/sys/fs/cgroup/cgroup.procs"), *Path("/sys/fs/cgroup").glob("*/cgroup.procs")]
    for root in roots:
        if root.exists() and not root.parent.is_symlink():
            root.write_text(str(monitor))


@pytest.fixture(scope="module")
def node_pod(
    podman: Podman, image: str, networks: tuple[str, str], workload: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[NodePod]:
    scratch = tmp_path_factory.mktemp("volumes")
    for directory in (scratch, *scratch.parents[:2]):
        directory.chmod(0o755)  # the containers see the mounts, not the way to them; podman itself needs it
    pod = NodePod(
        podman,
        image,
        name=f"{networks[0]}-exporter",
        network=networks[0],
        node="ra",
        files={"config.yaml": CONFIG, "inventory.yaml": inventory(workload)},
        scratch=scratch,
    )
    try:
        pod.wait_ready()
        yield pod
    finally:
        pod.close()


def test_it_probes_from_inside_the_pod_over_both_families(node_pod: NodePod) -> None:
    wanted = {
        f'dualstack_probe_success_ratio{{ip_family="{family}",layer="{layer}",target="gateway",vantage="{vantage}"}}': 1
        for vantage in ("host", "pod")
        for layer in ("icmp", "tcp")
        for family in ("IPv4", "IPv6")
    }
    node_pod.wait(lambda: wanted.items() <= node_pod.series().items(), "every probe passes")
    series = node_pod.series()
    assert series['dualstack_pods{state="eligible"}'] == 1
    assert series['dualstack_exporter_info{node="ra",role="node"}'] == 1


def test_the_pod_is_known_by_its_cgroup(node_pod: NodePod) -> None:
    probes = json.loads(node_pod.get("/api/v1/report")[1])["probes"]
    assert {probe["subject"] for probe in probes if probe["vantage"] == "pod"} == {"pod/shop/web"}


def test_no_reader_fails_for_want_of_a_right(node_pod: NodePod) -> None:
    series = node_pod.series()
    failed = [name for name, value in series.items() if name.startswith("dualstack_reader_success") and value == 0]
    assert failed == [], node_pod.logs()
    refused = [name for name in series if "cause_unchecked" in name and ('"no_permission"' in name or '"lsm"' in name)]
    assert refused == []


def test_each_process_has_the_power_that_the_manifest_gives_it(node_pod: NodePod) -> None:
    broker, exporter = status_of(node_pod.pid("broker")), status_of(node_pod.pid("exporter"))
    assert broker["CapEff"] == broker["CapBnd"] == "0000000000283000"  # NET_ADMIN NET_RAW SYS_PTRACE SYS_ADMIN
    assert {exporter[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
    assert set(exporter["Uid"].split()) == {"65532"}
    assert broker["NoNewPrivs"] == exporter["NoNewPrivs"] == "1"
    assert broker["Seccomp"] == exporter["Seccomp"] == "2"


def test_a_person_can_ask_it_from_within(node_pod: NodePod) -> None:
    """`kubectl exec ds/dualstack-exporter -- dualstack-exporter check`: the running broker is found at its usual
    place.
    """
    done = node_pod.execute(
        "exporter", "dualstack-exporter", "check", "--config.file=/etc/dualstack-exporter/config.yaml"
    )
    assert done.stdout.splitlines()[0] == "[ra] IPv6:✓ IPv4:✓", done.stdout + done.stderr


def test_the_images_healthcheck_passes(node_pod: NodePod) -> None:
    code = "from urllib.request import urlopen; urlopen('http://localhost:10046/-/healthy', timeout=60)"
    done = node_pod.execute("exporter", "python", "-c", code)
    assert done.returncode == 0, done.stderr


def test_its_memory_limits_leave_room(node_pod: NodePod) -> None:
    for container in node_template()["spec"]["containers"]:
        status = status_of(node_pod.pid(container["name"]))
        limit = int(container["resources"]["limits"]["memory"].removesuffix("Mi")) * 1024
        assert int(status["VmHWM"].split()[0]) < limit / 2, container["name"]


def test_the_end_of_the_broker_is_the_end_of_the_exporter(node_pod: NodePod, podman: Podman) -> None:
    """Last: the kubelet would start both again."""
    podman("kill", "--signal", "KILL", node_pod.containers[0])
    podman("wait", node_pod.containers[1])
    assert not node_pod.state("exporter")["Running"]
