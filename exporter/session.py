"""A broker to work with, and no privilege of one's own: what every command that looks at this machine begins with.

Synchronous and first: a running broker is used only if its network namespace is this process's own, else one is started as a child.
Then the process gives up what it has. Nothing here parses anything from outside.
"""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass

from exporter.broker.client import BrokerClient, spawn_broker
from exporter.broker.privilege import drop_capabilities, drop_to
from exporter.preload import preload

UNPRIVILEGED = 65532  # uid and gid of "nonroot", as images use it
DEFAULT_SOCKET = "/run/dualstack-exporter/broker.sock"
STOP_WAIT = 3.0


@dataclass(slots=True)
class Session:
    """A connected but not yet greeted broker: a path to connect to, or a child with our end of its socket."""

    path: str = ""
    connection: socket.socket | None = None
    child: subprocess.Popen[bytes] | None = None

    async def client(self) -> BrokerClient:
        """Greet the broker. A running one that lives in another network namespace is refused: its host is not ours."""
        if self.connection is not None:
            return await BrokerClient.from_socket(self.connection)
        client = await BrokerClient.connect(self.path)
        if not client.shares_namespace:
            client.close()
            raise ForeignBrokerError(self.path)
        return client

    def end(self) -> None:
        """End the child, if there is one: its socket's end is its end."""
        if self.child is None:
            return
        try:
            self.child.wait(STOP_WAIT)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait(STOP_WAIT)


class ForeignBrokerError(Exception):
    """The broker at this path lives in another network namespace."""

    def __init__(self, path: str) -> None:
        super().__init__(f"{path}: that broker lives in another network namespace than this process; start one here")


def open_session(path: str, *, further: Iterable[str] = ()) -> Session:
    """Find or start a broker, then give up every privilege. `path`: --broker.socket, or "" for the default place.

    A socket that was named must be there (it may come a little later: two containers start side by side, so the caller waits). At the
    default place a broker that does not answer is passed over and a child started instead.
    """
    if path:
        session = Session(path=path)
    elif _answers(DEFAULT_SOCKET):
        session = Session(path=DEFAULT_SOCKET)
    else:
        connection, child = spawn_broker()
        session = Session(connection=connection, child=child)
    preload(further)
    give_up_privilege()
    return session


def give_up_privilege() -> None:
    """An unprivileged uid where we are root, no capability and no_new_privs in any case."""
    if os.geteuid() == 0:
        drop_to(UNPRIVILEGED, UNPRIVILEGED)
    else:
        drop_capabilities()


async def connect(session: Session, *, patience: float = 0.0) -> BrokerClient:
    """The greeted client, waiting up to `patience` seconds for a socket that is not there yet."""
    loop = asyncio.get_running_loop()
    end = loop.time() + patience
    while True:
        try:
            return await session.client()
        except (FileNotFoundError, ConnectionRefusedError):
            if loop.time() >= end:
                raise
            await asyncio.sleep(0.1)


def _answers(path: str) -> bool:
    """Whether something listens there, in this very network namespace's sense of it: the greeting decides later."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as probe:
        try:
            probe.connect(path)
        except OSError:
            return False
    return True
