"""The broker as a process: its socket, its clients good and bad, its beginning and its end."""

from __future__ import annotations

import asyncio
import errno
import os
import select
import signal
import socket
import struct
import subprocess
import sys
from collections import deque
from contextlib import ExitStack
from itertools import repeat
from pathlib import Path

import pytest

from exporter.broker.client.requests import BrokerClient, BrokerGone, connect_broker, spawn_broker
from exporter.broker.protocol.messages import (
    HOME,
    Hello,
    ListNamed,
    ListNamespaces,
    Named,
    OpenSockets,
    ReadKernel,
    ReadTopic,
    SocketKind,
    Topic,
    Welcome,
)
from exporter.broker.protocol.wire import MAX_REQUEST, PIECE, WireError, decode_reply, encode_request, packets
from exporter.broker.server.loop import MAX_CLIENTS, MAX_OF_UID
from exporter.broker.server.privilege import BROKER_CAPABILITIES
from tests.kernel.broker_lab import (
    ROOT,
    broker_process,
    closing,
    descriptors_of,
    listening_broker,
    named_namespace,
    place_of_name,
    place_of_pid,
    run_as,
    status_of,
    wait_until,
    wanted,
)

pytestmark = pytest.mark.real

NOBODY = 65532


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "broker.sock"


def send(connection: socket.socket, message: bytes) -> None:
    for packet in packets(message):
        connection.sendmsg(packet)


def hello(connection: socket.socket) -> object:
    send(connection, encode_request(Hello()))
    return decode_reply(connection.recv(1 << 17)[1:])


def run_broker(*arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "exporter.broker", *arguments]
    return subprocess.run(command, check=False, capture_output=True, text=True, cwd=ROOT, timeout=20, **options)  # type: ignore[call-overload, no-any-return]


async def test_a_spawned_broker_answers_and_ends_with_its_client(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)  # it finds its own package, and no other of that name
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (tmp_path / "exporter.py").write_text("raise SystemExit('the wrong package')")
    connection, process = spawn_broker()
    client = await BrokerClient.from_socket(connection)
    home = place_of_pid(os.getpid())
    assert (client.welcome.device, client.welcome.inode) == (home.device, home.inode)
    assert client.welcome.pid == process.pid
    assert client.welcome.capabilities == BROKER_CAPABILITIES
    client.close()
    assert process.wait(10) == 0
    assert client.closed.is_set()
    with pytest.raises(BrokerGone):
        await client.namespaces()


async def test_the_broker_keeps_four_capabilities_and_cannot_gain_any() -> None:
    connection, process = spawn_broker()
    with closing(await BrokerClient.from_socket(connection)):
        status = status_of(process.pid)
        assert int(status["CapEff"], 16) == int(status["CapPrm"], 16) == BROKER_CAPABILITIES
        assert int(status["CapInh"], 16) == int(status["CapAmb"], 16) == 0
        assert int(status["CapBnd"], 16) == BROKER_CAPABILITIES
        assert status["NoNewPrivs"] == "1"
        assert status["Threads"] == "1"
    process.wait(10)


async def test_the_brokers_end_ends_what_is_under_way_and_is_announced() -> None:
    with broker_process() as (connection, process), closing(await BrokerClient.from_socket(connection.dup())) as client:
        process.send_signal(signal.SIGSTOP)
        waiting = [asyncio.ensure_future(client.open_sockets(wanted(HOME, (SocketKind.TCP6,)))) for _ in range(20)]
        await asyncio.sleep(0)
        process.kill()
        async with asyncio.timeout(10):
            await client.closed.wait()
            for result in await asyncio.gather(*waiting, return_exceptions=True):
                assert isinstance(result, BrokerGone)
        with pytest.raises(BrokerGone):
            await client.named("/run/netns")


async def test_a_broker_that_does_not_answer_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("exporter.broker.client.requests._HELLO_TIMEOUT", 0.1)
    with broker_process() as (connection, process):
        process.send_signal(signal.SIGSTOP)
        with pytest.raises(BrokerGone):
            await BrokerClient.from_socket(connection.dup())


async def test_a_broker_of_another_language_is_gone() -> None:
    for reply in (b"garbage", b"\0\x63", b"\0\4" + bytes(6), b"\1"):
        ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with its:
            its.send(reply)
            with pytest.raises(BrokerGone):
                await BrokerClient.from_socket(ours)


