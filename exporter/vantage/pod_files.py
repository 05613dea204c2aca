"""The files of the inspection: resolv.conf of the host, of named namespaces and of pods, and pods' C libraries.

The host's and those of named namespaces are read here, a pod's come from the broker, from several of its processes. A
sandbox's process has the pod's resolv.conf as a rule, and never the libraries of its programs.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from exporter.broker.protocol.messages import InstalledLibc, PodFiles
from exporter.libc.resolv_conf import parse_resolv_conf
from exporter.model.dns import ResolvConf

# seconds that a container's libraries count without it: one that crashes again and again is gone for up to five minutes
KEPT = 600.0
LIBCS = {InstalledLibc.GLIBC: "glibc", InstalledLibc.MUSL: "musl"}

_LIMIT = 65536  # bytes
# Of a process that has just ended, or has not entered its container yet: another one, or the next round, shows more.
_PASSING = {errno.ESTALE, errno.EAGAIN}


def read_own_resolv_conf(path: str = "/etc/resolv.conf") -> ResolvConf | None:
    """The host's resolv.conf: the exporter's own file (its pod has dnsPolicy Default). None where there is none."""
    try:
        with Path(path).open("rb") as file:
            return parse_resolv_conf(file.read(_LIMIT))
    except OSError:
        return None


def read_named_resolv_conf(name: str) -> ResolvConf | None:
    """/etc/netns/NAME/resolv.conf, as `ip netns exec` would mount it (ip-netns(8)); None where there is none."""
    return None if os.sep in name or name.startswith(".") else read_own_resolv_conf(f"/etc/netns/{name}/resolv.conf")


def choose(files: Sequence[PodFiles]) -> PodFiles:
    """Whose resolv.conf is the pod's: a container's before the sandbox's, in the order given (oldest process first).

    Where the file system of one does not answer, the pod's is not read: from round to round it may be asked or not.
    """
    silent = next((f for f in files if f.resolv_errno == errno.ETIMEDOUT), None)
    return silent or min(files, key=lambda f: (f.resolv_errno != 0, f.resolv_errno in _PASSING, f.sandbox))


class Libraries:
    """The C libraries of each pod's containers, by pod and cgroup, kept for a while after a container was last seen."""

    def __init__(self) -> None:
        self._pods: dict[str, dict[bytes, tuple[float, frozenset[str]]]] = {}  # with the time they were last seen

    def note(self, pod: str, files: Mapping[bytes, PodFiles], now: float) -> frozenset[str] | None:
        """The libraries of the pod's containers, with those just read of them by cgroup; None where none is known."""
        recent = {cgroup: each for cgroup, each in self._pods.get(pod, {}).items() if now - each[0] < KEPT}
        for cgroup, read in files.items():
            if not read.libc_errno and not read.sandbox:
                recent[cgroup] = (now, frozenset(LIBCS[libc] for libc in read.libcs))
        self._pods[pod] = recent
        return frozenset().union(*(libcs for _, libcs in recent.values())) if recent else None

    def keep(self, pods: Collection[str]) -> None:
        """Forget all pods but these."""
        self._pods = {pod: containers for pod, containers in self._pods.items() if pod in pods}
