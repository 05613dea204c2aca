"""Visits to namespaces through the broker: the answers of one visit by topic, and why something could not be read.

The readers build on it. Only Visitor waits, for the broker.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol, TypeVar

from exporter.broker.protocol.messages import HOME, KernelState, NamespaceRef, ReadTopic, TopicAnswer
from exporter.kernel.decode import ParseError
from exporter.model.reason import Reason

Clock = Callable[[], float]
Part = TypeVar("Part")

ABSENT = frozenset({errno.ENOENT})
MALFORMED = errno.EBADMSG
_REFUSED = frozenset({errno.EPERM, errno.EACCES})
_UNSUPPORTED = frozenset({errno.EPROTONOSUPPORT, errno.EOPNOTSUPP, errno.EAFNOSUPPORT, errno.ENOPROTOOPT, errno.ENOSYS})
_INTERRUPTED = "the kernel's tables changed during both attempts to read them"


class ReadError(Exception):  # a state of the world, often kept as a value
    """Something could not be read. `code` is the errno, 0 without one; `entering`: the place could not be entered."""

    def __init__(self, reason: Reason, detail: str, code: int = 0, *, entering: bool = False) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail
        self.code = code
        self.entering = entering


def error_of(code: int, *, lsm: bool, entering: bool = False) -> ReadError:
    """What an errno means. `lsm`: a security module confines the broker, so a refusal comes from it."""
    if code in _REFUSED:
        reason = Reason.LSM if lsm and code == errno.EACCES else Reason.NO_PERMISSION
    else:
        reason = Reason.KERNEL if code in _UNSUPPORTED else Reason.READER_FAILED
    detail = f"{errno.errorcode.get(code, str(code))}: {os.strerror(code)}"
    return ReadError(reason, detail, code, entering=entering)


def attempt(read: Callable[[], Part]) -> Part | ReadError:
    """What `read` returns, or why it could not be read."""
    try:
        return read()
    except ReadError as error:
        return error
    except ParseError as error:
        return ReadError(Reason.READER_FAILED, f"malformed: {error}", MALFORMED)


def attempt_optional(read: Callable[[], Part]) -> Part | None:
    """As attempt, for a part that the rest does without: None where it could not be read."""
    part = attempt(read)
    return None if isinstance(part, ReadError) else part


@dataclass(frozen=True, slots=True, kw_only=True)
class VisitAnswers:
    """One visit's answers. `data` gives bytes or raises ReadError."""

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
            raise error_of(self.visit_errno, lsm=self.lsm, entering=True)
        answer = self.found.get(topic)
        if answer is None:
            raise ReadError(Reason.READER_FAILED, "the broker did not answer")
        if answer.errno in absent:
            return None
        if answer.errno:
            raise error_of(answer.errno, lsm=self.lsm)
        if answer.interrupted:
            raise ReadError(Reason.READER_FAILED, _INTERRUPTED, errno.EINTR)
        return answer.data


def gather(topics: tuple[ReadTopic, ...], state: KernelState, seconds: float, *, lsm: bool) -> VisitAnswers:
    """A KernelState by topic. Answers that are missing stay missing: their readers report that."""
    found = dict(zip(topics, state.answers, strict=False))
    return VisitAnswers(found=found, seconds=seconds, visit_errno=state.visit_errno, lsm=lsm)


class KernelBroker(Protocol):
    """What the readers need of the broker's client."""

    async def read_kernel(
        self, places: tuple[NamespaceRef, ...], topics: tuple[ReadTopic, ...]
    ) -> tuple[KernelState, ...]:
        """Read these topics at each place, in one visit each. At most MAX_PLACES; one state per place, in order."""
        ...


@dataclass(frozen=True, slots=True)
class Visitor:
    """`lsm`: a security module confines the broker."""

    broker: KernelBroker
    clock: Clock
    lsm: bool = False

    async def visit(self, topics: tuple[ReadTopic, ...], place: NamespaceRef = HOME) -> VisitAnswers:
        """One visit; none at all where nothing is asked."""
        if not topics:
            return VisitAnswers(found={}, seconds=0.0, lsm=self.lsm)
        (state,), seconds = await self.visit_each((place,), topics)
        return gather(topics, state, seconds, lsm=self.lsm)

    async def visit_each(
        self, places: tuple[NamespaceRef, ...], topics: tuple[ReadTopic, ...]
    ) -> tuple[tuple[KernelState, ...], float]:
        """One visit to each of these places, at most MAX_PLACES, and how many seconds one took on average."""
        began = self.clock()
        states = await self.broker.read_kernel(places, topics)
        return states, (self.clock() - began) / len(places)
