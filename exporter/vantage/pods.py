"""Inspects this node's pods: kernel facts and files, of many with one request, as requests cost more than answers."""

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
from exporter.vantage.pod_files import Libraries, choose, read_named_resolv_conf
from exporter.vantage.pod_namespaces import NamespaceKey
from exporter.vantage.reader_status import is_confined, reason_of_file

AT_ONCE = 2  # requests under way: one that the broker works on, one whose answers are being parsed
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True)
class InspectedPods:
    """What was read of the pods, and how each reading went."""

    views: Mapping[Vantage, PodView]  # without pods whose namespace vanished meanwhile
    statuses: tuple[ReaderStatus, ...] = ()
    file_seconds: float = 0.0
    silent: tuple[str, ...] = ()  # those whose file system does not answer
    unasked: int = 0  # how many were not asked because too many are silent


@dataclass(frozen=True, slots=True, kw_only=True)
class InspectionContext:
    """What every pod is inspected with."""

    broker: BrokerClient
    own: ResolvConf | None  # the host's
    clock: Callable[[], float]
    processes: Mapping[NamespaceKey, tuple[Process, ...]]  # of each namespace, those whose roots are the pod's
    libraries: Libraries  # what earlier inspections found; added to


async def inspect_pods(context: InspectionContext, vantages: Sequence[Vantage]) -> InspectedPods:
    """The pods of this node, in the order given: inspected where they may be."""
    slots = asyncio.Semaphore(AT_ONCE)
    places = {v: place for v in vantages if v.state is PodState.ELIGIBLE and (place := place_of(v)) is not None}
    parts = await asyncio.gather(*(_inspect(context, batch, slots) for batch in batches(list(places.items()))))
    inspected = {vantage: view for part in parts for vantage, view in part.views.items()}
    context.libraries.keep({vantage.key for vantage in vantages})
    return InspectedPods(
        views={v: inspected.get(v) or PodView(vantage=v) for v in vantages if v in inspected or v not in places},
        statuses=tuple(status for part in parts for status in part.statuses),
        file_seconds=sum(part.file_seconds for part in parts),
        silent=tuple(subject for part in parts for subject in part.silent),
        unasked=sum(part.unasked for part in parts),
    )


def batches(entries: Sequence[_T]) -> Iterator[tuple[_T, ...]]:
    for start in range(0, len(entries), MAX_PLACES):
        yield tuple(entries[start : start + MAX_PLACES])


async def _inspect(
    context: InspectionContext, batch: tuple[tuple[Vantage, NamespaceRef], ...], slots: asyncio.Semaphore
) -> InspectedPods:
    places, lsm = tuple(place for _, place in batch), context.broker.welcome.lsm
    async with slots:
        read = await read_pods(context.broker, places, lsm=is_confined(lsm))
        asked = [p for p, (facts, _) in zip(places, read, strict=True) if facts is not None and p.pid]
        began = context.clock()
        files = await _read_files(context, asked)
        seconds = max(0.0, context.clock() - began)
    views: dict[Vantage, PodView] = {}
    chosen: dict[Vantage, PodFiles] = {}
    for (vantage, place), (facts, status) in zip(batch, read, strict=True):
        if status.vanished:
            continue
        if facts is None:
            views[vantage] = PodView(vantage=replace(vantage, state=PodState.UNREADABLE), unread=status.reason)
        elif not place.pid:
            views[vantage] = _named(_view(vantage, facts), place, context.own)
        else:
            chosen[vantage] = choose(list(files[place].values()))
            libc = context.libraries.note(vantage.key, files[place], began)
            views[vantage] = replace(_with_resolv_conf(_view(vantage, facts), chosen[vantage], lsm), libc=libc)
    return InspectedPods(
        views=views,
        statuses=tuple(status for _, status in read if not status.vanished),
        file_seconds=seconds,
        silent=tuple(v.subject for v, files in chosen.items() if files.resolv_errno == errno.ETIMEDOUT),
        unasked=sum(files.resolv_errno == errno.EBUSY for files in chosen.values()),
    )


async def _read_files(
    context: InspectionContext, asked: Sequence[NamespaceRef]
) -> dict[NamespaceRef, dict[bytes, PodFiles]]:
    """The files of each pod, by the cgroup of the process that shows them: the place's own where no other is known."""
    each = [
        (place, p.cgroup, replace(place, pid=p.pid, started=p.started))
        for place in asked
        for p in context.processes.get((place.device, place.inode)) or (Process(place.pid, place.started, b""),)
    ]
    found: dict[NamespaceRef, dict[bytes, PodFiles]] = {place: {} for place in asked}
    for batch in batches(each):
        read = await context.broker.read_pod_files(tuple(process for _, _, process in batch))
        for (place, cgroup, _), files in zip(batch, read, strict=True):
            found[place][cgroup] = files
    return found


def _view(vantage: Vantage, facts: PodFacts) -> PodView:
    return PodView(vantage=replace(vantage, state=PodState.INTERCEPTED) if facts.intercepted else vantage, facts=facts)


def _named(view: PodView, place: NamespaceRef, own: ResolvConf | None) -> PodView:
    conf = read_named_resolv_conf(place.path.rsplit(os.sep, 1)[-1]) or own
    return replace(view, resolv_conf=conf, resolv_conf_unread=None if conf else Reason.READER_FAILED)


def _with_resolv_conf(view: PodView, files: PodFiles, lsm: str) -> PodView:
    if files.resolv_errno:
        return replace(view, resolv_conf_unread=reason_of_file(files.resolv_errno, lsm))
    return replace(view, resolv_conf=parse_resolv_conf(files.resolv_conf))
