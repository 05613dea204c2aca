"""The language between exporter and broker: what one side writes the other reads, and nothing else is ever accepted."""

from __future__ import annotations

import os
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.broker.protocol import messages as m
from exporter.broker.protocol.wire import (
    MAX_PATH,
    MAX_PLACES,
    MAX_SOCKETS,
    PIECE,
    Assembly,
    WireError,
    decode_reply,
    decode_request,
    encode_reply,
    encode_request,
    packets,
)

U16, U32, U64 = (st.integers(0, (1 << bits) - 1) for bits in (16, 32, 64))


def names(limit: int) -> st.SearchStrategy[str]:
    """File names as Python sees them, those that are no UTF-8 among them."""
    return st.binary(max_size=limit).map(lambda raw: os.fsdecode(raw.replace(b"\0", b"")))


def tuples(items: st.SearchStrategy[Any], limit: int) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.lists(items, max_size=limit).map(tuple)


PLACES = st.builds(m.NamespaceRef, device=U64, inode=U64, pid=U32, started=U64, path=names(60))
TOPICS = st.builds(m.ReadTopic, topic=st.sampled_from(m.Topic), argument=st.binary(max_size=40), number=U32)
PROCESSES = st.builds(m.Process, pid=U32, started=U64, cgroup=st.binary(max_size=60))
FOUND = st.builds(m.FoundNamespace, device=U64, inode=U64, processes=tuples(PROCESSES, 8))
NAMED = st.builds(m.NamedNamespace, name=names(60), device=U64, inode=U64)
ANSWERS = st.builds(m.TopicAnswer, errno=U16, data=st.binary(max_size=60), interrupted=st.booleans())
STATES = st.builds(m.KernelState, visit_errno=U16, answers=tuples(ANSWERS, 6))
FILES = st.builds(
    m.PodFiles,
    resolv_errno=U16,
    resolv_conf=st.binary(max_size=60),
    libc_errno=U16,
    libcs=tuples(st.sampled_from(m.InstalledLibc), 2),
    sandbox=st.booleans(),
)
WANTED = st.builds(m.SocketWanted, place=PLACES, kind=st.sampled_from(m.SocketKind), number=U16)
REQUESTS: st.SearchStrategy[m.Request] = st.one_of(
    st.just(m.Hello()),
    st.just(m.ListNamespaces()),
    st.builds(m.ListNamed, directory=names(60)),
    st.builds(m.OpenSockets, wanted=tuples(WANTED, 8)),
    st.builds(m.ReadKernel, places=tuples(PLACES, 3), topics=tuples(TOPICS, 6)),
    st.builds(m.ReadPodFiles, places=tuples(PLACES, MAX_PLACES)),
)
REPLIES: st.SearchStrategy[m.Reply] = st.one_of(
    st.builds(m.Welcome, device=U64, inode=U64, capabilities=U64, pid=U32, lsm=names(60)),
    st.builds(m.Namespaces, found=tuples(FOUND, 4), refused=U32),
    st.builds(m.Named, found=tuples(NAMED, 4), errno=U16),
    st.builds(m.Sockets, errnos=tuples(U16, MAX_SOCKETS)),
    st.builds(m.KernelStates, states=tuples(STATES, 3)),
    st.builds(m.FilesOfPods, found=tuples(FILES, 3)),
)


@given(REQUESTS)
def test_a_request_arrives_as_it_was_sent(request: m.Request) -> None:
    assert decode_request(encode_request(request)) == request


@given(REPLIES)
def test_a_reply_arrives_as_it_was_sent(reply: m.Reply) -> None:
    assert decode_reply(encode_reply(reply)) == reply


@settings(max_examples=500)
@given(st.binary(max_size=200))
def test_bytes_are_one_message_or_a_wire_error(data: bytes) -> None:
    pairs: list[tuple[Any, Any]] = [(decode_request, encode_request), (decode_reply, encode_reply)]
    for decode, encode in pairs:
        try:
            message = decode(data)
        except WireError:
            continue
        assert encode(message) == data  # one spelling for each message, so nothing hides in it


@settings(max_examples=500)
@given(st.one_of(REQUESTS.map(encode_request), REPLIES.map(encode_reply)), st.data())
def test_a_damaged_message_is_another_message_or_a_wire_error(data: bytes, draw: st.DataObject) -> None:
    at = draw.draw(st.integers(0, len(data) - 1))
    damaged = data[:at] + draw.draw(st.binary(max_size=9)) + data[at + draw.draw(st.integers(0, 9)) :]
    for decode in (decode_request, decode_reply):
        try:
            decode(damaged)
        except WireError:
            continue


