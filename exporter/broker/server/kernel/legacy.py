"""Copies tables of legacy iptables by getsockopt, in the namespace that is being visited.

Server side of the broker; privileged. The kernel hands out a whole table or nothing, so it is copied into memory that
is dropped at once, and only the chains asked for leave the broker (legacy_table.py). Asking for a table creates it: a
table that /proc does not list is never asked for.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from exporter.broker.protocol.legacy_chains import LAYOUT4, LAYOUT6, EntryLayout
from exporter.broker.server.kernel.legacy_table import LegacyTable
from exporter.broker.server.syscalls import getsockopt, getsockopt_into, read_file

_ATTEMPTS = 5  # the table may grow between asking its size and copying it

_GET_INFO, _GET_ENTRIES = 64, 65
_INFO = struct.Struct("=32sI5I5III")  # name, valid hooks, hook entries, underflows, number of entries, size
_ENTRIES_HEADER = 40
_TABLES = frozenset({b"nat", b"mangle"})


@dataclass(frozen=True, slots=True)
class _TableSource:
    """Where one family's tables are asked for and listed, and how their entries are laid out."""

    level: int
    layout: EntryLayout
    names: str


_SOURCES: dict[int, _TableSource] = {
    int(socket.AF_INET): _TableSource(socket.IPPROTO_IP, LAYOUT4, "/proc/thread-self/net/ip_tables_names"),
    int(socket.AF_INET6): _TableSource(socket.IPPROTO_IPV6, LAYOUT6, "/proc/thread-self/net/ip6_tables_names"),
}


def table_names(family: int) -> bytes:
    """The legacy tables that exist in this namespace, one a line. Empty where ip(6)_tables is not loaded."""
    try:
        return read_file(_SOURCES[family].names, limit=4096)
    except FileNotFoundError:
        return b""


def read_table(family: int, table: bytes, limit: int, encode: Callable[[LegacyTable], bytes]) -> bytes:
    """What `encode` makes of a copy. Empty where the table does not exist; it is not created. EFBIG above `limit`."""
    source = _SOURCES[family]
    if table not in _TABLES:
        raise OSError(errno.EINVAL, "no such table")
    if table not in table_names(family).split():
        return b""
    if struct.calcsize("P") != 8:
        raise OSError(errno.EOPNOTSUPP, "the layout is known for 64 bits only")
    with socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as asked:
        for attempt in range(_ATTEMPTS):
            try:
                copy = _copy_table(asked, source, table, limit)
            except OSError as error:
                if error.errno not in {errno.EAGAIN, errno.EINVAL} or attempt == _ATTEMPTS - 1:
                    raise
            else:
                with copy:
                    return encode(copy)
    raise OSError(errno.EAGAIN, "the table kept changing")


def _copy_table(asked: socket.socket, source: _TableSource, table: bytes, limit: int) -> LegacyTable:
    info = _INFO.unpack(getsockopt(asked, (source.level, _GET_INFO), table, _INFO.size))
    size: int = info[-1]
    if not 0 < size <= limit:
        raise OSError(errno.EFBIG, "a table larger than the broker copies")
    memory = _allocate(size + _ENTRIES_HEADER)
    try:
        memory[:_ENTRIES_HEADER] = struct.pack("=32sI4x", table, size)
        anchor = ctypes.c_char.from_buffer(memory)
        try:
            getsockopt_into(asked, (source.level, _GET_ENTRIES), ctypes.addressof(anchor), size + _ENTRIES_HEADER)
        finally:
            del anchor  # memory cannot be closed while it is exported
    except OSError:
        memory.close()
        raise
    return LegacyTable(memory, _ENTRIES_HEADER, source.layout, valid=info[1], hooks=info[2:7], underflows=info[7:12])


def _allocate(size: int) -> mmap.mmap:
    """Anonymous memory, in huge pages if available: the faults of small ones cost as much as the kernel's copy."""
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    with suppress(OSError):  # a kernel without huge pages: small ones do
        memory.madvise(mmap.MADV_HUGEPAGE)
    return memory
