"""Nameservers for the wire tests: a real BIND with tests/data/zones, and scripted ones on the loopback addresses."""

from __future__ import annotations

import asyncio
import socket
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from exporter.model.family import Family
from exporter.model.probe import Nameserver, Purpose, Question
from tests.wire.loopback import DOMAIN, HOST, LOOPBACK

ZONES = Path(__file__).parent.parent / "data" / "zones"
CONFIGURATION = """
options {{
  directory "{folder}"; pid-file none; session-keyfile none; recursion no; dnssec-validation no; empty-zones-enable no;
  listen-on port {port} {{ 127.0.0.1; }}; listen-on-v6 port {port} {{ ::1; }};
}};
controls {{ }};
zone "wire.test" {{ type primary; file "{zones}/wire.test.zone"; }};
zone "broken.test" {{ type primary; file "{folder}/missing.zone"; }};
"""

Script = Callable[[bytes], list[bytes]]


def make_question(family: Family, port: int, name: str, qtype: str = "A", **options: Any) -> Question:
    """A question to the loopback address of a family. Further arguments are those of Question."""
    question = Question(
        vantage=HOST,
        server=Nameserver(LOOPBACK[family], "fake", port),
        name=name,
        qtype=qtype,
        label="x",
        purpose=Purpose.PULSE,
        timeout=20,
    )
    return replace(question, **options)


def free_port() -> int:
    """A port that is free for UDP and TCP on both loopback addresses."""
    while True:
        with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as tcp:
            port: int = tcp.getsockname()[1]
            with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as udp:
                try:
                    udp.bind(("::", port))
                except OSError:
                    continue
                return port


@contextmanager
def bind9(folder: Path) -> Iterator[int]:
    """A real BIND, authoritative for wire.test; broken.test is a zone that it could not load."""
    port = free_port()
    configuration = folder / "named.conf"
    configuration.write_text(CONFIGURATION.format(folder=folder, port=port, zones=ZONES))
    process = subprocess.Popen(["named", "-g", "-n", "1", "-c", str(configuration)], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        log = []
        for line in process.stderr:  # ends when named does
            log.append(line)
            if line.endswith(" running\n"):
                break
        assert process.poll() is None, "".join(log)
        yield port
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


class _Scripted(asyncio.DatagramProtocol):
    def __init__(self, script: Script) -> None:
        self._script = script
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        for reply in self._script(data):
            self._transport.sendto(reply, addr)


@asynccontextmanager
async def scripted(family: Family, script: Script, port: int = 0) -> AsyncIterator[int]:
    """A UDP server that sends what the script makes of each datagram."""
    address = (str(LOOPBACK[family]), port)
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
        lambda: _Scripted(script), local_addr=address, family=DOMAIN[family]
    )
    try:
        yield transport.get_extra_info("sockname")[1]
    finally:
        transport.abort()
