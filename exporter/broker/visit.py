"""The netlink sockets of one visit to a namespace, one per protocol, made when first needed and closed together.

Broker side of the flow; privileged. Used by the topics of rtnetlink.py and nfnetlink.py. It retries what the kernel says to retry.
"""

from __future__ import annotations

import errno

from exporter.broker.netlink import Netlink

MAX_DUMP = 16 << 20  # bytes of one dump


class Visit:
    """Raises OSError throughout. `interrupted` is set by a dump that was interrupted (NLM_F_DUMP_INTR) twice; its reader clears it."""

    __slots__ = ("_sockets", "interrupted")

    def __init__(self) -> None:
        self._sockets: dict[int, Netlink] = {}
        self.interrupted = False

    def close(self) -> None:
        for each in self._sockets.values():
            each.close()
        self._sockets.clear()

    def fetch(self, protocol: int, request: bytes) -> bytes:
        """The whole answer to a request. A dump that is interrupted or overrun (ENOBUFS) is made once more."""
        try:
            data, interrupted = self._idle_socket(protocol).fetch(request, MAX_DUMP)
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise
            data, interrupted = b"", True
        if interrupted:
            data, interrupted = self._idle_socket(protocol).fetch(request, MAX_DUMP)
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
