"""Messages as packets of the SOCK_SEQPACKET socket between the exporter and the broker: a reply may be larger than one packet can be.

A packet is one flag byte (1: more follow) and a piece of a message. No sockets here.
"""

from __future__ import annotations

from collections.abc import Iterator

from exporter.broker.protocol.wire import MAX_REPLY, WireError

PIECE = 64 * 1024  # well below the default send buffer (208 KiB), so that a few packets may be under way
MAX_PACKET = PIECE + 1


def packets(message: bytes) -> Iterator[tuple[bytes, memoryview]]:
    """The packets of a message, each as flag and piece, to be sent together without copying."""
    view = memoryview(message)
    for start in range(0, len(message), PIECE):
        yield b"\1" if start + PIECE < len(message) else b"\0", view[start : start + PIECE]


class Assembly:
    """Puts the packets of one message after the other together again."""

    def __init__(self, limit: int = MAX_REPLY) -> None:
        self._limit = limit
        self._pieces = bytearray()

    @property
    def begun(self) -> bool:
        return bool(self._pieces)

    def add(self, packet: memoryview) -> bytes | None:
        """The message, once this packet completed it. WireError for a packet that cannot be."""
        if len(packet) < 2 or packet[0] > 1:
            raise WireError("not a packet")
        self._pieces += packet[1:]
        if len(self._pieces) > self._limit:
            raise WireError("message too long")
        if packet[0]:
            return None
        message = bytes(self._pieces)
        self._pieces = bytearray()
        return message
