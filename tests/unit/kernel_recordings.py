"""Answers of the real kernel, recorded by tests/kernel/record.py, as a broker that replays them."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable
from pathlib import Path

from exporter.broker.protocol.messages import HOME, KernelState, NamespaceRef, ReadTopic, Topic, TopicAnswer
from exporter.kernel.read.readers import read_pods
from exporter.kernel.read.visits import KernelBroker
from exporter.model.facts import PodFacts, ReaderStatus

DATA = Path(__file__).resolve().parents[1] / "data" / "kernel"
BACKENDS = ("iptables-nft", "iptables-legacy", "nftables")

Answers = dict[ReadTopic, TopicAnswer]


def recorded(backend: str, place: str) -> Answers:
    """The answers of a host's or a pod's visits."""
    rows = json.loads((DATA / f"{backend}.json").read_text())[place]
    return {
        ReadTopic(Topic[name], bytes.fromhex(argument), number): TopicAnswer(code, bytes.fromhex(data))
        for name, argument, number, code, data in rows
    }


def data_of(answers: Answers, topic: Topic) -> bytes:
    """The bytes of the only answer of that topic, or of the first of several."""
    return next(answer.data for asked, answer in answers.items() if asked.topic is topic)


async def read_pod(broker: KernelBroker, *, lsm: bool = False) -> tuple[PodFacts | None, ReaderStatus]:
    """The facts of the one pod that the broker reads."""
    (found,) = await read_pods(broker, (HOME,), lsm=lsm)
    return found


class Replay:
    """Answers read_kernel from a recording; what was not recorded does not exist. `spoil` may change what goes out."""

    def __init__(self, answers: Answers, spoil: Callable[[ReadTopic, TopicAnswer], TopicAnswer] | None = None) -> None:
        self._answers = answers
        self._spoil = spoil

    async def read_kernel(
        self, places: tuple[NamespaceRef, ...], topics: tuple[ReadTopic, ...]
    ) -> tuple[KernelState, ...]:
        found = tuple(self._answers.get(topic, TopicAnswer(errno.ENOENT)) for topic in topics)
        if self._spoil is not None:
            found = tuple(self._spoil(topic, answer) for topic, answer in zip(topics, found, strict=True))
        return (KernelState(0, found),) * len(places)
