"""The encoding of messages between the exporter and the broker, and their packets. It does no I/O.

A message is one byte for its kind, then its fields in order; numbers are little-endian, texts and sequences carry
their length. Either side may be hostile to the other: every length is bounded, and anything that is not exactly one
valid message is WireError.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from itertools import groupby
from typing import Any, Generic, TypeVar

from exporter.broker.protocol import messages as m

MAX_SOCKETS = 64  # in one request; the kernel passes at most 253 descriptors at once
MAX_PLACES = 8  # in one request: with more the others' requests would wait too long behind it
MAX_TOPICS = 256
MAX_NAMESPACES = 4096
MAX_PROCESSES = 8
MAX_NAMES = 1000
MAX_CGROUP = 512
MAX_PATH = 4096
MAX_RESOLV_CONF = 64 * 1024
MAX_REQUEST = 60 * 1024  # bytes: a request is a single packet
MAX_REPLY = 64 * 1024 * 1024
PIECE = 64 * 1024  # well below the default send buffer (208 KiB), so that a few packets may be under way
MAX_PACKET = PIECE + 1

_T = TypeVar("_T")
_E = TypeVar("_E", bound=IntEnum)


class WireError(ValueError):
    """These bytes are no valid message, or this value is not allowed in one."""


class _Source:
    """Bytes and how far they have been read."""

    __slots__ = ("at", "data")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def take(self, count: int) -> bytes:
        piece = self.data[self.at : self.at + count]
        if len(piece) != count:
            raise WireError("message ends too early")
        self.at += count
        return piece


@dataclass(frozen=True, slots=True)
class _Codec(Generic[_T]):
    put: Callable[[bytearray, _T], None]
    get: Callable[[_Source], _T]


def _number(code: str) -> _Codec[int]:
    layout = struct.Struct("<" + code)

    def put(out: bytearray, value: int) -> None:
        out += layout.pack(value)

    def get(source: _Source) -> int:
        value: int = layout.unpack_from(source.data, source.at)[0]
        source.at += layout.size
        return value

    return _Codec(put, get)


_U8, _U16, _U32, _U64 = _number("B"), _number("H"), _number("I"), _number("Q")


def _flag_get(source: _Source) -> bool:
    value = _U8.get(source)
    if value > 1:
        raise WireError("a flag is 0 or 1")
    return value == 1


_FLAG: _Codec[bool] = _Codec(_U8.put, _flag_get)


def _octets(limit: int) -> _Codec[bytes]:
    def put(out: bytearray, value: bytes) -> None:
        if len(value) > limit:
            raise WireError("field too long")
        _U32.put(out, len(value))
        out += value

    def get(source: _Source) -> bytes:
        length = _U32.get(source)
        if length > limit:
            raise WireError("field too long")
        return source.take(length)

    return _Codec(put, get)


def _text(limit: int) -> _Codec[str]:
    """File names are bytes: what is no UTF-8 travels as Python's surrogates (os.fsdecode). NUL is refused."""
    octets = _octets(limit)

    def put(out: bytearray, value: str) -> None:
        if "\0" in value:
            raise WireError("NUL in a text")
        octets.put(out, value.encode("utf-8", "surrogateescape"))

    def get(source: _Source) -> str:
        value = octets.get(source).decode("utf-8", "surrogateescape")
        if "\0" in value:
            raise WireError("NUL in a text")
        return value

    return _Codec(put, get)


def _choice(members: type[_E]) -> _Codec[_E]:
    return _Codec(_U8.put, lambda source: members(_U8.get(source)))


def _sequence(item: _Codec[_T], limit: int) -> _Codec[tuple[_T, ...]]:
    def put(out: bytearray, values: tuple[_T, ...]) -> None:
        if len(values) > limit:
            raise WireError("too many items")
        _U32.put(out, len(values))
        for value in values:
            item.put(out, value)

    def get(source: _Source) -> tuple[_T, ...]:
        count = _U32.get(source)
        if count > limit:
            raise WireError("too many items")
        return tuple([item.get(source) for _ in range(count)])

    return _Codec(put, get)