async def test_replies_find_their_askers_when_many_ask_at_once(path: Path) -> None:
    with (
        named_namespace() as name,
        listening_broker(path),
        closing(await BrokerClient.from_socket(connect_broker(str(path)))) as client,
    ):
        place = place_of_name(name)

        async def ask(number: int) -> None:
            if number % 3 == 0:
                assert (await client.named(f"/absent{number}")).errno
            elif number % 3 == 1:
                kinds = (SocketKind.UDP6,) * (number % 5 + 1)
                for sock in await client.open_sockets(wanted(place, kinds)):
                    assert isinstance(sock, socket.socket)
                    sock.close()
            else:
                assert [files.resolv_errno for files in await client.read_pod_files((HOME,) * 3)] == [errno.EINVAL] * 3

        await asyncio.gather(*[ask(number) for number in range(300)])


async def test_a_cancelled_request_leaks_no_descriptor(path: Path) -> None:
    with listening_broker(path), closing(await BrokerClient.from_socket(connect_broker(str(path)))) as client:
        before = len(descriptors_of(os.getpid()))
        for turns in (
            0,
            1,
            2,
            3,
        ):  # cancelled before the request leaves, while it is answered, and while the answer is taken
            requests = [
                asyncio.ensure_future(client.open_sockets(wanted(HOME, (SocketKind.TCP6,) * 8))) for _ in range(30)
            ]
            for _ in range(turns):
                await asyncio.sleep(0.001 if turns > 1 else 0)
            for request in requests:
                request.cancel()
            for opened in await asyncio.gather(*requests, return_exceptions=True):
                for sock in opened if isinstance(opened, list) else []:
                    assert isinstance(sock, socket.socket)
                    sock.close()
        await client.named("/")  # the replies before this one have arrived by now
        assert len(descriptors_of(os.getpid())) == before


async def test_a_reply_that_arrived_with_the_cancellation_leaks_no_descriptor(path: Path) -> None:
    with listening_broker(path), closing(await BrokerClient.from_socket(connect_broker(str(path)))) as client:
        before = len(descriptors_of(os.getpid()))
        request = asyncio.ensure_future(client.open_sockets(wanted(HOME, (SocketKind.TCP6,) * 8)))
        await asyncio.sleep(0)
        (future,) = client._waiting
        select.select([client._socket], [], [])
        client._receive()
        assert future.done()
        request.cancel()
        with pytest.raises(asyncio.CancelledError):
            await request
        assert len(descriptors_of(os.getpid())) == before


@pytest.mark.parametrize(
    "packet",
    [
        b"\0\x63",
        b"\0",
        b"\2\1",
        b"\1" + encode_request(Hello()),
        b"\0" + encode_request(Hello()) + b"x",
        b"\0" + bytes(MAX_REQUEST),
        b"\0\4" + bytes(32) + struct.pack("<I", 65) + b"\1" * 65,
        b"\0" + bytes(150_000),
    ],
    ids=["unknown", "empty", "flag", "more", "tail", "long", "65 sockets", "longer than any packet"],
)
async def test_a_malformed_request_ends_that_client_alone(path: Path, packet: bytes) -> None:
    with listening_broker(path), closing(await BrokerClient.from_socket(connect_broker(str(path)))) as good:
        with connect_broker(str(path)) as bad:
            assert isinstance(hello(bad), Welcome)
            bad.send(packet)
            assert bad.recv(100) == b""
        assert (await good.named("/run")).errno == errno.EACCES


async def test_descriptors_that_a_client_sends_are_dropped(path: Path) -> None:
    with listening_broker(path) as process, connect_broker(str(path)) as client:
        before = len(descriptors_of(process.pid))
        for _ in range(20):
            with socket.socket() as sock:
                rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("=i", sock.fileno()))
                client.sendmsg([b"\0", encode_request(Hello())], [rights])
                client.recv(1000)
        assert len(descriptors_of(process.pid)) <= before + 1  # the connection itself


async def test_a_client_that_does_not_read_holds_up_nobody(path: Path) -> None:
    with listening_broker(path) as process, connect_broker(str(path)) as deaf:
        deaf.settimeout(0)
        request = b"\0" + encode_request(OpenSockets(wanted(HOME, (SocketKind.TCP6,) * 64)))
        with pytest.raises(BlockingIOError):  # once the broker takes no more of its requests
            deque(map(deaf.send, repeat(request)), maxlen=0)
        with closing(await BrokerClient.from_socket(connect_broker(str(path)))) as good:
            async with asyncio.timeout(5):
                for _ in range(100):
                    assert (await good.named("/run")).errno == errno.EACCES
        assert len(descriptors_of(process.pid)) < 100
        deaf.close()
        wait_until(lambda: len(descriptors_of(process.pid)) < 20)


