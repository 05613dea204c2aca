"""The file of the broker's listening socket: made, replaced if its broker has ended, and removed. It serves nothing."""

from __future__ import annotations

import errno
import os
import socket
import stat
from contextlib import suppress

_BACKLOG = 16


class SocketInUseError(Exception):
    """The path is in use and must not be replaced. The text has the reason."""


class BrokerListener:
    """A listening SOCK_SEQPACKET socket at `path`, its file with `mode` from the first moment on.

    OSError when it cannot be made, SocketInUseError when a broker listens there or the path is a file that is no
    socket.
    """

    def __init__(self, path: str, *, mode: int, gid: int | None) -> None:
        self._path = path
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            self._bind(mode)
            if gid is not None:
                os.chown(path, -1, gid, follow_symlinks=False)
            self.socket.listen(_BACKLOG)
            info = os.lstat(path)
        except BaseException:
            self.socket.close()
            raise
        self._file = (info.st_dev, info.st_ino)

    def _bind(self, mode: int) -> None:
        earlier = os.umask(0o777 & ~mode)
        try:
            try:
                self.socket.bind(self._path)
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
                _remove_stale(self._path)
                self.socket.bind(self._path)
        finally:
            os.umask(earlier)

    def close(self) -> None:
        """Stop listening and remove the file, unless another broker has put its own there."""
        self.socket.close()
        with suppress(OSError):  # gone, or not ours to remove: the next broker replaces it
            info = os.lstat(self._path)
            if (info.st_dev, info.st_ino) == self._file:
                os.unlink(self._path)  # noqa: PTH108 - as below


def _remove_stale(path: str) -> None:
    if not stat.S_ISSOCK(os.lstat(path).st_mode):
        raise SocketInUseError("the path is a file that is not a socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:  # no one listens: the broker that made it has ended
            os.unlink(path)  # noqa: PTH108 - pathlib would be a megabyte of the broker's memory
        except OSError as error:  # a socket of another type, or one whose queue is full
            raise SocketInUseError("something listens there") from error
        else:
            raise SocketInUseError("a broker listens there")