def _record(kind: Callable[..., _T], /, *, numbers: str = "", **codecs: _Codec[Any]) -> _Codec[_T]:
    """The class `kind`: its leading numbers as struct codes, read at once, then its other fields in order."""
    names = list(kind.__annotations__)
    leading = names[: len(numbers)]
    assert names[len(numbers) :] == list(codecs), kind
    layout = struct.Struct("<" + numbers)
    pairs = tuple(codecs.items())
    getters = tuple(codec.get for codec in codecs.values())

    def put(out: bytearray, value: _T) -> None:
        out += layout.pack(*[getattr(value, name) for name in leading])
        for name, codec in pairs:
            codec.put(out, getattr(value, name))

    def get(source: _Source) -> _T:
        first = layout.unpack_from(source.data, source.at)
        source.at += layout.size
        return kind(**dict(zip(names, (*first, *[getter(source) for getter in getters]), strict=True)))

    return _Codec(put, get)


@lru_cache(8)  # a client chooses the count
def _answer_heads(count: int) -> struct.Struct:
    """Errno, interrupted and length of each answer; the bytes of all follow. Read at once: a pod's visit has many."""
    return struct.Struct("<" + "HBI" * count)


def _put_answers(out: bytearray, answers: tuple[m.TopicAnswer, ...]) -> None:
    if len(answers) > MAX_TOPICS:
        raise WireError("too many items")
    heads: list[int] = []
    for code, data, interrupted in answers:
        heads += (code, interrupted, len(data))
    out += len(answers).to_bytes(4, "little") + _answer_heads(len(answers)).pack(*heads)
    out += b"".join([data for _, data, _ in answers])


def _get_answers(source: _Source) -> tuple[m.TopicAnswer, ...]:
    count = _U32.get(source)
    if count > MAX_TOPICS:
        raise WireError("too many items")
    layout = _answer_heads(count)
    heads = iter(layout.unpack_from(source.data, source.at))
    data, at = source.data, source.at + layout.size
    answers = []
    for code, interrupted, length in zip(heads, heads, heads, strict=True):
        if interrupted > 1:
            raise WireError("a flag is 0 or 1")
        answers.append(m.TopicAnswer(code, data[at : at + length], interrupted == 1))
        at += length
    if at > len(data):
        raise WireError("message ends too early")
    source.at = at
    return tuple(answers)


_PLACE = _record(m.NamespaceRef, numbers="QQIQ", path=_text(MAX_PATH))
_SOCKET = struct.Struct("<BH")  # kind, number


def _put_wanted(out: bytearray, wanted: tuple[m.SocketWanted, ...]) -> None:
    """Grouped by place, as they follow one another: each with how many sockets, and their kinds and numbers."""
    if len(wanted) > MAX_SOCKETS:
        raise WireError("too many items")
    groups = [(place, list(group)) for place, group in groupby(wanted, lambda each: each.place)]
    _U32.put(out, len(groups))
    for place, group in groups:
        _PLACE.put(out, place)
        _U32.put(out, len(group))
        for _, kind, number in group:
            out += _SOCKET.pack(kind, number)


def _get_wanted(source: _Source) -> tuple[m.SocketWanted, ...]:
    wanted: list[m.SocketWanted] = []
    for _ in range(_U32.get(source)):
        place, count = _PLACE.get(source), _U32.get(source)
        if len(wanted) + count > MAX_SOCKETS:
            raise WireError("too many items")
        for _ in range(count):
            kind, number = _SOCKET.unpack_from(source.data, source.at)
            source.at += _SOCKET.size
            wanted.append(m.SocketWanted(place, m.SocketKind(kind), number))
    return tuple(wanted)


_TOPIC = _record(m.ReadTopic, topic=_choice(m.Topic), argument=_octets(MAX_PATH), number=_U32)
_PROCESS = _record(m.Process, numbers="IQ", cgroup=_octets(MAX_CGROUP))
_FOUND = _record(m.FoundNamespace, numbers="QQ", processes=_sequence(_PROCESS, MAX_PROCESSES))
_NAMED = _record(m.NamedNamespace, name=_text(255), device=_U64, inode=_U64)
_PLACES = _sequence(_PLACE, MAX_PLACES)
_STATE = _record(m.KernelState, numbers="H", answers=_Codec(_put_answers, _get_answers))
_FILES = _record(
    m.PodFiles,
    numbers="H",
    resolv_conf=_octets(MAX_RESOLV_CONF),
    libc_errno=_U16,
    libcs=_sequence(_choice(m.InstalledLibc), len(m.InstalledLibc)),
    sandbox=_FLAG,
)

