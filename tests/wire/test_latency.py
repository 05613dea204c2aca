"""The latency that is reported on a path of known delay: the network's, however long the exporter itself took.

client 10.99.7.1 fd99:7::1 -- a process that holds each reply for 20 ms -- server 10.99.7.2 fd99:7::2
"""

from __future__ import annotations

import asyncio
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from ipaddress import ip_address

import pytest

from exporter.model.family import FAMILIES, Family
from exporter.model.probe import Layer, LookupOutcome, Nameserver, Outcome, Purpose, Question
from exporter.probes.engine.driver import EpollDriver
from exporter.probes.runner import Deadline, ProbeRunner
from exporter.probes.tls import TlsContexts
from exporter.telemetry.logs import InternalErrors
from tests.kernel.namespaces import unique_prefix
from tests.wire.loopback import DOMAIN, HOST, make_check
from tests.wire.namespaces import Namespace, NamespaceNetwork, execute

pytestmark = pytest.mark.real

DELAY = 0.02  # seconds
BUSY = 0.15  # seconds for which the exporter's loop stands still, again and again
# What the relay and a busy machine may add. Our own delay is in no figure: it alone would be 0.075 s in the mean.
TOLERANCE = 0.03
PROBES = 40
SERVER = {Family.V4: ip_address("10.99.7.2"), Family.V6: ip_address("fd99:7::2")}
PORT = 7000

# Carries packets between TUN devices of two namespaces; those of the second one reach the first one later.
RELAY = """
import collections, ctypes, fcntl, os, select, struct, sys, time

def tun(namespace):
    handle = os.open(f"/run/netns/{namespace}", os.O_RDONLY)
    assert ctypes.CDLL(None).setns(handle, 0x40000000) == 0
    device = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(device, 0x400454CA, struct.pack("16sH22x", b"slow", 0x1001))  # TUNSETIFF: IFF_TUN, IFF_NO_PI
    return device

def pass_on(device, packet):
    try:
        os.write(device, packet)
    except OSError:  # the device is not up yet
        pass

near, far = tun(sys.argv[1]), tun(sys.argv[2])
print("ready", flush=True)
held = collections.deque()
while True:
    wait = max(0.0, held[0][0] - time.monotonic()) if held else None
    for device in select.select([near, far], [], [], wait)[0]:
        packet = os.read(device, 65536)
        if device == near:
            pass_on(far, packet)
        else:
            held.append((time.monotonic() + float(sys.argv[3]), packet))
    while held and held[0][0] <= time.monotonic():
        pass_on(near, held.popleft()[1])
"""


@pytest.fixture(scope="module")
def path() -> Iterator[tuple[Namespace, Namespace]]:
    prefix = unique_prefix()
    client, server = Namespace(f"{prefix}lc"), Namespace(f"{prefix}ls")
    relay = None
    try:
        for each in (client, server):
            execute("ip", "netns", "add", each.name)
        command = (sys.executable, "-c", RELAY, client.name, server.name, str(DELAY))
        relay = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert relay.stdout is not None
        assert relay.stdout.readline() == b"ready\n"
        for number, each in enumerate((client, server), 1):
            each.ip(
                "link set lo up",
                "link set slow up",
                f"addr add 10.99.7.{number}/24 dev slow",
                f"addr add fd99:7::{number}/64 dev slow nodad",
            )
        yield client, server
    finally:
        if relay is not None:
            relay.kill()
            relay.communicate()
        for each in (client, server):
            execute("ip", "netns", "delete", each.name)


def answer(sock: socket.socket) -> None:
    """Each question with an empty answer, until an empty one comes."""
    while True:
        query, client = sock.recvfrom(512)
        if not query:
            return
        sock.sendto(query[:2] + b"\x81\x80" + query[4:6] + bytes(6) + query[12:][: query[12:].index(0) + 5], client)


async def stand_still() -> None:
    while True:
        time.sleep(BUSY)  # noqa: ASYNC251 - as if other work of the exporter took so long
        await asyncio.sleep(0.001)


@pytest.mark.parametrize("family", FAMILIES)
async def test_what_is_reported_is_the_paths_delay_and_not_our_own(
    path: tuple[Namespace, Namespace], family: Family
) -> None:
    client, server = path
    runner = ProbeRunner(EpollDriver(NamespaceNetwork(client)), TlsContexts(), InternalErrors(), clock=time.time)
    listener, nameserver = (
        server.inside(socket.socket, DOMAIN[family], kind) for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM)
    )
    with listener, nameserver:
        listener.bind((str(SERVER[family]), PORT))
        listener.listen(PROBES)
        nameserver.bind((str(SERVER[family]), PORT))
        answering = threading.Thread(target=answer, args=(nameserver,), daemon=True)
        answering.start()
        starts = [0.02 * number for number in range(PROBES)]
        dials = [
            make_check(family, PORT, layers, address=SERVER[family], start=start)
            for layers in ((Layer.TCP,), (Layer.ICMP,))
            for start in starts
        ]
        asked = Nameserver(SERVER[family], "slow", PORT)
        questions = [
            Question(
                vantage=HOST, server=asked, name="x.test", qtype="AAAA", label="x", purpose=Purpose.PULSE,
                timeout=20, start=start,
            )
            for start in starts
        ]  # fmt: skip
        busy = asyncio.create_task(stand_still())
        observations, lookups = await asyncio.gather(
            runner.check_all(dials, Deadline.after(60)), runner.ask_all(questions, Deadline.after(60))
        )
        busy.cancel()
        nameserver.sendto(b"", nameserver.getsockname())
        answering.join()
    assert {o.outcome for o in observations} == {Outcome.OK}
    assert {lookup.outcome for lookup in lookups} == {LookupOutcome.NODATA}
    reported = {layer: [o.seconds for o in observations if o.layer is layer] for layer in (Layer.TCP, Layer.ICMP)}
    for seconds in (*reported.values(), [lookup.seconds for lookup in lookups]):
        known = [each for each in seconds if each is not None]
        assert len(known) == PROBES
        assert min(known) >= DELAY - 0.001
        assert statistics.median(known) <= DELAY + TOLERANCE
