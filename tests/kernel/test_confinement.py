"""What a program can do that has taken the exporter process over: with the sockets of the broker, to the host, to files
and to other processes. Each attempt is made after the process confined itself as it does at its start.
"""

from __future__ import annotations

import asyncio
import ctypes
import errno
import os
import socket
import struct
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from exporter.broker.client.requests import BrokerClient, spawn_broker
from exporter.broker.protocol.messages import NUMBERS, NamespaceRef, SocketKind
from exporter.broker.server.privilege import drop_to
from exporter.daemon.broker_session import UNPRIVILEGED
from exporter.daemon.confinement import confine
from exporter.probes.ports import make_socket
from tests.e2e.daemon import Daemon, children_of
from tests.kernel.broker_lab import closing, named_namespace, place_of_name, run, run_as, run_forked, wanted

pytestmark = [pytest.mark.real, pytest.mark.attack]

LIBC = ctypes.CDLL(None, use_errno=True)
IP_OPTIONS, IP_HDRINCL, IP_FREEBIND, IP_TRANSPARENT = 4, 3, 15, 19  # linux/in.h
IPV6_HDRINCL, IPV6_PKTINFO, IPV6_RTHDR, IPV6_TRANSPARENT, IPV6_FREEBIND = 36, 50, 57, 75, 78  # linux/in6.h
SO_DETACH_FILTER, SO_ATTACH_BPF = 27, 50
NUMBER_OF = {
    "ptrace": 101,
    "bpf": 321,
    "mount": 165,
    "io_uring_setup": 425,
    "process_vm_readv": 310,
    "userfaultfd": 323,
}


def attempt(act: Callable[[], object]) -> str:
    try:
        act()
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return "done"


def call(name: str, *arguments: int) -> None:
    if LIBC.syscall(ctypes.c_long(NUMBER_OF[name]), *(ctypes.c_long(each) for each in arguments)) < 0:
        raise OSError(ctypes.get_errno(), name)


def checked(result: int) -> None:
    if result < 0:
        raise OSError(ctypes.get_errno(), "refused")


def confined(act: Callable[[], str], **how: bool) -> str:
    """What `act` says in a process without privilege that has confined itself."""

    def become_and_act() -> str:
        drop_to(UNPRIVILEGED, UNPRIVILEGED)
        confine(**how)
        return act()

    return run_forked(become_and_act)


def with_sockets(
    place: NamespaceRef, kinds: tuple[SocketKind, ...], act: Callable[..., str], *, numbers: tuple[int, ...] = ()
) -> str:
    """What `act` says of these sockets of a broker, in the confined process that got them."""

    async def ask() -> str:
        connection, process = spawn_broker()
        drop_to(UNPRIVILEGED, UNPRIVILEGED)
        confine()
        with closing(await BrokerClient.from_socket(connection)) as client:
            opened = await client.open_sockets(wanted(place, kinds, numbers))
            said = act(*opened)
        process.wait()
        return said

    return run_forked(lambda: asyncio.run(ask()))


def without_ping(name: str) -> None:
    run("ip", "netns", "exec", name, "sysctl", "-qw", "net.ipv4.ping_group_range=1 0")


def test_no_socket_of_the_broker_becomes_a_server() -> None:
    """Neither at its own port, nor at another, nor by going through its kernel's other doors."""

    def act(*opened: socket.socket | int) -> str:
        said = []
        for sock in opened:
            assert isinstance(sock, socket.socket)
            place = "::" if sock.family == socket.AF_INET6 else "0.0.0.0"
            said.append(str(sock.getsockname()[1]))
            said.append(attempt(partial(sock.bind, (place, 10250))))
            said.append(attempt(partial(sock.listen, 1)))
        with socket.socket() as own:
            said.append(attempt(partial(own.bind, ("127.0.0.1", 0))))
            said.append(attempt(own.listen))
        return " ".join(said)

    kinds = (SocketKind.TCP4, SocketKind.TCP6, SocketKind.UDP4, SocketKind.UDP6)
    with named_namespace() as name:
        said = with_sockets(place_of_name(name), kinds, act, numbers=tuple(NUMBERS[:4]))
    assert said.split() == [*(f for n in NUMBERS[:4] for f in (str(n), "EPERM", "EPERM")), "EPERM", "EPERM"]


def test_the_broker_binds_no_port_but_those_of_probes_and_never_leaves_a_socket_unbound() -> None:
    def act(*opened: socket.socket | int) -> str:
        return " ".join(str(each if isinstance(each, int) else each.getsockname()[1] > 0) for each in opened)

    with named_namespace() as name:
        kinds = (SocketKind.TCP4, SocketKind.UDP6, SocketKind.TCP6, SocketKind.UDP4, SocketKind.TCP4)
        said = with_sockets(place_of_name(name), kinds, act, numbers=(80, 10250, 61000, 0))
    assert said == f"{errno.EINVAL} {errno.EINVAL} {errno.EINVAL} True True"


