"""The listening sockets. They are bound before anything is started, so that a taken port is one line and exit 2."""

from __future__ import annotations

import errno
import os
import re
import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack

DEFAULT_ADDRESSES = (":10046",)
_BACKLOG = 128
_NO_SUCH_FAMILY = frozenset({errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL})
_TRIES = 8  # for one free port in both families
_SPELLING = re.compile(
    r"(?:\[(?P<bracketed>[0-9A-Fa-f:.]+(?:%[A-Za-z0-9_.-]+)?)\]|(?P<host>[A-Za-z0-9_.-]*)):(?P<port>[0-9]{1,5})"
)


class ListenError(Exception):
    """An address that cannot be listened on; one line."""


def bind(addresses: Sequence[str] = DEFAULT_ADDRESSES) -> list[socket.socket]:
    """Listening sockets for these addresses, all or none. Raises ListenError.

    `:PORT` is every address of both families, or of IPv4 only where the kernel has no IPv6. `0.0.0.0:PORT` and
    `[::]:PORT` are one family each. A name means all its addresses. Port 0 is a free one.
    """
    with ExitStack() as opened:
        sockets = [opened.enter_context(listener) for address in addresses for listener in _bind_one(address)]
        opened.pop_all()
    return sockets


def format_address(listener: socket.socket) -> str:
    """Where a socket listens, as in a URL: `[::]:10046`."""
    host, port = listener.getsockname()[:2]
    return f"[{host}]:{port}" if listener.family is socket.AF_INET6 else f"{host}:{port}"


def _bind_one(address: str) -> Iterator[socket.socket]:
    match = _SPELLING.fullmatch(address)
    if match is None or int(match["port"]) > 65535:
        raise ListenError(f"{address!r} is not an address to listen on (:10046, 192.0.2.1:10046, [::1]:10046)")
    port, host = int(match["port"]), match["bracketed"] or match["host"]
    try:
        yield from _bind_host(host, port) if host else _bind_everywhere(port)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror
        raise ListenError(f"cannot listen on {address}: {reason}") from None


def _bind_host(host: str, port: int) -> Iterator[socket.socket]:
    """A socket for each address of the host, except those of a family that this machine does not have."""
    missing: OSError | None = None
    bound = False
    for family, _, _, _, place in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE):
        try:
            listener = _listen(family, (place[0], port, *place[2:]))
        except OSError as error:
            if error.errno not in _NO_SUCH_FAMILY:
                raise
            missing = error
        else:
            port, bound = listener.getsockname()[1], True  # a free port that was found is used for every address
            yield listener
    if missing and not bound:
        raise missing


def _bind_everywhere(port: int) -> list[socket.socket]:
    for _ in range(_TRIES):
        try:
            six = _listen(socket.AF_INET6, ("::", port))
        except OSError as error:
            if error.errno not in _NO_SUCH_FAMILY:
                raise
            return [_listen(socket.AF_INET, ("0.0.0.0", port))]
        try:
            return [six, _listen(socket.AF_INET, ("0.0.0.0", six.getsockname()[1]))]
        except OSError as error:
            six.close()
            if port or error.errno != errno.EADDRINUSE:
                raise
    raise OSError(errno.EADDRINUSE, "no port is free in both families")


def _listen(family: int, place: tuple[object, ...]) -> socket.socket:
    listener = socket.create_server(place, family=family, backlog=_BACKLOG)
    listener.setblocking(False)  # noqa: FBT003
    return listener
