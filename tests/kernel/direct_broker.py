"""The broker's kernel reading without a broker: called in a forked child inside a namespace, watched for what it must
not do.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys
from collections.abc import Callable
from typing import Any

from exporter.broker.protocol.messages import KernelState, NamespaceRef, ReadTopic, TopicAnswer
from exporter.broker.server.kernel.topics import read_topics
from tests.kernel.namespaces import call_inside

FORBIDDEN = (
    "subprocess.",
    "os.exec",
    "os.fork",
    "os.posix_spawn",
    "os.spawn",
    "os.system",
    "pty.",
    "import",
    "os.startfile",
)
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


def watched(act: Callable[..., Any], *arguments: Any) -> tuple[Any, list[str]]:
    """What `act` returns, and the audit events of programs started, modules imported and files opened for writing
    meanwhile.
    """
    seen: list[str] = []
    watching = True

    def note(event: str, details: tuple[Any, ...]) -> None:
        if watching and (
            event.startswith(FORBIDDEN) or (event == "open" and isinstance(details[2], int) and details[2] & WRITING)
        ):
            seen.append(f"{event} {details}")

    sys.addaudithook(note)  # for the life of the process: call this in a forked child
    found = act(*arguments)
    watching = False
    return found, seen


class DirectBroker:
    """Answers read_kernel for one namespace. `visits` keeps what was asked.

    `spoil` may change an answer before it goes out; `prepare` runs in the child, inside the namespace, before it reads.
    """

    def __init__(
        self,
        namespace: str,
        spoil: Callable[[ReadTopic, TopicAnswer], TopicAnswer] | None = None,
        prepare: Callable[[], None] | None = None,
    ) -> None:
        self.namespace = namespace
        self.visits: list[tuple[ReadTopic, ...]] = []
        self._spoil = spoil
        self._prepare = prepare

    async def read_kernel(
        self, places: tuple[NamespaceRef, ...], topics: tuple[ReadTopic, ...]
    ) -> tuple[KernelState, ...]:
        self.visits.append(topics)
        answers, seen = call_inside(self.namespace, self._read, topics)
        assert not seen, seen
        if self._spoil is not None:
            answers = tuple(self._spoil(topic, answer) for topic, answer in zip(topics, answers, strict=True))
        return (KernelState(0, answers),) * len(places)

    def _read(self, topics: tuple[ReadTopic, ...]) -> tuple[tuple[TopicAnswer, ...], list[str]]:
        if self._prepare is not None:
            self._prepare()
        return watched(read_topics, topics)


def drop_capabilities() -> None:
    """Give up every capability of this process (capset, _LINUX_CAPABILITY_VERSION_3)."""
    header = struct.pack("=II", 0x20080522, 0)
    if ctypes.CDLL(None, use_errno=True).capset(header, bytes(24)) != 0:
        raise OSError(ctypes.get_errno(), "capset")
