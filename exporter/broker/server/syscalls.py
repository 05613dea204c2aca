"""The few system calls that Python 3.11 lacks, through ctypes, and a plain file read. The broker uses them.

Every function raises OSError with the kernel's errno. Constants are those of the kernel's uapi headers.
"""

from __future__ import annotations

import ctypes
import os
import socket
import struct

CLONE_NEWNET = 0x40000000  # linux/sched.h
PR_SET_PDEATHSIG = 1  # linux/prctl.h
PR_SET_DUMPABLE = 4
PR_CAPBSET_DROP = 24
PR_SET_NO_NEW_PRIVS = 38

_OPENAT2 = 437  # the same number on every architecture but alpha
_RESOLVE_NO_MAGICLINKS = 0x02  # linux/openat2.h
_RESOLVE_IN_ROOT = 0x10
_CAPABILITY_VERSION_3 = 0x20080522  # linux/capability.h

_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.syscall.restype = ctypes.c_long
_LIBC.setns.argtypes = [ctypes.c_int, ctypes.c_int]  # twice a visit: spares making the arguments
_LIBC.getsockopt.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p]


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def read_file(name: str, *, directory: int | None = None, limit: int = 16 * 1024) -> bytes:
    """What one read(2) gives of a file, which is the whole of a small one of procfs."""
    descriptor = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory)
    try:
        return os.read(descriptor, limit)
    finally:
        os.close(descriptor)


def setns(descriptor: int) -> None:
    """Move the calling thread into the network namespace of this descriptor (setns(2))."""
    _checked(_LIBC.setns(descriptor, CLONE_NEWNET))


def getsockopt(asked: socket.socket, option: tuple[int, int], request: bytes, size: int) -> bytes:
    """The answer to an option whose buffer carries a request; Python's own getsockopt starts from an empty buffer."""
    buffer = ctypes.create_string_buffer(request, size)
    length = getsockopt_into(asked, option, ctypes.addressof(buffer), size)
    return buffer.raw[:length]


def getsockopt_into(asked: socket.socket, option: tuple[int, int], address: int, size: int) -> int:
    """As getsockopt, in memory at `address`. Returns the length of the answer."""
    length = ctypes.c_uint32(size)
    _checked(_LIBC.getsockopt(asked.fileno(), *option, address, ctypes.byref(length)))
    return length.value


def open_in_root(root: int, path: str, flags: int) -> int:
    """Open `path` as a process whose root directory is `root` would, following no magic link (openat2(2))."""
    how = ctypes.create_string_buffer(struct.pack("=QQQ", flags, 0, _RESOLVE_IN_ROOT | _RESOLVE_NO_MAGICLINKS), 24)
    number, size = ctypes.c_long(_OPENAT2), ctypes.c_size_t(24)
    return _checked(_LIBC.syscall(number, ctypes.c_int(root), ctypes.c_char_p(os.fsencode(path)), how, size))


def prctl(option: int, argument: int) -> None:
    zero = ctypes.c_ulong(0)
    _checked(_LIBC.prctl(ctypes.c_int(option), ctypes.c_ulong(argument), zero, zero, zero))


def get_capabilities() -> tuple[int, int, int]:
    """Effective, permitted and inheritable set of the calling thread, as bit masks (capget(2))."""
    header = ctypes.create_string_buffer(struct.pack("=Ii", _CAPABILITY_VERSION_3, 0), 8)
    data = ctypes.create_string_buffer(24)
    _checked(_LIBC.capget(header, data))
    low_e, low_p, low_i, high_e, high_p, high_i = struct.unpack("=6I", data.raw)
    return low_e | high_e << 32, low_p | high_p << 32, low_i | high_i << 32


def set_capabilities(*, effective: int, permitted: int, inheritable: int) -> None:
    """Set the three sets of the calling thread; the ambient set shrinks with them (capset(2), capabilities(7))."""
    header = ctypes.create_string_buffer(struct.pack("=Ii", _CAPABILITY_VERSION_3, 0), 8)
    masks = (effective, permitted, inheritable)
    words = [mask & 0xFFFFFFFF for mask in masks] + [mask >> 32 for mask in masks]
    _checked(_LIBC.capset(header, ctypes.create_string_buffer(struct.pack("=6I", *words), 24)))