@pytest.mark.attack
async def test_clients_that_do_not_read_share_a_bound_and_the_oldest_goes(path: Path) -> None:
    """Each asks for as much as a visit gives. Without a bound sixteen of them took half a gigabyte."""
    lines = "".join(f"address add 2001:db8::{number:x}/128 dev lo nodad\n" for number in range(1, 2001))
    request = b"\0" + encode_request(ReadKernel((HOME,), (ReadTopic(Topic.ADDRESSES),) * 150))
    with named_namespace() as name, ExitStack() as stack:
        await asyncio.to_thread(subprocess.run, ["ip", "-n", name, "-batch", "-"], input=lines.encode(), check=True)
        process = stack.enter_context(listening_broker(path, prefix=("ip", "netns", "exec", name)))
        deaf = [stack.enter_context(connect_broker(str(path))) for _ in range(MAX_CLIENTS - 2)]
        for client in deaf:
            client.send(request)
            with closing(await BrokerClient.from_socket(connect_broker(str(path)))) as good:  # answered after it
                ((answer,),) = [s.answers for s in await good.read_kernel((HOME,), (ReadTopic(Topic.LINKS),))]
                assert answer.errno == 0
        assert int(status_of(process.pid)["VmHWM"].split()[0]) < 250_000  # kB
        gone = [client for client in deaf if has_been_dismissed(client)]
        assert len(gone) >= MAX_CLIENTS - 4
        assert gone == deaf[: len(gone)]


def has_been_dismissed(client: socket.socket) -> bool:
    """Read what there is; whether it ends."""
    client.settimeout(0)
    try:
        while client.recv(PIECE + 1):
            continue
    except BlockingIOError:
        return False
    except ConnectionResetError:
        return True
    return True


async def test_a_client_that_goes_before_its_reply_leaves_nothing(path: Path) -> None:
    with listening_broker(path) as process, closing(await BrokerClient.from_socket(connect_broker(str(path)))) as good:
        await good.named("/run")
        before = len(descriptors_of(process.pid))
        for _ in range(50):
            with connect_broker(str(path)) as hasty:
                send(hasty, encode_request(OpenSockets(wanted(HOME, (SocketKind.TCP6,) * 64))))
                send(hasty, encode_request(ListNamespaces()))
            await good.named("/run")
        wait_until(lambda: len(descriptors_of(process.pid)) == before)


async def test_one_client_more_than_the_bound_is_turned_away(path: Path) -> None:
    with listening_broker(path):
        clients = [connect_broker(str(path)) for _ in range(MAX_CLIENTS)]
        try:
            for client in clients:
                assert isinstance(hello(client), Welcome)
            with pytest.raises(BrokerGone):
                await BrokerClient.from_socket(connect_broker(str(path)))
            clients.pop().close()
            for client in clients:
                assert isinstance(hello(client), Welcome)
            with closing(await BrokerClient.from_socket(connect_broker(str(path)))):
                pass
        finally:
            for client in clients:
                client.close()


@pytest.mark.attack
def test_one_uid_takes_no_more_than_its_connections(open_path: Path) -> None:
    def connect() -> str:
        kept = []
        try:
            while True:
                client = connect_broker(str(open_path))
                hello(client)
                kept.append(client)
        except (OSError, WireError):
            return str(len(kept))

    with listening_broker(open_path, f"--client-uid={NOBODY}"), connect_broker(str(open_path)) as root:
        assert run_as(NOBODY, connect) == str(MAX_OF_UID)
        assert isinstance(hello(root), Welcome)


async def test_a_reply_larger_than_a_packet_arrives_whole(path: Path) -> None:
    addresses = [f"2001:db8::{number:x}" for number in range(1, 2001)]
    with (
        named_namespace() as name,
        listening_broker(path),
        closing(await BrokerClient.from_socket(connect_broker(str(path)))) as client,
    ):
        lines = "".join(f"address add {address}/128 dev lo nodad\n" for address in addresses)
        await asyncio.to_thread(subprocess.run, ["ip", "-n", name, "-batch", "-"], input=lines.encode(), check=True)
        ((answer,),) = [
            s.answers for s in await client.read_kernel((place_of_name(name),), (ReadTopic(Topic.ADDRESSES),))
        ]
    assert len(answer.data) > 2 * PIECE
    for address in addresses:
        assert socket.inet_pton(socket.AF_INET6, address) in answer.data


def connect_as(uid: int, path: Path) -> str:
    """What a process of another uid gets: the kind of its reply, or why there is none."""

    def connect() -> str:
        try:
            with connect_broker(str(path)) as connection:
                send(connection, encode_request(Hello()))
                return type(decode_reply(connection.recv(1000)[1:])).__name__
        except OSError as error:
            return type(error).__name__
        except WireError:
            return "no reply"

    return run_as(uid, connect)


@pytest.fixture
def open_path(path: Path) -> Path:
    """Below directories that every uid may pass."""
    for folder in (path.parent, *path.parent.parents):
        if folder.stat().st_mode & 0o001 == 0:
            folder.chmod(folder.stat().st_mode | 0o011)
    return path


