"""When the broker reads a pod's files, how long it waits, and when it leaves a pod alone. The children are not real,
nor is the clock.
"""

from __future__ import annotations

import errno
from typing import Any, cast

import pytest

from exporter.broker.protocol.messages import HOME, NamespaceRef, PodFiles
from exporter.broker.server.files.child import ChildEndedError, FileChild
from exporter.broker.server.files.reader import (
    DEADLINE,
    FIRST_REST,
    LEAST_DEADLINE,
    LONGEST_REST,
    LOSS,
    MAX_RESTING,
    MAX_STUCK,
    REGAINED,
    PodReader,
)

FILES = PodFiles(resolv_errno=0, resolv_conf=b"nameserver 192.0.2.53", libc_errno=0, libcs=())
NO_PROCESS = 1 << 22  # above every pid: such a process has no cgroup


class World:
    """Pods, by inode, and what their file systems do; children that are made and killed."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.hanging: set[int] = set()
        self.deadly: set[int] = set()
        self.killable = True
        self.made: list[Child] = []
        self.asked: list[tuple[int, float]] = []
        self.reader = PodReader(lambda: self.now, cast("Any", self.make))

    def make(self) -> FileChild:
        self.made.append(Child(self))
        return cast("FileChild", self.made[-1])

    def read(self, inode: int) -> int:
        """The errno of both answers."""
        self.reader.reap()
        files = self.reader.read(NamespaceRef(device=4, inode=inode, pid=NO_PROCESS + inode, started=1))
        assert files.resolv_errno == files.libc_errno
        assert files.resolv_errno or files == FILES
        return files.resolv_errno

    def read_at(self, inode: int, seconds: float) -> int:
        self.now += seconds
        return self.read(inode)


class Child:
    def __init__(self, world: World) -> None:
        self._world = world
        self.killed = self.gone = False

    def ask(self, place: NamespaceRef, seconds: float) -> PodFiles:
        assert not self.killed
        self._world.asked.append((place.inode, seconds))
        if place.inode in self._world.deadly:
            raise ChildEndedError
        if place.inode in self._world.hanging:
            self._world.now += seconds
            raise TimeoutError
        return FILES

    def kill(self) -> bool:
        self.killed = True
        self.gone = self._world.killable
        return self.gone

    def has_gone(self) -> bool:
        assert self.killed
        return self.gone


@pytest.fixture
def world() -> World:
    return World()


def test_one_child_reads_all_pods_that_behave(world: World) -> None:
    assert [world.read(inode) for inode in range(1, 300)] == [0] * 299
    assert len(world.made) == 1


def test_nothing_is_asked_about_no_process(world: World) -> None:
    assert world.reader.read(HOME).resolv_errno == errno.EINVAL
    assert world.made == []


def test_a_pod_that_hangs_is_left_alone_for_longer_each_time_and_read_again_once_it_answers(world: World) -> None:
    world.hanging = {7}
    rest = FIRST_REST
    assert world.read(7) == errno.ETIMEDOUT
    for _ in range(6):
        asked = len(world.asked)
        assert world.read_at(7, rest - 0.1) == errno.ETIMEDOUT
        assert len(world.asked) == asked, "not tried"
        assert world.read_at(7, 0.2) == errno.ETIMEDOUT
        assert len(world.asked) == asked + 1, "tried"
        assert world.read(8) == 0
        rest = min(LONGEST_REST, 2 * rest)
    world.hanging = set()
    assert world.read_at(7, rest - 0.1) == errno.ETIMEDOUT
    assert world.read_at(7, 0.2) == 0
    world.hanging = {7}
    assert world.read(7) == errno.ETIMEDOUT
    world.hanging = set()
    assert world.read_at(7, FIRST_REST) == 0, "it begins anew after an answer"


def test_many_pods_that_hang_cost_little_each(world: World) -> None:
    world.hanging = set(range(1, 111))
    began = world.now
    assert {world.read(inode) for inode in range(1, 111)} == {errno.ETIMEDOUT}
    assert [seconds for _, seconds in world.asked[:3]] == [DEADLINE] * 3
    assert {seconds for _, seconds in world.asked[5:]} == {LEAST_DEADLINE}
    assert world.now - began < LOSS + 110 * LEAST_DEADLINE
    assert world.read(200) == 0
    world.now += (world.now - began) / REGAINED
    world.hanging = {300}
    world.read(300)
    assert world.asked[-1] == (300, DEADLINE), "lost time is regained"


def test_with_too_many_children_that_hang_nothing_is_tried_until_one_ends(world: World) -> None:
    world.hanging, world.killable = set(range(1, 100)), False
    assert [world.read(inode) for inode in range(1, MAX_STUCK + 3)] == [errno.ETIMEDOUT] * MAX_STUCK + [errno.EBUSY] * 2
    assert world.read(200) == errno.EBUSY
    assert len(world.made) == MAX_STUCK
    world.made[0].gone = True
    assert world.read(200) == 0
    assert len(world.made) == MAX_STUCK + 1


def test_a_pod_whose_child_still_hangs_is_not_tried_again_however_late(world: World) -> None:
    world.hanging, world.killable = {7}, False
    assert world.read(7) == errno.ETIMEDOUT
    world.hanging = set()
    assert world.read_at(7, 10 * LONGEST_REST) == errno.ETIMEDOUT
    world.made[0].gone = True
    assert world.read(7) == 0


def test_a_child_that_ends_is_replaced_and_tried_once_more(world: World) -> None:
    world.deadly = {7}
    assert world.read(7) == errno.EIO
    assert len(world.asked) == 2
    assert world.read(8) == 0
    assert len(world.made) == 3


def test_no_child_can_be_made(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> FileChild:
        raise OSError(errno.EAGAIN, "fork")

    monkeypatch.setattr(world.reader, "_make", refuse)
    assert world.read(7) == errno.EAGAIN
    monkeypatch.undo()
    assert world.read(7) == 0


def test_what_is_remembered_of_pods_is_bounded(world: World) -> None:
    world.hanging = set(range(1, 3 * MAX_RESTING))
    for inode in range(1, 2 * MAX_RESTING):
        world.read(inode)
    assert len(world.reader._resting) <= MAX_RESTING
    world.read_at(2 * MAX_RESTING, 3 * LONGEST_REST)
    assert len(world.reader._resting) == 1
