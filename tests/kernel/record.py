"""Records what the kernel answered in the lab, for tests that need no root. Run as root after a change of topics:

    python -m tests.kernel.record

Writes tests/data/kernel/BACKEND.json: the answers of a host's three visits and of a pod's, as errno and hex, by topic.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from exporter.broker.protocol.messages import KernelState, NamespaceRef, ReadTopic, TopicAnswer
from exporter.kernel.read.readers import read_host
from tests.kernel.calico import Lab
from tests.kernel.calico_nodes import BACKENDS
from tests.kernel.direct_broker import DirectBroker
from tests.unit.kernel_recordings import read_pod

DATA = Path(__file__).resolve().parents[1] / "data" / "kernel"


class Recorder:
    """Passes requests on to a broker and keeps its answers."""

    def __init__(self, broker: DirectBroker) -> None:
        self._broker = broker
        self.answers: dict[ReadTopic, TopicAnswer] = {}

    async def read_kernel(
        self, places: tuple[NamespaceRef, ...], topics: tuple[ReadTopic, ...]
    ) -> tuple[KernelState, ...]:
        states = await self._broker.read_kernel(places, topics)
        self.answers |= dict(zip(topics, states[0].answers, strict=True))
        return states


def written(answers: dict[ReadTopic, TopicAnswer]) -> list[list[object]]:
    return [[t.topic.name, t.argument.hex(), t.number, a.errno, a.data.hex()] for t, a in answers.items()]


async def record(backend: str) -> None:
    with Lab(backend=backend, node_count=3, pod_count=1) as lab:
        host, pod = (Recorder(DirectBroker(ns)) for ns in (lab.nodes[0].netns, lab.nodes[0].pods[0].netns))
        await read_host(host, settle=0)
        if backend != "nftables":
            lab.fault("pod_intercepted")
        await read_pod(pod)
    text = json.dumps({"host": written(host.answers), "pod": written(pod.answers)}, indent=0)
    (DATA / f"{backend}.json").write_text(text + "\n")


if __name__ == "__main__":
    for each in BACKENDS:
        asyncio.run(record(each))
