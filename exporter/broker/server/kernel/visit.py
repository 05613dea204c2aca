"""The netlink sockets of one visit to a namespace, one per protocol, made when first needed and closed together; and a visit's bounds.

Broker side of the flow; privileged. Used by the topics of rtnetlink.py and nfnetlink.py. It retries what the kernel
says to retry.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass

from exporter.broker.server.kernel.netlink import Netlink


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much one visit may take, in bytes. What is larger is EFBIG to whoever asked."""

    dump: int  # one dump
    visit: int  # all that leaves the broker
    table: int  # a legacy table: copied whole, dropped at once


HOME_BOUNDS = Bounds(dump=16 << 20, visit=32 << 20, table=1 << 30)
POD_BOUNDS = Bounds(dump=512 << 10, visit=1 << 20, table=16 << 20)
"""A pod that owns its tables may fill them to hurt its reader: half a MiB is 300 links, 7,000 addresses, 4,000 listeners."""


class Visit:
    """Raises OSError throughout. `interrupted` is set by a dump that was interrupted (NLM_F_DUMP_INTR) twice; its reader clears it."""

    __slots__ = ("_sockets", "bounds", "interrupted")

    def __init__(self, bounds: Bounds = HOME_BOUNDS) -> None:
        self.bounds = bounds
        self._sockets: dict[int, Netlink] = {}
        self.interrupted = False

    def close(self) -> None:
        for each in self._sockets.values():
            each.close()
        self._sockets.clear()

    def fetch(self, protocol: int, request: bytes) -> bytes:
        """The whole answer to a request. A dump that is interrupted or overrun (ENOBUFS) is made once more."""
        try:
            data, interrupted = self._idle_socket(protocol).fetch(request, self.bounds.dump)
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise
            data, interrupted = b"", True
        if interrupted:
            data, interrupted = self._idle_socket(protocol).fetch(request, self.bounds.dump)
            self.interrupted |= interrupted
        return data

    def fetch_head(self, protocol: int, request: bytes) -> bytes:
        """The first packet of a dump."""
        return self._idle_socket(protocol).fetch_head(request)

    def _idle_socket(self, protocol: int) -> Netlink:
        """The visit's socket of this protocol; a fresh one where the kernel may still be answering the last request."""
        found = self._sockets.get(protocol)
        if found is not None:
            if not found.busy:
                return found
            found.close()
            del self._sockets[protocol]
        made = self._sockets[protocol] = Netlink(protocol)
        return made
