"""Whether anything in the host's network namespace changed, by the kernel's announcements (rtnetlink(7)).

Part of the inspection. Routes, neighbours and forwarding entries are the host's only tables that grow with the cluster,
and the kernel announces every change of them: without an announcement those of the last round are still valid. Any
announcement, or a lost one, means that all is read again. Needs no capability; where the kernel refuses, the monitor is
never silent.
"""

from __future__ import annotations

import ctypes
import socket
import struct
import weakref
from contextlib import suppress

# linux/rtnetlink.h: RTNLGRP_LINK, _NEIGH, _IPV4_IFADDR, _IPV4_ROUTE, _IPV6_IFADDR, _IPV6_ROUTE, _NEXTHOP, as the mask
# that bind takes. Links, addresses and next hops too: some routes go with them unannounced (fib_sync_down_dev in
# net/ipv4/fib_semantics.c).
_GROUPS = sum(1 << group - 1 for group in (1, 3, 5, 7, 9, 11, 32))
_RTM_NEWNEIGH, _RTM_DELNEIGH = 28, 29
_TYPE_AT = 4  # nlmsghdr.nlmsg_type
_LINK_AT = 20  # ndmsg.ndm_ifindex behind the header
_SO_ATTACH_FILTER = 26  # asm-generic/socket.h
_LOAD_HALF, _LOAD_WORD, _JUMP_IF_EQUAL, _RETURN = 0x28, 0x20, 0x15, 0x06  # linux/bpf_common.h
_ACCEPT, _DROP = 0xFFFFFFFF, 0
_MAX_LINKS = 16
_MAX_EVENTS = 1000  # read at a time: what is left is another change


class RtnetlinkMonitor:
    """The announcements of the namespace that it is created in. Its socket is closed with it."""

    def __init__(self) -> None:
        self._links: frozenset[int] | None = None
        self._changed = True
        self._socket: socket.socket | None = None
        with suppress(OSError):  # refused, for example by a sandbox: then everything is read every time
            self._socket = _subscribe()
            weakref.finalize(self, self._socket.close)
        self.watch(frozenset())

    def is_silent(self) -> bool:
        """Whether the kernel announced nothing since this was asked last."""
        changed, self._changed = self._changed, False
        return self._socket is not None and not (_drain(self._socket) or changed)

    def watch(self, links: frozenset[int]) -> None:
        """Set the links, by index, whose neighbours and forwarding entries matter; others' change with every packet.

        To be called before those entries are read: earlier changes on a link that was not watched went unnoticed.
        """
        if links == self._links:
            return
        self._links = links
        if self._socket is not None and (len(links) > _MAX_LINKS or not _filter(self._socket, links)):
            self.close()

    def close(self) -> None:
        """Never be silent from now on."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def _subscribe() -> socket.socket:
    made = socket.socket(
        socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE
    )
    try:
        made.bind((0, _GROUPS))
    except BaseException:
        made.close()
        raise
    return made


def _drain(announcements: socket.socket) -> bool:
    """Whether anything was announced, or lost (ENOBUFS)."""
    for count in range(_MAX_EVENTS):
        try:
            announcements.recv(1)
        except BlockingIOError:
            return count > 0
        except OSError:  # ENOBUFS: announcements were lost; earlier ones are still queued
            continue
    return True


def _filter(announcements: socket.socket, links: frozenset[int]) -> bool:
    """Have the kernel drop neighbour announcements of other links: on a busy node they would overflow the buffer."""
    count = len(links)
    program = b"".join(
        (  # a jump counts the instructions that it leaves out
            _instruction(_LOAD_HALF, _TYPE_AT),
            _instruction(_JUMP_IF_EQUAL, _as_loaded("=H", _RTM_NEWNEIGH), equal=1),
            _instruction(_JUMP_IF_EQUAL, _as_loaded("=H", _RTM_DELNEIGH), other=count + 2),  # to the acceptance
            _instruction(_LOAD_WORD, _LINK_AT),
            *(_instruction(_JUMP_IF_EQUAL, _as_loaded("=I", link), equal=count - i) for i, link in enumerate(links)),
            _instruction(_RETURN, _DROP),
            _instruction(_RETURN, _ACCEPT),
        )
    )
    code = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("@HP", len(program) // 8, ctypes.addressof(code))  # struct sock_fprog
    try:
        announcements.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, header)
    except OSError:
        return False
    return True


def _instruction(code: int, value: int, *, equal: int = 0, other: int = 0) -> bytes:
    return struct.pack("=HBBI", code, equal, other, value)  # struct sock_filter


def _as_loaded(layout: str, value: int) -> int:
    """A number of the host's byte order as the filter sees it: it loads in network order."""
    return int.from_bytes(struct.pack(layout, value), "big")
