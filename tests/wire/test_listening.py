"""Listening sockets: what each spelling of an address binds, and the one line where that fails."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator

import pytest

from exporter.web.server import listening
from exporter.web.server.listening import ListenError, bind, format_address


@pytest.fixture
def opened() -> Iterator[list[socket.socket]]:
    sockets: list[socket.socket] = []
    yield sockets
    for listener in sockets:
        listener.close()


def places(sockets: list[socket.socket]) -> list[str]:
    return [format_address(listener).rpartition(":")[0] for listener in sockets]


def port_of(listener: socket.socket) -> int:
    port: int = listener.getsockname()[1]
    return port


def test_a_port_alone_is_both_families_on_one_port(opened: list[socket.socket]) -> None:
    opened += bind([":0"])
    assert places(opened) == ["[::]", "0.0.0.0"]
    assert port_of(opened[0]) == port_of(opened[1])
    for host in ("::1", "127.0.0.1"):
        socket.create_connection((host, port_of(opened[0])), timeout=2).close()


@pytest.mark.parametrize(
    ("address", "bound"),
    [("0.0.0.0:0", ["0.0.0.0"]), ("[::]:0", ["[::]"]), ("[::1]:0", ["[::1]"]), ("127.0.0.1:0", ["127.0.0.1"])],
)
def test_an_address_is_bound_as_written(opened: list[socket.socket], address: str, bound: list[str]) -> None:
    opened += bind([address])
    assert places(opened) == bound


def test_a_name_stands_for_all_its_addresses(opened: list[socket.socket]) -> None:
    opened += bind(["localhost:0"])
    known = {info[4][0] for info in socket.getaddrinfo("localhost", 0, type=socket.SOCK_STREAM)}
    assert {place.strip("[]") for place in places(opened)} == known
    assert len({port_of(listener) for listener in opened}) == 1


def test_several_addresses_are_all_bound(opened: list[socket.socket]) -> None:
    opened += bind(["127.0.0.1:0", "[::1]:0"])
    assert places(opened) == ["127.0.0.1", "[::1]"]


@pytest.mark.parametrize("error", [errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL])
def test_without_ipv6_in_the_kernel_a_port_alone_is_ipv4(
    opened: list[socket.socket], monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    real = listening._listen

    def listen(family: int, place: tuple[object, ...]) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(error, "no IPv6 here")
        return real(family, place)

    monkeypatch.setattr(listening, "_listen", listen)
    opened += bind([":0", "localhost:0"])
    assert set(places(opened)) == {"0.0.0.0", "127.0.0.1"}


@pytest.mark.parametrize("spelling", [":{}", "127.0.0.1:{}", "0.0.0.0:{}", "localhost:{}"])
def test_a_taken_port_is_one_line_and_leaves_nothing_open(opened: list[socket.socket], spelling: str) -> None:
    opened += bind(["127.0.0.1:0"])
    address = spelling.format(port_of(opened[0]))
    with pytest.raises(ListenError) as error:
        bind(["[::1]:0", address])
    assert str(error.value) == f"cannot listen on {address}: Address already in use"


def test_a_port_taken_in_ipv6_alone_is_refused_too(opened: list[socket.socket]) -> None:
    opened += bind(["[::]:0"])
    with pytest.raises(ListenError, match="Address already in use"):
        bind([f":{port_of(opened[0])}"])


@pytest.mark.parametrize(
    "address", ["", "10046", "::1:10046", "[::1]", "host", "a b:1", ":65536", ":-1", "http://x:1", "[127.0.0.1:1", ":"]
)
def test_what_is_no_address_is_one_line(address: str) -> None:
    with pytest.raises(ListenError, match=r"is not an address to listen on|cannot listen on"):
        bind([address])


def test_a_name_that_does_not_resolve_is_one_line() -> None:
    with pytest.raises(ListenError, match=r"^cannot listen on no-such-host\.invalid:1: [A-Z]"):
        bind(["no-such-host.invalid:1"])
