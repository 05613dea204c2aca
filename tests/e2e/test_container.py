"""A real container: found without Kubernetes by its cgroup's 64 digits, tied to its Pod by the kubelet's cgroup."""

from __future__ import annotations

import json
import subprocess
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.daemon import Daemon
from tests.e2e.image import NOFILE, NPROC, Podman, own_podman
from tests.e2e.node_pod import pod_uid, remove_cgroup
from tests.e2e.village import paced
from tests.kernel import namespaces

pytestmark = pytest.mark.real

SLEEP = "#include <unistd.h>\nint main(void) { for (;;) pause(); }\n"
# Inside the container's namespace: a nameserver that has no record of anything, and a listener for dials.
NEIGHBOUR = """
import selectors, socket
selector = selectors.DefaultSelector()
for family, address in ((socket.AF_INET6, "2001:db8:cc::9"), (socket.AF_INET, "203.0.113.9")):
    s = socket.socket(family); s.bind((address, 8443)); s.listen()
    selector.register(s, selectors.EVENT_READ)
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(("192.0.2.53", 53))
selector.register(s, selectors.EVENT_READ)
print(flush=True)
while True:
    for key, _ in selector.select():
        if key.fileobj.type == socket.SOCK_STREAM:
            key.fileobj.accept()[0].close()
        else:
            query, who = s.recvfrom(512)
            s.sendto(query[:2] + bytes([0x81, 0x80]) + query[4:], who)
"""
CONFIG = """
families: [IPv4, IPv6]
node_name: here
PACEnetns: {include: []}
pods: {sample: 1000}
dns: {names: [{name: pypi.org}], allow: [192.0.2.53/32]}
targets:
  - {name: web, host: web.test, addresses: ["2001:db8:cc::9", 203.0.113.9], port: 8443, layers: [icmp, tcp],
      vantages: [pod]}
""".replace("PACE", paced())


@dataclass(frozen=True)
class Container:
    ident: str
    uid: str  # of the Pod whose cgroup it lives in


@pytest.fixture
def container(tmp_path: Path) -> Iterator[Container]:
    """A container whose root holds one static program, in a namespace of the test's, with a resolv.conf of its own."""
    podman, network, uid = own_podman(), f"{namespaces.unique_prefix()}cc", pod_uid()
    root = tmp_path / "root"
    (root / "etc").mkdir(parents=True)
    (tmp_path / "sleep.c").write_text(SLEEP)
    namespaces.run("musl-gcc", "-static", "-Os", "-o", str(root / "sleep"), str(tmp_path / "sleep.c"))
    namespaces.create([network])
    neighbour: subprocess.Popen[bytes] | None = None
    ident = ""
    try:
        wanted = ("2001:db8:cc::9/128", "203.0.113.9/32", "192.0.2.53/32")
        namespaces.batch({network: ["link set lo up", *(f"address add {address} dev lo" for address in wanted)]})
        neighbour = namespaces.python_inside(network, NEIGHBOUR, stdout=subprocess.PIPE)
        assert neighbour.stdout is not None
        assert neighbour.stdout.readline() == b"\n"
        ident = start(podman, network, uid, root)
        yield Container(ident, uid)
    finally:
        if ident:
            podman("rm", "--force", "--time=0", ident)
        if neighbour is not None:
            neighbour.kill()
            neighbour.communicate()
        namespaces.delete([network])
        remove_cgroup(uid)


def start(podman: Podman, network: str, uid: str, root: Path) -> str:
    return podman(
        "run", "--detach", "--ulimit", NOFILE, "--ulimit", NPROC, "--network", f"ns:/run/netns/{network}",
        "--dns", "192.0.2.53", "--dns-search", "corp.example", "--cgroup-parent", f"/kubepods/burstable/pod{uid}",
        "--rootfs", root, "/sleep",
    ).strip()  # fmt: skip


def probes_of(daemon: Daemon, subject: str) -> dict[tuple[str, str], str]:
    if daemon.get("/-/ready")[0] != 200:
        return {}
    return {(p["layer"], p["ip_family"]): p["outcome"] for p in daemon.report()["probes"] if p["subject"] == subject}


FINE = {(layer, family): "ok" for layer in ("icmp", "tcp") for family in ("IPv4", "IPv6")}


def answered(daemon: Daemon) -> bool:
    """Whether the nameserver that only the container's own resolv.conf names has answered."""
    return any(
        name.startswith("dualstack_dns_lookups_total")
        and all(part in name for part in ('"pod"', '"other"', '"nodata"'))
        for name in daemon.series()
    )


def test_a_container_is_found_without_kubernetes_with_its_own_resolv_conf(container: Container) -> None:
    subject = f"pod/container/{container.ident[:12]}"
    with Daemon(CONFIG) as daemon:
        daemon.wait(lambda: probes_of(daemon, subject) == FINE, "dials from inside the container")
        daemon.wait(lambda: answered(daemon), "an answer of the container's nameserver")
        assert daemon.series()['dualstack_pods_libc{libc="none"}'] >= 1


def test_it_can_be_left_out_without_kubernetes_also_where_its_namespace_has_a_name(container: Container) -> None:
    with Daemon(CONFIG.replace("include: []", 'include: ["*cc"], containers: false')) as daemon:
        daemon.wait_ready()
        assert container.ident[:12] not in daemon.get("/metrics")[1]
        assert daemon.series()['dualstack_pods{state="eligible"}'] == 0


def test_its_end_takes_it_from_the_vantages(container: Container) -> None:
    subject = f"pod/container/{container.ident[:12]}"
    with Daemon(CONFIG) as daemon:
        daemon.wait(lambda: probes_of(daemon, subject) == FINE, "dials from inside the container")
        own_podman()("kill", container.ident)
        daemon.wait(lambda: probes_of(daemon, subject) == {}, "its end")
        daemon.wait(lambda: container.ident[:12] not in str(daemon.series()), "the end of its series")


def inventory(uid: str) -> str:
    def item(kind: str, name: str, **more: Any) -> dict[str, Any]:
        return {"apiVersion": "v1", "kind": kind, "metadata": {"name": name, **more.pop("metadata", {})}, **more}

    meta = {"namespace": "team", "uid": uid, "creationTimestamp": "2020-01-01T00:00:00Z"}
    status = {"phase": "Running", "startTime": "2020-01-01T00:00:00Z"}  # no podIPs: the cgroup alone tells
    pod = item("Pod", "web", metadata=meta, spec={"nodeName": "here"}, status=status)
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": [item("Node", "here"), pod]})


def test_the_kubelets_cgroup_alone_ties_it_to_its_pod(container: Container, tmp_path: Path) -> None:
    with Daemon(CONFIG) as daemon:  # its directory is readable without privilege
        file = daemon.config.with_name("inventory.json")
        file.write_text(inventory(container.uid))
        with Daemon(CONFIG, f"--inventory.file={file}") as tied:
            tied.wait(lambda: probes_of(tied, "pod/team/web") == FINE, "dials from inside the pod")
            assert tied.series()['dualstack_pods{state="eligible"}'] == 1
            tied.wait(lambda: answered(tied), "an answer of the pod's nameserver")
        file.write_text(inventory(str(uuid.uuid4())))
        with Daemon(CONFIG, f"--inventory.file={file}") as other:
            other.wait_ready()
            assert other.series()['dualstack_pods{state="eligible"}'] == 0
            assert other.series()['dualstack_pods{state="unreadable"}'] == 1
            assert other.series()['dualstack_pods{state="unknown"}'] >= 1
