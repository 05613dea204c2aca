"""The broker's answers to one visit, by topic, and what an errno means to a reader. Pure but for the visit itself, which the broker makes."""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from exporter.broker.protocol.messages import POD_TOPICS, KernelState, NamespaceRef, ReadTopic, Topic, TopicAnswer
from exporter.model.reason import Reason

ABSENT = frozenset({errno.ENOENT})
_REFUSED = frozenset({errno.EPERM, errno.EACCES})
_UNSUPPORTED = frozenset({errno.EPROTONOSUPPORT, errno.EOPNOTSUPP, errno.EAFNOSUPPORT, errno.ENOPROTOOPT, errno.ENOSYS})
POD = ReadTopic(Topic.POD)
_POD_HEADS = struct.Struct("<" + "HBI" * len(POD_TOPICS))
_INTERRUPTED = "the kernel's tables changed during both attempts to read them"


class KernelBroker(Protocol):
    """What the readers need of the broker's client."""

    async def read_kernel(
        self, places: tuple[NamespaceRef, ...], topics: tuple[ReadTopic, ...]
    ) -> tuple[KernelState, ...]:
        """Read these topics at each place, in one visit each. At most MAX_PLACES; one state per place, in order."""
        ...


class ReadError(Exception):  # not an error of ours: a state of the world
    """Something could not be read. `code` is the errno, 0 where there is none; `entering`: the place itself could not be entered."""

    def __init__(self, reason: Reason, detail: str, code: int = 0, *, entering: bool = False) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail
        self.code = code
        self.entering = entering


def reason_of(code: int, *, lsm: bool) -> Reason:
    """What an errno means. `lsm`: a security module confines the broker, so a refusal is its doing."""
    if code in _REFUSED:
        return Reason.LSM if lsm and code == errno.EACCES else Reason.NO_PERMISSION
    return Reason.KERNEL if code in _UNSUPPORTED else Reason.READER_FAILED


def describe(code: int) -> str:
    """An errno for people."""
    return f"{errno.errorcode.get(code, str(code))}: {os.strerror(code)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class VisitAnswers:
    """One visit's answers. `data` gives bytes or raises Unread."""

    found: Mapping[ReadTopic, TopicAnswer]
    seconds: float
    visit_errno: int = 0
    lsm: bool = False

    def data(self, topic: ReadTopic, absent: frozenset[int] = ABSENT) -> bytes:
        """What a topic gave; empty where it failed with an errno that means "there is none"."""
        return self._data(topic, absent) or b""

    def optional(self, topic: ReadTopic) -> bytes | None:
        """What a topic gave; None where the thing asked for does not exist."""
        return self._data(topic, ABSENT)

    def _data(self, topic: ReadTopic, absent: frozenset[int]) -> bytes | None:
        if self.visit_errno:
            raise ReadError(
                reason_of(self.visit_errno, lsm=self.lsm), describe(self.visit_errno), self.visit_errno, entering=True
            )
        answer = self.found.get(topic)
        if answer is None:
            raise ReadError(Reason.READER_FAILED, "the broker did not answer")
        if answer.errno in absent:
            return None
        if answer.errno:
            raise ReadError(reason_of(answer.errno, lsm=self.lsm), describe(answer.errno), answer.errno)
        if answer.interrupted:
            raise ReadError(Reason.READER_FAILED, _INTERRUPTED, errno.EINTR)
        return answer.data


def _split_pod(data: bytes) -> dict[ReadTopic, TopicAnswer]:
    """The parts of a Topic.POD; those that are missing stay missing."""
    if len(data) < _POD_HEADS.size:
        return {}
    heads = iter(_POD_HEADS.unpack_from(data))
    found = {}
    at = _POD_HEADS.size
    for topic, code, interrupted, length in zip(POD_TOPICS, heads, heads, heads, strict=True):
        if length > len(data) - at:
            break
        found[topic] = TopicAnswer(code, data[at : at + length], bool(interrupted))
        at += length
    return found


def gather(topics: tuple[ReadTopic, ...], state: KernelState, seconds: float, *, lsm: bool) -> VisitAnswers:
    """A KernelState by topic, a Topic.POD that was asked alone by its parts. Answers that are missing stay missing: their readers say so."""
    if topics == (POD,) and state.answers:
        whole = state.answers[0]
        found = dict.fromkeys(POD_TOPICS, whole) if whole.errno else _split_pod(whole.data)
    else:
        found = dict(zip(topics, state.answers, strict=False))
    return VisitAnswers(found=found, seconds=seconds, visit_errno=state.visit_errno, lsm=lsm)
