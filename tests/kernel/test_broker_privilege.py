"""Who may do what: the exporter process after it gave its power up, and the broker with each of its capabilities taken
away.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import threading
from functools import partial
from pathlib import Path

import pytest

from exporter.broker.client.requests import BrokerClient, spawn_broker
from exporter.broker.protocol.messages import (
    HOME,
    Hello,
    InstalledLibc,
    ListNamed,
    ListNamespaces,
    Named,
    NamespaceRef,
    Namespaces,
    OpenSockets,
    ReadTopic,
    SocketKind,
    Topic,
    Welcome,
)
from exporter.broker.server.command import _begin
from exporter.broker.server.privilege import (
    BROKER_CAPABILITIES,
    drop_capabilities,
    drop_to,
    effective_capabilities,
    limit_capabilities,
    missing_capabilities,
)
from tests.kernel.broker_lab import (
    broker_process,
    closing,
    cookie_of,
    named_namespace,
    netns_cookie,
    place_of_name,
    place_of_pid,
    process_in,
    run_as,
    run_forked,
    status_of,
    wanted,
)
from tests.lab.roots import PodRoot, place_program

pytestmark = pytest.mark.real

NOBODY = 65532
NET_ADMIN, NET_RAW, SYS_PTRACE, SYS_ADMIN = 12, 13, 19, 21


def attempt(act: object) -> str:
    try:
        assert callable(act)
        act()
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    except RuntimeError as error:
        return str(error)
    return "done"


def enter(name: str) -> None:
    descriptor = os.open(f"/run/netns/{name}", os.O_RDONLY)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(descriptor, 0x40000000):
        raise OSError(ctypes.get_errno(), "setns")


def become_root() -> None:
    os.setresuid(0, 0, 0)


def test_names_of_missing_capabilities() -> None:
    assert missing_capabilities(BROKER_CAPABILITIES) == ()
    assert missing_capabilities(0) == ("NET_ADMIN", "NET_RAW", "SYS_ADMIN", "SYS_PTRACE")
    assert missing_capabilities(BROKER_CAPABILITIES & ~(1 << NET_RAW)) == ("NET_RAW",)


def test_after_the_drop_nothing_is_left_and_nothing_comes_back() -> None:
    with named_namespace() as name:

        def act() -> str:
            drop_to(NOBODY, NOBODY)
            status = status_of(os.getpid())
            held = [status[field] for field in ("CapInh", "CapPrm", "CapEff", "CapAmb", "CapBnd")]
            tries = [
                attempt(lambda: enter(name)),
                attempt(lambda: socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)),
                attempt(become_root),
                attempt(lambda: Path("/proc/1/root").readlink()),
                attempt(lambda: limit_capabilities(BROKER_CAPABILITIES)),
            ]
            words = [f"{int(''.join(held), 16)}", status["NoNewPrivs"], status["Uid"], status["Gid"], status["Groups"]]
            return "|".join([*words, *tries, str(effective_capabilities())])

        ids = "\t".join([str(NOBODY)] * 4)
        assert run_forked(act) == f"0|1|{ids}|{ids}||EPERM|EPERM|EPERM|EACCES|done|0"


def test_capabilities_go_without_a_change_of_uid_too() -> None:
    """As in a container that runs as uid 0 without SETUID."""

    def act() -> str:
        limit_capabilities(BROKER_CAPABILITIES)
        refused = attempt(lambda: drop_to(NOBODY, NOBODY))
        drop_capabilities()
        raw = attempt(lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP))
        return f"{refused}|{os.getuid()}|{effective_capabilities()}|{raw}"

    assert run_forked(act) == f"cannot become uid {NOBODY} gid {NOBODY}: Operation not permitted|0|0|EPERM"


def test_a_thread_that_keeps_its_capabilities_is_noticed() -> None:
    def act() -> str:
        ends = threading.Event()
        thread = threading.Thread(target=ends.wait)
        thread.start()
        said = attempt(drop_capabilities)
        ends.set()
        thread.join()
        return said

    assert "still holds capabilities" in run_forked(act)


def test_who_has_nothing_may_give_it_up_again() -> None:
    def act() -> str:
        drop_capabilities()
        return f"{attempt(drop_capabilities)} {effective_capabilities()}"

    assert run_as(NOBODY, act) == "done 0"


def test_the_powerless_exporter_works_through_its_broker() -> None:
    """Everything that it needs it gets, and what the broker keeps it cannot see."""
    import asyncio  # noqa: PLC0415 - for the forked process

    async def ask(name: str) -> str:
        connection, process = spawn_broker()
        drop_to(NOBODY, NOBODY)
        with closing(await BrokerClient.from_socket(connection)) as client:
            place = place_of_name(name)
            raw, tcp = await client.open_sockets(wanted(place, (SocketKind.ICMP6, SocketKind.TCP6)))
            assert isinstance(raw, socket.socket)
            assert isinstance(tcp, socket.socket)
            with raw, tcp:
                raw.sendto(bytes((128, 0, 0, 0, 0, 9, 0, 1)), ("::1", 0))
                said = [str(raw.recv(100)[0]), str(netns_cookie(tcp))]
                with socket.socket() as other:
                    said.append(str(other.connect_ex(("127.0.0.1", 1))))
            topics = (ReadTopic(Topic.LINKS), ReadTopic(Topic.NFT_TABLES, number=10))
            (state,) = await client.read_kernel((place,), topics)
            said += [str(answer.errno) for answer in state.answers]
            memory = Path(f"/proc/{process.pid}")
            said += [attempt((memory / file).read_bytes) for file in ("mem", "environ", "maps", "ns/net")]
            said.append(attempt(partial(os.listdir, memory / "fd")))
        process.wait()
        return " ".join(said)

    with named_namespace() as name:
        cookie = cookie_of(name)
        said = run_forked(lambda: asyncio.run(ask(name)))
        assert said == f"129 {cookie} {errno.ECONNREFUSED} 0 0 EACCES EACCES EACCES EACCES EACCES"


def test_without_root_a_broker_works_at_home_and_says_what_it_lacks() -> None:
    with named_namespace() as name, named_namespace() as other:
        place = place_of_name(other)

        def act() -> str:
            enter(name)
            Path("/proc/sys/net/ipv4/ping_group_range").write_text(f"{NOBODY} {NOBODY}")
            os.setgroups([])
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
            broker = _begin()
            welcome, _ = broker.answer(Hello())
            assert isinstance(welcome, Welcome)
            own = NamespaceRef(device=welcome.device, inode=welcome.inode, path="/nowhere")  # home by any way is home
            said = [",".join(missing_capabilities(welcome.capabilities))]
            for where in (HOME, own):
                sockets, descriptors = broker.answer(
                    OpenSockets(wanted(where, (SocketKind.TCP6, SocketKind.ICMP6, SocketKind.ICMP4)))
                )
                kinds = [socket.socket(fileno=descriptor).type.name for descriptor in descriptors]
                said.append(f"{sockets} {kinds}")
            said.append(f"{broker.answer(OpenSockets(wanted(place, (SocketKind.TCP6,))))[0]}")
            listed, _ = broker.answer(ListNamed("/run/netns"))
            assert isinstance(listed, Named)
            said.append(str({name, other} <= {named.name for named in listed.found}))
            namespaces, _ = broker.answer(ListNamespaces())
            assert isinstance(namespaces, Namespaces)
            said.append(str(namespaces.refused > 0))
            return "|".join(said)

        assert run_forked(act).split("|") == [
            "NET_ADMIN,NET_RAW,SYS_ADMIN,SYS_PTRACE",
            *["Sockets(errnos=(0, 0, 0)) ['SOCK_STREAM', 'SOCK_DGRAM', 'SOCK_DGRAM']"] * 2,
            f"Sockets(errnos=({errno.EPERM},))",
            "True",
            "True",
        ]


async def lost_without(capability: int, name: str, pid: int) -> dict[str, object]:
    """What a broker can do that lacks one capability."""
    mask = BROKER_CAPABILITIES & ~(1 << capability) if capability else BROKER_CAPABILITIES
    code = f"from exporter.broker.server.privilege import limit_capabilities; limit_capabilities({mask})"
    place = place_of_name(name)
    with (
        broker_process(code=code) as (connection, _),
        closing(await BrokerClient.from_socket(connection.dup())) as client,
    ):
        results: dict[str, object] = {}
        for title, where, kind in (
            ("tcp there", place, SocketKind.TCP6),
            ("raw at home", HOME, SocketKind.ICMP6),
        ):
            (opened,) = await client.open_sockets(wanted(where, (kind,)))
            if isinstance(opened, socket.socket):
                results[title] = "open"
                opened.close()
            else:
                results[title] = errno.errorcode[opened]
        (state,) = await client.read_kernel((HOME,), (ReadTopic(Topic.NFT_TABLES, number=10),))
        results["nft"] = state.answers[0].errno
        (files,) = await client.read_pod_files((place_of_pid(pid),))
        results["files"] = (
            InstalledLibc.GLIBC in files.libcs if not files.libc_errno else errno.errorcode[files.libc_errno]
        )
        keys = [(found.device, found.inode) for found in (await client.namespaces()).found]
        results["found"] = (place.device, place.inode) in keys
        return results


async def test_each_capability_of_the_broker_is_needed(tmp_path: Path) -> None:
    PodRoot(tmp_path, "nameserver 192.0.2.53\n")
    place_program(tmp_path, "/serve")
    with named_namespace() as name, process_in(name, "chroot", str(tmp_path), "/serve") as inside:
        everything = await lost_without(0, name, inside.pid)
        assert everything == {
            "tcp there": "open",
            "raw at home": "open",
            "nft": 0,
            "files": True,
            "found": True,
        }
        without: dict[int, dict[str, object]] = {
            SYS_ADMIN: {"tcp there": "EPERM"},
            NET_RAW: {"raw at home": "EPERM"},
            NET_ADMIN: {"nft": errno.EPERM},
            SYS_PTRACE: {"tcp there": "open", "files": "EACCES", "found": False},
        }
        for capability, lost in without.items():
            assert await lost_without(capability, name, inside.pid) == everything | lost