def test_without_a_broker_the_process_makes_the_sockets_of_its_probes_itself() -> None:
    def act() -> str:
        kinds = (SocketKind.TCP4, SocketKind.TCP6, SocketKind.UDP4, SocketKind.UDP6)
        return " ".join(type(make_socket(kind, 0)).__name__ for kind in kinds)

    assert confined(act, binds=True) == "socket socket socket socket"


@pytest.mark.parametrize("kind", [SocketKind.ICMP4, SocketKind.ICMP6])
def test_where_the_namespace_allows_it_a_socket_sends_nothing_but_echoes(kind: SocketKind) -> None:
    def act(sock: socket.socket | int) -> str:
        assert isinstance(sock, socket.socket)
        place = "::1" if sock.family == socket.AF_INET6 else "127.0.0.1"
        others = (134, 136, 5, 3)  # router and neighbour advertisement; redirect, unreachable
        tries = [partial(sock.sendto, bytes((message, 0)) + bytes(30), (place, 0)) for message in others]
        return " ".join([sock.type.name, str(sock.getsockname()[1]), *map(attempt, tries)])

    with named_namespace() as name:
        run("ip", "netns", "exec", name, "sysctl", "-qw", "net.ipv4.ping_group_range=0 2147483647")
        said = with_sockets(place_of_name(name), (kind,), act, numbers=(40000,))
    assert said == "SOCK_DGRAM 40000 EINVAL EINVAL EINVAL EINVAL"


def test_a_raw_socket_forges_no_sender_and_keeps_its_filter() -> None:
    def act(*opened: socket.socket | int) -> str:
        four, six = opened
        assert isinstance(four, socket.socket)
        assert isinstance(six, socket.socket)
        assert four.type == six.type == socket.SOCK_RAW
        forged = struct.pack("=BBHI", 0x45, 0, 0, 0) + b"\x40\1\0\0" + bytes((192, 0, 2, 1, 127, 0, 0, 1)) + bytes(8)
        sender = [(socket.IPPROTO_IPV6, IPV6_PKTINFO, socket.inet_pton(socket.AF_INET6, "2001:db8::1") + bytes(4))]
        ip, ipv6, whole = socket.IPPROTO_IP, socket.IPPROTO_IPV6, socket.SOL_SOCKET
        tries: list[Callable[[], object]] = [
            *(partial(four.setsockopt, ip, option, 1) for option in (IP_HDRINCL, IP_OPTIONS, IP_FREEBIND)),
            partial(four.setsockopt, ip, IP_TRANSPARENT, 1),
            *(partial(six.setsockopt, ipv6, option, 1) for option in (IPV6_HDRINCL, IPV6_RTHDR, IPV6_FREEBIND)),
            partial(six.setsockopt, ipv6, IPV6_TRANSPARENT, 1),
            partial(six.setsockopt, ip, IP_FREEBIND, 1),
            partial(four.setsockopt, 255, 1, bytes(4)),  # ICMP_FILTER
            partial(six.setsockopt, socket.IPPROTO_ICMPV6, 1, bytes(32)),  # ICMPV6_FILTER
            *(partial(sock.setsockopt, whole, SO_DETACH_FILTER, 0) for sock in (four, six)),
            *(partial(sock.setsockopt, whole, SO_ATTACH_BPF, 0) for sock in (four, six)),
            partial(six.sendmsg, [bytes((128,)) + bytes(7)], sender, 0, ("::1", 0)),
        ]
        four.sendto(forged, ("127.0.0.1", 0))  # sent as the body of an ICMP message, behind a header of the kernel's
        return " ".join(map(attempt, tries))

    with named_namespace() as name:
        without_ping(name)
        said = with_sockets(place_of_name(name), (SocketKind.ICMP4, SocketKind.ICMP6), act)
    assert said.split() == ["EPERM"] * 15 + ["EINVAL"]


def test_what_the_process_could_do_to_the_host_is_refused() -> None:
    def act() -> str:
        tries: dict[str, Callable[[], object]] = {
            "execve": lambda: os.execv("/bin/true", ["true"]),
            "ptrace": lambda: call("ptrace", 16, os.getppid(), 0, 0),
            "process_vm_readv": lambda: call("process_vm_readv", os.getpid(), 0, 0, 0, 0, 0),
            "unshare": lambda: checked(LIBC.unshare(0x10000000)),  # CLONE_NEWUSER: a way to capabilities
            "setns": lambda: checked(LIBC.setns(os.open("/proc/self/ns/net", os.O_RDONLY), 0)),
            "bpf": lambda: call("bpf", 0, 0, 0),
            "mount": lambda: call("mount", 0, 0, 0, 0, 0),
            "io_uring": lambda: call("io_uring_setup", 1, 0),
            "userfaultfd": lambda: call("userfaultfd", 1),
            "raw": lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP),
            "packet": lambda: socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM),
            "vsock": lambda: socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM),
            "algorithm": lambda: socket.socket(socket.AF_ALG, socket.SOCK_SEQPACKET),
            "write": lambda: os.open(f"/tmp/{os.getpid()}", os.O_CREAT | os.O_WRONLY),
            "append": lambda: os.open("/dev/shm", os.O_TMPFILE | os.O_WRONLY),
        }
        return " ".join(f"{name}={attempt(act)}" for name, act in tries.items())

    said = dict(each.split("=") for each in confined(act).split(" "))
    assert {said.pop("write"), said.pop("append")} == {"EACCES"}
    assert set(said.values()) == {"EPERM"}, said


