"""The broker's netlink conversation against a scripted kernel: what it retries, what it refuses, what it believes."""

from __future__ import annotations

import errno
import socket
import struct
from collections import deque

import pytest

from exporter.broker.server.kernel.netlink import Bounds, Netlink, Visit, dump_request

REQUEST = dump_request(18, bytes(16))
INTERRUPTED = 0x10

Packet = bytes | OSError | tuple[bytes, int]


def message(kind: int, body: bytes = b"\0\0\0\0", flags: int = 2) -> bytes:
    return struct.pack("=IHHII", 16 + len(body), kind, flags, 1, 0) + body


def done(status: int = 0, flags: int = 2) -> bytes:
    return message(3, struct.pack("=i", status), flags)


def refusal(code: int) -> bytes:
    return message(2, struct.pack("=i", -code) + REQUEST[:16])


class Kernel:
    """In place of a netlink socket: hands out packets in order, each from port 0 unless it says otherwise."""

    packets: deque[Packet]
    opened: int

    def __init__(self, *_: int) -> None:
        Kernel.opened += 1

    def setsockopt(self, *_: object) -> None: ...

    def send(self, _: bytes) -> None: ...

    def close(self) -> None: ...

    def recvfrom(self, *_: int) -> tuple[bytes, tuple[int, int]]:
        packet = Kernel.packets.popleft()
        if isinstance(packet, OSError):
            raise packet
        return (packet[0], (packet[1], 0)) if isinstance(packet, tuple) else (packet, (0, 0))


@pytest.fixture(autouse=True)
def _kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "SocketType", Kernel)
    monkeypatch.setattr(Kernel, "opened", 0, raising=False)


def play(monkeypatch: pytest.MonkeyPatch, *packets: Packet) -> None:
    monkeypatch.setattr(Kernel, "packets", deque(packets), raising=False)


A, B = message(16, b"aaaa"), message(16, b"bbbb")


@pytest.mark.parametrize("packets", [(A + B, done()), (A, B, done()), (A, B + done()), (A + B + done(),)])
def test_a_dump_is_whole_however_it_is_cut(monkeypatch: pytest.MonkeyPatch, packets: tuple[bytes, ...]) -> None:
    play(monkeypatch, *packets)
    seen = Visit()
    assert seen.fetch(socket.NETLINK_ROUTE, REQUEST) == A + B
    assert not seen.interrupted
    assert Kernel.opened == 1


@pytest.mark.parametrize("mark", [message(16, b"bbbb", INTERRUPTED), done(flags=INTERRUPTED)])
def test_an_interrupted_dump_is_made_once_more(monkeypatch: pytest.MonkeyPatch, mark: bytes) -> None:
    tail = () if mark[4] == 3 else (done(),)
    play(monkeypatch, A, mark, *tail, B, done())
    seen = Visit()
    assert seen.fetch(socket.NETLINK_ROUTE, REQUEST) == B
    assert not seen.interrupted
    play(monkeypatch, A, mark, *tail, A, mark, *tail)
    seen.fetch(socket.NETLINK_ROUTE, REQUEST)
    assert seen.interrupted


def test_an_overrun_is_read_again_on_a_fresh_socket_and_once(monkeypatch: pytest.MonkeyPatch) -> None:
    lost = OSError(errno.ENOBUFS, "lost")
    play(monkeypatch, A, lost, B, done())
    assert Visit().fetch(socket.NETLINK_ROUTE, REQUEST) == B
    assert Kernel.opened == 2
    play(monkeypatch, lost, lost)
    with pytest.raises(OSError, match="lost"):
        Visit().fetch(socket.NETLINK_ROUTE, REQUEST)


@pytest.mark.parametrize("packet", [refusal(errno.EPERM), done(-errno.EPERM), A + done(-errno.EPERM)])
def test_the_kernels_errno_comes_out(monkeypatch: pytest.MonkeyPatch, packet: bytes) -> None:
    play(monkeypatch, packet)
    with pytest.raises(PermissionError):
        Visit().fetch(socket.NETLINK_ROUTE, REQUEST)


def test_a_refusal_leaves_the_socket_usable(monkeypatch: pytest.MonkeyPatch) -> None:
    play(monkeypatch, refusal(errno.ENOENT), A, done())
    seen = Visit()
    with pytest.raises(FileNotFoundError):
        seen.fetch(socket.NETLINK_ROUTE, REQUEST)
    assert seen.fetch(socket.NETLINK_ROUTE, REQUEST) == A
    assert Kernel.opened == 1


def test_messages_of_others_are_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    play(monkeypatch, (message(16, b"evil"), 4711), A, (done(), 4711), done())
    assert Visit().fetch(socket.NETLINK_ROUTE, REQUEST) == A
    play(monkeypatch, *[(done(), 4711)] * 5000)
    with pytest.raises(OSError, match="flood"):
        Visit().fetch(socket.NETLINK_ROUTE, REQUEST)


def test_a_dump_has_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    play(monkeypatch, *[A] * 100)
    with pytest.raises(OSError, match="larger") as caught:
        Netlink(0).fetch(REQUEST, 50)
    assert caught.value.errno == errno.EFBIG
    play(monkeypatch, A, A, done())
    with pytest.raises(OSError, match="larger"):
        Visit(Bounds(dump=30, visit=100, table=0)).fetch(socket.NETLINK_ROUTE, REQUEST)


def test_the_head_of_a_dump_is_its_first_packet(monkeypatch: pytest.MonkeyPatch) -> None:
    play(monkeypatch, A, B, done())
    seen = Visit()
    assert seen.fetch_head(12, REQUEST) == A
    play(monkeypatch, A + done())
    assert seen.fetch_head(12, REQUEST) == A
    assert Kernel.opened == 2
    play(monkeypatch, done())
    assert seen.fetch_head(12, REQUEST) == b""
    play(monkeypatch, refusal(errno.ENOENT))
    with pytest.raises(FileNotFoundError):
        seen.fetch_head(12, REQUEST)
