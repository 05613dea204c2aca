"""The DaemonSet's pod, run by podman from the very manifest that ships: same arguments, users, capabilities, mounts and
limits.

podman stands in for the kubelet: each emptyDir, ConfigMap and projected volume becomes a directory, the pod's cgroup is
a directory like the kubelet's, and "the host's network" is a namespace that the test made.
"""

from __future__ import annotations

import itertools
import json
import os
import select
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests import leftovers
from tests.contract.kustomize import read_objects
from tests.e2e.image import NOFILE, NPROC, ROOT, Podman

PATIENCE = 120.0
_COUNTER = itertools.count()
FETCH = """
import sys, urllib.request, urllib.error
try:
    print(urllib.request.urlopen(sys.argv[1], timeout=60).read().decode(), end="")
except urllib.error.HTTPError as error:
    print(error.read().decode(), end="")
    sys.exit(3)
"""


def node_template() -> Any:
    """The pod template of the DaemonSet."""
    (found,) = (o for o in read_objects(ROOT / "deploy/daemonset.yaml") if o["kind"] == "DaemonSet")
    return found["spec"]["template"]


def pod_uid() -> str:
    """A pod's uid that tells whose it is (tests.leftovers)."""
    return f"{os.getpid():08x}-{next(_COUNTER):04x}{leftovers.POD}"


def remove_cgroup(uid: str) -> None:
    """The directories of a pod's cgroup, which podman leaves behind, under every controller. Its last process may still
    be ending.
    """
    end = time.monotonic() + PATIENCE
    while pods := list(Path("/sys/fs/cgroup").glob(f"**/kubepods/burstable/pod{uid}")):
        assert time.monotonic() < end, f"still busy after {PATIENCE:g} s: {pods}"
        for directory in (Path(below) for pod in pods for below, _, _ in os.walk(pod, topdown=False)):
            with suppress(OSError):  # busy for a moment more, or gone with its last process
                directory.rmdir()
        select.select([], [], [], 0.05)


class NodePod:
    """Both containers, started together; ended by `close`, whatever happened. `network` is a named namespace: the
    node's own.
    """

    def __init__(
        self,
        podman: Podman,
        image: str,
        *,
        name: str,
        network: str,
        node: str,
        files: Mapping[str, str],
        scratch: Path,
    ) -> None:
        self._podman, self._network, self._name = podman, network, name
        self._spec = node_template()["spec"]
        self._volumes = self._make_volumes(files, scratch)
        self.containers: list[str] = []
        try:
            for container in self._spec["containers"]:
                self._start(container, image, node)
        except BaseException:
            self.close()
            raise

    def _make_volumes(self, files: Mapping[str, str], scratch: Path) -> dict[str, Path]:
        volumes = {}
        for volume in self._spec["volumes"]:
            directory = scratch / volume["name"]
            directory.mkdir()
            directory.chmod(0o777 if "emptyDir" in volume else 0o755)
            volumes[volume["name"]] = directory
        for name, text in files.items():
            (volumes["config"] / name).write_text(text)
        return volumes

    def _start(self, container: Any, image: str, node: str) -> None:
        name = f"{self._name}-{container['name']}"
        context = container["securityContext"]
        assert context["readOnlyRootFilesystem"]
        assert not context["allowPrivilegeEscalation"]
        options = ["--read-only", "--read-only-tmpfs=false", "--security-opt", "no-new-privileges", "--no-healthcheck"]
        options += ["--user", f"{context['runAsUser']}:{context['runAsGroup']}", "--ulimit", NOFILE, "--ulimit", NPROC]
        options += [f"--cap-drop={each}" for each in context["capabilities"]["drop"]]
        options += [f"--cap-add={each}" for each in context["capabilities"].get("add", ())]
        options += [
            "--network",
            f"ns:/run/netns/{self._network}",
            "--cgroup-parent",
            f"/kubepods/burstable/pod{self._name}",
        ]
        if self._spec["hostPID"]:
            options += ["--pid", "host"]
        for mount in container["volumeMounts"]:
            if mount["name"] != "token":  # no API server here: the inventory is a file
                mode = ":ro" if mount.get("readOnly") else ""
                options += ["--volume", f"{self._volumes[mount['name']]}:{mount['mountPath']}{mode}"]
        for variable in container.get("env", ()):
            value = variable.get("value", node)
            assert "value" in variable or variable["valueFrom"]["fieldRef"]["fieldPath"] == "spec.nodeName"
            options += ["--env", f"{variable['name']}={value}"]
        options += ["--memory", container["resources"]["limits"]["memory"].removesuffix("i").lower()]
        self.containers.append(name)
        self._podman("run", "--detach", "--name", name, *options, image, *container.get("args", ()))

    def close(self) -> None:
        for name in reversed(self.containers):
            command = self._podman.command("rm", "--force", "--time", "5", name)
            subprocess.run(command, check=False, capture_output=True)
        remove_cgroup(self._name)

    def state(self, container: str) -> Any:
        return json.loads(self._podman("container", "inspect", f"{self._name}-{container}"))[0]["State"]

    def pid(self, container: str) -> int:
        return int(self.state(container)["Pid"])

    def execute(self, container: str, *command: str) -> subprocess.CompletedProcess[str]:
        """What `kubectl exec` would run there."""
        words = self._podman.command("exec", f"{self._name}-{container}", *command)
        return subprocess.run(words, capture_output=True, text=True, check=False)

    def logs(self) -> str:
        words = [self._podman.command("logs", name) for name in self.containers]
        done = [subprocess.run(each, capture_output=True, text=True, check=False) for each in words]
        return "\n".join(each.stdout + each.stderr for each in done)

    def get(self, path: str) -> tuple[bool, str]:
        """Ask from within the node's network, where the kubelet and Prometheus would."""
        words = ["nsenter", f"--net=/run/netns/{self._network}", "python3", "-c", FETCH, f"http://[::1]:10046{path}"]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        return done.returncode == 0, done.stdout

    def wait_ready(self) -> None:
        self.wait(lambda: self.get("/-/ready")[0], "ready")

    def wait(self, condition: Callable[[], bool], what: str) -> None:
        """Until the condition holds; fails with the logs when the exporter ends or the time is up."""
        end = time.monotonic() + PATIENCE
        while not condition():
            assert self.state("exporter")["Running"], self.logs()
            assert time.monotonic() < end, f"not within {PATIENCE:g} s: {what}\n{self.logs()}"
            select.select([], [], [], 0.2)

    def series(self) -> dict[str, float]:
        lines = self.get("/metrics")[1].splitlines()
        pairs = (line.rsplit(" ", 1) for line in lines if line and not line.startswith("#"))
        return {name: float(value) for name, value in pairs}
