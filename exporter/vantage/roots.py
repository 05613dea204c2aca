"""What the processes of a pod show of its files, made one: its resolv.conf, and the C libraries of all its containers. Pure but for a memory.

Part of the inspection. A sandbox's process has the pod's resolv.conf as a rule, and never the libraries of its
programs.
"""

from __future__ import annotations

import errno
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from exporter.broker.protocol.messages import InstalledLibc, PodFiles

# seconds that a container's libraries count without it: one that crashes again and again is gone for up to five minutes
KEPT = 600.0
LIBCS = {InstalledLibc.GLIBC: "glibc", InstalledLibc.MUSL: "musl"}

# Of a process that has just ended, or has not entered its container yet: another one, or the next round, says more.
_PASSING = {errno.ESTALE, errno.EAGAIN}


def choose(files: Sequence[PodFiles]) -> PodFiles:
    """Whose resolv.conf is the pod's: a container's before the sandbox's, the longest running one's first, as the order given is.

    Where the file system of one does not answer, the pod's is not read: from round to round it may be asked or left
    alone.
    """
    silent = next((f for f in files if f.resolv_errno == errno.ETIMEDOUT), None)
    return silent or min(files, key=lambda f: (f.resolv_errno != 0, f.resolv_errno in _PASSING, f.sandbox))


@dataclass(frozen=True, slots=True)
class _Held:
    libcs: frozenset[str]
    time: float


class Libraries:
    """The C libraries of each pod's containers, by pod and cgroup, kept for a while after a container was seen last.

    Its pod holds the same ones from round to round, whichever containers happen to run in the moment of a look.
    """

    def __init__(self) -> None:
        self._pods: dict[str, dict[bytes, _Held]] = {}

    def note(self, pod: str, files: Mapping[bytes, PodFiles], now: float) -> frozenset[str] | None:
        """What the pod's containers hold, with what was just read of them, by cgroup; None where nothing is known."""
        held = {cgroup: each for cgroup, each in self._pods.get(pod, {}).items() if now - each.time < KEPT}
        for cgroup, read in files.items():
            if not read.libc_errno and not read.sandbox:
                held[cgroup] = _Held(frozenset(LIBCS[libc] for libc in read.libcs), now)
        self._pods[pod] = held
        return frozenset().union(*(each.libcs for each in held.values())) if held else None

    def keep(self, pods: Collection[str]) -> None:
        """Forget all pods but these."""
        self._pods = {pod: held for pod, held in self._pods.items() if pod in pods}