@given(st.one_of(REQUESTS.map(encode_request), REPLIES.map(encode_reply)))
def test_a_message_that_ends_early_or_late_is_refused(data: bytes) -> None:
    decoders = [decode for decode in (decode_request, decode_reply) if _accepts(decode, data)]
    assert decoders
    for decode in decoders:
        for wrong in (data[:-1], data + b"\0"):
            with pytest.raises(WireError):
                decode(wrong)


def _accepts(decode: Any, data: bytes) -> bool:
    try:
        decode(data)
    except WireError:
        return False
    return True


def _message(number: int, *parts: bytes) -> bytes:
    return bytes((number,)) + b"".join(parts)


PLACE = bytes(8 + 8 + 4 + 8 + 4)
ONE = (1).to_bytes(4, "little")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0",
        b"\7",
        b"\xff",
        _message(4, ONE, PLACE, (MAX_SOCKETS + 1).to_bytes(4, "little"), b"\1\0\0" * (MAX_SOCKETS + 1)),
        _message(4, (MAX_SOCKETS + 1).to_bytes(4, "little"), (PLACE + ONE + b"\1\0\0") * (MAX_SOCKETS + 1)),
        _message(4, ONE, PLACE, ONE, b"\0\0\0"),
        _message(4, ONE, PLACE, ONE, b"\x63\0\0"),
        _message(4, b"\xff\xff\xff\xff"),
        _message(4, ONE, PLACE, b"\xff\xff\xff\xff"),
        _message(5, ONE, PLACE, (257).to_bytes(4, "little"), bytes(257 * 9)),
        _message(5, (MAX_PLACES + 1).to_bytes(4, "little"), PLACE * (MAX_PLACES + 1), bytes(4)),
        _message(6, b"\xff\xff\xff\xff"),
        _message(3, b"\xff\xff\xff\xff"),
        _message(3, (4097).to_bytes(4, "little"), b"a" * 4097),
        _message(3, (3).to_bytes(4, "little"), b"a\0b"),
    ],
    ids=[
        "nothing", "kind 0", "kind 7", "kind 255", "65 sockets", "65 places",
        "socket kind 0", "unknown socket kind", "4 Gi groups", "4 Gi sockets",
        "257 topics", "9 places", "4 Gi places", "4 GiB of path", "path too long", "NUL in a path",
    ],
)  # fmt: skip
def test_what_exceeds_a_bound_or_is_unknown_is_refused(data: bytes) -> None:
    with pytest.raises(WireError):
        decode_request(data)


@pytest.mark.parametrize(
    "request_",
    [
        m.OpenSockets((m.SocketWanted(m.HOME, m.SocketKind.TCP6),) * (MAX_SOCKETS + 1)),
        m.ReadPodFiles((m.NamespaceRef(pid=-1),)),
        m.ReadPodFiles((m.NamespaceRef(pid=1 << 32),)),
        m.ReadPodFiles((m.NamespaceRef(path="/run/netns/a\0b"),)),
        m.ListNamed("/" + "a" * 4096),
        m.ReadKernel((m.HOME,), (m.ReadTopic(m.Topic.IPSET, b"a" * 4097),)),
        m.ReadKernel((m.HOME,), (m.ReadTopic(m.Topic.IPSET, b"a" * 4096),) * 20),
        m.ReadKernel((m.HOME,) * (MAX_PLACES + 1), ()),
        m.ReadPodFiles((m.HOME,) * (MAX_PLACES + 1)),
    ],
)
def test_what_is_outside_the_bounds_is_not_written_either(request_: m.Request) -> None:
    with pytest.raises(WireError):
        encode_request(request_)


def test_as_many_places_as_may_be_asked_at_once_fit_into_one_request() -> None:
    place = m.NamespaceRef(path="/" + "a" * (MAX_PATH - 1))
    topics = (m.ReadTopic(m.Topic.LINKS),) * 8
    request = m.ReadKernel((place,) * MAX_PLACES, topics)
    assert decode_request(encode_request(request)) == request


@pytest.mark.parametrize("size", [2, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE + 5])
def test_a_message_of_any_size_travels_in_packets(size: int) -> None:
    message = os.urandom(size)
    assembly = Assembly()
    arrived = [assembly.add(memoryview(flag + bytes(piece))) for flag, piece in packets(message)]
    assert arrived == [None] * (len(arrived) - 1) + [message]
    assert len(arrived) == -(-size // PIECE)
    assert not assembly.begun


@pytest.mark.parametrize("packet", [b"", b"\0", b"\1", b"\2x", b"\xffx"])
def test_what_is_no_packet_is_refused(packet: bytes) -> None:
    with pytest.raises(WireError):
        Assembly().add(memoryview(packet))


def test_packets_without_end_are_refused_at_the_bound() -> None:
    assembly = Assembly(limit=1000)
    for _ in range(10):
        assembly.add(memoryview(b"\1" + bytes(100)))
    with pytest.raises(WireError):
        assembly.add(memoryview(b"\1x"))
