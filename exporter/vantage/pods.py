"""Looks at this node's pods: kernel facts and files of each, a few of them with every request to the broker.

Part of the inspection. With hundreds of pods the way of every single request would cost more than its answer.
"""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from exporter.broker.client.requests import BrokerClient
from exporter.broker.protocol.messages import NamespaceRef, PodFiles, Process
from exporter.broker.protocol.wire import MAX_PLACES
from exporter.kernel.read.readers import read_pods
from exporter.libc.resolv_conf import parse_resolv_conf
from exporter.model.dns import ResolvConf
from exporter.model.facts import PodFacts, ReaderStatus
from exporter.model.reason import Reason
from exporter.model.report import PodView
from exporter.model.vantage import PodState, Vantage
from exporter.probes.ports import place_of
from exporter.vantage.reader_status import is_confined, reason_of_file
from exporter.vantage.resolv_conf_files import read_named_resolv_conf
from exporter.vantage.roots import Libraries, choose

AT_ONCE = 2  # requests under way: one that the broker works on, one whose answers are being parsed


@dataclass(frozen=True, slots=True, kw_only=True)
class PodsSeen:
    """Every pod but those whose namespace vanished meanwhile, how each was read, and the seconds that their files took.

    `silent`: those whose file system does not answer. `unasked`: how many were not asked, for too many are silent.
    """

    views: tuple[PodView, ...]
    readings: tuple[ReaderStatus, ...] = ()
    file_seconds: float = 0.0
    silent: tuple[str, ...] = ()
    unasked: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class InspectionContext:
    """What every pod is looked at with. `own`: the host's resolv.conf. `processes`: those of each namespace whose roots are the pod's.

    `libraries` is what earlier looks gave, and is added to.
    """

    broker: BrokerClient
    own: ResolvConf | None
    clock: Callable[[], float]
    processes: Mapping[tuple[int, int], tuple[Process, ...]]
    libraries: Libraries


async def look_at_pods(looking: InspectionContext, vantages: Sequence[Vantage]) -> PodsSeen:
    """The pods of this node, in the order given: inspected where they may be."""
    slots = asyncio.Semaphore(AT_ONCE)
    entries = [(v, place) for v in vantages if (place := _place_to_look_at(v)) is not None]
    looks = await asyncio.gather(*(_look(looking, batch, slots) for batch in _batches(entries)))
    looked = iter([view for look in looks for view in look.views])
    views = [next(looked) if _place_to_look_at(v) is not None else PodView(vantage=v) for v in vantages]
    looking.libraries.keep({vantage.key for vantage in vantages})
    return PodsSeen(
        views=tuple(view for view in views if view is not None),
        readings=tuple(reading for look in looks for reading in look.readings),
        file_seconds=sum(look.file_seconds for look in looks),
        silent=tuple(subject for look in looks for subject in look.silent),
        unasked=sum(look.unasked for look in looks),
    )


def _place_to_look_at(vantage: Vantage) -> NamespaceRef | None:
    return place_of(vantage) if vantage.state is PodState.ELIGIBLE else None


_Entry = tuple[Vantage, NamespaceRef]
_T = TypeVar("_T")


def _batches(entries: Sequence[_T]) -> Iterator[tuple[_T, ...]]:
    for start in range(0, len(entries), MAX_PLACES):
        yield tuple(entries[start : start + MAX_PLACES])


@dataclass(frozen=True, slots=True, kw_only=True)
class _Look:
    """One batch: a view of each, in order, None where its namespace vanished; and as in PodsSeen."""

    views: list[PodView | None]
    readings: list[ReaderStatus]
    file_seconds: float
    silent: list[str]
    unasked: int


async def _look(looking: InspectionContext, batch: tuple[_Entry, ...], slots: asyncio.Semaphore) -> _Look:
    places, lsm = tuple(place for _, place in batch), looking.broker.welcome.lsm
    async with slots:
        taken = await read_pods(looking.broker, places, lsm=is_confined(lsm))
        asked = [p for p, (facts, _) in zip(places, taken, strict=True) if facts is not None and p.pid]
        began = looking.clock()
        files = await _read_files(looking, asked)
        seconds = max(0.0, looking.clock() - began)
    views: list[PodView | None] = []
    chosen: list[tuple[Vantage, PodFiles]] = []
    for (vantage, place), (facts, reading) in zip(batch, taken, strict=True):
        if reading.vanished:
            views.append(None)
        elif facts is None:
            views.append(PodView(vantage=replace(vantage, state=PodState.UNREADABLE), unread=reading.reason))
        elif not place.pid:
            views.append(_named(_view(vantage, facts), place, looking.own))
        else:
            chosen.append((vantage, choose(list(files[place].values()))))
            libc = looking.libraries.note(vantage.key, files[place], began)
            views.append(replace(_with_resolv_conf(_view(vantage, facts), chosen[-1][1], lsm), libc=libc))
    return _Look(
        views=views,
        readings=[r for _, r in taken if not r.vanished],
        file_seconds=seconds,
        silent=[vantage.subject for vantage, files in chosen if files.resolv_errno == errno.ETIMEDOUT],
        unasked=sum(files.resolv_errno == errno.EBUSY for _, files in chosen),
    )


async def _read_files(
    looking: InspectionContext, asked: Sequence[NamespaceRef]
) -> dict[NamespaceRef, dict[bytes, PodFiles]]:
    """The files that each pod's processes show, by the process's cgroup: those of the one that stands for it where no others are known."""
    each = [
        (place, p.cgroup, replace(place, pid=p.pid, started=p.started))
        for place in asked
        for p in _processes(looking, place)
    ]
    found: dict[NamespaceRef, dict[bytes, PodFiles]] = {place: {} for place in asked}
    for batch in _batches(each):
        read = await looking.broker.read_pod_files(tuple(process for _, _, process in batch))
        for (place, cgroup, _), files in zip(batch, read, strict=True):
            found[place][cgroup] = files
    return found


def _processes(looking: InspectionContext, place: NamespaceRef) -> tuple[Process, ...]:
    return looking.processes.get((place.device, place.inode)) or (Process(place.pid, place.started, b""),)


def _view(vantage: Vantage, facts: PodFacts) -> PodView:
    return PodView(vantage=replace(vantage, state=PodState.INTERCEPTED) if facts.intercepted else vantage, facts=facts)


def _named(view: PodView, place: NamespaceRef, own: ResolvConf | None) -> PodView:
    conf = read_named_resolv_conf(place.path.rsplit(os.sep, 1)[-1]) or own
    return replace(view, resolv_conf=conf, resolv_conf_unread=None if conf else Reason.READER_FAILED)


def _with_resolv_conf(view: PodView, files: PodFiles, lsm: str) -> PodView:
    if files.resolv_errno:
        return replace(view, resolv_conf_unread=reason_of_file(files.resolv_errno, lsm))
    return replace(view, resolv_conf=parse_resolv_conf(files.resolv_conf))
