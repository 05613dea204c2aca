"""Giving power up for good: the broker keeps four capabilities, the exporter process none. Standard library only.

Called once by each process, before it starts a thread or touches outside data. What is given up cannot be had back:
no_new_privs is set too.
"""

from __future__ import annotations

import errno
import os

from exporter.broker.server.syscalls import (
    PR_CAPBSET_DROP,
    PR_SET_NO_NEW_PRIVS,
    get_capabilities,
    prctl,
    read_file,
    set_capabilities,
)

SYS_PTRACE = 19  # linux/capability.h
_NAMES = {12: "NET_ADMIN", 13: "NET_RAW", SYS_PTRACE: "SYS_PTRACE", 21: "SYS_ADMIN"}
BROKER_CAPABILITIES = sum(1 << number for number in _NAMES)
_CAPABILITY_FIELDS = (b"CapInh", b"CapPrm", b"CapEff", b"CapAmb")  # of /proc/PID/status


def effective_capabilities() -> int:
    """The calling thread's effective set as a bit mask."""
    return get_capabilities()[0]


def missing_capabilities(mask: int) -> tuple[str, ...]:
    """Those of the broker's four that `mask` lacks, sorted, as manifests spell them (without CAP_)."""
    return tuple(sorted(name for number, name in _NAMES.items() if not mask >> number & 1))


def limit_capabilities(mask: int) -> None:
    """Keep no capability outside `mask`, inherit none, gain none by exec. What is not held now is not gained."""
    _shrink_bounding_set(mask)
    held = get_capabilities()[1] & mask
    set_capabilities(effective=held, permitted=held, inheritable=0)
    prctl(PR_SET_NO_NEW_PRIVS, 1)


def _shrink_bounding_set(mask: int) -> None:
    """Where SETPCAP is held; elsewhere no_new_privs keeps exec from giving any."""
    for number in range(64):
        if mask >> number & 1:
            continue
        try:
            prctl(PR_CAPBSET_DROP, number)
        except OSError as error:
            if error.errno in {errno.EPERM, errno.EINVAL}:  # not allowed; past the kernel's last capability
                return
            raise


def drop_capabilities() -> None:
    """Give up every capability and keep the uid. RuntimeError when some thread still holds one."""
    limit_capabilities(0)
    _verify_powerless()


def drop_to(uid: int, gid: int) -> None:
    """Become `uid` and `gid` without supplementary groups and without any capability.

    Needs SETUID, SETGID and a single thread, since capabilities belong to threads. RuntimeError when anything of it was
    not reached: the caller must then end.
    """
    _shrink_bounding_set(0)  # first: it needs a capability that the uid's change takes away
    try:
        os.setgroups([])
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
    except OSError as error:
        raise RuntimeError(f"cannot become uid {uid} gid {gid}: {error.strerror}") from error
    drop_capabilities()
    if os.getresuid() != (uid,) * 3 or os.getresgid() != (gid,) * 3 or os.getgroups():
        raise RuntimeError(f"did not become uid {uid} gid {gid}")


def _verify_powerless() -> None:
    for thread in os.listdir("/proc/self/task"):  # noqa: PTH208 - the broker does without pathlib
        # Read as bytes: a codec might have to be imported, from files that this uid may not be able to read.
        for line in read_file(f"/proc/self/task/{thread}/status").splitlines():
            name, _, value = line.partition(b":")
            if name in _CAPABILITY_FIELDS and int(value, 16):
                raise RuntimeError(f"thread {thread} still holds capabilities: {line!r}")
