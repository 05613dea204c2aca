"""A look at all pods of a node: in batches, in order, each by itself, whatever became of the others."""

from __future__ import annotations

import asyncio
import errno
from dataclasses import replace
from typing import Any

import pytest

from exporter.broker.messages import KernelState, Libc, Place, PodFiles, ReadTopic, Welcome
from exporter.broker.wire import MAX_PLACES
from exporter.inspection.pods import AT_ONCE, PodsSeen, look_at_pods
from exporter.model.dns import ResolvConf
from exporter.model.report import Reason
from exporter.model.vantage import Netns, PodState, Vantage
from tests.unit.kernel_recordings import Answers, Replay, recorded

HEALTHY, MESH = recorded("nftables", "pod"), recorded("iptables-nft", "pod")
OWN = ResolvConf()
FILES = PodFiles(resolv_errno=0, resolv_conf=b"nameserver 10.96.0.10\n", libc_errno=0, libcs=(Libc.MUSL,))
VANISHED, REFUSED = 1003, 1005


class Broker:
    """In place of a broker and its client. Pods differ by inode; `most`: requests that were under way at the same time."""

    def __init__(self, *, lsm: str = "", meshes: frozenset[int] = frozenset(), files: PodFiles = FILES) -> None:
        self.welcome = Welcome(4, 1, 0, 1, lsm)
        self.asked: list[int] = []
        self.files_of: list[int] = []
        self.most = self._under_way = 0
        self._meshes = meshes
        self._files = files

    async def read_kernel(self, places: tuple[Place, ...], topics: tuple[ReadTopic, ...]) -> tuple[KernelState, ...]:
        assert len(places) <= MAX_PLACES
        self._under_way += 1
        self.most = max(self.most, self._under_way)
        await asyncio.sleep(0)
        self._under_way -= 1
        self.asked.append(len(places))
        return tuple([await self._state(place, topics) for place in places])

    async def _state(self, place: Place, topics: tuple[ReadTopic, ...]) -> KernelState:
        refusals = {VANISHED: errno.ESTALE, REFUSED: errno.EACCES}
        if place.inode in refusals:
            return KernelState(refusals[place.inode], ())
        answers: Answers = MESH if place.inode in self._meshes else HEALTHY
        (state,) = await Replay(answers).read_kernel((place,), topics)
        return state

    async def read_pod_files(self, places: tuple[Place, ...]) -> tuple[PodFiles, ...]:
        assert 0 < len(places) <= MAX_PLACES
        self.files_of += [place.inode for place in places]
        return (self._files,) * len(places)


def pod(number: int, **changes: Any) -> Vantage:
    inode = 1000 + number
    return replace(
        Vantage("pod", "default", f"web-{number}", Netns(4, inode, pid=inode, started=1), uid=f"u{number}"), **changes
    )


def look(broker: Any, *vantages: Vantage) -> PodsSeen:
    return asyncio.run(look_at_pods(broker, vantages, OWN, lambda: 0.0))


def test_every_pod_is_seen_in_order_in_few_requests_and_few_at_once() -> None:
    broker = Broker()
    seen = look(broker, *map(pod, range(10, 60)))
    assert [view.vantage.name for view in seen.views] == [f"web-{i}" for i in range(10, 60)]
    assert all(view.facts is not None and view.libc == frozenset({"musl"}) and view.resolv_conf for view in seen.views)
    assert len(seen.readings) == 50
    assert broker.asked == [MAX_PLACES] * (50 // MAX_PLACES) + [50 % MAX_PLACES]
    assert broker.most == AT_ONCE


def test_what_becomes_of_one_pod_is_no_matter_of_the_others() -> None:
    broker = Broker(lsm="cri-containerd.apparmor.d (enforce)", meshes=frozenset({1006}))
    skipped = pod(2, state=PodState.STARTING)
    lost = pod(4, netns=None)
    seen = look(broker, pod(1), skipped, pod(3), lost, pod(5), pod(6), pod(7))
    states = {view.vantage.name: (view.vantage.state, view.facts is not None, view.unread) for view in seen.views}
    assert states == {
        "web-1": (PodState.ELIGIBLE, True, ""),
        "web-2": (PodState.STARTING, False, ""),
        "web-4": (PodState.ELIGIBLE, False, ""),  # its namespace was not found
        "web-5": (PodState.UNREADABLE, False, Reason.LSM),
        "web-6": (PodState.INTERCEPTED, True, ""),
        "web-7": (PodState.ELIGIBLE, True, ""),
    }, "the third vanished in the middle and is left out"
    assert [view.vantage.name for view in seen.views] == sorted(states)
    assert [reading.success for reading in seen.readings] == [True, False, True, True]
    assert broker.files_of == [1001, 1006, 1007], "files of those that were read"


@pytest.mark.parametrize(
    ("code", "lsm", "reason"),
    [
        (errno.EACCES, "", Reason.NO_PERMISSION),
        (errno.EACCES, "profile (enforce)", Reason.LSM),
        (errno.EACCES, "unconfined", Reason.NO_PERMISSION),
        (errno.ENOENT, "", Reason.READER_FAILED),
        (errno.EFBIG, "", Reason.READER_FAILED),
    ],
)
def test_a_file_that_cannot_be_read_says_why(code: int, lsm: str, reason: Reason) -> None:
    files = PodFiles(resolv_errno=code, resolv_conf=b"", libc_errno=code, libcs=())
    (view,) = look(Broker(lsm=lsm, files=files), pod(1)).views
    assert view.facts is not None
    assert (view.resolv_conf, view.resolv_conf_unread, view.libc) == (None, reason, None)


def test_a_named_namespace_has_no_root_to_look_into() -> None:
    broker = Broker()
    named = pod(1, namespace="netns", netns=Netns(4, 1001, path="/run/netns/absent-from-etc"))
    (view,) = look(broker, named).views
    assert view.resolv_conf is OWN
    assert broker.files_of == []


def test_the_same_bytes_give_the_same_facts_and_others_do_not() -> None:
    first, second = look(Broker(), pod(1), pod(2)).views
    assert first.facts is second.facts
    (third,) = look(Broker(meshes=frozenset({1001})), pod(1)).views
    assert third.facts != first.facts
