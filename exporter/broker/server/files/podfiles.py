"""Files of a pod: its resolv.conf, and which C libraries it has. The pod may be hostile to the reader.

A path is followed as a process of the pod would, inside its root directory and through no magic link; nothing but a
regular file is ever really opened, and no more is read than the bound. Mounts are followed: the kubelet mounts
resolv.conf. So a file system that the pod mounted may block the reader for ever: the broker calls this in a
child (child.py).
"""

from __future__ import annotations

import errno
import os
import stat
import time
from contextlib import suppress

from exporter.broker.protocol.messages import InstalledLibc, NamespaceRef, PodFiles
from exporter.broker.protocol.wire import MAX_RESOLV_CONF
from exporter.broker.server.namespaces import open_process
from exporter.broker.server.syscalls import open_in_root

_ATTEMPTS = 3  # openat2 gives EAGAIN when something was renamed while it went through `..`
_ABSENT = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP}

# What this machine may run, by its name in uname(2), as the names of the architectures in those of the dynamic loaders
# below.
_RUNS = {
    "x86_64": ("x86_64", "i386"),
    "aarch64": ("aarch64", "armhf", "arm"),
    "armv7l": ("armhf", "arm"),
    "ppc64le": ("powerpc64le",),
}
_GLIBC_LOADERS = {
    "x86_64": "lib64/ld-linux-x86-64.so.2",
    "i386": "lib/ld-linux.so.2",
    "aarch64": "lib/ld-linux-aarch64.so.1",
    "armhf": "lib/ld-linux-armhf.so.3",
    "arm": "lib/ld-linux.so.3",
    "powerpc64le": "lib64/ld64.so.2",
    "s390x": "lib/ld64.so.1",
    "riscv64": "lib/ld-linux-riscv64-lp64d.so.1",
    "loongarch64": "lib64/ld-linux-loongarch-lp64d.so.1",
}
_MACHINE = os.uname().machine
_ARCHITECTURES = _RUNS.get(_MACHINE, (_MACHINE,))
# Symbolic links such as /lib64 -> usr/lib64 are followed.
MUSL_FILES = tuple(f"lib/ld-musl-{name}.so.1" for name in _ARCHITECTURES)
GLIBC_FILES = (
    *(_GLIBC_LOADERS[name] for name in _ARCHITECTURES if name in _GLIBC_LOADERS),
    f"lib/{_MACHINE}-linux-gnu/libc.so.6",
    "lib64/libc.so.6",
    "lib/libc.so.6",
)


_YOUNG = 10.0  # seconds within which a process that a runtime starts has changed its root

# The programs that keep a pod's namespaces for its containers: those of Kubernetes, OpenShift and podman.
_SANDBOXES = ("pause", "pod", "usr/bin/pod", "catatonit")


def read_pod_files(place: NamespaceRef) -> PodFiles:
    """The files of the process of `place`, and whether that is a sandbox's: whose libraries no program of the pod uses.

    One errno for all: ESTALE when it ended, EACCES when /proc/PID/root is closed to the broker, EINVAL without pid,
    EAGAIN while it is still outside of its container: a runtime joins the namespaces first and changes the root then,
    so its root is still the host's. One that keeps the host's root has mounts of its own over it, or it is no pod's.
    """
    if not place.pid:
        return unreadable(errno.EINVAL)
    try:
        with open_process(place) as process:
            return _read(process, young=_age(place.started) < _YOUNG)
    except OSError as error:
        return unreadable(error.errno or errno.EIO)


def unreadable(number: int) -> PodFiles:
    return PodFiles(resolv_errno=number, resolv_conf=b"", libc_errno=number, libcs=())


