"""The command `broker`: its arguments, the privileges that it keeps, start and end. The only log lines are here.

It either listens at a path (the container of a DaemonSet) or serves the one connection that it inherited (started by
the exporter).
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from dataclasses import dataclass, field

from exporter.broker.protocol.messages import NAMED_DIRECTORY
from exporter.broker.server.answers import Broker
from exporter.broker.server.listening import BrokerListener, SocketInUseError
from exporter.broker.server.loop import BrokerServer
from exporter.broker.server.privilege import (
    BROKER_CAPABILITIES,
    effective_capabilities,
    limit_capabilities,
    missing_capabilities,
)
from exporter.broker.server.syscalls import PR_SET_DUMPABLE, prctl

_USAGE = (
    "usage: dualstack-exporter broker --socket=PATH [--client-uid=UID]... [--socket-gid=GID] | --fd=N"
    " [--netns-directory=DIR]"
)
_HELP = f"""{_USAGE}

the privileged part: answers a closed set of requests until SIGTERM

options:
  --socket PATH         where exporters connect (a SOCK_SEQPACKET socket)
  --client-uid UID      admit this uid besides root, whatever the socket's mode;
                        repeatable
  --socket-gid GID      the socket's group, whose members may connect
  --fd N                serve only this inherited connection, until it ends
  --netns-directory DIR the directory whose named network namespaces may be
                        listed (default {NAMED_DIRECTORY})
"""


class _UsageError(Exception):
    """Ends the process with one line and status 2."""


@dataclass(slots=True, kw_only=True)
class _Options:
    socket: str = ""
    fd: int | None = None
    client_uids: set[int] = field(default_factory=set)
    socket_gid: int | None = None
    netns_directory: str = NAMED_DIRECTORY


def main(argv: list[str]) -> int:
    """The command `broker`. Exit status 0 after SIGTERM or when the inherited connection ended, 2 on errors.

    With --client-uid anyone may reach the socket, and the peer's uid decides: those uids, root and the broker's own.
    Without, the file's mode decides: owner and group (--socket-gid, else the process's or that of a setgid directory).
    """
    if argv in (["--help"], ["-h"]):
        sys.stdout.write(_HELP)
        return 0
    try:
        options = _parse(argv)
        if options.fd is None:
            _run_listening(options)
        else:
            _run_inherited(options.fd, options.netns_directory)
    except _UsageError as error:
        sys.stderr.write(f"broker: {error}\n")
        return 2
    return 0


def _parse(argv: list[str]) -> _Options:
    options = _Options()
    words = iter(argv)
    for word in words:
        name, equals, value = word.partition("=")
        value = value if equals else next(words, "")
        match name:
            case "--socket" if value:
                options.socket = value
            case "--fd":
                options.fd = _parse_number(name, value)
            case "--client-uid":
                options.client_uids.add(_parse_number(name, value))
            case "--socket-gid":
                options.socket_gid = _parse_number(name, value)
            case "--netns-directory" if value:
                options.netns_directory = value
            case _:
                raise _UsageError(f"{word!r} is not understood; {_USAGE}")
    if bool(options.socket) == (options.fd is not None):
        raise _UsageError(f"either --socket or --fd is needed; {_USAGE}")
    return options


def _parse_number(name: str, value: str) -> int:
    if not (value.isascii() and value.isdecimal() and int(value) < (1 << 32) - 1):
        raise _UsageError(f"{name}={value}: not a number in range")
    return int(value)


def _run_listening(options: _Options) -> None:
    client_uids = {0, os.getuid(), *options.client_uids} if options.client_uids else None
    try:
        listener = BrokerListener(options.socket, mode=0o660 if client_uids is None else 0o666, gid=options.socket_gid)
    except (OSError, SocketInUseError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise _UsageError(f"cannot listen on {options.socket}: {reason}") from error
    try:
        wakeup = _catch(signal.SIGTERM, signal.SIGINT)
        server = BrokerServer(_begin(options.netns_directory), wakeup=wakeup, client_uids=client_uids)
        _log("broker started", socket=options.socket, missing=",".join(missing_capabilities(effective_capabilities())))
        server.serve(listener=listener.socket)
    finally:
        listener.close()
    _log("broker stopped", socket=options.socket)


def _run_inherited(descriptor: int, directory: str) -> None:
    """Serve the process that started this one, until it goes. A terminal's signals are that process's business."""
    try:
        inherited = socket.socket(fileno=descriptor)
    except OSError as error:
        raise _UsageError(f"--fd={descriptor}: {error.strerror}") from error
    if (inherited.family, inherited.type) != (socket.AF_UNIX, socket.SOCK_SEQPACKET):
        raise _UsageError(f"--fd={descriptor}: not a SOCK_SEQPACKET socket")
    os.set_inheritable(descriptor, False)  # noqa: FBT003 - the standard library's signature
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    wakeup = _catch(signal.SIGTERM)
    BrokerServer(_begin(directory), wakeup=wakeup).serve(inherited=inherited)


def _begin(directory: str = NAMED_DIRECTORY) -> Broker:
    """Keep what the requests need of power and nothing else."""
    limit_capabilities(BROKER_CAPABILITIES)
    prctl(PR_SET_DUMPABLE, 0)  # neither memory nor descriptors are to be seen by another process of the same uid
    try:
        return Broker(directory)
    except OSError as error:
        raise _UsageError(f"cannot read {error.filename}: {error.strerror}") from error


def _catch(*signals: signal.Signals) -> socket.socket:
    """A socket that becomes readable when one of these signals came. No exception: none may arrive inside a visit."""
    reader, writer = socket.socketpair()
    writer.settimeout(0)
    for number in signals:
        signal.signal(number, lambda *_: None)
    signal.set_wakeup_fd(writer.detach())
    return reader


def _log(message: str, **fields: str) -> None:
    words = {"time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "level": "info", "msg": message, **fields}
    quoted = ((name, text.encode("unicode_escape").decode().replace('"', '\\"')) for name, text in words.items())
    sys.stderr.write(" ".join(f'{name}="{text}"' if " " in text else f"{name}={text}" for name, text in quoted) + "\n")
