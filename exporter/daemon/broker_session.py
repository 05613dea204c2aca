"""Connects to a broker and gives up this process's own privilege: the first step of commands that inspect the host.

A running broker is used only if its network namespace is this process's own, else one is started as a child. Then the
process drops its privilege. Nothing here parses anything from outside.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import struct
import subprocess
import time
from dataclasses import dataclass

from exporter.broker.client.requests import BrokerClient, connect_broker, spawn_broker
from exporter.broker.protocol.messages import NAMED_DIRECTORY
from exporter.broker.server.privilege import drop_capabilities, drop_to, effective_capabilities, missing_capabilities
from exporter.daemon.confinement import confine
from exporter.daemon.preload import preload
from exporter.telemetry.logs import fields

log = logging.getLogger(__name__)

UNPRIVILEGED = 65532  # uid and gid, as in the image
DEFAULT_SOCKET = "/run/dualstack-exporter/broker.sock"
MAY_CHANGE_UID = 1 << 6 | 1 << 7  # SETGID, SETUID (linux/capability.h)
STOP_WAIT = 3.0
# What is not visible through a broker without the capability.
HIDDEN = {
    "NET_ADMIN": "NAT and Service rules, tables that redirect",
    "NET_RAW": "ICMP echoes",
    "SYS_ADMIN": "the inside of pods and network namespaces",
    "SYS_PTRACE": "other users' processes: which pod a namespace belongs to, its resolv.conf, its C library",
}
NOT_YET = (FileNotFoundError, ConnectionRefusedError)  # a socket that may still come


@dataclass(slots=True)
class BrokerSession:
    """A broker before its greeting: `connection` is None until its socket exists, `child` is set if started here."""

    path: str = ""
    connection: socket.socket | None = None
    child: subprocess.Popen[bytes] | None = None

    async def connect(self, *, patience: float) -> BrokerClient:
        """The greeted client, waiting up to `patience` seconds for its socket. Raises BrokerError or BrokerGone."""
        end = time.monotonic() + patience
        client = None
        while client is None:
            try:
                client = await BrokerClient.from_socket(self.connection or connect_broker(self.path))
            except OSError as error:
                if not isinstance(error, NOT_YET) or time.monotonic() >= end:
                    raise BrokerError(_unreachable(self.path, error)) from error
                await asyncio.sleep(0.1)
        if not client.shares_namespace:
            client.close()
            raise BrokerError(
                f"{self.path}: that broker is in another network namespace than this process; start one here"
            )
        for name in missing_capabilities(client.welcome.capabilities):
            log.warning("the broker lacks a capability", extra=fields(capability=name, hidden=HIDDEN[name]))
        return client

    def end(self) -> None:
        """End the child, if there is one: it ends when its socket is closed, and a stopped one when it continues.

        It may have more privilege than this process has left, so that it cannot be killed from here.
        """
        if self.connection is not None:
            self.connection.close()
        if self.child is None:
            return
        try:
            self.child.wait(STOP_WAIT)
        except subprocess.TimeoutExpired:
            try:
                self.child.kill()
                self.child.wait(STOP_WAIT)
            except (PermissionError, subprocess.TimeoutExpired):
                log.warning("the broker is stopped and will end when it continues", extra=fields(pid=self.child.pid))


class BrokerError(Exception):
    """No broker can be used here. The message is one line."""


def open_session(
    path: str, *, local: bool = True, programs: bool = False, directory: str = NAMED_DIRECTORY
) -> BrokerSession | None:
    """Find or start a broker, then give up every privilege and confine this process (confinement.py).

    `path`: --broker.socket, or "" for the default place. `local`: this machine is inspected; otherwise no broker is
    needed, and None is returned. `programs`: a credential plugin may have to be run later. `directory`: that of named
    namespaces, for a broker that is started here.
    It is connected to before privilege is given up, because only root may be allowed on its socket. A named socket must
    exist, but may come a little later (two containers start side by side). At the default place a broker that does not
    answer is ignored and a child started instead. Raises BrokerError where there is no broker.
    """
    session = BrokerSession(path=path, connection=_find_broker(path)) if local else None
    try:
        if session is not None and not path and session.connection is None:
            session.connection, session.child = spawn_broker(directory)
    except OSError as error:
        raise BrokerError(f"the broker cannot be started: {error.strerror}") from error
    preload()
    give_up_privilege()
    confine(programs=programs, binds=not local)
    return session


def give_up_privilege() -> None:
    """Change to an unprivileged uid where root may do so; drop every capability and set no_new_privs in any case."""
    if os.geteuid() == 0 and effective_capabilities() & MAY_CHANGE_UID == MAY_CHANGE_UID:
        drop_to(UNPRIVILEGED, UNPRIVILEGED)
    else:
        drop_capabilities()


def _find_broker(path: str) -> socket.socket | None:
    """A connection to a broker of this network namespace; None where there is none, or none yet."""
    try:
        connection = connect_broker(path or DEFAULT_SOCKET)
        pid, _, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    except (*NOT_YET, PermissionError):
        return None
    except OSError as error:
        if path:
            raise BrokerError(_unreachable(path, error)) from error
        return None
    if _in_other_namespace(pid):
        connection.close()
        return None
    return connection


def _unreachable(path: str, error: OSError) -> str:
    return f"{path}: no broker can be reached there: {error.strerror or error}"


def _in_other_namespace(pid: int) -> bool:
    """Whether that process is in another network namespace; False where it cannot be seen (another pid namespace)."""
    try:
        there, here = (os.stat(f"/proc/{who}/ns/net") for who in (pid, "self"))  # noqa: PTH116 - procfs
    except OSError:
        return False
    return (there.st_dev, there.st_ino) != (here.st_dev, here.st_ino)