def _age(started: int) -> float:
    """Seconds since a process began; `started` in clock ticks since boot."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) - started / os.sysconf("SC_CLK_TCK")


def _read(process: int, *, young: bool) -> PodFiles:
    root = os.open("root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=process)
    try:
        if _is_hosts(os.fstat(root), "/", "/proc/1/root") and (young or _has_hosts_mounts(process)):
            return unreadable(errno.EAGAIN)
        sandbox = _is_sandbox(process, root)
        resolv_errno, resolv_conf = _read_resolv_conf(root)
        libc_errno, libcs = (0, ()) if sandbox else _find_libcs(root)
    finally:
        os.close(root)
    return PodFiles(
        resolv_errno=resolv_errno, resolv_conf=resolv_conf, libc_errno=libc_errno, libcs=libcs, sandbox=sandbox
    )


def _is_sandbox(process: int, root: int) -> bool:
    """Whether the program is a file of the root that has a sandbox's path, as a sandbox runs nothing else."""
    try:
        program = os.readlink("exe", dir_fd=process)
        found = os.stat("exe", dir_fd=process)
        paths = [path for path in _SANDBOXES if program.endswith(f"/{path}")]
        return any(_find_first(root, (path,)) == (found.st_dev, found.st_ino) for path in paths)
    except OSError:  # a process without a program, or one that just ends
        return False


def _has_hosts_mounts(process: int) -> bool:
    mounts = os.stat("ns/mnt", dir_fd=process)
    return _is_hosts(mounts, "/proc/self/ns/mnt", "/proc/1/ns/mnt")


def _is_hosts(info: os.stat_result, *paths: str) -> bool:
    """Whether this is what one of the paths leads to: those of the broker and of the machine's first process."""
    for path in paths:
        with suppress(PermissionError):  # the first process may be closed to the broker
            known = os.stat(path)  # noqa: PTH116 - pathlib would be a megabyte of the broker's memory
            if (known.st_dev, known.st_ino) == (info.st_dev, info.st_ino):
                return True
    return False


def _read_resolv_conf(root: int) -> tuple[int, bytes]:
    try:
        handle = _find(root, "etc/resolv.conf")
        try:
            return 0, _read_regular(handle)
        finally:
            os.close(handle)
    except OSError as error:
        return error.errno or errno.EIO, b""


def _find(root: int, path: str) -> int:
    for _ in range(_ATTEMPTS - 1):
        try:
            return open_in_root(root, path, os.O_PATH | os.O_CLOEXEC)
        except BlockingIOError:
            continue
    return open_in_root(root, path, os.O_PATH | os.O_CLOEXEC)


def _read_regular(handle: int) -> bytes:
    info = os.fstat(handle)
    if not stat.S_ISREG(info.st_mode):
        raise OSError(errno.EISDIR if stat.S_ISDIR(info.st_mode) else errno.EINVAL, "not a regular file")
    if info.st_size > MAX_RESOLV_CONF:
        raise OSError(errno.EFBIG, "too large")
    if not info.st_size:  # empty, or one of procfs and its like, whose reading may wait for ever (/proc/kmsg)
        return b""
    descriptor = os.open(f"/proc/thread-self/fd/{handle}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        content = os.read(descriptor, MAX_RESOLV_CONF + 1)
    finally:
        os.close(descriptor)
    if len(content) > MAX_RESOLV_CONF:  # it grew meanwhile
        raise OSError(errno.EFBIG, "too large")
    return content


def _find_libcs(root: int) -> tuple[int, tuple[InstalledLibc, ...]]:
    try:
        musl = _find_first(root, MUSL_FILES)
        glibc = _find_first(root, GLIBC_FILES, other_than=musl)
    except OSError as error:
        return error.errno or errno.EIO, ()
    found = ((InstalledLibc.GLIBC, glibc), (InstalledLibc.MUSL, musl))
    return 0, tuple(libc for libc, file in found if file)


def _find_first(root: int, paths: tuple[str, ...], other_than: tuple[int, int] | None = None) -> tuple[int, int] | None:
    """Device and inode of the first regular file. On Alpine, libc6-compat links glibc's loader name to musl."""
    for path in paths:
        try:
            handle = _find(root, path)
        except OSError as error:
            if error.errno in _ABSENT:
                continue
            raise
        info = os.fstat(handle)
        os.close(handle)
        if stat.S_ISREG(info.st_mode) and (info.st_dev, info.st_ino) != other_than:
            return (info.st_dev, info.st_ino)
    return None