def test_a_program_of_the_node_that_listens_by_an_abstract_name_is_not_reached() -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(b"")  # the kernel chooses an abstract name
        listener.listen()
        name = listener.getsockname()
        with socket.socket(socket.AF_UNIX) as allowed:
            allowed.connect(name)
        assert confined(lambda: attempt(partial(socket.socket(socket.AF_UNIX).connect, name))) == "EPERM"


def test_the_confined_process_still_does_its_work() -> None:
    """Threads, names, TLS from memory, its own files of procfs, an announcement socket, connections."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        place = listener.getsockname()

        def act() -> str:
            async def work() -> str:
                thread = await asyncio.to_thread(lambda: threading.current_thread().name)
                names = await asyncio.get_running_loop().getaddrinfo("localhost", 1)
                _, writer = await asyncio.open_connection(*place)
                writer.close()
                with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as announcements:
                    announcements.bind((0, 1))
                memory = os.memfd_create("pem")
                os.write(memory, b"key")
                return f"{thread} {bool(names)} {memory}"

            thread, names, memory = asyncio.run(work()).split()
            kept = Path(f"/proc/self/fd/{memory}").read_bytes()
            return f"{thread} {names} {kept!r} {Path('/proc/self/ns/net').stat().st_ino > 0}"

        assert confined(act) == "asyncio_0 True b'key' True"


def test_a_credential_plugin_can_be_run_where_a_kubeconfig_may_name_one() -> None:
    def act() -> str:
        return subprocess.run(["/bin/echo", "token"], capture_output=True, text=True, check=True).stdout.strip()

    assert confined(act, programs=True) == "token"


def test_another_process_of_the_same_uid_takes_nothing_of_the_daemon_and_a_reload_works() -> None:
    """Started as in the manifest, with the exporter's uid from the first moment on."""
    prefix = ("setpriv", f"--reuid={UNPRIVILEGED}", f"--regid={UNPRIVILEGED}", "--clear-groups", "--no-new-privs")
    with Daemon("round: {interval: 3600s}\n", "--role=cluster", prefix=prefix) as daemon:
        daemon.wait(lambda: daemon.get("/-/healthy")[0] == 200, "an answer")
        seen = Path(f"/proc/{daemon.pid}")

        def steal() -> str:
            tries: list[Callable[[], object]] = [
                (seen / "environ").read_bytes,
                (seen / "maps").read_bytes,
                partial(os.listdir, seen / "fd"),
                partial(os.listdir, seen / "root"),
                lambda: call("ptrace", 16, daemon.pid, 0, 0),  # PTRACE_ATTACH
            ]
            return " ".join(map(attempt, tries))

        assert run_as(UNPRIVILEGED, steal) == "EACCES EACCES EACCES EACCES EPERM"
        status = dict(line.split(":", 1) for line in (seen / "status").read_text().splitlines())
        assert status["Seccomp"].strip() == "2"
        request = urllib.request.Request(f"http://127.0.0.1:{daemon.port}/-/reload", method="POST")
        with urllib.request.urlopen(request, timeout=60) as answer:
            assert answer.status == 200
        assert daemon.get("/-/healthy")[0] == 200
        assert "does not confine" not in daemon.log_text()


def test_the_daemon_that_root_starts_is_confined_and_its_broker_is_not() -> None:
    with Daemon("round: {interval: 3600s}\n") as daemon:
        daemon.wait_ready()
        modes = [
            Path(f"/proc/{pid}/status").read_text().partition("Seccomp:\t")[2][0]
            for pid in (daemon.pid, *children_of(daemon.pid))
        ]
    assert modes == ["2", "0"]


def test_a_kernel_that_refuses_is_named_and_the_process_goes_on(capfd: pytest.CaptureFixture[str]) -> None:
    code = (
        "import errno; from exporter.daemon import confinement\n"
        "def refuse(*_): raise OSError(errno.ENOSYS, 'Function not implemented')\n"
        "confinement._call = refuse; confinement.confine()"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).resolve().parents[2])
    assert "does not confine this process fully" in capfd.readouterr().err
