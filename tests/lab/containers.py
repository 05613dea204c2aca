"""Processes of a pod as a container runtime makes them: a sandbox, and containers that join it before they change their
root.

Each has a cgroup as the kubelet makes it, a mount namespace of its own, and a root that it pivoted to; its program is a
static one.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.lab import cgroups
from tests.lab.roots import place_program

ROOT = Path(__file__).resolve().parents[2]
NEW_NETWORK = "new"

# As runc init: cgroup, network namespace, then (once told) the mounts, the root and the program.
RUNTIME = """
import ctypes, os, sys
from tests.lab import cgroups
cgroup, network, root, program = sys.argv[1:]
libc = ctypes.CDLL(None, use_errno=True)
def check(result):
    if result: raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
cgroups.enter(cgroup)
if network == "new":
    check(libc.unshare(0x40000000))  # CLONE_NEWNET
else:
    check(libc.setns(os.open(network, os.O_RDONLY | os.O_CLOEXEC), 0x40000000))
check(libc.unshare(0x00020000))  # CLONE_NEWNS
check(libc.mount(None, b"/", None, 0x44000, None))  # MS_REC | MS_PRIVATE
print("joined", flush=True)
sys.stdin.readline()
check(libc.mount(root.encode(), root.encode(), None, 0x5000, None))  # MS_BIND | MS_REC
os.chdir(root)
check(libc.syscall(ctypes.c_long({"x86_64": 155, "aarch64": 41}[os.uname().machine]), b".", b"."))  # pivot_root
check(libc.umount2(b".", 2))  # MNT_DETACH
os.chdir("/")
os.execv(program, [program])
"""


class Container:
    """One process of a pod. Young until `start`: in the pod's cgroup and namespace, and on the host's root."""

    def __init__(self, command: list[str]) -> None:
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT)
        self.pid = self._process.pid
        self._expect(b"joined\n")

    def _expect(self, line: bytes) -> None:
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == line

    def start(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(b"start\n")
        self._process.stdin.flush()
        self._expect(b"ready\n")

    def end(self) -> None:
        self._process.kill()
        self._process.communicate()


class Pod:
    """A pod with its sandbox, which runs."""

    def __init__(self, lab: str, uid: str, sandbox: Path, stack: ExitStack) -> None:
        self._lab, self._uid, self._stack = lab, uid, stack
        self._network = NEW_NETWORK
        self.sandbox = self.add("sandbox", sandbox, program="/pause")
        self._network = f"/proc/{self.sandbox.pid}/ns/net"

    def join(self, network: str) -> None:
        """Let further containers join this network namespace, by its file, instead of the sandbox's."""
        self._network = network

    def add(self, name: str, root: Path, *, program: str = "/serve", young: bool = False) -> Container:
        """One more container, with this root directory."""
        place_program(root, program)
        ident = hashlib.sha256(f"{self._uid} {name}".encode()).hexdigest()
        cgroup = f"{self._lab}kube/kubepods/burstable/pod{self._uid}/{ident}"
        container = Container([sys.executable, "-c", RUNTIME, cgroup, self._network, str(root), program])
        self._stack.callback(container.end)
        if not young:
            container.start()
        return container


@contextmanager
def running_pod(lab: str, uid: str, sandbox: Path) -> Iterator[Pod]:
    """A pod whose sandbox has this root directory. `lab`: a prefix for its cgroup (tests.kernel.namespaces)."""
    try:
        with ExitStack() as stack:
            yield Pod(lab, uid, sandbox, stack)
    finally:
        cgroups.remove(lab)
