"""A pod whose /etc is a file system that never answers: a FUSE server in the pod itself, as hostile as a pod can be.

It answers the kernel's greeting, and then nothing. A request that it has taken and not answered leaves its asker
uninterruptible: SIGKILL does not end it before the server does. The server ends with the test, and all it holds up with
it; its mount is in a mount namespace of its own.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from exporter.broker.protocol.messages import NamespaceRef
from tests.kernel.broker_lab import place_of_pid, process

# linux/fuse.h: the greeting (FUSE_INIT) gets an answer of version 7.31 and no features. A line on stdin: no longer
# hostile.
SERVER = """
import ctypes, os, select, struct, sys
root, below, kind = sys.argv[1:]
libc = ctypes.CDLL(None, use_errno=True)
device = os.open("/dev/fuse", os.O_RDWR)
options = f"fd={device},rootmode=40000,user_id=0,group_id=0,allow_other"
if libc.mount(b"stalled", f"{root}/{below}".encode(), b"fuse", 0, options.encode()):
    raise OSError(ctypes.get_errno(), "mount")
greeting = os.read(device, 1 << 17)
unique = struct.unpack_from("=IIQ", greeting)[2]
answer = struct.pack("=IIIIHHIIHHI7I", 7, 31, 65536, 0, 16, 12, 65536, 1, 32, 0, 0, *[0] * 7)
os.write(device, struct.pack("=IiQ", 16 + len(answer), 0, unique) + answer)
os.chroot(root)
os.chdir("/")
print("ready", flush=True)
while kind == "takes requests":
    ready, _, _ = select.select([0, device], [], [])
    if 0 in ready:
        break
    os.read(device, 1 << 17)
sys.stdin.buffer.readline()
libc.umount2(f"/{below}".encode(), 2)  # MNT_DETACH
os.close(device)
print("healed", flush=True)
sys.stdin.read()
"""
TAKES, LEAVES = "takes requests", "leaves requests"  # the latter's askers can still be killed


class StalledPod:
    """The pod's process, which is the server too."""

    def __init__(self, started: subprocess.Popen[bytes]) -> None:
        self._process = started
        self.place: NamespaceRef = place_of_pid(started.pid)

    def heal(self) -> None:
        """Take the file system away: what stood below it is there again."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(b"heal\n")
        self._process.stdin.flush()
        assert self._process.stdout.readline() == b"healed\n"


@contextmanager
def stalled_pod(root: Path, *, below: str = "etc", kind: str = TAKES) -> Iterator[StalledPod]:
    """A pod in a network namespace of its own with this root directory, in which the directory `below` never
    answers.
    """
    (root / below).mkdir(parents=True, exist_ok=True)
    command = ("unshare", "--net", "--mount", "--propagation=private", sys.executable, "-c", SERVER)
    with process(*command, str(root), below, kind) as started:
        yield StalledPod(started)
