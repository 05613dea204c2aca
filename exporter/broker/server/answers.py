"""What the broker answers to each request of the closed set. Every privileged act starts here; no client I/O here."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from functools import partial
from itertools import groupby

from exporter.broker.protocol import messages as m
from exporter.broker.server.files.reader import PodReader
from exporter.broker.server.kernel.netlink import HOME_BOUNDS, POD_BOUNDS
from exporter.broker.server.kernel.topics import read_topics
from exporter.broker.server.namespaces import NamespaceVisitor
from exporter.broker.server.privilege import effective_capabilities
from exporter.broker.server.processes import ProcessTable
from exporter.broker.server.syscalls import read_file
from exporter.broker.sockets import open_sockets

_MAX_LSM = 128


class Broker:
    """Answers requests one at a time. `directory` is the only one whose named namespaces it lists."""

    def __init__(self, directory: str = m.NAMED_DIRECTORY) -> None:
        self._directory = directory
        self._visitor = NamespaceVisitor()
        self._processes = ProcessTable(self._visitor.home)
        self._files = PodReader()

    def answer(self, request: m.Request) -> tuple[m.Reply, list[int]]:
        """The reply, and the descriptors that go with it, which the caller closes."""
        self._files.reap()
        match request:
            case m.Hello():
                device, inode = self._visitor.home
                return m.Welcome(
                    device=device, inode=inode, capabilities=effective_capabilities(), pid=os.getpid(), lsm=_read_lsm()
                ), []
            case m.ListNamespaces():
                return self._processes.list_namespaces(), []
            case m.ListNamed(directory):  # of others it would tell what exists there
                known = directory == self._directory
                return self._visitor.list_named(directory) if known else m.Named((), errno.EACCES), []
            case m.OpenSockets(wanted):
                return self._open_sockets(wanted)
            case m.ReadKernel(places, topics):
                return self._read_kernel(places, topics), []
            case m.ReadPodFiles(places):
                return m.FilesOfPods(tuple(map(self._files.read, places))), []

    def _open_sockets(self, wanted: Iterable[m.SocketWanted]) -> tuple[m.Sockets, list[int]]:
        made: list[int] = []
        for place, group in groupby(wanted, lambda each: each.place):
            there = list(group)
            try:
                made += self._visitor.visit(place, partial(open_sockets, there))
            except OSError as error:
                made += [-(error.errno or errno.EIO)] * len(there)
        return m.Sockets(tuple(max(0, -each) for each in made)), [each for each in made if each >= 0]

    def _read_kernel(self, places: tuple[m.NamespaceRef, ...], topics: tuple[m.ReadTopic, ...]) -> m.KernelStates:
        states: list[m.KernelState] = []
        left = HOME_BOUNDS.visit  # for all places together: a reply has its bound
        for place in places:
            state = self._visit(place, topics)
            size = sum([len(answer.data) for answer in state.answers])
            if size > left:
                state, size = m.KernelState(visit_errno=errno.EFBIG, answers=()), 0
            left -= size
            states.append(state)
        return m.KernelStates(tuple(states))

    def _visit(self, place: m.NamespaceRef, topics: tuple[m.ReadTopic, ...]) -> m.KernelState:
        bounds = HOME_BOUNDS if self._visitor.is_home(place) else POD_BOUNDS
        try:
            answers = self._visitor.visit(place, partial(read_topics, topics, bounds))
        except OSError as error:
            return m.KernelState(visit_errno=error.errno or errno.EIO, answers=())
        return m.KernelState(visit_errno=0, answers=answers)


def _read_lsm() -> str:
    """The label of AppArmor or SELinux for this process, "" without one: it may refuse what the capabilities allow."""
    try:
        label = read_file("/proc/self/attr/current")
    except OSError:  # no such module is active
        return ""
    return label[:_MAX_LSM].strip(b"\0\n ").decode("ascii", "replace")
