"""A pod's cgroup as the kubelet makes it, so that a process stands for one pod of one lab although others use the same addresses.

Where no cgroup can be made the exporter ties namespaces to pods by address.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from pathlib import Path


def pod_cgroup(lab: str, uid: str) -> str:
    """The path of a pod's container below the root of every hierarchy; the lab's prefix comes first."""
    return f"{lab}kube/kubepods/burstable/pod{uid}/{hashlib.sha256(uid.encode()).hexdigest()}"


def enter(path: str) -> None:
    """Move this process into the cgroup, in every hierarchy that lets one be made."""
    for root in _hierarchies():
        with suppress(OSError):
            (root / path).mkdir(parents=True, exist_ok=True)
            (root / path / "cgroup.procs").write_text(str(os.getpid()))


def remove(lab: str) -> None:
    """Remove the cgroups of a lab whose processes are gone."""
    for root in _hierarchies():
        for directory, _, _ in os.walk(root / f"{lab}kube", topdown=False):
            with suppress(OSError):
                Path(directory).rmdir()


def _hierarchies() -> list[Path]:
    mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    return [Path(words[1]) for words in mounts if words[2] in {"cgroup", "cgroup2"}]
