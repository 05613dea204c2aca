"""Visits to network namespaces: the broker enters, runs one function, and comes home. The only place that calls setns.

No descriptor of a foreign namespace outlives its visit, since one would keep a deleted pod's namespace alive. Between
entering and leaving nothing is logged, imported or started: a thread or process begun there would stay there.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from typing import TypeVar

from exporter.broker.protocol.messages import HOME, Named, NamedNamespace, NamespaceRef
from exporter.broker.protocol.wire import MAX_NAMES
from exporter.broker.server.syscalls import CLONE_NEWNET, read_file, setns

NO_WAY_HOME = 71  # exit status (EX_OSERR of sysexits.h): home could not be entered again

_NS_GET_NSTYPE = 0xB703  # linux/nsfs.h
_MAX_ENTRIES = 10_000  # of one directory that are read
_T = TypeVar("_T")


class NamespaceVisitor:
    """Enters other namespaces from the broker's own (`home`: device and inode) and comes back."""

    def __init__(self) -> None:
        self._way_home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        info = os.fstat(self._way_home)
        self.home = (info.st_dev, info.st_ino)

    def is_home(self, place: NamespaceRef) -> bool:
        return place == HOME or (place.device, place.inode) == self.home

    def visit(self, place: NamespaceRef, act: Callable[[], _T]) -> _T:
        """What `act` returns when it runs at `place`. At home nothing is entered, so that needs no privilege.

        OSError when the place could not be entered: ESTALE when it is gone or is another one now, EPERM or EACCES when
        a capability is missing, EINVAL when the place is not well formed. Ends the process when home cannot be entered
        again.
        """
        if self.is_home(place):
            return act()
        descriptor = self._open(place)
        try:
            return self._act_inside(descriptor, act)
        finally:
            os.close(descriptor)

    def _act_inside(self, descriptor: int, act: Callable[[], _T]) -> _T:
        setns(descriptor)
        try:
            return act()
        finally:
            try:
                setns(self._way_home)
            except BaseException:  # noqa: BLE001 - whatever it is: nothing more may happen in a foreign namespace
                os._exit(NO_WAY_HOME)

    def _open(self, place: NamespaceRef) -> int:
        if bool(place.pid) == bool(place.path):
            raise OSError(errno.EINVAL, "a place has a pid or a path")
        descriptor = open_of_process(place, "ns/net", os.O_RDONLY) if place.pid else self._open_path(place.path)
        info = os.fstat(descriptor)
        if (info.st_dev, info.st_ino) != (place.device, place.inode):
            os.close(descriptor)
            raise OSError(errno.ESTALE, "another namespace is there now")
        return descriptor

    def _open_path(self, path: str) -> int:
        if not path.startswith("/"):
            raise OSError(errno.EINVAL, "not an absolute path")
        try:
            descriptor = self._open_named(path, None)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise OSError(errno.ESTALE, "no such name") from error
        if descriptor is None:  # `ip netns delete` unmounts first and removes the name then
            raise OSError(errno.ESTALE, "not the name of a network namespace")
        return descriptor

    def _open_named(self, name: str, directory: int | None) -> int | None:
        """The network namespace that this file is, else None. Nothing else is opened: it might block or act."""
        handle = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
        try:
            if os.fstat(handle).st_dev != self.home[0]:  # the kernel has one nsfs, and home is a file of it
                return None
            descriptor = os.open(f"/proc/thread-self/fd/{handle}", os.O_RDONLY | os.O_CLOEXEC)
        finally:
            os.close(handle)
        kind = -1
        try:
            kind = fcntl.ioctl(descriptor, _NS_GET_NSTYPE)
        finally:
            if kind != CLONE_NEWNET:
                os.close(descriptor)
        return descriptor if kind == CLONE_NEWNET else None

    def list_named(self, directory: str) -> Named:
        """The network namespaces named in `directory`, sorted, at most MAX_NAMES; unprintable names are left out."""
        if not directory.startswith("/"):
            return Named((), errno.EINVAL)
        try:
            handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            return Named((), error.errno or errno.EIO)
        found: list[NamedNamespace] = []
        try:
            with os.scandir(handle) as entries:
                for entry in islice(entries, _MAX_ENTRIES):
                    if len(found) < MAX_NAMES and entry.name.isprintable():
                        found.extend(self._describe_name(entry.name, handle))
        finally:
            os.close(handle)
        return Named(tuple(sorted(found, key=lambda named: named.name)))

    def _describe_name(self, name: str, directory: int) -> tuple[NamedNamespace, ...]:
        with suppress(OSError):  # gone meanwhile, or not ours to open: not mentioned
            descriptor = self._open_named(name, directory)
            if descriptor is not None:
                info = os.fstat(descriptor)
                os.close(descriptor)
                return (NamedNamespace(name, info.st_dev, info.st_ino),)
        return ()


def open_of_process(place: NamespaceRef, name: str, flags: int) -> int:
    """Open /proc/PID/`name` of the very process that `place` means."""
    with open_process(place) as process:
        return os.open(name, flags | os.O_CLOEXEC, dir_fd=process)


@contextmanager
def open_process(place: NamespaceRef) -> Iterator[int]:
    """/proc/PID of the very process that `place` means: ESTALE when it has ended, also when its pid was reused."""
    try:
        process = os.open(f"/proc/{place.pid}", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:  # from here on everything is of one process: the directory of an ended one stays empty
            if read_start("stat", process) != place.started:
                raise OSError(errno.ESTALE, "the pid was given to another process")
            yield process
        finally:
            os.close(process)
    except (FileNotFoundError, ProcessLookupError) as error:
        raise OSError(errno.ESTALE, "the process has ended") from error


def read_start(name: str, directory: int | None = None) -> int:
    """When a process began, in clock ticks since boot: field 22 of its /proc/PID/stat, the file `name`."""
    text = read_file(name, directory=directory)
    return int(text.rpartition(b")")[2].split()[19])  # the name in parentheses may contain anything
