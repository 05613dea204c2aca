"""Pods that own their network namespace and use it against whoever reads it: a stated failure of theirs, and nobody
else's.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, contextmanager

import pytest
import pytest_asyncio

from exporter.broker.client.requests import BrokerClient, spawn_broker
from exporter.broker.protocol.wire import MAX_PLACES
from exporter.broker.server.kernel.netlink import POD_BOUNDS
from exporter.kernel.read import pod_facts
from exporter.kernel.read.readers import read_pods
from exporter.model.facts import ReaderStatus
from exporter.model.reason import Reason
from tests.kernel.broker_lab import named_namespace, place_of_name, place_of_pid, process_in, run
from tests.kernel.namespaces import batch, run_inside

pytestmark = [pytest.mark.real, pytest.mark.attack]

ADDRESS = "2001:db8:1::1/128"


@pytest_asyncio.fixture
async def broker() -> AsyncIterator[BrokerClient]:
    connection, process = spawn_broker()
    client = await BrokerClient.from_socket(connection)
    yield client
    client.close()
    assert process.wait(10) == 0, "the broker ended as it should, so it lived until now"


@contextmanager
def pods(count: int) -> Iterator[list[str]]:
    """Namespaces with one address each."""
    with ExitStack() as stack:
        names = [stack.enter_context(named_namespace()) for _ in range(count)]
        batch({name: [f"address add {ADDRESS} dev lo nodad"] for name in names})
        yield names


def routes(count: int) -> list[str]:
    return [f"route add blackhole 2001:db8:{i >> 16:x}:{i & 0xFFFF:x}::/64" for i in range(1, count + 1)]


def addresses(count: int) -> list[str]:
    return [f"address add 2001:db8:2:{i:x}::1/128 dev lo nodad" for i in range(1, count + 1)]


def tables(count: int) -> str:
    return "".join(f"add table ip6 t{i}\n" for i in range(count))


async def read(broker: BrokerClient, *names: str) -> list[tuple[bool, Reason | None]]:
    """Whether each could be read, and the reason if not; what could be read is right."""
    found = []
    for facts, reading in await read_pods(broker, tuple(map(place_of_name, names))):
        found.append((facts is not None, reading.reason))
        if facts is not None:
            assert ADDRESS in {str(a.interface) for a in facts.addresses}
    return found


READ = (True, None)


@pytest.mark.parametrize("lines", [routes(8000), addresses(9000)], ids=["routes", "addresses"])
async def test_a_pod_that_floods_its_tables_is_unreadable_and_its_neighbours_are_read(
    broker: BrokerClient, lines: list[str]
) -> None:
    with pods(3) as names:
        batch({names[1]: lines})
        assert await read(broker, *names) == [READ, (False, Reason.READER_FAILED), READ]
        (state,) = await broker.read_kernel((place_of_name(names[1]),), pod_facts.FIRST_VISIT)
        assert sum(len(answer.data) for answer in state.answers) <= POD_BOUNDS.visit


async def test_listeners_without_end_hide_no_more_than_themselves(broker: BrokerClient) -> None:
    program = (
        "import resource, socket, sys\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (9000, 9000))\n"
        "held = []\n"
        "for port in range(1024, 9000):\n"
        "    held.append(socket.create_server(('::', port), family=socket.AF_INET6))\n"
        "print('ready', flush=True); sys.stdin.read()\n"
    )
    with pods(1) as (name,), process_in(name, "python3", "-c", program) as process:
        ((facts, reading),) = await read_pods(broker, (place_of_pid(process.pid),))
        assert reading.success
        assert facts is not None
        assert facts.listeners is None


async def test_a_pod_with_hundreds_of_tables_is_read_without_them(broker: BrokerClient) -> None:
    with pods(2) as names:
        run_inside(names[0], "nft", "-f", "-", text=tables(300))
        found = await read_pods(broker, tuple(map(place_of_name, names)))
        assert [facts.intercepted for facts, _ in found if facts is not None] == [None, False]


async def test_a_legacy_table_beyond_the_bound_is_not_copied(broker: BrokerClient) -> None:
    with pods(1) as (name,):
        rules = "-A INPUT -p tcp --dport 1 -j RETURN\n" * 80_000
        run_inside(name, "ip6tables-legacy-restore", "-w", "60", text=f"*nat\n{rules}COMMIT\n")
        ((facts, reading),) = await read_pods(broker, (place_of_name(name),))
        assert reading.success
        assert facts is not None
        assert facts.intercepted is None


async def test_links_of_any_name_are_read(broker: BrokerClient) -> None:
    odd = ['"}{\\', "a=b,c;d", "..#0", "\u202egnol"]
    with pods(1) as (name,):
        for link in odd:
            run("ip", "-n", name, "link", "add", link, "type", "bridge")
        ((facts, _),) = await read_pods(broker, (place_of_name(name),))
        assert facts is not None
        assert {link.name for link in facts.links} >= set(odd)
        rename(name, odd[0], b"\xff\xfe\x80")
        ((facts, _),) = await read_pods(broker, (place_of_name(name),))
        assert facts is not None
        assert r"\xff\xfe\x80" in {link.name for link in facts.links}


def rename(namespace: str, old: str, new: bytes) -> None:
    """Names that are no text, which `ip` cannot be told on every system (SIOCSIFNAME of netdevice(7))."""
    program = (
        "import fcntl, os, socket, sys\n"
        "request = sys.argv[1].encode().ljust(16, b'\\0') + bytes.fromhex(sys.argv[2]).ljust(24, b'\\0')\n"
        "fcntl.ioctl(socket.socket(socket.AF_INET, socket.SOCK_DGRAM), 0x8923, request)\n"
    )
    run_inside(namespace, "python3", "-c", program, old, new.hex())


async def test_namespaces_that_vanish_in_the_middle_are_said_to_have_vanished(broker: BrokerClient) -> None:
    for _ in range(5):
        with pods(MAX_PLACES) as names:
            places = tuple(map(place_of_name, names))
            vanishing = names[::2]
            deleting = threading.Thread(target=lambda gone=vanishing: [run("ip", "netns", "delete", n) for n in gone])
            deleting.start()
            seen: list[ReaderStatus] = []
            while deleting.is_alive():
                found = await read_pods(broker, places)
                seen += [reading for _, reading in found]
                assert all(found[i][0] is not None for i in range(1, MAX_PLACES, 2)), "the others are read"
            deleting.join()
            last = await read_pods(broker, places)
            assert [reading.vanished for _, reading in last[::2]] == [True] * len(vanishing)
            assert all(reading.success or reading.vanished for reading in seen)


async def test_a_pod_that_changes_all_the_time_is_read_or_says_so_and_delays_nobody(broker: BrokerClient) -> None:
    loop = (
        "import subprocess\n"
        "lines = ''.join(f'address add 2001:db8:9:{i:x}::1/128 dev lo nodad\\naddress del 2001:db8:9:{i:x}::1/128 dev "
        "lo\\n'"
        " for i in range(200))\n"
        "print('ready', flush=True)\n"
        "while True: subprocess.run(['ip', '-batch', '-'], input=lines, text=True)\n"
    )
    with pods(2) as names, process_in(names[0], "python3", "-c", loop):
        for _ in range(30):
            (_, busy), (facts, calm) = await read_pods(broker, tuple(map(place_of_name, names)))
            assert busy.reason in {None, Reason.READER_FAILED}
            assert calm.success
            assert facts is not None


async def test_messages_into_the_brokers_netlink_sockets_are_not_believed(broker: BrokerClient) -> None:
    """A pod's root may send to any port of its own namespace; the broker's are there only while it visits."""
    with pods(1) as (name,):
        place = place_of_name(name)
        stop = threading.Event()
        flood = threading.Thread(target=send_to_all, args=(name, broker.welcome.pid, stop))
        flood.start()
        try:
            for _ in range(200):
                ((facts, reading),) = await read_pods(broker, (place,))
                assert reading.reason in {None, Reason.READER_FAILED}
                if facts is not None:
                    assert [str(a.interface) for a in facts.addresses if a.is_global] == [ADDRESS]
                await asyncio.sleep(0)
        finally:
            stop.set()
            flood.join()


def send_to_all(namespace: str, port: int, stop: threading.Event) -> None:
    program = (
        "import socket, struct, sys\n"
        "sender = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)\n"
        "done = struct.pack('=IHHIIi', 20, 3, 2, 1, 0, 0)\n"
        "print('ready', flush=True)\n"
        "while True:\n"
        "    try: sender.sendto(done, (int(sys.argv[1]), 0))\n"
        "    except OSError: pass\n"
    )
    with process_in(namespace, "python3", "-c", program, str(port)):
        stop.wait()
