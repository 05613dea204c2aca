"""IPVS over generic netlink: what the broker asks and what it makes of the answers. Few kernels have ip_vs; pyroute2
writes the messages.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections import deque

import pytest
from pyroute2.netlink import genlmsg
from pyroute2.netlink.generic.ipvs import IPVS_CMD_GET_SERVICE, IPVS_CMD_NEW_SERVICE, ipvsmsg

from exporter.broker.protocol.messages import ReadTopic, Topic, TopicAnswer
from exporter.broker.server.kernel.topics import read_topics
from exporter.kernel.decode.services import parse_ipvs
from exporter.model.family import Family

FAMILY_ID = 0x24
CONTROLLER = 0x10  # GENL_ID_CTRL
IPVS = (ReadTopic(Topic.IPVS),)
LISTED = os.stat


def service(family: int, address: str) -> bytes:
    """One service of a dump, as the kernel sends it."""
    message = ipvsmsg()
    message["header"].update({"type": FAMILY_ID, "flags": 2, "sequence_number": 1})
    message.update({"cmd": IPVS_CMD_NEW_SERVICE, "version": 1})
    about = [("AF", family), ("PROTOCOL", socket.IPPROTO_TCP), ("ADDR", address), ("PORT", 443), ("SCHED_NAME", "rr")]
    message["attrs"] = [
        ("IPVS_CMD_ATTR_SERVICE", {"attrs": [(f"IPVS_SVC_ATTR_{name}", value) for name, value in about]})
    ]
    message.encode()
    return bytes(message.data)


def done() -> bytes:
    return struct.pack("=IHHIIi", 20, 3, 2, 1, 0, 0)


def family_found() -> bytes:
    body = struct.pack("=BBH", 1, 2, 0) + struct.pack("=HHHxx", 6, 1, FAMILY_ID)
    return struct.pack("=IHHII", 16 + len(body), CONTROLLER, 0, 1, 0) + body


def refused(code: int) -> bytes:
    return struct.pack("=IHHIIi", 36, 2, 0, 1, 0, -code) + bytes(16)


class Kernel:
    """In place of the netlink socket; `asked` keeps what was sent."""

    packets: deque[bytes]
    asked: list[bytes]

    def __init__(self, *_: int) -> None: ...

    def setsockopt(self, *_: object) -> None: ...

    def close(self) -> None: ...

    def send(self, request: bytes) -> None:
        Kernel.asked.append(request)

    def recvfrom(self, *_: int) -> tuple[bytes, tuple[int, int]]:
        return Kernel.packets.popleft(), (0, 0)


def play(monkeypatch: pytest.MonkeyPatch, *packets: bytes) -> None:
    monkeypatch.setattr(socket, "SocketType", Kernel)
    monkeypatch.setattr(
        os, "stat", lambda path, *rest, **named: None if "ip_vs" in str(path) else LISTED(path, *rest, **named)
    )
    monkeypatch.setattr(Kernel, "packets", deque(packets), raising=False)
    monkeypatch.setattr(Kernel, "asked", [], raising=False)


def test_services_of_both_families_are_counted_from_one_dump(monkeypatch: pytest.MonkeyPatch) -> None:
    dump = service(socket.AF_INET, "10.96.0.10") + service(socket.AF_INET6, "fd00:10:96::a") * 2
    play(monkeypatch, family_found(), refused(0), dump, done())
    (answer,) = read_topics(IPVS)
    assert answer.errno == 0
    assert parse_ipvs(answer.data) == {Family.V4: 1, Family.V6: 2}
    lookup, asked = (genlmsg(request) for request in Kernel.asked)
    lookup.decode()
    asked.decode()
    assert (lookup["header"]["type"], lookup["cmd"]) == (CONTROLLER, 3)
    assert b"IPVS\0" in Kernel.asked[0]
    assert (asked["header"]["type"], asked["cmd"], asked["version"]) == (FAMILY_ID, IPVS_CMD_GET_SERVICE, 1)
    assert asked["header"]["flags"] & 0x300 == 0x300, "a dump"


@pytest.mark.parametrize("code", [errno.EPERM, errno.ENOENT])
def test_a_refusal_is_the_answer(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    play(monkeypatch, refused(code))
    assert read_topics(IPVS) == (TopicAnswer(code),)
    play(monkeypatch, family_found(), refused(0), refused(code))
    assert read_topics(IPVS) == (TopicAnswer(code),)


def test_an_empty_table_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    play(monkeypatch, family_found(), refused(0), done())
    (answer,) = read_topics(IPVS)
    assert parse_ipvs(answer.data) == {Family.V4: 0, Family.V6: 0}
