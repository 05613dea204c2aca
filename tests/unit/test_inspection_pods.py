"""A look at all pods of a node: in batches, in order, each by itself, whatever became of the others."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from exporter.broker.protocol.messages import (
    InstalledLibc,
    KernelState,
    NamespaceRef,
    PodFiles,
    Process,
    ReadTopic,
    Welcome,
)
from exporter.broker.protocol.wire import MAX_PLACES
from exporter.broker.server.files.podfiles import unreadable
from exporter.model.dns import ResolvConf
from exporter.model.reason import Reason
from exporter.model.vantage import Netns, PodState, Vantage
from exporter.vantage.pod_files import Libraries, choose
from exporter.vantage.pods import AT_ONCE, InspectedPods, InspectionContext, inspect_pods
from exporter.vantage.reader_status import status_of_files
from tests.unit.kernel_recordings import Answers, Replay, recorded

HEALTHY, MESH = recorded("nftables", "pod"), recorded("iptables-nft", "pod")
OWN = ResolvConf()
FILES = PodFiles(resolv_errno=0, resolv_conf=b"nameserver 10.96.0.10\n", libc_errno=0, libcs=(InstalledLibc.MUSL,))
VANISHED, REFUSED = 1003, 1005


class Broker:
    """In place of a broker and its client. Pods differ by inode; `most`: requests that were under way at the same
    time.
    """

    def __init__(
        self,
        *,
        lsm: str = "",
        meshes: frozenset[int] = frozenset(),
        files: PodFiles = FILES,
        of_processes: dict[int, PodFiles] | None = None,
    ) -> None:
        self.welcome = Welcome(device=4, inode=1, capabilities=0, pid=1, lsm=lsm)
        self.asked: list[int] = []
        self.files_of: list[int] = []
        self.most = self._under_way = 0
        self._meshes = meshes
        self._files = files
        self._of_processes = of_processes or {}

    async def read_kernel(
        self, places: tuple[NamespaceRef, ...], topics: tuple[ReadTopic, ...]
    ) -> tuple[KernelState, ...]:
        assert len(places) <= MAX_PLACES
        self._under_way += 1
        self.most = max(self.most, self._under_way)
        await asyncio.sleep(0)
        self._under_way -= 1
        self.asked.append(len(places))
        return tuple([await self._state(place, topics) for place in places])

    async def _state(self, place: NamespaceRef, topics: tuple[ReadTopic, ...]) -> KernelState:
        refusals = {VANISHED: errno.ESTALE, REFUSED: errno.EACCES}
        if place.inode in refusals:
            return KernelState(refusals[place.inode], ())
        answers: Answers = MESH if place.inode in self._meshes else HEALTHY
        (state,) = await Replay(answers).read_kernel((place,), topics)
        return state

    async def read_pod_files(self, places: tuple[NamespaceRef, ...]) -> tuple[PodFiles, ...]:
        assert 0 < len(places) <= MAX_PLACES
        self.files_of += [place.inode for place in places]
        return tuple(self._of_processes.get(place.pid, self._files) for place in places)


def pod(number: int, **changes: Any) -> Vantage:
    inode = 1000 + number
    return replace(
        Vantage(
            kind="pod",
            namespace="default",
            name=f"web-{number}",
            netns=Netns(device=4, inode=inode, pid=inode, started=1),
            uid=f"u{number}",
        ),
        **changes,
    )


def look(
    broker: Any, *vantages: Vantage, processes: Mapping[tuple[int, int], tuple[Process, ...]] | None = None
) -> InspectedPods:
    return asyncio.run(
        inspect_pods(
            InspectionContext(
                broker=broker, own=OWN, clock=lambda: 0.0, processes=processes or {}, libraries=Libraries()
            ),
            vantages,
        )
    )


def test_every_pod_is_seen_in_order_in_few_requests_and_few_at_once() -> None:
    broker = Broker()
    seen = look(broker, *map(pod, range(10, 60)))
    assert [view.vantage.name for view in seen.views.values()] == [f"web-{i}" for i in range(10, 60)]
    assert all(
        view.facts is not None and view.libc == frozenset({"musl"}) and view.resolv_conf for view in seen.views.values()
    )
    assert len(seen.statuses) == 50
    assert broker.asked == [MAX_PLACES] * (50 // MAX_PLACES) + [50 % MAX_PLACES]
    assert broker.most == AT_ONCE


def test_what_becomes_of_one_pod_is_no_matter_of_the_others() -> None:
    broker = Broker(lsm="cri-containerd.apparmor.d (enforce)", meshes=frozenset({1006}))
    skipped = pod(2, state=PodState.STARTING)
    lost = pod(4, netns=None)
    seen = look(broker, pod(1), skipped, pod(3), lost, pod(5), pod(6), pod(7))
    states = {
        view.vantage.name: (view.vantage.state, view.facts is not None, view.unread) for view in seen.views.values()
    }
    assert states == {
        "web-1": (PodState.ELIGIBLE, True, None),
        "web-2": (PodState.STARTING, False, None),
        "web-4": (PodState.ELIGIBLE, False, None),  # its namespace was not found
        "web-5": (PodState.UNREADABLE, False, Reason.LSM),
        "web-6": (PodState.INTERCEPTED, True, None),
        "web-7": (PodState.ELIGIBLE, True, None),
    }, "the third vanished in the middle and is left out"
    assert [view.vantage.name for view in seen.views.values()] == sorted(states)
    assert [reading.success for reading in seen.statuses] == [True, False, True, True]
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
    (view,) = look(Broker(lsm=lsm, files=files), pod(1)).views.values()
    assert view.facts is not None
    assert (view.resolv_conf, view.resolv_conf_unread, view.libc) == (None, reason, None)


def test_a_named_namespace_has_no_root_to_look_into() -> None:
    broker = Broker()
    named = pod(1, namespace="netns", netns=Netns(device=4, inode=1001, path="/run/netns/absent-from-etc"))
    (view,) = look(broker, named).views.values()
    assert view.resolv_conf is OWN
    assert broker.files_of == []


def test_the_same_bytes_of_a_pod_give_the_same_facts_and_only_the_last_are_kept() -> None:
    def facts(broker: Broker) -> object:
        (view,) = look(broker, pod(1)).views.values()
        return view.facts

    first = facts(Broker())
    assert facts(Broker()) is first
    assert facts(Broker(meshes=frozenset({1001}))) != first
    again = facts(Broker())
    assert again == first
    assert again is not first


def files(text: str, *libcs: InstalledLibc, sandbox: bool = False) -> PodFiles:
    return PodFiles(resolv_errno=0, resolv_conf=text.encode(), libc_errno=0, libcs=libcs, sandbox=sandbox)


def test_every_process_of_a_pod_is_asked_in_batches_and_their_answers_stay_apart() -> None:
    pods = [pod(number) for number in range(10, 30)]
    processes = {(4, 1000 + n): tuple(Process(10 * n + i, 1, b"%d" % i) for i in range(3)) for n in range(10, 30)}
    of_processes = {
        p.pid: files(
            f"search pod{n}.test",
            *([InstalledLibc.GLIBC] if i == 1 else [InstalledLibc.MUSL] if n % 2 else []),
            sandbox=not i,
        )
        for n in range(10, 30)
        for i, p in enumerate(processes[4, 1000 + n])
    }
    broker = Broker(of_processes=of_processes)
    seen = look(broker, *pods, processes=processes)
    for number, view in zip(range(10, 30), seen.views.values(), strict=True):
        assert view.resolv_conf is not None
        assert view.resolv_conf.search == (f"pod{number}.test",)
        assert view.libc == frozenset({"glibc", "musl"} if number % 2 else {"glibc"})
    assert len(broker.files_of) == 60


@pytest.mark.parametrize(
    ("answers", "chosen"),
    [
        ([files("sandbox", sandbox=True), files("old"), files("young")], 1),
        ([files("sandbox", sandbox=True), unreadable(errno.EAGAIN)], 0),
        ([files("sandbox", sandbox=True), unreadable(errno.EACCES)], 0),
        ([unreadable(errno.ESTALE), unreadable(errno.EACCES)], 1),
        ([unreadable(errno.EAGAIN), unreadable(errno.ESTALE)], 0),
        ([files("sandbox", sandbox=True), files("old"), unreadable(errno.ETIMEDOUT)], 2),
    ],
    ids=["containers first", "young", "closed", "ended", "passing", "silent"],
)
def test_whose_resolv_conf_counts(answers: list[PodFiles], chosen: int) -> None:
    assert choose(answers) is answers[chosen]


def test_pods_that_do_not_answer_are_named_and_are_no_failure_of_the_reader() -> None:
    seen = look(Broker(files=unreadable(errno.ETIMEDOUT)), *map(pod, range(10, 17)))
    assert {view.resolv_conf_unread for view in seen.views.values()} == {Reason.READER_FAILED}
    assert {view.libc for view in seen.views.values()} == {None}
    (reading,) = status_of_files(tuple(seen.views.values()), 0.0, silent=seen.silent, unasked=seen.unasked)
    assert reading.success
    named = ", ".join(f"pod/default/web-{number}" for number in range(10, 15))
    assert reading.detail == f"no answer from the file systems of {named} and 2 more"


def test_pods_that_go_unread_for_others_are_a_failure_of_the_reader() -> None:
    processes = {(4, 1001): (Process(1, 1, b""),), (4, 1002): (Process(2, 1, b""),)}
    broker = Broker(of_processes={1: unreadable(errno.ETIMEDOUT), 2: unreadable(errno.EBUSY)})
    seen = look(broker, pod(1), pod(2), processes=processes)
    (reading,) = status_of_files(tuple(seen.views.values()), 0.0, silent=seen.silent, unasked=seen.unasked)
    assert (reading.success, reading.reason) == (False, Reason.READER_FAILED)
    assert reading.detail == "no answer from the file systems of pod/default/web-1; so those of 1 pods were not read"


def test_libraries_are_forgotten_with_their_pod() -> None:
    known = Libraries()
    assert known.note("one", {b"a": files("", InstalledLibc.MUSL)}, 0) == frozenset({"musl"})
    assert known.note("one", {}, 1) == frozenset({"musl"})
    known.keep({"two"})
    assert known.note("one", {}, 2) is None
