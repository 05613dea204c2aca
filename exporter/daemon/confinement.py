"""What the exporter process forbids itself, once it listens and has its broker: for the day that a parser is exploited.

A seccomp filter (seccomp(2)) refuses with EPERM to listen, to bind (netlink apart), to open sockets other than Unix,
netlink, TCP, UDP and ping, to set socket options that forge or unfilter packets, to run programs, to trace, and to
change namespaces or mounts. Landlock (landlock(7)) refuses to write, make, remove and execute files, to bind TCP, and
to connect to abstract Unix sockets of others. Both last until the process ends, and its threads inherit them.

Where the kernel refuses one of them the exporter runs without it and says so. Constants: uapi headers of Linux.
"""

from __future__ import annotations

import ctypes
import errno
import logging
import os
import platform
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from exporter.broker.server.syscalls import PR_SET_DUMPABLE, prctl
from exporter.telemetry.logs import fields

log = logging.getLogger(__name__)

_NETLINK_ADDRESS = 12  # sizeof(struct sockaddr_nl): no address of another family that can be bound is as short
_NAMESPACES = 0x7E020000  # CLONE_NEW* of clone(2)
_FAMILIES = (1, 2, 10, 16)  # AF_UNIX, AF_INET, AF_INET6, AF_NETLINK
_OPTIONS: Mapping[int, tuple[int, ...]] = {  # by level: all that this process, its libraries and glibc set
    # REUSEADDR, SNDBUF, RCVBUF, KEEPALIVE, LINGER, TIMESTAMPNS; ATTACH_FILTER only narrows what arrives, for netlink
    1: (2, 7, 8, 9, 13, 26, 35),
    0: (10, 11),  # IP_MTU_DISCOVER, IP_RECVERR; not HDRINCL, OPTIONS, FREEBIND, TRANSPARENT
    41: (23, 25, 26, 62),  # IPV6_MTU_DISCOVER, RECVERR, V6ONLY, DONTFRAG; not HDRINCL, FREEBIND, TRANSPARENT, RTHDR
    6: (1, 3, 4, 5, 6, 12, 18),  # TCP_NODELAY, CORK, KEEPIDLE, KEEPINTVL, KEEPCNT, QUICKACK, USER_TIMEOUT
    270: (1, 2, 5, 10, 11, 12),  # NETLINK_*: memberships, NO_ENOBUFS, acknowledgements, strict checks
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Machine:
    """An architecture's AUDIT_ARCH and numbers of system calls."""

    audit: int
    seccomp: int
    socket: int
    bind: int
    listen: int
    setsockopt: int
    clone: int
    programs: tuple[int, ...]  # execve, execveat
    refused: tuple[int, ...]
    foreign: int  # numbers from here on belong to another ABI


_CLONE3, _EXECVEAT_64 = 435, 322
_LANDLOCK_CREATE, _LANDLOCK_RESTRICT = 444, 446  # as all below: the same number on both
# io_uring_setup (its requests pass no filter), open_tree, move_mount, fsopen, fsconfig, fsmount, fspick, pidfd_getfd,
# process_madvise, mount_setattr
_REFUSED = (425, 428, 429, 430, 431, 432, 433, 438, 440, 442)
_MACHINES = {
    "x86_64": _Machine(
        audit=0xC000003E, seccomp=317, socket=41, bind=49, listen=50, setsockopt=54, clone=56,
        programs=(59, _EXECVEAT_64),
        # ptrace, pivot_root, chroot, mount, umount2, unshare, perf_event_open, process_vm_readv, process_vm_writev,
        # kcmp, setns, bpf, userfaultfd, add_key, request_key, keyctl, open_by_handle_at
        refused=(101, 155, 161, 165, 166, 272, 298, 310, 311, 312, 308, 321, 323, 248, 249, 250, 304, *_REFUSED),
        foreign=0x40000000,  # x32
    ),
    "aarch64": _Machine(
        audit=0xC00000B7, seccomp=277, socket=198, bind=200, listen=201, setsockopt=208, clone=220,
        programs=(221, 281),
        refused=(117, 41, 51, 40, 39, 97, 241, 270, 271, 272, 268, 280, 282, 217, 218, 219, 265, *_REFUSED),
        foreign=0,
    ),
}  # fmt: skip

# Instructions of classic BPF (linux/filter.h) on struct seccomp_data: number, architecture, pointer, six arguments.
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _AND, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x54, 0x06
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_SET_MODE_FILTER, _FLAG_TSYNC = 1, 1
_SYSCALL = ctypes.CDLL(None, use_errno=True).syscall
_SYSCALL.restype = ctypes.c_long

_Step = tuple[int, int, str, str]  # code, value, and the labels of the next instruction if true and if not
_NO: _Step = (_RETURN, _ERRNO | errno.EPERM, "", "")


def confine(*, programs: bool = False, binds: bool = False) -> None:
    """Call it with no capability, no_new_privs set and every listening socket made. Logs what the kernel refused.

    `programs`: a kubeconfig may run a credential plugin, which writes files: then only sockets are confined. `binds`:
    sockets for probes are this process's own, made without a broker. musl's resolver binds as well.
    """
    binds = binds or "CS_GNU_LIBC_VERSION" not in os.confstr_names
    prctl(PR_SET_DUMPABLE, 0)  # no other process of this uid may see its memory, its descriptors and its files
    missing = []
    for name, act in (
        ("landlock", partial(_restrict_files, binds=binds)),
        ("seccomp", partial(_filter_calls, programs=programs, binds=binds)),
    )[programs:]:
        try:
            act()
        except OSError as error:
            missing.append(f"{name}: {error.strerror}")
    if missing:
        log.warning("the kernel does not confine this process fully", extra=fields(missing=", ".join(missing)))


def _call(number: int, *arguments: int | ctypes.Array[ctypes.c_char] | None) -> int:
    result: int = _SYSCALL(number, *(ctypes.c_long(each) if isinstance(each, int) else each for each in arguments))
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def _restrict_files(*, binds: bool) -> None:
    version = _call(_LANDLOCK_CREATE, None, 0, 1)  # LANDLOCK_CREATE_RULESET_VERSION
    files = 0x1FF3 | (0x2000 if version >= 2 else 0) | (0x4000 if version >= 3 else 0)  # all but READ_FILE, READ_DIR
    net = 1 if version >= 4 and not binds else 0  # BIND_TCP
    scoped = 1 if version >= 6 else 0  # ABSTRACT_UNIX_SOCKET
    attributes = struct.pack("=QQQ", files, net, scoped)[: 24 if version >= 6 else 16 if version >= 4 else 8]
    rules = _call(_LANDLOCK_CREATE, ctypes.create_string_buffer(attributes, len(attributes)), len(attributes), 0)
    try:
        _call(_LANDLOCK_RESTRICT, rules, 0)
    finally:
        os.close(rules)


def _filter_calls(*, programs: bool, binds: bool) -> None:
    machine = _MACHINES.get(platform.machine())
    if machine is None:
        raise OSError(errno.ENOSYS, f"no table of system calls for {platform.machine()}")
    program = _assemble(list(_steps(machine, programs=programs, binds=binds)))
    code = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("@HP", len(program) // 8, ctypes.addressof(code))  # struct sock_fprog
    if _call(machine.seccomp, _SET_MODE_FILTER, _FLAG_TSYNC, ctypes.create_string_buffer(header, len(header))):
        raise OSError(errno.EBUSY, "a thread could not take the filter over")


def _steps(machine: _Machine, *, programs: bool, binds: bool) -> Iterator[_Step | str]:
    """The filter: steps, and labels (texts) of the steps that follow them. An empty label is the next step."""
    yield _LOAD, _ARCHITECTURE, "", ""
    yield _EQUAL, machine.audit, "", "refuse"
    yield _LOAD, _NUMBER, "", ""
    if machine.foreign:
        yield _AT_LEAST, machine.foreign, "refuse", ""
    for number in (*machine.refused, machine.listen, *(() if programs else machine.programs)):
        yield _EQUAL, number, "refuse", ""
    yield _EQUAL, _CLONE3, "unknown", ""  # its flags are in memory: glibc then uses clone
    for name in ("clone", "socket", "setsockopt", *(() if binds else ("bind",))):
        yield _EQUAL, getattr(machine, name), name, ""
    yield _RETURN, _ALLOW, "", ""
    yield from _argument_checks()


def _argument_checks() -> Iterator[_Step | str]:
    """The calls that are refused by an argument. Each list of what is allowed ends with `_NO`."""
    yield from ("clone", _argument(0), (_ANY_BIT, _NAMESPACES, "refuse", "allow"))
    yield from ("bind", _argument(2), (_EQUAL, _NETLINK_ADDRESS, "allow", "refuse"))
    yield from ("socket", _argument(0))
    yield from ((_EQUAL, family, "inet" if family in {2, 10} else "allow", "") for family in _FAMILIES)
    yield _NO
    yield from ("inet", _argument(1), (_AND, 0xF, "", ""))  # without SOCK_NONBLOCK and SOCK_CLOEXEC
    yield from ((_EQUAL, kind, "allow", "") for kind in (1, 2))  # SOCK_STREAM, SOCK_DGRAM
    yield _NO
    yield from ("setsockopt", _argument(1))
    yield from ((_EQUAL, level, f"level {level}", "") for level in _OPTIONS)
    yield _NO
    for level, options in _OPTIONS.items():
        yield from (f"level {level}", _argument(2))
        yield from ((_EQUAL, option, "allow", "") for option in options)
        yield _NO
    yield from ("refuse", _NO)
    yield from ("unknown", (_RETURN, _ERRNO | errno.ENOSYS, "", ""))
    yield from ("allow", (_RETURN, _ALLOW, "", ""))


def _argument(index: int) -> _Step:
    """Load the low half of an argument, all that the kernel takes of an int. Both machines are little-endian."""
    return _LOAD, _ARGUMENTS + 8 * index, "", ""


def _assemble(steps: Sequence[_Step | str]) -> bytes:
    """The program, as an array of struct sock_filter. A jump counts the instructions that it leaves out."""
    places: dict[str, int] = {}
    count = 0
    for step in steps:
        if isinstance(step, str):
            places[step] = count
        else:
            count += 1
    packed: list[bytes] = []
    for step in steps:
        if not isinstance(step, str):
            code, value, *labels = step
            there, other = (places[label] - len(packed) - 1 if label else 0 for label in labels)
            packed.append(struct.pack("=HBBI", code, there, other, value))
    return b"".join(packed)
