"""The broker in network namespaces: its sockets belong where they were asked for, it comes home, and it holds nothing
afterwards.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import struct
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio

from exporter.broker.client.requests import BrokerClient, BrokerGone, spawn_broker
from exporter.broker.protocol.messages import HOME, Named, NamespaceRef, ReadTopic, SocketKind, Topic
from exporter.broker.server.namespaces import NO_WAY_HOME
from tests.kernel.broker_lab import (
    broker_process,
    closing,
    cookie_of,
    descriptors_of,
    named_namespace,
    netns_cookie,
    place_of_name,
    place_of_pid,
    process_in,
    run,
    wait_until,
    wanted,
)

pytestmark = pytest.mark.real

PROBE_KINDS = (
    SocketKind.TCP4,
    SocketKind.TCP6,
    SocketKind.UDP4,
    SocketKind.UDP6,
    SocketKind.ICMP4,
    SocketKind.ICMP6,
)
TYPES = [
    (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP),
    (socket.AF_INET6, socket.SOCK_STREAM, socket.IPPROTO_TCP),
    (socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_UDP),
    (socket.AF_INET6, socket.SOCK_DGRAM, socket.IPPROTO_UDP),
    (socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP),
    (socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6),
]


@pytest_asyncio.fixture
async def broker() -> AsyncIterator[BrokerClient]:
    connection, process = spawn_broker()
    try:
        with closing(await BrokerClient.from_socket(connection)) as client:
            yield client
        assert process.wait(10) == 0
    finally:
        process.kill()
        process.wait()


async def open_all(broker: BrokerClient, place: NamespaceRef, kinds: tuple[SocketKind, ...]) -> list[socket.socket]:
    opened = await broker.open_sockets(wanted(place, kinds))
    sockets = [item for item in opened if isinstance(item, socket.socket)]
    assert len(sockets) == len(kinds), opened
    return sockets


async def errnos(broker: BrokerClient, place: NamespaceRef) -> list[socket.socket | int]:
    return await broker.open_sockets(wanted(place, (SocketKind.TCP6, SocketKind.UDP4)))


async def test_sockets_belong_to_the_named_namespace_and_are_ready_to_use(broker: BrokerClient) -> None:
    with named_namespace() as name:
        sockets = await open_all(broker, place_of_name(name), PROBE_KINDS)
        cookie = cookie_of(name)
        for sock, expected in zip(sockets, TYPES, strict=True):
            with sock:
                assert netns_cookie(sock) == cookie
                assert (sock.family, sock.type, sock.proto) == expected
                assert sock.gettimeout() == 0
                assert fcntl.fcntl(sock, fcntl.F_GETFL) & os.O_NONBLOCK
                assert not sock.get_inheritable()


async def test_sockets_belong_to_the_namespace_of_the_process(broker: BrokerClient) -> None:
    with named_namespace() as name, process_in(name) as process:
        (sock,) = await open_all(broker, place_of_pid(process.pid), (SocketKind.TCP6,))
        with sock:
            assert netns_cookie(sock) == cookie_of(name)


async def test_visits_in_turn_never_mix_namespaces(broker: BrokerClient) -> None:
    with named_namespace() as one, named_namespace() as other, socket.socket() as own:
        places = {
            HOME: netns_cookie(own),
            place_of_name(one): cookie_of(one),
            place_of_name(other): cookie_of(other),
        }
        assert len(set(places.values())) == 3
        for _ in range(20):
            for place, cookie in places.items():
                (sock,) = await open_all(broker, place, (SocketKind.UDP6,))
                with sock:
                    assert netns_cookie(sock) == cookie


async def test_a_raw_socket_hears_the_reply_and_not_the_request(broker: BrokerClient) -> None:
    with named_namespace() as name:
        raw6, raw4 = await open_all(broker, place_of_name(name), (SocketKind.ICMP6, SocketKind.ICMP4))
        with raw6, raw4:
            raw6.sendto(struct.pack("!BBHHH", 128, 0, 0, 7, 1), ("::1", 0))
            assert raw6.recv(100)[0] == 129
            with pytest.raises(BlockingIOError):
                raw6.recv(100)
            body = struct.pack("!BBHHH", 8, 0, 0xFFFF - (0x0800 + 7 + 1), 7, 1)
            raw4.sendto(body, ("127.0.0.1", 0))
            assert raw4.recv(100)[20] == 0
            with pytest.raises(BlockingIOError):
                raw4.recv(100)


async def test_kernel_topics_are_read_where_asked(broker: BrokerClient) -> None:
    with named_namespace() as name:
        place = place_of_name(name)
        link = name[-11:]
        run("ip", "-n", name, "link", "add", link, "type", "bridge")
        places = (place, HOME, replace(place, inode=1), place)
        there, home, gone, again = await broker.read_kernel(places, (ReadTopic(Topic.LINKS),))
        assert there.visit_errno == home.visit_errno == again.visit_errno == 0
        assert link.encode() in there.answers[0].data
        assert link.encode() in again.answers[0].data
        assert link.encode() not in home.answers[0].data
        assert (gone.visit_errno, gone.answers) == (errno.ESTALE, ())


async def test_a_vanished_name_is_stale(broker: BrokerClient) -> None:
    with named_namespace() as name:
        place = place_of_name(name)
        run("ip", "netns", "delete", name)
        assert await errnos(broker, place) == [errno.ESTALE] * 2


async def test_a_name_that_leads_elsewhere_now_is_stale(broker: BrokerClient) -> None:
    with named_namespace() as one, named_namespace() as other:
        place = replace(place_of_name(one), path=f"/run/netns/{other}")
        assert await errnos(broker, place) == [errno.ESTALE] * 2


async def test_an_ended_process_is_stale(broker: BrokerClient) -> None:
    with named_namespace() as name:
        with process_in(name) as process:
            place = place_of_pid(process.pid)
        assert await errnos(broker, place) == [errno.ESTALE] * 2


async def test_a_pid_given_anew_is_stale(broker: BrokerClient) -> None:
    with named_namespace() as name, process_in(name) as process:
        place = place_of_pid(process.pid)
        for wrong in (replace(place, started=place.started - 1), replace(place, inode=place.inode + 1)):
            assert await errnos(broker, wrong) == [errno.ESTALE] * 2


async def test_only_names_of_network_namespaces_are_entered(broker: BrokerClient, tmp_path: Path) -> None:
    with named_namespace() as name:
        place = place_of_name(name)
        fifo = f"{tmp_path}/fifo"
        os.mkfifo(fifo)  # to open it for reading would wait for ever
        link = f"{tmp_path}/link"
        run("ln", "-s", place.path, link)
        for path in (fifo, link, "/dev/null", "/etc/passwd", "/run/netns", "/proc/1/ns/mnt", f"{place.path}/x"):
            assert await errnos(broker, replace(place, path=path)) == [errno.ESTALE] * 2, path


async def test_a_place_that_is_not_well_formed_is_invalid(broker: BrokerClient) -> None:
    with named_namespace() as name:
        place = place_of_name(name)
        for wrong in (replace(place, path=""), replace(place, pid=1), replace(place, path=f"run/netns/{name}")):
            assert await errnos(broker, wrong) == [errno.EINVAL] * 2


async def test_a_thousand_visits_leave_nothing_behind(broker: BrokerClient) -> None:
    with named_namespace() as name, named_namespace() as peer, process_in(name) as process:
        run("ip", "-n", peer, "link", "add", "out", "type", "veth", "peer", "name", "in", "netns", name)
        by_name, by_pid = place_of_name(name), place_of_pid(process.pid)
        pid = broker.welcome.pid
        theirs, ours = len(descriptors_of(pid)), len(descriptors_of(os.getpid()))
        for _ in range(250):
            for place in (by_name, by_pid, replace(by_pid, started=1), replace(by_name, inode=1)):
                for sock in await broker.open_sockets(wanted(place, (SocketKind.TCP6, SocketKind.UDP4))):
                    if isinstance(sock, socket.socket):
                        sock.close()
        await broker.namespaces()
        await broker.named("/run/netns")
        links = descriptors_of(pid)
        assert len(links) == theirs
        assert [link for link in links if link.startswith("net:")] == [f"net:[{broker.welcome.inode}]"]
        assert len(descriptors_of(os.getpid())) == ours
        process.kill()
        process.wait()
        run(
            "ip", "netns", "delete", name
        )  # nothing holds the namespace now, so its end of the cable goes, and with it the other
        wait_until(lambda: "out" not in run("ip", "-n", peer, "-o", "link"))


async def test_a_broker_that_cannot_come_home_ends_at_once() -> None:
    code = """if True:
        from exporter.broker.server import namespaces
        enter, calls = namespaces.setns, []
        def enter_once(descriptor):
            calls.append(descriptor)
            if len(calls) > 1:
                raise PermissionError(1, "no way home")
            enter(descriptor)
        namespaces.setns = enter_once
    """
    with named_namespace() as name, broker_process(code=code) as (connection, process):
        client = await BrokerClient.from_socket(connection.dup())
        with closing(client):
            with pytest.raises(BrokerGone):
                await client.open_sockets(wanted(place_of_name(name), (SocketKind.TCP6,)))
            assert client.closed.is_set()
        assert process.wait(10) == NO_WAY_HOME


async def test_what_fails_inside_a_visit_does_not_leave_the_broker_there() -> None:
    code = """if True:
        from exporter.broker.server import answers
        def fail(*_):
            raise OSError(5, "inside")
        answers.open_sockets = fail
    """
    with (
        named_namespace() as name,
        broker_process(code=code) as (connection, process),
        closing(await BrokerClient.from_socket(connection.dup())) as client,
    ):
        assert await client.open_sockets(wanted(place_of_name(name), (SocketKind.TCP6,))) == [errno.EIO]
        assert place_of_pid(process.pid).inode == client.welcome.inode


async def test_names_are_listed_for_network_namespaces_alone(broker: BrokerClient, tmp_path: Path) -> None:
    with named_namespace() as one, named_namespace() as other:
        listed = await broker.named("/run/netns")
        assert listed.errno == 0
        found = {named.name: (named.device, named.inode) for named in listed.found}
        for name in (one, other):
            place = place_of_name(name)
            assert found[name] == (place.device, place.inode)
        assert list(found) == sorted(found)
    os.mkfifo(f"{tmp_path}/fifo")
    run("ln", "-s", "/proc/self/ns/net", f"{tmp_path}/link")
    for path in ("/proc/self/ns", str(tmp_path)):
        assert await named_by_its_own_broker(path) == Named(())
    assert await named_by_its_own_broker(f"{tmp_path}/absent") == Named((), errno.ENOENT)
    assert await named_by_its_own_broker(f"{tmp_path}/fifo") == Named((), errno.ENOTDIR)
    assert await named_by_its_own_broker("run/netns") == Named((), errno.EINVAL)


async def named_by_its_own_broker(directory: str) -> Named:
    """What a broker lists of the directory that it was started for."""
    connection, process = spawn_broker(directory)
    with closing(await BrokerClient.from_socket(connection)) as client:
        named = await client.named(directory)
    process.wait()
    return named


@pytest.mark.attack
@pytest.mark.parametrize(
    "path", ["/", "/root", "/root/absent", "/run/netns/", "/run/netns/../../root", "/run//netns", ""]
)
async def test_what_exists_elsewhere_is_not_told(broker: BrokerClient, path: str) -> None:
    assert await broker.named(path) == Named((), errno.EACCES)


async def test_names_of_other_kinds_of_namespaces_are_not_mentioned(tmp_path: Path) -> None:
    uts = tmp_path / "uts"
    uts.touch()
    run("mount", "--bind", "/proc/self/ns/uts", str(uts))
    try:
        assert await named_by_its_own_broker(str(tmp_path)) == Named(())
    finally:
        run("umount", str(uts))
