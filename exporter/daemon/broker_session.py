"""A broker to work with, and no privilege of one's own: what every command that looks at this machine begins with.

Synchronous and first: a running broker is used only if its network namespace is this process's own, else one is started
as a child. Then the process gives up what it has. Nothing here parses anything from outside.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import struct
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass

from exporter.broker.client.requests import BrokerClient, connect_broker, spawn_broker
from exporter.broker.server.privilege import drop_capabilities, drop_to, effective_capabilities, missing_capabilities
from exporter.daemon.preload import preload
from exporter.telemetry.logs import fields

log = logging.getLogger(__name__)

UNPRIVILEGED = 65532  # uid and gid of "nonroot", as images use it
DEFAULT_SOCKET = "/run/dualstack-exporter/broker.sock"
MAY_CHANGE_UID = 1 << 6 | 1 << 7  # SETGID, SETUID (linux/capability.h)
STOP_WAIT = 3.0
# What a broker without the capability cannot show; what is seen all the same (an ICMP socket of an unprivileged kind)
# is seen.
HIDDEN = {
    "NET_ADMIN": "NAT and Service rules, tables that redirect",
    "NET_RAW": "ICMP echoes",
    "SYS_ADMIN": "the inside of pods and network namespaces",
    "SYS_PTRACE": "other users' processes: which pod a namespace belongs to, its resolv.conf, its C library",
}
NOT_YET = (FileNotFoundError, ConnectionRefusedError)  # a socket that may still come


@dataclass(slots=True)
class BrokerSession:
    """A broker that is connected but not yet greeted, or whose socket is still to come; `child` is set where it was started here."""

    path: str = ""
    connection: socket.socket | None = None
    child: subprocess.Popen[bytes] | None = None

    async def client(self) -> BrokerClient:
        """Greet the broker. A running one that lives in another network namespace is refused: its host is not ours."""
        connection = self.connection or connect_broker(self.path)
        client = await BrokerClient.from_socket(connection)
        if not client.shares_namespace:
            client.close()
            raise ForeignBrokerError(self.path)
        return client

    def end(self) -> None:
        """End the child, if there is one: its socket's end is its end. One that is stopped ends when it goes on.

        It may have more privilege than this process has by now, so that it cannot be killed from here.
        """
        if self.connection is not None:
            self.connection.close()  # nobody else holds it by now, or a client that has closed it too
        if self.child is None:
            return
        try:
            self.child.wait(STOP_WAIT)
        except subprocess.TimeoutExpired:
            try:
                self.child.kill()
                self.child.wait(STOP_WAIT)
            except (PermissionError, subprocess.TimeoutExpired):
                log.warning("the broker is stopped and will end once it goes on", extra=fields(pid=self.child.pid))


class BrokerError(Exception):
    """No broker can be used at this place. The message is one line."""


class ForeignBrokerError(BrokerError):
    """The broker at this path lives in another network namespace."""

    def __init__(self, path: str) -> None:
        super().__init__(f"{path}: that broker lives in another network namespace than this process; start one here")


def open_session(path: str, *, further: Iterable[str] = ()) -> BrokerSession:
    """Find or start a broker, then give up every privilege. `path`: --broker.socket, or "" for the default place.

    It is connected to before privilege is given up: its socket may admit root alone. A socket that was named must be
    there, though it may come a little later (two containers start side by side, and there is no privilege to wait for);
    at the default place one that does not answer is passed over and a child started instead. Raises BrokerError where
    none can be had.
    """
    session = BrokerSession(path=path, connection=_connected_to(path) if path else _connected())
    try:
        if not path and session.connection is None:
            session.connection, session.child = spawn_broker()
    except OSError as error:
        raise BrokerError(f"the broker cannot be started: {error.strerror}") from error
    preload(further)
    give_up_privilege()
    return session


def give_up_privilege() -> None:
    """An unprivileged uid where we are root and may change it, no capability and no_new_privs in any case."""
    if os.geteuid() == 0 and effective_capabilities() & MAY_CHANGE_UID == MAY_CHANGE_UID:
        drop_to(UNPRIVILEGED, UNPRIVILEGED)
    else:
        drop_capabilities()


async def connect(session: BrokerSession, *, patience: float = 0.0) -> BrokerClient:
    """The greeted client, waiting up to `patience` seconds for a socket that is not there yet. BrokerError, BrokerGone."""
    loop = asyncio.get_running_loop()
    end = loop.time() + patience
    while True:
        try:
            client = await session.client()
        except NOT_YET as error:
            if loop.time() >= end:
                raise BrokerError(_says(session.path, error)) from error
            await asyncio.sleep(0.1)
        except OSError as error:
            raise BrokerError(_says(session.path, error)) from error
        else:
            _name_what_is_hidden(client.welcome.capabilities)
            return client


def _name_what_is_hidden(capabilities: int) -> None:
    for name in missing_capabilities(capabilities):
        log.warning("the broker lacks a capability", extra=fields(capability=name, hidden=HIDDEN[name]))


def _connected_to(path: str) -> socket.socket | None:
    """A connection to the broker that was named; None while it is not there, or where its greeting must tell."""
    try:
        return _local(connect_broker(path))
    except (*NOT_YET, PermissionError):
        return None
    except OSError as error:
        raise BrokerError(_says(path, error)) from error


def _connected() -> socket.socket | None:
    """A connection to a broker of this very network namespace at the default place; None where there is none."""
    try:
        return _local(connect_broker(DEFAULT_SOCKET))
    except OSError:
        return None


def _local(connection: socket.socket) -> socket.socket | None:
    pid, _, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    if _lives_elsewhere(pid):
        connection.close()
        return None
    return connection


def _says(path: str, error: OSError) -> str:
    return f"{path}: no broker can be reached there: {error.strerror or error}"


def _lives_elsewhere(pid: int) -> bool:
    """Whether that process is seen to live in another network namespace. Unseen (pid 0: another pid namespace) the greeting tells."""
    try:
        there, here = (os.stat(f"/proc/{who}/ns/net") for who in (pid, "self"))  # noqa: PTH116 - procfs
    except OSError:
        return False
    return (there.st_dev, there.st_ino) != (here.st_dev, here.st_ino)