_REQUESTS: dict[int, tuple[type[m.Request], _Codec[Any]]] = {
    1: (m.Hello, _record(m.Hello)),
    2: (m.ListNamespaces, _record(m.ListNamespaces)),
    3: (m.ListNamed, _record(m.ListNamed, directory=_text(MAX_PATH))),
    4: (m.OpenSockets, _record(m.OpenSockets, wanted=_Codec(_put_wanted, _get_wanted))),
    5: (m.ReadKernel, _record(m.ReadKernel, places=_PLACES, topics=_sequence(_TOPIC, MAX_TOPICS))),
    6: (m.ReadPodFiles, _record(m.ReadPodFiles, places=_PLACES)),
}
_REPLIES: dict[int, tuple[type[m.Reply], _Codec[Any]]] = {
    1: (m.Welcome, _record(m.Welcome, numbers="QQQI", lsm=_text(255))),
    2: (m.Namespaces, _record(m.Namespaces, found=_sequence(_FOUND, MAX_NAMESPACES), refused=_U32)),
    3: (m.Named, _record(m.Named, found=_sequence(_NAMED, MAX_NAMES), errno=_U16)),
    4: (m.Sockets, _record(m.Sockets, errnos=_sequence(_U16, MAX_SOCKETS))),
    5: (m.KernelStates, _record(m.KernelStates, states=_sequence(_STATE, MAX_PLACES))),
    6: (m.FilesOfPods, _record(m.FilesOfPods, found=_sequence(_FILES, MAX_PLACES))),
}


def encode_request(request: m.Request) -> bytes:
    """WireError when the request is outside the bounds."""
    return _encode(_REQUESTS, request, MAX_REQUEST)


def decode_request(data: bytes) -> m.Request:
    """WireError unless this is exactly one request."""
    request: m.Request = _decode(_REQUESTS, data)
    return request


def encode_reply(reply: m.Reply) -> bytes:
    """WireError when the reply is outside the bounds."""
    return _encode(_REPLIES, reply, MAX_REPLY)


def decode_reply(data: bytes) -> m.Reply:
    """WireError unless this is exactly one reply."""
    reply: m.Reply = _decode(_REPLIES, data)
    return reply


def _encode(table: dict[int, tuple[type, _Codec[Any]]], message: object, limit: int) -> bytes:
    number, codec = next((key, codec) for key, (kind, codec) in table.items() if type(message) is kind)
    out = bytearray((number,))
    try:
        codec.put(out, message)
    except (struct.error, UnicodeError) as error:
        raise WireError(str(error)) from error
    if len(out) > limit:
        raise WireError("message too long")
    return bytes(out)


def _decode(table: dict[int, tuple[type, _Codec[Any]]], data: bytes) -> Any:
    if not data or data[0] not in table:
        raise WireError("unknown kind of message")
    source = _Source(data)
    source.at = 1
    try:
        message = table[data[0]][1].get(source)
    except WireError:
        raise
    except (struct.error, ValueError) as error:  # too short; not a member of an enumeration
        raise WireError(str(error)) from error
    if source.at != len(data):
        raise WireError("bytes after the message")
    return message


def packets(message: bytes) -> Iterator[tuple[bytes, memoryview]]:
    """The packets of a message, each as flag and piece, to be sent together without copying."""
    view = memoryview(message)
    for start in range(0, len(message), PIECE):
        yield b"\1" if start + PIECE < len(message) else b"\0", view[start : start + PIECE]


class Assembly:
    """Puts the packets of one message after the other together again."""

    def __init__(self, limit: int = MAX_REPLY) -> None:
        self._limit = limit
        self._pieces = bytearray()

    @property
    def begun(self) -> bool:
        return bool(self._pieces)

    def add(self, packet: memoryview) -> bytes | None:
        """The message, once this packet completed it. WireError for a packet that cannot be."""
        if len(packet) < 2 or packet[0] > 1:
            raise WireError("not a packet")
        self._pieces += packet[1:]
        if len(self._pieces) > self._limit:
            raise WireError("message too long")
        if packet[0]:
            return None
        message = bytes(self._pieces)
        self._pieces = bytearray()
        return message
