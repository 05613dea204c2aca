"""Reads chains of legacy iptables by getsockopt, in the namespace that is being visited. linux/netfilter_ipv6/ip6_tables.h.

Broker side of the flow (broker -> kernel/decode/legacy.py -> facts); privileged. The kernel hands out a whole table or
nothing, so the table is copied into memory that is dropped at once, and only the chains asked for leave the broker
(legacy_table.py). Asking for a table creates it: a table that /proc does not list is never asked for.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import socket
import struct
from dataclasses import dataclass

from exporter.broker.server.kernel.legacy_table import LegacyTable

_ATTEMPTS = 5  # the table may grow between asking its size and copying it

_GET_INFO, _GET_ENTRIES = 64, 65
_INFO = struct.Struct("=32sI5I5III")  # name, valid hooks, hook entries, underflows, number of entries, size
_ENTRIES_HEADER = 40
_TABLES = frozenset({b"nat", b"mangle"})


def _load_libc() -> ctypes.CDLL:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.getsockopt.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p]
    libc.getsockopt.restype = ctypes.c_int
    return libc


_LIBC = _load_libc()


@dataclass(frozen=True, slots=True)
class _TableLayout:
    """Where one family's tables are asked for, and the length of its ip6t_entry or ipt_entry."""

    level: int
    entry: int
    names: str


_LAYOUTS: dict[int, _TableLayout] = {
    int(socket.AF_INET): _TableLayout(socket.IPPROTO_IP, 112, "/proc/thread-self/net/ip_tables_names"),
    int(socket.AF_INET6): _TableLayout(socket.IPPROTO_IPV6, 168, "/proc/thread-self/net/ip6_tables_names"),
}


def exchange_option(asked: socket.socket, option: tuple[int, int], request: bytes, size: int) -> bytes:
    """Call getsockopt with a buffer that carries a request. Python's own starts from an empty buffer."""
    buffer = ctypes.create_string_buffer(request, size)
    length = ctypes.c_uint32(size)
    _getsockopt(asked, option, ctypes.addressof(buffer), length)
    return buffer.raw[: length.value]


def _getsockopt(asked: socket.socket, option: tuple[int, int], address: int, length: ctypes.c_uint32) -> None:
    if _LIBC.getsockopt(asked.fileno(), *option, address, ctypes.byref(length)) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def table_names(family: int) -> bytes:
    """The legacy tables that exist in this namespace, one a line. Empty where ip(6)_tables is not loaded."""
    try:
        descriptor = os.open(_LAYOUTS[family].names, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return b""
    try:
        return os.read(descriptor, 4096)
    finally:
        os.close(descriptor)


def read_chains(family: int, table: bytes, chains: tuple[bytes, ...], limit: int) -> bytes:
    """The named chains of a table, those that exist. Empty where the table does not exist; it is not created. EFBIG above `limit`."""
    found = _copy_table(family, table, limit)
    if found is None:
        return b""
    with found:
        return found.encode_chains(chains)


def read_reachable(family: int, table: bytes, chains: tuple[bytes, ...], limit: int) -> bytes:
    """The named built-in chains and every chain reached from them by jumps. As read_chains otherwise."""
    found = _copy_table(family, table, limit)
    if found is None:
        return b""
    with found:
        return found.encode_reachable(chains)


def _copy_table(family: int, table: bytes, limit: int) -> LegacyTable | None:
    layout = _LAYOUTS[family]
    if table not in _TABLES:
        raise OSError(errno.EINVAL, "no such table")
    if table not in table_names(family).split():
        return None
    if struct.calcsize("P") != 8:
        raise OSError(errno.EOPNOTSUPP, "the layout is known for 64 bits alone")
    with socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as asked:
        for attempt in range(_ATTEMPTS):
            info = _INFO.unpack(exchange_option(asked, (layout.level, _GET_INFO), table, _INFO.size))
            size: int = info[-1]
            if not 0 < size <= limit:
                raise OSError(errno.EFBIG, "a table larger than the broker copies")
            memory = _allocate(size + _ENTRIES_HEADER)
            try:
                _copy_entries(asked, layout, memory, table, size)
            except OSError as error:
                memory.close()
                if error.errno not in {errno.EAGAIN, errno.EINVAL} or attempt == _ATTEMPTS - 1:
                    raise
                continue
            return LegacyTable(
                memory, _ENTRIES_HEADER, layout.entry, valid=info[1], hooks=info[2:7], underflows=info[7:12]
            )
    raise OSError(errno.EAGAIN, "the table kept changing")


def _allocate(size: int) -> mmap.mmap:
    """Anonymous memory in huge pages where they are had: the faults of small ones cost as much as the kernel's copy."""
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    try:
        memory.madvise(mmap.MADV_HUGEPAGE)
    except OSError:
        return memory  # a kernel without huge pages: small ones do
    return memory


def _copy_entries(asked: socket.socket, layout: _TableLayout, memory: mmap.mmap, table: bytes, size: int) -> None:
    memory[:_ENTRIES_HEADER] = struct.pack("=32sI4x", table, size)
    length = ctypes.c_uint32(size + _ENTRIES_HEADER)
    anchor = ctypes.c_char.from_buffer(memory)
    try:
        _getsockopt(asked, (layout.level, _GET_ENTRIES), ctypes.addressof(anchor), length)
    finally:
        del anchor  # memory cannot be closed while it is exported