def test_without_named_uids_the_files_mode_decides(open_path: Path) -> None:
    with listening_broker(open_path):
        assert open_path.stat().st_mode & 0o777 == 0o660
        assert connect_as(NOBODY, open_path) == "PermissionError"
    with listening_broker(open_path, f"--socket-gid={NOBODY}"):
        assert open_path.stat().st_gid == NOBODY
        assert connect_as(NOBODY, open_path) == "Welcome"


def test_with_named_uids_the_kernels_word_decides(open_path: Path) -> None:
    with listening_broker(open_path, f"--client-uid={NOBODY}"):
        assert connect_as(NOBODY, open_path) == "Welcome"
        assert connect_as(0, open_path) == "Welcome"
        assert connect_as(NOBODY + 1, open_path) in {"no reply", "ConnectionResetError", "BrokenPipeError"}


def test_sigterm_ends_it_and_removes_the_socket(path: Path) -> None:
    with listening_broker(path) as process:
        process.terminate()
        assert process.wait(10) == 0
        assert process.stderr is not None
        assert process.stderr.read().count("\n") == 1
        assert not path.exists()


def test_the_log_is_logfmt_and_names_what_is_missing(path: Path) -> None:
    command = ["setpriv", "--bounding-set=-net_admin", "--inh-caps=-all", sys.executable, "-m", "exporter.broker"]
    process = subprocess.Popen([*command, f"--socket={path}"], cwd=ROOT, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        line = process.stderr.readline()
        assert f'level=info msg="broker started" socket={path} missing=NET_ADMIN\n' in line
    finally:
        process.terminate()
        process.communicate()


def test_a_dead_brokers_socket_is_replaced(path: Path) -> None:
    with listening_broker(path) as process:
        process.kill()
        process.wait()
        assert path.exists()
    with listening_broker(path), connect_broker(str(path)) as client:
        assert isinstance(hello(client), Welcome)


def test_a_socket_in_use_is_left_alone(path: Path) -> None:
    with listening_broker(path):
        second = run_broker(f"--socket={path}")
        assert (second.returncode, second.stdout) == (2, "")
        assert second.stderr == f"broker: cannot listen on {path}: a broker listens there\n"
        with connect_broker(str(path)) as client:
            assert isinstance(hello(client), Welcome)


def test_another_brokers_socket_is_not_removed_at_the_end(path: Path) -> None:
    with listening_broker(path) as first:
        path.unlink()
        with listening_broker(path):
            first.terminate()
            assert first.wait(10) == 0
            assert path.exists()


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ((), "either --socket or --fd is needed"),
        (("--socket=/run/x", "--fd=3"), "either --socket or --fd is needed"),
        (("--socket=",), "is not understood"),
        (("--fd=three",), "not a number"),
        (("--fd=99999999999999999999",), "not a number in range"),
        (("--fd=1000",), "Bad file descriptor"),
        (("--fd=0",), "Socket operation on non-socket"),
        (("--verbose",), "'--verbose' is not understood"),
        (("--socket=/nowhere/broker.sock",), "cannot listen on /nowhere/broker.sock: No such file or directory"),
        (("--socket=/" + "a" * 200,), "AF_UNIX path too long"),
        (("--socket=/etc/passwd",), "cannot listen on /etc/passwd: the path is a file that is not a socket"),
        (("--socket=/tmp/x", "--client-uid=-1"), "--client-uid=-1: not a number"),
    ],
)
def test_bad_arguments_get_one_line_and_status_2(arguments: tuple[str, ...], complaint: str) -> None:
    done = run_broker(*arguments, stdin=subprocess.DEVNULL)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert complaint in done.stderr


def test_a_stream_socket_is_not_served() -> None:
    ours, its = socket.socketpair()
    with ours, its:
        done = run_broker(f"--fd={its.fileno()}", pass_fds=(its.fileno(),))
    assert done.returncode == 2
    assert "not a SOCK_SEQPACKET socket" in done.stderr


async def test_the_signals_of_a_terminal_do_not_end_a_spawned_broker() -> None:
    connection, process = spawn_broker()
    with closing(await BrokerClient.from_socket(connection)) as client:
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGHUP)
        assert (await client.named("/run")).errno == errno.EACCES
        process.terminate()
        async with asyncio.timeout(10):
            await client.closed.wait()
    assert process.wait(10) == 0


def test_a_request_of_the_largest_size_is_served(path: Path) -> None:
    with listening_broker(path), connect_broker(str(path)) as client:
        send(client, encode_request(ListNamed("/" + "a" * 4095)))
        assert decode_reply(client.recv(1000)[1:]) == Named((), errno.EACCES)
