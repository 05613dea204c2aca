"""A child of the broker that reads pods' files, because a file system that a pod mounts may never answer (FUSE, NFS).

Made by fork, without a program: it has SYS_PTRACE only, no descriptor but its channel, and ends with the broker. It
cannot always be killed either: a process that waits for such a file system may be uninterruptible. So nothing here
waits for a child's end.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import traceback
from contextlib import suppress
from typing import NoReturn

from exporter.broker.protocol.messages import FilesOfPods, NamespaceRef, PodFiles, ReadPodFiles
from exporter.broker.protocol.wire import (
    MAX_REQUEST,
    MAX_RESOLV_CONF,
    decode_reply,
    decode_request,
    encode_reply,
    encode_request,
)
from exporter.broker.server.files.podfiles import read_pod_files
from exporter.broker.server.privilege import SYS_PTRACE, limit_capabilities
from exporter.broker.server.syscalls import PR_SET_PDEATHSIG, prctl

_MAX_REPLY = MAX_RESOLV_CONF + 1024
_DYING = 50  # milliseconds in which a child that can be killed is gone


class ChildEndedError(Exception):
    """The child ended instead of answering: killed, or by a fault of its own, which is on stderr."""


class FileChild:
    """One child, and the channel to it. OSError where none can be made."""

    def __init__(self) -> None:
        self._channel, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        parent, self._pid = os.getpid(), -1
        try:
            self._pid = os.fork()
            if not self._pid:
                _become_child(its, parent)
            self._process = os.pidfd_open(self._pid)
        except OSError:
            self._channel.close()
            if self._pid > 0:  # it has done nothing yet, so it ends at once
                os.kill(self._pid, signal.SIGKILL)
                os.waitpid(self._pid, 0)
            raise
        finally:
            its.close()

    def ask(self, place: NamespaceRef, seconds: float) -> PodFiles:
        """The files of this process. TimeoutError when no answer comes in time: then the child is useless."""
        self._channel.settimeout(seconds)
        try:
            self._channel.send(encode_request(ReadPodFiles((place,))))
            message = self._channel.recv(_MAX_REPLY)
        except (BrokenPipeError, ConnectionResetError) as error:
            raise ChildEndedError from error
        if not message:
            raise ChildEndedError
        reply = decode_reply(message)
        assert isinstance(reply, FilesOfPods)
        (files,) = reply.found
        return files

    def kill(self) -> bool:
        """Kill the child; whether it has gone."""
        self._channel.close()
        os.kill(self._pid, signal.SIGKILL)
        dying = select.poll()
        dying.register(self._process, select.POLLIN)
        dying.poll(_DYING)
        return self.has_gone()

    def has_gone(self) -> bool:
        """Whether the child has ended by now; then nothing of it is left. Not to be asked again after that."""
        if os.waitpid(self._pid, os.WNOHANG) == (0, 0):
            return False
        os.close(self._process)
        return True


def _become_child(channel: socket.socket, parent: int) -> NoReturn:
    """From here on this is another process, which must never return into the broker's code."""
    status = 1
    try:
        _give_up_what_is_the_brokers(channel.fileno())
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() == parent:  # else the broker ended before that
            _serve(channel)
        status = 0
    except BaseException:  # noqa: BLE001 - a fault of ours is printed, and ends this process only
        with suppress(OSError):
            traceback.print_exc(file=sys.stderr)
            sys.stderr.flush()
    finally:
        os._exit(status)


def _give_up_what_is_the_brokers(channel: int) -> None:
    """Its signals, its descriptors (clients, the listening socket, the way home) and its power over networks."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's: the broker ends, and this process with it
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    os.closerange(3, channel)
    os.closerange(channel + 1, os.sysconf("SC_OPEN_MAX"))
    limit_capabilities(1 << SYS_PTRACE)


def _serve(channel: socket.socket) -> None:
    channel.settimeout(None)
    while message := channel.recv(MAX_REQUEST):
        request = decode_request(message)
        assert isinstance(request, ReadPodFiles)
        channel.send(encode_reply(FilesOfPods(tuple(map(read_pod_files, request.places)))))
