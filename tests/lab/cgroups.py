"""A pod's cgroup as the kubelet makes it, so that a process stands for one pod of one lab although others use the same
addresses.

Where no cgroup can be made the exporter ties namespaces to pods by address.
"""

from __future__ import annotations

import hashlib
import os
import select
import time
from contextlib import suppress
from pathlib import Path

from tests.leftovers import hierarchies

ENDING = 10.0  # seconds that a process may take to leave


def pod_cgroup(lab: str, uid: str) -> str:
    """The path of a pod's container below the root of every hierarchy; the lab's prefix comes first."""
    return f"{lab}kube/kubepods/burstable/pod{uid}/{hashlib.sha256(uid.encode()).hexdigest()}"


def enter(path: str) -> None:
    """Move this process into the cgroup, in every hierarchy that lets one be made."""
    move(os.getpid(), path)


def move(pid: int, path: str) -> None:
    """As `enter`, another process."""
    for root in hierarchies():
        with suppress(OSError):
            (root / path).mkdir(parents=True, exist_ok=True)
            (root / path / "cgroup.procs").write_text(str(pid))


def remove(lab: str) -> None:
    """Remove the cgroups of a lab whose processes are gone, or are going."""
    end = time.monotonic() + ENDING
    left = [root / f"{lab}kube" for root in hierarchies()]
    while (left := [top for top in left if top.exists()]) and time.monotonic() < end:
        for directory in (Path(below) for top in left for below, _, _ in os.walk(top, topdown=False)):
            with suppress(OSError):
                directory.rmdir()
        select.select([], [], [], 0.02)
